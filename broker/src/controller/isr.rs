//! In-sync sets, as leaders propose them.

use std::collections::BTreeSet;

use rafka_model::{BrokerEpoch, NodeId, PartitionEpoch, PartitionId, TopicId, TopicPartition};

use super::Controller;
use super::rules::Rule;
use crate::metadata::PartitionState;
use crate::replication::AlterPartition;
use crate::{ErrorCode, Failure};

impl Controller {
    /// Decides on a leader's proposal (KIP-497).
    pub(super) fn alter_partition(&mut self, proposal: &AlterPartition) -> Result<PartitionEpoch, Failure> {
        let at = proposal.at;
        let mut change = self.change(at)?;
        self.registered(proposal.leader, proposal.broker_epoch)?;
        self.check_sender(change.before, proposal)?;
        self.check_members(change.before, proposal)?;
        let isr: Vec<NodeId> = proposal.isr.iter().map(|(id, _)| *id).collect();
        change.set_isr(isr, None);
        change.after.recovering &= !proposal.recovered;
        change.complete_if_due();
        change.elect();
        let changed = match self.rules.hold(Rule::AlterationsAlwaysCount) {
            true => Some(change.finish_always()),
            false => change.finish(),
        };
        self.write_change(at, changed);
        Ok(self.overlay().partition(at).map_or(proposal.partition_epoch, |state| state.partition_epoch))
    }

    /// The sender leads, and knows the latest state.
    fn check_sender(&self, state: &PartitionState, proposal: &AlterPartition) -> Result<(), Failure> {
        let AlterPartition { at, leader, leader_epoch, partition_epoch, .. } = *proposal;
        let refuse = |code, text: String| Err(Failure::new(code, text));
        if leader_epoch > state.leader_epoch || partition_epoch > state.partition_epoch {
            // Only another controller can have said so.
            return refuse(
                ErrorCode::NotController,
                format!("this controller knows of no such epoch of partition {at}"),
            );
        }
        // These two follow from the partition epoch, but tell the sender more.
        if leader_epoch < state.leader_epoch {
            let text = format!("partition {at} is in leader epoch {}, not {leader_epoch}", state.leader_epoch);
            return refuse(ErrorCode::FencedLeaderEpoch, text);
        }
        if partition_epoch == state.partition_epoch && state.leader != Some(leader) {
            return refuse(ErrorCode::NotLeaderOrFollower, format!("node {leader} does not lead partition {at}"));
        }
        if partition_epoch < state.partition_epoch && self.rules.hold(Rule::AlterationsRestOnTheLatestState) {
            let text = format!("partition {at} is in partition epoch {}, not {partition_epoch}", state.partition_epoch);
            return refuse(ErrorCode::InvalidUpdateVersion, text);
        }
        Ok(())
    }

    /// The set is one of replicas with the leader, and who is new in it can be.
    fn check_members(&self, state: &PartitionState, proposal: &AlterPartition) -> Result<(), Failure> {
        let AlterPartition { at, leader, isr, recovered, .. } = proposal;
        let invalid = |text: String| Err(Failure::new(ErrorCode::InvalidRequest, text));
        let ids: BTreeSet<NodeId> = isr.iter().map(|(id, _)| *id).collect();
        if ids.len() != isr.len() || !ids.contains(leader) || !ids.iter().all(|id| state.replicas.contains(id)) {
            return invalid(format!("{ids:?} is no in-sync set of partition {at}, whose leader is {leader}"));
        }
        if state.recovering && !recovered && ids.len() > 1 {
            return invalid(format!("nobody can be in sync with node {leader}, which recovers partition {at}"));
        }
        let joins = |(id, _): &&(NodeId, BrokerEpoch)| !state.isr.contains(id);
        for (id, epoch) in isr.iter().filter(joins) {
            let able = self.overlay().nodes.get(id).is_some_and(|node| !node.fenced && node.epoch == *epoch);
            if !able && self.rules.hold(Rule::IneligibleReplicasAreRefused) {
                let text = format!("node {id} is out of service, or registered anew since epoch {epoch}");
                return Err(Failure::new(ErrorCode::IneligibleReplica, text));
            }
        }
        Ok(())
    }

    /// Replicas of a node are gone: whoever led knows nothing of them any more, as a new leader epoch begins.
    pub(super) fn replica_failed(
        &mut self,
        node: NodeId,
        epoch: BrokerEpoch,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), Failure> {
        self.registered(node, epoch)?;
        for at in partitions {
            let Ok(mut change) = self.change(at) else { continue };
            if !change.before.replicas.contains(&node) {
                continue;
            }
            if self.rules.hold(Rule::FailedReplicasAreExcluded) {
                change.remove(node, true);
            }
            change.ends_epoch = self.rules.hold(Rule::FailedReplicasBeginAnEpoch);
            change.elect();
            let changed = change.finish();
            self.write_change(at, changed);
        }
        Ok(())
    }

    /// Ends eligibility in a topic that will need only `min_insync` in sync: with as many the high watermark moves on.
    pub(super) fn lessen_minimum(&mut self, id: TopicId, min_insync: usize) {
        let Some(topic) = self.overlay().topics.get(&id) else { return };
        if min_insync >= topic.min_insync() || !self.rules.hold(Rule::LesserMinimumEndsEligibility) {
            return;
        }
        let partitions = (0..).map(PartitionId).zip(&topic.partitions);
        let enough = |state: &PartitionState| state.isr.len() >= min_insync.min(state.replicas.len());
        let concerned: Vec<_> = partitions
            .filter(|(_, state)| !state.elr.is_empty() && enough(state))
            .map(|(partition, _)| TopicPartition { topic: id, partition })
            .collect();
        for at in concerned {
            self.change_one(at, |change| {
                change.after.elr.clear();
                change.after.last_known_elr.clear();
            });
        }
    }
}
