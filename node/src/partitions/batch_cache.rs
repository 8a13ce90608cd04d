//! The cache of committed batches, in shards so that partitions do not wait for one another.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use parking_lot::Mutex;
use rafka_cache::{Cache, Run, Stats};
use rafka_model::{BatchHeader, Offset, TopicPartition};

/// Partitions fall on shards by chance, so a small cache would put out at one shard what another has room for.
const SHARD_BYTES_MIN: usize = 64 * 1024 * 1024;
const SHARDS_MAX: usize = 16;

/// The shards.
#[derive(Debug)]
pub(crate) struct BatchCache {
    shards: Vec<Mutex<Cache>>,
    bytes_max: usize,
}

impl BatchCache {
    /// A cache of `bytes_max` bytes in all; 0 caches nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = (bytes_max / SHARD_BYTES_MIN).clamp(1, cores.min(SHARDS_MAX));
        let shards = (0..count).map(|_| Mutex::new(Cache::new(bytes_max / count))).collect();
        Self { shards, bytes_max }
    }

    /// Is there a cache at all? If not, nobody need prepare batches for it.
    pub(crate) fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Bytes that it may hold.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Takes committed batches whose bytes stand alone.
    pub(crate) fn insert(&self, at: TopicPartition, base: Offset, next: Offset, batch: Bytes) {
        self.shard(at).lock().insert(at, base, next, batch);
    }

    /// Takes whole committed batches, end to end up to `next`, as a read of the log of at most `room` bytes gave them.
    /// Shared as they are, unless much of what was read was not used: a slice keeps all of it alive.
    pub(crate) fn fill(&self, at: TopicPartition, records: &Bytes, next: Offset, room: usize) {
        if !self.is_on() {
            return;
        }
        let Ok(first) = BatchHeader::parse(records) else { return };
        let is_used = records.len() >= room / 4 * 3;
        let records = if is_used { records.clone() } else { Bytes::copy_from_slice(records) };
        self.insert(at, first.base_offset, next, records);
    }

    /// As [`Cache::read`].
    pub(crate) fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        below: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Run> {
        if !self.is_on() {
            return None;
        }
        self.shard(at).lock().read(at, from, below, max_bytes, at_least_one)
    }

    /// The log begins here now.
    pub(crate) fn drop_below(&self, at: TopicPartition, log_start: Offset) {
        self.shard(at).lock().drop_below(at, log_start);
    }

    /// The partition is gone from this node.
    pub(crate) fn drop_partition(&self, at: TopicPartition) {
        self.shard(at).lock().drop_partition(at);
    }

    /// All shards together.
    pub(crate) fn stats(&self) -> Stats {
        self.shards.iter().map(|shard| shard.lock().stats()).sum()
    }

    fn shard(&self, at: TopicPartition) -> &Mutex<Cache> {
        let mut hasher = DefaultHasher::new();
        at.hash(&mut hasher);
        &self.shards[(hasher.finish() % self.shards.len() as u64) as usize]
    }
}
