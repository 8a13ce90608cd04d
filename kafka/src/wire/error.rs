//! Why bytes are no message, and why a message cannot be bytes.

/// Why bytes could not be decoded.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct DecodeError {
    /// Where: `Struct.field`, or the API.
    pub field: &'static str,
    /// What is wrong there.
    pub reason: Malformed,
}

/// What is wrong with a field that was received.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The frame ends within the field.
    #[error("{needed} bytes needed, {left} left")]
    Short {
        /// Bytes that the field takes, or is said to take, at least.
        needed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// A length below -1.
    #[error("length {0}")]
    Length(i32),
    /// Text longer than 32767 bytes.
    #[error("text of {0} bytes")]
    Text(usize),
    /// Null, where this version has none.
    #[error("null where a value is due")]
    Null,
    /// A varint of more than 32 bits.
    #[error("a varint of more than 32 bits")]
    Varint,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// Arrays that take more memory than a frame of this size may.
    #[error("arrays of more than {0} bytes of memory")]
    Memory(usize),
    /// A tagged field that is longer or shorter than it says.
    #[error("a tagged field of {said} bytes takes {taken}")]
    TagSize {
        /// What the field says.
        said: usize,
        /// Bytes up to its end.
        taken: usize,
    },
    /// Bytes behind the last field.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// A version that is not decoded.
    #[error("version {0} is not known")]
    Version(i16),
}

/// Why a message could not be encoded. The value is at fault, or the version is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct EncodeError {
    /// Where: `Struct.field`, or the API.
    pub field: &'static str,
    /// Why its value does not fit.
    pub reason: Unfit,
}

/// Why a value does not fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// This version has no such field, and it is not one that may be dropped.
    #[error("version {0} has no such field")]
    Absent(i16),
    /// Null, where this version has none.
    #[error("null where a value is due")]
    Null,
    /// Longer than its length can say.
    #[error("{0} bytes or elements are too many")]
    Long(usize),
    /// A version that is not encoded.
    #[error("version {0} is not known")]
    Version(i16),
}

impl EncodeError {
    #[cold]
    pub(crate) fn absent(field: &'static str, version: i16) -> Self {
        Self { field, reason: Unfit::Absent(version) }
    }
}
