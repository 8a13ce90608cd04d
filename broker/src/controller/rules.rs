//! Rules of the controller by name. A test can switch one off, to see that the simulation notices.

/// A rule without which the cluster would go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// A fenced node loses its leaderships before the entry that fences it ends.
    FencedNodesLeadNothing,
    /// A node that comes into service leads what nobody else can lead.
    UnfencedNodesLeadAgain,
    /// A new leader has a new leader epoch.
    ElectionsBumpTheLeaderEpoch,
    /// A change of a partition has a new partition epoch.
    ChangesBumpThePartitionEpoch,
    /// Two registrations never share an index.
    OneRegistrationPerEntry,
    /// New partitions go to nodes in service only.
    FencedNodesGetNothing,
    /// Heartbeats of an older registration are refused.
    StaleEpochsAreRefused,
    /// A second process with the identity of a live one is refused.
    LiveIdentitiesAreUnique,
    /// Silence ends a session.
    SilentNodesAreFenced,
    /// A block of producer ids is written down before it is given out.
    ProducerIdsAreWrittenDown,
}

/// Which of them hold.
pub type Rules = crate::rules::Rules<Rule>;
