//! Records as the user sees them.

use bytes::Bytes;
use rafka_model::{Header, Offset, PartitionId, Timestamp, TopicName};

/// A record to publish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Where to.
    pub topic: TopicName,
    /// This partition rather than the partitioner's choice.
    pub partition: Option<PartitionId>,
    /// Records of one key keep their order: they go to one partition. `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// `None` is Kafka's null, a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// Headers, in this order.
    pub headers: Vec<Header>,
    /// Its time; `None` is now.
    pub timestamp: Option<Timestamp>,
}

impl Record {
    /// A record of this value, without a key.
    #[must_use]
    pub fn new(topic: TopicName, value: impl Into<Bytes>) -> Self {
        Self { topic, partition: None, key: None, value: Some(value.into()), headers: Vec::new(), timestamp: None }
    }

    /// The same record with a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record for this partition.
    #[must_use]
    pub fn partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same record with one more header.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { key: key.into(), value: Some(value.into()) });
        self
    }

    /// The same record with this time (ms since 1970 UTC).
    #[must_use]
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

/// Where a published record went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// The topic.
    pub topic: TopicName,
    /// The partition that the partitioner chose.
    pub partition: PartitionId,
    /// Its offset; `None` with acks none, which does not wait to learn it.
    pub offset: Option<Offset>,
    /// The time it carries: its own, or the broker's on topics with `LogAppendTime`.
    pub timestamp: Timestamp,
}

/// A record that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumedRecord {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its time (ms since 1970 UTC).
    pub timestamp: Timestamp,
    /// Key; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// Value; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// Headers in the producer's order.
    pub headers: Vec<Header>,
}
