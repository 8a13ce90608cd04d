//! Settings of the client, the producer and the consumer, with their defaults.

use std::fmt;
use std::sync::Arc;

use rafka_broker::request::Acks;
use rafka_model::limits::{BATCH_BYTES_DEFAULT, CONTROL_DEADLINE_MS, KIB, MIB};
use rafka_model::{ClusterId, Compression, Offset, PartitionId, Timestamp, TopicName};

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Addresses of some nodes: multiaddr with or without `/p2p/…`, `host:port`, `dns:NAME[:PORT]`, `srv:NAME`.
    /// One that answers is enough; afterwards they are not special.
    pub bootstrap: Vec<String>,
    /// The only cluster to talk to; `None` takes the first that answers.
    pub cluster_id: Option<ClusterId>,
    /// The cluster's join token, where nodes ask for it. It is proven, never sent.
    pub token: Option<String>,
    /// Longest time for [`crate::Client::connect`], ms.
    pub connect_timeout_ms: u64,
    /// Keep dialling until `connect_timeout_ms` even when every address refused at once: for nodes that are starting.
    pub wait_for_nodes: bool,
    /// Longest time for a metadata or admin request, ms.
    pub request_timeout_ms: u64,
    /// First wait after a failure, ms; doubles with each failure in a row …
    pub retry_backoff_ms: u64,
    /// … up to this, ms.
    pub retry_backoff_ms_max: u64,
    /// Never ask a node's registry for what the DHT did not tell: for tests of the DHT.
    pub fallback_disabled: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            bootstrap: vec!["127.0.0.1:7300".to_owned()],
            cluster_id: None,
            token: None,
            connect_timeout_ms: 10_000,
            wait_for_nodes: false,
            request_timeout_ms: CONTROL_DEADLINE_MS,
            retry_backoff_ms: 50,
            retry_backoff_ms_max: 1_000,
            fallback_disabled: false,
        }
    }
}

/// How records are batched and delivered.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// When a record counts as delivered.
    pub acks: Acks,
    /// Codec of the batches; a topic's `compression.type` may override it at the leader.
    pub compression: Compression,
    /// How long a batch may wait for company, ms. A full batch, [`crate::Producer::flush`] and a full buffer end the wait.
    pub linger_ms: u64,
    /// Bytes of a batch before compression; a larger record travels alone.
    pub batch_bytes: usize,
    /// Bytes of records that wait or travel; [`crate::Producer::enqueue`] waits when they are used up.
    pub buffer_bytes: usize,
    /// From [`crate::Producer::enqueue`] to success or failure, retries with it, ms.
    pub delivery_timeout_ms: u64,
    /// One attempt, ms.
    pub request_timeout_ms: u64,
    /// First wait after a failed attempt, ms; doubles …
    pub retry_backoff_ms: u64,
    /// … up to this, ms.
    pub retry_backoff_ms_max: u64,
    /// Number the records under a producer id of the cluster's (KIP-98), so that a batch that is sent again, because its
    /// answer was lost, is in the log once. Without effect under [`Acks::None`], where nobody learns what was lost.
    pub idempotent: bool,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            linger_ms: 5,
            batch_bytes: 512 * KIB,
            buffer_bytes: 64 * MIB,
            delivery_timeout_ms: 120_000,
            request_timeout_ms: 30_000,
            retry_backoff_ms: 50,
            retry_backoff_ms_max: 1_000,
            idempotent: true,
        }
    }
}

/// Which topics to read.
#[derive(Clone)]
pub enum Subscription {
    /// These; each must exist.
    Topics(Vec<TopicName>),
    /// Every topic whose name this accepts, ones made later with it.
    Matching(Arc<dyn Fn(&TopicName) -> bool + Send + Sync>),
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topics(names) => f.debug_tuple("Topics").field(names).finish(),
            Self::Matching(_) => f.write_str("Matching(..)"),
        }
    }
}

/// Where to begin in each partition.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// Behind the last committed record.
    #[default]
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first record of this time or later; at the end if there is none.
    Time(Timestamp),
}

/// What to do when the position is outside the log: never reached, or deleted meanwhile.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OffsetReset {
    /// Go on at the first record there is.
    #[default]
    Earliest,
    /// Go on behind the last record.
    Latest,
    /// Yield an error and stop reading the partition.
    Error,
}

/// What to read and how eagerly.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Which topics.
    pub subscription: Subscription,
    /// Only these partitions of each topic; `None` is all.
    pub partitions: Option<Vec<PartitionId>>,
    /// Share the topics with the other members of this group; `None` reads all partitions alone.
    pub group: Option<GroupConfig>,
    /// Where to begin. Partitions and topics found later are read from their first record. In a group: where nothing is
    /// committed yet.
    pub start: Start,
    /// When the position is outside the log.
    pub reset: OffsetReset,
    /// End each partition at the high watermark that it had when it was found, and the stream after the last of them.
    pub exit_at_end: bool,
    /// Longest wait of a fetch for news, ms.
    pub max_wait_ms: u32,
    /// A fetch answers as soon as it has this much.
    pub min_bytes: u32,
    /// Bytes of one answer, all partitions.
    pub fetch_bytes_max: u32,
    /// Bytes of one answer from one partition.
    pub partition_bytes_max: u32,
    /// Bytes fetched ahead of what was taken from the stream.
    pub prefetch_bytes: usize,
    /// Look for new topics and partitions this often, ms.
    pub refresh_ms: u64,
    /// Yield an error when a partition could not be read for this long, ms (the consumer keeps trying).
    pub stall_ms: u64,
}

impl ConsumerConfig {
    /// Defaults for these topics.
    #[must_use]
    pub fn topics(topics: impl IntoIterator<Item = TopicName>) -> Self {
        Self::new(Subscription::Topics(topics.into_iter().collect()))
    }

    /// Defaults for this subscription.
    #[must_use]
    pub fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            partitions: None,
            group: None,
            start: Start::Latest,
            reset: OffsetReset::Earliest,
            exit_at_end: false,
            max_wait_ms: 500,
            min_bytes: 1,
            fetch_bytes_max: 8 * MIB as u32,
            partition_bytes_max: BATCH_BYTES_DEFAULT,
            prefetch_bytes: 64 * MIB,
            refresh_ms: 10_000,
            stall_ms: 60_000,
        }
    }

    /// The same as a member of this group.
    #[must_use]
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(GroupConfig::new(group));
        self
    }
}

/// How a consumer takes part in a group. The coordinator says how often members report, and how long they may be silent.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group.
    pub id: String,
    /// A name that stays the same when the program starts anew: a short absence then costs no rebalance (KIP-345).
    pub instance_id: Option<String>,
    /// Where the member is, for assignors that care.
    pub rack_id: Option<String>,
    /// `uniform` or `range`; `None` is the coordinator's choice.
    pub assignor: Option<String>,
    /// The name by which administrators see the member.
    pub client_id: String,
    /// How long the member may take to give partitions back, ms.
    pub rebalance_timeout_ms: i32,
    /// Commit what was taken from the stream this often, ms, and when partitions go; `None` leaves it to
    /// [`crate::Consumer::commit`].
    pub auto_commit_ms: Option<u64>,
    /// Records are done with at [`crate::Consumer::confirm`], and not when the next one is asked for: for programs that
    /// gather records before they do something with them.
    pub confirm: bool,
}

impl GroupConfig {
    /// Defaults for this group.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            instance_id: None,
            rack_id: None,
            assignor: None,
            client_id: "rafka".to_owned(),
            rebalance_timeout_ms: 60_000,
            auto_commit_ms: Some(5_000),
            confirm: false,
        }
    }
}
