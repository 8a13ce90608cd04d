//! Figures of the coordinators of consumer groups. kafka_exporter's names and labels for what groups have committed.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rafka_broker::group::request::GroupState;
use rafka_model::limits::METRIC_GROUP_OFFSETS_MAX;

use crate::groups::{GroupOffset, Groups, Sample};

/// Name, help, value; without one there is no series.
type Row<T, V> = (&'static str, &'static str, fn(&T) -> V);

const GAUGES: &[Row<Sample, u64>] = &[
    ("rafka_group_coordinators", "Partitions of the offsets topic whose groups this node coordinates", |s| s.ready),
    ("rafka_group_coordinators_loading", "Coordinators that read their log, or cannot", |s| s.not_ready),
    ("rafka_group_members", "Members of the groups coordinated here", |s| s.members),
    ("rafka_group_offsets", "Committed offsets of the groups coordinated here", |s| s.offsets),
    ("rafka_group_load_last_ms", "Time that the last coordinator took to read its log, in milliseconds", |s| {
        s.load_last_ms
    }),
    ("rafka_metric_group_offsets_omitted", "Committed offsets that have no series of their own", |s| {
        s.offsets.saturating_sub(s.shown.len() as u64)
    }),
];

/// The library adds `_total` to the names.
const COUNTERS: &[Row<Sample, u64>] = &[
    ("rafka_group_rebalances", "Generations begun by the coordinators of this node", |s| s.rebalances),
    ("rafka_group_loads", "Logs that coordinators have read", |s| s.loads),
    ("rafka_group_records_damaged", "Records of the offsets topic that are not understood", |s| s.damaged),
    ("rafka_group_coordinators_failed", "Coordinators that failed and began again", |s| s.lost),
];

const OFFSETS: &[Row<GroupOffset, Option<u64>>] = &[
    ("kafka_consumergroup_current_offset", "Offset that a group has committed", |o| u64::try_from(o.offset).ok()),
    ("kafka_consumergroup_lag", "Records behind a committed offset, as far as the partition's leader has told", |o| {
        o.lag
    }),
];

const STATES: [GroupState; 6] = [
    GroupState::Empty,
    GroupState::PreparingRebalance,
    GroupState::CompletingRebalance,
    GroupState::Assigning,
    GroupState::Reconciling,
    GroupState::Stable,
];

pub(super) struct Coordinators(pub(super) Groups);

impl fmt::Debug for Coordinators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coordinators")
    }
}

impl Collector for Coordinators {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let sample = self.0.sample(METRIC_GROUP_OFFSETS_MAX);
        for (name, help, value) in GAUGES {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value(&sample)).encode(descriptor)?;
        }
        for (name, help, value) in COUNTERS {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value(&sample)).encode(descriptor)?;
        }
        let help = "Groups coordinated here, by state";
        let mut family = encoder.encode_descriptor("rafka_groups", help, None, MetricType::Gauge)?;
        for state in STATES {
            let count = sample.groups.get(&state).copied().unwrap_or(0);
            ConstGauge::new(count).encode(family.encode_family(&[("state", state.name())])?)?;
        }
        for (name, help, value) in OFFSETS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for shown in &sample.shown {
                let Some(value) = value(shown) else { continue };
                let partition = shown.partition.0.to_string();
                let labels = [
                    ("consumergroup", shown.group.as_str()),
                    ("topic", shown.topic.as_str()),
                    ("partition", partition.as_str()),
                ];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
