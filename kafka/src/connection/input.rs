//! What was read, and where frames end in it.

use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rafka_model::limits::{KAFKA_FRAME_FREE_BYTES, KAFKA_READ_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::End;
use crate::budget::{Budget, Room};

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// A whole frame, without its length.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// What a large one holds of the memory that all connections share.
    _room: Option<Room>,
}

/// Bytes from the beginning of a frame on. Memory is taken as bytes come, not as lengths are claimed; a frame of more
/// than [`KAFKA_FRAME_FREE_BYTES`] goes on only when there is room for it among those of all connections.
pub(super) struct Input {
    buffer: BytesMut,
    /// Length of the frame at the front, once it is known; its own four bytes are gone from the buffer.
    length: Option<usize>,
    room: Option<Room>,
    waiting: Option<Pin<Box<dyn Future<Output = Option<Room>> + Send>>>,
    length_max: usize,
    /// Nothing more comes.
    end: Option<End>,
}

impl Input {
    pub(super) fn new(length_max: usize) -> Self {
        Self { buffer: BytesMut::new(), length: None, room: None, waiting: None, length_max, end: None }
    }

    /// Is the frame at the front complete?
    pub(super) fn has_frame(&self) -> bool {
        self.length.is_some_and(|length| self.buffer.len() >= length)
    }

    /// Has a frame begun that is not complete, and is it the client that lets us wait?
    pub(super) fn is_mid_frame(&self) -> bool {
        !self.has_frame() && self.waiting.is_none() && (self.length.is_some() || !self.buffer.is_empty())
    }

    /// Nothing more comes; the first reason stays.
    pub(super) fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    pub(super) fn take_end(&mut self) -> Option<End> {
        self.end.take()
    }

    /// The frame at the front.
    pub(super) fn take_frame(&mut self) -> Option<Frame> {
        let length = self.length.filter(|length| self.buffer.len() >= *length)?;
        self.length = None;
        // A frame that is alone in its memory can be stamped there by the log.
        let bytes = match self.buffer.len() == length {
            true => std::mem::take(&mut self.buffer),
            false => self.buffer.split_to(length),
        };
        let frame = Frame { bytes: bytes.freeze(), _room: self.room.take() };
        if let Err(end) = self.look() {
            self.end(end);
        }
        Some(frame)
    }

    /// Reads once, as much as is useful; the bytes that came, 0 at the end of the stream. Pending while a whole frame is
    /// there.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        budget: &Budget,
    ) -> Poll<Result<usize, End>> {
        if self.end.is_some() || self.has_frame() {
            return Poll::Pending;
        }
        let bytes = match (self.length, self.buffer.is_empty()) {
            (None, true) => ready!(self.poll_first(cx, stream))?,
            (None, false) => {
                self.buffer.reserve(KAFKA_READ_BYTES);
                ready!(pin!(stream.read_buf(&mut self.buffer)).poll(cx))?
            }
            (Some(length), _) => ready!(self.poll_rest(cx, stream, budget, length))?,
        };
        self.look()?;
        Poll::Ready(Ok(bytes))
    }

    /// Reads where nothing is there yet: no memory is taken before something comes.
    fn poll_first<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<std::io::Result<usize>> {
        let mut stack = [MaybeUninit::uninit(); KAFKA_READ_BYTES];
        let mut read = ReadBuf::uninit(&mut stack);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        let read = read.filled();
        // All of the frame, if it is not much more than this.
        let length = read.first_chunk::<LENGTH_BYTES>().map_or(0, |length| i32::from_be_bytes(*length));
        let expected = usize::try_from(length).unwrap_or(0).min(self.length_max).min(KAFKA_FRAME_FREE_BYTES);
        self.buffer.reserve(read.len().max(expected + LENGTH_BYTES));
        self.buffer.extend_from_slice(read);
        Poll::Ready(Ok(read.len()))
    }

    /// Reads the rest of a frame, and nothing behind it if it is a large one.
    fn poll_rest<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        budget: &Budget,
        length: usize,
    ) -> Poll<std::io::Result<usize>> {
        let mut missing = length - self.buffer.len();
        if length > KAFKA_FRAME_FREE_BYTES && self.room.is_none() {
            match KAFKA_FRAME_FREE_BYTES.checked_sub(self.buffer.len()).filter(|free| *free > 0) {
                Some(free) => missing = missing.min(free),
                None => {
                    ready!(self.poll_room(cx, budget, length));
                    // Who got this far may have the rest in one piece.
                    self.buffer.reserve(missing);
                }
            }
        }
        if length <= KAFKA_READ_BYTES {
            // What follows a small frame comes with it.
            self.buffer.reserve(missing.max(KAFKA_READ_BYTES));
            return pin!(stream.read_buf(&mut self.buffer)).poll(cx);
        }
        self.buffer.reserve(missing);
        pin!(stream.read_buf(&mut (&mut self.buffer).limit(missing))).poll(cx)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, budget: &Budget, length: usize) -> Poll<()> {
        if self.waiting.is_none() {
            self.room = budget.try_room(length);
            if self.room.is_some() {
                return Poll::Ready(());
            }
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(budget.room(length)));
        self.room = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(())
    }

    /// Looks at the length of the frame at the front.
    fn look(&mut self) -> Result<(), End> {
        if self.length.is_some() || self.buffer.len() < LENGTH_BYTES {
            return Ok(());
        }
        let length = self.buffer.get_i32();
        let limit = self.length_max;
        match usize::try_from(length).ok().filter(|length| *length <= limit) {
            Some(length) => self.length = Some(length),
            None => return Err(End::Frame { length, limit }),
        }
        Ok(())
    }
}
