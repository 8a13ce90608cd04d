//! What a gateway counts: requests by how they were answered, the time that leaders took, its cache.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use rafka_cache::Stats;

use super::cache::HotCache;
use super::reach::Ask;

/// Upper bounds of the latency buckets, in seconds. A fetch may wait for thirty.
const LATENCY_SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// What is asked, as a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Api {
    Produce,
    Fetch,
    Offsets,
    Group,
    Admin,
}

const APIS: [(Api, &str); 5] = [
    (Api::Produce, "produce"),
    (Api::Fetch, "fetch"),
    (Api::Offsets, "offsets"),
    (Api::Group, "group"),
    (Api::Admin, "admin"),
];

/// Who answered, as a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// This node.
    Local,
    /// Another node.
    Relayed,
    /// The cache.
    Cached,
}

const ROUTES: [&str; 3] = ["local", "relayed", "cached"];

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct Labels {
    api: &'static str,
    route: &'static str,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

/// The counters; each is looked up once.
pub(crate) struct Metrics {
    requests: [[Counter; ROUTES.len()]; APIS.len()],
    bytes: [[Counter; ROUTES.len()]; APIS.len()],
    latency: [Histogram; APIS.len()],
    retries: [Counter; APIS.len()],
}

impl Api {
    pub(crate) fn of(ask: &Ask) -> Self {
        match ask {
            Ask::Produce(_) => Self::Produce,
            Ask::Fetch(_) => Self::Fetch,
            Ask::ListOffsets(_) | Ask::DeleteRecords(_) | Ask::EpochEnds(_) | Ask::Producers(_) => Self::Offsets,
            Ask::Group(_) | Ask::ListGroups => Self::Group,
            Ask::LogDirs => Self::Admin,
        }
    }
}

impl Metrics {
    /// Counters that `registry` shows.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let requests: Family<Labels, Counter> = Family::default();
        let bytes: Family<Labels, Counter> = Family::default();
        let retries: Family<ApiLabel, Counter> = Family::default();
        let latency: Family<ApiLabel, Histogram> = Family::new_with_constructor(|| Histogram::new(LATENCY_SECONDS));
        let help = "Parts of requests at listeners that route through the mesh, by who answered them";
        registry.register("rafka_gateway_requests", help, requests.clone());
        registry.register("rafka_gateway_bytes", "Bytes of records in them", bytes.clone());
        registry.register("rafka_gateway_retries", "Relayed parts that were sent again", retries.clone());
        let help = "Time from a relayed request to its answer, waiting for records or replicas included";
        registry.register_with_unit("rafka_gateway_relay_duration", help, Unit::Seconds, latency.clone());
        let each = |family: &Family<Labels, Counter>| {
            APIS.map(|(_, api)| ROUTES.map(|route| family.get_or_create_owned(&Labels { api, route })))
        };
        Self {
            requests: each(&requests),
            bytes: each(&bytes),
            latency: APIS.map(|(_, api)| latency.get_or_create_owned(&ApiLabel { api })),
            retries: APIS.map(|(_, api)| retries.get_or_create_owned(&ApiLabel { api })),
        }
    }

    /// Part of a request was answered.
    pub(crate) fn answered(&self, api: Api, route: Route, bytes: u64) {
        self.requests[api as usize][route as usize].inc();
        self.bytes[api as usize][route as usize].inc_by(bytes);
    }

    /// A node took so long.
    pub(crate) fn took(&self, api: Api, elapsed: Duration) {
        self.latency[api as usize].observe(elapsed.as_secs_f64());
    }

    /// Something is asked again.
    pub(crate) fn again(&self, api: Api) {
        self.retries[api as usize].inc();
    }

    #[cfg(test)]
    pub(crate) fn count(&self, api: Api, route: Route) -> u64 {
        self.requests[api as usize][route as usize].get()
    }
}

/// Shows the cache at each scrape.
#[derive(Debug)]
pub(crate) struct CacheFigures(pub(crate) Arc<HotCache>);

/// Name, help, kind, value.
type Row = (&'static str, &'static str, MetricType, fn(&Stats) -> u64);

const ROWS: &[Row] = &[
    ("rafka_gateway_cache_hits", "Reads that the gateway's cache answered", MetricType::Counter, |s| s.hits),
    ("rafka_gateway_cache_misses", "Reads that it did not answer", MetricType::Counter, |s| s.misses),
    ("rafka_gateway_cache_insertions", "Batches taken into it", MetricType::Counter, |s| s.insertions),
    ("rafka_gateway_cache_evictions", "Batches put out of it to make room", MetricType::Counter, |s| s.evictions),
    ("rafka_gateway_cache_bytes", "Bytes held by it", MetricType::Gauge, |s| s.bytes),
    ("rafka_gateway_cache_entries", "Batches held by it", MetricType::Gauge, |s| s.entries),
];

impl Collector for CacheFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        for (name, help, kind, value) in ROWS {
            let descriptor = encoder.encode_descriptor(name, help, None, *kind)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value(&stats)).encode(descriptor)?,
                _ => ConstGauge::new(value(&stats)).encode(descriptor)?,
            }
        }
        Ok(())
    }
}
