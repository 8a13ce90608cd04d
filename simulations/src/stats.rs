//! Distributions in a few figures.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Percentiles by nearest rank; all 0 without samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Samples.
    pub count: usize,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Summary {
    /// Of these samples.
    #[must_use]
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(max), count) = (sorted.last().copied(), sorted.len()) else { return Self::default() };
        let rank = |share: f64| sorted[((share * count as f64).ceil() as usize).clamp(1, count) - 1];
        Self { count, p50: rank(0.5), p99: rank(0.99), max, mean: sorted.iter().sum::<f64>() / count as f64 }
    }

    /// Of these times, in milliseconds.
    #[must_use]
    pub fn of_ms(samples: impl IntoIterator<Item = Duration>) -> Self {
        Self::of(samples.into_iter().map(ms))
    }
}

/// Milliseconds.
#[must_use]
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let summary = Summary::of((1..=200).rev().map(f64::from));
        assert_eq!((summary.count, summary.p50, summary.p99, summary.max), (200, 100.0, 198.0, 200.0));
        let one = Summary::of([3.0]);
        assert_eq!((one.p50, one.p99, one.max, one.mean), (3.0, 3.0, 3.0, 3.0));
        assert_eq!(Summary::of([]), Summary::default());
    }
}
