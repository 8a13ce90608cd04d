//! Rules of coordination by name. A test can switch one off, to see that the simulation notices.

/// A rule without which partitions would have two owners, offsets go back, or members wait for ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// Whoever shows another generation than the group's is refused.
    GenerationsAreChecked,
    /// Who is not in the group is refused.
    MembersAreChecked,
    /// A static member that was replaced is refused.
    OldInstancesAreFenced,
    /// A group without members begins its next generation with a higher number, also elsewhere.
    EmptyGenerationsAreStored,
    /// An assignment is in the log before anybody hears of it.
    AssignmentsAreStored,
    /// Members that are silent leave the group.
    SessionsEnd,
    /// Members that do not ask for their assignment leave the group.
    LateSyncsAreLeftBehind,
    /// A leader that comes again begins a generation.
    LeadersBeginGenerations,
    /// Sessions go on after the log was read.
    SessionsBeginAgain,
    /// KIP-848: a partition is given when nobody has it, not before.
    PartitionsAreReleasedFirst,
    /// KIP-848: what a member has to give back is its until it says that it has it no more.
    RevocationsAreConfirmed,
    /// KIP-848: a member of an old epoch is fenced.
    OldEpochsAreFenced,
    /// KIP-848: the epoch before is taken once more, as the answer that told of the new one may be lost.
    LostAnswersAreForgiven,
    /// KIP-848: who gives nothing back in time is fenced.
    RevocationsEnd,
    /// KIP-848: another epoch is in the log before what it is for, so that no change is half known.
    EpochsAreStoredFirst,
}

/// Which of them hold.
pub(super) type Rules = crate::rules::Rules<Rule>;
