//! The cleaner: one thread that compacts logs, the dirtiest first, no faster than its budget allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rafka_broker::{ErrorCode, Failure};
use rafka_log::{Compaction, CompactionError, CompactionLimits};
use rafka_model::{Monotonic, RecordBatch, TopicPartition};

use super::Inner;
use super::replica::{Replica, Role};

/// A log that could not be compacted is left alone for this time.
const RETRY_MS: u64 = 5 * 60_000;
/// Reads and writes that a budget may be behind: after a pause nothing is made up for.
const BURST_MS: u64 = 100;

/// Tells the thread when to stop.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    stopping: Mutex<bool>,
    called: Condvar,
}

/// Keeps to the budget.
struct Throttle<'a> {
    inner: &'a Inner,
    replica: &'a Replica,
    /// What was moved so far is paid for then.
    paid: Monotonic,
}

impl Cleaner {
    /// Ends the thread; a round that is under way changes nothing any more.
    pub(super) fn stop(&self) {
        *self.stopping.lock() = true;
        self.called.notify_all();
    }

    /// The thread's life.
    pub(super) fn run(&self, inner: &Inner) {
        let check = Duration::from_millis(inner.config.cleaner_check_ms.max(1));
        // Logs that were looked at, and when to look again.
        let mut resting = BTreeMap::new();
        loop {
            while let Some((replica, plan)) = dirtiest(inner, &resting) {
                let rest = inner.clean(&replica, plan, check);
                resting.insert(replica.at, inner.clock.monotonic().plus(rest));
                if *self.stopping.lock() {
                    return;
                }
            }
            let now = inner.clock.monotonic();
            resting.retain(|_, until| *until > now);
            if !self.wait(check) {
                return;
            }
        }
    }

    /// Waits; false when it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        let mut stopping = self.stopping.lock();
        if !*stopping && !time.is_zero() {
            self.called.wait_for(&mut stopping, time);
        }
        !*stopping
    }
}

/// The log that needs it most: one with an overdue record, else the one of the largest dirty share.
fn dirtiest(inner: &Inner, resting: &BTreeMap<TopicPartition, Monotonic>) -> Option<(Arc<Replica>, Compaction)> {
    let (now, wall) = (inner.clock.monotonic(), inner.clock.wall());
    let mut best: Option<(Arc<Replica>, Compaction)> = None;
    let urgency = |plan: &Compaction| (plan.is_overdue(), plan.dirty_ratio_ppm(), plan.bytes());
    for replica in inner.replicas.load().values() {
        if !replica.standing().config.cleanup.compact || resting.get(&replica.at).is_some_and(|until| *until > now) {
            continue;
        }
        let Some(plan) = replica.compaction_plan(inner, wall) else { continue };
        if best.as_ref().is_none_or(|(_, other)| urgency(other) < urgency(&plan)) {
            best = Some((replica.clone(), plan));
        }
    }
    inner.counters.set_dirty_ratio(best.as_ref().map_or(0, |(_, plan)| plan.dirty_ratio_ppm()));
    best
}

impl Inner {
    /// Compacts one log; returns for how long it is to be left alone.
    fn clean(&self, replica: &Replica, plan: Compaction, check: Duration) -> Duration {
        let (topic, partition) = (&replica.topic, replica.at.partition);
        let began = self.clock.monotonic();
        let limits = CompactionLimits {
            buffer_bytes: self.config.cleaner_buffer_bytes,
            producer_expiration_ms: self.config.producer_id_expiration_ms,
        };
        let mut throttle = Throttle { inner: self, replica, paid: began };
        let retry = Duration::from_millis(RETRY_MS);
        let compacted = match plan.run(limits, &mut |bytes| throttle.go_on(bytes)) {
            Ok(compacted) => compacted,
            Err(CompactionError::Stopped | CompactionError::Overtaken) => return check,
            Err(error) => {
                self.counters.failed_compaction();
                if let CompactionError::Storage(storage) = &error
                    && storage.is_full()
                {
                    self.disk_is_full(&error);
                }
                tracing::error!(%topic, %partition, %error, "compaction failed, trying again later");
                return retry;
            }
        };
        let Some(report) = replica.apply_compaction(self, compacted, self.clock.wall()) else {
            self.counters.failed_compaction();
            return retry;
        };
        self.counters.compacted(&report, self.clock.monotonic().since(began));
        tracing::debug!(%topic, %partition, ?report, "log compacted");
        // Keys that had no room are next. Otherwise nothing new is expected before the next look.
        if report.map_was_full && report.clean_until > report.clean_from { Duration::ZERO } else { check }
    }
}

impl Throttle<'_> {
    /// Waits until `bytes` more may be moved; false if the round is not wanted any more.
    fn go_on(&mut self, bytes: u64) -> bool {
        if !matches!(self.replica.standing().role, Role::Leader(_) | Role::Follower) {
            return false;
        }
        let budget = self.inner.config.cleaner_bytes_per_second;
        let now = self.inner.clock.monotonic();
        let mut wait = Duration::ZERO;
        if let Some(nanoseconds) = (u128::from(bytes) * 1_000_000_000).checked_div(u128::from(budget)) {
            let burst = u64::try_from(Duration::from_millis(BURST_MS).as_nanos()).unwrap_or(u64::MAX);
            let from = self.paid.max(Monotonic(now.0.saturating_sub(burst)));
            self.paid = from.plus(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)));
            wait = self.paid.since(now);
        }
        self.inner.cleaner.wait(wait)
    }
}

/// A record without a key could never be told from others: compacted topics take none.
///
/// # Errors
/// A [`Failure`] for the first such record, or if the records do not decode.
pub(super) fn check_keys(batch: &RecordBatch, index: usize) -> Result<(), Failure> {
    let refused = |error| Failure::new(ErrorCode::InvalidRecord, format!("record batch {index}: {error}"));
    for (number, record) in batch.records().map_err(refused)?.enumerate() {
        if record.map_err(refused)?.key.is_none() {
            let message =
                format!("record {number} of batch {index} has no key; a topic with cleanup.policy=compact needs one");
            return Err(Failure::new(ErrorCode::InvalidRecord, message));
        }
    }
    Ok(())
}
