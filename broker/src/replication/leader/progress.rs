//! What a leader knows of one of its followers.

use rafka_model::{BrokerEpoch, Monotonic, Offset};

use super::Position;
use crate::replication::exchange::ReplicaFetch;
use crate::replication::rules::{Rule, Rules};

/// A follower as it was at its last fetch in this leader epoch.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Progress {
    /// The registration in which it fetched; `None` before its first fetch.
    pub(super) registration: Option<BrokerEpoch>,
    /// Number of its last fetch in that registration.
    request: u64,
    /// How far its log reaches; `None` until it is known to be a beginning of the leader's.
    pub(super) position: Option<Position>,
    /// When it fetched last, or this leader began.
    pub(super) heard: Monotonic,
    /// It had then everything that the leader had.
    pub(super) caught_up: Monotonic,
    /// The leader's log end at the fetch before, and when that was.
    previous: (Offset, Monotonic),
    /// The same of an earlier fetch, until the follower reaches it: tells how far it lags if it never quite arrives.
    mark: (Offset, Monotonic),
}

impl Progress {
    /// A follower that has said nothing yet. It gets the time that a lagging one has.
    pub(super) fn new(end: Offset, now: Monotonic) -> Self {
        Self {
            registration: None,
            request: 0,
            position: None,
            heard: now,
            caught_up: now,
            previous: (end, now),
            mark: (end, now),
        }
    }

    /// A fetch came; false if it is older than one that was heard.
    pub(super) fn hear(&mut self, who: &ReplicaFetch, now: Monotonic, rules: Rules) -> bool {
        if self.registration.is_some_and(|known| who.broker_epoch < known)
            && rules.hold(Rule::EarlierRegistrationsAreIgnored)
        {
            return false;
        }
        if self.registration != Some(who.broker_epoch) {
            // What it had before it may have lost.
            (self.registration, self.request, self.position) = (Some(who.broker_epoch), 0, None);
        }
        // Nobody waits for the answer. As a position it would do no harm: in one registration and epoch they only grow.
        if who.request <= self.request {
            return false;
        }
        self.request = who.request;
        self.heard = self.heard.max(now);
        true
    }

    /// Its log is a beginning of the leader's up to `position`, of which `safe` counts; the leader's ends at `end`.
    pub(super) fn reaches(&mut self, position: Position, safe: Offset, end: Offset, now: Monotonic) {
        self.position = Some(position);
        let times = [(end, now), self.previous, self.mark];
        let since = times.iter().filter(|(end, _)| safe >= *end).map(|(_, time)| *time).max();
        self.caught_up = self.caught_up.max(since.unwrap_or_default());
        if safe >= self.mark.0 {
            self.mark = (end, now);
        }
        self.previous = (end, now);
    }
}
