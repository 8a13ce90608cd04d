//! Rules of the autopilot by name. A test can switch one off, to see that the simulation notices.

/// A rule without which the metadata quorum would be lost, or never be whole. Sources: Raft (§6, membership changes),
/// Consul's and etcd's autopilots.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub enum Rule {
    /// A change waits for the end of the one before. Without: decisions rest on a set that is about to change.
    OneChangeAtATime,
    /// Neither the old nor the new set is without a majority in service. Without: the joint change can never commit, and
    /// nothing else can.
    NothingWithoutAMajority,
    /// A step never lowers the number of failures that the voters survive. Without: the next crash stops the cluster.
    NoStepCostsAFailure,
    /// Sets are odd. Without: a fourth voter raises the majority and helps nobody.
    SetsAreOdd,
    /// A learner has the log before it votes. Without: the majority counts on somebody who cannot help.
    LearnersCatchUpFirst,
    /// Once three voters existed, a learner has been in service for a while before it votes. Without: nodes that come and
    /// go get votes, and take them along.
    LearnersProveThemselves,
    /// Whoever is out of service gets no vote. Without: a dead node becomes part of the majority.
    FencedNodesGetNoVote,
    /// Gateways and draining nodes do not vote. Without: a drain ends in a lost vote.
    WhoLeavesDoesNotVote,
    /// A voter that is out for a short time keeps its vote. Without: a restart moves votes around.
    LossNeedsTime,
    /// Who brings a new rack votes first. Without: a rack's power supply stops the cluster.
    NewRacksFirst,
}

impl Rule {
    /// Every rule, for mutation runs.
    pub const ALL: &'static [Self] = &[
        Self::OneChangeAtATime,
        Self::NothingWithoutAMajority,
        Self::NoStepCostsAFailure,
        Self::SetsAreOdd,
        Self::LearnersCatchUpFirst,
        Self::LearnersProveThemselves,
        Self::FencedNodesGetNoVote,
        Self::WhoLeavesDoesNotVote,
        Self::LossNeedsTime,
        Self::NewRacksFirst,
    ];
}

/// Which of them hold.
pub type Rules = crate::rules::Rules<Rule>;
