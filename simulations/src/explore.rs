//! Everything that can happen to three replicas of one partition, within bounds: a breadth-first search over the very
//! machines that nodes run ([`rafka_broker::replication`], [`rafka_broker::controller`]).
//!
//! The seeded simulator ([`crate::seeds`]) tries long schedules by chance; this tries all short ones. A log is a list of
//! records here, the network a set of messages that arrive in any order, late, twice or never, and the quorum a list of
//! images that each node reads at its own pace. After each action the invariants of the cluster protocol are checked, and
//! whenever nothing is left to happen, that the partition heals.
//!
//! What is left out, on purpose: time is no value but an action (a follower lags, a request is given up), records are
//! appended one at a time with acks=all, a high watermark is forgotten with its process, there is no retention. A fetch
//! that would tell neither side anything new is not sent, unless it is one of those that are repeated. Of most fetches the
//! request and the answer arrive at once; [`Bounds::delays`] of them take their time.

mod bounds;
mod check;
mod control;
mod describe;
mod fingerprint;
mod log;
mod node;
mod search;
mod settle;
mod world;

pub use bounds::{Bounds, Profile};
pub use search::{Broken, Progress};

use crate::seeds::Mutant;

/// What an exploration found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Within which bounds.
    pub bounds: Bounds,
    /// The rule that did not hold.
    pub without: Option<Mutant>,
    /// How far it got.
    pub progress: Progress,
    /// All states within the bounds were seen.
    pub complete: bool,
    /// The shortest way to a broken invariant.
    pub way: Option<Way>,
}

/// A way to a broken invariant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Way {
    /// What happened, in order, each with the state after it.
    pub steps: Vec<String>,
    /// What broke.
    pub broken: Broken,
}

/// Explores `bounds`; `told` hears of the progress.
#[must_use]
pub fn explore(bounds: &Bounds, without: Option<Mutant>, told: &mut dyn FnMut(&Progress)) -> Report {
    let mut universe = world::Universe::new(*bounds, without);
    let found = search::search(&mut universe, bounds.states_max, told);
    let way = found.broken.map(|(actions, broken)| Way { steps: describe::steps(&mut universe, &actions), broken });
    Report { bounds: *bounds, without, progress: found.progress, complete: found.complete, way }
}

/// The rules of the machines that are explored.
pub fn rules() -> impl Iterator<Item = Mutant> {
    let machines = rafka_broker::replication::Rule::ALL.iter().copied().map(Mutant::Replication);
    machines.chain(rafka_broker::controller::Rule::ALL.iter().copied().map(Mutant::Controller))
}

#[cfg(test)]
mod tests;
