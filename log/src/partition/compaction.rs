//! Beginning a compaction, and giving what it wrote the place of what it read.

use std::sync::Arc;

use rafka_model::{Offset, Timestamp};

use super::PartitionLog;
use crate::checkpoint::Point;
use crate::compaction::{
    Compacted, Compaction, CompactionReport, Output, Running, load_first_dirty, ratio_ppm, store_first_dirty,
};
use crate::disk::parent;
use crate::error::{LogError, StorageError};
use crate::index::NO_TIMESTAMP;
use crate::segment::{REMOVED, Segment};
use crate::walk::Walk;

impl PartitionLog {
    /// A compaction round, if the log is due for one: more of its closed segments than `min.cleanable.dirty.ratio` are
    /// dirty, or some record is older than `max.compaction.lag.ms`. Takes in what is synced, closed, older than
    /// `min.compaction.lag.ms` and before `below`: the first offset that is not committed, or whose transaction is open.
    /// `None` too while another round of this log is under way, and where `cleanup.policy` has no `compact`.
    ///
    /// # Errors
    /// [`LogError`]; ask again later.
    pub fn compaction_plan(&mut self, now: Timestamp, below: Offset) -> Result<Option<Compaction>, LogError> {
        if !self.config.cleanup.compact {
            return Ok(None);
        }
        self.healthy()?;
        let first_dirty = self.first_dirty()?.clamp(self.log_start(), self.log_end());
        let mut segments = self.shared.segments();
        let Some((count, end)) = self.cleanable(&segments, now, first_dirty, below)? else { return Ok(None) };
        segments.truncate(count);
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.bytes()).sum::<u64>();
        let (clean, dirty) = segments.split_at(segments.partition_point(|segment| segment.base < first_dirty));
        let (mut clean_bytes, mut dirty_bytes) = (bytes(clean), bytes(dirty));
        if let Some(partly) = clean.last().filter(|_| dirty.first().map_or(end, |next| next.base) > first_dirty) {
            clean_bytes -= partly.bytes();
            dirty_bytes += partly.bytes();
        }
        let oldest = segments.iter().rfind(|segment| segment.base <= first_dirty).or(segments.first());
        let is_overdue = match oldest {
            Some(oldest) if dirty_bytes > 0 => self.is_overdue(oldest, now)?,
            _ => false,
        };
        let is_due = ratio_ppm(dirty_bytes, clean_bytes) > self.config.min_cleanable_dirty_ratio_ppm;
        if dirty_bytes == 0 || !is_due && !is_overdue {
            return Ok(None);
        }
        let Some(running) = Running::begin(&self.shared) else { return Ok(None) };
        Ok(Some(Compaction {
            running,
            segments,
            end,
            first_dirty,
            below,
            clean_bytes,
            dirty_bytes,
            is_overdue,
            now,
            delete_retention_ms: self.config.delete_retention_ms,
            segment_bytes: self.config.segment_bytes,
        }))
    }

    /// How many of the oldest segments may be compacted, and where the last of them ends. `None` if nothing of them is dirty.
    fn cleanable(
        &self,
        segments: &[Arc<Segment>],
        now: Timestamp,
        first_dirty: Offset,
        below: Offset,
    ) -> Result<Option<(usize, Offset)>, LogError> {
        let below = below.min(self.flushed());
        let lag_ms = self.config.min_compaction_lag_ms;
        let mut found = None;
        for (i, pair) in segments.windows(2).enumerate() {
            let end = pair[1].base;
            if end > below {
                break;
            }
            if end > first_dirty {
                let newest = self.shared.max_timestamp(&pair[0])?.unwrap_or(NO_TIMESTAMP);
                if lag_ms > 0 && newest.saturating_add_unsigned(lag_ms) > now.0 {
                    break;
                }
            }
            found = Some((i + 1, end));
        }
        Ok(found.filter(|(_, end)| *end > first_dirty))
    }

    /// Is the first record of `segment` older than `max.compaction.lag.ms`?
    fn is_overdue(&self, segment: &Arc<Segment>, now: Timestamp) -> Result<bool, LogError> {
        if i64::try_from(self.config.max_compaction_lag_ms).is_ok_and(|ms| ms == i64::MAX) {
            return Ok(false);
        }
        let file = self.shared.file(segment)?;
        let header = Walk::new(&*file, segment.bytes(), 0).header(0);
        let header = header.map_err(|error| StorageError::new("read", &segment.path, &error))?;
        let first = header.map_or(NO_TIMESTAMP, |header| header.max_timestamp.0);
        Ok(first >= 0 && first.saturating_add_unsigned(self.config.max_compaction_lag_ms) < now.0)
    }

    /// Gives the compacted files the place of the segments they were made of, atomically and durably. What was removed
    /// from the log meanwhile stays removed. Readers that are at work finish in the old files, which go after
    /// `file.delete.delay.ms`.
    ///
    /// # Errors
    /// [`LogError`]. If the disk fails halfway the log is poisoned: the next start finds either state.
    pub fn apply_compaction(&mut self, compacted: Compacted, now: Timestamp) -> Result<CompactionReport, LogError> {
        self.healthy()?;
        let Compacted { running, outputs, first_dirty, report } = compacted;
        if !Arc::ptr_eq(&running.0, &self.shared) {
            return Ok(report);
        }
        let (outputs, complete) = self.still_wanted(outputs);
        if outputs.is_empty() && (!complete || self.first_dirty == Some(first_dirty)) {
            return Ok(report);
        }
        if let Some(last) = outputs.last() {
            self.vouch_behind(last.end())?;
            let swapped = self.swap(outputs, now);
            swapped.inspect_err(|error| self.poison(error))?;
        }
        // What was left out may hold older records of keys that the map knew: then these are not clean.
        if complete {
            self.first_dirty = Some(first_dirty);
        }
        let stored = store_first_dirty(&*self.shared.disk, &self.shared.dir, self.first_dirty.unwrap_or_default());
        if let Err(error) = stored {
            // At worst a restart compacts again what is compacted already. The names must last, though.
            tracing::warn!(dir = %self.shared.dir.display(), %error, "cannot note how far the log is compacted");
            self.sync_names().inspect_err(|error| self.poison(error))?;
        }
        Ok(report)
    }

    /// Leaves out what cannot take its place any more, and what would change nothing. The second value says whether
    /// nothing is left dirty by that.
    fn still_wanted(&self, outputs: Vec<Output>) -> (Vec<Output>, bool) {
        let segments = self.shared.segments();
        let flushed = self.flushed();
        let mut complete = true;
        let wanted = outputs.into_iter().filter(|output| {
            let inputs = output.inputs();
            if inputs.iter().all(|input| input.is_removed()) {
                return false;
            }
            let at = segments.partition_point(|segment| segment.base < output.base());
            let there = segments.get(at..at + inputs.len()).unwrap_or_default();
            let intact = there.len() == inputs.len()
                && there.iter().zip(inputs).all(|(there, input)| Arc::ptr_eq(there, input))
                && segments.get(at + inputs.len()).is_some_and(|next| next.base == output.end())
                && flushed >= output.end();
            complete &= intact;
            intact && output.is_changed()
        });
        let wanted = wanted.collect();
        (wanted, complete)
    }

    /// Makes sure that no recovery point leads into segments before `end`, which are about to be rewritten.
    fn vouch_behind(&mut self, end: Offset) -> Result<(), LogError> {
        let shared = self.shared.clone();
        if shared.flush.lock().flushed.segment < end {
            // At the end of the last of them, that is, before the next one. Its name must last for that, and so must
            // the cut that closed the last one: it may have been synced only while it was appended to, and what lies
            // before a recovery point is not looked at again.
            self.sync_closed(end).inspect_err(|error| self.poison(error))?;
            self.sync_names()?;
            let next = Point { offset: end, segment: end, position: 0, index_entries: 0, max_timestamp: NO_TIMESTAMP };
            let mut state = shared.flush.lock();
            if state.flushed.segment < end {
                state.flushed = next;
            }
        }
        self.update_checkpoint()?;
        let flushed = shared.flush.lock().flushed;
        if self.checkpoint.flushed.segment < flushed.segment {
            self.checkpoint.flushed = flushed;
        }
        Ok(self.store_checkpoint()?)
    }

    /// Syncs the closed segments before `end`.
    fn sync_closed(&self, end: Offset) -> Result<(), StorageError> {
        let mut closed = self.unflushed.iter().filter(|(segment, _)| segment.base < end);
        closed.try_for_each(|(segment, file)| {
            file.sync_data().map_err(|error| StorageError::new("sync", &segment.path, &error))
        })
    }

    fn sync_names(&self) -> Result<(), StorageError> {
        for dir in [&*self.shared.dir, parent(&self.shared.dir)] {
            self.shared.disk.sync_dir(dir).map_err(|error| StorageError::new("sync", dir, &error))?;
        }
        Ok(())
    }

    fn swap(&mut self, mut outputs: Vec<Output>, now: Timestamp) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        for output in &mut outputs {
            let to = shared.dir.join(Segment::swap_name(output.base(), output.end()));
            let renamed = shared.disk.rename(output.path(), &to);
            renamed.map_err(|error| StorageError::new("rename", output.path(), &error))?;
            // From here on a start would finish what was begun.
            output.release();
        }
        shared.disk.sync_dir(&shared.dir).map_err(|error| StorageError::new("sync", &shared.dir, &error))?;
        let delete_at = Timestamp(now.0.saturating_add_unsigned(self.config.file_delete_delay_ms));
        outputs.iter().try_for_each(|output| self.put_in_place(output, delete_at))
    }

    fn put_in_place(&mut self, output: &Output, delete_at: Timestamp) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        let disk = &*shared.disk;
        // Readers that found a segment before this find its file too: the path is about to mean another.
        output.inputs().iter().try_for_each(|input| shared.pin(input))?;
        let segment = Arc::new(Segment::new_sealed(&shared.dir, output.base(), output.bytes()));
        *segment.file().lock() = Some(output.file().clone());
        segment.learn_max_timestamp(output.max_timestamp());
        for input in output.inputs() {
            input.set_removed();
            // Not every segment has them.
            input.index.paths().into_iter().for_each(|index| drop(disk.remove(index)));
            self.replaced += 1;
            let to = shared.dir.join(format!("{}.{}{REMOVED}", Segment::file_name(input.base), self.replaced));
            disk.rename(&input.path, &to).map_err(|error| StorageError::new("rename", &input.path, &error))?;
            self.doomed.push_back((delete_at, to));
        }
        let from = shared.dir.join(Segment::swap_name(output.base(), output.end()));
        disk.rename(&from, &segment.path).map_err(|error| StorageError::new("rename", &from, &error))?;
        for (from, to) in output.index().paths().into_iter().zip(segment.index.paths()) {
            // What is missing is built again.
            let _ = disk.rename(from, to);
        }
        shared.edit_segments(|segments| {
            let from = segments.partition_point(|other| other.base < output.base());
            segments.splice(from..from + output.inputs().len(), [segment.clone()]);
        });
        shared.next_generation();
        shared.forget_cursors();
        shared.keep_open(&segment);
        Ok(())
    }

    /// Offset before which the log is compacted.
    fn first_dirty(&mut self) -> Result<Offset, StorageError> {
        if let Some(known) = self.first_dirty {
            return Ok(known);
        }
        let loaded = load_first_dirty(&*self.shared.disk, &self.shared.dir)?;
        self.first_dirty = Some(loaded);
        Ok(loaded)
    }

    /// What lies behind `end` will be written anew, or all of it: it is not compacted.
    pub(super) fn lower_first_dirty(&mut self, end: Offset, restart: bool) -> Result<(), StorageError> {
        let lowered = if restart { Offset::ZERO } else { end };
        if self.first_dirty()? <= lowered {
            return Ok(());
        }
        self.first_dirty = Some(lowered);
        store_first_dirty(&*self.shared.disk, &self.shared.dir, lowered)
    }
}
