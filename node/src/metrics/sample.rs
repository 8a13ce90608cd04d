//! What a node is at one moment, in plain figures.

use rafka_model::{Offset, PartitionId, TopicName};
use rafka_protocols::gossip::LoadHint;

/// A node at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Nodes in the registry.
    pub nodes: u64,
    /// Nodes out of service.
    pub nodes_fenced: u64,
    /// Topics of the cluster.
    pub topics: u64,
    /// Partitions of the cluster.
    pub partitions: u64,
    /// Partitions of the cluster without a leader; told by the controller alone, so that sums over nodes are right.
    pub partitions_offline: u64,
    /// Partitions led here whose in-sync set is smaller than their replica set.
    pub partitions_under_replicated: u64,
    /// Replicas on this node.
    pub partitions_hosted: u64,
    /// Partitions led by this node.
    pub partitions_led: u64,
    /// This node is the active controller.
    pub is_controller: bool,
    /// Index of the last applied entry of the metadata log.
    pub metadata_index: u64,
    /// Bytes of all logs on this node.
    pub log_bytes: u64,
    /// Bytes appended since the start.
    pub appended_bytes: u64,
    /// Records appended since the start.
    pub appended_records: u64,
    /// Bytes of records given to fetches since the start.
    pub fetched_bytes: u64,
    /// Fetches that found too little and waited, since the start.
    pub fetches_parked: u64,
    /// Reads that had to go to the disk since the start.
    pub disk_reads: u64,
    /// Compaction rounds since the start.
    pub compactions: u64,
    /// Compaction rounds that failed since the start.
    pub compactions_failed: u64,
    /// Bytes that compaction read since the start.
    pub compaction_read_bytes: u64,
    /// Bytes that compaction wrote since the start.
    pub compaction_written_bytes: u64,
    /// Records that compaction removed since the start.
    pub compacted_records: u64,
    /// Time (ms) that the last compaction round took.
    pub compaction_last_ms: u64,
    /// Share (millionths) of the bytes that the last compaction round kept.
    pub compaction_kept_ppm: u64,
    /// Dirty share (millionths) of the dirtiest log that was due at the last look.
    pub compaction_dirty_ppm: u64,
    /// Appends are refused because the disk is full.
    pub disk_full: bool,
    /// Log directories that failed and are out of service.
    pub disks_failed: u64,
    /// Free bytes of the data directory's file system.
    pub disk_free_bytes: u64,
    /// All bytes of that file system.
    pub disk_total_bytes: u64,
    /// The cache.
    pub cache: rafka_cache::Stats,
    /// DHT records held for others.
    pub dht_records: u64,
    /// Bytes of DHT records held for others.
    pub dht_bytes: u64,
    /// What the members last told of their load.
    pub loads: Vec<LoadHint>,
    /// Partitions led by this node, as many as are to have series of their own; more are left out.
    pub led: Vec<PartitionSample>,
}

/// A partition at one moment.
#[derive(Clone, Debug)]
pub struct PartitionSample {
    /// Its topic.
    pub topic: TopicName,
    /// Its index.
    pub partition: PartitionId,
    /// First offset that is kept.
    pub log_start: Offset,
    /// First offset that consumers do not see yet.
    pub high_watermark: Offset,
    /// Bytes on disk.
    pub bytes: u64,
}
