//! Rules of idempotence by name. A test can switch one off, to see that the simulation notices.

/// A rule without which records would be lost, doubled or swapped, or producers be stuck.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// A batch that is in the log is known by its sequence numbers.
    RepetitionsAreRecognised,
    /// As many batches are known as a producer may have under way.
    SeveralBatchesAreKept,
    /// A batch begins where the one before ended.
    SequencesFollow,
    /// 0 follows the largest sequence number.
    SequencesWrap,
    /// The first batch of another epoch has sequence number 0.
    EpochsBeginAtZero,
    /// What an older epoch sends is refused.
    OldEpochsAreFenced,
    /// A snapshot has all batches that are known, not only the last.
    SnapshotsHoldAllBatches,
}

impl Rule {
    /// Every rule, for mutation runs.
    pub const ALL: &'static [Self] = &[
        Self::RepetitionsAreRecognised,
        Self::SeveralBatchesAreKept,
        Self::SequencesFollow,
        Self::SequencesWrap,
        Self::EpochsBeginAtZero,
        Self::OldEpochsAreFenced,
        Self::SnapshotsHoldAllBatches,
    ];
}

/// Which of them hold.
pub(super) type Rules = crate::rules::Rules<Rule>;
