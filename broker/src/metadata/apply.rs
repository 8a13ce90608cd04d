//! The fold: entries of the metadata log become the image.

use std::sync::Arc;

use rafka_model::limits::{ENTRY_DELTAS_MAX, TOPIC_PARTITIONS_MAX};
use rafka_model::{MetadataIndex, NodeId, ProducerId, TopicId, TopicName, TopicPartition};

use super::{Cluster, Delta, Entry, Image, Node, PartitionState, Topic};

/// Why an entry cannot follow what was applied. Our own controller writes no such entry: the log is damaged, or
/// comes from a version that this one does not understand.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Not the entry after the last one.
    #[error("metadata entry {found} cannot follow entry {applied}")]
    Gap {
        /// Last entry applied.
        applied: MetadataIndex,
        /// The entry given.
        found: MetadataIndex,
    },
    /// More deltas than [`ENTRY_DELTAS_MAX`].
    #[error("metadata entry has {0} deltas, limit is {ENTRY_DELTAS_MAX}")]
    TooManyDeltas(usize),
    /// The first delta of a log, and only that, founds the cluster.
    #[error("a cluster is founded once, by its first delta")]
    Founding,
    /// No such node.
    #[error("node {0} is not registered")]
    UnknownNode(NodeId),
    /// A registration whose numbers are not those of its entry, or whose id is another peer's.
    #[error("registration of node {0} contradicts the log")]
    Registration(NodeId),
    /// A node that still votes or has replicas is not to be removed.
    #[error("node {0} cannot go: it votes or has replicas")]
    NodeInUse(NodeId),
    /// Feature levels only grow.
    #[error("feature level {0} is not above the cluster's")]
    FeatureLevel(u32),
    /// No such topic.
    #[error("topic {0} does not exist")]
    UnknownTopic(TopicId),
    /// A topic of this name or id exists.
    #[error("topic {0} exists already")]
    TopicExists(TopicName),
    /// A block of producer ids that ends before it begins, or would give ids out again.
    #[error("producer ids up to {0} were given out before")]
    ProducerIds(ProducerId),
    /// A partition's index is not the topic's next.
    #[error("partition {0} lies outside its topic")]
    Partition(TopicPartition),
}

impl Image {
    /// Applies the next entry.
    ///
    /// # Errors
    /// [`ApplyError::Gap`] and [`ApplyError::TooManyDeltas`] leave the image as it was. After any other error it holds
    /// a part of the entry and must be dropped: apply to a clone (cheap, topics are shared) where that matters.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        if self.index.0.checked_add(1) != Some(entry.index.0) {
            return Err(ApplyError::Gap { applied: self.index, found: entry.index });
        }
        if entry.deltas.len() > ENTRY_DELTAS_MAX {
            return Err(ApplyError::TooManyDeltas(entry.deltas.len()));
        }
        for delta in &entry.deltas {
            self.apply_delta(entry.index, delta)?;
        }
        self.index = entry.index;
        Ok(())
    }

    /// Applies one delta of the entry `index`, without moving [`Image::index`].
    pub(crate) fn apply_delta(&mut self, index: MetadataIndex, delta: &Delta) -> Result<(), ApplyError> {
        if self.cluster.is_some() == matches!(delta, Delta::ClusterFounded { .. }) {
            return Err(ApplyError::Founding);
        }
        match delta {
            Delta::ClusterFounded { cluster_id, public_key, join_token_hash, feature_level } => {
                self.cluster = Some(Cluster {
                    id: *cluster_id,
                    public_key: *public_key,
                    join_token_hash: *join_token_hash,
                    feature_level: *feature_level,
                });
            }
            Delta::VotersChanged { voters } => {
                if let Some(unknown) = voters.iter().find(|id| !self.nodes.contains_key(id)) {
                    return Err(ApplyError::UnknownNode(*unknown));
                }
                self.voters.clone_from(voters);
            }
            Delta::NodeRegistered(node) => self.register(index, node)?,
            Delta::NodeFenced { id } => self.node_mut(*id)?.fenced = true,
            Delta::NodeUnfenced { id } => self.node_mut(*id)?.fenced = false,
            Delta::NodeDraining { id, draining } => self.node_mut(*id)?.draining = *draining,
            Delta::NodeRemoved { id } => self.remove_node(*id)?,
            Delta::FeatureLevelChanged { level } => {
                let cluster = self.cluster.as_mut().filter(|cluster| cluster.feature_level < *level);
                cluster.ok_or(ApplyError::FeatureLevel(*level))?.feature_level = *level;
            }
            Delta::TopicCreated(topic) => self.create(index, topic)?,
            Delta::TopicDeleted { id } => {
                let topic = self.topics.remove(id).ok_or(ApplyError::UnknownTopic(*id))?;
                self.topic_ids.remove(&topic.name);
            }
            Delta::TopicConfigChanged { id, key, value } => {
                let topic = self.topic_mut(index, *id)?;
                match value {
                    Some(value) => topic.configs.insert(key.clone(), value.clone()),
                    None => topic.configs.remove(key),
                };
            }
            Delta::TopicReplicationChanged { id, replication_factor } => {
                self.topic_mut(index, *id)?.replication_factor = *replication_factor;
            }
            Delta::PartitionChanged { partition, state } => self.change(index, *partition, state)?,
            Delta::ProducerIdsAllocated { next } => {
                if *next <= self.next_producer {
                    return Err(ApplyError::ProducerIds(*next));
                }
                self.next_producer = *next;
            }
        }
        Ok(())
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, ApplyError> {
        self.nodes.get_mut(&id).ok_or(ApplyError::UnknownNode(id))
    }

    fn topic_mut(&mut self, index: MetadataIndex, id: TopicId) -> Result<&mut Topic, ApplyError> {
        let topic = self.topics.get_mut(&id).map(Arc::make_mut).ok_or(ApplyError::UnknownTopic(id))?;
        topic.changed = index;
        Ok(topic)
    }

    fn register(&mut self, index: MetadataIndex, node: &Node) -> Result<(), ApplyError> {
        let consistent = match self.nodes.get(&node.id) {
            Some(known) => known.peer_id == node.peer_id,
            None => node.id == self.next_node() && self.node_by_peer(&node.peer_id).is_none(),
        };
        if !consistent || node.epoch.0 != index.0 {
            return Err(ApplyError::Registration(node.id));
        }
        self.last_node = self.last_node.max(node.id);
        self.nodes.insert(node.id, node.clone());
        Ok(())
    }

    fn remove_node(&mut self, id: NodeId) -> Result<(), ApplyError> {
        let mut states = self.topics.values().flat_map(|topic| &topic.partitions);
        let held = states.any(|state| state.replicas.contains(&id) || state.target.contains(&id));
        if held || self.voters.contains(&id) {
            return Err(ApplyError::NodeInUse(id));
        }
        self.nodes.remove(&id).map(drop).ok_or(ApplyError::UnknownNode(id))
    }

    fn create(&mut self, index: MetadataIndex, topic: &Topic) -> Result<(), ApplyError> {
        if self.topics.contains_key(&topic.id) || self.topic_ids.contains_key(&topic.name) {
            return Err(ApplyError::TopicExists(topic.name.clone()));
        }
        self.topic_ids.insert(topic.name.clone(), topic.id);
        self.topics.insert(topic.id, Arc::new(Topic { changed: index, ..topic.clone() }));
        Ok(())
    }

    fn change(&mut self, index: MetadataIndex, at: TopicPartition, state: &PartitionState) -> Result<(), ApplyError> {
        let partitions = &mut self.topic_mut(index, at.topic)?.partitions;
        let place = at.partition.0 as usize;
        if at.partition.0 >= TOPIC_PARTITIONS_MAX || place > partitions.len() {
            return Err(ApplyError::Partition(at));
        }
        match partitions.get_mut(place) {
            Some(held) => *held = state.clone(),
            None => partitions.push(state.clone()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_entry_follows_the_last_one_or_changes_nothing() {
        let mut image = testing::image(2, 3);
        let before = image.clone();
        for wrong in [0, image.index.0, image.index.0 + 2, u64::MAX] {
            let entry = Entry { index: MetadataIndex(wrong), deltas: vec![Delta::NodeFenced { id: NodeId(1) }] };
            assert!(matches!(image.apply(&entry), Err(ApplyError::Gap { .. })));
            assert_eq!(image, before);
        }
    }

    #[test]
    fn a_cluster_is_founded_once_and_first() {
        let fence = Entry { index: MetadataIndex(1), deltas: vec![Delta::NodeFenced { id: NodeId(1) }] };
        assert_eq!(Image::default().apply(&fence), Err(ApplyError::Founding));
        let mut image = testing::image(1, 0);
        let index = MetadataIndex(image.index.0 + 1);
        assert_eq!(image.apply(&Entry { index, deltas: vec![testing::founded()] }), Err(ApplyError::Founding));
    }

    #[test]
    fn changes_of_what_does_not_exist_are_refused() {
        let image = testing::image(1, 2);
        let topic = image.topics.values().next().expect("one topic");
        let at = |partition| TopicPartition { topic: topic.id, partition: rafka_model::PartitionId(partition) };
        let state = topic.partitions[0].clone();
        let gone = TopicId([9; 16]);
        for (delta, error) in [
            (Delta::NodeUnfenced { id: NodeId(9) }, ApplyError::UnknownNode(NodeId(9))),
            (Delta::VotersChanged { voters: vec![NodeId(8)] }, ApplyError::UnknownNode(NodeId(8))),
            (Delta::TopicDeleted { id: gone }, ApplyError::UnknownTopic(gone)),
            (Delta::TopicCreated(Topic::clone(topic)), ApplyError::TopicExists(topic.name.clone())),
            (Delta::PartitionChanged { partition: at(3), state }, ApplyError::Partition(at(3))),
            (Delta::NodeRegistered(image.nodes[&NodeId(1)].clone()), ApplyError::Registration(NodeId(1))),
            (Delta::ProducerIdsAllocated { next: ProducerId(0) }, ApplyError::ProducerIds(ProducerId(0))),
            (Delta::NodeDraining { id: NodeId(9), draining: true }, ApplyError::UnknownNode(NodeId(9))),
            (Delta::NodeRemoved { id: NodeId(9) }, ApplyError::UnknownNode(NodeId(9))),
            (Delta::NodeRemoved { id: NodeId(1) }, ApplyError::NodeInUse(NodeId(1))),
            (Delta::FeatureLevelChanged { level: 1 }, ApplyError::FeatureLevel(1)),
            (Delta::TopicReplicationChanged { id: gone, replication_factor: 3 }, ApplyError::UnknownTopic(gone)),
        ] {
            let entry = Entry { index: MetadataIndex(image.index.0 + 1), deltas: vec![delta] };
            assert_eq!(image.clone().apply(&entry), Err(error));
        }
    }

    #[test]
    fn a_partition_behind_the_last_one_is_added_and_marks_its_topic_as_changed() {
        let mut image = testing::image(1, 2);
        let before = image.clone();
        let topic = image.topics.values().next().expect("one topic").clone();
        let partition = TopicPartition { topic: topic.id, partition: rafka_model::PartitionId(2) };
        let delta = Delta::PartitionChanged { partition, state: topic.partitions[0].clone() };
        let index = MetadataIndex(image.index.0 + 1);
        image.apply(&Entry { index, deltas: vec![delta] }).expect("applies");
        assert_eq!(image.topics[&topic.id].partitions.len(), 3);
        assert_eq!(image.topics[&topic.id].changed, index);
        assert_eq!(before.topics[&topic.id].partitions.len(), 2, "a clone does not see later entries");
        assert_eq!(image.check_invariants(), Ok(()));
    }
}
