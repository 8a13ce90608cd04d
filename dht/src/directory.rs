//! What committed metadata must be in the DHT: an image in, bodies to sign out.
//!
//! The version of a topic's records is [`Topic::changed`], of a node's record its registration, of the
//! quorum's record the index at signing. So the same state always makes the same record, whoever signs.

use std::collections::{BTreeMap, BTreeSet};

use rafka_broker::metadata::{Delta, Entry, Image, Node, Topic};
use rafka_model::cbor::CborError;
use rafka_model::limits::{DHT_RECORD_BYTES_MAX, DHT_SHARD_PARTITIONS};
use rafka_model::{ClusterId, MetadataIndex, NodeId};

use crate::Key;
use crate::record::{
    Body, Leaders, NameRecord, NodeRecord, Payload, QuorumRecord, ShardRecord, TopicRecord, Version, Voter, encode_body,
};

/// Overrides that a client acts on; the others stay with the nodes.
const CLIENT_CONFIGS: &[&str] =
    &["cleanup.policy", "compression.type", "max.message.bytes", "message.timestamp.type", "min.insync.replicas"];

/// Room that the envelope and the signature take in a record.
const ENVELOPE_BYTES: usize = 128;

/// The quorum at the time of signing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quorum {
    /// Grows only when a lost quorum is rebuilt by hand.
    pub generation: u64,
    /// Raft term.
    pub term: u64,
}

/// Everything that `image` says must be in the DHT. Empty before the cluster is founded.
#[must_use]
pub fn records_of(image: &Image, quorum: Quorum) -> Vec<Body> {
    let Some(cluster) = image.cluster.as_ref().map(|cluster| cluster.id) else { return Vec::new() };
    quorum_body(image, quorum)
        .into_iter()
        .chain(image.nodes.values().map(|node| node_body(cluster, quorum, node)))
        .chain(image.topics.values().flat_map(|topic| topic_bodies(cluster, quorum, topic)))
        .collect()
}

/// What an applied `entry` made, changed or removed: `before` and `after` are the images around it.
#[must_use]
pub fn changed_by(entry: &Entry, before: &Image, after: &Image, quorum: Quorum) -> Vec<Body> {
    let Some(cluster) = after.cluster.as_ref().map(|cluster| cluster.id) else { return Vec::new() };
    let version = Version::new(quorum.generation, entry.index);
    let (mut keys, mut bodies) = (BTreeSet::new(), Vec::new());
    for delta in &entry.deltas {
        match delta {
            Delta::ClusterFounded { .. } | Delta::VotersChanged { .. } => drop(keys.insert(Key::Quorum)),
            Delta::NodeRegistered(node) => {
                keys.insert(Key::Node(node.id));
                if after.voters.contains(&node.id) {
                    keys.insert(Key::Quorum);
                }
            }
            // A removed node's record expires: nobody publishes it any more.
            Delta::NodeFenced { .. }
            | Delta::NodeUnfenced { .. }
            | Delta::NodeDraining { .. }
            | Delta::NodeRemoved { .. }
            | Delta::ProducerIdsAllocated { .. } => {}
            Delta::FeatureLevelChanged { .. } => drop(keys.insert(Key::Quorum)),
            Delta::TopicCreated(topic) => keys.extend(topic_keys(topic)),
            Delta::TopicDeleted { id } => {
                bodies.extend(before.topics.get(id).into_iter().flat_map(|topic| tombstones(cluster, version, topic)));
            }
            Delta::TopicConfigChanged { id, .. } | Delta::TopicReplicationChanged { id, .. } => {
                keys.extend(after.topics.get(id).map(|topic| Key::Topic(topic.name.clone())));
            }
            Delta::PartitionChanged { partition, .. } => {
                let Some(topic) = after.topics.get(&partition.topic) else { continue };
                keys.insert(Key::of_partition(&topic.name, topic.id, partition.partition));
                // A new partition changes the count, which the topic's record tells.
                if before.partition(*partition).is_none() {
                    keys.insert(Key::Topic(topic.name.clone()));
                }
            }
        }
    }
    // A name deleted and made anew in one entry is alive.
    bodies.retain(|body| !keys.contains(&body.key));
    bodies.extend(keys.iter().filter_map(|key| body_of(after, quorum, key)));
    bodies
}

/// What `image` says about one key; `None` if there is no such thing.
#[must_use]
pub fn body_of(image: &Image, quorum: Quorum, key: &Key) -> Option<Body> {
    let cluster = image.cluster.as_ref()?.id;
    match key {
        Key::Quorum => quorum_body(image, quorum),
        Key::Node(id) => Some(node_body(cluster, quorum, image.nodes.get(id)?)),
        Key::Topic(name) => Some(topic_body(cluster, quorum, image.topic(name)?)),
        Key::Shard(id, shard) => shard_body(cluster, quorum, image.topics.get(id)?, *shard),
        Key::Name(id) => Some(name_body(cluster, quorum, image.topics.get(id)?)),
    }
}

/// The keys that `node` publishes and refreshes: its own, the quorum's if it votes, and those of shards whose
/// first live partition it leads. A shard without a leader falls to the first voter.
#[must_use]
pub fn published_by(image: &Image, node: NodeId) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    if image.nodes.contains_key(&node) {
        keys.insert(Key::Node(node));
    }
    if image.voters.contains(&node) {
        keys.insert(Key::Quorum);
    }
    for topic in image.topics.values() {
        for (shard, states) in (0u32..).zip(topic.partitions.chunks(DHT_SHARD_PARTITIONS as usize)) {
            let publisher = states.iter().find_map(|state| state.leader).or(image.voters.first().copied());
            if publisher != Some(node) {
                continue;
            }
            if shard == 0 {
                keys.extend([Key::Topic(topic.name.clone()), Key::Name(topic.id)]);
            } else {
                keys.insert(Key::Shard(topic.id, shard));
            }
        }
    }
    keys
}

/// Tombstones for all records of a deleted `topic`; `version` is that of the deletion.
#[must_use]
pub fn tombstones(cluster: ClusterId, version: Version, topic: &Topic) -> Vec<Body> {
    topic_keys(topic).map(|key| Body { cluster, key, version, payload: None }).collect()
}

fn topic_keys(topic: &Topic) -> impl Iterator<Item = Key> {
    [Key::Topic(topic.name.clone()), Key::Name(topic.id)].into_iter().chain(further_shards(topic))
}

fn further_shards(topic: &Topic) -> impl Iterator<Item = Key> {
    let id = topic.id;
    (0u32..)
        .zip(topic.partitions.chunks(DHT_SHARD_PARTITIONS as usize))
        .skip(1)
        .map(move |(shard, _)| Key::Shard(id, shard))
}

fn topic_bodies(cluster: ClusterId, quorum: Quorum, topic: &Topic) -> Vec<Body> {
    let shards = further_shards(topic).filter_map(|key| match key {
        Key::Shard(_, shard) => shard_body(cluster, quorum, topic, shard),
        _ => None,
    });
    [topic_body(cluster, quorum, topic), name_body(cluster, quorum, topic)].into_iter().chain(shards).collect()
}

fn quorum_body(image: &Image, quorum: Quorum) -> Option<Body> {
    let cluster = image.cluster.as_ref()?;
    let voters = image.voters.iter().filter_map(|id| image.nodes.get(id)).map(|node| Voter {
        id: node.id,
        peer_id: node.peer_id.clone(),
        addresses: node.addresses.clone(),
    });
    let record = QuorumRecord {
        voters: voters.collect(),
        term: quorum.term,
        index: image.index,
        feature_level: cluster.feature_level,
        next_key: None,
    };
    Some(body(cluster.id, Key::Quorum, quorum, image.index, Payload::Quorum(record)))
}

fn node_body(cluster: ClusterId, quorum: Quorum, node: &Node) -> Body {
    let record = NodeRecord {
        id: node.id,
        peer_id: node.peer_id.clone(),
        epoch: node.epoch,
        addresses: node.addresses.clone(),
        lanes: node.lanes.clone(),
        kafka: node.kafka.clone(),
        rack: node.rack.clone(),
        role: node.role,
        version: node.version.clone(),
    };
    body(cluster, Key::Node(node.id), quorum, MetadataIndex(node.epoch.0), Payload::Node(record))
}

fn topic_body(cluster: ClusterId, quorum: Quorum, topic: &Topic) -> Body {
    let visible = |(key, _): &(&String, &String)| CLIENT_CONFIGS.contains(&key.as_str());
    let configs: BTreeMap<_, _> =
        topic.configs.iter().filter(visible).map(|(key, value)| (key.clone(), value.clone())).collect();
    fitting(|with_replicas| {
        let record = TopicRecord {
            id: topic.id,
            name: topic.name.clone(),
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            replication_factor: topic.replication_factor,
            configs: configs.clone(),
            shard: leaders(topic, 0, with_replicas).unwrap_or_default(),
        };
        body(cluster, Key::Topic(topic.name.clone()), quorum, topic.changed, Payload::Topic(record))
    })
}

fn shard_body(cluster: ClusterId, quorum: Quorum, topic: &Topic, shard: u32) -> Option<Body> {
    leaders(topic, shard, false).filter(|_| shard > 0)?;
    Some(fitting(|with_replicas| {
        let leaders = leaders(topic, shard, with_replicas).unwrap_or_default();
        let record = ShardRecord { topic: topic.id, shard, leaders };
        body(cluster, Key::Shard(topic.id, shard), quorum, topic.changed, Payload::Shard(record))
    }))
}

fn name_body(cluster: ClusterId, quorum: Quorum, topic: &Topic) -> Body {
    let record = NameRecord { id: topic.id, name: topic.name.clone() };
    body(cluster, Key::Name(topic.id), quorum, topic.changed, Payload::Name(record))
}

fn leaders(topic: &Topic, shard: u32, with_replicas: bool) -> Option<Leaders> {
    let states = topic.partitions.chunks(DHT_SHARD_PARTITIONS as usize).nth(shard as usize)?;
    Some(Leaders::pack(states, with_replicas))
}

/// Many replicas of 128 partitions may not fit in a record; leaders alone always do, and they are what readers need.
fn fitting(make: impl Fn(bool) -> Body) -> Body {
    let full = make(true);
    match encode_body(&full) {
        Ok(bytes) if bytes.len() + ENVELOPE_BYTES <= DHT_RECORD_BYTES_MAX => full,
        Ok(_) | Err(CborError::TooLarge { .. }) => make(false),
        Err(_) => full,
    }
}

fn body(cluster: ClusterId, key: Key, quorum: Quorum, index: MetadataIndex, payload: Payload) -> Body {
    Body { cluster, key, version: Version::new(quorum.generation, index), payload: Some(payload) }
}

#[cfg(test)]
mod tests;
