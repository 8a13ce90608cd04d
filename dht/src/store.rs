//! The record store that libp2p's `kad` puts into and reads from: it believes no one.
//!
//! kad calls [`RecordStore::put`] for every record that a peer sends; an error there resets the
//! exchange, so the sender's put fails. kad does not tell who sent: the signature is the proof.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{KBucketDistance, KBucketKey, ProviderRecord, Record, RecordKey};
use rafka_model::Monotonic;
use rafka_model::limits::{DHT_RECORDS_MAX, DHT_STORE_BYTES_MAX};

use crate::record::SignedRecord;
use crate::{Clock, Invalid, Key, Verifier, Version};

/// Bounds of a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Records.
    pub records_max: usize,
    /// Bytes of all records.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records_max: DHT_RECORDS_MAX, bytes_max: DHT_STORE_BYTES_MAX }
    }
}

/// Why a record was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not a record of this cluster.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Older than what is stored.
    #[error("record of version {offered} is older than the stored {stored}")]
    Stale {
        /// Its version.
        offered: Version,
        /// The stored one.
        stored: Version,
    },
    /// The store is full of records that are closer to this node.
    #[error("record store is full")]
    Full,
}

/// What happened to an accepted record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accepted {
    /// There was none.
    New,
    /// It replaced an older one, or one of the same version with other bytes.
    Replaced,
    /// It was there; it lives on.
    Refreshed,
}

/// Counters since the start, and sizes now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Records now, perhaps a few expired ones with them.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Records stored or replaced.
    pub stored: u64,
    /// Records refreshed.
    pub refreshed: u64,
    /// Records refused as older than the stored one.
    pub refused_stale: u64,
    /// Records refused as not of this cluster: foreign, forged, malformed, too large.
    pub refused_invalid: u64,
    /// Records refused for want of room.
    pub refused_full: u64,
    /// Records given up for closer ones.
    pub evicted: u64,
    /// Records that nobody refreshed.
    pub expired: u64,
}

struct Held {
    record: SignedRecord,
    expires: Monotonic,
    distance: KBucketDistance,
}

/// Records held for others: signed, versioned, bounded, and gone when nobody refreshes them.
pub struct ValidatingStore {
    local: KBucketKey<PeerId>,
    verifier: Verifier,
    clock: Clock,
    limits: Limits,
    held: HashMap<RecordKey, Held>,
    by_distance: BTreeMap<KBucketDistance, RecordKey>,
    by_expiry: BTreeSet<(Monotonic, KBucketDistance)>,
    stats: Stats,
}

impl ValidatingStore {
    /// An empty store of the node `local`.
    #[must_use]
    pub fn new(local: PeerId, verifier: Verifier, clock: Clock, limits: Limits) -> Self {
        Self {
            local: KBucketKey::from(local),
            verifier,
            clock,
            limits,
            held: HashMap::new(),
            by_distance: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            stats: Stats::default(),
        }
    }

    /// Who checks the records.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The stored record of `key`, unless it expired.
    #[must_use]
    pub fn read(&self, key: &Key) -> Option<&SignedRecord> {
        self.live(&key.record_key(&self.verifier.cluster_id())).map(|held| &held.record)
    }

    /// Checks the bytes that were sent under `key` and stores them.
    ///
    /// # Errors
    /// [`Refusal`]; the stored record stays as it is.
    pub fn offer(&mut self, key: &RecordKey, bytes: &[u8]) -> std::result::Result<Accepted, Refusal> {
        let now = (self.clock)();
        self.expire(now);
        let outcome = self.admit(key, bytes, now);
        match &outcome {
            Ok(Accepted::New | Accepted::Replaced) => self.stats.stored += 1,
            Ok(Accepted::Refreshed) => self.stats.refreshed += 1,
            Err(Refusal::Stale { .. }) => self.stats.refused_stale += 1,
            Err(Refusal::Invalid(_)) => self.stats.refused_invalid += 1,
            Err(Refusal::Full) => self.stats.refused_full += 1,
        }
        outcome
    }

    fn admit(&mut self, key: &RecordKey, bytes: &[u8], now: Monotonic) -> std::result::Result<Accepted, Refusal> {
        // A refresh brings the very bytes that were checked when they came first.
        if let Some(held) = self.held.get_mut(key)
            && held.record.bytes() == bytes
        {
            self.by_expiry.remove(&(held.expires, held.distance));
            held.expires = now.plus(held.record.life());
            self.by_expiry.insert((held.expires, held.distance));
            return Ok(Accepted::Refreshed);
        }
        let cluster = self.verifier.cluster_id();
        let record = self.verifier.verify_for(&Key::parse(key.as_ref(), &cluster).map_err(Invalid::Key)?, bytes)?;
        let replaced = match self.held.get(key) {
            Some(held) if supersedes(&record, &held.record) => true,
            Some(held) => return Err(Refusal::Stale { offered: record.version(), stored: held.record.version() }),
            None => false,
        };
        if replaced {
            self.discard(key);
        }
        let distance = self.local.distance(&KBucketKey::new(key.clone()));
        // A newer version of what was held is taken in any case: the old one is gone by now.
        self.make_room(bytes.len(), if replaced { None } else { Some(distance) })?;
        let expires = now.plus(record.life());
        self.by_distance.insert(distance, key.clone());
        self.by_expiry.insert((expires, distance));
        self.held.insert(key.clone(), Held { record, expires, distance });
        self.stats.records = self.held.len();
        self.stats.bytes += bytes.len();
        Ok(if replaced { Accepted::Replaced } else { Accepted::New })
    }

    /// Gives up the farthest records until `bytes` more fit, but none that is closer than `newcomer`.
    fn make_room(&mut self, bytes: usize, newcomer: Option<KBucketDistance>) -> std::result::Result<(), Refusal> {
        while self.held.len() >= self.limits.records_max || self.stats.bytes + bytes > self.limits.bytes_max {
            match self.by_distance.last_key_value() {
                Some((farthest, key)) if newcomer.is_none_or(|newcomer| newcomer < *farthest) => {
                    let key = key.clone();
                    self.discard(&key);
                    self.stats.evicted += 1;
                }
                _ => return Err(Refusal::Full),
            }
        }
        Ok(())
    }

    fn expire(&mut self, now: Monotonic) {
        while let Some((expires, distance)) = self.by_expiry.first().copied()
            && expires <= now
        {
            match self.by_distance.get(&distance).cloned() {
                Some(key) => self.discard(&key),
                None => drop(self.by_expiry.pop_first()),
            }
            self.stats.expired += 1;
        }
    }

    fn discard(&mut self, key: &RecordKey) {
        if let Some(held) = self.held.remove(key) {
            self.by_distance.remove(&held.distance);
            self.by_expiry.remove(&(held.expires, held.distance));
            self.stats.records = self.held.len();
            self.stats.bytes -= held.record.bytes().len();
        }
    }

    fn live(&self, key: &RecordKey) -> Option<&Held> {
        let now = (self.clock)();
        self.held.get(key).filter(|held| held.expires > now)
    }
}

/// Greater versions win. Of one version there may be several encodings (an upgrade added a field): the last to
/// come stays, so that its publisher can refresh it; but a tombstone never buries a life of the same version.
fn supersedes(offered: &SignedRecord, stored: &SignedRecord) -> bool {
    match offered.version().cmp(&stored.version()) {
        std::cmp::Ordering::Equal => !offered.is_tombstone() || stored.is_tombstone(),
        order => order.is_gt(),
    }
}

fn to_kad(key: &RecordKey, held: &Held) -> Record {
    // Without publisher: kad ignores what a node published itself. Without expiry: holders decide it by kind.
    Record { key: key.clone(), value: held.record.bytes().to_vec(), publisher: None, expires: None }
}

impl RecordStore for ValidatingStore {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.live(key).map(|held| Cow::Owned(to_kad(key, held)))
    }

    fn put(&mut self, record: Record) -> Result<()> {
        match self.offer(&record.key, &record.value) {
            Ok(_) => Ok(()),
            Err(refusal) => {
                tracing::debug!(key = %String::from_utf8_lossy(record.key.as_ref()), %refusal, "record refused");
                // kad knows three errors and answers each of them with a reset.
                Err(if refusal == Refusal::Full { Error::MaxRecords } else { Error::ValueTooLarge })
            }
        }
    }

    fn remove(&mut self, key: &RecordKey) {
        self.discard(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        let now = (self.clock)();
        let live = self.held.iter().filter(|(_, held)| held.expires > now);
        live.map(|(key, held)| Cow::Owned(to_kad(key, held))).collect::<Vec<_>>().into_iter()
    }

    fn add_provider(&mut self, _record: ProviderRecord) -> Result<()> {
        // "Who has X" is not a question that this directory answers.
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _key: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _key: &RecordKey, _peer: &PeerId) {}
}

#[cfg(test)]
mod tests;
