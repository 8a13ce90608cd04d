//! One record: cache → DHT → fallback.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rafka_model::limits::{DHT_MISS_RETRIES_MAX, DHT_RETRIES_MAX, DHT_RETRY_MS};

use super::{Answer, Effort, Fallback, Hosted, Lookup, ResolveError, Resolver, Source};
use crate::{Key, SignedRecord, Version};

/// A live record, and what it took to find it.
pub(super) struct Fetched {
    pub(super) record: SignedRecord,
    pub(super) effort: Effort,
}

impl Fetched {
    fn cached(record: SignedRecord) -> Self {
        Self { record, effort: Effort { source: Source::Cache, ..Effort::default() } }
    }
}

impl<L: Lookup, F: Fallback, H: Hosted> Resolver<L, F, H> {
    /// The record of `key`, of at least `min` if anyone has it; else the newest there is, for a stale hint is
    /// better than none.
    pub(super) async fn fetch(&self, key: &Key, min: Version) -> Result<Fetched, ResolveError> {
        if let Some(known) = self.known(key, min) {
            return known;
        }
        let lock = self.cache().lock(key);
        let _one_at_a_time = lock.lock().await;
        if let Some(known) = self.known(key, min) {
            return known;
        }
        let mut effort = Effort { source: Source::Dht, ..Effort::default() };
        let target = min.max(self.cache().wanted(key));
        if let Some(record) = self.search(key, min, target, &mut effort).await {
            return Ok(Fetched { record, effort });
        }
        self.ask(key, min, effort).await
    }

    /// What the cache says, a recent refusal with it.
    fn known(&self, key: &Key, min: Version) -> Option<Result<Fetched, ResolveError>> {
        let now = (self.clock)();
        let mut cache = self.cache();
        if let Some(record) = cache.fresh(key, min, now) {
            return Some(Ok(Fetched::cached(record)));
        }
        cache.refusal(key, min, now).map(Err)
    }

    /// Asks the DHT, again with short waits while a version that must exist is missing. A doubt alone is no reason
    /// to wait: there may be nothing later.
    async fn search(&self, key: &Key, min: Version, target: Version, effort: &mut Effort) -> Option<SignedRecord> {
        for attempt in 0..=DHT_RETRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(DHT_RETRY_MS << (attempt - 1))).await;
            }
            self.counters.lookups.fetch_add(1, Relaxed);
            let found = self.lookup.get(key.clone(), target).await;
            effort.add(Effort { source: Source::Dht, hops: found.hops, asked: found.asked, ..Effort::default() });
            // Whoever looks up is not trusted with another key.
            let record = found.record.filter(|record| record.key() == key);
            let newest = match record {
                Some(record) => Some(self.cache().offer(record, Source::Dht, (self.clock)())),
                None => self.cache().newest(key),
            };
            let version = newest.as_ref().map_or(Version::ANY, SignedRecord::version);
            let live = newest.filter(|record| !record.is_tombstone());
            if live.is_some() && version >= target {
                return live;
            }
            // A topic that was made a moment ago is on its way to its holders.
            let perhaps_new = version == Version::ANY && attempt < DHT_MISS_RETRIES_MAX;
            if !perhaps_new && (min == Version::ANY || version >= min) {
                return None;
            }
        }
        None
    }

    /// Asks an authoritative node; keeps to what is known if that leads nowhere.
    async fn ask(&self, key: &Key, min: Version, mut effort: Effort) -> Result<Fetched, ResolveError> {
        let newest = self.cache().newest(key);
        let buried = newest.as_ref().is_some_and(|record| record.is_tombstone() && record.version() >= min);
        let stale = newest.filter(|record| !record.is_tombstone());
        if let Some(record) = &stale
            && record.version() >= min
            && !self.cache().may_ask(key, (self.clock)())
        {
            self.cache().settle(key);
            return Ok(Fetched { record: record.clone(), effort });
        }
        let error = match self.ask_authority(key).await {
            Ok(Answer::Records(records)) => match self.take(key, &records) {
                Some(record) => {
                    self.cache().settle(key);
                    effort.source = Source::Quorum;
                    return Ok(Fetched { record, effort });
                }
                None => ResolveError::unusable(key),
            },
            Ok(Answer::Unknown) => ResolveError::unknown(key),
            Err(_) if buried => ResolveError::unknown(key),
            Err(reason) => ResolveError::Unavailable { key: key.to_string(), reason },
        };
        if let (Some(record), ResolveError::Unavailable { .. }) = (stale, &error) {
            self.cache().settle(key);
            return Ok(Fetched { record, effort });
        }
        self.cache().refuse(key.clone(), min, error.clone(), (self.clock)());
        Err(error)
    }

    async fn ask_authority(&self, key: &Key) -> Result<Answer, String> {
        let _permit = self.fallbacks.acquire().await.map_err(|closed| closed.to_string())?;
        self.counters.fallbacks.fetch_add(1, Relaxed);
        self.fallback.ask(key).await
    }

    /// Takes the valid ones of `records`; returns the newest known of `key`.
    fn take(&self, key: &Key, records: &[bytes::Bytes]) -> Option<SignedRecord> {
        let now = (self.clock)();
        let mut wanted = None;
        for bytes in records {
            match self.verifier.verify(bytes) {
                Ok(record) => {
                    let named = record.key() == key;
                    let newest = self.cache().offer(record, Source::Quorum, now);
                    if named && !newest.is_tombstone() {
                        wanted = Some(newest);
                    }
                }
                Err(invalid) => tracing::warn!(%key, %invalid, "invalid record from an authoritative node"),
            }
        }
        wanted
    }
}
