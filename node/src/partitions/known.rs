//! What this node knows of the cluster, as far as the data path needs it: who leads what, for refusals with a hint.

use std::sync::Arc;

use rafka_broker::metadata::Image;
use rafka_broker::replication::{Identity, Members};
use rafka_broker::{ErrorCode, Failure, LeaderHint};
use rafka_model::{LeaderEpoch, NodeId, TopicPartition};

/// The image reconciled last, and who we are in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) image: Arc<Image>,
    pub(super) me: NodeId,
    /// The nodes in service; the same `Arc` as long as they are the same.
    pub(super) members: Members,
}

impl Known {
    /// What comes after `self`.
    pub(super) fn next(&self, image: Arc<Image>, me: NodeId) -> Self {
        let in_service = image.nodes.values().filter(|node| !node.fenced);
        let members = in_service.map(|node| (node.id, node.epoch)).collect();
        let members = if *self.members == members { self.members.clone() } else { Arc::new(members) };
        Self { image, me, members }
    }

    /// This node in its current registration.
    pub(super) fn identity(&self) -> Identity {
        let broker_epoch = self.image.nodes.get(&self.me).map(|node| node.epoch).unwrap_or_default();
        Identity { node: self.me, broker_epoch }
    }

    /// `topic/partition` for people, by name when the name is known.
    pub(super) fn name(&self, at: TopicPartition) -> String {
        match self.image.topics.get(&at.topic) {
            Some(topic) => format!("{}/{}", topic.name, at.partition),
            None => at.to_string(),
        }
    }

    /// Where the leader is, as far as we know.
    pub(super) fn hint(&self, at: TopicPartition) -> Option<LeaderHint> {
        let state = self.image.partition(at)?;
        let node = state.leader.and_then(|id| self.image.nodes.get(&id));
        Some(LeaderHint {
            node: state.leader,
            epoch: state.leader_epoch,
            peer_id: node.map(|node| node.peer_id.clone()),
            addresses: node.map(|node| node.addresses.clone()).unwrap_or_default(),
        })
    }

    /// Why a partition without a replica here cannot be served.
    pub(super) fn not_hosted(&self, at: TopicPartition) -> Failure {
        let Some(topic) = self.image.topics.get(&at.topic) else {
            let message = format!("no topic has the id {} (metadata index {})", at.topic, self.image.index);
            return Failure::new(ErrorCode::UnknownTopicId, message);
        };
        let Some(state) = topic.partition(at.partition) else {
            let message = format!(
                "topic {} has {} partitions, no partition {}",
                topic.name,
                topic.partitions.len(),
                at.partition
            );
            return Failure::new(ErrorCode::UnknownTopicOrPartition, message);
        };
        if state.replicas.contains(&self.me) {
            let message = format!("partition {} is being opened", self.name(at));
            return Failure::new(ErrorCode::LeaderNotAvailable, message);
        }
        self.not_leader(at)
    }

    /// The refusal of a partition that somebody else leads, or nobody.
    pub(super) fn not_leader(&self, at: TopicPartition) -> Failure {
        let hint = self.hint(at);
        let failure = match hint.as_ref().and_then(|hint| hint.node) {
            Some(leader) => {
                let message = format!("node {} does not lead {}; node {leader} does", self.me, self.name(at));
                Failure::new(ErrorCode::NotLeaderOrFollower, message)
            }
            None => Failure::new(ErrorCode::LeaderNotAvailable, format!("partition {} has no leader", self.name(at))),
        };
        match hint {
            Some(hint) => failure.with_leader(hint),
            None => failure,
        }
    }

    /// Compares the epoch a client believes in with ours.
    ///
    /// # Errors
    /// [`ErrorCode::FencedLeaderEpoch`] for an older one, [`ErrorCode::UnknownLeaderEpoch`] for a newer one.
    pub(super) fn check_epoch(
        &self,
        at: TopicPartition,
        theirs: Option<LeaderEpoch>,
        ours: LeaderEpoch,
    ) -> Result<(), Failure> {
        let Some(theirs) = theirs.filter(|epoch| *epoch != ours) else {
            return Ok(());
        };
        let (code, age) = match theirs < ours {
            true => (ErrorCode::FencedLeaderEpoch, "older"),
            false => (ErrorCode::UnknownLeaderEpoch, "newer"),
        };
        let message = format!("leader epoch {theirs} of the request is {age} than {ours} of {}", self.name(at));
        let failure = Failure::new(code, message);
        Err(match self.hint(at) {
            Some(hint) => failure.with_leader(hint),
            None => failure,
        })
    }
}
