//! Rules of the controller by name. A test can switch one off, to see that the simulation notices.

/// A rule without which the cluster would go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
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

/// Which rules hold: all of them, outside tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    #[cfg(test)]
    pub(super) broken: Option<Rule>,
}

impl Rules {
    #[cfg(test)]
    pub(super) fn hold(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    #[cfg(not(test))]
    pub(super) fn hold(self, _: Rule) -> bool {
        true
    }
}
