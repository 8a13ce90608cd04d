//! Reads a socket in large pieces.
//!
//! Noise (asynchronous-codec 0.7) asks for 8 KiB at a time, although its messages have up to 64: nine calls of the
//! operating system for each. Here a reader that has got all that it asked for is taken to have more to come, which is
//! then read at once. A connection that is idle, or says little, holds no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};

/// Bytes read at once.
const AHEAD_BYTES: usize = 64 * 1024;

/// A connection that is read ahead.
pub(super) struct ReadAhead<C> {
    io: C,
    /// Empty unless much comes.
    buffer: Vec<u8>,
    /// The part of it that was read and not given out.
    from: usize,
    to: usize,
    /// More is likely to be there.
    has_more: bool,
}

impl<C> ReadAhead<C> {
    pub(super) fn new(io: C) -> Self {
        Self { io, buffer: Vec::new(), from: 0, to: 0, has_more: false }
    }

    /// Gives out what was read before.
    fn give(&mut self, into: &mut [u8]) -> usize {
        let held = &self.buffer[self.from..self.to];
        let bytes = held.len().min(into.len());
        into[..bytes].copy_from_slice(&held[..bytes]);
        self.from += bytes;
        if self.from == self.to && !self.has_more {
            self.buffer = Vec::new();
            (self.from, self.to) = (0, 0);
        }
        bytes
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for ReadAhead<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.from < this.to {
            return Poll::Ready(Ok(this.give(into)));
        }
        if !this.has_more || into.len() >= AHEAD_BYTES {
            let bytes = ready!(Pin::new(&mut this.io).poll_read(cx, into))?;
            this.has_more = bytes > 0 && bytes == into.len();
            return Poll::Ready(Ok(bytes));
        }
        this.buffer.resize(AHEAD_BYTES, 0);
        let read = match Pin::new(&mut this.io).poll_read(cx, &mut this.buffer) {
            Poll::Ready(read) => read,
            Poll::Pending => {
                // It may be long before more comes.
                (this.buffer, this.has_more) = (Vec::new(), false);
                (this.from, this.to) = (0, 0);
                return Poll::Pending;
            }
        };
        (this.from, this.to) = (0, 0);
        this.to = read?;
        // As long as what comes does not fit where it is wanted, more of it is likely.
        this.has_more = this.to > into.len();
        Poll::Ready(Ok(this.give(into)))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for ReadAhead<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures::AsyncReadExt;

    use super::*;

    /// A socket that has these bytes, or nothing, when it is asked; counts the asking.
    struct Socket {
        has: VecDeque<Vec<u8>>,
        asked: Vec<usize>,
    }

    impl AsyncRead for Socket {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            self.asked.push(into.len());
            let Some(mut next) = self.has.pop_front() else { return Poll::Ready(Ok(0)) };
            if next.is_empty() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let bytes = next.len().min(into.len());
            into[..bytes].copy_from_slice(&next[..bytes]);
            let rest = next.split_off(bytes);
            if !rest.is_empty() {
                self.has.push_front(rest);
            }
            Poll::Ready(Ok(bytes))
        }
    }

    fn numbered(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|number| (number % 251) as u8).collect()
    }

    #[tokio::test]
    async fn bytes_come_in_order_and_much_of_them_in_few_calls() {
        let sent = numbered(AHEAD_BYTES + 50_000);
        let has = [sent[..100].to_vec(), Vec::new(), sent[100..].to_vec(), Vec::new()].into();
        let mut reader = ReadAhead::new(Socket { has, asked: Vec::new() });
        let (mut read, mut piece) = (Vec::new(), [0; 8192]);
        loop {
            let bytes = reader.read(&mut piece).await.expect("readable");
            if bytes == 0 {
                break;
            }
            read.extend_from_slice(&piece[..bytes]);
        }
        assert_eq!(read, sent);
        let few = [8192, 8192, 8192, AHEAD_BYTES, AHEAD_BYTES];
        assert_eq!(reader.io.asked[..few.len()], few, "ahead once a piece was full");
        assert!(reader.io.asked.len() <= few.len() + 3, "{:?}", reader.io.asked);
        assert_eq!(reader.buffer.capacity(), 0, "nothing is held when nothing comes");
    }

    #[tokio::test]
    async fn an_error_behind_bytes_comes_after_them() {
        struct Breaks(usize);
        impl AsyncRead for Breaks {
            fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
                self.0 += 1;
                match self.0 {
                    1 | 2 => Poll::Ready(Ok(into.len().min(20))),
                    _ => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                }
            }
        }
        let mut reader = ReadAhead::new(Breaks(0));
        let mut piece = [0; 10];
        for _ in 0..3 {
            assert_eq!(reader.read(&mut piece).await.expect("bytes"), 10);
        }
        assert!(reader.read(&mut piece).await.is_err());
    }
}
