//! Identifiers and counters, each its own type so that they cannot be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Position of a record in a partition; counts records (not bytes), dense from 0.
    Offset(i64)
);
counter!(
    /// Index of a partition in its topic, 0-based.
    PartitionId(u32)
);
counter!(
    /// Generation of a partition's leadership; a request with an older one is fenced (KIP-101).
    LeaderEpoch(i32)
);
counter!(
    /// Version of a partition's metadata; grows with every change (KIP-497).
    PartitionEpoch(i32)
);
counter!(
    /// Identifier of a registered node: counted from 1 in the order in which nodes joined, never reused.
    NodeId(u64)
);
counter!(
    /// Incarnation of a node: the metadata index of its latest registration (KIP-631).
    BrokerEpoch(u64)
);
counter!(
    /// Index of an entry of the metadata log, from 1; 0 means "nothing applied".
    MetadataIndex(u64)
);
counter!(
    /// Producer id of an idempotent producer (KIP-98); −1 means none.
    ProducerId(i64)
);

impl ProducerId {
    /// Not an idempotent producer.
    pub const NONE: Self = Self(-1);
}

impl Offset {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The offset `records` further.
    #[must_use]
    pub fn plus(self, records: i64) -> Self {
        Self(self.0.saturating_add(records))
    }
}

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, PartialEq, Ord, PartialOrd, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let wrong = || ParseIdError { digits: $len * 2, text: text.chars().take(80).collect() };
                if text.len() != $len * 2 || !text.is_ascii() {
                    return Err(wrong());
                }
                let mut bytes = [0u8; $len];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).map_err(|_| wrong())?;
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde_bytes::Bytes::new(&self.0).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
                let bytes: [u8; $len] = bytes.as_slice().try_into().map_err(|_| {
                    serde::de::Error::invalid_length(bytes.len(), &concat!(stringify!($len), " bytes"))
                })?;
                Ok(Self(bytes))
            }
        }
    };
}

opaque!(
    /// Identity of a cluster: blake3 of the public half of its cluster key. 64 hex digits as text.
    ClusterId,
    32
);
opaque!(
    /// Identity of a topic for its whole life; a topic made again under the same name has another.
    TopicId,
    16
);
opaque!(
    /// Identity of a data directory: made once, lost with the disk (KIP-858).
    DirectoryId,
    16
);
opaque!(
    /// Identity of one boot of the machine: changes only when memory was lost.
    BootId,
    16
);

impl ClusterId {
    /// The id of the cluster whose key has this public half.
    #[must_use]
    pub fn of_public_key(public_key: &[u8; 32]) -> Self {
        Self(*blake3::hash(public_key).as_bytes())
    }

    /// First 8 hex digits: names the cluster in protocol names and DHT keys.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

/// A text is not an identifier of the expected length.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {digits} hex digits, got {text:?}")]
pub struct ParseIdError {
    digits: usize,
    text: String,
}

/// A partition by the id of its topic: what storage and wire name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: PartitionId,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_refuse_other_lengths() {
        let id = TopicId([0xab; 16]);
        assert_eq!(id.to_string().parse::<TopicId>(), Ok(id));
        assert!("ab".parse::<TopicId>().is_err());
        assert!("é".repeat(16).parse::<TopicId>().is_err());
        assert!("zz".repeat(16).parse::<TopicId>().is_err());
    }
}
