//! Per-topic configuration, under Kafka's names (and two of our own: `durability`, `storage.engine`).
//!
//! One row of [`KEYS`] is the whole truth about a key: name, default, range, documentation. The
//! reference page, `topic describe`, and later DescribeConfigs are generated from it.

use std::collections::BTreeMap;
use std::fmt;

use crate::Compression;
use crate::limits::{BATCH_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, TOPIC_CONFIGS_MAX};

/// What a value of a key may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An integer from `min` to `max`, both included. −1 often means "no limit", see the documentation.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A number from 0 to 1, both included.
    Ratio,
    /// Any text, also none.
    Text,
}

/// One key of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Kafka's name, with dots.
    pub name: &'static str,
    /// Value when nothing is set.
    pub default: &'static str,
    /// Legal values.
    pub kind: Kind,
    /// What it does, for the reference page.
    pub doc: &'static str,
}

const fn integer(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

/// Every key that a topic accepts, sorted by name.
pub const KEYS: &[Key] = &[
    Key {
        name: "cleanup.policy",
        default: "delete",
        kind: Kind::Choice(&["delete", "compact", "compact,delete", "delete,compact"]),
        doc: "What happens to old segments: `delete` removes them by `retention.ms` and `retention.bytes`; `compact` keeps the newest record of each key.",
    },
    Key {
        name: "compression.gzip.level",
        default: "-1",
        kind: integer(-1, 9),
        doc: "Level of gzip where `compression.type` has the node compress; the codec's own is taken, so it has no effect.",
    },
    Key {
        name: "compression.lz4.level",
        default: "9",
        kind: integer(1, 17),
        doc: "Level of lz4 where `compression.type` has the node compress; the codec's own is taken, so it has no effect.",
    },
    Key {
        name: "compression.type",
        default: "producer",
        kind: Kind::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        doc: "Codec of stored batches; `producer` keeps what the producer chose and touches nothing.",
    },
    Key {
        name: "compression.zstd.level",
        default: "3",
        kind: integer(-131_072, 22),
        doc: "Level of zstd where `compression.type` has the node compress; the codec's own is taken, so it has no effect.",
    },
    Key {
        name: "delete.retention.ms",
        default: "86400000",
        kind: integer(0, i64::MAX),
        doc: "Time (ms) that compaction keeps a tombstone after it has removed what the tombstone deletes.",
    },
    Key {
        name: "durability",
        default: "replicated",
        kind: Kind::Choice(&["replicated", "fsync"]),
        doc: "When a record counts as safe: in the memory of every in-sync replica (`replicated`), or flushed to its disk (`fsync`).",
    },
    Key {
        name: "file.delete.delay.ms",
        default: "60000",
        kind: integer(0, i64::MAX),
        doc: "Time (ms) between a segment's removal from the log and the removal of its file.",
    },
    Key {
        name: "flush.messages",
        default: "9223372036854775807",
        kind: integer(1, i64::MAX),
        doc: "Records appended before the log is flushed; the node-wide flusher works besides.",
    },
    Key {
        name: "flush.ms",
        default: "9223372036854775807",
        kind: integer(0, i64::MAX),
        doc: "Time (ms) before appended records are flushed; the node-wide flusher works besides.",
    },
    Key {
        name: "follower.replication.throttled.replicas",
        default: "",
        kind: Kind::Text,
        doc: "Replicas (`PARTITION:NODE,…` or `*`) whose replication traffic, as followers, is throttled; accepted, without effect.",
    },
    Key {
        name: "index.interval.bytes",
        default: "4096",
        kind: integer(0, i32::MAX as i64),
        doc: "Bytes of log between two entries of the offset and time indexes.",
    },
    Key {
        name: "leader.replication.throttled.replicas",
        default: "",
        kind: Kind::Text,
        doc: "Replicas (`PARTITION:NODE,…` or `*`) whose replication traffic, as leaders, is throttled; accepted, without effect.",
    },
    Key {
        name: "local.retention.bytes",
        default: "-2",
        kind: integer(-2, i64::MAX),
        doc: "Bytes kept on disk of a partition with tiered storage; there is none, so it has no effect.",
    },
    Key {
        name: "local.retention.ms",
        default: "-2",
        kind: integer(-2, i64::MAX),
        doc: "Time (ms) records stay on disk with tiered storage; there is none, so it has no effect.",
    },
    Key {
        name: "max.compaction.lag.ms",
        default: "9223372036854775807",
        kind: integer(1, i64::MAX),
        doc: "Time (ms) after which a record must be compacted, however little else is dirty.",
    },
    Key {
        name: "max.message.bytes",
        default: "1048588",
        kind: integer(0, BATCH_BYTES_MAX as i64),
        doc: "Largest record batch (bytes, compressed).",
    },
    Key {
        name: "message.timestamp.after.max.ms",
        default: "3600000",
        kind: integer(0, i64::MAX),
        doc: "How far (ms) a record's timestamp may lie in the future of the broker's clock.",
    },
    Key {
        name: "message.timestamp.before.max.ms",
        default: "9223372036854775807",
        kind: integer(0, i64::MAX),
        doc: "How far (ms) a record's timestamp may lie in the past of the broker's clock.",
    },
    Key {
        name: "message.timestamp.type",
        default: "CreateTime",
        kind: Kind::Choice(&["CreateTime", "LogAppendTime"]),
        doc: "Whose clock stamps records: the producer's or the broker's.",
    },
    Key {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        kind: Kind::Ratio,
        doc: "Share of a log's closed segments that is not compacted yet, above which a round begins.",
    },
    Key {
        name: "min.compaction.lag.ms",
        default: "0",
        kind: integer(0, i64::MAX),
        doc: "Time (ms) that a record stays as it is before compaction may remove it.",
    },
    Key {
        name: "min.insync.replicas",
        default: "1",
        kind: integer(1, i32::MAX as i64),
        doc: "In-sync replicas that an `acks=all` produce needs.",
    },
    Key {
        name: "preallocate",
        default: "false",
        kind: Kind::Boolean,
        doc: "Reserve the whole segment's space on disk at once.",
    },
    Key {
        name: "remote.log.copy.disable",
        default: "false",
        kind: Kind::Boolean,
        doc: "Stops copying to tiered storage; there is none, so it has no effect.",
    },
    Key {
        name: "remote.log.delete.on.disable",
        default: "false",
        kind: Kind::Boolean,
        doc: "Deletes what tiered storage holds when it is disabled; there is none, so it has no effect.",
    },
    Key {
        name: "remote.storage.enable",
        default: "false",
        kind: Kind::Choice(&["false"]),
        doc: "Tiered storage; not available, so it cannot be enabled.",
    },
    Key {
        name: "retention.bytes",
        default: "-1",
        kind: integer(-1, i64::MAX),
        doc: "Bytes that one partition keeps; −1 is no limit.",
    },
    Key {
        name: "retention.ms",
        default: "604800000",
        kind: integer(-1, i64::MAX),
        doc: "Time (ms) that a record is kept; −1 is no limit.",
    },
    Key {
        name: "segment.bytes",
        default: "1073741824",
        kind: integer(1 << 10, i32::MAX as i64),
        doc: "Size at which a segment is closed and the next begun.",
    },
    Key {
        name: "segment.index.bytes",
        default: "10485760",
        kind: integer(4, i32::MAX as i64),
        doc: "Size of a segment's indexes; they grow as needed, so it has no effect.",
    },
    Key {
        name: "segment.jitter.ms",
        default: "0",
        kind: integer(0, i64::MAX),
        doc: "Random time (ms) taken off `segment.ms`, so that segments do not roll together; accepted, without effect.",
    },
    Key {
        name: "segment.ms",
        default: "604800000",
        kind: integer(1, i64::MAX),
        doc: "Age (ms) at which a segment is closed even if it is not full.",
    },
    Key {
        name: "storage.engine",
        default: "file",
        kind: Kind::Choice(&["file", "memory"]),
        doc: "Where the log lives: on disk, or in memory only (gone with the process). Fixed when the topic is created.",
    },
    Key {
        name: "unclean.leader.election.enable",
        default: "false",
        kind: Kind::Boolean,
        doc: "Lets a replica lead that may lack committed records, where no other is left: as `unclean.recovery.strategy=aggressive`, unless that is set.",
    },
    Key {
        name: "unclean.recovery.strategy",
        default: "none",
        kind: Kind::Choice(&["none", "balanced", "aggressive"]),
        doc: "Who leads when no replica is left that surely has every committed record: nobody (`none`), the one whose log reaches furthest once all that were in sync last are there (`balanced`), or the first that is there (`aggressive`).",
    },
];

/// When a record counts as safe (`durability`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Durability {
    /// In the memory of every in-sync replica.
    #[default]
    Replicated,
    /// Flushed to the disk of every in-sync replica.
    Fsync,
}

/// Where a topic's log lives (`storage.engine`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StorageEngine {
    /// Segments on disk.
    #[default]
    File,
    /// Memory only.
    Memory,
}

/// Who leads when no replica is left that surely has every committed record (`unclean.recovery.strategy`, KIP-966).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UncleanRecovery {
    /// Nobody, until an operator says otherwise.
    #[default]
    None,
    /// Of those that were in sync last, once all of them are in service: the one whose log reaches furthest.
    Balanced,
    /// The first that is in service.
    Aggressive,
}

/// What happens to old segments (`cleanup.policy`); at least one is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CleanupPolicy {
    /// They are removed by age and size.
    pub delete: bool,
    /// They keep the newest record of each key.
    pub compact: bool,
}

/// A topic's configuration with every key resolved and typed. Times are milliseconds; `None` is "no limit".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup: CleanupPolicy,
    /// `compression.type`; `None` keeps the producer's choice.
    pub compression: Option<Compression>,
    /// `delete.retention.ms`.
    pub delete_retention_ms: u64,
    /// `durability`.
    pub durability: Durability,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: u64,
    /// `flush.messages`.
    pub flush_messages: u64,
    /// `flush.ms`.
    pub flush_ms: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: u64,
    /// `max.message.bytes`.
    pub max_message_bytes: u32,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: u64,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: u64,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `min.cleanable.dirty.ratio`, millionths.
    pub min_cleanable_dirty_ratio_ppm: u32,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: u64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `preallocate`.
    pub preallocate: bool,
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`.
    pub retention_ms: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `storage.engine`.
    pub storage_engine: StorageEngine,
    /// `unclean.recovery.strategy`, and what `unclean.leader.election.enable` makes of it.
    pub unclean_recovery: UncleanRecovery,
}

/// Why a configuration was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// No such key.
    #[error("unknown topic config {key:?}{}", suggestion.map(|s| format!("; did you mean {s:?}?")).unwrap_or_default())]
    UnknownKey {
        /// What was given.
        key: String,
        /// The nearest key.
        suggestion: Option<&'static str>,
    },
    /// A value outside the key's kind.
    #[error("invalid value {value:?} for {key}: {expected}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be legal.
        expected: String,
    },
    /// More overrides than a topic may have.
    #[error("{given} topic configs, limit is {TOPIC_CONFIGS_MAX}")]
    TooMany {
        /// How many were given.
        given: usize,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { min, max: i64::MAX } => write!(f, "an integer of at least {min}"),
            Self::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Boolean => f.write_str("true or false"),
            Self::Ratio => f.write_str("a number from 0 to 1"),
            Self::Text => write!(f, "a text of at most {CONFIG_VALUE_BYTES_MAX} bytes"),
        }
    }
}

impl Key {
    /// The row of this name.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`] with the nearest name.
    pub fn find(name: &str) -> Result<&'static Self, ConfigError> {
        KEYS.iter().find(|key| key.name == name).ok_or_else(|| ConfigError::UnknownKey {
            key: name.chars().take(80).collect(),
            suggestion: nearest(name, KEYS.iter().map(|key| key.name)),
        })
    }

    /// True if the value is a list of words, split by commas.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(
            self.name,
            "cleanup.policy" | "follower.replication.throttled.replicas" | "leader.replication.throttled.replicas"
        )
    }

    /// Checks `value` against the kind.
    ///
    /// # Errors
    /// [`ConfigError::InvalidValue`].
    pub fn check(&self, value: &str) -> Result<(), ConfigError> {
        let legal = value.len() <= CONFIG_VALUE_BYTES_MAX
            && match self.kind {
                Kind::Integer { min, max } => value.parse::<i64>().is_ok_and(|v| (min..=max).contains(&v)),
                Kind::Choice(words) => words.contains(&value),
                Kind::Boolean => matches!(value, "true" | "false"),
                Kind::Ratio => ratio_ppm(value).is_some(),
                Kind::Text => true,
            };
        if legal {
            return Ok(());
        }
        Err(ConfigError::InvalidValue {
            key: self.name,
            value: value.chars().take(80).collect(),
            expected: format!("expected {}", self.kind),
        })
    }
}

/// A number from 0 to 1 in millionths.
fn ratio_ppm(text: &str) -> Option<u32> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))?;
    // At most a million.
    Some((ratio * 1e6).round() as u32)
}

/// The candidate closest to `given`, if it is close enough to be a slip of the finger.
#[must_use]
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given: Vec<char> = given.chars().take(80).collect();
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&given, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 2.max(given.len() / 3))
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl TopicConfig {
    /// Resolves `overrides` over the defaults of [`KEYS`].
    ///
    /// # Errors
    /// [`ConfigError`] for the first key or value that is refused.
    pub fn resolve(overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        if overrides.len() > TOPIC_CONFIGS_MAX {
            return Err(ConfigError::TooMany { given: overrides.len() });
        }
        for (name, value) in overrides {
            Key::find(name)?.check(value)?;
        }
        let text = |name: &str| match overrides.get(name) {
            Some(value) => value.as_str(),
            None => Key::find(name).expect("the table has every key of the struct").default,
        };
        // Values were checked above; the fallbacks below are never taken.
        let number = |name: &str| text(name).parse::<i64>().unwrap_or_default();
        let unsigned = |name: &str| number(name).unsigned_abs();
        let small = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
        let limit = |name: &str| u64::try_from(number(name)).ok();
        let policy = text("cleanup.policy");
        // Kafka's older key counts unless the newer one is set.
        let aggressive = match overrides.get("unclean.recovery.strategy") {
            Some(strategy) => strategy == "aggressive",
            None => text("unclean.leader.election.enable") == "true",
        };
        Ok(Self {
            cleanup: CleanupPolicy { delete: policy.contains("delete"), compact: policy.contains("compact") },
            compression: match text("compression.type") {
                "producer" => None,
                name => Some(Compression::from_name(name).unwrap_or(Compression::None)),
            },
            delete_retention_ms: unsigned("delete.retention.ms"),
            durability: if text("durability") == "fsync" { Durability::Fsync } else { Durability::Replicated },
            file_delete_delay_ms: unsigned("file.delete.delay.ms"),
            flush_messages: unsigned("flush.messages"),
            flush_ms: unsigned("flush.ms"),
            index_interval_bytes: small("index.interval.bytes"),
            max_compaction_lag_ms: unsigned("max.compaction.lag.ms"),
            max_message_bytes: small("max.message.bytes"),
            timestamp_after_max_ms: unsigned("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: unsigned("message.timestamp.before.max.ms"),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            min_cleanable_dirty_ratio_ppm: ratio_ppm(text("min.cleanable.dirty.ratio")).unwrap_or_default(),
            min_compaction_lag_ms: unsigned("min.compaction.lag.ms"),
            min_insync_replicas: small("min.insync.replicas"),
            preallocate: text("preallocate") == "true",
            retention_bytes: limit("retention.bytes"),
            retention_ms: limit("retention.ms"),
            segment_bytes: small("segment.bytes"),
            segment_ms: unsigned("segment.ms"),
            storage_engine: if text("storage.engine") == "memory" {
                StorageEngine::Memory
            } else {
                StorageEngine::File
            },
            unclean_recovery: match text("unclean.recovery.strategy") {
                _ if aggressive => UncleanRecovery::Aggressive,
                "balanced" => UncleanRecovery::Balanced,
                _ => UncleanRecovery::None,
            },
        })
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::resolve(&BTreeMap::new()).expect("the defaults of the table are legal")
    }
}

#[cfg(test)]
mod tests;
