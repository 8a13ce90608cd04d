//! What the door counts. Labels are closed sets: API and error name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ApiKey;
use crate::api::SERVED;
use crate::error;

/// Upper bounds of the latency buckets, in seconds. A fetch may wait for thirty.
pub const LATENCY_SECONDS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Numbers of errors that are told apart: -1 to 133, and all others.
const CODES: usize = 136;

/// Counters of the door, shared by all its connections.
#[derive(Debug)]
pub struct Metrics {
    apis: Vec<Api>,
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were closed at once because there are too many.
    pub refused: Counter,
    /// Connections that ended because of what the client sent.
    pub malformed: Counter,
    /// Connections that were closed because nothing came or went any more.
    pub expired: Counter,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Bytes sent.
    pub sent_bytes: Counter,
}

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

#[derive(Debug)]
struct Api {
    buckets: [Counter; LATENCY_SECONDS.len() + 1],
    nanoseconds: Counter,
    errors: [Counter; CODES],
}

/// Latencies of an API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// Requests answered.
    pub count: u64,
    /// Seconds altogether.
    pub seconds: f64,
    /// Requests by [`LATENCY_SECONDS`], each bucket for itself, and those beyond.
    pub buckets: Vec<u64>,
}

impl Counter {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let api = |_| Api {
            buckets: std::array::from_fn(|_| Counter::default()),
            nanoseconds: Counter::default(),
            errors: std::array::from_fn(|_| Counter::default()),
        };
        Self {
            apis: SERVED.iter().map(api).collect(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            malformed: Counter::default(),
            expired: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
        }
    }
}

impl Metrics {
    fn of(&self, key: ApiKey) -> Option<&Api> {
        self.apis.get(SERVED.binary_search_by_key(&key.number(), |key| key.number()).ok()?)
    }

    /// A request was answered `elapsed` after its last byte came.
    pub(crate) fn answered(&self, key: ApiKey, elapsed: Duration) {
        let Some(api) = self.of(key) else { return };
        let seconds = elapsed.as_secs_f64();
        api.buckets[LATENCY_SECONDS.partition_point(|bound| *bound < seconds)].add(1);
        api.nanoseconds.add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A response says that something, or one thing in it, failed.
    pub(crate) fn failed(&self, key: ApiKey, code: i16) {
        let Some(api) = self.of(key) else { return };
        let at = usize::try_from(i32::from(code) + 1).unwrap_or(CODES).min(CODES - 1);
        api.errors[at].add(1);
    }

    /// Latencies of `key`.
    pub fn latency(&self, key: ApiKey) -> Latency {
        let Some(api) = self.of(key) else { return Latency::default() };
        let buckets: Vec<_> = api.buckets.iter().map(Counter::get).collect();
        #[allow(clippy::cast_precision_loss, reason = "a sum of times for people")]
        let seconds = api.nanoseconds.get() as f64 / 1e9;
        Latency { count: buckets.iter().sum(), seconds, buckets }
    }

    /// Errors in responses to `key`, by name; those that never happened are left out.
    pub fn errors(&self, key: ApiKey) -> Vec<(&'static str, u64)> {
        let Some(api) = self.of(key) else { return Vec::new() };
        let mut found: Vec<(&'static str, u64)> = Vec::new();
        for (number, counter) in (-1..).zip(&api.errors).filter(|(_, counter)| counter.get() > 0) {
            let name = error::name(number);
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += counter.get(),
                None => found.push((name, counter.get())),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets_and_errors_have_names() {
        let metrics = Metrics::default();
        metrics.answered(ApiKey::Produce, Duration::from_micros(100));
        metrics.answered(ApiKey::Produce, Duration::from_secs(60));
        let latency = metrics.latency(ApiKey::Produce);
        assert_eq!((latency.count, latency.buckets[0], latency.buckets[LATENCY_SECONDS.len()]), (2, 1, 1));
        assert!((latency.seconds - 60.0001).abs() < 1e-9);
        for code in [3, 3, -1, 12_345, i16::MIN] {
            metrics.failed(ApiKey::Fetch, code);
        }
        let errors = metrics.errors(ApiKey::Fetch);
        assert_eq!(errors, [("UNKNOWN_SERVER_ERROR", 1), ("UNKNOWN_TOPIC_OR_PARTITION", 2), ("OTHER", 2)]);
        assert_eq!(metrics.latency(ApiKey::Metadata), Latency { buckets: vec![0; 18], ..Latency::default() });
    }
}
