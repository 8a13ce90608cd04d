//! What a cache did so far.

use std::iter::Sum;
use std::ops::Add;

/// Counters and sizes of a cache; those of several shards may be summed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Reads that found the batch of their first offset.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Bytes held now, [`ENTRY_OVERHEAD_BYTES`](crate::ENTRY_OVERHEAD_BYTES) of each entry with them.
    pub bytes: u64,
    /// Batches held now.
    pub entries: u64,
    /// Batches put out to make room.
    pub evictions: u64,
    /// Batches taken in.
    pub insertions: u64,
}

impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            bytes: self.bytes + other.bytes,
            entries: self.entries + other.entries,
            evictions: self.evictions + other.evictions,
            insertions: self.insertions + other.insertions,
        }
    }
}

impl Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(shards: I) -> Self {
        shards.fold(Self::default(), Add::add)
    }
}
