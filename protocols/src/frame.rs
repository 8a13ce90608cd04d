//! Frames on a substream: `u32 BE header length | header | u32 BE body length | body`, one frame each way.
//!
//! A frame is read in steps, so that a length which is only claimed allocates nothing, and each step has a deadline,
//! so that a peer which sends a byte now and then cannot hold a stream. Bytes behind a frame are refused.

mod read;
mod write;

use std::io;

use bytes::Bytes;

pub use read::{FrameReader, read_frame};
pub use write::write_frame;

/// One message: a protobuf header, still encoded, and raw bytes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    header: Bytes,
    body: Vec<Bytes>,
}

/// What a frame may weigh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caps {
    /// Bytes of the header.
    pub header: usize,
    /// Bytes of the body.
    pub body: usize,
}

/// Why bytes on a substream are not a frame.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The header weighs, or claims, more than its protocol allows.
    #[error("frame header of {bytes} bytes, limit is {limit} bytes")]
    HeaderTooLarge {
        /// Bytes claimed.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The body weighs, or claims, more than its protocol allows.
    #[error("frame body of {bytes} bytes, limit is {limit} bytes")]
    BodyTooLarge {
        /// Bytes claimed.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The substream ended before its first byte.
    #[error("no frame came")]
    Absent,
    /// The substream ended inside the frame.
    #[error("frame is cut off")]
    CutOff,
    /// Something follows the frame.
    #[error("bytes follow the frame")]
    Trailing,
    /// A step took longer than [`FRAME_STEP_MS_MAX`](rafka_model::limits::FRAME_STEP_MS_MAX).
    #[error("frame comes too slowly")]
    TooSlow,
}

impl Frame {
    /// A frame whose body is one piece.
    #[must_use]
    pub fn new(header: Bytes, body: Bytes) -> Self {
        Self::with_pieces(header, vec![body])
    }

    /// A frame whose body is `pieces`, end to end; they are written one by one, never joined.
    #[must_use]
    pub fn with_pieces(header: Bytes, mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        Self { header, body: pieces }
    }

    /// The encoded header.
    #[must_use]
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// Bytes of the body.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// The body; copies only if it was built from several pieces.
    #[must_use]
    pub fn body(&self) -> Bytes {
        match self.body.as_slice() {
            [] => Bytes::new(),
            [piece] => piece.clone(),
            pieces => pieces.concat().into(),
        }
    }

    /// The body, piece by piece; none is empty.
    pub(crate) fn pieces(&self) -> &[Bytes] {
        &self.body
    }

    /// Checks the frame against what its reader will accept.
    ///
    /// # Errors
    /// [`FrameError::HeaderTooLarge`] and [`FrameError::BodyTooLarge`].
    pub fn check(&self, caps: Caps) -> Result<(), FrameError> {
        caps.check_header(self.header.len())?;
        caps.check_body(self.body_len())
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header && self.body() == other.body()
    }
}

impl Eq for Frame {}

impl Caps {
    pub(crate) fn check_header(self, bytes: usize) -> Result<(), FrameError> {
        if bytes > self.header {
            return Err(FrameError::HeaderTooLarge { bytes, limit: self.header });
        }
        Ok(())
    }

    pub(crate) fn check_body(self, bytes: usize) -> Result<(), FrameError> {
        if bytes > self.body {
            return Err(FrameError::BodyTooLarge { bytes, limit: self.body });
        }
        Ok(())
    }
}

impl FrameError {
    /// The frame error inside `error`, if that is what it is.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        let kind = match error {
            FrameError::Absent | FrameError::CutOff => io::ErrorKind::UnexpectedEof,
            FrameError::TooSlow => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests;
