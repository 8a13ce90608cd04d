//! The controller of one partition, in a few lines: every state that it ever committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_model::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};

use crate::ErrorCode;
use crate::metadata::PartitionState;
use crate::replication::samples::{A, B, ME};
use crate::replication::{AlterPartition, Members};

pub(super) const MIN_INSYNC: u32 = 2;
pub(super) const REPLICAS: [NodeId; 3] = [ME, A, B];

/// What one entry of the metadata left behind.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) state: PartitionState,
    pub(super) members: Members,
    /// By node, out of service too.
    pub(super) registrations: BTreeMap<NodeId, BrokerEpoch>,
}

#[derive(Clone, Debug)]
pub(super) struct Controller {
    pub(super) log: Vec<Entry>,
}

impl Controller {
    pub(super) fn new() -> Self {
        let registrations: BTreeMap<_, _> = REPLICAS.iter().map(|id| (*id, BrokerEpoch(id.0))).collect();
        let state = PartitionState {
            replicas: REPLICAS.to_vec(),
            leader: Some(ME),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            isr: REPLICAS.to_vec(),
            ..PartitionState::default()
        };
        Self { log: vec![Entry { state, members: Arc::new(registrations.clone()), registrations }] }
    }

    pub(super) fn last(&self) -> &Entry {
        self.log.last().expect("one at least")
    }

    pub(super) fn serves(&self, node: NodeId) -> bool {
        self.last().members.contains_key(&node)
    }

    /// Commits what became of `entry`: a new in-sync set, with the eligible replicas and the leader that follow from it.
    fn commit(&mut self, mut entry: Entry, isr: Vec<NodeId>, unclean: Option<NodeId>) {
        let before = &self.last().state;
        let state = &mut entry.state;
        let enough = isr.len() >= MIN_INSYNC as usize;
        let eligible = before.elr.iter().chain(&before.isr).filter(|id| !isr.contains(id) && Some(**id) != unclean);
        state.elr = if enough { Vec::new() } else { eligible.copied().collect() };
        state.elr.dedup();
        state.isr = isr;
        let serves = |id: &&NodeId| entry.members.contains_key(id);
        let leads = |id: &NodeId| state.isr.contains(id) && entry.members.contains_key(id);
        if !state.leader.as_ref().is_some_and(leads) {
            let from = if state.isr.is_empty() { &state.elr } else { &state.isr };
            let next = state.replicas.iter().filter(serves).find(|id| from.contains(id)).copied();
            if state.isr.is_empty()
                && let Some(next) = next
            {
                state.elr.retain(|id| *id != next);
                state.isr = vec![next];
            }
            if next != state.leader {
                state.leader_epoch.0 += 1;
            }
            state.leader = next;
        }
        if *state != *before {
            state.partition_epoch.0 += 1;
        }
        self.log.push(entry);
    }

    /// Silent for too long, or down: out of service, of the in-sync set and of leadership.
    pub(super) fn fence(&mut self, node: NodeId) {
        let mut entry = self.last().clone();
        Arc::make_mut(&mut entry.members).remove(&node);
        if entry.state.leader == Some(node) {
            entry.state.leader = None;
            entry.state.leader_epoch.0 += 1;
        }
        let isr = entry.state.isr.iter().copied().filter(|id| *id != node).collect();
        self.commit(entry, isr, None);
    }

    /// Registers a process that was started: first it is out of service.
    pub(super) fn register(&mut self, node: NodeId, unclean: bool) -> BrokerEpoch {
        self.fence(node);
        let mut entry = self.last().clone();
        let epoch = BrokerEpoch(100 + self.log.len() as u64);
        entry.registrations.insert(node, epoch);
        let isr = entry.state.isr.clone();
        entry.state.elr.retain(|id| !unclean || *id != node);
        self.commit(entry, isr, unclean.then_some(node));
        epoch
    }

    /// Lets `node` lead, whatever it has.
    pub(super) fn elect_uncleanly(&mut self, node: NodeId) {
        let mut entry = self.last().clone();
        (entry.state.leader, entry.state.recovering, entry.state.elr) = (Some(node), true, Vec::new());
        (entry.state.isr, entry.state.leader_epoch.0) = (vec![node], entry.state.leader_epoch.0 + 1);
        entry.state.partition_epoch.0 += 1;
        self.log.push(entry);
    }

    /// It beats again.
    pub(super) fn unfence(&mut self, node: NodeId) {
        let mut entry = self.last().clone();
        let epoch = entry.registrations[&node];
        Arc::make_mut(&mut entry.members).insert(node, epoch);
        let isr = entry.state.isr.clone();
        self.commit(entry, isr, None);
    }

    pub(super) fn alter(&mut self, proposal: &AlterPartition) -> Result<PartitionEpoch, ErrorCode> {
        let mut entry = self.last().clone();
        let state = &mut entry.state;
        if state.leader != Some(proposal.leader) || state.leader_epoch != proposal.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if entry.registrations[&proposal.leader] != proposal.broker_epoch {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if state.partition_epoch != proposal.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        for (id, epoch) in &proposal.isr {
            if !state.isr.contains(id) && entry.members.get(id) != Some(epoch) {
                return Err(ErrorCode::IneligibleReplica);
            }
        }
        let before = state.partition_epoch;
        let isr = proposal.isr.iter().map(|(id, _)| *id).collect();
        if state.recovering && !proposal.recovered && proposal.isr.len() > 1 {
            return Err(ErrorCode::IneligibleReplica);
        }
        state.recovering &= !proposal.recovered;
        self.commit(entry, isr, None);
        let entry = self.log.last_mut().expect("just pushed");
        entry.state.partition_epoch = PartitionEpoch(before.0 + 1);
        Ok(entry.state.partition_epoch)
    }
}
