//! Which replicas should move, and which of these moves may begin now.
//!
//! [`plan`] looks at the cluster as it is and lists moves: away from nodes that are lost or draining, to partitions with
//! too few replicas, off racks that a partition uses twice, off nodes that hold more than their share, and leaderships by
//! another order of preference. It is a function of what it sees: whoever follows the plan and plans again gets what is
//! left of it, and nothing at the end; so nothing has to be remembered but the plan that somebody wants to watch.
//!
//! **Bounds.** Where racks allow it each node ends between ⌊0.9 × share⌋ and ⌈1.1 × share⌉ replicas and below
//! ⌈1.1 × share⌉ preferred leaders, shares being by weight; a node within them is left alone. Every move for balance takes
//! a replica from a node above its bound or gives one to a node below, and none of them pushes another node out, so their
//! number is the smallest possible wherever every pair of nodes can trade. A replica moves at most once.
//!
//! **Following a plan** is [`start`] again and again: it names the partitions whose replicas are to be reassigned now,
//! from the plan and what is under way by the image. [`progress`] says how far it is, [`cancel`] what to take back.

mod absence;
mod cluster;
mod follow;
mod planner;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::{NodeId, TopicPartition};

pub use absence::Absences;
pub use follow::{Progress, Start, Status, cancel, progress, start, start_with, status};
pub use rules::{Rule, Rules};

use crate::metadata::{Image, PartitionState};
use cluster::Cluster;

/// No plan was seen that needed more than three.
const PASSES_MAX: usize = 8;

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Nodes, topics, and what is under way.
    pub image: &'a Image,
    /// Nodes that do not come back, as far as can be told: see [`Absences`]. Replicas of nodes that are fenced for a
    /// shorter time stay.
    pub lost: &'a BTreeSet<NodeId>,
    /// Bytes of one replica of each partition, where known: by them the smaller ones are moved first, and nodes balanced
    /// as far as the bounds on numbers allow.
    pub bytes: &'a BTreeMap<TopicPartition, u64>,
}

/// Why something moves, the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub enum Why {
    /// Its node is lost.
    Lost,
    /// The partition has fewer replicas than its topic wants.
    Missing,
    /// Its node is draining.
    Draining,
    /// Another replica of the partition is on the same rack, while a rack is free.
    Rack,
    /// A node has more or fewer replicas than its share.
    Replicas,
    /// A node has more bytes than its share.
    Bytes,
    /// A node is preferred as leader more often than its share; no data moves.
    Leaders,
}

/// One change of a partition's replicas.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Move {
    /// Which partition.
    pub at: TopicPartition,
    /// Who gives its replica up, or for [`Why::Leaders`] its place as preferred leader; `None` where one is added.
    pub from: Option<NodeId>,
    /// Who gets it.
    pub to: NodeId,
    /// Why.
    pub why: Why,
    /// Data to copy.
    pub bytes: u64,
}

/// Why nothing can be done for a replica that should move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Obstacle {
    /// The partition has no leader from which another replica could copy.
    NoLeader,
    /// Every node in service has a replica of the partition already.
    NoNode,
}

/// A replica that should move and cannot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stuck {
    /// Which partition.
    pub at: TopicPartition,
    /// Where the replica is; `None` if one is missing.
    pub node: Option<NodeId>,
    /// Why it should move.
    pub why: Why,
    /// Why it cannot.
    pub obstacle: Obstacle,
}

/// What should be done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// In the order in which they should begin; those of one partition together.
    pub moves: Vec<Move>,
    /// What should be done too, and cannot.
    pub stuck: Vec<Stuck>,
}

/// What should move where. Deterministic.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> Plan {
    plan_with(situation, Rules::default())
}

/// As [`plan`], for runs in which a rule does not hold.
#[must_use]
pub fn plan_with(situation: &Situation<'_>, rules: Rules) -> Plan {
    let mut cluster = Cluster::new(situation, rules);
    let mut stuck = Vec::new();
    cluster.evacuate(&mut stuck);
    cluster.fill(&mut stuck);
    // What a later step moves may let an earlier one find more. Each pass gets closer to balance, so few are needed.
    for _ in 0..PASSES_MAX {
        if !(cluster.spread_racks() | cluster.balance_replicas() | cluster.balance_bytes()) {
            break;
        }
    }
    cluster.balance_leaders();
    Plan { moves: cluster.moves(), stuck }
}

impl Move {
    /// The replicas of the partition once this is done; `None` if the move does not fit its state (any more).
    #[must_use]
    pub fn target(&self, state: &PartitionState) -> Option<Vec<NodeId>> {
        let mut replicas = settled(state);
        self.apply(&mut replicas).then_some(replicas)
    }

    /// True if it fits.
    fn apply(&self, replicas: &mut Vec<NodeId>) -> bool {
        let place = |id: NodeId| replicas.iter().position(|other| *other == id);
        match (self.why, self.from.map(place), place(self.to)) {
            (Why::Leaders, Some(Some(0)), Some(to)) => replicas.swap(0, to),
            (Why::Leaders, ..) | (_, Some(None), _) | (_, _, Some(_)) => return false,
            (_, Some(Some(from)), None) => replicas[from] = self.to,
            (_, None, None) => replicas.push(self.to),
        }
        true
    }
}

/// The replicas of a partition once what is under way is done.
fn settled(state: &PartitionState) -> Vec<NodeId> {
    state.replicas.iter().copied().filter(|id| !state.removing.contains(id)).collect()
}

#[cfg(any(test, feature = "mutants"))]
mod samples;
#[cfg(any(test, feature = "mutants"))]
pub mod simulation;
#[cfg(test)]
mod tests;
