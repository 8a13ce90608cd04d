//! Reading a frame, step by step.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt};
use rafka_model::limits::{FRAME_READ_STEP_BYTES, FRAME_STEP_MS_MAX};
use tokio::time::{Instant, timeout_at};

use super::{Caps, Frame, FrameError};

/// Reads one frame and the end of the stream behind it.
///
/// Any wait for the first byte is fine (the peer may be thinking); from there on each step has its deadline. Not
/// cancel safe: after an error, or when dropped, the stream is of no further use.
///
/// # Errors
/// An I/O error of the stream, or one that holds a [`FrameError`] (see [`FrameError::of`]).
pub async fn read_frame<T: AsyncRead + Unpin>(io: &mut T, caps: Caps) -> io::Result<Frame> {
    let mut reader = FrameReader::new(io, caps).await?;
    let bytes = reader.header_bytes();
    let header = reader.read(bytes).await?;
    let bytes = reader.body_bytes().await?;
    let body = reader.read(bytes).await?;
    reader.end().await?;
    Ok(Frame::new(header, body))
}

/// A frame on its way in, for readers that look at the lengths before they take the bytes.
///
/// The order of calls is that of the wire: `header_bytes`, take or skip as many, `body_bytes`, take or skip, `end`.
#[derive(Debug)]
pub struct FrameReader<'a, T> {
    io: &'a mut T,
    caps: Caps,
    header_bytes: usize,
    step: Duration,
    deadline: Instant,
    /// Bytes still to come before the deadline moves.
    step_left: usize,
}

impl<'a, T: AsyncRead + Unpin> FrameReader<'a, T> {
    /// Waits for the first byte, as long as it takes, and reads the length of the header.
    ///
    /// # Errors
    /// As [`read_frame`].
    pub async fn new(io: &'a mut T, caps: Caps) -> io::Result<Self> {
        Self::with_step(io, caps, Duration::from_millis(FRAME_STEP_MS_MAX)).await
    }

    pub(crate) async fn with_step(io: &'a mut T, caps: Caps, step: Duration) -> io::Result<Self> {
        let mut length = [0; 4];
        let got = io.read(&mut length).await?;
        if got == 0 {
            return Err(FrameError::Absent.into());
        }
        let deadline = Instant::now() + step;
        let mut reader = Self { io, caps, header_bytes: 0, step, deadline, step_left: FRAME_READ_STEP_BYTES };
        reader.fill(&mut length[got..]).await?;
        reader.header_bytes = u32::from_be_bytes(length) as usize;
        caps.check_header(reader.header_bytes)?;
        Ok(reader)
    }

    /// Bytes of the header, within its cap.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// Reads the length of the body, which is within its cap.
    ///
    /// # Errors
    /// As [`read_frame`].
    pub async fn body_bytes(&mut self) -> io::Result<usize> {
        let mut length = [0; 4];
        self.fill(&mut length).await?;
        let bytes = u32::from_be_bytes(length) as usize;
        self.caps.check_body(bytes)?;
        Ok(bytes)
    }

    /// Takes the next `bytes`. Memory grows with what has really come: at most twice that, and a step.
    ///
    /// # Errors
    /// As [`read_frame`].
    pub async fn read(&mut self, bytes: usize) -> io::Result<Bytes> {
        let mut taken = Vec::new();
        while taken.len() < bytes {
            let from = taken.len();
            let step = FRAME_READ_STEP_BYTES.max(from).min(bytes - from);
            taken.reserve_exact(step);
            taken.resize(from + step, 0);
            self.fill(&mut taken[from..]).await?;
        }
        Ok(taken.into())
    }

    /// Lets the next `bytes` pass by without keeping them.
    ///
    /// # Errors
    /// As [`read_frame`].
    pub async fn skip(&mut self, mut bytes: usize) -> io::Result<()> {
        let mut scratch = vec![0; bytes.min(FRAME_READ_STEP_BYTES / 16)];
        while bytes > 0 {
            let step = bytes.min(scratch.len());
            self.fill(&mut scratch[..step]).await?;
            bytes -= step;
        }
        Ok(())
    }

    /// Reads the end of the stream.
    ///
    /// # Errors
    /// [`FrameError::Trailing`] if there is more, else as [`read_frame`].
    pub async fn end(mut self) -> io::Result<()> {
        match self.some(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(FrameError::Trailing.into()),
        }
    }

    /// Begins the next step now; for a caller that kept the peer waiting between two calls.
    pub fn resume(&mut self) {
        self.deadline = Instant::now() + self.step;
        self.step_left = FRAME_READ_STEP_BYTES;
    }

    async fn fill(&mut self, mut room: &mut [u8]) -> io::Result<()> {
        while !room.is_empty() {
            match self.some(room).await? {
                0 => return Err(FrameError::CutOff.into()),
                got => room = &mut room[got..],
            }
        }
        Ok(())
    }

    async fn some(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let got = timeout_at(self.deadline, self.io.read(room)).await.map_err(|_| FrameError::TooSlow)??;
        self.step_left = self.step_left.saturating_sub(got);
        if self.step_left == 0 {
            self.resume();
        }
        Ok(got)
    }
}
