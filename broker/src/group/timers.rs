//! Alarms of a coordinator, sorted by time.
//!
//! An alarm may ring early: who set it keeps the true deadline and sets it again. So a heartbeat only moves its
//! member's deadline and touches nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rafka_model::Monotonic;

/// What an alarm is for.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(super) enum Alarm {
    /// A member's session.
    Session(Arc<str>, Arc<str>),
    /// A member id that was given out and not used yet.
    Pending(Arc<str>, Arc<str>),
    /// A group's rebalance: the wait for joins, or for the assignment.
    Rebalance(Arc<str>),
    /// Something in a group of KIP-848.
    Consumer(Arc<str>),
}

impl Alarm {
    /// The group that it is for.
    pub(super) fn group(&self) -> &Arc<str> {
        let (Self::Session(group, _) | Self::Pending(group, _) | Self::Rebalance(group) | Self::Consumer(group)) = self;
        group
    }
}

/// Alarms by time; of each at most one.
#[derive(Debug)]
pub(super) struct Timers<A = Alarm> {
    queue: BTreeSet<(Monotonic, A)>,
    set: BTreeMap<A, Monotonic>,
}

impl<A> Default for Timers<A> {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), set: BTreeMap::new() }
    }
}

impl<A: Clone + Ord> Timers<A> {
    /// Rings `alarm` at `at`, or earlier if it was set to earlier.
    pub(super) fn set(&mut self, alarm: A, at: Monotonic) {
        match self.set.get(&alarm) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => drop(self.queue.remove(&(*later, alarm.clone()))),
            None => {}
        }
        self.queue.insert((at, alarm.clone()));
        self.set.insert(alarm, at);
    }

    /// Takes an alarm back.
    pub(super) fn clear(&mut self, alarm: &A) {
        if let Some((alarm, at)) = self.set.remove_entry(alarm) {
            self.queue.remove(&(at, alarm));
        }
    }

    /// An alarm that rings by `now`, taken out.
    pub(super) fn ring(&mut self, now: Monotonic) -> Option<A> {
        self.queue.first().filter(|(at, _)| *at <= now)?;
        let (_, alarm) = self.queue.pop_first()?;
        self.set.remove(&alarm);
        Some(alarm)
    }

    /// When the next alarm rings.
    pub(super) fn next(&self) -> Option<Monotonic> {
        self.queue.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_ring_in_order_of_time_and_the_earlier_setting_stays() {
        let alarm = |group: &str| Alarm::Rebalance(group.into());
        let mut timers = Timers::default();
        timers.set(alarm("a"), Monotonic(20));
        timers.set(alarm("a"), Monotonic(30));
        timers.set(alarm("b"), Monotonic(25));
        timers.set(alarm("b"), Monotonic(10));
        timers.set(alarm("c"), Monotonic(5));
        timers.clear(&alarm("c"));
        assert_eq!(timers.next(), Some(Monotonic(10)));
        assert_eq!(timers.ring(Monotonic(9)), None);
        assert_eq!(timers.ring(Monotonic(50)), Some(alarm("b")));
        assert_eq!(timers.ring(Monotonic(50)), Some(alarm("a")));
        assert_eq!(timers.ring(Monotonic(50)), None);
    }
}
