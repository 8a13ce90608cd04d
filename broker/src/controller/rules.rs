//! Rules of the controller by name. A test can switch one off, to see that the simulation notices.

/// A rule without which acknowledged records would be lost, or the cluster would otherwise go wrong. Each says what breaks
/// without it, and where it is from; `†` marks those of the cluster protocol that the model found needed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub enum Rule {
    /// A fenced node loses its leaderships and its places in in-sync sets before the entry that fences it ends (KIP-631).
    /// Without: partitions wait for a node that is not there.
    FencedNodesLeadNothing,
    /// A node that comes into service leads what nobody else can lead. Without: its partitions stay without a leader.
    UnfencedNodesLeadAgain,
    /// A new leader has a new leader epoch (KIP-101). Without: two leaders in one epoch.
    ElectionsBumpTheLeaderEpoch,
    /// A change of a partition has a new partition epoch (KIP-497). Without: proposals rest on a state that is gone.
    ChangesBumpThePartitionEpoch,
    /// Two registrations never share an index. Without: two nodes of one epoch.
    OneRegistrationPerEntry,
    /// New partitions go to nodes in service only. Without: partitions are born without a leader.
    FencedNodesGetNothing,
    /// What an older registration says is refused (KIP-631). Without: a zombie keeps its successor's session alive.
    StaleEpochsAreRefused,
    /// A second process with the identity of a live one is refused. Without: two processes write one identity's log.
    LiveIdentitiesAreUnique,
    /// Silence ends a session (KIP-631). Without: partitions of a dead node stay without a leader.
    SilentNodesAreFenced,
    /// A block of producer ids is written down before it is given out (KIP-730). Without: two producers of one id.
    ProducerIdsAreWrittenDown,
    /// An alteration rests on the latest state of the partition (KIP-497). Without: it brings back who was taken out since.
    AlterationsRestOnTheLatestState,
    /// † Who joins the in-sync set is in service, in the registration in which it fetched (KIP-841, KIP-903). Without: a
    /// replica joins that has lost its log since.
    IneligibleReplicasAreRefused,
    /// Every alteration has a new partition epoch, also one that changes nothing. Without: a leader never learns that a
    /// proposal of unknown outcome is void, and waits for the replicas it named for ever.
    AlterationsAlwaysCount,
    /// † Who leaves an in-sync set that becomes too small to commit stays eligible (KIP-966). Without: the partition is
    /// offline though a replica with all records is in service.
    LeaversStayEligible,
    /// † An in-sync set that is large enough to commit has no eligible replicas beside it (KIP-966). Without: one is elected
    /// that lacks what was committed since it left.
    EnoughInSyncEndsEligibility,
    /// A smaller `min.insync.replicas` ends eligibility where enough are in sync by it (KIP-966). Without: as above.
    LesserMinimumEndsEligibility,
    /// † A replica that lost what was not flushed is neither in sync nor eligible (KIP-966). Without: it is elected, and
    /// lacks records. A sole replica is exempt: nobody knows more than it does.
    UncleanReplicasAreExcluded,
    /// A sole replica that lost what was not flushed may lead. Without: a topic of one replica is gone after a power cut.
    SoleReplicasStayEligible,
    /// A new data directory holds no record, and a memory engine none from before its process. Without: an empty replica is
    /// elected.
    NewDirectoriesHoldNothing,
    /// A replica that could not be recovered is neither in sync nor eligible. Without: an empty replica is elected.
    FailedReplicasAreExcluded,
    /// A failed replica begins anew in a new leader epoch. Without: its leader believes in what it fetched before, and brings
    /// it back into the in-sync set empty.
    FailedReplicasBeginAnEpoch,
    /// Only who has every committed record is elected, unless the topic or an operator asks for less. Without: acknowledged
    /// records are lost without anyone's wish.
    UncleanElectionsAreAskedFor,
    /// A leader that was elected uncleanly is marked until it has recovered (KIP-704). Without: it serves as if nothing had
    /// happened.
    UncleanLeadersRecover,
    /// A balanced recovery elects the log of the latest epoch and the greatest end, once all that were in sync last have
    /// answered (KIP-966). Without: it loses more than it must.
    RecoveriesHearEveryone,
    /// An answer for a recovery counts in the registration that was asked only. Without: a replica is elected for a log
    /// that it no longer has.
    RecoveriesHearTheLiving,
    /// A reassignment is done when every replica of its target is in sync (KIP-455). Without: the old replicas are dropped
    /// while they alone have the records.
    ReassignmentsWaitForTheTarget,
    /// An election that leaves nobody in sync but the target ends the reassignment (found by simulation). Without: nobody
    /// proposes that set again, and the old replicas stay for ever.
    ElectionsEndReassignments,
    /// Replicas that go end the leader epoch. Without: one that comes back empty is believed to have what it had.
    RemovedReplicasEndTheEpoch,
    /// Few reassignments touch one node at a time. Without: moving data starves producers.
    MovesAreFew,
    /// A reassignment that waited begins when there is room. Without: it never does.
    WaitingMovesBegin,
    /// A node that is being drained gets no replicas and leads nothing that another could. Without: it is never empty.
    DrainingNodesGetNothing,
    /// Replicas of a node that is drained, or dead for long, move. Without: a partition stays short of a replica.
    EmptyingNodesAreReplaced,
    /// A node with replicas is not removed. Without: partitions name a node that does not exist.
    RemovedNodesHoldNothing,
    /// Feature levels only grow, and only to what every node in service knows. Without: a node misreads what others write.
    FeaturesAreKnownToAll,
    /// A node that does not know the cluster's feature level stays out. Without: as above.
    OldProgramsStayOut,
    /// Leaderships return to the preferred replicas. Without: after a few restarts one node leads everything.
    PreferredLeadersReturn,
    /// Internal topics grow to three replicas as brokers join. Without: groups hang on one node.
    InternalTopicsGrow,
}

impl Rule {
    /// Every rule, for mutation runs.
    pub const ALL: &'static [Self] = &[
        Self::FencedNodesLeadNothing,
        Self::UnfencedNodesLeadAgain,
        Self::ElectionsBumpTheLeaderEpoch,
        Self::ChangesBumpThePartitionEpoch,
        Self::OneRegistrationPerEntry,
        Self::FencedNodesGetNothing,
        Self::StaleEpochsAreRefused,
        Self::LiveIdentitiesAreUnique,
        Self::SilentNodesAreFenced,
        Self::ProducerIdsAreWrittenDown,
        Self::AlterationsRestOnTheLatestState,
        Self::IneligibleReplicasAreRefused,
        Self::AlterationsAlwaysCount,
        Self::LeaversStayEligible,
        Self::EnoughInSyncEndsEligibility,
        Self::LesserMinimumEndsEligibility,
        Self::UncleanReplicasAreExcluded,
        Self::SoleReplicasStayEligible,
        Self::NewDirectoriesHoldNothing,
        Self::FailedReplicasAreExcluded,
        Self::FailedReplicasBeginAnEpoch,
        Self::UncleanElectionsAreAskedFor,
        Self::UncleanLeadersRecover,
        Self::RecoveriesHearEveryone,
        Self::RecoveriesHearTheLiving,
        Self::ReassignmentsWaitForTheTarget,
        Self::ElectionsEndReassignments,
        Self::RemovedReplicasEndTheEpoch,
        Self::MovesAreFew,
        Self::WaitingMovesBegin,
        Self::DrainingNodesGetNothing,
        Self::EmptyingNodesAreReplaced,
        Self::RemovedNodesHoldNothing,
        Self::FeaturesAreKnownToAll,
        Self::OldProgramsStayOut,
        Self::PreferredLeadersReturn,
        Self::InternalTopicsGrow,
    ];
}

/// Which of them hold.
pub type Rules = crate::rules::Rules<Rule>;
