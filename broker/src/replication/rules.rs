//! Rules of replication by name. A test or a simulation can switch one off, to see that it is noticed.

/// A rule without which acknowledged records would be lost, reordered, or never be served again. Each says what breaks
/// without it, and where it is from; `†` marks those of the cluster protocol that the model found needed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// † The high watermark waits for every replica that may be in the in-sync set of the controller, not only for
    /// those that surely are (KIP-497). Without: a member whose acceptance got lost is elected, and lacks records.
    MaximalIsrCounts,
    /// A member that the leader proposes to drop counts until the controller has dropped it (KIP-497). Without: the
    /// proposal gets lost, the leader dies, and the member is elected without what was committed meanwhile.
    DroppedCountUntilCommitted,
    /// † When the controller refuses a new member, the leader proposes its old set and goes on counting the member
    /// until a higher partition epoch commits (KIP-903, and our model). Without: an earlier copy of the proposal
    /// arrives late and is accepted, and the leader does not count whom the controller may elect.
    IneligibleIsNotRolledBack,
    /// † Fewer in-sync replicas than `min.insync.replicas`, by what is committed, commit nothing, and nothing is committed
    /// that an eligible leader replica lacks (KIP-966). Without: such a replica, which left while the set was large
    /// enough, is elected and lacks what consumers have read.
    MinInsyncCommits,
    /// † With `durability=fsync` a replica has what it flushed, not what it wrote (KIP-966, "unclean shutdown"). Without:
    /// records are acknowledged that a power cut takes from every replica.
    FlushedCounts,
    /// † A new member is in service, and fetched in the registration that is current (KIP-841, KIP-903). Without: a
    /// replica that came back without its records is taken in for what it had before.
    RegistrationsMatch,
    /// † A new member has everything that the leader had when it was elected (KIP-207 calls it the start of the epoch).
    /// Without: the leader does not know yet what is committed, takes in a replica that lacks some of it, and dies.
    ReachesTheElection,
    /// A new member has everything below the high watermark (Kafka's `isFollowerInSync`). Without: it is elected, and
    /// lacks records that are acknowledged.
    ReachesTheHighWatermark,
    /// † What a follower said in another leader epoch does not count (KIP-101, KIP-279). Without: the end of a log that
    /// was never compared with the leader's is taken for a part of it.
    FetchesOfThisEpochCount,
    /// A fetch of an earlier registration does not count (KIP-903). Without: the follower has lost since what it is
    /// believed to have.
    EarlierRegistrationsAreIgnored,
    /// A follower's log counts only if its last record is on the leader's (KIP-595, KIP-320). Without: logs differ
    /// below the high watermark.
    LogsAreCompared,
    /// The high watermark of a leader never falls (KIP-207). Without: a member that comes back with less takes from
    /// consumers what they have read.
    HighWatermarkNeverFalls,
    /// Until the high watermark has reached the log end at the election, reads that depend on it wait (KIP-207).
    /// Without: the offsets that consumers are told go back after an election.
    OffsetsAreKnownFirst,
    /// A leader that hears neither the controller nor any follower for a session serves nothing (lease; Gray and
    /// Cheriton 1989). Without: a leader that is cut off takes produces with acks=1 for as long as the cut lasts, and
    /// loses them all.
    SilenceEndsService,
    /// A proposal with an unknown outcome is sent again until the metadata answers (KIP-497). Without: one lost message
    /// and the in-sync set never changes again.
    UnknownOutcomesAreSentAgain,
    /// A leader that was elected uncleanly says that it has recovered, before anything else (KIP-704). Without: the
    /// controller takes nobody in.
    RecoveryIsSaid,
    /// † A follower cuts its log at the end of *its own* largest epoch up to the leader's, if that is earlier than the
    /// leader's end (KIP-279). Without: after several quick elections, records that the leader never had stay.
    OwnEpochsBoundTruncation,
    /// Epochs decide what a follower cuts off, never its high watermark (KIP-101). Without: it drops committed records
    /// that it does not know to be committed, and is elected before it has them again.
    EpochsDecideTruncation,
    /// A log that has nothing in common with an uncleanly elected leader's begins where that one does, not where it began
    /// itself (found by simulation). Without: a replica that had begun behind a log start joins the in-sync set without
    /// what the leader wrote before that, is elected, and those records are gone.
    LogsBeginWhereTheLeaderHasThem,
    /// A follower hears its leader in the current epoch only (KIP-320). Without: the answer of an earlier leader cuts off
    /// what the current one counts.
    AnswersOfThisEpochCount,
    /// † A fetcher hears only the answer to its one outstanding request. Without: an answer that comes late, or twice,
    /// cuts off what was fetched since and is counted by the leader.
    OutstandingAnswersOnly,
}

impl Rule {
    /// Every rule, for mutation runs.
    pub const ALL: &'static [Self] = &[
        Self::MaximalIsrCounts,
        Self::DroppedCountUntilCommitted,
        Self::IneligibleIsNotRolledBack,
        Self::MinInsyncCommits,
        Self::FlushedCounts,
        Self::RegistrationsMatch,
        Self::ReachesTheElection,
        Self::ReachesTheHighWatermark,
        Self::FetchesOfThisEpochCount,
        Self::EarlierRegistrationsAreIgnored,
        Self::LogsAreCompared,
        Self::HighWatermarkNeverFalls,
        Self::OffsetsAreKnownFirst,
        Self::SilenceEndsService,
        Self::UnknownOutcomesAreSentAgain,
        Self::RecoveryIsSaid,
        Self::OwnEpochsBoundTruncation,
        Self::EpochsDecideTruncation,
        Self::LogsBeginWhereTheLeaderHasThem,
        Self::AnswersOfThisEpochCount,
        Self::OutstandingAnswersOnly,
    ];
}

/// Which of them hold.
pub type Rules = crate::rules::Rules<Rule>;
