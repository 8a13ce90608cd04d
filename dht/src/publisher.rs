//! Keeps this node's records alive at their holders. Sans-io: time and members are arguments.
//!
//! kad's own republication would clone the store and walk for each record; here the holders are known
//! from the registry, so a refresh is one hop to each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::kad::KBucketKey;
use rafka_model::limits::{
    DHT_DUE_MAX, DHT_HOLDERS, DHT_REPUBLISH_MS, DHT_REPUBLISH_MS_MAX, DHT_SPREAD_MS, DHT_SPREAD_MS_MAX,
};
use rafka_model::{ClusterId, Monotonic};

use crate::{Key, SignedRecord, Stored};

/// The k members that are closest to `key`: where its record lives. Closest first.
#[must_use]
pub fn holders(cluster: &ClusterId, key: &Key, members: impl IntoIterator<Item = PeerId>) -> Vec<PeerId> {
    closest(cluster, key, &members.into_iter().map(KBucketKey::from).collect::<Vec<_>>())
}

fn closest(cluster: &ClusterId, key: &Key, members: &[KBucketKey<PeerId>]) -> Vec<PeerId> {
    let place = key.place(cluster);
    let mut ranked: Vec<_> = members.iter().map(|member| (member.distance(&place), *member.preimage())).collect();
    if ranked.len() > DHT_HOLDERS {
        ranked.select_nth_unstable(DHT_HOLDERS);
        ranked.truncate(DHT_HOLDERS);
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, peer)| peer).collect()
}

/// A record to put now, and where.
#[derive(Clone, Debug)]
pub struct Due {
    /// The record.
    pub record: SignedRecord,
    /// Holders to put it to, for [`crate::Queries::put`]: all of them at a refresh, else those that lack it.
    pub holders: Vec<PeerId>,
}

struct Entry {
    record: SignedRecord,
    holders: Vec<PeerId>,
    /// Holders that lack it, as far as is known.
    missing: Vec<PeerId>,
    /// When all holders are due.
    refresh: Monotonic,
    /// When it is due at all: then, or earlier for the missing ones.
    due: Monotonic,
    failures: u32,
    /// A tombstone needs no publisher once the holders could have forgotten what it buries.
    until: Option<Monotonic>,
}

/// The records that this node publishes, and when each is due.
pub struct Publisher {
    cluster: ClusterId,
    members: Vec<KBucketKey<PeerId>>,
    entries: BTreeMap<Key, Entry>,
    schedule: BTreeSet<(Monotonic, Key)>,
}

impl Publisher {
    /// Publishes nothing yet.
    #[must_use]
    pub fn new(cluster: ClusterId) -> Self {
        Self { cluster, members: Vec::new(), entries: BTreeMap::new(), schedule: BTreeSet::new() }
    }

    /// Takes the members that are in service, this node with them. Records that have a new holder by that are put
    /// to it, the more of them the more spread out; a record that nobody was there to hold is put at once.
    pub fn set_members(&mut self, members: impl IntoIterator<Item = PeerId>, now: Monotonic) {
        let members: BTreeSet<PeerId> = members.into_iter().collect();
        self.members = members.into_iter().map(KBucketKey::from).collect();
        let spread = Duration::from_millis((DHT_SPREAD_MS * self.entries.len() as u64).min(DHT_SPREAD_MS_MAX));
        for (key, entry) in &mut self.entries {
            let holders = closest(&self.cluster, key, &self.members);
            let fresh: Vec<_> = holders.iter().filter(|peer| !entry.holders.contains(peer)).copied().collect();
            entry.missing.retain(|peer| holders.contains(peer));
            let homeless = std::mem::replace(&mut entry.holders, holders).is_empty();
            if !fresh.is_empty() {
                entry.missing.extend(fresh);
                let due = if homeless { now } else { now.plus(share(key, &self.cluster, spread)) };
                reschedule(&mut self.schedule, key, entry, due);
            }
        }
    }

    /// Publishes exactly these records from now on: new and changed ones at once, unchanged ones when their time
    /// comes, others no more. A record never replaces a later version of itself. Tombstones stay until every
    /// holder has them.
    pub fn set(&mut self, records: impl IntoIterator<Item = SignedRecord>, now: Monotonic) {
        let mut keep = BTreeSet::new();
        for record in records {
            keep.insert(record.key().clone());
            self.add(record, now);
        }
        self.keep(|key, entry| keep.contains(key) || entry.until.is_some());
    }

    /// Publishes `record` too, at once unless these very bytes are being published.
    pub fn add(&mut self, record: SignedRecord, now: Monotonic) {
        if let Some(old) = self.entries.get(record.key()) {
            if old.record.version() > record.version() || old.record.bytes() == record.bytes() {
                return;
            }
            self.schedule.remove(&(old.due, record.key().clone()));
        }
        let key = record.key().clone();
        let holders = closest(&self.cluster, &key, &self.members);
        self.schedule.insert((now, key.clone()));
        let until = record.is_tombstone().then(|| now.plus(record.life()));
        let entry = Entry { record, holders, missing: Vec::new(), refresh: now, due: now, failures: 0, until };
        self.entries.insert(key, entry);
    }

    /// Stops publishing all but these. Holders forget the others in time.
    pub fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.keep(|key, _| keep(key));
    }

    fn keep(&mut self, keep: impl Fn(&Key, &Entry) -> bool) {
        self.entries.retain(|key, entry| {
            let kept = keep(key, entry);
            if !kept {
                self.schedule.remove(&(entry.due, key.clone()));
            }
            kept
        });
    }

    /// Hands out what is due, at most 64 at once; each is next due after its refresh interval.
    pub fn due(&mut self, now: Monotonic) -> Vec<Due> {
        let mut out = Vec::new();
        while out.len() < DHT_DUE_MAX
            && let Some((due, key)) = self.schedule.first()
            && *due <= now
        {
            let key = key.clone();
            self.schedule.pop_first();
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.until.is_some_and(|until| until <= now) {
                self.entries.remove(&key);
                continue;
            }
            let holders = if entry.refresh <= now {
                let interval = entry.record.refresh_interval();
                // Up to a tenth earlier, so that records made together do not stay together.
                entry.refresh = now.plus(interval - share(&key, &self.cluster, interval / 10));
                entry.missing.clear();
                entry.holders.clone()
            } else {
                std::mem::take(&mut entry.missing)
            };
            entry.due = entry.refresh;
            self.schedule.insert((entry.due, key));
            out.push(Due { record: entry.record.clone(), holders });
        }
        out
    }

    /// When something is due next.
    #[must_use]
    pub fn next_due(&self) -> Option<Monotonic> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// Tells how the put of a `due` record ended. Holders that did not take it are tried again after a second, then
    /// two, up to a minute.
    pub fn done(&mut self, due: &Due, stored: &Stored, now: Monotonic) {
        let key = due.record.key();
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.record.bytes() != due.record.bytes() {
            return;
        }
        let lacking = due.holders.iter().filter(|peer| !stored.stored.contains(peer) && entry.holders.contains(peer));
        let lacking: Vec<_> = lacking.filter(|peer| !entry.missing.contains(peer)).copied().collect();
        entry.missing.extend(lacking);
        if entry.missing.is_empty() {
            entry.failures = 0;
            if entry.until.is_some() {
                self.schedule.remove(&(entry.due, key.clone()));
                self.entries.remove(key);
            }
            return;
        }
        let wait = DHT_REPUBLISH_MS.saturating_mul(1 << entry.failures.min(16)).min(DHT_REPUBLISH_MS_MAX);
        entry.failures += 1;
        reschedule(&mut self.schedule, key, entry, now.plus(Duration::from_millis(wait)));
    }

    /// The keys being published.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.keys()
    }

    /// Records being published.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Makes `entry` due at `due`, unless it is due earlier.
fn reschedule(schedule: &mut BTreeSet<(Monotonic, Key)>, key: &Key, entry: &mut Entry, due: Monotonic) {
    if due < entry.due {
        schedule.remove(&(entry.due, key.clone()));
        entry.due = due;
        schedule.insert((due, key.clone()));
    }
}

/// A part of `whole` that depends on the key alone, evenly spread over keys.
fn share(key: &Key, cluster: &ClusterId, whole: Duration) -> Duration {
    let place = key.place(cluster);
    whole * u32::from(place.hashed_bytes()[0]) / 256
}

#[cfg(test)]
mod tests;
