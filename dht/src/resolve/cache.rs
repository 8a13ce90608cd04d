//! What a resolver remembers. Bounded; knows time only as an argument.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rafka_model::limits::{DHT_NEGATIVE_MS, ROUTE_AGE_MS_MAX, ROUTE_CACHE_TOPICS_MAX};
use rafka_model::{LeaderEpoch, Monotonic, TopicPartition};
use tokio::sync::Mutex;

use super::{NodeAt, ResolveError, Source};
use crate::{Key, SignedRecord, Version};

/// A map of at most `max` entries that gives up the least recently used one.
pub(super) struct Bounded<K, V> {
    map: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    turn: u64,
    max: usize,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self { map: HashMap::new(), order: BTreeMap::new(), turn: 0, max }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.map.get_mut(key)?;
        self.turn += 1;
        if let Some(key) = self.order.remove(used) {
            self.order.insert(self.turn, key);
        }
        *used = self.turn;
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.turn += 1;
        if let Some((used, _)) = self.map.insert(key.clone(), (self.turn, value)) {
            self.order.remove(&used);
        }
        self.order.insert(self.turn, key);
        while self.map.len() > self.max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.map.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.map.remove(key)?;
        self.order.remove(&used);
        Some(value)
    }
}

struct Cached {
    record: SignedRecord,
    /// When it was last confirmed by a lookup.
    at: Monotonic,
    /// Least version that will do: later than the record while it is in doubt.
    wanted: Version,
    /// When an authoritative node was last asked because of a doubt.
    asked: Option<Monotonic>,
    /// Where it came from.
    origin: Source,
}

struct Refused {
    at: Monotonic,
    min: Version,
    error: ResolveError,
}

/// A leader that a node told of.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    pub(super) epoch: LeaderEpoch,
    pub(super) at: NodeAt,
}

/// Records, refusals, and leaders learned from answers.
pub(crate) struct Cache {
    records: Bounded<Key, Cached>,
    refused: Bounded<Key, Refused>,
    learned: Bounded<TopicPartition, Learned>,
    locks: HashMap<Key, Weak<Mutex<()>>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            records: Bounded::new(ROUTE_CACHE_TOPICS_MAX),
            refused: Bounded::new(ROUTE_CACHE_TOPICS_MAX),
            learned: Bounded::new(ROUTE_CACHE_TOPICS_MAX),
            locks: HashMap::new(),
        }
    }
}

impl Cache {
    /// The record of `key`, if it lives, is of at least `min`, is not in doubt and not too old.
    pub(super) fn fresh(&mut self, key: &Key, min: Version, now: Monotonic) -> Option<SignedRecord> {
        let cached = self.records.get(key)?;
        let version = cached.record.version();
        let fresh = version >= min.max(cached.wanted)
            && now.since(cached.at) < Duration::from_millis(ROUTE_AGE_MS_MAX)
            && !cached.record.is_tombstone();
        fresh.then(|| cached.record.clone())
    }

    /// The newest record of `key` that was ever seen, a tombstone perhaps.
    pub(super) fn newest(&mut self, key: &Key) -> Option<SignedRecord> {
        self.records.get(key).map(|cached| cached.record.clone())
    }

    /// The least version that will do for `key`.
    pub(super) fn wanted(&mut self, key: &Key) -> Version {
        self.records.get(key).map_or(Version::ANY, |cached| cached.wanted)
    }

    /// Where the record of `key` came from.
    pub(super) fn origin(&mut self, key: &Key) -> Source {
        self.records.get(key).map_or(Source::Dht, |cached| cached.origin)
    }

    /// Age of the record of `key` since it was last confirmed.
    pub(super) fn age(&mut self, key: &Key, now: Monotonic) -> Option<Duration> {
        self.records.get(key).map(|cached| now.since(cached.at))
    }

    /// Takes a valid record, unless a later version is known; returns the later one of both.
    pub(super) fn offer(&mut self, record: SignedRecord, origin: Source, now: Monotonic) -> SignedRecord {
        let key = record.key().clone();
        self.refused.remove(&key);
        match self.records.get(&key) {
            Some(cached) if cached.record.version() > record.version() => cached.record.clone(),
            Some(cached) => {
                (cached.record, cached.at, cached.origin) = (record.clone(), now, origin);
                record
            }
            None => {
                let cached = Cached { record: record.clone(), at: now, wanted: Version::ANY, asked: None, origin };
                self.records.insert(key, cached);
                record
            }
        }
    }

    /// Ends the doubt about `key`: nobody knows better for now.
    pub(super) fn settle(&mut self, key: &Key) {
        if let Some(cached) = self.records.get(key) {
            cached.wanted = Version::ANY;
        }
    }

    /// The record of `key` was wrong: only a later one will do.
    pub(super) fn doubt(&mut self, key: &Key) {
        if let Some(cached) = self.records.get(key) {
            cached.wanted = cached.wanted.max(cached.record.version().next());
        }
    }

    /// `key` has a record of `version`.
    pub(super) fn expect(&mut self, key: &Key, version: Version) {
        if let Some(cached) = self.records.get(key) {
            cached.wanted = cached.wanted.max(version);
        }
    }

    /// True if an authoritative node may be asked about a doubt of `key`: at most once a second. Notes the question.
    pub(super) fn may_ask(&mut self, key: &Key, now: Monotonic) -> bool {
        let Some(cached) = self.records.get(key) else { return true };
        let may = cached.asked.is_none_or(|asked| now.since(asked) >= Duration::from_millis(DHT_NEGATIVE_MS));
        if may {
            cached.asked = Some(now);
        }
        may
    }

    /// Why `key` was not found, if that was asked within the last second for no later version than `min`.
    pub(super) fn refusal(&mut self, key: &Key, min: Version, now: Monotonic) -> Option<ResolveError> {
        let refused = self.refused.get(key)?;
        let holds = now.since(refused.at) < Duration::from_millis(DHT_NEGATIVE_MS) && min <= refused.min;
        holds.then(|| refused.error.clone())
    }

    /// Remembers that `key` was not found.
    pub(super) fn refuse(&mut self, key: Key, min: Version, error: ResolveError, now: Monotonic) {
        self.refused.insert(key, Refused { at: now, min, error });
    }

    pub(super) fn learn(&mut self, at: TopicPartition, learned: Learned) {
        if self.learned.get(&at).is_none_or(|old| old.epoch <= learned.epoch) {
            self.learned.insert(at, learned);
        }
    }

    pub(super) fn learned(&mut self, at: TopicPartition) -> Option<Learned> {
        self.learned.get(&at).cloned()
    }

    pub(super) fn forget_learned(&mut self, at: TopicPartition, epoch: LeaderEpoch) {
        if self.learned.get(&at).is_some_and(|learned| learned.epoch <= epoch) {
            self.learned.remove(&at);
        }
    }

    /// The lock under which `key` is looked up: one lookup at a time, the others find its result in the cache.
    pub(super) fn lock(&mut self, key: &Key) -> Arc<Mutex<()>> {
        if let Some(lock) = self.locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        self.locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(Mutex::new(()));
        self.locks.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_is_given_up() {
        let mut map = Bounded::new(2);
        map.insert("a", 1);
        map.insert("b", 2);
        assert_eq!(map.get(&"a"), Some(&mut 1));
        map.insert("c", 3);
        assert_eq!(map.get(&"b"), None);
        assert_eq!(map.remove(&"a"), Some(1));
        assert_eq!(map.get(&"c"), Some(&mut 3));
        map.insert("c", 4);
        map.insert("d", 5);
        assert_eq!(map.get(&"c"), Some(&mut 4));
        assert_eq!((map.order.len(), map.map.len()), (2, 2));
    }
}
