//! Snapshots of what a partition knows of its producers. What is in them is the caller's; here they are bytes that
//! belong to an offset: all that the batches in front of it say.
//!
//! They are hints. A snapshot is never synced, because the batches can tell the same; whether it is whole, its checksum
//! says. One thing matters: a snapshot must never outlive the batches that it speaks of, or it would speak of others
//! later. So those behind the log's end are removed, durably, before anything is appended there again.

use std::io;
use std::path::{Path, PathBuf};

use rafka_model::limits::{PRODUCER_SNAPSHOT_BATCHES, PRODUCER_SNAPSHOT_BYTES_MAX};
use rafka_model::{BatchHeader, Offset, StorageEngine};

use crate::atomic_file::{self, AtomicFileError};
use crate::error::{LogError, ReadError, StorageError};
use crate::partition::PartitionLog;
use crate::shared::{Fault, Place, Until, header_at};
use crate::walk::Walk;

const ENDING: &str = ".snapshot";
/// The newest of them are kept, and of the others one for each segment.
const NEWEST_KEPT: usize = 2;
/// Headers are read in steps of this: most batches are larger.
const STEP_BYTES: usize = 4 << 10;

/// The snapshots of a log.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// Their offsets, ascending.
    offsets: Vec<Offset>,
    /// Batches behind the newest, about.
    batches: u64,
}

/// From where [`PartitionLog::restore_producers`] had what it restored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Restored {
    /// Offset of the snapshot, if there was one.
    pub snapshot: Option<Offset>,
    /// Batches behind it whose headers were read.
    pub batches: u64,
}

impl Snapshots {
    /// A batch was appended.
    pub(crate) fn appended(&mut self) {
        self.batches += 1;
    }
}

impl PartitionLog {
    /// Restores what was known of producers at the log's end: `decode` makes it of a snapshot's bytes (`None` if it
    /// cannot), then `replay` is shown the header of each batch behind that, in order. Snapshots that cannot be used are
    /// removed. To be called once the log is open, and again after a truncation.
    ///
    /// A damaged header hides the rest of its segment from the replay, as it does from readers.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn restore_producers<T: Default>(
        &mut self,
        mut decode: impl FnMut(&[u8]) -> Option<T>,
        mut replay: impl FnMut(&mut T, &BatchHeader),
    ) -> Result<(T, Restored), LogError> {
        let mut restored = Restored::default();
        let mut state = None;
        while let Some(offset) = self.producers.offsets.last().copied() {
            let path = snapshot_path(&self.shared().dir, offset);
            match atomic_file::read(&*self.shared().disk, &path, PRODUCER_SNAPSHOT_BYTES_MAX) {
                Ok(Some(bytes)) => state = decode(&bytes),
                Ok(None) | Err(AtomicFileError::Corrupt { .. }) => {}
                Err(AtomicFileError::Storage(error)) => return Err(error.into()),
            }
            if state.is_some() {
                restored.snapshot = Some(offset);
                break;
            }
            tracing::warn!(path = %path.display(), "snapshot of producers cannot be used, removing it");
            self.remove_snapshot(offset)?;
            self.producers.offsets.pop();
        }
        let mut state = state.unwrap_or_default();
        let from = restored.snapshot.unwrap_or(Offset::ZERO).max(self.log_start());
        restored.batches = self.each_header(from, |header| replay(&mut state, header))?;
        self.producers.batches = restored.batches;
        Ok((state, restored))
    }

    /// Is it time for a snapshot? So many batches were appended since the last one that a restart would notice, or they
    /// began another segment.
    #[must_use]
    pub fn wants_producer_snapshot(&self) -> bool {
        let newest = self.producers.offsets.last();
        let another_segment = || newest.is_none_or(|newest| *newest < self.active_base());
        self.keeps_snapshots()
            && self.producers.batches > 0
            && (self.producers.batches >= PRODUCER_SNAPSHOT_BATCHES || another_segment())
    }

    /// Is there anything that the newest snapshot does not say?
    #[must_use]
    pub fn has_news_of_producers(&self) -> bool {
        self.keeps_snapshots() && self.producers.batches > 0
    }

    /// Keeps `state` as the snapshot of the log's end, and removes older ones that are of no use any more. Without a
    /// sync: a power loss soon after costs the next start the time to read headers.
    ///
    /// # Errors
    /// [`LogError::Storage`]: try again later.
    pub fn save_producers(&mut self, state: &[u8]) -> Result<(), LogError> {
        if !self.keeps_snapshots() {
            return Ok(());
        }
        let end = self.log_end();
        atomic_file::write_unsynced(&*self.shared().disk, &snapshot_path(&self.shared().dir, end), state)?;
        self.producers.batches = 0;
        if self.producers.offsets.last() != Some(&end) {
            self.producers.offsets.push(end);
        }
        self.prune_snapshots()?;
        Ok(())
    }

    /// Finds the snapshots of a log that was just opened.
    pub(crate) fn find_snapshots(&mut self) -> Result<(), StorageError> {
        let shared = self.shared();
        let names = shared.disk.list(&shared.dir).map_err(|error| StorageError::new("list", &shared.dir, &error))?;
        let mut offsets: Vec<_> = names.iter().filter_map(|name| parse_name(name)).collect();
        offsets.sort_unstable();
        self.producers = Snapshots { offsets, batches: 0 };
        self.forget_snapshots_behind(self.log_end())
    }

    /// Removes the snapshots behind `end`, for good.
    pub(crate) fn forget_snapshots_behind(&mut self, end: Offset) -> Result<(), StorageError> {
        let kept = self.producers.offsets.partition_point(|offset| *offset <= end);
        self.drop_snapshots(kept)
    }

    /// Removes all snapshots, for good.
    pub(crate) fn forget_snapshots(&mut self) -> Result<(), StorageError> {
        self.drop_snapshots(0)
    }

    fn drop_snapshots(&mut self, kept: usize) -> Result<(), StorageError> {
        let gone = self.producers.offsets.split_off(kept);
        if gone.is_empty() {
            return Ok(());
        }
        gone.iter().try_for_each(|offset| self.remove_snapshot(*offset))?;
        let shared = self.shared();
        shared.disk.sync_dir(&shared.dir).map_err(|error| StorageError::new("sync", &shared.dir, &error))
    }

    /// Keeps the newest snapshots and, for truncations, one of each segment.
    fn prune_snapshots(&mut self) -> Result<(), StorageError> {
        let bases: Vec<_> = self.shared().segments().iter().map(|segment| segment.base).collect();
        let segment_of = |offset: Offset| bases.partition_point(|base| *base <= offset);
        let offsets = &self.producers.offsets;
        let old = offsets.len().saturating_sub(NEWEST_KEPT);
        let superseded = |(i, offset): (usize, &Offset)| {
            let next = offsets.get(i + 1).is_some_and(|next| segment_of(*next) == segment_of(*offset));
            (i < old && (next || segment_of(*offset) == 0)).then_some(*offset)
        };
        let gone: Vec<_> = offsets.iter().enumerate().filter_map(superseded).collect();
        for offset in gone {
            self.remove_snapshot(offset)?;
            self.producers.offsets.retain(|other| *other != offset);
        }
        Ok(())
    }

    fn remove_snapshot(&self, offset: Offset) -> Result<(), StorageError> {
        let path = snapshot_path(&self.shared().dir, offset);
        match self.shared().disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::new("remove", &path, &error)),
            _ => Ok(()),
        }
    }

    /// A log in memory ends with the process.
    fn keeps_snapshots(&self) -> bool {
        self.storage_engine() == StorageEngine::File
    }

    /// Shows the header of every batch from the one that holds `from` on; returns how many.
    fn each_header(&self, from: Offset, mut show: impl FnMut(&BatchHeader)) -> Result<u64, LogError> {
        let (shared, mut count) = (self.shared(), 0);
        let segments = shared.segments();
        let first = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        for segment in segments[first..].iter().filter(|_| from < self.log_end()) {
            let file = shared.file(segment)?;
            let mut walk = Walk::new(&*file, segment.bytes(), STEP_BYTES);
            let front = Place { position: 0, base: segment.base, max_before: 0 };
            let mut step = || -> Result<(), Fault> {
                let mut place = match from > segment.base {
                    true => shared.locate(&mut walk, segment, &*file, Until::Offset(from))?,
                    false => front,
                };
                while place.position < walk.end() {
                    let header = header_at(&mut walk, place)?;
                    show(&header);
                    count += 1;
                    let position = place.position + header.total_bytes() as u64;
                    place = Place { position, base: header.next_offset(), ..place };
                }
                Ok(())
            };
            match step().map_err(|fault| fault.of(segment)) {
                Err(ReadError::Storage(error)) => return Err(error.into()),
                Err(error) => tracing::error!(%error, "producers of the batches behind it may be unknown"),
                Ok(()) => {}
            }
        }
        Ok(count)
    }
}

fn snapshot_path(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(format!("{:020}{ENDING}", offset.0))
}

fn parse_name(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(ENDING)?;
    let whole = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| digits.parse().ok().map(Offset)).flatten()
}

#[cfg(test)]
mod tests;
