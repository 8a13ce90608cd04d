//! The leader-epoch cache: where each leader's part of the log begins (KIP-101, KIP-279).

use std::path::{Path, PathBuf};

use rafka_model::limits::EPOCH_CACHE_BYTES_MAX;
use rafka_model::{LeaderEpoch, Offset};

use crate::atomic_file::{self, AtomicFileError};
use crate::disk::Disk;
use crate::error::StorageError;

const FILE: &str = "leader-epoch-checkpoint";

/// Epochs of a log, each with the offset of its first record, both ascending.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct EpochCache {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl EpochCache {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Reads the file; `Ok(None)` if there is none or it is damaged: the log's own batches can tell.
    pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, StorageError> {
        match atomic_file::read(disk, &Self::path(dir), EPOCH_CACHE_BYTES_MAX) {
            Ok(Some(bytes)) => Ok(Self::decode(&bytes)),
            Ok(None) | Err(AtomicFileError::Corrupt { .. }) => Ok(None),
            Err(AtomicFileError::Storage(error)) => Err(error),
        }
    }

    pub(crate) fn store(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        let text: String = self.entries.iter().map(|(epoch, start)| format!("{epoch} {start}\n")).collect();
        atomic_file::write(disk, &Self::path(dir), text.as_bytes())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cache = Self::default();
        for line in std::str::from_utf8(bytes).ok()?.lines() {
            let (epoch, start) = line.split_once(' ')?;
            let (epoch, start) = (LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?));
            if cache.entries.last().is_some_and(|(e, s)| *e >= epoch || *s > start) {
                return None;
            }
            cache.entries.push((epoch, start));
        }
        Some(cache)
    }

    /// Notes that `epoch` begins at `start`; true if that is news. An epoch without records gives way to the next.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        while self.entries.last().is_some_and(|(_, s)| *s >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    pub(crate) fn last(&self) -> Option<(LeaderEpoch, Offset)> {
        self.entries.last().copied()
    }

    /// Epoch of the record at `offset`, and the offset at which the next epoch begins.
    pub(crate) fn at(&self, offset: Offset) -> Option<(LeaderEpoch, Offset)> {
        let next = self.entries.partition_point(|(_, start)| *start <= offset);
        let (epoch, _) = self.entries.get(next.checked_sub(1)?)?;
        Some((*epoch, self.entries.get(next).map_or(Offset(i64::MAX), |(_, start)| *start)))
    }

    /// The largest epoch that is at most `epoch`, and where it ends. `None` if `epoch` is newer than the log knows.
    /// An epoch older than everything ends where the log's oldest epoch begins.
    pub(crate) fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let next = self.entries.partition_point(|(e, _)| *e <= epoch);
        match (next.checked_sub(1).map(|i| self.entries[i].0), self.entries.get(next)) {
            (Some(latest), None) if latest == epoch => Some((epoch, log_end)),
            (_, None) => None,
            (floor, Some((_, start))) => Some((floor.unwrap_or(epoch), *start)),
        }
    }

    /// Forgets what begins at `end` or behind it; true if anything did.
    pub(crate) fn truncate_end(&mut self, end: Offset) -> bool {
        let kept = self.entries.partition_point(|(_, start)| *start < end);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// Forgets epochs that end at or before `log_start`; the epoch of the first record stays, beginning there.
    pub(crate) fn truncate_start(&mut self, log_start: Offset) -> bool {
        let kept = self.entries.partition_point(|(_, start)| *start <= log_start).saturating_sub(1);
        self.entries.drain(..kept);
        match self.entries.first_mut() {
            Some((_, start)) if *start < log_start => {
                *start = log_start;
                true
            }
            _ => kept > 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in entries {
            assert!(cache.assign(LeaderEpoch(*epoch), Offset(*start)));
        }
        cache
    }

    fn end(cache: &EpochCache, epoch: i32) -> Option<(i32, i64)> {
        cache.end_offset_for(LeaderEpoch(epoch), Offset(100)).map(|(e, o)| (e.0, o.0))
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let cache = cache(&[(2, 10), (4, 20), (7, 50)]);
        assert_eq!(end(&cache, 7), Some((7, 100)));
        assert_eq!(end(&cache, 4), Some((4, 50)));
        assert_eq!(end(&cache, 6), Some((4, 50)), "KIP-279: the largest epoch below");
        assert_eq!(end(&cache, 3), Some((2, 20)));
        assert_eq!(end(&cache, 1), Some((1, 10)), "older than everything");
        assert_eq!(end(&cache, 8), None, "newer than everything");
        assert_eq!(end(&EpochCache::default(), 0), None);
        assert_eq!(cache.at(Offset(19)), Some((LeaderEpoch(2), Offset(20))));
        assert_eq!(cache.at(Offset(9)), None);
    }

    #[test]
    fn truncation_forgets_at_both_ends() {
        let mut cache = cache(&[(2, 10), (4, 20), (7, 50)]);
        assert!(cache.truncate_end(Offset(50)) && !cache.truncate_end(Offset(21)));
        assert_eq!(cache.latest(), Some(LeaderEpoch(4)));
        assert!(cache.truncate_start(Offset(25)) && !cache.truncate_start(Offset(25)));
        assert_eq!(cache.entries, [(LeaderEpoch(4), Offset(25))]);
        assert!(!cache.assign(LeaderEpoch(3), Offset(60)), "epochs never go back");
        assert!(cache.assign(LeaderEpoch(5), Offset(30)) && cache.assign(LeaderEpoch(6), Offset(30)));
        assert_eq!(cache.entries.last(), Some(&(LeaderEpoch(6), Offset(30))), "an epoch without records is replaced");
        assert_eq!(cache.entries.len(), 2);
    }

    #[test]
    fn text_that_is_not_ascending_is_refused() {
        assert_eq!(EpochCache::decode(b"1 5\n3 9\n").map(|c| c.entries.len()), Some(2));
        for wrong in ["3 9\n1 10\n", "1 5\n2 4\n", "1\n", "x 1\n", "1 2 3\n"] {
            assert_eq!(EpochCache::decode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
