//! The metadata log: deltas, and the image that they fold into.
//!
//! Entries carry *results*, not commands, so applying them is a pure fold that cannot diverge
//! between versions (as in KRaft, KIP-631). These types derive serde because they are the format
//! of the metadata log (CBOR maps, unknown fields ignored, new fields defaulted); the mesh carries
//! them as opaque entries.

mod apply;
mod codec;

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_model::{
    BootId, BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, MetadataIndex, NodeId, PartitionEpoch, PartitionId,
    ProducerId, TopicId, TopicName, TopicPartition,
};
use serde::{Deserialize, Serialize};

pub use apply::ApplyError;
pub use codec::{decode_entry, decode_image, encode_entry, encode_image};

/// One committed entry: what the controller decided in one go.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Index of this entry in the metadata log, one more than the entry's before it.
    pub index: MetadataIndex,
    /// What changed, in order.
    pub deltas: Vec<Delta>,
}

/// One change of metadata.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Delta {
    /// The cluster was founded. First delta of every metadata log, and only there.
    ClusterFounded {
        /// Hash of `public_key`.
        cluster_id: ClusterId,
        /// Ed25519 public half of the cluster key.
        public_key: [u8; 32],
        /// blake3 of the join token; `None` when the founder runs open on loopback.
        join_token_hash: Option<[u8; 32]>,
        /// Version of the cluster's behaviour; grows by upgrades.
        feature_level: u32,
    },
    /// The voters of the metadata quorum are now these.
    VotersChanged {
        /// By node id.
        voters: Vec<NodeId>,
    },
    /// A node joined or came back; it is fenced until its first heartbeat.
    NodeRegistered(Node),
    /// A node fell silent: it leads nothing and is in no ISR from here on (KIP-631).
    NodeFenced {
        /// Which node.
        id: NodeId,
    },
    /// A node is back in service.
    NodeUnfenced {
        /// Which node.
        id: NodeId,
    },
    /// A node is to be emptied, or is no longer.
    NodeDraining {
        /// Which node.
        id: NodeId,
        /// [`Node::draining`] from here on.
        draining: bool,
    },
    /// A node without replicas is gone for good; its id is never given out again.
    NodeRemoved {
        /// Which node.
        id: NodeId,
    },
    /// The cluster behaves by this version from here on.
    FeatureLevelChanged {
        /// Larger than before.
        level: u32,
    },
    /// A topic was made, with all its partitions.
    TopicCreated(Topic),
    /// A topic and its records are gone.
    TopicDeleted {
        /// Which topic.
        id: TopicId,
    },
    /// One config of a topic.
    TopicConfigChanged {
        /// Which topic.
        id: TopicId,
        /// The key.
        key: String,
        /// New value; `None` goes back to the default.
        value: Option<String>,
    },
    /// Partitions of a topic are to have so many replicas from here on.
    TopicReplicationChanged {
        /// Which topic.
        id: TopicId,
        /// [`Topic::replication_factor`] from here on.
        replication_factor: u16,
    },
    /// A partition was added or its state changed.
    PartitionChanged {
        /// Which partition.
        partition: TopicPartition,
        /// All of its state.
        state: PartitionState,
    },
    /// A node got a block of producer ids (KIP-730).
    ProducerIdsAllocated {
        /// The first id behind the block. The block begins where the one before ended.
        next: ProducerId,
    },
}

/// What part a node plays.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Owns partitions.
    #[default]
    Broker,
    /// Owns nothing; relays.
    Gateway,
}

/// A registered node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Counted from 1 in the order of first registrations, never reused.
    pub id: NodeId,
    /// libp2p peer id, as text.
    pub peer_id: String,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Index of this registration.
    pub epoch: BrokerEpoch,
    /// Boot of its machine.
    pub boot: BootId,
    /// Random for each start of the process: tells a repeated registration from another process of this identity.
    #[serde(default)]
    pub incarnation: [u8; 16],
    /// Mesh addresses, multiaddrs as text, without `/p2p`.
    pub addresses: Vec<String>,
    /// Addresses of its lanes, multiaddrs as text, without `/p2p`; none if it has no lanes.
    #[serde(default)]
    pub lanes: Vec<String>,
    /// Kafka endpoints by listener name: `host:port`.
    #[serde(default)]
    pub kafka: BTreeMap<String, String>,
    /// Address of its ops HTTP, for tools on the same network.
    #[serde(default)]
    pub ops: Option<String>,
    /// Failure domain.
    #[serde(default)]
    pub rack: Option<String>,
    /// Weight in placement, 1.0 is normal; thousandths.
    #[serde(default = "normal_weight")]
    pub weight_milli: u32,
    /// Part it plays.
    #[serde(default)]
    pub role: Role,
    /// Program version.
    #[serde(default)]
    pub version: String,
    /// Out of service: silent, or not yet heard.
    pub fenced: bool,
    /// Gets no replicas and no leaderships, and gives those away that it has.
    #[serde(default)]
    pub draining: bool,
    /// Largest feature level that its program knows.
    #[serde(default = "first_level")]
    pub features_max: u32,
}

fn normal_weight() -> u32 {
    1000
}

fn first_level() -> u32 {
    1
}

/// A topic and its partitions.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Overrides.
    pub configs: BTreeMap<String, String>,
    /// Resolved at creation; changes when all partitions are reassigned to another number of replicas.
    pub replication_factor: u16,
    /// By index, dense from 0.
    pub partitions: Vec<PartitionState>,
    /// Index of the last change of this topic or a partition of it: the version of its DHT records.
    #[serde(default)]
    pub changed: MetadataIndex,
}

/// What the controller knows of a partition.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Where it lives, in order of preference.
    pub replicas: Vec<NodeId>,
    /// Who leads; `None` while nobody can.
    pub leader: Option<NodeId>,
    /// Grows with each change of leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with each change of this state.
    pub partition_epoch: PartitionEpoch,
    /// In-sync replicas.
    pub isr: Vec<NodeId>,
    /// Eligible leader replicas (KIP-966): not in sync, but certain to have every committed record.
    #[serde(default)]
    pub elr: Vec<NodeId>,
    /// Of a reassignment under way (KIP-455): replicas that are new; they stand behind all others in `replicas`.
    #[serde(default)]
    pub adding: Vec<NodeId>,
    /// Of a reassignment under way (KIP-455): replicas that will go.
    #[serde(default)]
    pub removing: Vec<NodeId>,
    /// Of a reassignment that waits or is under way: the replicas it ends with, in order of preference.
    #[serde(default)]
    pub target: Vec<NodeId>,
    /// Who was in sync or eligible since fewer than `min.insync.replicas` are in sync, and is no longer: where an unclean
    /// recovery looks (KIP-966).
    #[serde(default)]
    pub last_known_elr: Vec<NodeId>,
    /// The leader was elected uncleanly and has not said yet that it recovered.
    #[serde(default)]
    pub recovering: bool,
}

/// State of the cluster after the entries up to `index`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Last entry applied.
    pub index: MetadataIndex,
    /// Set by the first entry.
    pub cluster: Option<Cluster>,
    /// Voters of the metadata quorum.
    pub voters: Vec<NodeId>,
    /// Largest node id given out; ids are never reused, also not those of nodes that are gone.
    #[serde(default)]
    pub last_node: NodeId,
    /// Smallest producer id that was never given out.
    #[serde(default)]
    pub next_producer: ProducerId,
    /// By id.
    pub nodes: BTreeMap<NodeId, Node>,
    /// By id; shared, so that an image of many topics is cheap to clone.
    pub topics: BTreeMap<TopicId, Arc<Topic>>,
    /// Ids by name.
    pub topic_ids: BTreeMap<TopicName, TopicId>,
}

/// What was decided when the cluster was founded.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Hash of the cluster key's public half.
    pub id: ClusterId,
    /// Ed25519.
    pub public_key: [u8; 32],
    /// blake3 of the join token.
    pub join_token_hash: Option<[u8; 32]>,
    /// Version of the cluster's behaviour.
    pub feature_level: u32,
}

impl Image {
    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<&Topic> {
        self.topics.get(self.topic_ids.get(name)?).map(Arc::as_ref)
    }

    /// The state of one partition.
    #[must_use]
    pub fn partition(&self, at: TopicPartition) -> Option<&PartitionState> {
        self.topics.get(&at.topic)?.partition(at.partition)
    }

    /// The id of the next node that joins: small and dense, as operators and Kafka clients (32 bits) expect.
    #[must_use]
    pub fn next_node(&self) -> NodeId {
        NodeId(self.last_node.0 + 1)
    }

    /// The node of this peer id.
    #[must_use]
    pub fn node_by_peer(&self, peer_id: &str) -> Option<&Node> {
        self.nodes.values().find(|node| node.peer_id == peer_id)
    }
}

impl PartitionState {
    /// The replicas that it has, or will have once its reassignment is done, in order of preference.
    #[must_use]
    pub fn goal(&self) -> &[NodeId] {
        if self.target.is_empty() { &self.replicas } else { &self.target }
    }

    /// Replicas come or go.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// A reassignment was asked for and has not begun.
    #[must_use]
    pub fn awaits_move(&self) -> bool {
        !self.target.is_empty() && !self.is_moving()
    }
}

impl Topic {
    /// `min.insync.replicas`, at least 1.
    #[must_use]
    pub fn min_insync(&self) -> usize {
        self.configs.get("min.insync.replicas").and_then(|value| value.parse().ok()).unwrap_or(1).max(1)
    }

    /// The state of one partition.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionState> {
        self.partitions.get(id.0 as usize)
    }
}
