//! Writing a frame.

use std::io;

use futures::{AsyncWrite, AsyncWriteExt};

use super::{Caps, Frame};
use crate::transport::MUXER_FRAME_BYTES;

/// Writes `frame`; the caller flushes and closes.
///
/// Lengths, header and the first bytes of the body go out together, and so do small pieces of a body, because each
/// write costs a frame of the muxer; what remains of a piece is written from where it lies.
///
/// # Errors
/// An I/O error of the stream, or [`FrameError`](super::FrameError) when the reader would refuse: then nothing was
/// written.
pub async fn write_frame<T: AsyncWrite + Unpin>(io: &mut T, frame: &Frame, caps: Caps) -> io::Result<()> {
    frame.check(caps)?;
    let mut staged = Vec::with_capacity(MUXER_FRAME_BYTES.min(8 + frame.header.len() + frame.body_len()));
    staged.extend_from_slice(&be_length(frame.header.len()));
    stage(io, &mut staged, &frame.header).await?;
    stage(io, &mut staged, &be_length(frame.body_len())).await?;
    for piece in &frame.body {
        stage(io, &mut staged, piece).await?;
    }
    if !staged.is_empty() {
        io.write_all(&staged).await?;
    }
    Ok(())
}

/// Adds `piece`: full muxer frames go out, the rest is staged.
async fn stage<T: AsyncWrite + Unpin>(io: &mut T, staged: &mut Vec<u8>, mut piece: &[u8]) -> io::Result<()> {
    if !staged.is_empty() {
        let (first, rest) = piece.split_at(piece.len().min(MUXER_FRAME_BYTES - staged.len()));
        staged.extend_from_slice(first);
        piece = rest;
        if staged.len() < MUXER_FRAME_BYTES {
            return Ok(());
        }
        io.write_all(staged).await?;
        staged.clear();
    }
    let (whole, rest) = piece.split_at(piece.len() - piece.len() % MUXER_FRAME_BYTES);
    io.write_all(whole).await?;
    staged.extend_from_slice(rest);
    Ok(())
}

fn be_length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("frames are checked against caps far below 4 GiB").to_be_bytes()
}
