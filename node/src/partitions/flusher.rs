//! When logs are synced: at once for topics with `durability=fsync` (group commit: what is appended during one sync is
//! covered by the next), in due time for all others, oldest dirty first and under a budget.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rafka_model::{Monotonic, TopicPartition};

use super::Inner;
use super::clock::Clock;
use super::replica::Replica;

/// Who is to be flushed. A replica is at most once in each queue.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    queues: Mutex<Queues>,
    asked: Condvar,
    due: Condvar,
}

#[derive(Debug, Default)]
struct Queues {
    now: VecDeque<Arc<Replica>>,
    later: BTreeMap<(Monotonic, TopicPartition), Arc<Replica>>,
    stopping: bool,
}

impl Flusher {
    /// Has `replica` flushed at once.
    pub(super) fn ask(&self, replica: &Arc<Replica>) {
        if !replica.flush_asked.swap(true, Ordering::AcqRel) {
            self.queues.lock().now.push_back(replica.clone());
            self.asked.notify_one();
        }
    }

    /// Has `replica` flushed in `delay_ms` at the latest, unless it is due already.
    pub(super) fn later(&self, replica: &Arc<Replica>, clock: &dyn Clock, delay_ms: u64) {
        if !replica.flush_due.swap(true, Ordering::AcqRel) {
            let at = clock.monotonic().plus(Duration::from_millis(delay_ms));
            let mut queues = self.queues.lock();
            queues.later.insert((at, replica.at), replica.clone());
            if queues.later.first_key_value().is_some_and(|(first, _)| *first == (at, replica.at)) {
                self.due.notify_one();
            }
        }
    }

    /// Ends the threads after what they are doing.
    pub(super) fn stop(&self) {
        self.queues.lock().stopping = true;
        self.asked.notify_all();
        self.due.notify_all();
    }

    /// A thread of `durability=fsync`: flushes who asked, until stopped.
    pub(super) fn run_asked(&self, inner: &Inner) {
        loop {
            let mut queues = self.queues.lock();
            let replica = loop {
                if queues.stopping {
                    return;
                }
                match queues.now.pop_front() {
                    Some(replica) => break replica,
                    None => self.asked.wait(&mut queues),
                }
            };
            drop(queues);
            // Whoever appends from here on asks again: this flush may not cover it.
            replica.flush_asked.store(false, Ordering::Release);
            replica.flush(inner);
        }
    }

    /// The thread of all other topics: flushes who is due, no more than the budget allows, until stopped.
    pub(super) fn run_due(&self, inner: &Inner) {
        let spacing = Duration::from_secs(1) / inner.config.flushes_per_second.max(1);
        let mut not_before = inner.clock.monotonic();
        loop {
            let mut queues = self.queues.lock();
            let replica = loop {
                if queues.stopping {
                    return;
                }
                let now = inner.clock.monotonic();
                match queues.later.first_entry() {
                    Some(first) if first.key().0.max(not_before) <= now => break first.remove(),
                    Some(first) => {
                        let wait = first.key().0.max(not_before).since(now);
                        self.due.wait_for(&mut queues, wait);
                    }
                    None => self.due.wait(&mut queues),
                }
            };
            drop(queues);
            not_before = inner.clock.monotonic().plus(spacing);
            replica.flush_due.store(false, Ordering::Release);
            replica.flush(inner);
        }
    }
}
