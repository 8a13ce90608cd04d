//! What was measured.

use std::time::Duration;

use rafka_client::TopicName;
use serde::Serialize;

use crate::output::{count, fields};
use crate::times::{show_bytes, show_span};

/// A measurement.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    bench: &'static str,
    topic: String,
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    bytes_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
}

/// Percentiles, ms.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Latency {
    /// Of these times; `None` if there are none.
    pub(super) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |percent: usize| times[(last * percent).div_ceil(100)].as_secs_f64() * 1e3;
        Some(Self { p50: at(50), p95: at(95), p99: at(99), max: at(100) })
    }
}

impl Measured {
    #[allow(clippy::cast_precision_loss, reason = "rates are shown to a few digits")]
    pub(super) fn new(
        bench: &'static str,
        topic: &TopicName,
        (records, bytes): (u64, u64),
        took: Duration,
        latency_ms: Option<Latency>,
    ) -> Self {
        let seconds = took.as_secs_f64().max(1e-9);
        let (records_per_second, bytes_per_second) = (records as f64 / seconds, bytes as f64 / seconds);
        let topic = topic.to_string();
        Self { bench, topic, records, bytes, seconds, records_per_second, bytes_per_second, latency_ms }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are positive and shown to a few digits"
    )]
    pub(super) fn words(&self) -> String {
        let took = show_span(Duration::from_secs_f64(self.seconds));
        let mut lines = vec![
            ("Records", format!("{}, {} in {took}", count(self.records, "record"), show_bytes(self.bytes))),
            (
                "Rate",
                format!("{:.0} records/s, {}/s", self.records_per_second, show_bytes(self.bytes_per_second as u64)),
            ),
        ];
        if let Some(Latency { p50, p95, p99, max }) = self.latency_ms {
            lines.push(("Latency", format!("p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")));
        }
        fields(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(times).expect("times");
        assert_eq!([latency.p50, latency.p99, latency.max].map(f64::round), [51.0, 100.0, 100.0]);
        assert!(Latency::of(Vec::new()).is_none());
    }

    #[test]
    fn the_words_have_rates() {
        let topic = TopicName::new("t").expect("a name");
        let measured = Measured::new("produce", &topic, (2000, 2_097_152), Duration::from_secs(2), None);
        assert_eq!(measured.words(), "Records: 2000 records, 2.0 MiB in 2.00 s\nRate:    1000 records/s, 1.0 MiB/s\n");
    }
}
