//! The nouns of Rafka and its limits.
//!
//! Everything above this crate speaks in these types; nothing here reads a clock, a disk or a
//! socket. Wire and disk formats of other crates are converted to these types at their door; the
//! one format that lives here is the record batch, because disk, mesh and Kafka door share it
//! byte for byte.

pub mod batch;
pub mod cbor;
mod chunks;
pub mod compression;
pub mod config;
mod ids;
pub mod limits;
mod names;
mod partitioner;
mod time;

pub use batch::{BatchBuilder, BatchError, BatchHeader, Header, Record, RecordBatch};
pub use chunks::Chunks;
pub use compression::Compression;
pub use config::{CleanupPolicy, Durability, StorageEngine, TopicConfig, UncleanRecovery};
pub use ids::{
    BootId, BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, MetadataIndex, NodeId, Offset, PartitionEpoch,
    PartitionId, ProducerId, TopicId, TopicPartition,
};
pub use names::{NameError, TopicName};
pub use partitioner::{murmur2, partition_for_key};
pub use time::{Monotonic, Timestamp};
