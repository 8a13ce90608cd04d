//! Rules of the flush scheduler by name. A test can switch one off, to see that the simulation notices.

/// A rule without which records would stay unsafe for too long, or the disk be overrun.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub enum Rule {
    /// A log that becomes dirty again keeps the deadline it had. Without: a log that is written to all the time is never
    /// synced, and a power loss takes all of it.
    DeadlinesStand,
    /// Whoever should have been clean first is synced first (earliest deadline first). Without: under load the same logs
    /// win again and again and others starve.
    TheMostOverdueGoesFirst,
    /// Syncs in due time begin no faster than the budget. Without: ten thousand dirty logs fill the disk's queue, and
    /// whoever waits for an acknowledgement waits behind them.
    TheBudgetIsKept,
    /// Syncs that somebody waits for run at once, whatever the budget. Without: an acknowledgement waits for strangers.
    WhoeverWaitsIsNotRationed,
    /// A log is forgotten before its sync begins, so that what is appended meanwhile queues it again. Without: that is
    /// never synced.
    WhatIsTakenIsForgotten,
}

impl Rule {
    /// Every rule, for mutation runs.
    pub const ALL: &'static [Self] = &[
        Self::DeadlinesStand,
        Self::TheMostOverdueGoesFirst,
        Self::TheBudgetIsKept,
        Self::WhoeverWaitsIsNotRationed,
        Self::WhatIsTakenIsForgotten,
    ];
}

/// Which of them hold.
pub type Rules = crate::rules::Rules<Rule>;
