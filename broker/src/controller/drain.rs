//! Nodes are emptied, because an operator says so or because they are dead for long; and internal topics grow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rafka_model::limits::INTERNAL_REPLICATION_FACTOR;
use rafka_model::{Monotonic, NodeId, PartitionId, TopicId, TopicPartition};

use super::Controller;
use super::rules::Rule;
use crate::group::OFFSETS_TOPIC;
use crate::metadata::{Delta, PartitionState, Role, Topic};
use crate::placement::{Candidate, Loads, place};
use crate::{ErrorCode, Failure};

impl Controller {
    /// Whether partitions may have more than one replica.
    pub(super) fn replicates(&self) -> bool {
        self.config.replication_factor_max > 1
    }

    /// Begins or ends to empty a node; how many replicas it has.
    pub(super) fn drain(&mut self, node: NodeId, on: bool) -> Result<u32, Failure> {
        let known = self.overlay().nodes.get(&node).ok_or_else(|| unknown_node(node))?;
        if !self.replicates() {
            let text = "replication is not available in this version; replicas cannot move";
            return Err(Failure::new(ErrorCode::InvalidReplicationFactor, text));
        }
        if known.draining != on {
            self.journal.write(Delta::NodeDraining { id: node, draining: on });
            if on {
                self.change_where(|state| state.leader == Some(node), |change| change.relieve(node));
                self.replan = true;
            } else {
                self.stay(node);
            }
        }
        Ok(self.journal.standing().held(node))
    }

    /// Removes a drained node for good.
    pub(super) fn decommission(&mut self, node: NodeId) -> Result<(), Failure> {
        let known = self.overlay().nodes.get(&node).ok_or_else(|| unknown_node(node))?;
        let refuse = |text| Err(Failure::new(ErrorCode::PolicyViolation, text));
        if self.overlay().voters.contains(&node) {
            return refuse(format!("node {node} votes in the metadata quorum; let another vote in its place first"));
        }
        if !known.draining {
            return refuse(format!("node {node} is not being drained; drain it first"));
        }
        let standing = self.journal.standing();
        let comes =
            |at: &TopicPartition| self.overlay().partition(*at).is_some_and(|state| state.goal().contains(&node));
        let replicas = standing.held(node) as usize + standing.waiting.iter().filter(|at| comes(at)).count();
        if replicas > 0 && self.rules.hold(Rule::RemovedNodesHoldNothing) {
            return refuse(format!("node {node} has {replicas} replicas; wait until it is empty"));
        }
        self.journal.write(Delta::NodeRemoved { id: node });
        self.sessions.end(node);
        self.absent.remove(&node);
        self.gone.remove(&node);
        Ok(())
    }

    /// Calls off what was planned because `node` was to be emptied and has not begun.
    pub(super) fn stay(&mut self, node: NodeId) {
        let planned: Vec<_> = self.automatic.iter().filter(|(_, why)| **why == node).map(|(at, _)| *at).collect();
        for at in planned {
            self.automatic.remove(&at);
            if self.overlay().partition(at).is_some_and(PartitionState::awaits_move) {
                // What waits can always be called off.
                let _ = self.call_off(at);
            }
        }
    }

    /// Nodes that are out of service for long count as dead.
    pub(super) fn bury(&mut self, now: Monotonic) {
        let due = |since: &Monotonic| now >= self.dead_at(*since);
        let dead: Vec<_> = self.absent.iter().filter(|(_, since)| due(since)).map(|(id, _)| *id).collect();
        for id in dead {
            self.absent.remove(&id);
            self.gone.insert(id);
            self.replan = true;
        }
    }

    pub(super) fn dead_at(&self, since: Monotonic) -> Monotonic {
        since.plus(Duration::from_millis(self.config.dead_node_ms))
    }

    /// Plans the moves that empty nodes and let internal topics grow.
    pub(super) fn plan_moves(&mut self) {
        if !self.replicates() {
            return;
        }
        let nodes = self.overlay().nodes.values();
        let leaving: BTreeSet<NodeId> =
            nodes.filter(|node| node.draining || self.gone.contains(&node.id)).map(|node| node.id).collect();
        let candidates = self.candidates();
        let mut loads = self.journal.standing().loads.clone();
        let (mut plans, mut grown) = (Vec::new(), BTreeSet::new());
        for topic in self.overlay().topics.values() {
            let least = self.least_factor(topic, candidates.len());
            for (partition, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                let at = TopicPartition { topic: topic.id, partition };
                let why = state.goal().iter().find(|id| leaving.contains(id)).copied();
                if why.is_none() && state.goal().len() >= least || state.leader.is_none() {
                    continue;
                }
                let target = next_target(at, state.goal(), least, &leaving, &candidates, &loads);
                if target != state.goal() {
                    loads.remove(state.goal());
                    loads.add(&target);
                    grown.extend((target.len() != state.goal().len()).then_some(topic.id));
                    plans.push((at, target, why));
                }
            }
        }
        for (at, target, why) in plans {
            if self.rules.hold(Rule::EmptyingNodesAreReplaced) || why.is_none() {
                // Refused only while those that come now have what nobody else has: planned again when that is over.
                let _ = self.want(at, target);
                self.automatic.extend(why.map(|node| (at, node)));
            }
        }
        grown.into_iter().for_each(|id: TopicId| self.note_replication(id));
    }

    /// Nodes that may get replicas.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let serves = |fenced: bool| !fenced || !self.rules.hold(Rule::FencedNodesGetNothing);
        let stays = |draining: bool| !draining || !self.rules.hold(Rule::DrainingNodesGetNothing);
        let nodes = self.overlay().nodes.values();
        nodes
            .filter(|node| node.role == Role::Broker && node.weight_milli > 0)
            .filter(|node| serves(node.fenced) && stays(node.draining))
            .map(|node| Candidate { id: node.id, rack: node.rack.clone(), weight_milli: node.weight_milli })
            .collect()
    }

    /// Replicas that each partition of a topic should have by itself.
    fn least_factor(&self, topic: &Topic, brokers: usize) -> usize {
        let internal = topic.name.as_str() == OFFSETS_TOPIC && self.rules.hold(Rule::InternalTopicsGrow);
        let most = usize::from(INTERNAL_REPLICATION_FACTOR.min(self.config.replication_factor_max));
        if internal { most.min(brokers) } else { 0 }
    }
}

/// `goal` with others in place of those that leave, and with at least `least` nodes, as far as there are any.
fn next_target(
    at: TopicPartition,
    goal: &[NodeId],
    least: usize,
    leaving: &BTreeSet<NodeId>,
    candidates: &[Candidate],
    loads: &Loads,
) -> Vec<NodeId> {
    let racks: BTreeMap<NodeId, &str> =
        candidates.iter().filter_map(|node| Some((node.id, node.rack.as_deref()?))).collect();
    let mut target = goal.to_vec();
    let pick = |target: &[NodeId]| {
        let free = |node: &&Candidate| !target.contains(&node.id) && !leaving.contains(&node.id);
        let stay = target.iter().filter(|id| !leaving.contains(id));
        let used: BTreeSet<&str> = stay.filter_map(|id| racks.get(id).copied()).collect();
        let fresh = |node: &&Candidate| node.rack.as_deref().is_none_or(|rack| !used.contains(rack));
        let mut able: Vec<_> = candidates.iter().filter(free).filter(fresh).cloned().collect();
        if able.is_empty() {
            able = candidates.iter().filter(free).cloned().collect();
        }
        let partition = at.partition.0;
        place(at.topic, partition..partition + 1, 1, &able, loads).into_iter().flatten().next()
    };
    for i in 0..target.len() {
        if leaving.contains(&target[i])
            && let Some(id) = pick(&target)
        {
            target[i] = id;
        }
    }
    while target.len() < least
        && let Some(id) = pick(&target)
    {
        target.push(id);
    }
    target
}

fn unknown_node(node: NodeId) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, format!("node {node} is not registered"))
}
