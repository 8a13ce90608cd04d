//! Requests and responses, a module for each API.
//!
//! Fields have Kafka's names, types and defaults, with one difference: what can be null is null ([`None`]) by default,
//! where Kafka's own code sometimes begins with an empty string or array. A field that a version does not have decodes
//! to its default; given another value it is dropped on encoding if it is ignorable, and refused if it is not.

use crate::ApiKey;
use crate::wire::{DecodeError, EncodeError, Malformed, Reader, Unfit, Writer};

/// A struct of the protocol.
pub trait Message: Sized {
    /// Bytes that it takes at least; not 0 for what can be an element of an array.
    fn bytes_min(version: i16) -> usize;

    /// Reads it; `version` is one of its API's.
    ///
    /// # Errors
    /// The first field that is malformed.
    fn decode(version: i16, from: &mut Reader) -> Result<Self, DecodeError>;

    /// Writes it; `version` is one of its API's.
    ///
    /// # Errors
    /// The first field whose value this version cannot carry. What was written until then is of no use.
    fn encode(&self, version: i16, into: &mut Writer) -> Result<(), EncodeError>;

    /// Tells each error code in it, 0 too.
    fn error_codes(&self, tell: &mut dyn FnMut(i16)) {
        let _ = tell;
    }
}

/// A request, which has a response.
pub trait Call: Message {
    /// Its API.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Message;
}

/// Reads a whole request or response: all bytes that are left.
///
/// # Errors
/// [`Malformed::Version`] for a version that is not decoded; else the first field that is malformed.
pub fn decode_all<M: Message>(key: ApiKey, version: i16, from: &mut Reader) -> Result<M, DecodeError> {
    if !key.versions().contains(&version) {
        return Err(DecodeError { field: key.name(), reason: Malformed::Version(version) });
    }
    let message = M::decode(version, from)?;
    from.finish(key.name())?;
    Ok(message)
}

/// Writes a whole request or response.
///
/// # Errors
/// [`Unfit::Version`] for a version that is not encoded; else the first field that does not fit.
pub fn encode_all<M: Message>(key: ApiKey, version: i16, message: &M, into: &mut Writer) -> Result<(), EncodeError> {
    if !key.versions().contains(&version) {
        return Err(EncodeError { field: key.name(), reason: Unfit::Version(version) });
    }
    message.encode(version, into)
}

/// What the generated modules use.
mod prelude {
    pub(super) use bytes::Bytes;
    pub(super) use rafka_model::Chunks;

    pub(super) use super::{Call, Message};
    pub(super) use crate::ApiKey;
    pub(super) use crate::wire::{DecodeError, EncodeError, Reader, Str, Uuid, Writer, given};
}

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
