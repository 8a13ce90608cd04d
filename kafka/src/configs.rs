//! Configs as Kafka tells them: with their type, where the value comes from, and what it stands above.

use std::collections::BTreeMap;

use rafka_broker::group;
use rafka_model::config::{KEYS, Key, Kind};

use crate::desk::{Setting, SettingKind};

/// Kinds of things that have configs, by Kafka's numbers.
pub(crate) mod resource {
    /// A topic.
    pub(crate) const TOPIC: i8 = 2;
    /// A node; without a name, all nodes.
    pub(crate) const BROKER: i8 = 4;
    /// Log levels of a node.
    pub(crate) const BROKER_LOGGER: i8 = 8;
    /// A subscription to metrics of clients.
    pub(crate) const CLIENT_METRICS: i8 = 16;
    /// A group.
    pub(crate) const GROUP: i8 = 32;

    /// What people call it.
    pub(crate) fn name(kind: i8) -> &'static str {
        match kind {
            TOPIC => "topic",
            BROKER => "broker",
            BROKER_LOGGER => "broker logger",
            CLIENT_METRICS => "client metrics",
            GROUP => "group",
            _ => "unknown",
        }
    }
}

/// Where a value comes from, by Kafka's numbers.
pub(crate) mod source {
    /// The topic says so.
    pub(crate) const TOPIC: i8 = 1;
    /// The node's configuration says so.
    pub(crate) const STATIC_BROKER: i8 = 4;
    /// Nobody says anything.
    pub(crate) const DEFAULT: i8 = 5;
}

/// Types of values, by Kafka's numbers.
mod kind {
    pub(super) const BOOLEAN: i8 = 1;
    pub(super) const STRING: i8 = 2;
    pub(super) const INT: i8 = 3;
    pub(super) const LONG: i8 = 5;
    pub(super) const DOUBLE: i8 = 6;
    pub(super) const LIST: i8 = 7;
}

/// A config and all that clients are told of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) source: i8,
    pub(crate) sensitive: bool,
    pub(crate) kind: i8,
    pub(crate) doc: String,
    /// Name, value and source of what would hold if the one before did not; the value's own is the first.
    pub(crate) synonyms: Vec<(String, Option<String>, i8)>,
}

/// Every config of a topic with these overrides, by name.
pub(crate) fn of_topic(overrides: &BTreeMap<String, String>) -> impl Iterator<Item = Described> {
    KEYS.iter().map(|key| of_key(key, overrides.get(key.name)))
}

fn of_key(key: &Key, given: Option<&String>) -> Described {
    let own = given.map(|value| (key.name.to_owned(), Some(value.clone()), source::TOPIC));
    let default = synonym(key.name).map(|name| (name.to_owned(), Some(key.default.to_owned()), source::DEFAULT));
    Described {
        name: key.name.to_owned(),
        value: Some(given.map_or_else(|| key.default.to_owned(), Clone::clone)),
        read_only: key.name == "storage.engine",
        source: if given.is_some() { source::TOPIC } else { source::DEFAULT },
        sensitive: false,
        kind: kind_of(key),
        doc: key.doc.to_owned(),
        synonyms: own.into_iter().chain(default).collect(),
    }
}

/// The configs of this node.
pub(crate) fn of_node(settings: Vec<Setting>) -> impl Iterator<Item = Described> {
    settings.into_iter().map(|setting| {
        let value = setting.value.filter(|_| !setting.is_secret);
        let source = if setting.is_default { source::DEFAULT } else { source::STATIC_BROKER };
        Described {
            synonyms: vec![(setting.name.clone(), value.clone(), source)],
            name: setting.name,
            value,
            read_only: true,
            source,
            sensitive: setting.is_secret,
            kind: match setting.kind {
                SettingKind::Text => kind::STRING,
                SettingKind::Integer => kind::LONG,
                SettingKind::Boolean => kind::BOOLEAN,
                SettingKind::List => kind::LIST,
            },
            doc: setting.doc,
        }
    })
}

/// The configs of a group: what holds for all groups at this node, which has these settings.
pub(crate) fn of_group(settings: &[Setting]) -> impl Iterator<Item = Described> {
    let default = group::Config::default();
    let all = [
        (
            "assignment.interval.ms",
            default.consumer_assignment_interval_ms.to_string(),
            "Least time between assignments.",
        ),
        (
            "heartbeat.interval.ms",
            default.consumer_heartbeat_interval_ms.to_string(),
            "How often a member shows itself.",
        ),
        (
            "session.timeout.ms",
            default.consumer_session_timeout_ms.to_string(),
            "Silence after which a member is dead.",
        ),
    ];
    all.into_iter().map(|(key, default, doc)| {
        let name = format!("group.consumer.{key}");
        let given = settings.iter().find(|setting| setting.name == name && !setting.is_default);
        let (value, source) = match given.and_then(|setting| setting.value.clone()) {
            Some(value) => (value, source::STATIC_BROKER),
            None => (default, source::DEFAULT),
        };
        Described {
            name: format!("consumer.{key}"),
            value: Some(value.clone()),
            read_only: true,
            source,
            sensitive: false,
            kind: kind::INT,
            doc: doc.to_owned(),
            synonyms: vec![(name, Some(value), source)],
        }
    })
}

fn kind_of(key: &Key) -> i8 {
    match (key.name, key.kind) {
        ("min.cleanable.dirty.ratio", _) => kind::DOUBLE,
        ("remote.storage.enable", _) | (_, Kind::Boolean) => kind::BOOLEAN,
        _ if key.is_list() => kind::LIST,
        (_, Kind::Integer { max, .. }) if max <= i64::from(i32::MAX) => kind::INT,
        (_, Kind::Integer { .. }) => kind::LONG,
        _ => kind::STRING,
    }
}

/// Kafka's name for the default of a topic's config among the configs of brokers, where that has a value.
///
/// Source: what Kafka 4.3 answers to DescribeConfigs.
fn synonym(key: &str) -> Option<&'static str> {
    Some(match key {
        "cleanup.policy" => "log.cleanup.policy",
        "compression.gzip.level" => "compression.gzip.level",
        "compression.lz4.level" => "compression.lz4.level",
        "compression.type" => "compression.type",
        "compression.zstd.level" => "compression.zstd.level",
        "delete.retention.ms" => "log.cleaner.delete.retention.ms",
        "file.delete.delay.ms" => "log.segment.delete.delay.ms",
        "flush.messages" => "log.flush.interval.messages",
        "index.interval.bytes" => "log.index.interval.bytes",
        "local.retention.bytes" => "log.local.retention.bytes",
        "local.retention.ms" => "log.local.retention.ms",
        "max.compaction.lag.ms" => "log.cleaner.max.compaction.lag.ms",
        "max.message.bytes" => "message.max.bytes",
        "message.timestamp.after.max.ms" => "log.message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms" => "log.message.timestamp.before.max.ms",
        "message.timestamp.type" => "log.message.timestamp.type",
        "min.cleanable.dirty.ratio" => "log.cleaner.min.cleanable.ratio",
        "min.compaction.lag.ms" => "log.cleaner.min.compaction.lag.ms",
        "min.insync.replicas" => "min.insync.replicas",
        "preallocate" => "log.preallocate",
        "retention.bytes" => "log.retention.bytes",
        "segment.bytes" => "log.segment.bytes",
        "segment.index.bytes" => "log.index.size.max.bytes",
        "unclean.leader.election.enable" => "unclean.leader.election.enable",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_kafkas() {
        let all: BTreeMap<_, _> = of_topic(&BTreeMap::new()).map(|config| (config.name, config.kind)).collect();
        for (name, kind) in [
            ("cleanup.policy", kind::LIST),
            ("compression.type", kind::STRING),
            ("leader.replication.throttled.replicas", kind::LIST),
            ("max.message.bytes", kind::INT),
            ("preallocate", kind::BOOLEAN),
            ("remote.storage.enable", kind::BOOLEAN),
            ("retention.ms", kind::LONG),
            ("segment.bytes", kind::INT),
        ] {
            assert_eq!(all.get(name), Some(&kind), "{name}");
        }
    }

    #[test]
    fn secrets_are_not_told() {
        let setting = Setting { value: Some("x".to_owned()), is_secret: true, ..Setting::default() };
        let told = of_node(vec![setting]).next().expect("one");
        assert_eq!((told.value, told.sensitive, told.synonyms[0].1.clone()), (None, true, None));
    }
}
