//! Names and meanings of the sampled figures: one row a metric.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use rafka_protocols::gossip::LoadHint;

use super::sample::{PartitionSample, Sample};

/// A figure of the whole node: name, help, value.
type Row<T> = (&'static str, &'static str, fn(&T) -> u64);

const GAUGES: &[Row<Sample>] = &[
    ("rafka_nodes", "Nodes in the registry", |s| s.nodes),
    ("rafka_nodes_fenced", "Nodes out of service", |s| s.nodes_fenced),
    ("rafka_topics", "Topics of the cluster", |s| s.topics),
    ("rafka_partitions", "Partitions of the cluster", |s| s.partitions),
    ("rafka_partitions_offline", "Partitions without a leader, told by the controller", |s| s.partitions_offline),
    ("rafka_partitions_under_replicated", "Partitions led here that miss a replica", |s| s.partitions_under_replicated),
    ("rafka_partitions_hosted", "Replicas on this node", |s| s.partitions_hosted),
    ("rafka_partitions_led", "Partitions led by this node", |s| s.partitions_led),
    ("rafka_controller_active", "1 on the active controller", |s| s.is_controller.into()),
    ("rafka_metadata_index", "Last applied entry of the metadata log", |s| s.metadata_index),
    ("rafka_log_bytes", "Bytes of all logs on this node", |s| s.log_bytes),
    ("rafka_compaction_last_ms", "Time that the last compaction round took, in milliseconds", |s| s.compaction_last_ms),
    ("rafka_compaction_kept_ppm", "Bytes that the last compaction round kept, of a million", |s| s.compaction_kept_ppm),
    ("rafka_compaction_dirty_ppm", "Dirty bytes, of a million, of the dirtiest log that was due for compaction", |s| {
        s.compaction_dirty_ppm
    }),
    ("rafka_disk_full", "1 while appends are refused because the disk is full", |s| s.disk_full.into()),
    ("rafka_disks_failed", "Log directories out of service", |s| s.disks_failed),
    ("rafka_disk_free_bytes", "Free bytes of the data directory's file system", |s| s.disk_free_bytes),
    ("rafka_disk_total_bytes", "All bytes of the data directory's file system", |s| s.disk_total_bytes),
    ("rafka_cache_bytes", "Bytes held by the cache", |s| s.cache.bytes),
    ("rafka_cache_entries", "Batches held by the cache", |s| s.cache.entries),
    ("rafka_dht_records", "DHT records held for others", |s| s.dht_records),
    ("rafka_dht_record_bytes", "Bytes of DHT records held for others", |s| s.dht_bytes),
    // Names that dashboards made for Kafka look for.
    ("kafka_server_replicamanager_partitioncount", "Replicas on this node", |s| s.partitions_hosted),
    ("kafka_server_replicamanager_leadercount", "Partitions led by this node", |s| s.partitions_led),
    ("kafka_server_replicamanager_underreplicatedpartitions", "Partitions led here that miss a replica", |s| {
        s.partitions_under_replicated
    }),
    ("kafka_controller_kafkacontroller_activecontrollercount", "1 on the active controller", |s| {
        s.is_controller.into()
    }),
    (
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        "Partitions without a leader, told by the controller",
        |s| s.partitions_offline,
    ),
    ("kafka_brokers", "Nodes in service", |s| s.nodes.saturating_sub(s.nodes_fenced)),
];

/// The library adds `_total` to the names.
const COUNTERS: &[Row<Sample>] = &[
    ("rafka_appended_bytes", "Bytes of records appended", |s| s.appended_bytes),
    ("rafka_appended_records", "Records appended", |s| s.appended_records),
    ("rafka_fetched_bytes", "Bytes of records given to fetches", |s| s.fetched_bytes),
    ("rafka_fetches_parked", "Fetches that found too little and waited for more", |s| s.fetches_parked),
    ("rafka_disk_reads", "Reads of logs that went to the disk", |s| s.disk_reads),
    ("rafka_compactions", "Compaction rounds", |s| s.compactions),
    ("rafka_compactions_failed", "Compaction rounds that failed and changed nothing", |s| s.compactions_failed),
    ("rafka_compaction_read_bytes", "Bytes that compaction read", |s| s.compaction_read_bytes),
    ("rafka_compaction_written_bytes", "Bytes that compaction wrote", |s| s.compaction_written_bytes),
    ("rafka_compacted_records", "Records that compaction removed", |s| s.compacted_records),
    ("rafka_cache_hits", "Reads that the cache answered", |s| s.cache.hits),
    ("rafka_cache_misses", "Reads that the cache did not answer", |s| s.cache.misses),
    ("rafka_cache_insertions", "Batches taken into the cache", |s| s.cache.insertions),
    ("rafka_cache_evictions", "Batches put out of the cache to make room", |s| s.cache.evictions),
    ("kafka_server_brokertopicmetrics_bytesin", "Bytes of records appended", |s| s.appended_bytes),
    ("kafka_server_brokertopicmetrics_messagesin", "Records appended", |s| s.appended_records),
    ("kafka_server_brokertopicmetrics_bytesout", "Bytes of records given to fetches", |s| s.fetched_bytes),
];

/// A figure of each partition that is led here. kafka_exporter's names.
const PARTITIONS: &[Row<PartitionSample>] = &[
    ("kafka_topic_partition_oldest_offset", "First offset that is kept", |p| p.log_start.0.unsigned_abs()),
    ("kafka_topic_partition_current_offset", "First offset that consumers do not see yet", |p| {
        p.high_watermark.0.unsigned_abs()
    }),
    ("rafka_partition_log_bytes", "Bytes of the partition's log", |p| p.bytes),
];

/// What members tell of themselves by gossip, this node with them: one scrape of any node shows where the load is.
const LOADS: &[Row<LoadHint>] = &[
    ("rafka_member_partitions_led", "Partitions led by a member, as it told last", |l| l.partitions_led.into()),
    ("rafka_member_in_bytes_per_second", "Record bytes that a member took in, as it told last", |l| l.in_bytes_per_s),
    ("rafka_member_out_bytes_per_second", "Record bytes that a member gave out, as it told last", |l| {
        l.out_bytes_per_s
    }),
    ("rafka_member_requests_per_second", "Requests that a member served, as it told last", |l| l.requests_per_s.into()),
    ("rafka_member_disk_used_bytes", "Bytes of a member's disk in use, as it told last", |l| l.disk_used_bytes),
    ("rafka_member_disk_total_bytes", "Bytes of a member's disk, as it told last", |l| l.disk_total_bytes),
];

/// Asks for a [`Sample`] at each scrape.
pub(super) struct Sampled {
    pub(super) partitions_max: usize,
    pub(super) source: Box<dyn Fn() -> Sample + Send + Sync>,
}

impl fmt::Debug for Sampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sampled")
    }
}

impl Collector for Sampled {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let sample = (self.source)();
        for (name, help, value) in GAUGES {
            ConstGauge::new(value(&sample)).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?)?;
        }
        for (name, help, value) in COUNTERS {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value(&sample)).encode(descriptor)?;
        }
        for (name, help, value) in LOADS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for load in &sample.loads {
                let gauge = ConstGauge::new(value(load));
                gauge.encode(family.encode_family(&[("node", load.node.to_string())])?)?;
            }
        }
        self.encode_partitions(&sample, encoder)
    }
}

impl Sampled {
    fn encode_partitions(&self, sample: &Sample, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let shown = &sample.led[..sample.led.len().min(self.partitions_max)];
        for (name, help, value) in PARTITIONS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for partition in shown {
                let index = partition.partition.0.to_string();
                let labels = [("topic", partition.topic.as_str()), ("partition", &index)];
                ConstGauge::new(value(partition)).encode(family.encode_family(&labels)?)?;
            }
        }
        let omitted = sample.partitions_led.saturating_sub(shown.len() as u64);
        let help = "Partitions led here that have no series of their own";
        let descriptor = encoder.encode_descriptor("rafka_metric_partitions_omitted", help, None, MetricType::Gauge)?;
        ConstGauge::new(omitted).encode(descriptor)
    }
}
