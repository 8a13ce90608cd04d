//! The housekeeper: one thread that writes recovery points, applies retention and deletes folders.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rafka_log::{LogError, StorageError};
use rafka_model::{Monotonic, TopicPartition};

use super::{Inner, folders, meta};

/// What the housekeeper is to do beside its rounds.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    state: Mutex<State>,
    called: Condvar,
    /// Held while a folder is deleted, so that nobody opens it meanwhile.
    deleting: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Partitions whose folders go. Stay here until they are gone.
    doomed: BTreeSet<TopicPartition>,
    /// Some of them were not tried yet.
    fresh: bool,
    stopping: bool,
}

impl Keeper {
    /// Has the folder of a partition deleted soon.
    pub(super) fn delete(&self, at: TopicPartition) {
        let mut state = self.state.lock();
        state.doomed.insert(at);
        state.fresh = true;
        self.called.notify_one();
    }

    /// Ends the thread after what it is doing.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.called.notify_one();
    }

    /// Finishes the deletion of a folder, if one was begun: the partition is to be opened here anew.
    pub(super) fn finish_deletion(&self, inner: &Inner, at: TopicPartition) -> Result<(), LogError> {
        let _deleting = self.deleting.lock();
        let dir = inner.logs.join(meta::folder(at));
        if self.state.lock().doomed.contains(&at) || folders::is_doomed(&*inner.disk, &dir) {
            folders::remove(&*inner.disk, &dir).map_err(|error| StorageError::new("delete", &dir, &error))?;
            self.state.lock().doomed.remove(&at);
        }
        Ok(())
    }

    /// The thread's life.
    pub(super) fn run(&self, inner: &Arc<Inner>) {
        let every = |ms: u64| Duration::from_millis(ms.max(1));
        let (checkpoint, retention) = (every(inner.config.checkpoint_ms), every(inner.config.retention_check_ms));
        let now = inner.clock.monotonic();
        let (mut next_checkpoint, mut next_retention) = (now.plus(checkpoint), now.plus(retention));
        while self.wait(inner, next_checkpoint.min(next_retention)) {
            let now = inner.clock.monotonic();
            self.delete_folders(inner);
            if now >= next_checkpoint {
                inner.checkpoint();
                inner.look_for_space();
                inner.retry_failed();
                next_checkpoint = inner.clock.monotonic().plus(checkpoint);
            }
            if now >= next_retention {
                inner.retain();
                next_retention = inner.clock.monotonic().plus(retention);
            }
        }
    }

    /// Waits for a call or for `until`; false when it is time to stop.
    fn wait(&self, inner: &Inner, until: Monotonic) -> bool {
        let mut state = self.state.lock();
        let wait = until.since(inner.clock.monotonic());
        if !state.fresh && !state.stopping && !wait.is_zero() {
            self.called.wait_for(&mut state, wait);
        }
        state.fresh = false;
        !state.stopping
    }

    fn delete_folders(&self, inner: &Inner) {
        let doomed = self.state.lock().doomed.clone();
        for at in doomed {
            let _deleting = self.deleting.lock();
            if !self.state.lock().doomed.contains(&at) {
                continue;
            }
            let dir = inner.logs.join(meta::folder(at));
            match folders::remove(&*inner.disk, &dir) {
                Ok(()) => {
                    self.state.lock().doomed.remove(&at);
                    tracing::info!(partition = %at, "folder of a removed partition deleted");
                }
                Err(error) => {
                    tracing::warn!(dir = %dir.display(), %error, "cannot delete folder, trying again later");
                }
            }
        }
    }
}

impl Inner {
    fn checkpoint(&self) {
        self.replicas.load().values().for_each(|replica| replica.checkpoint(self));
    }

    fn retain(&self) {
        let now = self.clock.wall();
        self.replicas.load().values().for_each(|replica| replica.retain(self, now));
    }
}
