//! What the Kafka door counts, under our names and Kafka's.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rafka_kafka::SERVED;
use rafka_kafka::metrics::{LATENCY_SECONDS, Metrics};

/// A counter of the whole door: name (the library adds `_total`), help, value.
type Row = (&'static str, &'static str, fn(&Metrics) -> u64);

const COUNTERS: &[Row] = &[
    ("rafka_kafka_connections_accepted", "Kafka connections accepted", |m| m.accepted.get()),
    ("rafka_kafka_connections_refused", "Kafka connections closed at once because there were too many", |m| {
        m.refused.get()
    }),
    ("rafka_kafka_connections_malformed", "Kafka connections that ended because of what the client sent", |m| {
        m.malformed.get()
    }),
    ("rafka_kafka_connections_expired", "Kafka connections closed because nothing came or went any more", |m| {
        m.expired.get()
    }),
    ("rafka_kafka_received_bytes", "Bytes received from Kafka clients", |m| m.received_bytes.get()),
    ("rafka_kafka_sent_bytes", "Bytes sent to Kafka clients", |m| m.sent_bytes.get()),
];

#[derive(Debug)]
pub(super) struct KafkaDoor(pub(super) Arc<Metrics>);

impl Collector for KafkaDoor {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (name, help, value) in COUNTERS {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value(&self.0)).encode(descriptor)?;
        }
        for name in ["rafka_kafka_connections", "kafka_server_socketservermetrics_connection_count"] {
            let help = "Kafka connections that are open";
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(self.0.connections.get()).encode(descriptor)?;
        }
        self.encode_requests(&mut encoder)
    }
}

impl KafkaDoor {
    fn encode_requests(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Time from a Kafka request's last byte to its answer, waiting for records or replicas included";
        let name = "rafka_kafka_request_duration_seconds";
        let mut durations = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        // A series appears with its first event: most APIs are never asked for.
        let latencies = SERVED.iter().map(|key| (key, self.0.latency(*key)));
        let asked: Vec<_> = latencies.filter(|(_, latency)| latency.count > 0).collect();
        for (key, latency) in &asked {
            let bounds = LATENCY_SECONDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(latency.buckets.iter().copied()).collect();
            let labels = [("api", key.name())];
            durations.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                latency.seconds,
                latency.count,
                &buckets,
                None,
            )?;
        }
        let name = "kafka_network_requestmetrics_requests";
        let mut requests = encoder.encode_descriptor(name, "Kafka requests answered", None, MetricType::Counter)?;
        for (key, latency) in &asked {
            let labels = [("request", key.name())];
            ConstCounter::new(latency.count).encode(requests.encode_family(&labels)?)?;
        }
        for (name, label) in [("rafka_kafka_request_errors", "api"), ("kafka_network_requestmetrics_errors", "request")]
        {
            let help = "Error codes in answers to Kafka requests";
            let mut errors = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for key in SERVED {
                for (error, count) in self.0.errors(*key) {
                    let labels = [(label, key.name()), ("error", error)];
                    ConstCounter::new(count).encode(errors.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}
