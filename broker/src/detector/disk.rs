//! Whether a node's disk lets it lead.

use std::collections::BTreeMap;
use std::time::Duration;

use rafka_model::Monotonic;
use rafka_model::limits::{DISK_WELL_MS, FLUSH_MS_MAX};

use super::{Rule, Rules};

/// What a disk is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiskHealth {
    /// Everything.
    Well,
    /// Too slow to lead: leaderships with another in-sync replica are to be given away.
    Slow,
    /// A sync failed: what it held cannot be trusted until it is recovered at the next start.
    Failed,
}

/// The syncs of one log directory, and what follows from them.
#[derive(Clone, Debug, Default)]
pub struct DiskWatch {
    running: BTreeMap<u64, Monotonic>,
    failed: bool,
    /// When a sync was last too slow.
    slow: Option<Monotonic>,
    rules: Rules,
}

impl DiskWatch {
    /// A disk that is well.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Self::new`], for runs in which a rule does not hold.
    #[must_use]
    pub fn with_rules(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// A sync began; `id` is one that does not run already.
    pub fn began(&mut self, id: u64, now: Monotonic) {
        self.running.insert(id, now);
    }

    /// A sync ended, or failed with an error (EIO, or any other).
    pub fn ended(&mut self, id: u64, now: Monotonic, failed: bool) {
        self.note_slow(now);
        self.running.remove(&id);
        self.failed = failed || self.failed && self.rules.hold(Rule::FailedDisksStayFailed);
    }

    /// The process slept for so long, until `now` ([`Lease::awake`](super::Lease::awake)): to be told before anything else
    /// that happens after it.
    pub fn slept(&mut self, gap: Duration, now: Monotonic) {
        if self.rules.hold(Rule::SleepIsNotTheDisksFault) {
            self.running.values_mut().for_each(|began| *began = began.plus(gap).min(now));
        }
    }

    /// What the disk is good for now. To be asked by a timer, too: a sync that never ends says nothing.
    pub fn health(&mut self, now: Monotonic) -> DiskHealth {
        self.note_slow(now);
        let well = if self.rules.hold(Rule::DisksProveThemselves) { DISK_WELL_MS } else { 0 };
        if self.failed {
            DiskHealth::Failed
        } else if self.slow.is_some_and(|slow| slow == now || now.since(slow) < Duration::from_millis(well)) {
            DiskHealth::Slow
        } else {
            DiskHealth::Well
        }
    }

    fn note_slow(&mut self, now: Monotonic) {
        if self.running.values().any(|began| now.since(*began) >= Duration::from_millis(FLUSH_MS_MAX)) {
            self.slow = Some(now);
        }
    }
}
