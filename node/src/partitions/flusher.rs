//! The threads that sync logs. Which log, and when, says [`Flushing`]: at once for topics with `durability=fsync`, in due
//! time and under a budget for all others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rafka_broker::flushing::{Config, Flushing, Next};
use rafka_model::{Monotonic, TopicPartition};

use super::Inner;
use super::clock::Clock;
use super::replica::Replica;

/// Who is to be flushed. Two flags of each replica keep appends from the lock as long as it is queued already: they are
/// lowered when it is taken, before its sync begins.
#[derive(Debug)]
pub(super) struct Flusher {
    queues: Mutex<Queues>,
    asked: Condvar,
    due: Condvar,
}

type Logs = Flushing<TopicPartition, Arc<Replica>>;

#[derive(Debug)]
struct Queues {
    logs: Logs,
    stopping: bool,
}

impl Flusher {
    pub(super) fn new(flushes_per_second: u32) -> Self {
        // What is appended during a sync is company enough: waiting for more only delays.
        let logs = Flushing::new(Config { flushes_per_second, linger: Duration::ZERO });
        let queues = Mutex::new(Queues { logs, stopping: false });
        Self { queues, asked: Condvar::new(), due: Condvar::new() }
    }

    /// Has `replica` flushed at once.
    pub(super) fn ask(&self, replica: &Arc<Replica>, clock: &dyn Clock) {
        if !replica.flush_asked.swap(true, Ordering::AcqRel)
            && self.queues.lock().logs.ask(replica.at, replica.clone(), clock.monotonic())
        {
            self.asked.notify_one();
        }
    }

    /// Has `replica` flushed within `delay` at the latest, unless it is due already.
    pub(super) fn later(&self, replica: &Arc<Replica>, clock: &dyn Clock, delay: Duration) {
        if !replica.flush_due.swap(true, Ordering::AcqRel) {
            let at = clock.monotonic().plus(delay);
            if self.queues.lock().logs.later(replica.at, replica.clone(), at) {
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

    /// A thread of those who ask, until stopped.
    pub(super) fn run_asked(&self, inner: &Inner) {
        while let Some(replica) = self.next(&self.asked, inner, Flushing::next_asked) {
            // Whoever appends from here on asks again: this flush may not cover it.
            replica.flush_asked.store(false, Ordering::Release);
            replica.flush_due.store(false, Ordering::Release);
            replica.flush(inner);
        }
    }

    /// The thread of those who are due, until stopped.
    pub(super) fn run_due(&self, inner: &Inner) {
        while let Some(replica) = self.next(&self.due, inner, Flushing::next_due) {
            replica.flush_due.store(false, Ordering::Release);
            replica.flush(inner);
        }
    }

    /// Waits for work; `None` when there is no more to come.
    fn next(
        &self,
        woken: &Condvar,
        inner: &Inner,
        next: fn(&mut Logs, Monotonic) -> Next<Arc<Replica>>,
    ) -> Option<Arc<Replica>> {
        let mut queues: MutexGuard<'_, Queues> = self.queues.lock();
        loop {
            if queues.stopping {
                return None;
            }
            let now = inner.clock.monotonic();
            match next(&mut queues.logs, now) {
                Next::Flush(replica) => return Some(replica),
                Next::Wait(until) => drop(woken.wait_for(&mut queues, until.since(now))),
                Next::Idle => woken.wait(&mut queues),
            }
        }
    }
}
