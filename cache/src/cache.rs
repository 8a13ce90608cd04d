//! The cache: an LRU over all partitions, and an ordered index of each partition's batches.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use lru::LruCache;
use rafka_model::{Offset, PartitionId, TopicId, TopicPartition};

use crate::Stats;

/// Bytes that an entry costs beside its batch: keys, links, table and index slots, the header of shared bytes.
pub const ENTRY_OVERHEAD_BYTES: usize = 192;

type Key = (TopicPartition, Offset);

/// Committed batches, the least recently read ones leave first.
///
/// Not shared by itself: `&mut self` throughout, so that the owner chooses shards and locks.
#[derive(Debug)]
pub struct Cache {
    bytes_max: usize,
    batches: LruCache<Key, Batch>,
    /// Base offsets of each partition's batches, to the offset behind each.
    index: BTreeMap<TopicPartition, BTreeMap<Offset, Offset>>,
    stats: Stats,
}

#[derive(Debug)]
struct Batch {
    next: Offset,
    bytes: Bytes,
}

/// Consecutive batches of one partition, without a gap between them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// Whole batches in order; the first may begin below the offset asked for. Empty when none fits the bytes asked for.
    pub batches: Vec<Bytes>,
    /// Sum of their lengths.
    pub bytes: usize,
    /// Offset behind the last batch (the offset asked for, if there is none): where to read on.
    pub next: Offset,
}

impl Run {
    /// The batches end to end: shared when there is one, else one copy.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.batches.len() == 1 {
            return self.batches.swap_remove(0);
        }
        let mut whole = BytesMut::with_capacity(self.bytes);
        self.batches.iter().for_each(|batch| whole.extend_from_slice(batch));
        whole.freeze()
    }
}

impl Batch {
    fn cost(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD_BYTES
    }
}

impl Cache {
    /// A cache that holds at most `bytes_max` bytes, [`ENTRY_OVERHEAD_BYTES`] of each entry counted. 0 holds nothing.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, batches: LruCache::unbounded(), index: BTreeMap::new(), stats: Stats::default() }
    }

    /// Takes in the committed batch of the offsets from `base` up to, not with, `next`.
    ///
    /// `batch` is shared, not copied. A slice keeps the whole buffer alive that it was cut from, and only the slice
    /// is counted: the caller hands over bytes that stand alone. What cannot be held (empty, no offsets, larger than
    /// the cache) is ignored; batches that overlap the new one are replaced.
    pub fn insert(&mut self, at: TopicPartition, base: Offset, next: Offset, batch: Bytes) {
        let batch = Batch { next, bytes: batch };
        if batch.bytes.is_empty() || base >= next || batch.cost() > self.bytes_max {
            return;
        }
        self.remove_overlapping(at, base, next);
        self.stats.bytes += batch.cost() as u64;
        self.stats.entries += 1;
        self.stats.insertions += 1;
        self.index.entry(at).or_default().insert(base, next);
        self.batches.put((at, base), batch);
        while self.stats.bytes > self.bytes_max as u64 {
            let Some((key, batch)) = self.batches.pop_lru() else { break };
            self.forget(key, &batch);
            self.stats.evictions += 1;
        }
    }

    /// The batches from the one that holds `from`, as long as they are contiguous, lie wholly below `below` and their
    /// sum stays within `max_bytes`; with `at_least_one` the first comes whatever its size. `None` is a miss.
    pub fn read(
        &mut self,
        at: TopicPartition,
        from: Offset,
        below: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Run> {
        let Some(first) = self.holder(at, from, below) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        let mut run = Run { batches: Vec::new(), bytes: 0, next: from };
        let mut base = first;
        // A batch is found again only by the very offset behind its predecessor: a gap ends the run.
        while let Some(batch) = self.batches.peek(&(at, base)) {
            let fits = run.bytes + batch.bytes.len() <= max_bytes || (at_least_one && run.batches.is_empty());
            if batch.next > below || !fits {
                break;
            }
            run.bytes += batch.bytes.len();
            run.next = batch.next;
            run.batches.push(batch.bytes.clone());
            self.batches.promote(&(at, base));
            base = run.next;
        }
        Some(run)
    }

    /// Drops the batches that lie wholly below `log_start`.
    pub fn drop_below(&mut self, at: TopicPartition, log_start: Offset) {
        self.remove_where(at, |_, next| next <= log_start);
    }

    /// Drops the batches that reach beyond `log_end`.
    pub fn truncate(&mut self, at: TopicPartition, log_end: Offset) {
        self.remove_where(at, |_, next| next > log_end);
    }

    /// Drops every batch of a partition.
    pub fn drop_partition(&mut self, at: TopicPartition) {
        self.remove_where(at, |_, _| true);
    }

    /// Drops every batch of a topic.
    pub fn drop_topic(&mut self, topic: TopicId) {
        let partition = |id| TopicPartition { topic, partition: PartitionId(id) };
        let held: Vec<_> = self.index.range(partition(0)..=partition(u32::MAX)).map(|(at, _)| *at).collect();
        held.into_iter().for_each(|at| self.drop_partition(at));
    }

    /// What it did so far and holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Base offset of the batch that holds `offset` and ends at or below `below`.
    fn holder(&self, at: TopicPartition, offset: Offset, below: Offset) -> Option<Offset> {
        let (base, next) = self.index.get(&at)?.range(..=offset).next_back()?;
        (*next > offset && *next <= below).then_some(*base)
    }

    fn remove_overlapping(&mut self, at: TopicPartition, base: Offset, next: Offset) {
        let Some(held) = self.index.get(&at) else { return };
        // Held batches do not overlap one another, so only the last that begins below `base` can reach into it.
        let before = held.range(..base).next_back().filter(|(_, end)| **end > base).map(|(start, _)| *start);
        let doomed: Vec<_> = before.into_iter().chain(held.range(base..next).map(|(start, _)| *start)).collect();
        doomed.into_iter().for_each(|start| self.remove((at, start)));
    }

    fn remove_where(&mut self, at: TopicPartition, doomed: impl Fn(Offset, Offset) -> bool) {
        let Some(held) = self.index.get(&at) else { return };
        let doomed: Vec<_> = held.iter().filter(|(base, next)| doomed(**base, **next)).map(|(base, _)| *base).collect();
        doomed.into_iter().for_each(|base| self.remove((at, base)));
    }

    fn remove(&mut self, key: Key) {
        if let Some(batch) = self.batches.pop(&key) {
            self.forget(key, &batch);
        }
    }

    /// Takes a batch that left the LRU out of index and sums.
    fn forget(&mut self, (at, base): Key, batch: &Batch) {
        self.stats.bytes -= batch.cost() as u64;
        self.stats.entries -= 1;
        if let Some(held) = self.index.get_mut(&at) {
            held.remove(&base);
            if held.is_empty() {
                self.index.remove(&at);
            }
        }
    }
}

#[cfg(test)]
mod tests;
