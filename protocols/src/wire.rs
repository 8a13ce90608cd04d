//! What the codecs of all protocols share: bounded decoding, and the messages that several of them carry.
//!
//! Wire types never leave this crate: every `decode_…` turns them into types of `model` and `broker`, and refuses
//! counts and lengths over the limits on the way.

mod shared;

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use rafka_broker::{ErrorCode, Failure};

use crate::Frame;
use crate::proto;

pub(crate) use shared::*;

/// What a request came to: the protocol's own answer, or why there is none.
pub type Answer<T> = Result<T, Failure>;

/// Why a well-framed message was not understood.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Not a protobuf message of the expected type.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// More items than allowed.
    #[error("{count} {what}, limit is {limit}")]
    TooMany {
        /// Which items.
        what: &'static str,
        /// How many there are, at least.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// A text or byte string over its limit.
    #[error("{what} of {bytes} bytes, limit is {limit}")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// What it may be.
        limit: usize,
    },
    /// A field that must be there is not, or is not of this version.
    #[error("no {0}, or not one that this version knows")]
    Missing(&'static str),
    /// A field has a value that its type does not allow.
    #[error("{what} is not valid: {found}")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// What was found.
        found: String,
    },
    /// The lengths in the header do not add up to the body.
    #[error("header describes {described} bytes of body, there are {found}")]
    Body {
        /// According to the header.
        described: u64,
        /// According to the frame.
        found: usize,
    },
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::new(ErrorCode::InvalidRequest, error.to_string())
    }
}

/// A reply of any protocol that says only why there is none.
#[must_use]
pub fn encode_failure(failure: &Failure) -> Frame {
    header_only(&proto::Refusal { failure: Some(failure_to_wire(failure)) })
}

/// True for what [`encode_failure`] made: other replies never begin with the last field.
pub(crate) fn is_failure(frame: &Frame) -> bool {
    const FIELD_15_MESSAGE: u8 = 15 << 3 | 2;
    frame.header().first() == Some(&FIELD_15_MESSAGE)
}

/// A frame without a body.
pub(crate) fn header_only(message: &impl Message) -> Frame {
    Frame::new(message.encode_to_vec().into(), Bytes::new())
}

/// Decodes `bytes` after checking that they hold at most `fields` fields, those inside the messages numbered
/// `nested` with them: a few bytes on the wire can be a hundred in memory.
pub(crate) fn decode<T: Message + Default>(
    bytes: &Bytes,
    what: &'static str,
    fields: usize,
    nested: &[u32],
) -> Result<T, DecodeError> {
    let tree: Vec<_> = nested.iter().map(|tag| Inside(*tag, &[])).collect();
    decode_tree(bytes, what, fields, &tree)
}

/// The message of this number, and messages inside of it, whose fields count too.
pub(crate) struct Inside(pub(crate) u32, pub(crate) &'static [Self]);

/// As [`decode`], where messages nest more deeply.
pub(crate) fn decode_tree<T: Message + Default>(
    bytes: &Bytes,
    what: &'static str,
    fields: usize,
    tree: &[Inside],
) -> Result<T, DecodeError> {
    let count = count_fields(bytes, tree, fields, 0)?;
    if count > fields {
        return Err(DecodeError::TooMany { what, count, limit: fields });
    }
    T::decode(bytes.clone()).map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// Counts fields, no further than one more than `limit`.
fn count_fields(mut bytes: &[u8], tree: &[Inside], limit: usize, mut count: usize) -> Result<usize, DecodeError> {
    let malformed = |error: prost::DecodeError| DecodeError::Malformed(error.to_string());
    while bytes.has_remaining() && count <= limit {
        let (tag, wire_type) = decode_key(&mut bytes).map_err(malformed)?;
        count += 1;
        let inside = tree.iter().find(|inside| inside.0 == tag && wire_type == WireType::LengthDelimited);
        if let Some(Inside(_, tree)) = inside {
            let length = decode_varint(&mut bytes).map_err(malformed)?;
            let inner = usize::try_from(length).ok().and_then(|length| bytes.get(..length));
            let inner = inner.ok_or_else(|| DecodeError::Malformed("message is cut off".to_owned()))?;
            count = count_fields(inner, tree, limit, count)?;
            bytes.advance(inner.len());
        } else {
            skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).map_err(malformed)?;
        }
    }
    Ok(count)
}

/// Refuses a body where there is to be none.
pub(crate) fn no_body(frame: &Frame) -> Result<(), DecodeError> {
    match frame.body_len() {
        0 => Ok(()),
        found => Err(DecodeError::Body { described: 0, found }),
    }
}

/// Cuts pieces off a body; the pieces share its memory.
pub(crate) struct Pieces {
    body: Bytes,
}

impl Pieces {
    /// Checks that pieces of these lengths make up the body of `frame`.
    pub(crate) fn new(frame: &Frame, lengths: impl IntoIterator<Item = u32>) -> Result<Self, DecodeError> {
        let described = lengths.into_iter().map(u64::from).fold(0, u64::saturating_add);
        let body = frame.body();
        if described != body.len() as u64 {
            return Err(DecodeError::Body { described, found: body.len() });
        }
        Ok(Self { body })
    }

    /// The next `length` bytes, which `new` has counted.
    pub(crate) fn next(&mut self, length: u32) -> Bytes {
        self.body.split_to(length as usize)
    }
}

/// Length of a piece; frames are far smaller than 4 GiB.
pub(crate) fn piece_bytes(piece: &Bytes) -> u32 {
    u32::try_from(piece.len()).unwrap_or(u32::MAX)
}

pub(crate) fn bounded<T>(what: &'static str, items: Vec<T>, limit: usize) -> Result<Vec<T>, DecodeError> {
    if items.len() > limit {
        return Err(DecodeError::TooMany { what, count: items.len(), limit });
    }
    Ok(items)
}

pub(crate) fn text(what: &'static str, text: String, limit: usize) -> Result<String, DecodeError> {
    if text.len() > limit {
        return Err(DecodeError::TooLong { what, bytes: text.len(), limit });
    }
    Ok(text)
}

pub(crate) fn optional_text(
    what: &'static str,
    value: Option<String>,
    limit: usize,
) -> Result<Option<String>, DecodeError> {
    value.map(|value| text(what, value, limit)).transpose()
}

pub(crate) fn blob(what: &'static str, bytes: Bytes, limit: usize) -> Result<Bytes, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { what, bytes: bytes.len(), limit });
    }
    Ok(bytes)
}

/// Exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    let found = || format!("{} bytes instead of {N}", bytes.len());
    bytes.try_into().map_err(|_| DecodeError::Invalid { what, found: found() })
}

pub(crate) fn fixed_bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Cuts `text` to `limit` bytes, between characters.
pub(crate) fn clipped(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_before_anything_is_built() {
        let partitions = vec![proto::ProducePartition::default(); 50];
        let bytes: Bytes = proto::ProduceRequest { acks: 1, timeout_ms: 1, partitions }.encode_to_vec().into();
        assert!(decode::<proto::ProduceRequest>(&bytes, "fields", 52, &[]).is_ok());
        let error = decode::<proto::ProduceRequest>(&bytes, "fields", 51, &[]).expect_err("one too many");
        assert_eq!(error, DecodeError::TooMany { what: "fields", count: 52, limit: 51 });
    }

    #[test]
    fn nested_fields_count_where_asked() {
        let fetch = proto::Fetch { partitions: vec![proto::FetchPartition::default(); 9], ..Default::default() };
        let bytes: Bytes =
            proto::FetchRequest { kind: Some(proto::fetch_request::Kind::Fetch(fetch)) }.encode_to_vec().into();
        assert!(decode::<proto::FetchRequest>(&bytes, "fields", 10, &[1]).is_ok());
        assert!(decode::<proto::FetchRequest>(&bytes, "fields", 9, &[1]).is_err());
        assert!(decode::<proto::FetchRequest>(&bytes, "fields", 9, &[]).is_ok());
    }

    #[test]
    fn texts_are_clipped_between_characters() {
        assert_eq!(clipped("aé", 2), "a");
        assert_eq!(clipped("aé", 3), "aé");
    }
}
