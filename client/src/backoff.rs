//! Exponential backoff with jitter, as a function of the number of failures.

use std::time::Duration;

/// How long to wait before another attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(first_ms: u64, max_ms: u64) -> Self {
        Self { first: Duration::from_millis(first_ms), max: Duration::from_millis(max_ms.max(first_ms)) }
    }

    /// The wait after `failures` (≥ 1) failures in a row: doubling, capped, and ±20 % so that clients do not march in step.
    pub(crate) fn after(self, failures: u32, random: &mut Random) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.max);
        doubled.mul_f64(0.8 + 0.4 * random.unit())
    }
}

/// A small generator (xorshift64*): spreads load and jitter, guards nothing.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Seeded by the operating system; by a constant if that fails.
    pub(crate) fn from_system() -> Self {
        Self::seeded(getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In `0.0..1.0`.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `0..bound`; 0 for an empty range.
    #[allow(clippy::cast_possible_truncation, reason = "below a usize")]
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_differ_by_a_fifth() {
        let (backoff, mut random) = (Backoff::new(100, 1000), Random::seeded(7));
        for (failures, expected) in [(1, 100.0), (2, 200.0), (4, 800.0), (5, 1000.0), (60, 1000.0)] {
            for _ in 0..100 {
                let wait = backoff.after(failures, &mut random).as_secs_f64() * 1000.0;
                assert!((expected * 0.79..=expected * 1.21).contains(&wait), "{failures}: {wait}");
            }
        }
    }
}
