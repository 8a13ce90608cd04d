//! What a node measures, in one registry that libp2p's metrics share.
//!
//! Two kinds: what happens is counted where it happens ([`Metrics::request`], [`SwarmRecorder`]); what *is* (partitions,
//! bytes, cache, routes) is asked for at each scrape ([`Metrics::sample`]), so that the hot path pays nothing for it.
//! Labels are closed sets: protocol, error code, outcome, source. Partitions have series of their own up to
//! `ops.metric_partitions_max`. Dashboards made for Kafka find the names that they know beside `rafka_*`.

mod exchanges;
mod groups;
mod kafka;
mod lanes;
mod process;
mod sample;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rafka_broker::ErrorCode;
use rafka_protocols::{Protocol, rpc};

pub use sample::{PartitionSample, Sample};

use crate::groups::Groups;
pub use crate::mesh::SwarmRecorder;

/// Upper bounds of the latency buckets, in seconds. A fetch may wait for thirty.
pub(crate) const LATENCY_SECONDS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The node's metrics. Shared by everything that counts and by the ops door that shows them.
pub struct Metrics {
    registry: Mutex<Registry>,
    latency: [Histogram; Protocol::ALL.len()],
    errors: Family<ErrorLabels, Counter>,
    requests: AtomicU64,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct ProtocolLabel {
    protocol: &'static str,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct ErrorLabels {
    protocol: &'static str,
    error: &'static str,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// With the process's own figures, and nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let build = Info::new([("version", crate::args::version())]);
        registry.register("rafka_build", "The program", build);
        let latency: Family<ProtocolLabel, Histogram> =
            Family::new_with_constructor(|| Histogram::new(LATENCY_SECONDS));
        registry.register_with_unit(
            "rafka_request_duration",
            "Time from a request's arrival to its answer, waiting for records or replicas included",
            Unit::Seconds,
            latency.clone(),
        );
        let errors = Family::default();
        registry.register("rafka_request_errors", "Requests answered with an error", errors.clone());
        registry.register_collector(Box::new(process::Process));
        let of = |protocol: Protocol| latency.get_or_create_owned(&ProtocolLabel { protocol: protocol.word() });
        Self { registry: Mutex::new(registry), latency: Protocol::ALL.map(of), errors, requests: AtomicU64::new(0) }
    }

    /// A request of a peer was answered after `elapsed`; with `error`, the first one of its answer, if it had any.
    pub fn request(&self, protocol: Protocol, error: Option<ErrorCode>, elapsed: Duration) {
        self.latency[protocol as usize].observe(elapsed.as_secs_f64());
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = error {
            let labels = ErrorLabels { protocol: protocol.word(), error: error.name() };
            self.errors.get_or_create(&labels).inc();
        }
    }

    /// Requests answered since the start.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Shows the counters of the protocols' frames. Call it once for each set of counters.
    pub fn exchanges(&self, counters: Arc<rpc::Counters>) {
        self.registry.lock().register_collector(Box::new(exchanges::Exchanges(counters)));
    }

    /// Exports what the lanes count.
    pub fn lanes(&self, counters: Arc<rafka_protocols::lane::Counters>) {
        self.registry.lock().register_collector(Box::new(lanes::Lanes(counters)));
    }

    /// Shows the counters of the Kafka door. Call it once.
    pub fn kafka(&self, counters: Arc<rafka_kafka::metrics::Metrics>) {
        self.registry.lock().register_collector(Box::new(kafka::KafkaDoor(counters)));
    }

    /// Shows the coordinators of consumer groups. Call it once.
    pub fn groups(&self, groups: Groups) {
        let mut registry = self.registry.lock();
        registry.register_with_unit(
            "rafka_group_commit_duration",
            "Time from a commit of offsets to its answer, once it is committed itself",
            Unit::Seconds,
            groups.commit_latency(),
        );
        registry.register_collector(Box::new(groups::Coordinators(groups)));
    }

    /// Asks `source` at each scrape for what the node is at that moment; `partitions_max` of its partitions get series
    /// of their own. `source` must not wait for anything long: a scrape waits for it. Call it once.
    pub fn sample(&self, partitions_max: usize, source: impl Fn() -> Sample + Send + Sync + 'static) {
        let collector = table::Sampled { partitions_max, source: Box::new(source) };
        self.registry.lock().register_collector(Box::new(collector));
    }

    /// Lets a library register metrics of its own.
    pub fn register<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.registry.lock())
    }

    /// Every metric as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock()).expect("a String takes any text");
        text
    }
}
