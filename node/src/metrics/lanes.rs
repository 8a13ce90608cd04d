//! The counters of the lanes.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rafka_protocols::lane::Counters;

#[derive(Debug)]
pub(super) struct Lanes(pub(super) Arc<Counters>);

impl Collector for Lanes {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let of = &self.0;
        let counts = [
            ("rafka_lane_opened", "Lanes opened by this node", &of.opened),
            ("rafka_lane_accepted", "Lanes opened by peers", &of.accepted),
            ("rafka_lane_failed", "Lanes that could not be opened", &of.failed),
            ("rafka_lane_broken", "Lanes that broke off", &of.broken),
            ("rafka_lane_violated", "Lanes cut off because the peer broke the rules", &of.violated),
            ("rafka_lane_reconnects", "Lanes opened again after one that broke off", &of.reconnects),
            ("rafka_lane_rerouted", "Calls not sent by their lane that went another way", &of.rerouted),
            ("rafka_lane_fallbacks", "Calls by request-response because no lane stood", &of.fallbacks),
            ("rafka_lane_sent_frames", "Requests and replies sent", &of.frames_sent),
            ("rafka_lane_received_frames", "Requests and replies received", &of.frames_received),
            ("rafka_lane_sent_bytes", "Bytes sent through lanes", &of.bytes_sent),
            ("rafka_lane_received_bytes", "Bytes received through lanes", &of.bytes_received),
        ];
        for (name, help, count) in counts {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count.get()).encode(metric)?;
        }
        let levels = [
            ("rafka_lane_open", "Lanes that stand", &of.lanes),
            ("rafka_lane_calls_in_flight", "Calls through lanes without an answer", &of.calls),
            ("rafka_lane_requests_in_flight", "Requests of lanes being served", &of.served),
            ("rafka_lane_held_bytes", "Bytes of answers that wait for peers to read them", &of.held_bytes),
        ];
        for (name, help, level) in levels {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(level.get()).unwrap_or(i64::MAX)).encode(metric)?;
        }
        Ok(())
    }
}
