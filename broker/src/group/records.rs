//! The records of [`OFFSETS_TOPIC`](super::OFFSETS_TOPIC), as Kafka 4.3 writes them: one file for each kind.
//!
//! A key begins with its type, a value with its version; a value that is absent (a tombstone) takes the key back.

pub(super) mod consumer;
pub(super) mod group;
pub(super) mod offset;
#[cfg(test)]
mod tests;
pub(super) mod wire;

pub(super) use consumer::{ConsumerKey, ConsumerValue};
pub(super) use offset::OffsetKey;
use wire::Reader;

/// A record that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// It ends too soon.
    #[error("record ends too soon")]
    Truncated,
    /// A length or number that cannot be.
    #[error("record has an impossible length")]
    Length,
    /// Text that is not UTF-8.
    #[error("record has text that is not UTF-8")]
    Text,
    /// Null where there must be something.
    #[error("record lacks a field")]
    Null,
    /// The value is of a version that this program does not know.
    #[error("record has version {0}, which is not known")]
    Version(i16),
}

/// What a record is about.
#[derive(Debug)]
pub(super) enum Key<'a> {
    /// A committed offset.
    Offset(OffsetKey<'a>),
    /// A classic group.
    Group(&'a str),
    /// A group of KIP-848, and what of it.
    Consumer(&'a str, ConsumerKey<'a>),
    /// Of a kind that this program does not know: written by a later one, to be left alone.
    Unknown,
}

impl<'a> Key<'a> {
    /// # Errors
    /// [`RecordError`] if a key of a known kind cannot be read.
    pub(super) fn decode(key: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(key);
        Ok(match reader.i16()? {
            0 | offset::KEY => Self::Offset(OffsetKey::read(&mut reader)?),
            group::KEY => Self::Group(reader.string()?),
            kind => match ConsumerKey::read(kind, &mut reader)? {
                Some((group, key)) => Self::Consumer(group, key),
                None => Self::Unknown,
            },
        })
    }
}
