//! Rules of replication by name. A test or a simulation can switch one off, to see that it is noticed.

/// A rule without which acknowledged records would be lost, reordered, or never be served again. Each says what breaks
/// without it, and where it is from; `†` marks those of the cluster protocol that the model found needed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub enum Rule {
    /// † The high watermark waits for every replica that may be in the in-sync set of the controller, not only for
    /// those that surely are (KIP-497). Without: a member whose acceptance got lost is elected, and lacks records.
    MaximalIsrCounts,
}

impl Rule {
    /// Every rule, for mutation runs.
    pub const ALL: &'static [Self] = &[Self::MaximalIsrCounts];
}

/// Which of them hold.
pub type Rules = crate::rules::Rules<Rule>;
