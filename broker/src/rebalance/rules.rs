//! Rules of rebalancing by name. A test can switch one off, to see that the simulation notices.

/// A rule without which moves would make a cluster worse, or never end.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub enum Rule {
    /// A node holds one replica of a partition at most. Without: two copies die together.
    ReplicasAreOnDistinctNodes,
    /// Replicas go to nodes in service only. Without: a move waits for a node that may never come.
    FencedNodesGetNothing,
    /// Nodes that are emptied get nothing. Without: a drain never ends.
    DrainingNodesGetNothing,
    /// No move for balance makes a partition use fewer racks. Without: a rack's power supply takes several copies along.
    RacksAreKept,
    /// A partition without a leader stays as it is. Without: its last copy is given up for one that can copy from nobody.
    LeaderlessPartitionsStay,
    /// A node within its bounds is left alone, and what is moved ends within them. Without: replicas go round for ever.
    BalancedNodesStay,
    /// What is under way is not moved a second time, unless it goes to a node that is given up. Without: data is copied
    /// twice, and an operator's reassignment is undone.
    MovesUnderWayStay,
    /// A node takes part in a few moves at once (KIP-73 rations the same by bytes). Without: copying takes the disks and
    /// links away from producers.
    MovesAreRationed,
    /// A fenced node is taken for lost after a wait. Without: a restart copies all data of a node.
    LossNeedsTime,
}

impl Rule {
    /// Every rule, for mutation runs.
    pub const ALL: &'static [Self] = &[
        Self::ReplicasAreOnDistinctNodes,
        Self::FencedNodesGetNothing,
        Self::DrainingNodesGetNothing,
        Self::RacksAreKept,
        Self::LeaderlessPartitionsStay,
        Self::BalancedNodesStay,
        Self::MovesUnderWayStay,
        Self::MovesAreRationed,
        Self::LossNeedsTime,
    ];
}

/// Which of them hold.
pub type Rules = crate::rules::Rules<Rule>;
