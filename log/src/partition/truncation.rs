//! Taking back what was appended, as a follower does that diverged from its leader.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rafka_model::Offset;

use super::PartitionLog;
use crate::checkpoint::Point;
use crate::error::{LogError, ReadError, StorageError};
use crate::index::NO_TIMESTAMP;
use crate::segment::Segment;
use crate::shared::{Place, Until};
use crate::walk::Walk;

const STEP_BYTES: usize = 8192;

impl PartitionLog {
    /// Removes the records from `offset` on; the rest of a batch that holds it goes too, and so do epochs that begin there
    /// or later: one without records, too. Returns the new end. Durable, the epoch cache with it, when this returns. Before the log's start: as [`Self::restart_at`].
    ///
    /// # Errors
    /// [`LogError`]. If the disk fails halfway the log is poisoned: the next start finds either state.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.healthy()?;
        if offset > self.log_end() {
            return Ok(self.log_end());
        }
        if offset == self.log_end() {
            self.forget_epochs_behind(offset)?;
            return Ok(offset);
        }
        let segment = match self.shared.segment_of(offset) {
            Some(segment) if offset >= self.log_start() => segment,
            _ => return self.restart_at(offset).map(|()| offset),
        };
        let file = self.shared.file(&segment)?;
        let mut walk = Walk::new(&*file, segment.bytes(), STEP_BYTES);
        let place = self.shared.locate(&mut walk, &segment, &*file, Until::Offset(offset));
        let place = place.map_err(|fault| match fault.of(&segment) {
            ReadError::Corrupt(corruption) => LogError::Corrupt(corruption),
            ReadError::Storage(error) => LogError::Storage(error),
            ReadError::OutOfRange { .. } => unreachable!("a fault is of the bytes, not of the offset"),
        })?;
        if place.base < self.log_start() {
            // The log starts inside this batch: nothing is left of it.
            return self.restart_at(self.log_start()).map(|()| self.log_start());
        }
        self.forget_snapshots_behind(place.base)?;
        segment.index.truncate(&*self.shared.disk, place.position, segment.bytes());
        let point = Point {
            offset: place.base,
            segment: segment.base,
            position: place.position,
            index_entries: segment.index.save(&*self.shared.disk).unwrap_or(0),
            max_timestamp: place.max_before,
        };
        self.take_back(point, false)?;
        let cut = self.cut_at(segment, place, point.index_entries);
        cut.inspect_err(|error| self.poison(error))?;
        Ok(place.base)
    }

    /// Removes all records; the next one gets `offset`. For a follower whose leader begins behind this log's end, and
    /// for one that starts anew. Durable when this returns.
    ///
    /// # Errors
    /// As [`Self::truncate_to`].
    pub fn restart_at(&mut self, offset: Offset) -> Result<(), LogError> {
        self.healthy()?;
        self.forget_snapshots()?;
        let point = Point { offset, segment: offset, position: 0, index_entries: 0, max_timestamp: NO_TIMESTAMP };
        self.take_back(point, true)?;
        let restarted = self.begin_anew(offset);
        Ok(restarted.inspect_err(|error| self.poison(error))?)
    }

    /// Lowers what the recovery point claims, before anything it vouches for is changed.
    fn take_back(&mut self, point: Point, restart: bool) -> Result<(), LogError> {
        self.lower_first_dirty(point.offset, restart)?;
        let lower = |claimed: Point| if restart || claimed.offset > point.offset { point } else { claimed };
        self.checkpoint.log_start = if restart { point.offset } else { self.log_start() };
        self.checkpoint.restarting = restart;
        self.checkpoint.written = lower(self.checkpoint.written);
        // Not what was flushed since: the epochs of that may not be saved yet.
        self.checkpoint.flushed = lower(self.checkpoint.flushed);
        self.store_checkpoint()?;
        let mut state = self.shared.flush.lock();
        state.truncations += 1;
        state.running_since = None;
        state.flushed = lower(state.flushed);
        Ok(())
    }

    fn cut_at(&mut self, segment: Arc<Segment>, place: Place, index_entries: u32) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        let file = shared.file(&segment)?;
        let before = shared.size_bytes();
        shared.next_generation();
        shared.set_end(place.base);
        let mut later = Vec::new();
        shared.edit_segments(|segments| {
            let kept = segments.partition_point(|other| other.base <= segment.base);
            later = segments.split_off(kept);
        });
        segment.set_sealed(false);
        segment.publish(place.position, place.max_before);
        for removed in later.iter().rev() {
            self.remove(removed)?;
        }
        let forgotten = segment.index.forget_behind(&*shared.disk, index_entries);
        forgotten.map_err(|error| StorageError::new("cut the index of", &segment.path, &error))?;
        file.truncate(place.position).map_err(|error| StorageError::new("cut", &segment.path, &error))?;
        file.sync_data().map_err(|error| StorageError::new("sync", &segment.path, &error))?;
        if !later.is_empty() {
            shared.disk.sync_dir(&shared.dir).map_err(|error| StorageError::new("sync", &shared.dir, &error))?;
        }
        shared.next_generation();
        // Readers look the file up in the segment; the writer keeps it open from now on.
        *segment.file().lock() = Some(file.clone());
        self.unflushed.retain(|(other, _)| other.base < segment.base);
        (self.active, self.file) = (segment, file);
        (self.size, self.allocated) = (place.position, place.position);
        (self.max_timestamp, self.since_index, self.must_cut) = (place.max_before, 0, false);
        self.count_cut(before - shared.size_bytes());
        self.forget_epochs_behind(place.base)
    }

    fn forget_epochs_behind(&mut self, end: Offset) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        let mut epochs = shared.epochs.write();
        if epochs.truncate_end(end) {
            epochs.store(&*shared.disk, &shared.dir)?;
            self.epochs_unsaved = false;
        }
        Ok(())
    }

    fn begin_anew(&mut self, offset: Offset) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        let before = shared.size_bytes();
        shared.next_generation();
        let mut old = Vec::new();
        shared.edit_segments(|segments| old = std::mem::take(segments));
        for segment in old.iter().rev() {
            self.remove(segment)?;
        }
        let path = shared.dir.join(Segment::file_name(offset));
        let file = shared.disk.create(&path).map_err(|error| StorageError::new("create", &path, &error))?;
        shared.disk.sync_dir(&shared.dir).map_err(|error| StorageError::new("sync", &shared.dir, &error))?;
        let segment = Arc::new(Segment::new_active(&shared.dir, offset, file.clone(), 0, NO_TIMESTAMP, 0));
        shared.edit_segments(|segments| segments.push(segment.clone()));
        shared.set_start(offset);
        shared.set_end(offset);
        shared.next_generation();
        self.unflushed.clear();
        (self.active, self.file) = (segment, file);
        (self.size, self.allocated, self.since_index) = (0, 0, 0);
        (self.max_timestamp, self.must_cut) = (NO_TIMESTAMP, false);
        self.count_cut(before);
        shared.epochs.write().clear();
        shared.epochs.read().store(&*shared.disk, &shared.dir)?;
        self.epochs_unsaved = false;
        self.checkpoint.restarting = false;
        self.store_checkpoint()
    }

    fn remove(&self, segment: &Arc<Segment>) -> Result<(), StorageError> {
        segment.set_removed();
        self.shared.forget_file(segment);
        let disk = &*self.shared.disk;
        for index in segment.index.paths() {
            let _ = disk.remove(index);
        }
        disk.remove(&segment.path).map_err(|error| StorageError::new("remove", &segment.path, &error))
    }

    /// Bytes that were cut are not dirty any more.
    fn count_cut(&mut self, bytes: u64) {
        let flushed = self.shared.flush.lock().flushed_bytes;
        let appended = self.shared.appended_bytes.load(Ordering::Acquire);
        self.shared.appended_bytes.store(appended.saturating_sub(bytes).max(flushed), Ordering::Release);
        if self.flushed() >= self.log_end() {
            self.shared.appended_bytes.store(flushed, Ordering::Release);
            self.dirty_since = None;
        }
    }
}
