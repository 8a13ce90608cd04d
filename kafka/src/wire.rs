//! Kafka's primitive types, read within bounds and written without copying records.

mod error;
mod reader;
mod text;
mod writer;

use std::fmt;

pub use error::{DecodeError, EncodeError, Malformed, Unfit};
pub use reader::{Reader, Tag};
pub use text::Str;
pub use writer::{TagStart, Writer};

pub(crate) use writer::given;

/// An id of 16 bytes: of a topic or a log directory.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Stands for "none".
    pub const ZERO: Self = Self([0; 16]);
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}
