//! Verifying the batches behind the recovery point.

use std::io;
use std::path::{Path, PathBuf};

use rafka_model::limits::BATCH_HEADER_BYTES;
use rafka_model::{BatchError, BatchHeader, Offset};

use super::{DAMAGED_MAX, Piece, Recovery};
use crate::checkpoint::Point;
use crate::disk::Disk;
use crate::epochs::EpochCache;
use crate::error::{Corruption, LogError, StorageError};
use crate::index::entry;
use crate::segment::Segment;
use crate::walk::Walk;

const STEP_BYTES: usize = 128 << 10;
/// Headers are read in steps of this when the epochs are collected again.
const COLLECT_STEP_BYTES: usize = 4096;

pub(super) struct Scan<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    /// What is bad may be dropped with all that follows.
    lenient: bool,
    interval: u32,
    /// Offset of the next batch.
    pub(super) expected: Offset,
    epochs: EpochCache,
    report: Recovery,
    bad: Option<BatchError>,
}

/// What to do with a bad batch.
enum Verdict {
    /// It is the end: nothing was there (or nothing whole, if `torn`).
    End { torn: bool },
    /// Its records are damaged, the log goes on behind it.
    Keep(BatchHeader),
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        disk: &'a dyn Disk,
        dir: &'a Path,
        lenient: bool,
        interval: u32,
        expected: Offset,
        epochs: EpochCache,
    ) -> Self {
        Self { disk, dir, lenient, interval, expected, epochs, report: Recovery::default(), bad: None }
    }

    /// Adds what was found to `report`; returns the epochs of the log.
    pub(super) fn finish(self, report: &mut Recovery) -> EpochCache {
        report.scanned_bytes += self.report.scanned_bytes;
        report.batches += self.report.batches;
        report.zero_bytes += self.report.zero_bytes;
        report.cut_bytes += self.report.cut_bytes;
        report.damaged = self.report.damaged;
        self.epochs
    }

    /// Scans `piece` behind `from`; notes in it how much is valid. `next` is the base offset of the next segment.
    pub(super) fn segment(&mut self, piece: &mut Piece, from: Point, next: Option<Offset>) -> Result<(), LogError> {
        let path = self.dir.join(Segment::file_name(piece.base));
        let file = piece.open(self.disk, &path)?;
        let failed = |error: io::Error| LogError::Storage(StorageError::new("read", &path, &error));
        let mut walk = Walk::new(&*file, piece.len, STEP_BYTES);
        let (mut at, mut since) = (from.position, 0);
        (piece.max_timestamp, piece.index_entries) = (from.max_timestamp, from.index_entries);
        while at < piece.len {
            let header = match self.batch_at(&mut walk, at).map_err(failed)? {
                Ok(header) => header,
                Err(reason) => match self.judge(&mut walk, at, &reason, next, &path)? {
                    Verdict::Keep(header) => header,
                    Verdict::End { torn } => {
                        (piece.torn, self.bad) = (torn, Some(reason));
                        break;
                    }
                },
            };
            if since > u64::from(self.interval)
                && let Some(entry) = entry(piece.base, header.base_offset, at, piece.max_timestamp)
            {
                piece.entries.push(entry);
                since = 0;
            }
            let total = header.total_bytes() as u64;
            (at, since) = (at + total, since + total);
            piece.max_timestamp = piece.max_timestamp.max(header.max_timestamp.0);
            self.expected = header.next_offset();
            self.epochs.assign(header.leader_epoch, header.base_offset);
            self.report.scanned_bytes += total;
            self.report.batches += 1;
        }
        piece.valid = at.min(piece.len);
        Ok(())
    }

    fn batch_at(&self, walk: &mut Walk<'_>, at: u64) -> io::Result<Result<BatchHeader, BatchError>> {
        let header = match walk.header(at)? {
            Ok(header) => header,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Err(reason) = walk.check(at, &header)? {
            return Ok(Err(reason));
        }
        Ok(self.follows(&header, self.expected).map(|()| header))
    }

    fn follows(&self, header: &BatchHeader, expected: Offset) -> Result<(), BatchError> {
        if header.base_offset != expected {
            return Err(BatchError::Malformed("base offset does not follow the batch before"));
        }
        if self.epochs.latest().is_some_and(|latest| header.leader_epoch < latest) {
            return Err(BatchError::Malformed("leader epoch is older than that of the batch before"));
        }
        Ok(())
    }

    fn judge(
        &mut self,
        walk: &mut Walk<'_>,
        at: u64,
        reason: &BatchError,
        next: Option<Offset>,
        path: &Path,
    ) -> Result<Verdict, LogError> {
        let failed = |error: io::Error| LogError::Storage(StorageError::new("read", path, &error));
        let len = walk.end();
        let Some(last) = walk.last_written_byte(at).map_err(failed)? else {
            self.report.zero_bytes += len - at;
            return Ok(Verdict::End { torn: false });
        };
        let header = BatchHeader::parse(walk.window(at, BATCH_HEADER_BYTES).map_err(failed)?);
        // An append writes from front to back: one that was interrupted ends before its batch does.
        let claimed = header.as_ref().map_or(BATCH_HEADER_BYTES, BatchHeader::total_bytes);
        let behind = at + claimed as u64;
        let follows = header.ok().filter(|header| self.follows(header, self.expected).is_ok());
        let damaged =
            || Corruption { segment: path.to_owned(), position: at, offset: self.expected, reason: reason.to_string() };
        if !self.lenient
            && let Some(header) = follows
        {
            let goes_on = match behind < len {
                true => {
                    let neighbour = walk.header(behind).map_err(failed)?;
                    neighbour.is_ok_and(|neighbour| self.follows(&neighbour, header.next_offset()).is_ok())
                }
                false => behind == len && next == Some(header.next_offset()),
            };
            if goes_on {
                let damaged = damaged();
                tracing::error!(%damaged, "reads of this batch will fail, others are served");
                if self.report.damaged.len() < DAMAGED_MAX {
                    self.report.damaged.push(damaged);
                }
                return Ok(Verdict::Keep(header));
            }
        }
        if !self.lenient {
            let next = follows.map(|header| header.next_offset());
            // Or its length is wrong, and swallows what follows.
            let swallows = next.map(|next| self.finds(walk, next, at + BATCH_HEADER_BYTES as u64, last));
            if last >= behind || swallows.transpose().map_err(failed)?.unwrap_or(false) {
                return Err(damaged().into());
            }
        }
        self.report.cut_bytes += last + 1 - at;
        self.report.zero_bytes += len - (last + 1);
        Ok(Verdict::End { torn: true })
    }

    /// Is there a whole batch of base offset `base` that begins in `from..=to`?
    fn finds(&self, walk: &mut Walk<'_>, base: Offset, from: u64, to: u64) -> io::Result<bool> {
        let wanted = base.0.to_be_bytes();
        let mut at = from;
        while at <= to {
            let chunk = walk.window(at, STEP_BYTES)?;
            let Some(i) = chunk.windows(wanted.len()).position(|window| window == wanted) else {
                if chunk.len() < STEP_BYTES {
                    return Ok(false);
                }
                at += (STEP_BYTES - wanted.len()) as u64;
                continue;
            };
            at += i as u64;
            if let Ok(header) = walk.header(at)?
                && walk.check(at, &header)?.is_ok()
            {
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }

    /// The segment does not reach the next one.
    pub(super) fn gap(&self, piece: &Piece) -> Result<(), LogError> {
        if self.lenient {
            return Ok(());
        }
        Err(Corruption {
            segment: self.dir.join(Segment::file_name(piece.base)),
            position: piece.valid,
            offset: self.expected,
            reason: match &self.bad {
                Some(bad) => bad.to_string(),
                None => "the segment ends before the next one begins".to_owned(),
            },
        }
        .into())
    }
}

/// Notes the epochs of the batches before `end`, as far as headers follow one another.
pub(super) fn collect_epochs(
    dir: &Path,
    piece: &Piece,
    disk: &dyn Disk,
    end: u64,
    epochs: &mut EpochCache,
) -> Result<(), LogError> {
    let path: PathBuf = dir.join(Segment::file_name(piece.base));
    let file = disk.open(&path).map_err(|error| StorageError::new("open", &path, &error))?;
    let mut walk = Walk::new(&*file, end, COLLECT_STEP_BYTES);
    let (mut at, mut expected) = (0, piece.base);
    while at < end {
        let found = walk.header(at).map_err(|error| StorageError::new("read", &path, &error))?;
        let Ok(header) = found else { break };
        if header.base_offset != expected {
            break;
        }
        epochs.assign(header.leader_epoch, header.base_offset);
        (at, expected) = (at + header.total_bytes() as u64, header.next_offset());
    }
    Ok(())
}
