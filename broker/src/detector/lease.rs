//! How long a node may believe that the controller has not fenced it.

use std::time::Duration;

use rafka_model::Monotonic;
use rafka_model::limits::SLEEP_MS_MIN;

use super::{Rule, Rules};

/// A node's belief in its own registration. Time is of a clock that goes on while the machine is suspended
/// (`CLOCK_BOOTTIME`); another one does not see the sleep.
///
/// Ask [`Lease::holds`] with the time of now before every answer that only a leader may give: after a sleep the first
/// thread that wakes may be the one that answers, long before any timer is due.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    session: Duration,
    /// When the latest heartbeat was sent that was answered.
    confirmed: Option<Monotonic>,
    /// When anything was last seen to go on.
    awake: Monotonic,
    rules: Rules,
}

impl Lease {
    /// No heartbeat was answered yet. `session` is the controller's.
    #[must_use]
    pub fn new(session: Duration, now: Monotonic) -> Self {
        Self::with_rules(session, now, Rules::default())
    }

    /// As [`Self::new`], for runs in which a rule does not hold.
    #[must_use]
    pub fn with_rules(session: Duration, now: Monotonic, rules: Rules) -> Self {
        Self { session, confirmed: None, awake: now, rules }
    }

    /// The controller accepted the heartbeat that was sent at `sent`.
    pub fn answered(&mut self, sent: Monotonic, now: Monotonic) {
        let from = if self.rules.hold(Rule::LeasesCountFromTheSending) { sent } else { now };
        let before = self.confirmed.filter(|_| self.rules.hold(Rule::LeasesDoNotGoBack));
        self.confirmed = Some(before.map_or(from, |before| before.max(from)));
    }

    /// The controller cannot have ended the session for silence yet.
    #[must_use]
    pub fn holds(&self, now: Monotonic) -> bool {
        self.confirmed.is_some_and(|confirmed| now.since(confirmed) < self.session)
    }

    /// Until when [`Self::holds`].
    #[must_use]
    pub fn ends(&self) -> Option<Monotonic> {
        self.confirmed.map(|confirmed| confirmed.plus(self.session))
    }

    /// To be called by a timer, several times a second: how long the process slept, if it did. Then a heartbeat is due at
    /// once, and what was measured by time meanwhile means nothing.
    pub fn awake(&mut self, now: Monotonic) -> Option<Duration> {
        let gap = now.since(self.awake);
        self.awake = self.awake.max(now);
        (gap >= Duration::from_millis(SLEEP_MS_MIN)).then_some(gap)
    }
}
