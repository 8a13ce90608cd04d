//! Keys: what a record is about. libp2p hashes their text, so the text has one form only.

use std::fmt;

use libp2p::kad::{KBucketKey, RecordKey};
use rafka_model::limits::{DHT_SHARD_PARTITIONS, TOPIC_NAME_BYTES_MAX};
use rafka_model::{ClusterId, NodeId, PartitionId, TopicId, TopicName};

/// Longest text of a key: prefix, cluster, kind and the longest topic name.
const KEY_BYTES_MAX: usize = 6 + 8 + 3 + TOPIC_NAME_BYTES_MAX;

/// What a record is about.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Key {
    /// The voters of the metadata quorum: `/rfk1/<cid>/q`.
    Quorum,
    /// A node: `/rfk1/<cid>/n/<node id>`.
    Node(NodeId),
    /// A topic and its first shard: `/rfk1/<cid>/t/<name>`.
    Topic(TopicName),
    /// A further shard of a topic's partitions, from 1: `/rfk1/<cid>/p/<topic id>/<shard>`.
    Shard(TopicId, u32),
    /// The name of a topic: `/rfk1/<cid>/i/<topic id>`.
    Name(TopicId),
}

/// Why bytes are not a key of this cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form of any kind, or not the one form that the kind has.
    #[error("not a canonical key")]
    NotCanonical,
    /// Of another cluster.
    #[error("key of another cluster")]
    Foreign,
}

impl Key {
    /// The key of the record that tells who leads `partition`; the first shard rides in the topic's record.
    #[must_use]
    pub fn of_partition(name: &TopicName, topic: TopicId, partition: PartitionId) -> Self {
        match partition.0 / DHT_SHARD_PARTITIONS {
            0 => Self::Topic(name.clone()),
            shard => Self::Shard(topic, shard),
        }
    }

    /// The text in the keyspace of `cluster` (its first 8 digits, as in the protocol's name).
    #[must_use]
    pub fn text(&self, cluster: &ClusterId) -> String {
        format!("/rfk1/{}/{self}", cluster.short())
    }

    /// As libp2p names the record.
    #[must_use]
    pub fn record_key(&self, cluster: &ClusterId) -> RecordKey {
        RecordKey::from(self.text(cluster).into_bytes())
    }

    /// The place in the keyspace, from which XOR distances are measured.
    #[must_use]
    pub fn place(&self, cluster: &ClusterId) -> KBucketKey<RecordKey> {
        KBucketKey::new(self.record_key(cluster))
    }

    /// Reads a key of `cluster`.
    ///
    /// # Errors
    /// [`KeyError`]; a key has exactly one text, so `/n/07` is refused.
    pub fn parse(bytes: &[u8], cluster: &ClusterId) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(bytes).map_err(|_| KeyError::NotCanonical)?;
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::NotCanonical);
        }
        let (short, rest) =
            text.strip_prefix("/rfk1/").and_then(|rest| rest.split_once('/')).ok_or(KeyError::NotCanonical)?;
        if short != cluster.short() {
            return Err(KeyError::Foreign);
        }
        let key = Self::parse_kind(rest).ok_or(KeyError::NotCanonical)?;
        if key.to_string() == rest { Ok(key) } else { Err(KeyError::NotCanonical) }
    }

    fn parse_kind(rest: &str) -> Option<Self> {
        if rest == "q" {
            return Some(Self::Quorum);
        }
        let (kind, name) = rest.split_once('/')?;
        match kind {
            "n" => Some(Self::Node(NodeId(name.parse().ok()?))),
            "t" => Some(Self::Topic(TopicName::new(name).ok()?)),
            "p" => {
                let (topic, shard) = name.split_once('/')?;
                Some(Self::Shard(topic.parse().ok()?, shard.parse().ok()?))
            }
            "i" => Some(Self::Name(name.parse().ok()?)),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quorum => f.write_str("q"),
            Self::Node(id) => write!(f, "n/{id}"),
            Self::Topic(name) => write!(f, "t/{name}"),
            Self::Shard(topic, shard) => write!(f, "p/{topic}/{shard}"),
            Self::Name(topic) => write!(f, "i/{topic}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLUSTER: ClusterId = ClusterId([0xab; 32]);

    #[test]
    fn every_kind_survives_its_text() {
        let topic = TopicId([0x5c; 16]);
        for key in [
            Key::Quorum,
            Key::Node(NodeId(u64::MAX)),
            Key::Topic(TopicName::new(&"x".repeat(249)).expect("legal")),
            Key::Shard(topic, u32::MAX),
            Key::Name(topic),
        ] {
            let text = key.text(&CLUSTER);
            assert!(text.starts_with("/rfk1/abababab/"), "{text}");
            assert_eq!(Key::parse(text.as_bytes(), &CLUSTER), Ok(key));
        }
    }

    #[test]
    fn a_key_has_one_form_only() {
        let name = |digits: &str| format!("/rfk1/abababab/i/{}", digits.repeat(16));
        assert!(Key::parse(name("5c").as_bytes(), &CLUSTER).is_ok());
        for text in [
            &name("5C"),
            "/rfk1/abababab/n/07",
            "/rfk1/abababab/n/+7",
            "/rfk1/abababab/q/",
            "/rfk1/abababab/t/a/b",
            "/rfk1/abababab/t/",
            "/rfk2/abababab/q",
            "/rfk1/abababab/x/1",
            "q",
            "",
        ] {
            assert_eq!(Key::parse(text.as_bytes(), &CLUSTER), Err(KeyError::NotCanonical), "{text}");
        }
    }

    #[test]
    fn keys_of_another_cluster_are_told_apart() {
        assert_eq!(Key::parse(b"/rfk1/12345678/q", &CLUSTER), Err(KeyError::Foreign));
        assert_ne!(Key::Quorum.place(&CLUSTER).hashed_bytes(), Key::Quorum.place(&ClusterId([1; 32])).hashed_bytes());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Key::parse(&tail, &CLUSTER);
            let _ = Key::parse(&[b"/rfk1/abababab/".as_slice(), &tail].concat(), &CLUSTER);
        }
    }
}
