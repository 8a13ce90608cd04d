//! Which log is synced next, and when.
//!
//! Topics with `durability=fsync` acknowledge after the sync, so theirs run at once, in the order in which they were
//! asked for: what is appended while one runs is covered by the next (group commit). All others are safe by their
//! replicas; theirs run in due time, the log that must be clean first goes first, and under a budget, so that ten thousand
//! partitions do not take the disk away from those who wait for it. A budget that is too small shows in
//! [`Flushing::overdue`]; it is not exceeded.
//!
//! The caller runs the syncs on its threads and says when a log became dirty. Everything here is O(log n).

mod rules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rafka_model::{Durability, Monotonic};

pub use rules::{Rule, Rules};

/// When the logs of a topic are synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// So many dirty bytes are synced at once (`log.flush_bytes`) …
    pub bytes_max: u64,
    /// … and so many dirty records (`flush.messages`).
    pub records_max: u64,
    /// Otherwise a log is clean again after this time.
    pub delay: Duration,
}

/// How soon a log is to be synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Urgency {
    /// As soon as there is a thread.
    Now,
    /// In this time.
    Within(Duration),
}

impl Policy {
    /// How soon a log is to be synced that has so much dirty.
    #[must_use]
    pub fn urgency(&self, dirty_bytes: u64, dirty_records: u64) -> Urgency {
        let full = dirty_bytes >= self.bytes_max || dirty_records >= self.records_max;
        if self.durability == Durability::Fsync || full { Urgency::Now } else { Urgency::Within(self.delay) }
    }
}

/// Bounds of the scheduler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// Syncs in due time that may begin in a second; those that are asked for do not count.
    pub flushes_per_second: u32,
    /// How long a sync that is asked for waits for company; zero: what comes during a sync is company enough.
    pub linger: Duration,
}

/// What a thread that syncs is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next<T> {
    /// Sync this log. It is not known here any more: when more is appended from now on, say so.
    Flush(T),
    /// Come again at this time, or when woken.
    Wait(Monotonic),
    /// Nothing is to be done until woken.
    Idle,
}

/// The dirty logs of a node, by key, each with the handle `T` that the caller syncs it by.
#[derive(Debug)]
pub struct Flushing<K, T> {
    config: Config,
    entries: BTreeMap<K, Entry<T>>,
    /// In the order of asking, each with the end of its linger.
    asked: VecDeque<(Monotonic, K)>,
    due: BTreeSet<(Monotonic, K)>,
    /// The budget allows nothing before.
    not_before: Monotonic,
    rules: Rules,
}

#[derive(Debug)]
struct Entry<T> {
    handle: T,
    asked: bool,
    due: Option<Monotonic>,
}

impl<K: Copy + Ord, T: Clone> Flushing<K, T> {
    /// No log is dirty.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_rules(config, Rules::default())
    }

    /// As [`Self::new`], for runs in which a rule does not hold.
    #[must_use]
    pub fn with_rules(config: Config, rules: Rules) -> Self {
        let not_before = Monotonic::default();
        Self { config, entries: BTreeMap::new(), asked: VecDeque::new(), due: BTreeSet::new(), not_before, rules }
    }

    /// Has a log synced at once. True if a thread should be woken: it was not asked for already.
    pub fn ask(&mut self, key: K, handle: T, now: Monotonic) -> bool {
        let entry = self.entries.entry(key).or_insert(Entry { handle: handle.clone(), asked: false, due: None });
        entry.handle = handle;
        if std::mem::replace(&mut entry.asked, true) {
            return false;
        }
        self.asked.push_back((now.plus(self.config.linger), key));
        true
    }

    /// Has a log synced by `deadline`, or earlier if that was said before. True if the thread should be woken: nothing is
    /// due sooner.
    pub fn later(&mut self, key: K, handle: T, deadline: Monotonic) -> bool {
        let entry = self.entries.entry(key).or_insert(Entry { handle: handle.clone(), asked: false, due: None });
        entry.handle = handle;
        match entry.due {
            Some(due) if due <= deadline && self.rules.hold(Rule::DeadlinesStand) => return false,
            Some(due) => drop(self.due.remove(&(due, key))),
            None => {}
        }
        entry.due = Some(deadline);
        self.due.insert((deadline, key));
        self.due.first() == Some(&(deadline, key))
    }

    /// For the threads of those that are asked for. What it hands out is not due any more either.
    pub fn next_asked(&mut self, now: Monotonic) -> Next<T> {
        let Some((ready, key)) = self.asked.front().copied() else { return Next::Idle };
        let budget = if self.rules.hold(Rule::WhoeverWaitsIsNotRationed) { now } else { self.not_before };
        let ready = ready.max(budget);
        if ready > now {
            return Next::Wait(ready);
        }
        self.asked.pop_front();
        let Some(entry) = self.entries.remove(&key) else { return Next::Idle };
        if let Some(due) = entry.due {
            self.due.remove(&(due, key));
        }
        self.spend(now, Rule::WhoeverWaitsIsNotRationed);
        Next::Flush(entry.handle)
    }

    /// For the thread of those that are due.
    pub fn next_due(&mut self, now: Monotonic) -> Next<T> {
        let chosen = match self.rules.hold(Rule::TheMostOverdueGoesFirst) {
            true => self.due.first(),
            false => self.due.iter().rfind(|(due, _)| *due <= now).or(self.due.first()),
        };
        let Some((due, key)) = chosen.copied() else { return Next::Idle };
        let budget = if self.rules.hold(Rule::TheBudgetIsKept) { self.not_before } else { now };
        let ready = due.max(budget);
        if ready > now {
            return Next::Wait(ready);
        }
        self.due.remove(&(due, key));
        self.not_before = now.plus(self.spacing());
        let Some(entry) = self.entries.get_mut(&key) else { return Next::Idle };
        let handle = entry.handle.clone();
        if !entry.asked && self.rules.hold(Rule::WhatIsTakenIsForgotten) {
            self.entries.remove(&key);
        } else if self.rules.hold(Rule::WhatIsTakenIsForgotten) {
            entry.due = None;
        }
        Next::Flush(handle)
    }

    /// Forgets a log, which is closed or gone.
    pub fn remove(&mut self, key: K) {
        let Some(entry) = self.entries.remove(&key) else { return };
        if let Some(due) = entry.due {
            self.due.remove(&(due, key));
        }
        if entry.asked {
            self.asked.retain(|(_, asked)| *asked != key);
        }
    }

    /// How long the log that should have been clean first has been waiting since: the budget is too small if this stays
    /// above a second.
    #[must_use]
    pub fn overdue(&self, now: Monotonic) -> Duration {
        self.due.first().map(|(due, _)| now.since(*due)).unwrap_or_default()
    }

    /// Logs that wait for a sync.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if no log waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn spacing(&self) -> Duration {
        Duration::from_secs(1) / self.config.flushes_per_second.max(1)
    }

    /// Without the rule, whoever is asked for counts against the budget.
    fn spend(&mut self, now: Monotonic, unless: Rule) {
        if !self.rules.hold(unless) {
            self.not_before = now.plus(self.spacing());
        }
    }
}

#[cfg(any(test, feature = "mutants"))]
pub mod simulation;
#[cfg(test)]
mod tests;
