//! Committed offsets of one group.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_model::{PartitionId, Timestamp, TopicId};

use super::request::CommittedOffset;

/// An offset as it was committed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stored {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Box<str>,
    pub(super) committed: Timestamp,
    /// Set by old clients, which chose the time themselves.
    pub(super) expires: Option<Timestamp>,
    pub(super) topic_id: Option<TopicId>,
}

/// The offsets of a group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<PartitionId, Stored>>,
    count: usize,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Stores an offset; true if there was none before. `keep` gives the name of a topic that is new here.
    pub(super) fn store(
        &mut self,
        topic: &str,
        partition: PartitionId,
        stored: Stored,
        keep: impl FnOnce() -> Arc<str>,
    ) -> bool {
        let is_new = match self.topics.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, stored).is_none(),
            None => self.topics.insert(keep(), BTreeMap::from([(partition, stored)])).is_none(),
        };
        self.count += usize::from(is_new);
        is_new
    }

    /// Forgets an offset; true if there was one.
    pub(super) fn forget(&mut self, topic: &str, partition: PartitionId) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let was_there = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        self.count -= usize::from(was_there);
        was_there
    }

    pub(super) fn get(&self, topic: &str, partition: PartitionId) -> Option<&Stored> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn has_topic(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    pub(super) fn of_topic(&self, topic: &str) -> impl Iterator<Item = (PartitionId, &Stored)> {
        self.topics.get(topic).into_iter().flatten().map(|(partition, stored)| (*partition, stored))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, PartitionId, &Stored)> {
        self.topics.iter().flat_map(|(topic, of)| of.iter().map(move |(partition, stored)| (topic, *partition, stored)))
    }

    /// The offsets asked for, in the order asked, or all.
    pub(super) fn answer(&self, asked: Option<&[(String, Vec<PartitionId>)]>) -> Vec<CommittedOffset> {
        match asked {
            None => self.iter().map(|(topic, partition, stored)| told(topic, partition, Some(stored))).collect(),
            Some(topics) => topics
                .iter()
                .flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (topic, *partition)))
                .map(|(topic, partition)| told(topic, partition, self.get(topic, partition)))
                .collect(),
        }
    }
}

/// The answer for one partition.
pub(super) fn told(topic: &str, partition: PartitionId, stored: Option<&Stored>) -> CommittedOffset {
    CommittedOffset {
        topic: topic.to_owned(),
        topic_id: stored.and_then(|stored| stored.topic_id),
        partition,
        offset: stored.map_or(-1, |stored| stored.offset),
        leader_epoch: stored.map_or(-1, |stored| stored.leader_epoch),
        metadata: stored.map(|stored| stored.metadata.to_string()).unwrap_or_default(),
        error: None,
    }
}
