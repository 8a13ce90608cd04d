//! Messages of a lane become writes: small ones together, large bodies from where they lie.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Message;
use crate::transport::MUXER_FRAME_BYTES;

/// Pieces from this on are written by themselves once there is a muxer frame of them.
const OWN_BYTES: usize = MUXER_FRAME_BYTES / 2;

/// What is on its way out of one lane. Each chunk costs a frame of the muxer, so small ones are filled up.
#[derive(Debug, Default)]
pub struct Writer {
    chunks: VecDeque<Chunk>,
    /// Chunks that were emptied, to be filled again.
    spare: Option<Vec<u8>>,
    /// Of the first chunk, what has been written.
    written: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Chunk {
    Staged(Vec<u8>),
    Own(Bytes),
}

impl Writer {
    /// Adds a message.
    pub fn push(&mut self, message: &Message) {
        self.stage(&message.head());
        if let Some(frame) = message.frame() {
            self.add(frame.header());
            frame.pieces().iter().for_each(|piece| self.add(piece));
        }
    }

    /// Bytes that were not written yet.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if everything was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The next bytes to write.
    #[must_use]
    pub fn next(&self) -> &[u8] {
        match self.chunks.front() {
            Some(Chunk::Staged(bytes)) => &bytes[self.written..],
            Some(Chunk::Own(bytes)) => &bytes[self.written..],
            None => &[],
        }
    }

    /// `bytes` of [`Writer::next`] were written.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        self.bytes -= bytes;
        if self.next().is_empty() {
            self.written = 0;
            if let Some(Chunk::Staged(mut bytes)) = self.chunks.pop_front() {
                bytes.clear();
                self.spare = Some(bytes);
            }
        }
    }

    fn add(&mut self, piece: &Bytes) {
        // What fills the chunk that is open, or makes a small one, is copied; the rest is not.
        let open = match self.chunks.back() {
            Some(Chunk::Staged(bytes)) => MUXER_FRAME_BYTES.saturating_sub(bytes.len()),
            _ => 0,
        };
        if piece.len() <= open || piece.len() < OWN_BYTES {
            return self.stage(piece);
        }
        self.stage(&piece[..open]);
        if piece.len() - open < OWN_BYTES {
            return self.stage(&piece[open..]);
        }
        self.bytes += piece.len() - open;
        self.chunks.push_back(Chunk::Own(piece.slice(open..)));
    }

    fn stage(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len();
        while !piece.is_empty() {
            let open = match self.chunks.back_mut() {
                Some(Chunk::Staged(bytes)) if bytes.len() < MUXER_FRAME_BYTES => bytes,
                _ => {
                    let bytes = self.spare.take().unwrap_or_else(|| Vec::with_capacity(4096));
                    self.chunks.push_back(Chunk::Staged(bytes));
                    continue;
                }
            };
            let (now, later) = piece.split_at(piece.len().min(MUXER_FRAME_BYTES - open.len()));
            open.extend_from_slice(now);
            piece = later;
        }
    }
}
