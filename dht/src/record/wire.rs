//! CBOR of records: an envelope around the bytes that are signed.

use rafka_model::ClusterId;
use rafka_model::cbor::{self, CborError};
use rafka_model::limits::DHT_RECORD_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::{Body, Payload, Version};
use crate::{Invalid, Key};

/// Form of the body. A reader refuses other forms; new fields do not need a new one.
const FORMAT: u8 = 1;

/// What travels and is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// Which cluster key signed.
    #[serde(rename = "k")]
    pub(crate) key_generation: u32,
    /// CBOR of the body; these very bytes are signed.
    #[serde(rename = "b", with = "serde_bytes")]
    pub(crate) body: Vec<u8>,
    /// Ed25519, 64 bytes.
    #[serde(rename = "s", with = "serde_bytes")]
    pub(crate) signature: Vec<u8>,
}

impl Envelope {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CborError> {
        cbor::encode(self, DHT_RECORD_BYTES_MAX)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::decode(bytes, DHT_RECORD_BYTES_MAX)
    }
}

#[derive(Serialize, Deserialize)]
struct WireBody {
    fmt: u8,
    cluster: ClusterId,
    key: String,
    version: Version,
    #[serde(default)]
    payload: Option<Payload>,
}

pub(crate) fn encode_body(body: &Body) -> Result<Vec<u8>, CborError> {
    let wire = WireBody {
        fmt: FORMAT,
        cluster: body.cluster,
        key: body.key.text(&body.cluster),
        version: body.version,
        payload: body.payload.clone(),
    };
    cbor::encode(&wire, DHT_RECORD_BYTES_MAX)
}

/// Reads a body and checks that it is of `cluster` and agrees with itself.
pub(crate) fn decode_body(bytes: &[u8], cluster: &ClusterId) -> Result<Body, Invalid> {
    let wire: WireBody = cbor::decode(bytes, DHT_RECORD_BYTES_MAX)?;
    if wire.fmt != FORMAT {
        return Err(Invalid::Format(wire.fmt));
    }
    if wire.cluster != *cluster {
        return Err(Invalid::Foreign);
    }
    let key = Key::parse(wire.key.as_bytes(), cluster)?;
    if wire.payload.as_ref().is_some_and(|payload| !payload.belongs_to(&key)) {
        return Err(Invalid::Contradiction);
    }
    Ok(Body { cluster: wire.cluster, key, version: wire.version, payload: wire.payload })
}
