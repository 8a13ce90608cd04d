//! Section `topic`: defaults of new topics, under Kafka's names with underscores.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use rafka_model::config::{KEYS, Key as TopicKey, Kind as TopicKind};
use rafka_model::limits::TOPIC_PARTITIONS_MAX;

use super::error::Problem;
use super::key::{Key, Kind, Preset, Unit};
use super::load::Settings;

/// Defaults of new topics. What a topic sets itself wins; topics that exist keep what they have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Topic {
    /// Partitions of a topic whose creator names no number.
    pub num_partitions: u32,
    /// Configs that differ from the built-in defaults, under Kafka's names (with dots).
    pub configs: BTreeMap<String, String>,
}

static TABLE: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let partitions = Key {
        section: "topic",
        name: Cow::Borrowed("num_partitions"),
        kind: Kind::Integer { min: 1, max: i64::from(TOPIC_PARTITIONS_MAX), unit: Unit::Count },
        preset: Preset::Is(Cow::Borrowed("4")),
        flag: "",
        doc: Cow::Borrowed("Partitions of a topic whose creator names no number."),
    };
    let of_topics = presets().map(|key| Key {
        section: "topic",
        name: Cow::Owned(key.name.replace('.', "_")),
        kind: match key.kind {
            TopicKind::Integer { min, max } => Kind::Integer { min, max, unit: unit(key.name) },
            TopicKind::Choice(words) => Kind::Choice(words),
            TopicKind::Boolean => Kind::Boolean,
            TopicKind::Ratio => Kind::Ratio,
            TopicKind::Text => Kind::Text("a text"),
        },
        preset: Preset::Is(Cow::Borrowed(key.default)),
        flag: "",
        doc: Cow::Borrowed(key.doc),
    });
    std::iter::once(partitions).chain(of_topics).collect()
});

/// Keys that make sense for topics in general: a text names parts of one topic.
fn presets() -> impl Iterator<Item = &'static TopicKey> {
    KEYS.iter().filter(|key| key.kind != TopicKind::Text)
}

fn unit(name: &str) -> Unit {
    match name.rsplit('.').next() {
        Some("bytes") => Unit::Bytes,
        Some("ms") => Unit::Milliseconds,
        _ => Unit::Count,
    }
}

/// The keys of the section.
pub(super) fn keys() -> &'static [Key] {
    &TABLE
}

impl Topic {
    pub(super) const ABOUT: &'static str = "Defaults of new topics, under Kafka's names with underscores. \
        What a topic sets itself wins; topics that exist keep what they have.";

    pub(super) fn resolve(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Self> {
        let num_partitions = settings.field("topic.num_partitions", problems);
        let mut configs = BTreeMap::new();
        for key in presets() {
            let path = format!("topic.{}", key.name.replace('.', "_"));
            match settings.field::<String>(&path, problems) {
                Some(value) if value != key.default => drop(configs.insert(key.name.to_owned(), value)),
                _ => {}
            }
        }
        Some(Self { num_partitions: num_partitions?, configs })
    }

    /// The configs of a new topic: `given`, and this section's where `given` is silent.
    #[must_use]
    pub fn over(&self, given: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = self.configs.clone();
        all.extend(given);
        all
    }
}
