//! Replicas move (KIP-455): the new ones join the old ones, catch up, and only then do the old ones go.

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::limits::{PARTITION_REPLICAS_MAX, REASSIGNMENTS_PER_NODE_MAX};
use rafka_model::{NodeId, TopicId, TopicPartition};

use super::Controller;
use super::change::Change;
use super::command::Outcomes;
use super::rules::Rule;
use crate::metadata::{Delta, PartitionState, Role};
use crate::{ErrorCode, Failure};

impl Change<'_> {
    /// Begins a reassignment, in place of one that may be under way; `target` may be what the replicas were before it.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidReplicaAssignment`]: those that would go are the only ones with all records.
    pub(super) fn retarget(&mut self, target: Vec<NodeId>) -> Result<(), Failure> {
        let old = self.original();
        let without = |ids: &[NodeId], others: &[NodeId]| -> Vec<NodeId> {
            ids.iter().copied().filter(|id| !others.contains(id)).collect()
        };
        let (adding, removing) = (without(&target, &old), without(&old, &target));
        let dropped = without(&self.after.adding, &adding);
        let certain = |state: &PartitionState| !state.isr.is_empty() || !state.elr.is_empty();
        let (was_certain, was_led) = (certain(&self.after), self.after.leader.is_some());
        self.after.replicas = [&self.after.replicas[..], &without(&adding, &self.after.replicas)].concat();
        self.drop_replicas(&dropped);
        self.after.replicas = [&old[..], &adding].concat();
        self.elect();
        if was_certain && !certain(&self.after) || was_led && self.after.leader.is_none() {
            let text = format!("replicas {dropped:?} alone have all records; let the reassignment finish");
            return Err(Failure::new(ErrorCode::InvalidReplicaAssignment, text));
        }
        let settled = adding.is_empty() && removing.is_empty();
        (self.after.adding, self.after.removing) = (adding, removing);
        if settled {
            self.after.replicas = target;
            self.after.target.clear();
        } else {
            self.after.target = target;
            self.complete_if_due();
        }
        Ok(())
    }

    /// The replicas that the partition had before the reassignment under way.
    pub(super) fn original(&self) -> Vec<NodeId> {
        let PartitionState { replicas, adding, .. } = &self.after;
        replicas.iter().copied().filter(|id| !adding.contains(id)).collect()
    }

    /// Ends a reassignment whose target is in sync. One that was elected uncleanly recovers first: others may have more.
    pub(super) fn complete_if_due(&mut self) {
        let PartitionState { isr, target, recovering, .. } = &self.after;
        let in_sync = target.iter().all(|id| isr.contains(id)) && !recovering;
        if !self.after.is_moving() || !in_sync && self.rules.hold(Rule::ReassignmentsWaitForTheTarget) {
            return;
        }
        let target = std::mem::take(&mut self.after.target);
        let removing = std::mem::take(&mut self.after.removing);
        self.after.adding.clear();
        self.drop_replicas(&removing);
        self.after.replicas = target;
        self.ends_epoch |= self.rules.hold(Rule::RemovedReplicasEndTheEpoch);
        self.elect();
    }
}

impl Controller {
    pub(super) fn reassign(&mut self, wanted: Vec<(TopicPartition, Option<Vec<NodeId>>)>) -> Outcomes {
        let topics: BTreeSet<TopicId> = wanted.iter().map(|(at, _)| at.topic).collect();
        let one = |(at, target): (TopicPartition, Option<Vec<NodeId>>)| {
            let outcome = match target {
                Some(target) => self.check_target(at, &target).and_then(|()| self.want(at, target)),
                None => self.call_off(at),
            };
            (at, outcome)
        };
        let outcomes = wanted.into_iter().map(one).collect();
        self.begin_waiting();
        topics.into_iter().for_each(|id| self.note_replication(id));
        outcomes
    }

    fn check_target(&self, at: TopicPartition, target: &[NodeId]) -> Result<(), Failure> {
        let state = self.change(at)?.before;
        let invalid = |text: String| Err(Failure::new(ErrorCode::InvalidReplicaAssignment, text));
        if !self.replicates() {
            let text = "replication is not available in this version; replicas cannot move";
            return Err(Failure::new(ErrorCode::InvalidReplicationFactor, text));
        }
        let factor = usize::from(self.config.replication_factor_max);
        if target.is_empty() || target.len() > factor || target.len() + state.replicas.len() > PARTITION_REPLICAS_MAX {
            return invalid(format!("partition {at} cannot have {} replicas, only 1 to {factor}", target.len()));
        }
        for (i, id) in target.iter().enumerate() {
            if target[..i].contains(id) {
                return invalid(format!("partition {at} is assigned to node {id} more than once"));
            }
            let Some(node) = self.overlay().nodes.get(id).filter(|node| node.role == Role::Broker) else {
                return invalid(format!("partition {at} is assigned to node {id}, which is no broker of this cluster"));
            };
            if !state.replicas.contains(id) && (node.fenced || node.draining) {
                return invalid(format!("node {id} is out of service or being drained; it gets no new replicas"));
            }
        }
        Ok(())
    }

    /// Notes that a partition shall have other replicas; it waits for its turn, unless it is moving already.
    pub(super) fn want(&mut self, at: TopicPartition, target: Vec<NodeId>) -> Result<(), Failure> {
        let mut change = self.change(at)?;
        let old = change.original();
        let joins = |id: &&NodeId| !old.contains(id) && !change.before.adding.contains(id);
        if target == old || change.before.is_moving() && !target.iter().any(|id| joins(&id)) {
            change.retarget(target)?;
        } else {
            let goes_back = !change.before.is_moving() || change.retarget(old).is_ok();
            if goes_back {
                change.after.target = target;
            } else {
                // Those that come have what nobody else has: the others join them at once.
                change = self.change(at)?;
                change.retarget(target)?;
                self.check_room(&change)?;
            }
        }
        let changed = change.finish();
        self.automatic.remove(&at);
        self.write_change(at, changed);
        Ok(())
    }

    /// Goes back to the replicas from before the reassignment.
    pub(super) fn call_off(&mut self, at: TopicPartition) -> Result<(), Failure> {
        let mut change = self.change(at)?;
        if change.before.target.is_empty() {
            let text = format!("no reassignment of partition {at} waits or is under way");
            return Err(Failure::new(ErrorCode::NoReassignmentInProgress, text));
        }
        let original = change.original();
        change.retarget(original)?;
        let changed = change.finish();
        self.write_change(at, changed);
        Ok(())
    }

    /// Reassignments under way, by the nodes that come or go in them.
    fn busy(&self) -> BTreeMap<NodeId, usize> {
        let mut busy: BTreeMap<NodeId, usize> = BTreeMap::new();
        for state in self.journal.standing().moving.iter().filter_map(|at| self.overlay().partition(*at)) {
            state.adding.iter().chain(&state.removing).for_each(|id| *busy.entry(*id).or_default() += 1);
        }
        busy
    }

    /// Another reassignment can begin on each node that a change of one under way brings in.
    fn check_room(&self, change: &Change<'_>) -> Result<(), Failure> {
        let PartitionState { adding, removing, .. } = change.before;
        let new = change.after.adding.iter().filter(|id| !adding.contains(id) && !removing.contains(id));
        let busy = self.busy();
        let full = |id: &&NodeId| busy.get(id).is_some_and(|moves| *moves >= REASSIGNMENTS_PER_NODE_MAX);
        match new.copied().find(|id| full(&id)) {
            Some(id) if self.rules.hold(Rule::MovesAreFew) => {
                let text =
                    format!("node {id} takes part in {REASSIGNMENTS_PER_NODE_MAX} reassignments already; wait for one");
                Err(Failure::new(ErrorCode::InvalidReplicaAssignment, text))
            }
            _ => Ok(()),
        }
    }

    /// Begins reassignments that wait, in the order of their partitions, as far as none of the nodes has too many.
    pub(super) fn begin_waiting(&mut self) {
        let waiting = self.journal.standing().waiting.clone();
        if waiting.is_empty() {
            return;
        }
        let mut busy = self.busy();
        for at in waiting {
            let Ok(mut change) = self.change(at) else { continue };
            // Without a leader nobody could catch up.
            if change.before.leader.is_none() || change.retarget(change.before.target.clone()).is_err() {
                continue;
            }
            // Of a node that is dead nothing is copied.
            let (joining, leaving) = (change.after.adding.iter(), change.after.removing.iter());
            let involved: Vec<_> = joining.chain(leaving.filter(|id| change.serves(**id))).copied().collect();
            let room = |id: &NodeId| busy.get(id).copied().unwrap_or_default() < REASSIGNMENTS_PER_NODE_MAX;
            if !involved.iter().all(room) && self.rules.hold(Rule::MovesAreFew) {
                continue;
            }
            if self.rules.hold(Rule::WaitingMovesBegin) {
                involved.into_iter().for_each(|id| *busy.entry(id).or_default() += 1);
                let changed = change.finish();
                self.write_change(at, changed);
            }
        }
    }

    /// Writes down how many replicas the partitions of a topic will have, if that is the same for all and new.
    pub(super) fn note_replication(&mut self, id: TopicId) {
        let Some(topic) = self.overlay().topics.get(&id) else { return };
        let mut factors = topic.partitions.iter().map(|state| state.goal().len());
        let first = factors.next().unwrap_or_default();
        let Ok(replication_factor) = u16::try_from(first) else { return };
        if factors.all(|other| other == first) && replication_factor != topic.replication_factor {
            self.journal.write(Delta::TopicReplicationChanged { id, replication_factor });
        }
    }
}
