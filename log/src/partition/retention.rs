//! Removing what is old.

use std::path::Path;
use std::sync::Arc;

use rafka_model::{Offset, Timestamp};

use super::PartitionLog;
use crate::error::LogError;
use crate::segment::Segment;

/// What [`PartitionLog::retain`] removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Retained {
    /// Segments removed from the log.
    pub segments: usize,
    /// Their bytes. The space is free after `file.delete.delay.ms`.
    pub bytes: u64,
}

impl PartitionLog {
    /// Removes segments, oldest first: those before the log's start, those whose newest record is older than
    /// `retention.ms`, and those without which the log still has `retention.bytes`. Never what lies at or behind
    /// `high_watermark`. Also closes a segment that is older than `segment.ms`, and deletes the files of segments
    /// removed `file.delete.delay.ms` ago. Without `delete` in `cleanup.policy`, what lies before the log's start goes only.
    ///
    /// # Errors
    /// [`LogError::Storage`]; call it again later.
    pub fn retain(&mut self, now: Timestamp, high_watermark: Offset) -> Result<Retained, LogError> {
        self.healthy()?;
        self.delete_due(now);
        if self.size > 0 && self.is_old(now) {
            self.roll(now)?;
        }
        let segments = self.shared.segments();
        let count = self.removable(&segments, now, high_watermark)?;
        if count == segments.len() {
            // The log keeps one segment: an empty one.
            self.roll(now)?;
        }
        if count == 0 {
            return Ok(Retained::default());
        }
        let new_start = segments.get(count).map_or(self.log_end(), |next| next.base);
        self.raise_start(new_start)?;
        let removed = &segments[..count];
        let bytes = removed.iter().map(|segment| segment.bytes()).sum();
        self.shared.edit_segments(|segments| drop(segments.drain(..count)));
        self.shared.next_generation();
        let delete_at = Timestamp(now.0.saturating_add_unsigned(self.config.file_delete_delay_ms));
        removed.iter().for_each(|segment| self.retire(segment, delete_at));
        self.delete_due(now);
        Ok(Retained { segments: count, bytes })
    }

    /// How many of the oldest segments may go.
    fn removable(&self, segments: &[Arc<Segment>], now: Timestamp, high_watermark: Offset) -> Result<usize, LogError> {
        let start = self.log_start();
        let mut left: u64 = segments.iter().map(|segment| segment.bytes()).sum();
        for (i, segment) in segments.iter().enumerate() {
            let next = segments.get(i + 1).map(|next| next.base);
            let end = next.unwrap_or(self.log_end());
            let bytes = segment.bytes();
            if bytes == 0 && next.is_none() || end > high_watermark {
                return Ok(i);
            }
            let older_than = |ms: u64| {
                let newest = self.shared.max_timestamp(segment)?.filter(|max| *max >= 0);
                Ok::<_, LogError>(newest.is_some_and(|max| max.saturating_add_unsigned(ms) < now.0))
            };
            let policy = self.config.cleanup.delete;
            let superfluous = policy
                && next.is_some()
                && self.config.retention_bytes.is_some_and(|limit| left.saturating_sub(bytes) >= limit);
            let expired = self.config.retention_ms.filter(|_| policy).map(older_than).transpose()?.unwrap_or(false);
            if end > start && !superfluous && !expired {
                return Ok(i);
            }
            left -= bytes;
        }
        Ok(segments.len())
    }

    /// Raises the log's start, as delete-records does; lower values change nothing. Returns the start, durable.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.healthy()?;
        let start = offset.min(self.log_end());
        if start > self.log_start() {
            self.raise_start(start)?;
        }
        Ok(self.log_start())
    }

    /// Notes the start durably first: whichever removals a crash undoes, the next start repeats.
    fn raise_start(&mut self, start: Offset) -> Result<(), LogError> {
        if start <= self.log_start() {
            return Ok(());
        }
        let before = self.checkpoint.log_start;
        self.checkpoint.log_start = start;
        let stored = self.store_checkpoint();
        match stored {
            // Retention must work on a full disk; at worst a crash brings old records back for a while.
            Err(error) if !error.is_full() => {
                self.checkpoint.log_start = before;
                return Err(error.into());
            }
            _ => {}
        }
        self.shared.set_start(start);
        self.epochs_unsaved |= self.shared.epochs.write().truncate_start(start);
        Ok(())
    }

    fn retire(&mut self, segment: &Arc<Segment>, delete_at: Timestamp) {
        segment.set_removed();
        self.shared.forget_file(segment);
        self.unflushed.retain(|(unflushed, _)| !Arc::ptr_eq(unflushed, segment));
        let disk = &*self.shared.disk;
        for index in segment.index.paths() {
            // Not there before the segment had its first entry; what stays is removed at the next start.
            let _ = disk.remove(index);
        }
        let to = segment.removed_path();
        match disk.rename(&segment.path, &to) {
            Ok(()) => self.doomed.push_back((delete_at, to)),
            Err(error) => {
                tracing::warn!(segment = %segment.path.display(), %error, "cannot rename removed segment");
                self.doomed.push_back((delete_at, segment.path.clone()));
            }
        }
    }

    /// Deletes the files whose time has come.
    fn delete_due(&mut self, now: Timestamp) {
        while let Some((_, path)) = self.doomed.pop_front_if(|(at, _)| *at <= now) {
            if let Err(error) = self.delete_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot delete removed segment");
                // Next time.
                self.doomed.push_back((now, path));
                return;
            }
        }
    }

    fn delete_file(&self, path: &Path) -> std::io::Result<()> {
        match self.shared.disk.remove(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}
