//! Syncing, off the writer's lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rafka_model::{Offset, Timestamp};

use crate::checkpoint::{Checkpoint, Point};
use crate::disk::{DiskFile, parent};
use crate::error::{LogError, StorageError};
use crate::segment::Segment;
use crate::shared::Shared;

/// How far the log is durable.
#[derive(Debug, Default)]
pub(crate) struct FlushState {
    pub(crate) flushed: Point,
    /// Bytes of [`Shared::appended_bytes`] that are flushed.
    pub(crate) flushed_bytes: u64,
    /// When the oldest append of the running flush was made.
    pub(crate) running_since: Option<Timestamp>,
    /// Counts truncations: a flush that overlapped one says nothing.
    pub(crate) truncations: u64,
    /// Changes of the directory that are durable.
    dir_synced: u64,
}

/// Syncs what had been appended when it was made. Run it on a thread that may block; appends go on meanwhile.
///
/// Several may run at once. Dropping one without running it flushes nothing: the next one will.
#[derive(Debug)]
#[must_use = "nothing is synced before `run`"]
pub struct Flush {
    pub(crate) shared: Arc<Shared>,
    pub(crate) files: Vec<(Arc<Segment>, Arc<dyn DiskFile>)>,
    pub(crate) point: Point,
    pub(crate) bytes: u64,
    pub(crate) truncations: u64,
    pub(crate) dir_changes: u64,
}

impl Flush {
    /// Syncs; returns the offset before which everything now survives a power loss.
    ///
    /// # Errors
    /// After any, the log is poisoned: it takes no more appends until it is opened again.
    pub fn run(self) -> Result<Offset, LogError> {
        let shared = &*self.shared;
        if shared.poisoned.load(Ordering::Acquire) {
            return Err(LogError::Poisoned { dir: shared.dir.clone() });
        }
        if let Err(error) = self.sync() {
            shared.poisoned.store(true, Ordering::Release);
            tracing::error!(%error, "sync failed, log takes no more appends");
            return Err(error.into());
        }
        let mut state = shared.flush.lock();
        state.dir_synced = state.dir_synced.max(self.dir_changes);
        // What was truncated meanwhile was not this that was synced. A point never goes back to an earlier segment:
        // compaction may have rewritten that one.
        let reached = (state.flushed.offset, state.flushed.segment);
        if state.truncations == self.truncations && (self.point.offset, self.point.segment) >= reached {
            state.flushed = self.point;
            state.flushed_bytes = state.flushed_bytes.max(self.bytes);
            state.running_since = None;
        }
        Ok(state.flushed.offset)
    }

    fn sync(&self) -> Result<(), StorageError> {
        for (segment, file) in &self.files {
            file.sync_data().map_err(|error| StorageError::new("sync", &segment.path, &error))?;
        }
        let shared = &*self.shared;
        if shared.flush.lock().dir_synced >= self.dir_changes {
            return Ok(());
        }
        // A segment is new: its name must last as its bytes do, and so must the recovery point beside it.
        let point = Checkpoint::path(&shared.dir);
        let synced = shared.disk.open(&point).and_then(|file| file.sync_data());
        synced.map_err(|error| StorageError::new("sync", &point, &error))?;
        for dir in [&*shared.dir, parent(&shared.dir)] {
            shared.disk.sync_dir(dir).map_err(|error| StorageError::new("sync", dir, &error))?;
        }
        Ok(())
    }
}
