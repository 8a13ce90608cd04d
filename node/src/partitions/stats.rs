//! What the data path counts, for metrics and tests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rafka_log::CompactionReport;
use rafka_model::{LeaderEpoch, Offset, TopicName, TopicPartition};

use super::Inner;
use super::replica::Role;

/// Counters, added to without order between them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    produced_batches: AtomicU64,
    produced_records: AtomicU64,
    produced_bytes: AtomicU64,
    refused_produces: AtomicU64,
    fetched_bytes: AtomicU64,
    refused_fetches: AtomicU64,
    parked_fetches: AtomicU64,
    cold_reads: AtomicU64,
    flushes: AtomicU64,
    failed_flushes: AtomicU64,
    retained_segments: AtomicU64,
    retained_bytes: AtomicU64,
    compactions: AtomicU64,
    failed_compactions: AtomicU64,
    compaction_read_bytes: AtomicU64,
    compaction_written_bytes: AtomicU64,
    compacted_records: AtomicU64,
    compaction_ms: AtomicU64,
    compaction_kept_ppm: AtomicU64,
    dirty_ratio_ppm: AtomicU64,
    full: AtomicBool,
}

/// Counters since the start, sizes now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Batches appended.
    pub produced_batches: u64,
    /// Records appended.
    pub produced_records: u64,
    /// Bytes appended.
    pub produced_bytes: u64,
    /// Partitions of produces that were refused.
    pub refused_produces: u64,
    /// Bytes of batches given to fetches.
    pub fetched_bytes: u64,
    /// Partitions of fetches that were refused.
    pub refused_fetches: u64,
    /// Times that a fetch found too little and waited.
    pub parked_fetches: u64,
    /// Reads of a log because the cache did not have it.
    pub cold_reads: u64,
    /// Syncs of logs.
    pub flushes: u64,
    /// Syncs that failed; each took a partition offline.
    pub failed_flushes: u64,
    /// Segments that retention removed.
    pub retained_segments: u64,
    /// Bytes that retention removed.
    pub retained_bytes: u64,
    /// Compaction rounds that came to their end.
    pub compactions: u64,
    /// Compaction rounds that failed; nothing was changed by them.
    pub failed_compactions: u64,
    /// Bytes that compaction read.
    pub compaction_read_bytes: u64,
    /// Bytes that compaction wrote.
    pub compaction_written_bytes: u64,
    /// Records that compaction removed.
    pub compacted_records: u64,
    /// Time (ms) that the last compaction round took.
    pub compaction_ms: u64,
    /// Share (millionths) of the bytes that the last compaction round kept.
    pub compaction_kept_ppm: u64,
    /// Dirty share (millionths) of the dirtiest log that was due at the last look.
    pub dirty_ratio_ppm: u64,
    /// Appends were refused for lack of space, and none is known to be back.
    pub disk_full: bool,
    /// The cache of committed batches.
    pub cache: rafka_cache::Stats,
}

/// One hosted partition.
#[derive(Clone, Debug)]
pub struct PartitionStats {
    /// Which.
    pub partition: TopicPartition,
    /// Its topic.
    pub topic: TopicName,
    /// The epoch in which this node leads it; `None` if it does not.
    pub leads: Option<LeaderEpoch>,
    /// Its disk failed: why.
    pub offline: Option<String>,
    /// First offset.
    pub log_start: Offset,
    /// Offset behind the last record.
    pub log_end: Offset,
    /// Offset behind the last committed record.
    pub high_watermark: Offset,
    /// Offset before which everything survives a power loss.
    pub flushed: Offset,
    /// Bytes of its segments.
    pub bytes: u64,
    /// Fetches waiting here.
    pub parked: usize,
}

/// What the data path did and has.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Of the whole node.
    pub totals: Totals,
    /// By topic id and index.
    pub partitions: Vec<PartitionStats>,
    /// Partitions whose log could not be opened, and why.
    pub failed: Vec<(TopicPartition, String)>,
}

impl Counters {
    pub(super) fn produced(&self, batches: u64, records: u64, bytes: u64) {
        self.produced_batches.fetch_add(batches, Ordering::Relaxed);
        self.produced_records.fetch_add(records, Ordering::Relaxed);
        self.produced_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn refused_produce(&self) {
        self.refused_produces.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fetched(&self, bytes: u64, refused: u64) {
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.refused_fetches.fetch_add(refused, Ordering::Relaxed);
    }

    pub(super) fn parked_fetch(&self) {
        self.parked_fetches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cold_read(&self) {
        self.cold_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn flush(&self, failed: bool) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.failed_flushes.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    pub(super) fn retained(&self, segments: usize, bytes: u64) {
        self.retained_segments.fetch_add(segments as u64, Ordering::Relaxed);
        self.retained_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn compacted(&self, report: &CompactionReport, took: Duration) {
        self.compactions.fetch_add(1, Ordering::Relaxed);
        self.compaction_read_bytes.fetch_add(report.read_bytes, Ordering::Relaxed);
        self.compaction_written_bytes.fetch_add(report.written_bytes, Ordering::Relaxed);
        self.compacted_records.fetch_add(report.records_removed, Ordering::Relaxed);
        self.compaction_ms.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let kept = report.bytes_after.saturating_mul(1_000_000).checked_div(report.bytes_before);
        self.compaction_kept_ppm.store(kept.unwrap_or(1_000_000), Ordering::Relaxed);
    }

    pub(super) fn failed_compaction(&self) {
        self.failed_compactions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_dirty_ratio(&self, ppm: u32) {
        self.dirty_ratio_ppm.store(ppm.into(), Ordering::Relaxed);
    }

    /// Sets the gauge of the full disk; returns what it was.
    pub(super) fn set_full(&self, full: bool) -> bool {
        self.full.swap(full, Ordering::AcqRel)
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }
}

impl Inner {
    pub(super) fn totals(&self) -> Totals {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            produced_batches: get(&counters.produced_batches),
            produced_records: get(&counters.produced_records),
            produced_bytes: get(&counters.produced_bytes),
            refused_produces: get(&counters.refused_produces),
            fetched_bytes: get(&counters.fetched_bytes),
            refused_fetches: get(&counters.refused_fetches),
            parked_fetches: get(&counters.parked_fetches),
            cold_reads: get(&counters.cold_reads),
            flushes: get(&counters.flushes),
            failed_flushes: get(&counters.failed_flushes),
            retained_segments: get(&counters.retained_segments),
            retained_bytes: get(&counters.retained_bytes),
            compactions: get(&counters.compactions),
            failed_compactions: get(&counters.failed_compactions),
            compaction_read_bytes: get(&counters.compaction_read_bytes),
            compaction_written_bytes: get(&counters.compaction_written_bytes),
            compacted_records: get(&counters.compacted_records),
            compaction_ms: get(&counters.compaction_ms),
            compaction_kept_ppm: get(&counters.compaction_kept_ppm),
            dirty_ratio_ppm: get(&counters.dirty_ratio_ppm),
            disk_full: counters.is_full(),
            cache: self.cache.stats(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let replicas = self.replicas.load();
        let mut partitions: Vec<_> = replicas
            .values()
            .map(|replica| {
                let role = replica.standing().role.clone();
                let reader = replica.reader();
                PartitionStats {
                    partition: replica.at,
                    topic: replica.topic.clone(),
                    leads: if let Role::Leader(epoch) = role { Some(epoch) } else { None },
                    offline: if let Role::Offline(reason) = role { Some(reason.to_string()) } else { None },
                    log_start: reader.log_start(),
                    log_end: reader.log_end(),
                    high_watermark: replica.high_watermark(),
                    flushed: reader.flushed(),
                    bytes: reader.size_bytes(),
                    parked: replica.parked().lock().len(),
                }
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        let failed = self.failed.lock().iter().map(|(at, why)| (*at, why.reason.clone())).collect();
        Stats { totals: self.totals(), partitions, failed }
    }
}
