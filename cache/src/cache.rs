//! The cache: an LRU over all partitions, and an ordered index of each partition's chunks.

use std::collections::BTreeMap;

use bytes::Bytes;
use lru::LruCache;
use rafka_model::{BatchHeader, Offset, PartitionId, TopicId, TopicPartition};

use crate::Stats;

/// Bytes that an entry costs beside its batches: keys, links, table and index slots, the header of shared bytes.
pub const ENTRY_OVERHEAD_BYTES: usize = 192;

type Key = (TopicPartition, Offset);

/// Committed batches, the least recently read ones leave first.
///
/// Not shared by itself: `&mut self` throughout, so that the owner chooses shards and locks.
#[derive(Debug)]
pub struct Cache {
    bytes_max: usize,
    chunks: LruCache<Key, Chunk>,
    /// Base offsets of each partition's chunks, to the offset behind each.
    index: BTreeMap<TopicPartition, BTreeMap<Offset, Offset>>,
    stats: Stats,
}

/// What was put in at once: one batch that was appended, or the batches of one read of the log.
#[derive(Debug)]
struct Chunk {
    next: Offset,
    bytes: Bytes,
}

/// What a chunk has for a read.
#[derive(Debug, Eq, PartialEq)]
enum Cut {
    /// Whole batches, and the offset behind them.
    Batches(Bytes, Offset),
    /// The first batch is too large.
    NoRoom,
    /// The first batch reaches beyond the bound.
    Beyond,
}

/// Consecutive batches of one partition, without a gap between them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// Whole batches in order, one or more in each piece; the first may begin below the offset asked for. Empty when
    /// none fits the bytes asked for.
    pub pieces: Vec<Bytes>,
    /// Sum of their lengths.
    pub bytes: usize,
    /// Offset behind the last batch (the offset asked for, if there is none): where to read on.
    pub next: Offset,
}

impl Chunk {
    fn cost(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD_BYTES
    }

    /// The batches from the one that holds `from`, of a chunk that begins at `base`. What cannot be read as batches is
    /// one.
    fn cut(&self, base: Offset, from: Offset, below: Offset, room: usize, at_least_one: bool) -> Cut {
        if from == base && self.next <= below && self.bytes.len() <= room {
            return Cut::Batches(self.bytes.clone(), self.next);
        }
        let (mut at, mut start, mut next) = (0, None, from);
        while at < self.bytes.len() {
            let header = BatchHeader::parse(&self.bytes[at..]).ok();
            let (total, end) =
                header.map_or((self.bytes.len() - at, self.next), |h| (h.total_bytes(), h.next_offset()));
            let behind = (at + total).min(self.bytes.len());
            if end > from {
                let first = *start.get_or_insert(at);
                let is_first = first == at;
                let fits = behind - first <= room || (is_first && at_least_one);
                match (end > below, fits) {
                    (true, _) if is_first => return Cut::Beyond,
                    (_, false) if is_first => return Cut::NoRoom,
                    (false, true) => next = end,
                    _ => break,
                }
            }
            at = behind;
        }
        start.map_or(Cut::Beyond, |start| Cut::Batches(self.bytes.slice(start..at), next))
    }
}

impl Cache {
    /// A cache that holds at most `bytes_max` bytes, [`ENTRY_OVERHEAD_BYTES`] of each entry counted. 0 holds nothing.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, chunks: LruCache::unbounded(), index: BTreeMap::new(), stats: Stats::default() }
    }

    /// Takes in one or more committed batches, end to end, of the offsets from `base` up to, not with, `next`. They stay
    /// together: they leave together, too.
    ///
    /// `batches` is shared, not copied. A slice keeps the whole buffer alive that it was cut from, and only the slice
    /// is counted: the caller hands over bytes that stand alone. What cannot be held (empty, no offsets, larger than
    /// the cache) is ignored; what overlaps the new batches is replaced.
    pub fn insert(&mut self, at: TopicPartition, base: Offset, next: Offset, batches: Bytes) {
        let chunk = Chunk { next, bytes: batches };
        if chunk.bytes.is_empty() || base >= next || chunk.cost() > self.bytes_max {
            return;
        }
        self.remove_overlapping(at, base, next);
        self.stats.bytes += chunk.cost() as u64;
        self.stats.entries += 1;
        self.stats.insertions += 1;
        self.index.entry(at).or_default().insert(base, next);
        self.chunks.put((at, base), chunk);
        while self.stats.bytes > self.bytes_max as u64 {
            let Some((key, chunk)) = self.chunks.pop_lru() else { break };
            self.forget(key, &chunk);
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
        let mut run = Run { pieces: Vec::new(), bytes: 0, next: from };
        let mut base = self.holder(at, from);
        // A chunk is found again only by the very offset behind its predecessor: a gap ends the run.
        while let Some((start, chunk)) = base.and_then(|base| Some((base, self.chunks.peek(&(at, base))?))) {
            let is_first = run.pieces.is_empty();
            let room = max_bytes.saturating_sub(run.bytes);
            let (batches, next) = match chunk.cut(start, run.next, below, room, at_least_one && is_first) {
                Cut::Batches(batches, next) => (batches, next),
                Cut::Beyond if is_first => break,
                Cut::NoRoom | Cut::Beyond => {
                    self.stats.hits += 1;
                    return Some(run);
                }
            };
            run.bytes += batches.len();
            run.next = next;
            run.pieces.push(batches);
            base = (next == chunk.next).then_some(next);
            self.chunks.promote(&(at, start));
        }
        if run.pieces.is_empty() {
            self.stats.misses += 1;
            return None;
        }
        self.stats.hits += 1;
        Some(run)
    }

    /// Drops the chunks that lie wholly below `log_start`.
    pub fn drop_below(&mut self, at: TopicPartition, log_start: Offset) {
        self.remove_where(at, |_, next| next <= log_start);
    }

    /// Drops the chunks that reach beyond `log_end`.
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

    /// Base offset of the chunk that holds `offset`.
    fn holder(&self, at: TopicPartition, offset: Offset) -> Option<Offset> {
        let (base, next) = self.index.get(&at)?.range(..=offset).next_back()?;
        (*next > offset).then_some(*base)
    }

    fn remove_overlapping(&mut self, at: TopicPartition, base: Offset, next: Offset) {
        let Some(held) = self.index.get(&at) else { return };
        // Held chunks do not overlap one another, so only the last that begins below `base` can reach into it.
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
        if let Some(chunk) = self.chunks.pop(&key) {
            self.forget(key, &chunk);
        }
    }

    /// Takes a chunk that left the LRU out of index and sums.
    fn forget(&mut self, (at, base): Key, chunk: &Chunk) {
        self.stats.bytes -= chunk.cost() as u64;
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
