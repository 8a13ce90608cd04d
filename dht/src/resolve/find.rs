//! Routes: the records of topic, shard and node put together.

use std::sync::Arc;
use std::time::Duration;

use rafka_broker::metadata::{Image, Topic};
use rafka_model::limits::{DHT_NEGATIVE_MS, DHT_SHARD_PARTITIONS};
use rafka_model::{LeaderEpoch, NodeId, PartitionId, TopicId, TopicName};

use super::{
    Effort, Fallback, Hosted, Learned, Lookup, NodeAt, ResolveError, Resolver, Route, Source, TopicRef, TopicView,
};
use crate::{Key, SignedRecord, TopicRecord, Version};

/// Who leads a partition, before it is known where that node is.
struct Lead {
    topic: TopicId,
    name: TopicName,
    partitions: u32,
    leader: Option<NodeId>,
    epoch: LeaderEpoch,
    version: Version,
}

impl<L: Lookup, F: Fallback, H: Hosted> Resolver<L, F, H> {
    pub(super) async fn find_route(
        &self,
        topic: &TopicRef,
        partition: PartitionId,
        min: Version,
    ) -> Result<Route, ResolveError> {
        let mut effort = Effort::default();
        let lead = match self.hosted_lead(topic, partition, min) {
            Some(lead) => lead,
            None => self.find_lead(topic, partition, min, &mut effort).await?,
        };
        let Lead { topic, name, partitions, leader, epoch, version } = lead;
        let (at, leader_epoch) = match (self.learned(topic, partition, epoch, leader.is_some()), leader) {
            (Some(Learned { epoch, at }), _) => {
                effort.add(Effort { source: Source::Cache, ..Effort::default() });
                // Whoever told of it may not have known where it is.
                let at = if at.addresses.is_empty() { self.find_node(at.id, &mut effort).await? } else { at };
                (at, epoch)
            }
            (None, Some(leader)) => (self.find_node(leader, &mut effort).await?, epoch),
            (None, None) => {
                // Whoever asks again shall not be told the same from the cache.
                self.cache().doubt(&Key::of_partition(&name, topic, partition));
                return Err(ResolveError::NoLeader { topic: name, partition, epoch, version });
            }
        };
        let NodeAt { id: leader, peer, addresses, lanes } = at;
        let Effort { source, origin, hops, asked } = effort;
        Ok(Route {
            topic,
            name,
            partition,
            partitions,
            leader,
            peer,
            addresses,
            lanes,
            leader_epoch,
            version,
            source,
            origin,
            hops,
            asked,
        })
    }

    pub(super) async fn find_topic(&self, topic: &TopicRef, min: Version) -> Result<TopicView, ResolveError> {
        if let Some(image) = self.image_at(min)
            && let Some(topic) = hosted_topic(&image, topic)
        {
            return Ok(TopicView {
                id: topic.id,
                name: topic.name.clone(),
                partitions: count_of(topic),
                replication_factor: topic.replication_factor,
                configs: topic.configs.clone(),
                version: Version::new(min.generation, topic.changed),
                source: Source::Hosted,
            });
        }
        let mut effort = Effort::default();
        let record = self.topic_record(topic, min, &mut effort).await?;
        let topic = told(&record)?;
        Ok(TopicView {
            id: topic.id,
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            configs: topic.configs.clone(),
            version: record.version(),
            source: effort.source,
        })
    }

    pub(super) async fn find_node(&self, id: NodeId, effort: &mut Effort) -> Result<NodeAt, ResolveError> {
        if let Some(image) = self.hosted.image()
            && let Some(node) = image.nodes.get(&id)
            && let Some(at) = located(id, &node.peer_id, &node.addresses, &node.lanes)
        {
            return Ok(at);
        }
        let key = Key::Node(id);
        let record = self.fetch_into(&key, Version::ANY, effort).await?;
        let node = record.node().ok_or_else(|| ResolveError::unusable(&key))?;
        located(id, &node.peer_id, &node.addresses, &node.lanes).ok_or_else(|| ResolveError::unusable(&key))
    }

    /// The image, unless it is older than asked for.
    fn image_at(&self, min: Version) -> Option<Arc<Image>> {
        self.hosted.image().filter(|image| image.index >= min.index)
    }

    fn hosted_lead(&self, topic: &TopicRef, partition: PartitionId, min: Version) -> Option<Lead> {
        let image = self.image_at(min)?;
        let topic = hosted_topic(&image, topic)?;
        let state = topic.partition(partition)?;
        Some(Lead {
            topic: topic.id,
            name: topic.name.clone(),
            partitions: count_of(topic),
            leader: state.leader,
            epoch: state.leader_epoch,
            version: Version::new(min.generation, topic.changed),
        })
    }

    async fn find_lead(
        &self,
        by: &TopicRef,
        partition: PartitionId,
        min: Version,
        effort: &mut Effort,
    ) -> Result<Lead, ResolveError> {
        let mut record = self.topic_record(by, min, effort).await?;
        if partition.0 >= told(&record)?.partitions && self.is_dated(record.key()) {
            // Partitions may have been added since it was looked up.
            self.cache().doubt(record.key());
            record = self.topic_record(by, min, effort).await?;
        }
        let topic = told(&record)?;
        if partition.0 >= topic.partitions {
            let (topic, partitions) = (topic.name.clone(), topic.partitions);
            return Err(ResolveError::UnknownPartition { topic, partition, partitions });
        }
        let key = Key::of_partition(&topic.name, topic.id, partition);
        let mut shard = if key == *record.key() { record.clone() } else { self.fetch_into(&key, min, effort).await? };
        let index = (partition.0 % DHT_SHARD_PARTITIONS) as usize;
        if shard.leaders().is_none_or(|leaders| leaders.len() <= index) {
            // The topic's record knows of more partitions than the shard's: that one is from before.
            shard = self.fetch_into(&key, min.max(record.version()), effort).await?;
        }
        let state = shard.leaders().and_then(|leaders| leaders.partition(index));
        let state = state.ok_or_else(|| ResolveError::unusable(&key))?;
        Ok(Lead {
            topic: topic.id,
            name: topic.name.clone(),
            partitions: topic.partitions,
            leader: state.leader,
            epoch: state.leader_epoch,
            version: shard.version(),
        })
    }

    /// The record of a topic by name; by id its name is looked up first, and the record must be of that very topic.
    async fn topic_record(
        &self,
        by: &TopicRef,
        min: Version,
        effort: &mut Effort,
    ) -> Result<SignedRecord, ResolveError> {
        let id = match by {
            TopicRef::Name(name) => return self.fetch_into(&Key::Topic(name.clone()), min, effort).await,
            TopicRef::Id(id) => *id,
        };
        let key = Key::Name(id);
        let named = self.fetch_into(&key, Version::ANY, effort).await?;
        let name = named.name().ok_or_else(|| ResolveError::unusable(&key))?.name.clone();
        let record = self.fetch_into(&Key::Topic(name), min.max(named.version()), effort).await?;
        // The name may have been given to another topic since.
        if told(&record)?.id == id { Ok(record) } else { Err(ResolveError::unknown(&key)) }
    }

    async fn fetch_into(&self, key: &Key, min: Version, effort: &mut Effort) -> Result<SignedRecord, ResolveError> {
        let fetched = self.fetch(key, min).await?;
        effort.add(fetched.effort);
        effort.origin = effort.origin.max(self.cache().origin(key));
        Ok(fetched.record)
    }

    fn is_dated(&self, key: &Key) -> bool {
        let age = self.cache().age(key, (self.clock)());
        age.is_some_and(|age| age >= Duration::from_millis(DHT_NEGATIVE_MS))
    }
}

fn told(record: &SignedRecord) -> Result<&TopicRecord, ResolveError> {
    record.topic().ok_or_else(|| ResolveError::unusable(record.key()))
}

fn hosted_topic<'a>(image: &'a Image, by: &TopicRef) -> Option<&'a Topic> {
    match by {
        TopicRef::Name(name) => image.topic(name),
        TopicRef::Id(id) => {
            let topic: &Topic = image.topics.get(id)?;
            Some(topic)
        }
    }
}

fn count_of(topic: &Topic) -> u32 {
    u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX)
}

fn located(id: NodeId, peer_id: &str, addresses: &[String], lanes: &[String]) -> Option<NodeAt> {
    let parsed = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect();
    Some(NodeAt { id, peer: peer_id.parse().ok()?, addresses: parsed(addresses), lanes: parsed(lanes) })
}
