//! The node in figures, for metrics and `/status`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::datadir::DataDir;
use crate::metrics::{PartitionSample, Sample};
use crate::partitions::Partitions;

/// Asks every part for its figures when they are wanted.
#[derive(Clone)]
pub(super) struct Sampler {
    cluster: Arc<Cluster>,
    partitions: Arc<Partitions>,
    data: Arc<DataDir>,
    partitions_max: usize,
}

impl Sampler {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        partitions: &Arc<Partitions>,
        data: &Arc<DataDir>,
        partitions_max: usize,
    ) -> Self {
        Self { cluster: cluster.clone(), partitions: partitions.clone(), data: data.clone(), partitions_max }
    }

    /// The figures behind `/metrics`.
    pub(super) fn sample(&self) -> Sample {
        let image = self.cluster.images.current();
        let stats = self.partitions.stats();
        let space = self.data.space().ok();
        let is_controller = self.cluster.controller.as_ref().is_some_and(crate::controller::Handle::is_active);
        let states = || image.topics.values().flat_map(|topic| &topic.partitions);
        let led = stats.partitions.iter().filter(|partition| partition.leads.is_some());
        let totals = stats.totals;
        let (me, held) = (self.cluster.standing().node, self.cluster.mesh.held());
        Sample {
            nodes: image.nodes.len() as u64,
            nodes_fenced: image.nodes.values().filter(|node| node.fenced).count() as u64,
            topics: image.topics.len() as u64,
            partitions: states().count() as u64,
            partitions_offline: states().filter(|state| is_controller && state.leader.is_none()).count() as u64,
            partitions_under_replicated: states()
                .filter(|state| state.leader.is_some() && state.leader == me && state.isr.len() < state.replicas.len())
                .count() as u64,
            partitions_hosted: stats.partitions.len() as u64,
            partitions_led: led.clone().count() as u64,
            is_controller,
            metadata_index: image.index.0,
            log_bytes: stats.partitions.iter().map(|partition| partition.bytes).sum(),
            appended_bytes: totals.produced_bytes,
            appended_records: totals.produced_records,
            fetched_bytes: totals.fetched_bytes,
            fetches_parked: totals.parked_fetches,
            disk_reads: totals.cold_reads,
            compactions: totals.compactions,
            compactions_failed: totals.failed_compactions,
            compaction_read_bytes: totals.compaction_read_bytes,
            compaction_written_bytes: totals.compaction_written_bytes,
            compacted_records: totals.compacted_records,
            compaction_last_ms: totals.compaction_ms,
            compaction_kept_ppm: totals.compaction_kept_ppm,
            compaction_dirty_ppm: totals.dirty_ratio_ppm,
            disk_full: totals.disk_full,
            disks_failed: u64::from(stats.partitions.iter().any(|partition| partition.offline.is_some())),
            disk_free_bytes: space.map_or(0, |space| space.free_bytes),
            disk_total_bytes: space.map_or(0, |space| space.total_bytes),
            cache: totals.cache,
            led: led
                .take(self.partitions_max)
                .map(|partition| PartitionSample {
                    topic: partition.topic.clone(),
                    partition: partition.partition.partition,
                    log_start: partition.log_start,
                    high_watermark: partition.high_watermark,
                    bytes: partition.bytes,
                })
                .collect(),
            dht_records: held.records as u64,
            dht_bytes: held.bytes as u64,
            loads: self.cluster.loads.known(),
        }
    }

    /// The answer to `/status`.
    pub(super) fn status(&self) -> Value {
        let standing = self.cluster.standing();
        let image = self.cluster.images.current();
        let totals = self.partitions.totals();
        json!({
            "node_id": standing.node.map(|id| id.0),
            "peer_id": self.cluster.mesh.local().to_string(),
            "cluster_id": self.cluster.id.to_string(),
            "in_service": standing.in_service,
            "controller": self.cluster.controller_heard().map(|id| id.0),
            "metadata_index": image.index.0,
            "listening": self.cluster.mesh.listening().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "topics": image.topics.len(),
            "disk_full": totals.disk_full,
            "data_dir": self.data.root(),
            "version": crate::args::version(),
        })
    }
}
