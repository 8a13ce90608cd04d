//! Making what was appended last: flushes and checkpoints.

use std::sync::atomic::Ordering;

use rafka_model::Offset;

use super::PartitionLog;
use crate::error::{LogError, StorageError};
use crate::flush::Flush;

impl PartitionLog {
    pub(super) fn save_epochs(&mut self) -> Result<(), LogError> {
        if self.epochs_unsaved {
            let epochs = self.shared.epochs.read().clone();
            epochs.store(&*self.shared.disk, &self.shared.dir)?;
            self.epochs_unsaved = false;
        }
        Ok(())
    }

    /// Prepares to sync everything appended so far; `None` if it is synced already.
    pub fn begin_flush(&mut self) -> Option<Flush> {
        let shared = &self.shared;
        let mut state = shared.flush.lock();
        if state.flushed.offset >= shared.end() {
            return None;
        }
        // A synced point in a later segment means that all before it was synced.
        let flushed = state.flushed.segment;
        self.unflushed.retain(|(segment, _)| segment.base >= flushed);
        state.running_since = state.running_since.or(self.dirty_since.take());
        let mut files = self.unflushed.clone();
        files.push((self.active.clone(), self.file.clone()));
        Some(Flush {
            shared: shared.clone(),
            files,
            point: shared.point(&self.active, self.active.index.count()),
            bytes: shared.appended_bytes.load(Ordering::Acquire),
            truncations: state.truncations,
            dir_changes: shared.dir_changes.load(Ordering::Acquire),
        })
    }

    /// Syncs everything appended so far, here and now; returns the offset before which all survives a power loss.
    ///
    /// # Errors
    /// As [`Flush::run`].
    pub fn flush(&mut self) -> Result<Offset, LogError> {
        self.healthy()?;
        match self.begin_flush() {
            Some(flush) => flush.run(),
            None => Ok(self.flushed()),
        }
    }

    /// Notes how far the log is written and synced, so that recovery need not look before it. A few small writes and
    /// no sync; nothing if nothing changed. Call it every few seconds.
    ///
    /// # Errors
    /// [`LogError::Storage`], [`LogError::Poisoned`].
    pub fn checkpoint(&mut self) -> Result<(), LogError> {
        self.healthy()?;
        if !self.update_checkpoint()? {
            return Ok(());
        }
        Ok(self.checkpoint.store(&*self.shared.disk, &self.shared.dir)?)
    }

    /// Takes the present state into the checkpoint; false if it is there already.
    pub(super) fn update_checkpoint(&mut self) -> Result<bool, LogError> {
        // A checkpoint vouches for the epochs of what lies before it.
        self.save_epochs()?;
        let shared = &self.shared;
        let mut flushed = shared.flush.lock().flushed;
        let before = self.checkpoint;
        if before.written.offset == shared.end()
            && before.written.segment == self.active.base
            && before.flushed.offset == flushed.offset
            && before.log_start == shared.start()
        {
            return Ok(false);
        }
        let saved = match self.active.index.save(&*shared.disk) {
            Ok(saved) => saved,
            Err(error) => {
                tracing::warn!(segment = %self.active.path.display(), %error, "cannot save index");
                0
            }
        };
        if flushed.segment == self.active.base {
            flushed.index_entries = flushed.index_entries.min(saved);
        }
        self.checkpoint.written = shared.point(&self.active, saved);
        self.checkpoint.flushed = flushed;
        self.checkpoint.segment_created = self.created;
        self.checkpoint.log_start = shared.start();
        Ok(true)
    }

    /// Flushes and closes the log so that the next start has nothing to repair.
    ///
    /// # Errors
    /// [`LogError`]; the next start then recovers as after a crash.
    pub fn close_clean(mut self) -> Result<(), LogError> {
        self.healthy()?;
        if self.allocated > self.size || self.must_cut {
            self.file.truncate(self.size).map_err(|error| self.failed("cut", &error))?;
            self.allocated = self.size;
        }
        self.flush()?;
        if self.update_checkpoint()? {
            self.store_checkpoint()?;
        }
        Ok(())
    }

    /// Writes the checkpoint durably, its name too.
    pub(super) fn store_checkpoint(&mut self) -> Result<(), StorageError> {
        let shared = &self.shared;
        self.checkpoint.store_both(&*shared.disk, &shared.dir, true)?;
        if !self.names_synced {
            let synced = shared.disk.sync_dir(&shared.dir);
            synced.map_err(|error| StorageError::new("sync", &shared.dir, &error))?;
            self.names_synced = true;
        }
        Ok(())
    }
}
