//! The writer of one partition's log.

mod compaction;
mod durability;
mod retention;
mod truncation;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use rafka_model::limits::PREALLOCATE_BYTES_MAX;
use rafka_model::{BatchHeader, LeaderEpoch, Offset, RecordBatch, StorageEngine, Timestamp, TopicConfig};

pub use retention::Retained;

use crate::checkpoint::Checkpoint;
use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile, MemoryDisk};
use crate::error::{AppendError, LogError, StorageError};
use crate::index::{NO_TIMESTAMP, entry};
use crate::producers::Snapshots;
use crate::reader::LogReader;
use crate::recovery::{self, Recovery, Shutdown};
use crate::segment::Segment;
use crate::shared::Shared;

/// Smallest step of preallocation; it grows with the segment (a 32nd of it) up to [`PREALLOCATE_BYTES_MAX`].
const PREALLOCATE_BYTES_MIN: u64 = 64 << 10;

/// A partition's log, open for appends. One per directory; readers and flushes work beside it.
#[derive(Debug)]
pub struct PartitionLog {
    shared: Arc<Shared>,
    config: LogConfig,
    active: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Bytes of whole batches in the active segment.
    size: u64,
    /// Bytes of the active segment's file that are reserved.
    allocated: u64,
    /// Bytes since the last index entry.
    since_index: u64,
    /// Largest timestamp of the active segment.
    max_timestamp: i64,
    /// When the active segment was begun.
    created: Timestamp,
    /// A failed append left bytes behind the end, and they could not be cut off yet.
    must_cut: bool,
    /// Closed segments that are not known to be synced.
    unflushed: Vec<(Arc<Segment>, Arc<dyn DiskFile>)>,
    /// Time of the first append after the last flush began.
    dirty_since: Option<Timestamp>,
    checkpoint: Checkpoint,
    /// The names in the directory have been synced since the log was opened.
    names_synced: bool,
    /// The epoch cache's file is behind the cache.
    epochs_unsaved: bool,
    /// Files of removed segments, and when to delete them.
    doomed: VecDeque<(Timestamp, PathBuf)>,
    /// What is known of producers, in files.
    pub(crate) producers: Snapshots,
    /// Offset before which the log is compacted; `None` until somebody asks.
    first_dirty: Option<Offset>,
    /// Files that compaction replaced since the log was opened.
    replaced: u64,
}

/// A batch that has its place in the log.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The broker's time that it carries, where `message.timestamp.type=LogAppendTime`.
    pub append_time: Option<Timestamp>,
    epoch: LeaderEpoch,
    batch: RecordBatch,
}

impl Appended {
    /// Its header as it is in the log.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        BatchHeader { base_offset: self.base_offset, leader_epoch: self.epoch, ..*self.batch.header() }
    }

    /// The batch as it is in the log. In place when nobody else holds its bytes, else one copy: call it only if
    /// somebody (the cache) wants it.
    #[must_use]
    pub fn into_batch(self) -> RecordBatch {
        self.batch.stamp(self.base_offset, self.epoch)
    }
}

/// State of the active segment, as recovery found it.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) created: Timestamp,
}

impl PartitionLog {
    /// Opens the log in `dir`, creating it if there is none, and repairs what a crash left. `shutdown` says how the
    /// node stopped last time.
    ///
    /// The `memory` engine keeps the log in memory of this process; `disk` and `dir` are not touched.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if data that had been safe is damaged or missing where it would have to be dropped: nothing
    /// is changed then. [`LogError::Storage`] if the disk fails.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: &LogConfig,
        now: Timestamp,
        shutdown: Shutdown,
    ) -> Result<(Self, Recovery), LogError> {
        // The memory engine copies into pages of its own: keeping slices of what came from the network would hold on
        // to whole frames.
        let disk = match config.storage_engine {
            StorageEngine::File => disk,
            StorageEngine::Memory => Arc::new(MemoryDisk::volatile()),
        };
        recovery::open(disk, dir, config, now, shutdown)
    }

    pub(crate) fn assemble(
        shared: Arc<Shared>,
        config: LogConfig,
        active: Active,
        unflushed: Vec<(Arc<Segment>, Arc<dyn DiskFile>)>,
        checkpoint: Checkpoint,
        epochs_unsaved: bool,
    ) -> Self {
        let size = active.segment.bytes();
        Self {
            shared,
            config,
            size,
            allocated: size,
            since_index: 0,
            max_timestamp: active.segment.known_max_timestamp().unwrap_or(NO_TIMESTAMP),
            created: active.created,
            active: active.segment,
            file: active.file,
            must_cut: false,
            unflushed,
            dirty_since: None,
            checkpoint,
            names_synced: false,
            epochs_unsaved,
            doomed: VecDeque::new(),
            producers: Snapshots::default(),
            first_dirty: None,
            replaced: 0,
        }
    }

    /// A handle to read the log, independent of this one.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// Appends a producer's batch as the leader of `epoch`: gives its records the next offsets.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was.
    pub fn append(&mut self, epoch: LeaderEpoch, batch: RecordBatch, now: Timestamp) -> Result<Appended, AppendError> {
        if batch.len() > self.config.max_message_bytes as usize {
            return Err(AppendError::BatchTooLarge { bytes: batch.len() as u64, limit: self.config.max_message_bytes });
        }
        let (batch, append_time) = match self.config.log_append_time {
            true => (with_append_time(&batch, now), Some(now)),
            false => (batch, None),
        };
        let base_offset = self.log_end();
        let last_offset = self.write(base_offset, epoch, &batch, now)?;
        Ok(Appended { base_offset, last_offset, append_time, epoch, batch })
    }

    /// Appends a batch that the leader has stamped: its offsets begin at this log's end. Returns the last offset.
    ///
    /// # Errors
    /// [`AppendError::OutOfOrder`], and the others of [`Self::append`] except the size limit.
    pub fn append_as_is(&mut self, batch: &RecordBatch, now: Timestamp) -> Result<Offset, AppendError> {
        let (expected, found) = (self.log_end(), batch.header().base_offset);
        if expected != found {
            return Err(AppendError::OutOfOrder { expected, found });
        }
        self.write(found, batch.header().leader_epoch, batch, now)
    }

    fn write(
        &mut self,
        base: Offset,
        epoch: LeaderEpoch,
        batch: &RecordBatch,
        now: Timestamp,
    ) -> Result<Offset, AppendError> {
        if self.shared.poisoned.load(Ordering::Acquire) {
            return Err(AppendError::Poisoned { dir: self.shared.dir.clone() });
        }
        let latest = self.reader_epoch();
        if let Some(latest) = latest.filter(|latest| *latest > epoch) {
            return Err(AppendError::Fenced { given: epoch, latest });
        }
        let header = batch.header();
        let delta = i64::from(header.last_offset_delta);
        let next = base.0.checked_add(delta + 1).map(Offset).ok_or(AppendError::OffsetsExhausted)?;
        let length = batch.len() as u64;
        if self.must_roll(length, next, now) {
            self.roll(now)?;
        }
        self.write_bytes(&batch.stamped_prefix(base, epoch), batch.bytes())?;

        let position = self.size;
        if self.since_index > u64::from(self.config.index_interval_bytes)
            && let Some(entry) = entry(self.active.base, base, position, self.max_timestamp)
        {
            self.active.index.push(&*self.shared.disk, entry);
            self.since_index = 0;
        }
        self.since_index += length;
        self.size = position + length;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp.0);
        if latest != Some(epoch) {
            self.epochs_unsaved |= self.shared.epochs.write().assign(epoch, base);
        }
        self.dirty_since.get_or_insert(now);
        self.shared.appended_bytes.fetch_add(length, Ordering::AcqRel);
        self.active.publish(self.size, self.max_timestamp);
        self.shared.set_end(next);
        self.producers.appended();
        Ok(base.plus(delta))
    }

    /// One vectored write of the stamped prefix and the producer's bytes; what a failed one left is cut off.
    fn write_bytes(&mut self, prefix: &[u8; 16], bytes: &Bytes) -> Result<(), StorageError> {
        let position = self.size;
        if self.must_cut {
            self.file.truncate(position).map_err(|error| self.failed("cut", &error))?;
            self.must_cut = false;
        }
        self.reserve(bytes.len() as u64);
        let written = self.file.write_at(&[prefix, &bytes[prefix.len()..]], position);
        written.map_err(|error| {
            self.must_cut = self.file.truncate(position).is_err();
            self.allocated = position;
            self.failed("append to", &error)
        })
    }

    fn failed(&self, operation: &'static str, error: &io::Error) -> StorageError {
        StorageError::new(operation, &self.active.path, error)
    }

    /// Preallocates, so that not every append has to lengthen the file. Not before the second batch: many partitions
    /// never see one.
    fn reserve(&mut self, length: u64) {
        let needed = self.size + length;
        let whole = self.config.preallocate;
        if needed <= self.allocated || (self.size == 0 && !whole) {
            return;
        }
        let segment = u64::from(self.config.segment_bytes);
        let chunk = match whole {
            true => segment,
            false => (self.size / 32).clamp(PREALLOCATE_BYTES_MIN, PREALLOCATE_BYTES_MAX),
        };
        let to = (self.size + chunk).min(segment).max(needed);
        // A hint: where the disk is too full for the chunk, the batch may still fit.
        if self.file.preallocate(self.size.max(self.allocated), to).is_ok() {
            self.allocated = to;
        }
    }

    fn must_roll(&self, length: u64, next: Offset, now: Timestamp) -> bool {
        self.size > 0
            && (self.size + length > u64::from(self.config.segment_bytes)
                || self.is_old(now)
                || self.active.index.is_full()
                || next.0 - self.active.base.0 > i64::from(i32::MAX))
    }

    fn is_old(&self, now: Timestamp) -> bool {
        now.0.saturating_sub(self.created.0) >= i64::try_from(self.config.roll_ms()).unwrap_or(i64::MAX)
    }

    /// Closes the active segment and begins the next.
    fn roll(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        let base = shared.end();
        let path = shared.dir.join(Segment::file_name(base));
        let file = shared.disk.create(&path).map_err(|error| StorageError::new("create", &path, &error))?;
        if self.allocated > self.size || self.must_cut {
            self.file.truncate(self.size).map_err(|error| self.failed("cut", &error))?;
        }
        let next = Arc::new(Segment::new_active(&shared.dir, base, file.clone(), 0, NO_TIMESTAMP, 0));
        if let Some(end) = entry(self.active.base, base, self.size, self.max_timestamp) {
            self.active.index.seal(&*shared.disk, end);
        }
        self.active.set_sealed(true);
        shared.edit_segments(|segments| segments.push(next.clone()));
        shared.dir_changes.fetch_add(1, Ordering::AcqRel);
        let closed = std::mem::replace(&mut self.active, next);
        shared.keep_open(&closed);
        self.unflushed.push((closed, std::mem::replace(&mut self.file, file)));
        (self.size, self.allocated, self.since_index) = (0, 0, 0);
        (self.max_timestamp, self.created, self.must_cut) = (NO_TIMESTAMP, now, false);
        if let Err(error) = self.checkpoint() {
            tracing::warn!(%error, "no checkpoint at the new segment; a restart scans more");
        }
        Ok(())
    }

    /// Notes that the leader of `epoch` begins at the log's end, durably, before its first batch (KIP-101).
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) -> Result<(), LogError> {
        self.healthy()?;
        self.epochs_unsaved |= self.shared.epochs.write().assign(epoch, self.shared.end());
        self.save_epochs()
    }

    /// Removes the log from the disk for good.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn delete(self) -> Result<(), LogError> {
        self.shared.next_generation();
        for segment in self.shared.segments() {
            segment.set_removed();
        }
        let dir = &self.shared.dir;
        let removed = self.shared.disk.remove_dir_all(dir);
        Ok(removed.map_err(|error| StorageError::new("remove", dir, &error))?)
    }

    /// Takes over a changed configuration; `storage.engine` stays what it was.
    pub fn set_config(&mut self, topic: &TopicConfig) {
        self.config = LogConfig { storage_engine: self.config.storage_engine, ..LogConfig::from(topic) };
        self.shared.index_interval.store(self.config.index_interval_bytes, Ordering::Relaxed);
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Base offset of the segment that is appended to.
    pub(crate) fn active_base(&self) -> Offset {
        self.active.base
    }

    pub(crate) fn storage_engine(&self) -> StorageEngine {
        self.config.storage_engine
    }

    fn healthy(&self) -> Result<(), LogError> {
        match self.is_poisoned() {
            true => Err(LogError::Poisoned { dir: self.shared.dir.clone() }),
            false => Ok(()),
        }
    }

    fn poison(&self, error: &StorageError) {
        self.shared.poisoned.store(true, Ordering::Release);
        tracing::error!(%error, "log takes no more appends until it is opened again");
    }

    /// Did a sync fail? Then the log takes no more appends until it is opened again.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.shared.poisoned.load(Ordering::Acquire)
    }

    /// Offset of the first record.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.shared.start()
    }

    /// Offset behind the last record (LEO).
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.shared.end()
    }

    /// Everything before this offset survives a power loss.
    #[must_use]
    pub fn flushed(&self) -> Offset {
        self.shared.flush.lock().flushed.offset
    }

    /// Bytes appended and not yet synced.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        let flushed = self.shared.flush.lock().flushed_bytes;
        self.shared.appended_bytes.load(Ordering::Acquire).saturating_sub(flushed)
    }

    /// Time of the oldest append that is not yet synced. `None` too for what a restart found unsynced.
    #[must_use]
    pub fn dirty_since(&self) -> Option<Timestamp> {
        self.shared.flush.lock().running_since.or(self.dirty_since)
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    /// Number of segments.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.segments().len()
    }

    /// Epoch of the latest leader that wrote here.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.reader_epoch()
    }

    fn reader_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.epochs.read().latest()
    }
}

/// The batch with the broker's time in it: marked so in the attributes, its checksum made anew.
fn with_append_time(batch: &RecordBatch, now: Timestamp) -> RecordBatch {
    let mut bytes = BytesMut::from(&batch.bytes()[..]);
    bytes[22] |= 0x08;
    bytes[35..43].copy_from_slice(&now.0.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::parse(bytes.freeze()).expect("a verified batch with a new time and checksum is one")
}
