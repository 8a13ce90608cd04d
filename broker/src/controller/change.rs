//! One partition on its way from one state to the next: in-sync set, eligible replicas, leader, epochs.

use rafka_model::{Durability, NodeId, StorageEngine, TopicConfig, UncleanRecovery};

use super::rules::{Rule, Rules};
use crate::metadata::{Image, PartitionState, Topic};

/// What a topic's configuration says about who may lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    min_insync: usize,
    pub(super) durability: Durability,
    pub(super) engine: StorageEngine,
    pub(super) unclean: UncleanRecovery,
}

/// A state in the making. Nothing is written until somebody does so with what [`Self::finish`] returns.
pub(super) struct Change<'a> {
    image: &'a Image,
    pub(super) rules: Rules,
    pub(super) policy: Policy,
    pub(super) before: &'a PartitionState,
    pub(super) after: PartitionState,
    /// Goes out of service with this change; `image` does not say so yet.
    away: Option<NodeId>,
    /// A new leader epoch begins, whoever leads.
    pub(super) ends_epoch: bool,
    unclean: Option<Vec<NodeId>>,
}

/// What became of a [`Change`].
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) state: PartitionState,
    /// Its leader was elected uncleanly, while these were known to have all records last.
    pub(super) unclean: Option<Vec<NodeId>>,
    /// A reassignment is over.
    pub(super) settled: bool,
}

impl Policy {
    pub(super) fn of(topic: &Topic) -> Self {
        let config = TopicConfig::resolve(&topic.configs).unwrap_or_default();
        Self {
            min_insync: topic.min_insync(),
            durability: config.durability,
            engine: config.storage_engine,
            unclean: config.unclean_recovery,
        }
    }

    /// So many in sync are enough to commit.
    pub(super) fn enough(&self, in_sync: usize, replicas: usize) -> bool {
        in_sync >= self.min_insync.min(replicas)
    }
}

impl<'a> Change<'a> {
    pub(super) fn new(image: &'a Image, rules: Rules, policy: Policy, before: &'a PartitionState) -> Self {
        let after = before.clone();
        Self { image, rules, policy, before, after, away: None, ends_epoch: false, unclean: None }
    }

    /// The in-sync set is now `isr`, and `lost` no longer has what it had.
    ///
    /// While fewer are in sync than are needed to commit, the high watermark stands: whoever was in sync then has all that
    /// is committed and stays eligible (KIP-966). Once there are enough again, it moves, and only they are certain.
    pub(super) fn set_isr(&mut self, isr: Vec<NodeId>, lost: Option<NodeId>) {
        let state = &mut self.after;
        let old = std::mem::replace(&mut state.isr, isr);
        let enough = self.policy.enough(state.isr.len(), state.replicas.len());
        if enough && self.rules.hold(Rule::EnoughInSyncEndsEligibility) {
            state.elr.clear();
            state.last_known_elr.clear();
            return;
        }
        let left = |id: &NodeId| state.replicas.contains(id) && !state.isr.contains(id);
        let stays = |id: &NodeId| state.elr.contains(id) || self.rules.hold(Rule::LeaversStayEligible);
        let (mut elr, mut last) = (Vec::new(), Vec::new());
        for id in state.replicas.iter().filter(|id| left(id)) {
            if (old.contains(id) || state.elr.contains(id)) && stays(id) && lost != Some(*id) {
                elr.push(*id);
            } else if old.contains(id) || state.elr.contains(id) || state.last_known_elr.contains(id) {
                last.push(*id);
            }
        }
        (state.elr, state.last_known_elr) = (elr, last);
    }

    /// Takes a node out of the in-sync set, and also of the eligible replicas if it has `lost` what it had.
    pub(super) fn remove(&mut self, node: NodeId, lost: bool) {
        let concerned = self.after.isr.contains(&node) || lost && self.after.elr.contains(&node);
        if concerned {
            let isr = self.after.isr.iter().copied().filter(|id| *id != node).collect();
            self.set_isr(isr, lost.then_some(node));
        }
    }

    /// The node goes out of service with this change.
    pub(super) fn fence(&mut self, node: NodeId) {
        self.away = Some(node);
        self.remove(node, false);
        self.elect();
    }

    /// Replicas that are no longer.
    pub(super) fn drop_replicas(&mut self, dropped: &[NodeId]) {
        if dropped.is_empty() {
            return;
        }
        self.after.replicas.retain(|id| !dropped.contains(id));
        let isr = self.after.isr.iter().copied().filter(|id| !dropped.contains(id)).collect();
        self.set_isr(isr, None);
        self.ends_epoch |= self.rules.hold(Rule::RemovedReplicasEndTheEpoch);
    }

    /// Nobody but `node` has any certain record of the partition, and nobody but it was asked to keep them.
    pub(super) fn is_sole(&self, node: NodeId) -> bool {
        let PartitionState { replicas, adding, isr, elr, .. } = &self.after;
        let others = |id: &NodeId| *id != node;
        !replicas.iter().any(|id| others(id) && !adding.contains(id))
            && !isr.iter().chain(elr).any(others)
            && self.rules.hold(Rule::SoleReplicasStayEligible)
    }

    /// Sees to a leader, if there can be one: the first replica in sync and in service; else, if nobody is in sync, the
    /// first that is eligible.
    pub(super) fn elect(&mut self) {
        let led = self.after.leader.is_some_and(|id| self.after.isr.contains(&id) && self.serves(id));
        if led {
            return;
        }
        let nobody = self.after.isr.is_empty();
        let able = if nobody { &self.after.elr } else { &self.after.isr };
        self.after.leader = self.first(|id| able.contains(&id));
        match self.after.leader {
            Some(leader) if nobody => self.set_isr(vec![leader], None),
            None if nobody => {
                let asked = self.policy.unclean == UncleanRecovery::Aggressive
                    || !self.rules.hold(Rule::UncleanElectionsAreAskedFor);
                if asked {
                    self.elect_any();
                }
            }
            _ => {}
        }
    }

    /// Elects whoever is in service, one of those first that were in sync last.
    pub(super) fn elect_any(&mut self) {
        let last = &self.after.last_known_elr;
        if let Some(leader) = self.first(|id| last.contains(&id)).or_else(|| self.first(|_| true)) {
            self.elect_uncleanly(leader);
        }
    }

    /// Makes `leader` lead alone, whatever it has: its log is the truth from here on.
    pub(super) fn elect_uncleanly(&mut self, leader: NodeId) {
        let state = &mut self.after;
        let mut known = std::mem::take(&mut state.last_known_elr);
        known.append(&mut state.elr);
        self.unclean = Some(known);
        state.isr = vec![leader];
        state.leader = Some(leader);
        state.recovering = self.rules.hold(Rule::UncleanLeadersRecover);
        self.ends_epoch = true;
    }

    /// Lets another lead in place of `node`, if one can that stays.
    pub(super) fn relieve(&mut self, node: NodeId) {
        let others = |id| id != node && self.after.isr.contains(&id) && !self.drains(id);
        if self.after.leader == Some(node)
            && let Some(other) = self.first(others)
        {
            self.after.leader = Some(other);
        }
    }

    /// Lets the preferred replica lead, if it can.
    pub(super) fn prefer(&mut self) {
        let preferred = self.after.goal().first().copied();
        if let Some(id) = preferred.filter(|id| self.after.isr.contains(id) && self.serves(*id) && !self.drains(*id)) {
            self.after.leader = Some(id);
        }
    }

    /// The next state with its epochs, if anything changed.
    pub(super) fn finish(self) -> Option<Changed> {
        (self.after != *self.before || self.ends_epoch).then(|| self.finish_always())
    }

    /// As [`Self::finish`], also if nothing changed but the partition epoch.
    pub(super) fn finish_always(mut self) -> Changed {
        if self.rules.hold(Rule::ElectionsEndReassignments) {
            self.complete_if_due();
        }
        let (before, mut state) = (self.before, self.after);
        if self.rules.hold(Rule::ChangesBumpThePartitionEpoch) {
            state.partition_epoch.0 = before.partition_epoch.0.saturating_add(1);
        }
        let elected = state.leader.is_some() && state.leader != before.leader;
        if self.ends_epoch || elected && self.rules.hold(Rule::ElectionsBumpTheLeaderEpoch) {
            state.leader_epoch.0 = before.leader_epoch.0.saturating_add(1);
        }
        let settled = !before.target.is_empty() && state.target.is_empty();
        Changed { state, unclean: self.unclean, settled }
    }

    /// The first replica in order of preference that is `able` and in service; one that stays before one that is drained.
    fn first(&self, able: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let mut found = self.after.replicas.iter().copied().filter(|id| able(*id) && self.serves(*id));
        let first = found.clone().find(|id| !self.drains(*id));
        first.or_else(|| found.next())
    }

    pub(super) fn serves(&self, id: NodeId) -> bool {
        self.away != Some(id) && self.image.nodes.get(&id).is_some_and(|node| !node.fenced)
    }

    fn drains(&self, id: NodeId) -> bool {
        let draining = self.image.nodes.get(&id).is_some_and(|node| node.draining);
        draining && self.rules.hold(Rule::DrainingNodesGetNothing)
    }
}
