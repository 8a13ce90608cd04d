//! Walks the batches of a segment.

use std::io;

use rafka_model::limits::BATCH_HEADER_BYTES;
use rafka_model::{BatchError, BatchHeader};

use crate::disk::DiskFile;

/// A window that slides over a segment's file, reading ahead by `step` bytes. Never holds more than the file has.
pub(crate) struct Walk<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    step: usize,
    buffer: Vec<u8>,
    at: u64,
}

/// What stands at a position of a segment.
pub(crate) type Found = Result<BatchHeader, BatchError>;

impl<'a> Walk<'a> {
    /// Over the bytes of `file` in front of `end`.
    pub(crate) fn new(file: &'a dyn DiskFile, end: u64, step: usize) -> Self {
        Self { file, end, step, buffer: Vec::new(), at: 0 }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// `bytes` bytes at `at`; fewer where the segment ends.
    pub(crate) fn window(&mut self, at: u64, bytes: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        if !self.holds(at, bytes) {
            self.buffer.clear();
            self.at = at;
            self.file.read_to(&mut self.buffer, bytes.max(self.step).min(left), at)?;
        }
        let from = (at - self.at) as usize;
        Ok(&self.buffer[from..self.buffer.len().min(from + bytes)])
    }

    /// Are these bytes in memory already?
    pub(crate) fn holds(&self, at: u64, bytes: usize) -> bool {
        at >= self.at && at - self.at + bytes as u64 <= self.buffer.len() as u64
    }

    /// Parses the header at `at` and checks that its batch ends within the segment.
    pub(crate) fn header(&mut self, at: u64) -> io::Result<Found> {
        let left = self.end.saturating_sub(at);
        let parsed = BatchHeader::parse(self.window(at, BATCH_HEADER_BYTES)?);
        Ok(parsed.and_then(|header| match header.total_bytes() {
            total if total as u64 <= left => Ok(header),
            needed => Err(BatchError::CutOff { bytes: usize::try_from(left).unwrap_or(usize::MAX), needed }),
        }))
    }

    /// Checks the CRC of the batch at `at`.
    pub(crate) fn check(&mut self, at: u64, header: &BatchHeader) -> io::Result<Result<(), BatchError>> {
        let needed = header.total_bytes();
        let batch = self.window(at, needed)?;
        if batch.len() < needed {
            return Ok(Err(BatchError::CutOff { bytes: batch.len(), needed }));
        }
        Ok(header.check_crc(batch))
    }

    /// The buffer, and the position of its first byte.
    pub(crate) fn into_buffer(self) -> (Vec<u8>, u64) {
        (self.buffer, self.at)
    }

    /// Position of the last byte at or behind `from` that is not zero.
    pub(crate) fn last_written_byte(&mut self, from: u64) -> io::Result<Option<u64>> {
        let (mut at, mut last) = (from, None);
        while at < self.end {
            let chunk = self.window(at, self.step)?;
            if chunk.is_empty() {
                break;
            }
            if let Some(i) = chunk.iter().rposition(|byte| *byte != 0) {
                last = Some(at + i as u64);
            }
            at += chunk.len() as u64;
        }
        Ok(last)
    }
}
