//! The one closed enum that both doors speak: bytes become a [`Request`] at the door, a [`Reply`] becomes bytes there.

use std::collections::BTreeMap;

use bytes::Bytes;
use rafka_model::{
    Chunks, LeaderEpoch, MetadataIndex, NodeId, Offset, PartitionId, ProducerId, Timestamp, TopicId, TopicName,
    TopicPartition,
};

use crate::Failure;
use crate::metadata::{Node, PartitionState};

/// Everything a node can be asked by a client, whatever the door.
#[derive(Clone, Debug)]
pub enum Request {
    /// Append batches.
    Produce(Produce),
    /// Read batches.
    Fetch(Fetch),
    /// Look offsets up.
    ListOffsets(ListOffsets),
    /// Move the log start.
    DeleteRecords(DeleteRecords),
    /// Read or change metadata.
    Admin(Admin),
}

/// The answer to the [`Request`] of the same name.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Per partition.
    Produce(Vec<PartitionReply<Produced>>),
    /// Per partition.
    Fetch(Vec<PartitionReply<Fetched>>),
    /// Per partition.
    ListOffsets(Vec<PartitionReply<FoundOffset>>),
    /// Per partition: the new log start.
    DeleteRecords(Vec<PartitionReply<Offset>>),
    /// As asked.
    Admin(AdminReply),
    /// The whole request was refused.
    Failed(Failure),
}

/// One partition's part of an answer.
#[derive(Clone, Debug)]
pub struct PartitionReply<T> {
    /// Which partition.
    pub partition: TopicPartition,
    /// What became of it.
    pub result: Result<T, Failure>,
}

/// When a produce is acknowledged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Acks {
    /// Never: no reply is sent.
    None,
    /// Once the leader wrote it (topics with `durability=fsync`: flushed it).
    Leader,
    /// Once every in-sync replica has it.
    #[default]
    All,
}

/// Append batches to partitions that the receiver leads.
#[derive(Clone, Debug)]
pub struct Produce {
    /// When to answer.
    pub acks: Acks,
    /// Longest wait for replicas, ms.
    pub timeout_ms: u32,
    /// What to append where; a partition appears once.
    pub partitions: Vec<ProducePartition>,
}

/// One partition's batches.
#[derive(Clone, Debug)]
pub struct ProducePartition {
    /// Where.
    pub partition: TopicPartition,
    /// The epoch that the sender believes in, if it knows one; fenced when stale.
    pub leader_epoch: Option<LeaderEpoch>,
    /// One or more record batches v2, end to end, as the producer made them.
    pub records: Bytes,
}

/// Where a produce ended up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Produced {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The broker's time, on topics with `message.timestamp.type=LogAppendTime`.
    pub append_time: Option<Timestamp>,
    /// First offset still in the log.
    pub log_start: Offset,
}

/// Read batches from partitions that the receiver leads.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Longest wait for `min_bytes`, ms.
    pub max_wait_ms: u32,
    /// Answer as soon as this many bytes are there.
    pub min_bytes: u32,
    /// Bytes of the whole answer; one batch more than this is given rather than none.
    pub max_bytes: u32,
    /// What to read.
    pub partitions: Vec<FetchPartition>,
}

/// One partition to read.
#[derive(Clone, Copy, Debug)]
pub struct FetchPartition {
    /// Where.
    pub partition: TopicPartition,
    /// As in [`ProducePartition`].
    pub leader_epoch: Option<LeaderEpoch>,
    /// First offset wanted; a batch that contains it comes whole.
    pub offset: Offset,
    /// Bytes from this partition.
    pub max_bytes: u32,
}

/// What a partition had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fetched {
    /// Offset behind the last committed record.
    pub high_watermark: Offset,
    /// Offset behind the last record of a decided transaction.
    pub last_stable_offset: Offset,
    /// First offset still in the log.
    pub log_start: Offset,
    /// Whole batches; the first may begin below the offset asked for.
    pub records: Chunks,
}

/// Which offset is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OffsetSpec {
    /// First offset in the log.
    Earliest,
    /// High watermark.
    Latest,
    /// First record at or after this time.
    At(Timestamp),
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
}

/// Look offsets up.
#[derive(Clone, Debug)]
pub struct ListOffsets {
    /// Partition, the epoch believed in, and what is wanted.
    pub partitions: Vec<(TopicPartition, Option<LeaderEpoch>, OffsetSpec)>,
}

/// An offset that was looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FoundOffset {
    /// The offset; `None` if no record is that late.
    pub offset: Option<Offset>,
    /// Timestamp of the record found by time.
    pub timestamp: Timestamp,
    /// Epoch of the leader that answered.
    pub leader_epoch: LeaderEpoch,
}

/// Drop records below an offset.
#[derive(Clone, Debug)]
pub struct DeleteRecords {
    /// Partition and new log start; `None` is the high watermark.
    pub partitions: Vec<(TopicPartition, Option<Offset>)>,
}

/// Ask where leader epochs end.
#[derive(Clone, Debug)]
pub struct EpochEnds {
    /// Partition, the epoch believed in, and the epoch asked for.
    pub partitions: Vec<(TopicPartition, Option<LeaderEpoch>, LeaderEpoch)>,
}

/// Where the largest epoch of a log that is not above the one asked for ends (KIP-101, KIP-279).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochEnd {
    /// That epoch.
    pub epoch: LeaderEpoch,
    /// First offset of the next epoch, or the log's end.
    pub end: Offset,
}

/// A producer with state at a partition (KIP-664).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence number of its last record, -1 without any.
    pub last_sequence: i32,
    /// Timestamp of its last batch.
    pub last_timestamp: i64,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// Metadata requests. Reads are answered by any node from its image, changes go to the controller.
#[derive(Clone, Debug)]
pub enum Admin {
    /// Make topics.
    CreateTopics {
        /// What to make.
        topics: Vec<NewTopic>,
        /// Check only, change nothing.
        validate_only: bool,
    },
    /// Remove topics and their records.
    DeleteTopics {
        /// By name.
        names: Vec<String>,
        /// Check only, change nothing.
        validate_only: bool,
    },
    /// Remove topics and their records, and no others that have their names meanwhile.
    DeleteTopicsById {
        /// By id.
        ids: Vec<TopicId>,
    },
    /// Change a topic's configuration.
    AlterConfigs {
        /// The topic.
        name: String,
        /// By key.
        changes: BTreeMap<String, ConfigChange>,
        /// Keys that are not in `changes` go back to their defaults.
        replace: bool,
        /// Check only, change nothing.
        validate_only: bool,
    },
    /// Grow a topic.
    AddPartitions {
        /// The topic.
        name: String,
        /// Partitions afterwards.
        total: u32,
        /// As in [`NewTopic`], of the new partitions.
        assignments: Vec<Vec<NodeId>>,
        /// Check only, change nothing.
        validate_only: bool,
    },
    /// Topics with their partitions.
    DescribeTopics {
        /// By name; empty is all.
        names: Vec<String>,
        /// As they were at this index or later: whoever changed one asks for nothing older than the change. 0 is
        /// whatever the node knows.
        since: MetadataIndex,
    },
    /// Nodes, controller, index.
    DescribeCluster,
    /// The swarm of the node that is asked: whom it is connected with.
    DescribeSwarm,
    /// The log directories of the node that is asked.
    DescribeLogDirs,
    /// A producer id that nobody else has (KIP-98); any node hands one out of its block.
    InitProducerId,
    /// A node's next block of producer ids. Nodes of the cluster only.
    AllocateProducerIds,
}

/// A change of one config.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigChange {
    /// The value is now this.
    Set(String),
    /// Back to the default.
    Reset,
    /// Words (split by commas) that join those of a list.
    Append(String),
    /// Words that leave a list.
    Subtract(String),
}

/// A topic to be made.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name, not yet checked.
    pub name: String,
    /// Partitions; `None` is the cluster's default.
    pub partitions: Option<u32>,
    /// Replicas of each; `None` is the cluster's default.
    pub replication_factor: Option<u16>,
    /// Config overrides, not yet checked.
    pub configs: BTreeMap<String, String>,
    /// Replicas of each partition in order of preference, instead of the two numbers; empty leaves them to placement.
    pub assignments: Vec<Vec<NodeId>>,
}

/// Answers to [`Admin`].
#[derive(Clone, Debug)]
pub enum AdminReply {
    /// To changes of topics: per topic, in the order asked.
    Topics(Vec<TopicReply>),
    /// To [`Admin::DescribeTopics`].
    Described(Vec<Result<TopicDescription, Failure>>),
    /// To [`Admin::DescribeCluster`].
    Cluster(Box<ClusterDescription>),
    /// To [`Admin::DescribeSwarm`].
    Swarm(Box<SwarmDescription>),
    /// To [`Admin::DescribeLogDirs`].
    LogDirs(Vec<LogDir>),
    /// To [`Admin::InitProducerId`]: a new id, whose epoch is 0.
    Producer(ProducerId),
    /// To [`Admin::AllocateProducerIds`].
    ProducerIds(ProducerIdBlock),
}

/// Producer ids that belong to one node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerIdBlock {
    /// The first of them.
    pub first: ProducerId,
    /// How many.
    pub count: u32,
}

/// What became of one topic of a change.
#[derive(Clone, Debug)]
pub struct TopicReply {
    /// Name as asked.
    pub name: String,
    /// The topic as it is (or, with `validate_only`, would be) afterwards, and the metadata index of the change.
    pub result: Result<(TopicDescription, MetadataIndex), Failure>,
}

/// A topic as its metadata says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicDescription {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Overrides only; defaults are in `rafka_model::config::KEYS`.
    pub configs: BTreeMap<String, String>,
    /// Replicas of each partition as resolved at creation.
    pub replication_factor: u16,
    /// By partition index.
    pub partitions: Vec<(PartitionId, PartitionState)>,
}

/// The cluster as its metadata says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: rafka_model::ClusterId,
    /// Leader of the metadata quorum, when known.
    pub controller: Option<NodeId>,
    /// Voters of the metadata quorum.
    pub voters: Vec<NodeId>,
    /// Registered nodes, fenced ones with them.
    pub nodes: Vec<Node>,
    /// Who answered.
    pub answered_by: NodeId,
    /// Index that the answer reflects.
    pub index: MetadataIndex,
    /// Topics and partitions known.
    pub topics: u32,
    /// Partitions of all topics.
    pub partitions: u32,
    /// Partitions without a live leader.
    pub offline_partitions: u32,
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated: u32,
    /// Nodes in service by the metadata that the answering node has no connection with.
    pub unreachable: Vec<NodeId>,
}

/// A directory of logs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogDir {
    /// Where it is.
    pub path: String,
    /// Why nothing is told of it: it is out of service, or its node does not answer.
    pub failure: Option<Failure>,
    /// All bytes of its file system.
    pub total_bytes: u64,
    /// Free bytes of its file system.
    pub usable_bytes: u64,
    /// Size of each log.
    pub partitions: Vec<(TopicPartition, u64)>,
}

/// A node's swarm at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SwarmDescription {
    /// The node, once it has joined.
    pub node: Option<NodeId>,
    /// Its libp2p peer id, as text.
    pub peer_id: String,
    /// Multiaddrs that it listens on.
    pub listening: Vec<String>,
    /// Entries of its Kademlia routing table.
    pub routing_table: u32,
    /// Peers with a connection.
    pub peers: Vec<SwarmPeer>,
}

/// A peer that a node is connected with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SwarmPeer {
    /// Its libp2p peer id, as text.
    pub peer_id: String,
    /// Its node id, if the registry has it.
    pub node: Option<NodeId>,
    /// Remote multiaddr of the newest connection.
    pub address: Option<String>,
    /// Connections.
    pub connections: u32,
    /// Newest ping, microseconds.
    pub round_trip_us: Option<u64>,
    /// Program and version it claims.
    pub agent: Option<String>,
    /// Authenticated as a node of the cluster.
    pub member: bool,
    /// In the Kademlia routing table.
    pub in_routing_table: bool,
    /// In the gossip mesh.
    pub in_gossip_mesh: bool,
}
