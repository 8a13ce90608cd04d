//! The part of the crate `base2histogram` that openraft calls, in a few hundred bytes a histogram.
//!
//! The original builds lookup tables for sixteen resolutions on first use, 24 MiB that stay resident in every voter of
//! the metadata quorum, although openraft's figures are read by nobody here (`runtime-stats` is off). See
//! `docs/adr/0008-a-small-histogram-under-openraft.md`.

use std::fmt;
use std::marker::PhantomData;

/// Buckets: zero, and one for each power of two.
const BUCKETS: usize = 65;

/// Counts of values by power of two.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Histogram<T = ()> {
    buckets: [u64; BUCKETS],
    data: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self { buckets: [0; BUCKETS], data: PhantomData }
    }

    /// Counts `value` once.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = &mut self.buckets[(u64::BITS - value.leading_zeros()) as usize];
        *bucket = bucket.saturating_add(count);
    }

    /// Samples and percentiles; a percentile is the smallest value of the bucket that it lies in.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.buckets.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let at = |per_mille: u64| {
            let rank = (u128::from(samples) * u128::from(per_mille)).div_ceil(1000).max(1);
            let mut seen = 0;
            let bucket = self.buckets.iter().position(|count| {
                seen += u128::from(*count);
                seen >= rank
            });
            bucket.filter(|bucket| *bucket > 0).map_or(0, |bucket| 1 << (bucket - 1))
        };
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }
}

/// Percentiles of a [`Histogram`]; all zero if it is empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(f, "n={samples} p0.1={p0_1} p1={p1} p5={p5} p10={p10} p50={p50} p90={p90} p99={p99} p99.9={p99_9}")
    }
}

/// Histograms by name, as text.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    rows: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// Without rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one row more.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "the name that the caller uses")]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.rows.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}
