//! What an operator can set about the data path.

use rafka_model::limits::{FLUSH_DIRTY_BYTES_MAX, FLUSH_DIRTY_MS_MAX, FLUSHES_PER_SECOND_MAX, PRODUCER_EXPIRATION_MS};

/// Settings of the data path.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of committed batches kept in memory for fetches; 0 turns the cache off.
    pub cache_bytes: usize,
    /// Time (ms) between two looks for segments that retention removes.
    pub retention_check_ms: u64,
    /// Time (ms) between two writes of recovery points; recovery scans at most what was written since.
    pub checkpoint_ms: u64,
    /// Time (ms) after which an appended record is flushed, whatever its topic says.
    pub flush_ms: u64,
    /// Bytes of one dirty partition after which it is flushed early.
    pub flush_bytes: u64,
    /// Flushes a second of topics with `durability=replicated`.
    pub flushes_per_second: u32,
    /// Threads that flush topics with `durability=fsync`.
    pub fsync_threads: usize,
    /// Threads that open partitions at start.
    pub open_threads: usize,
    /// Silence (ms) after which a producer id is forgotten (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: u64,
    /// Time (ms) between two looks for logs to compact.
    pub cleaner_check_ms: u64,
    /// Bytes of memory that compaction uses for keys; a round that meets more keys goes on in the next.
    pub cleaner_buffer_bytes: usize,
    /// Bytes a second that compaction reads and writes; 0 is no limit.
    pub cleaner_bytes_per_second: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            retention_check_ms: 300_000,
            checkpoint_ms: 5_000,
            flush_ms: FLUSH_DIRTY_MS_MAX,
            flush_bytes: FLUSH_DIRTY_BYTES_MAX,
            flushes_per_second: FLUSHES_PER_SECOND_MAX,
            fsync_threads: 2,
            open_threads: 4,
            producer_id_expiration_ms: PRODUCER_EXPIRATION_MS,
            cleaner_check_ms: 15_000,
            cleaner_buffer_bytes: 16 * 1024 * 1024,
            cleaner_bytes_per_second: 64 * 1024 * 1024,
        }
    }
}
