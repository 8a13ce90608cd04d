//! Fetches that wait for records: each is parked at every partition it names, and woken once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rafka_broker::purgatory::Purgatory;
use rafka_model::{Monotonic, Offset};
use tokio::sync::Notify;

use super::replica::Replica;

/// One waiting fetch, shared by the partitions it is parked at.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Names it in the purgatories.
    key: u64,
    /// Bytes that it still lacks; 0 or less: it is woken.
    missing: AtomicI64,
    woken: Notify,
}

impl Waiter {
    pub(super) fn new(key: u64, missing: u64) -> Arc<Self> {
        let missing = AtomicI64::new(i64::try_from(missing).unwrap_or(i64::MAX));
        Arc::new(Self { key, missing, woken: Notify::new() })
    }

    /// Counts bytes that became readable; true if it lacks no more.
    fn add(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let satisfied = self.missing.fetch_sub(bytes, Ordering::AcqRel) <= bytes;
        if satisfied {
            self.woken.notify_one();
        }
        satisfied
    }

    /// Wakes it whatever it lacks: something about its partitions changed.
    pub(super) fn wake(&self) {
        self.missing.store(0, Ordering::Release);
        self.woken.notify_one();
    }
}

/// The fetches parked at one partition.
#[derive(Debug, Default)]
pub(super) struct Parked {
    purgatory: Purgatory<u64>,
    waiters: BTreeMap<u64, Arc<Waiter>>,
}

impl Parked {
    fn park(&mut self, waiter: &Arc<Waiter>, mark: Offset, deadline: Monotonic) {
        self.purgatory.park(waiter.key, mark, deadline);
        self.waiters.insert(waiter.key, waiter.clone());
    }

    fn cancel(&mut self, key: u64) {
        self.purgatory.cancel(key);
        self.waiters.remove(&key);
    }

    /// The high watermark moved to `mark`, `bytes` further. Who lacks more stays.
    pub(super) fn advance(&mut self, mark: Offset, bytes: u64) {
        if self.purgatory.is_empty() {
            return;
        }
        for key in self.purgatory.passed(mark) {
            let Some(waiter) = self.waiters.get(&key) else { continue };
            match waiter.add(bytes) {
                true => drop(self.waiters.remove(&key)),
                // Its deadline is its own timer's business; the purgatory needs one to keep its order.
                false => self.purgatory.park(key, mark.plus(1), Monotonic(u64::MAX)),
            }
        }
    }

    /// Wakes all: leadership, log start or the partition itself changed.
    pub(super) fn wake_all(&mut self) {
        self.purgatory.drain();
        std::mem::take(&mut self.waiters).into_values().for_each(|waiter| waiter.wake());
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }
}

/// Keeps a waiter parked; dropping it takes it out everywhere.
#[derive(Debug)]
pub(super) struct Parking {
    waiter: Arc<Waiter>,
    replicas: Vec<Arc<Replica>>,
}

impl Parking {
    /// Parks `waiter` at each replica until its high watermark passes the one that was seen when it was read, given
    /// with it. What moved since then wakes the waiter at once.
    pub(super) fn new(waiter: Arc<Waiter>, at: Vec<(Arc<Replica>, Offset)>, deadline: Monotonic) -> Self {
        let mut replicas = Vec::with_capacity(at.len());
        for (replica, seen) in at {
            replica.parked().lock().park(&waiter, seen.plus(1), deadline);
            // An advance between the read and the parking found nobody to wake: look again, now that we are there.
            if replica.high_watermark() > seen || !replica.serves() {
                waiter.wake();
            }
            replicas.push(replica);
        }
        Self { waiter, replicas }
    }

    /// Returns once the fetch is to be tried again. Cancel safe.
    pub(super) async fn woken(&self) {
        self.waiter.woken.notified().await;
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        self.replicas.iter().for_each(|replica| replica.parked().lock().cancel(self.waiter.key));
    }
}
