//! What is to be written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Chunks that one write takes.
const SLICES_MAX: usize = 64;

/// Chunks of replies, in order.
#[derive(Debug, Default)]
pub(super) struct Output {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes that are not written yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a frame; returns its bytes.
    pub(super) fn push(&mut self, frame: Vec<Bytes>) -> usize {
        let before = self.bytes;
        for chunk in frame.into_iter().filter(|chunk| !chunk.is_empty()) {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
        self.bytes - before
    }

    /// Writes as much as the stream takes at once; returns the bytes.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.chunks.len().min(SLICES_MAX);
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
        }
        let written = ready!(Pin::new(stream).poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.bytes -= written;
        let mut left = written;
        while left > 0
            && let Some(first) = self.chunks.front_mut()
        {
            if first.len() > left {
                first.advance(left);
                break;
            }
            left -= first.len();
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            // An idle connection holds nothing.
            self.chunks = VecDeque::new();
        }
        Poll::Ready(Ok(written))
    }
}
