//! What a log needs to know of its topic.

use rafka_model::limits::{BATCH_BYTES_MAX, INDEX_INTERVAL_BYTES};
use rafka_model::{CleanupPolicy, StorageEngine, TopicConfig};

/// Configuration of one log: the part of [`TopicConfig`] that concerns storage. Times are milliseconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// `storage.engine`; read when the log is opened only.
    pub storage_engine: StorageEngine,
    /// `cleanup.policy`.
    pub cleanup: CleanupPolicy,
    /// `delete.retention.ms`.
    pub delete_retention_ms: u64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: u64,
    /// `min.cleanable.dirty.ratio`, millionths.
    pub min_cleanable_dirty_ratio_ppm: u32,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: u64,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `retention.ms`.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: u64,
    /// `max.message.bytes`, for appends as a leader.
    pub max_message_bytes: u32,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `preallocate`: reserve whole segments.
    pub preallocate: bool,
}

impl From<&TopicConfig> for LogConfig {
    fn from(topic: &TopicConfig) -> Self {
        Self {
            storage_engine: topic.storage_engine,
            cleanup: topic.cleanup,
            delete_retention_ms: topic.delete_retention_ms,
            max_compaction_lag_ms: topic.max_compaction_lag_ms,
            min_cleanable_dirty_ratio_ppm: topic.min_cleanable_dirty_ratio_ppm,
            min_compaction_lag_ms: topic.min_compaction_lag_ms,
            segment_bytes: topic.segment_bytes,
            segment_ms: topic.segment_ms,
            index_interval_bytes: topic.index_interval_bytes,
            retention_ms: topic.retention_ms,
            retention_bytes: topic.retention_bytes,
            file_delete_delay_ms: topic.file_delete_delay_ms,
            max_message_bytes: topic.max_message_bytes,
            log_append_time: topic.log_append_time,
            preallocate: topic.preallocate,
        }
    }
}

impl LogConfig {
    /// Age (ms) at which a segment is closed: what must be compacted by some time must be in a closed one by then.
    pub(crate) fn roll_ms(&self) -> u64 {
        match self.cleanup.compact {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self::from(&TopicConfig::default())
    }
}

const _: () = {
    // Positions inside a segment are u32: a segment is at most `segment.bytes` long, or one batch.
    assert!(i32::MAX as u64 + BATCH_BYTES_MAX as u64 <= u32::MAX as u64);
    assert!(INDEX_INTERVAL_BYTES > 0);
};
