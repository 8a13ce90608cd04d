//! Rules of failure detection by name. A test can switch one off, to see that the simulation notices.

/// A rule without which a live node would be fenced, or answer although it is fenced.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub enum Rule {
    /// Two members saw it, in a cluster that has two to see it. Without: one bad link takes a node out of service again
    /// and again.
    TwoMembersAgree,
    /// One of them is the controller, by a dial of its own. Without: a member that is cut off with others fences the rest.
    OwnProbeIsOne,
    /// No answer is no sign. Without: a slow disk or a full link looks like a death, and load moves to the next node.
    SilenceProvesNothing,
    /// A heartbeat makes void what was said before. Without: signs of different faults add up.
    HeartbeatsVoidReports,
    /// What was said of an older registration is void. Without: a node that restarted is fenced for its former life.
    RegistrationsVoidReports,
    /// Signs count together if they are of the same moment. Without: as for heartbeats, where those are lost.
    ReportsExpire,
    /// Only members in service are believed. Without: whoever is cut off has a say.
    MembersReport,
    /// A lease counts from when the heartbeat was sent, not from its answer (Gray and Cheriton, 1989). Without: an answer
    /// that was slow makes a lease that ends after the controller's session.
    LeasesCountFromTheSending,
    /// Of several answers the latest heartbeat counts. Without: an answer that was overtaken ends a lease early.
    LeasesDoNotGoBack,
    /// A sync that was under way while the process slept is not slow. Without: every pause costs all leaderships.
    SleepIsNotTheDisksFault,
    /// A disk that was slow is trusted again after it was well for a while. Without: leaderships go back and forth.
    DisksProveThemselves,
    /// A disk that failed is not trusted any more (fsync reports an error once). Without: what was lost is acknowledged.
    FailedDisksStayFailed,
}

impl Rule {
    /// Every rule, for mutation runs.
    pub const ALL: &'static [Self] = &[
        Self::TwoMembersAgree,
        Self::OwnProbeIsOne,
        Self::SilenceProvesNothing,
        Self::HeartbeatsVoidReports,
        Self::RegistrationsVoidReports,
        Self::ReportsExpire,
        Self::MembersReport,
        Self::LeasesCountFromTheSending,
        Self::LeasesDoNotGoBack,
        Self::SleepIsNotTheDisksFault,
        Self::DisksProveThemselves,
        Self::FailedDisksStayFailed,
    ];
}

/// Which of them hold.
pub type Rules = crate::rules::Rules<Rule>;
