//! What is asked of the overlay often, kept beside it.

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::{NodeId, PartitionId, TopicPartition};

use crate::metadata::{Delta, Image, PartitionState};
use crate::placement::Loads;

/// Counts and lists of partitions.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Standing {
    /// Replicas by node, as they will be once all reassignments are done.
    pub(super) loads: Loads,
    /// Partitions that prefer a node as leader.
    pub(super) preferred: BTreeMap<NodeId, usize>,
    /// Replicas by node, as they are.
    held: BTreeMap<NodeId, u32>,
    /// Partitions without a leader.
    pub(super) leaderless: BTreeSet<TopicPartition>,
    /// Partitions led by another than the preferred replica.
    pub(super) elsewhere: BTreeSet<TopicPartition>,
    /// Partitions whose replicas come or go.
    pub(super) moving: BTreeSet<TopicPartition>,
    /// Partitions whose reassignment has not begun.
    pub(super) waiting: BTreeSet<TopicPartition>,
}

impl Standing {
    pub(super) fn new(image: &Image) -> Self {
        let mut standing = Self::default();
        for topic in image.topics.values() {
            for (partition, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                standing.add(TopicPartition { topic: topic.id, partition }, state);
            }
        }
        standing
    }

    /// Replicas that a node has now.
    pub(super) fn held(&self, node: NodeId) -> u32 {
        self.held.get(&node).copied().unwrap_or_default()
    }

    /// Notes a delta that `image` does not have yet.
    pub(super) fn note(&mut self, image: &Image, delta: &Delta) {
        match delta {
            Delta::TopicCreated(topic) => {
                for (partition, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                    self.add(TopicPartition { topic: topic.id, partition }, state);
                }
            }
            Delta::TopicDeleted { id } => {
                let partitions = image.topics.get(id).map_or(&[][..], |topic| &topic.partitions);
                for (partition, state) in (0..).map(PartitionId).zip(partitions) {
                    self.remove(TopicPartition { topic: *id, partition }, state);
                }
            }
            Delta::PartitionChanged { partition, state } => {
                if let Some(old) = image.partition(*partition) {
                    self.remove(*partition, old);
                }
                self.add(*partition, state);
            }
            _ => {}
        }
    }

    fn add(&mut self, at: TopicPartition, state: &PartitionState) {
        self.loads.add(state.goal());
        for id in &state.replicas {
            *self.held.entry(*id).or_default() += 1;
        }
        let preferred = state.goal().first().copied();
        if let Some(id) = preferred {
            *self.preferred.entry(id).or_default() += 1;
        }
        let lists = [
            (&mut self.leaderless, state.leader.is_none()),
            (&mut self.elsewhere, state.leader.is_some() && state.leader != preferred),
            (&mut self.moving, state.is_moving()),
            (&mut self.waiting, state.awaits_move()),
        ];
        for (list, listed) in lists {
            if listed {
                list.insert(at);
            }
        }
    }

    fn remove(&mut self, at: TopicPartition, state: &PartitionState) {
        self.loads.remove(state.goal());
        for id in &state.replicas {
            if let Some(held) = self.held.get_mut(id) {
                *held -= 1;
                if *held == 0 {
                    self.held.remove(id);
                }
            }
        }
        if let Some(id) = state.goal().first()
            && let Some(preferred) = self.preferred.get_mut(id)
        {
            *preferred -= 1;
            if *preferred == 0 {
                self.preferred.remove(id);
            }
        }
        for list in [&mut self.leaderless, &mut self.elsewhere, &mut self.moving, &mut self.waiting] {
            list.remove(&at);
        }
    }
}
