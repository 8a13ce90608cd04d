//! Records: what the DHT holds, as its readers see it.

mod payload;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_model::limits::{DHT_QUORUM_TTL_MS, DHT_TTL_MS};
use rafka_model::{ClusterId, MetadataIndex};
use serde::{Deserialize, Serialize};

pub use payload::{Leaders, NameRecord, NodeRecord, Partition, Payload, QuorumRecord, ShardRecord, TopicRecord, Voter};
pub(crate) use wire::{Envelope, decode_body, encode_body};

use crate::Key;

/// Age of a record: which committed state it tells of. A later state has a greater version.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Generation of the metadata quorum: grows only when a lost quorum is rebuilt by hand.
    #[serde(rename = "g")]
    pub generation: u64,
    /// Index in the metadata log.
    #[serde(rename = "i")]
    pub index: MetadataIndex,
}

impl Version {
    /// Older than every record: "any will do".
    pub const ANY: Self = Self { generation: 0, index: MetadataIndex(0) };

    /// The version at `index` of generation `generation`.
    #[must_use]
    pub fn new(generation: u64, index: MetadataIndex) -> Self {
        Self { generation, index }
    }

    /// The least version that is later than this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self { index: MetadataIndex(self.index.0.saturating_add(1)), ..self }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.generation == 0 { self.index.fmt(f) } else { write!(f, "{}.{}", self.generation, self.index) }
    }
}

/// What is signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Body {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// What it is about.
    pub key: Key,
    /// Which committed state it tells of.
    pub version: Version,
    /// What it says; `None` is a tombstone: there was such a thing, and it is gone.
    pub payload: Option<Payload>,
}

/// A record whose signature holds: made only by [`crate::Signer::sign`] and [`crate::Verifier::verify`].
/// Cheap to clone.
#[derive(Clone, Eq, PartialEq)]
pub struct SignedRecord(Arc<(Body, Bytes)>);

impl SignedRecord {
    pub(crate) fn new(body: Body, bytes: Bytes) -> Self {
        Self(Arc::new((body, bytes)))
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.0.0
    }

    /// What it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.body().key
    }

    /// Which committed state it tells of.
    #[must_use]
    pub fn version(&self) -> Version {
        self.body().version
    }

    /// True if it says that the thing is gone.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.body().payload.is_none()
    }

    /// As it travels: the CBOR envelope with the signature.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0.1
    }

    /// How long a holder keeps it without a refresh. Tombstones live twice as long as what they bury.
    #[must_use]
    pub fn life(&self) -> Duration {
        let ttl = life_of(self.key());
        if self.is_tombstone() { ttl * 2 } else { ttl }
    }

    /// How often its publisher refreshes it.
    #[must_use]
    pub fn refresh_interval(&self) -> Duration {
        match self.key() {
            Key::Quorum => life_of(self.key()) / 5,
            _ => life_of(self.key()) / 3,
        }
    }

    /// The topic and its first shard.
    #[must_use]
    pub fn topic(&self) -> Option<&TopicRecord> {
        match &self.body().payload {
            Some(Payload::Topic(topic)) => Some(topic),
            _ => None,
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> Option<&NodeRecord> {
        match &self.body().payload {
            Some(Payload::Node(node)) => Some(node),
            _ => None,
        }
    }

    /// The quorum.
    #[must_use]
    pub fn quorum(&self) -> Option<&QuorumRecord> {
        match &self.body().payload {
            Some(Payload::Quorum(quorum)) => Some(quorum),
            _ => None,
        }
    }

    /// The leaders of the shard: its own or the first one of a topic.
    #[must_use]
    pub fn leaders(&self) -> Option<&Leaders> {
        match &self.body().payload {
            Some(Payload::Topic(topic)) => Some(&topic.shard),
            Some(Payload::Shard(shard)) => Some(&shard.leaders),
            _ => None,
        }
    }

    /// The name of the topic.
    #[must_use]
    pub fn name(&self) -> Option<&NameRecord> {
        match &self.body().payload {
            Some(Payload::Name(name)) => Some(name),
            _ => None,
        }
    }
}

fn life_of(key: &Key) -> Duration {
    Duration::from_millis(if *key == Key::Quorum { DHT_QUORUM_TTL_MS } else { DHT_TTL_MS })
}

impl fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRecord")
            .field("key", self.key())
            .field("version", &self.version())
            .field("tombstone", &self.is_tombstone())
            .field("bytes", &self.bytes().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_generation_outweighs_any_index() {
        let old = Version::new(0, MetadataIndex(900));
        assert!(old < old.next() && old.next() < Version::new(1, MetadataIndex(1)));
        assert!(Version::ANY < Version::new(0, MetadataIndex(1)));
        assert_eq!(Version::new(1, MetadataIndex(7)).to_string(), "1.7");
    }
}
