//! What comes out of a resolver.

use std::collections::BTreeMap;
use std::fmt;

use libp2p::{Multiaddr, PeerId};
use rafka_broker::ErrorCode;
use rafka_model::{LeaderEpoch, NodeId, PartitionId, TopicId, TopicName};

use super::Source;
use crate::{Key, Version};

/// A topic by name or by id.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(TopicName),
    /// By id.
    Id(TopicId),
}

impl From<&TopicName> for TopicRef {
    fn from(name: &TopicName) -> Self {
        Self::Name(name.clone())
    }
}

impl From<TopicName> for TopicRef {
    fn from(name: TopicName) -> Self {
        Self::Name(name)
    }
}

impl From<TopicId> for TopicRef {
    fn from(id: TopicId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// Where a node is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeAt {
    /// Its id.
    pub id: NodeId,
    /// Its peer id.
    pub peer: PeerId,
    /// Its mesh addresses, without `/p2p`.
    pub addresses: Vec<Multiaddr>,
    /// Addresses of its lanes, as far as they are known.
    pub lanes: Vec<Multiaddr>,
}

/// Where to send requests for a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// The topic's id.
    pub topic: TopicId,
    /// The topic's name.
    pub name: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// The leader.
    pub leader: NodeId,
    /// The leader's peer id.
    pub peer: PeerId,
    /// The leader's addresses, without `/p2p`.
    pub addresses: Vec<Multiaddr>,
    /// Addresses of the leader's lanes, as far as they are known.
    pub lanes: Vec<Multiaddr>,
    /// Generation of the leadership: goes into every request.
    pub leader_epoch: LeaderEpoch,
    /// Version of the record that named the leader.
    pub version: Version,
    /// The farthest place that was needed.
    pub source: Source,
    /// The farthest place that the records came from in the first place, before they were cached.
    pub origin: Source,
    /// The longest chain of referrals that was needed, see [`crate::Found::hops`].
    pub hops: u32,
    /// Peers that were asked.
    pub asked: Vec<PeerId>,
}

impl Route {
    /// The key of the record that names the leader.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::of_partition(&self.name, self.topic, self.partition)
    }
}

/// A topic as its record tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicView {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has.
    pub partitions: u32,
    /// Replicas of each.
    pub replication_factor: u16,
    /// Overrides that a client acts on.
    pub configs: BTreeMap<String, String>,
    /// Version of the record.
    pub version: Version,
    /// The farthest place that was needed.
    pub source: Source,
}

/// Why there is no route.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResolveError {
    /// An authoritative node knows no such topic.
    #[error("topic {topic} does not exist")]
    UnknownTopic {
        /// Name or id.
        topic: String,
    },
    /// The topic has fewer partitions.
    #[error("topic {topic} has {partitions} partitions, there is no partition {partition}")]
    UnknownPartition {
        /// Its name.
        topic: TopicName,
        /// What was asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// The cluster has no such node.
    #[error("node {id} does not exist")]
    UnknownNode {
        /// Which.
        id: NodeId,
    },
    /// Nobody can lead the partition at the moment.
    #[error("partition {topic}/{partition} has no leader (epoch {epoch}, version {version})")]
    NoLeader {
        /// The topic's name.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Its leader epoch.
        epoch: LeaderEpoch,
        /// Version of the record that says so.
        version: Version,
    },
    /// Neither the DHT nor an authoritative node could answer.
    #[error("cannot look up {key}: {reason}")]
    Unavailable {
        /// The record's key.
        key: String,
        /// What went wrong with the fallback.
        reason: String,
    },
}

impl ResolveError {
    /// What to tell a client at either door.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::NoLeader { .. } | Self::UnknownNode { .. } => ErrorCode::LeaderNotAvailable,
            Self::Unavailable { .. } => ErrorCode::ControllerUnavailable,
        }
    }

    /// An authoritative node says that there is no `key`.
    pub(super) fn unknown(key: &Key) -> Self {
        match key {
            Key::Topic(name) => Self::UnknownTopic { topic: name.to_string() },
            Key::Name(id) | Key::Shard(id, _) => Self::UnknownTopic { topic: id.to_string() },
            Key::Node(id) => Self::UnknownNode { id: *id },
            Key::Quorum => Self::Unavailable { key: key.to_string(), reason: "there is no quorum".to_owned() },
        }
    }

    /// A record that says nothing usable.
    pub(super) fn unusable(key: &Key) -> Self {
        Self::Unavailable { key: key.to_string(), reason: "the answer held no usable record".to_owned() }
    }
}
