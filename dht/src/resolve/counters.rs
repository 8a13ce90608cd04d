//! Counts of resolves, for `rafka_resolve_total{source}`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ResolveError;

/// Where a route came from: the farthest of the places that were needed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Source {
    /// The node's own image.
    #[default]
    Hosted,
    /// Looked up before.
    Cache,
    /// The DHT.
    Dht,
    /// An authoritative node.
    Quorum,
}

impl Source {
    /// As a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hosted => "hosted",
            Self::Cache => "cache",
            Self::Dht => "dht",
            Self::Quorum => "quorum",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Live counters.
#[derive(Debug, Default)]
pub struct Counters {
    by_source: [AtomicU64; 4],
    unknown: AtomicU64,
    failed: AtomicU64,
    pub(super) lookups: AtomicU64,
    pub(super) fallbacks: AtomicU64,
}

/// Counters at a moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Resolves answered by the node's own image.
    pub hosted: u64,
    /// … by the cache.
    pub cache: u64,
    /// … by the DHT.
    pub dht: u64,
    /// … by an authoritative node.
    pub quorum: u64,
    /// Resolves of what does not exist.
    pub unknown: u64,
    /// Resolves that failed otherwise: no leader, nobody to ask.
    pub failed: u64,
    /// Lookups in the DHT that resolves needed.
    pub lookups: u64,
    /// Questions to authoritative nodes that resolves needed.
    pub fallbacks: u64,
}

impl Counters {
    pub(super) fn count(&self, outcome: Result<Source, &ResolveError>) {
        let counter = match outcome {
            Ok(source) => &self.by_source[source as usize],
            Err(ResolveError::UnknownTopic { .. } | ResolveError::UnknownPartition { .. }) => &self.unknown,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> Counts {
        let source = |source: Source| self.by_source[source as usize].load(Relaxed);
        Counts {
            hosted: source(Source::Hosted),
            cache: source(Source::Cache),
            dht: source(Source::Dht),
            quorum: source(Source::Quorum),
            unknown: self.unknown.load(Relaxed),
            failed: self.failed.load(Relaxed),
            lookups: self.lookups.load(Relaxed),
            fallbacks: self.fallbacks.load(Relaxed),
        }
    }
}
