//! Who votes in the metadata quorum: one step at a time towards 1 voter in a cluster of fewer than three nodes, 3 from
//! three on, 5 from seven on.
//!
//! The controller calls [`Autopilot::observe`] with each image and [`Autopilot::decide`] now and then, carries the step
//! out through the consensus library, and asks again. Nothing is remembered but since when nodes are in or out of service;
//! a new controller counts from its own beginning.
//!
//! Sets are odd: an even one needs one vote more and survives no failure more. So 1 grows to 3, and 3 to 5, in one joint
//! change, once enough learners are caught up. Until three voters have first existed that is all that is asked of them;
//! later a learner must have been in service for a while, too.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rafka_model::limits::{VOTER_LAG_ENTRIES_MAX, VOTER_LOST_MS, VOTER_PROVEN_MS, VOTERS_MAX};
use rafka_model::{BrokerEpoch, Monotonic, NodeId};

pub use rules::{Rule, Rules};

use crate::metadata::{Image, Node, Role};

/// What the leader of the consensus library knows of its group. Ids are those of nodes, which are never reused: not after
/// a lost disk either, which makes a new identity.
#[derive(Clone, Copy, Debug)]
pub struct Quorum<'a> {
    /// The leader itself.
    pub leader: NodeId,
    /// Voters of the committed configuration, with the last log index that each is known to have.
    pub voters: &'a BTreeMap<NodeId, u64>,
    /// Learners, in the same way.
    pub learners: &'a BTreeMap<NodeId, u64>,
    /// Index of the last entry of the leader's log.
    pub last: u64,
    /// A change of members is not committed yet, or its outcome is not known.
    pub changing: bool,
    /// Three voters have existed in this cluster.
    pub settled: bool,
}

/// The next step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Send the log to this node, without a vote.
    AddLearner(NodeId),
    /// Send this learner nothing any more.
    RemoveLearner(NodeId),
    /// Let these nodes vote, in one joint change. Voters that are not among them are out (no learners either).
    ChangeVoters(BTreeSet<NodeId>),
}

/// Why there is no step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Idle {
    /// The voters are as they should be.
    Whole,
    /// A change is under way.
    Changing,
    /// A majority of voters is out of service: nothing could be committed.
    NoMajority,
    /// Learners must catch up or prove themselves first.
    Waiting,
    /// There are not enough nodes in service.
    TooFewNodes,
}

/// The autopilot of one controller.
#[derive(Clone, Debug, Default)]
pub struct Autopilot {
    nodes: BTreeMap<NodeId, Seen>,
    rules: Rules,
}

/// Since when a node is as it is.
#[derive(Clone, Copy, Debug)]
struct Seen {
    epoch: BrokerEpoch,
    fenced: bool,
    since: Monotonic,
}

/// What may become of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// In service, for so long.
    Serves(Duration),
    /// Fenced for a short time.
    Away,
    /// Fenced for long.
    Lost,
    /// Draining, gone, or of a kind that does not vote.
    Leaves,
}

impl Autopilot {
    /// Knows nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Self::new`], for runs in which a rule does not hold.
    #[must_use]
    pub fn with_rules(rules: Rules) -> Self {
        Self { nodes: BTreeMap::new(), rules }
    }

    /// Looks who is in service. To be called with every change of the image.
    pub fn observe(&mut self, image: &Image, now: Monotonic) {
        self.nodes.retain(|id, _| image.nodes.contains_key(id));
        for node in image.nodes.values() {
            let seen = Seen { epoch: node.epoch, fenced: node.fenced, since: now };
            let known = self.nodes.entry(node.id).or_insert(seen);
            if (known.epoch, known.fenced) != (seen.epoch, seen.fenced) {
                // Whoever restarts while it is fenced is not away for a shorter time.
                let since = if known.fenced && node.fenced { known.since } else { now };
                *known = Seen { since, ..seen };
            }
        }
    }

    /// The next step.
    ///
    /// # Errors
    /// Why there is none.
    pub fn decide(&self, image: &Image, quorum: &Quorum<'_>, now: Monotonic) -> Result<Step, Idle> {
        if quorum.changing && self.rules.hold(Rule::OneChangeAtATime) {
            return Err(Idle::Changing);
        }
        let view = View { pilot: self, image, quorum, now };
        let voters: BTreeSet<NodeId> = quorum.voters.keys().copied().collect();
        let majority = view.live(&voters) * 2 > voters.len();
        if !majority && self.rules.hold(Rule::NothingWithoutAMajority) {
            return Err(Idle::NoMajority);
        }
        let target = view.target();
        let next = view.next_voters(&voters, target);
        if next != voters && view.is_better(&voters, &next, target) {
            return Ok(Step::ChangeVoters(next));
        }
        view.tend_learners(&voters, target)
    }
}

/// Everything that a decision rests on.
#[derive(Clone, Copy, Debug)]
struct View<'a> {
    pilot: &'a Autopilot,
    image: &'a Image,
    quorum: &'a Quorum<'a>,
    now: Monotonic,
}

impl View<'_> {
    fn holds(&self, rule: Rule) -> bool {
        self.pilot.rules.hold(rule)
    }

    fn standing(&self, id: NodeId) -> Standing {
        let Some((node, seen)) = self.image.nodes.get(&id).zip(self.pilot.nodes.get(&id)) else {
            return Standing::Leaves;
        };
        let time = self.now.since(seen.since);
        if !may_vote(node) && self.holds(Rule::WhoLeavesDoesNotVote) {
            Standing::Leaves
        } else if !node.fenced {
            Standing::Serves(time)
        } else if time >= Duration::from_millis(VOTER_LOST_MS) || !self.holds(Rule::LossNeedsTime) {
            Standing::Lost
        } else {
            Standing::Away
        }
    }

    /// Voters that the cluster should have: nodes count that are to stay, in service or not.
    fn target(&self) -> usize {
        match self.image.nodes.values().filter(|node| may_vote(node)).count() {
            0..3 => 1,
            3..7 => 3,
            _ => VOTERS_MAX,
        }
    }

    fn live(&self, of: &BTreeSet<NodeId>) -> usize {
        of.iter().filter(|id| self.image.nodes.get(id).is_some_and(|node| !node.fenced)).count()
    }

    /// Failures that a set survives now, if those that leave are counted as failed; negative without a majority.
    fn spare(&self, of: &BTreeSet<NodeId>) -> isize {
        let sound = of.iter().filter(|id| matches!(self.standing(**id), Standing::Serves(_))).count();
        sound.cast_signed() - (of.len() / 2 + 1).cast_signed()
    }

    fn is_sound(&self, id: NodeId) -> bool {
        matches!(self.standing(id), Standing::Serves(_) | Standing::Away)
    }

    fn is_caught_up(&self, id: NodeId) -> bool {
        let matched = self.quorum.voters.get(&id).or(self.quorum.learners.get(&id));
        matched.is_some_and(|matched| matched + VOTER_LAG_ENTRIES_MAX >= self.quorum.last)
    }

    /// May this learner vote now?
    fn is_ready(&self, id: NodeId) -> bool {
        let proven = !self.quorum.settled || !self.holds(Rule::LearnersProveThemselves);
        let served = match self.standing(id) {
            Standing::Serves(time) => proven || time >= Duration::from_millis(VOTER_PROVEN_MS),
            _ => !self.holds(Rule::FencedNodesGetNoVote),
        };
        served && (self.is_caught_up(id) || !self.holds(Rule::LearnersCatchUpFirst))
    }

    /// The best of `from`, one after the other, so that each brings a new rack if possible.
    fn choose(&self, mut from: Vec<NodeId>, chosen: &mut Vec<NodeId>, up_to: usize) {
        let time = |id: NodeId| match self.standing(id) {
            Standing::Serves(time) => time,
            _ => Duration::ZERO,
        };
        while chosen.len() < up_to {
            let new_rack = |id: NodeId| {
                let rack = |id: &NodeId| self.image.nodes.get(id).and_then(|node| node.rack.clone());
                rack(&id).is_none() || !chosen.iter().any(|other| rack(other) == rack(&id))
            };
            let rank = |id: &NodeId| (new_rack(*id) || !self.holds(Rule::NewRacksFirst), time(*id));
            // The smallest id of equals.
            let Some(best) = from.iter().rev().max_by_key(|id| rank(id)).copied() else { break };
            from.retain(|id| *id != best);
            chosen.push(best);
        }
    }

    /// Who should vote, of voters and learners that are ready.
    fn next_voters(&self, voters: &BTreeSet<NodeId>, target: usize) -> BTreeSet<NodeId> {
        let (sound, unsound): (Vec<_>, Vec<_>) = voters.iter().copied().partition(|id| self.is_sound(*id));
        let mut next: Vec<NodeId> = sound.iter().copied().filter(|id| *id == self.quorum.leader).collect();
        let (serve, away): (Vec<_>, Vec<_>) = sound
            .iter()
            .copied()
            .filter(|id| !next.contains(id))
            .partition(|id| self.image.nodes[id].fenced.eq(&false));
        self.choose(serve, &mut next, VOTERS_MAX);
        next.extend(away);
        if next.len() > target {
            let fewer: BTreeSet<_> = next[..target].iter().copied().collect();
            // A healthy set is not made smaller because a node left the cluster.
            if self.spare(&fewer) >= self.spare(voters) || !self.holds(Rule::NoStepCostsAFailure) {
                return fewer;
            }
        }
        let ready = self.quorum.learners.keys().copied().filter(|id| self.is_ready(*id)).collect();
        self.choose(ready, &mut next, target.max(sound.len()));
        // One that is lost keeps its vote until there is somebody else.
        let mut rest = unsound;
        rest.sort_by_key(|id| (self.standing(*id) == Standing::Lost, *id));
        next.extend(rest.into_iter().take(target.saturating_sub(next.len())));
        if next.len().is_multiple_of(2) && self.holds(Rule::SetsAreOdd) {
            next.pop();
        }
        next.into_iter().collect()
    }

    /// Is `next` an improvement that can be carried out, and that takes nothing away meanwhile?
    fn is_better(&self, voters: &BTreeSet<NodeId>, next: &BTreeSet<NodeId>, target: usize) -> bool {
        let live = self.live(next) * 2 > next.len() || !self.holds(Rule::NothingWithoutAMajority);
        let caught_up = next.iter().filter(|id| self.is_caught_up(**id)).count() * 2 > next.len()
            || !self.holds(Rule::LearnersCatchUpFirst);
        let as_safe = self.spare(next) >= self.spare(voters) || !self.holds(Rule::NoStepCostsAFailure);
        let unsound = |of: &BTreeSet<NodeId>| of.iter().filter(|id| !self.is_sound(**id)).count();
        let nearer = next.len().abs_diff(target) < voters.len().abs_diff(target);
        let better = nearer || unsound(next) < unsound(voters);
        !next.is_empty() && live && caught_up && as_safe && better
    }

    /// Adds the learners that are needed, and drops those that are not.
    fn tend_learners(&self, voters: &BTreeSet<NodeId>, target: usize) -> Result<Step, Idle> {
        let sound = voters.iter().filter(|id| self.is_sound(**id)).count();
        let missing = target.saturating_sub(sound);
        let learners = || self.quorum.learners.keys().copied();
        let serves = |id: &NodeId| matches!(self.standing(*id), Standing::Serves(_));
        let sound_learners = learners().filter(|id| self.is_sound(*id)).count();
        let useless = learners().find(|id| !self.is_sound(*id)).or_else(|| {
            // Who is away, or furthest behind, goes first.
            let spare = learners().filter(|_| sound_learners > missing);
            spare.min_by_key(|id| (serves(id), self.quorum.learners[id]))
        });
        if let Some(id) = useless {
            return Ok(Step::RemoveLearner(id));
        }
        if learners().filter(serves).count() < missing {
            let new = |id: &NodeId| !voters.contains(id) && !self.quorum.learners.contains_key(id);
            let open = self.image.nodes.keys().copied().filter(|id| {
                let may = matches!(self.standing(*id), Standing::Away | Standing::Lost);
                new(id) && (serves(id) || may && !self.holds(Rule::FencedNodesGetNoVote))
            });
            let open = open.collect();
            let mut chosen: Vec<_> = voters.iter().copied().filter(|id| self.is_sound(*id)).chain(learners()).collect();
            let before = chosen.len();
            self.choose(open, &mut chosen, before + 1);
            return chosen.get(before).map_or(Err(Idle::TooFewNodes), |id| Ok(Step::AddLearner(*id)));
        }
        Err(if missing > 0 { Idle::Waiting } else { Idle::Whole })
    }
}

/// Gateways and nodes that are to go do not vote.
fn may_vote(node: &Node) -> bool {
    node.role == Role::Broker && !node.draining
}

#[cfg(any(test, feature = "mutants"))]
pub mod simulation;
#[cfg(test)]
mod tests;
