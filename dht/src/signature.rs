//! Signing by the cluster key, and checking.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rafka_model::ClusterId;
use rafka_model::cbor::CborError;
use rafka_model::limits::{DHT_RECORD_BYTES_MAX, DHT_VERIFIED_MAX};

use crate::key::{Key, KeyError};
use crate::record::{Body, Envelope, SignedRecord, decode_body, encode_body};

/// Keeps signatures of records apart from whatever else the cluster key signs.
const DOMAIN: &[u8] = b"rafka dht record 1\0";

/// The only cluster key so far; rotation will announce the next one in the quorum's record.
const KEY_GENERATION: u32 = 0;

/// Why bytes are not a record of this cluster.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// Not CBOR of the right shape and size.
    #[error(transparent)]
    Malformed(#[from] CborError),
    /// The same could be written in another way; a record has one form, so that equal records are equal bytes.
    #[error("record is not in canonical form")]
    NotCanonical,
    /// A form that this version does not know.
    #[error("record format {0} is not supported")]
    Format(u8),
    /// Of another cluster.
    #[error("record of another cluster")]
    Foreign,
    /// The key inside is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Stored or answered under a key other than its own.
    #[error("record is of another key")]
    OtherKey,
    /// Payload and key are of different kinds or things.
    #[error("record contradicts its key")]
    Contradiction,
    /// Signed by a cluster key that is not known.
    #[error("record signed by unknown cluster key {0}")]
    UnknownKey(u32),
    /// Not signed by the cluster key.
    #[error("record's signature is wrong")]
    Signature,
}

/// Why a body was not signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignError {
    /// It does not fit in a record.
    #[error(transparent)]
    Encode(#[from] CborError),
    /// It belongs to another cluster than the key.
    #[error("body of another cluster")]
    Foreign,
}

fn message(key_generation: u32, body: &[u8]) -> Vec<u8> {
    [DOMAIN, &key_generation.to_be_bytes(), body].concat()
}

/// Holds the private half of the cluster key. Wiped from memory when dropped.
pub struct Signer {
    key: SigningKey,
    cluster: ClusterId,
}

impl Signer {
    /// From the secret seed of the cluster key.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let cluster = ClusterId::of_public_key(key.verifying_key().as_bytes());
        Self { key, cluster }
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Hash of the public half.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster
    }

    /// Signs `body`. Bodies from [`crate::directory`] always fit.
    ///
    /// # Errors
    /// [`SignError`]: larger than [`DHT_RECORD_BYTES_MAX`], or of another cluster.
    pub fn sign(&self, body: Body) -> Result<SignedRecord, SignError> {
        if body.cluster != self.cluster {
            return Err(SignError::Foreign);
        }
        let encoded = encode_body(&body)?;
        let signature = self.key.sign(&message(KEY_GENERATION, &encoded)).to_bytes().to_vec();
        let envelope = Envelope { key_generation: KEY_GENERATION, body: encoded, signature };
        Ok(SignedRecord::new(body, Bytes::from(envelope.encode()?)))
    }

    /// Signs a message that is not a record (a certificate). The caller keeps its messages apart by a prefix.
    #[must_use]
    pub fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// Checks records of one cluster. Cheap to clone; clones share what they have checked.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    cluster: ClusterId,
    key: VerifyingKey,
    seen: Mutex<Seen>,
}

/// Hashes of envelopes whose signature was checked, oldest first out.
#[derive(Default)]
struct Seen {
    hashes: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Verifier {
    /// Checks with this public half.
    ///
    /// # Errors
    /// [`Invalid::Foreign`] if the cluster's id is not the key's hash, [`Invalid::Signature`] if the
    /// bytes are not a key.
    pub fn new(cluster: ClusterId, public_key: &[u8; 32]) -> Result<Self, Invalid> {
        if ClusterId::of_public_key(public_key) != cluster {
            return Err(Invalid::Foreign);
        }
        let key = VerifyingKey::from_bytes(public_key).map_err(|_| Invalid::Signature)?;
        if key.is_weak() {
            return Err(Invalid::Signature);
        }
        Ok(Self(Arc::new(Inner { cluster, key, seen: Mutex::default() })))
    }

    /// The cluster whose records it takes.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.0.cluster
    }

    /// Reads and checks a record. A record seen lately costs a hash instead of a signature check.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong with it.
    pub fn verify(&self, bytes: &[u8]) -> Result<SignedRecord, Invalid> {
        let limit = DHT_RECORD_BYTES_MAX;
        if bytes.len() > limit {
            return Err(CborError::TooLarge { bytes: bytes.len(), limit }.into());
        }
        let envelope = Envelope::decode(bytes)?;
        // The signature covers the body only.
        if envelope.encode()? != bytes {
            return Err(Invalid::NotCanonical);
        }
        let body = decode_body(&envelope.body, &self.0.cluster)?;
        if envelope.key_generation != KEY_GENERATION {
            return Err(Invalid::UnknownKey(envelope.key_generation));
        }
        let hash = *blake3::hash(bytes).as_bytes();
        if !self.seen().hashes.contains(&hash) {
            let signature = Signature::from_slice(&envelope.signature).map_err(|_| Invalid::Signature)?;
            let message = message(envelope.key_generation, &envelope.body);
            self.0.key.verify_strict(&message, &signature).map_err(|_| Invalid::Signature)?;
            self.seen().remember(hash);
        }
        Ok(SignedRecord::new(body, Bytes::copy_from_slice(bytes)))
    }

    /// As [`Self::verify`], for a record that was asked for by `key`.
    ///
    /// # Errors
    /// As [`Self::verify`], and [`Invalid::OtherKey`].
    pub fn verify_for(&self, key: &Key, bytes: &[u8]) -> Result<SignedRecord, Invalid> {
        let record = self.verify(bytes)?;
        if record.key() == key { Ok(record) } else { Err(Invalid::OtherKey) }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // A set of hashes is whole at every step, so a panic elsewhere does not spoil it.
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn remember(&mut self, hash: [u8; 32]) {
        if self.hashes.insert(hash) {
            self.order.push_back(hash);
        }
        while self.order.len() > DHT_VERIFIED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.hashes.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
