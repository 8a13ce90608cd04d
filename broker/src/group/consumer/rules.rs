//! Rules of KIP-848 by name. A test can switch one off, to see that the simulation notices.

/// A rule without which a partition would have two owners, or members be stuck.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// A partition is given when nobody has it, not before.
    PartitionsAreReleasedFirst,
    /// What a member has to give back is its until it says that it has it no more.
    RevocationsAreConfirmed,
    /// A member of an old epoch is fenced.
    OldEpochsAreFenced,
    /// The epoch before is taken once more: the answer that told of the new one may be lost.
    LostAnswersAreForgiven,
    /// Who gives nothing back in time is fenced.
    RevocationsEnd,
    /// What is to be given back is written down with the rest.
    RevocationsSurvive,
    /// Who is silent is fenced.
    SessionsEnd,
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
