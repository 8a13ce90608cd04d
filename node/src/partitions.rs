//! The partitions that this node hosts, and the data path to them: produce, fetch, offsets.
//!
//! ```text
//! produce ─▶ check ─▶ replica (one lock a partition: append, then the leader's machine) ─▶ waits until it is safe
//! fetch   ─▶ cache, else log off the async threads ─▶ too little: parked until the high watermark moves
//! ```
//! Appends happen on the caller's thread; only syncs, cold reads and large requests change threads. Beside the callers
//! work: the *flusher* (syncs), the *housekeeper* (recovery points, retention, deletions), the *cleaner* (compaction), and whoever calls
//! [`Partitions::reconcile`] with new metadata.

mod batch_cache;
mod check;
mod clock;
mod compaction;
mod config;
mod fetch;
mod flusher;
mod folders;
mod keeper;
mod known;
mod led;
mod meta;
mod offsets;
mod parked;
mod produce;
mod reconcile;
mod replica;
mod rewrite;
mod shutdown;
mod stats;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rafka_broker::metadata::Image;
use rafka_broker::request::{
    ActiveProducer, DeleteRecords, EpochEnd, EpochEnds, Fetch, Fetched, FoundOffset, ListOffsets, PartitionReply,
    Produce, Produced,
};
use rafka_broker::{ErrorCode, Failure};
use rafka_log::disk::Disk;
use rafka_log::{LogError, Shutdown};
use rafka_model::limits::COLD_READS_MAX;
use rafka_model::{MetadataIndex, Monotonic, NodeId, Offset, TopicPartition};
use tokio::sync::{Semaphore, watch};

pub(crate) use batch_cache::BatchCache;
pub use clock::{Clock, SystemClock};
pub use config::Config;
pub use led::Extent;
pub use produce::Unsettled;
pub use reconcile::Reconciled;
pub use shutdown::ShutdownError;
pub use stats::{PartitionStats, Stats, Totals};

use compaction::Cleaner;
use flusher::Flusher;
use keeper::Keeper;
use known::Known;
use produce::Author;
use reconcile::{Failed, Progress};
use replica::Replica;
use shutdown::Threads;
use stats::Counters;

/// Free space at which appends are believed to be possible again.
const SPACE_BYTES_MIN: u64 = 1024 * 1024;

/// What the data path is built from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Settings.
    pub config: Config,
    /// The data directory; logs lie in `logs/` below it.
    pub dir: PathBuf,
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// How the node stopped last time.
    pub shutdown: Shutdown,
}

/// The data path of a node. Dropping it ends its threads and leaves the logs as a crash would.
#[derive(Debug)]
pub struct Partitions {
    inner: Arc<Inner>,
    threads: Threads,
}

/// What callers and threads share.
#[derive(Debug)]
struct Inner {
    config: Config,
    logs: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    /// Replaced whole when partitions come or go: looking one up takes no lock.
    replicas: ArcSwap<HashMap<TopicPartition, Arc<Replica>>>,
    failed: Mutex<BTreeMap<TopicPartition, Failed>>,
    known: ArcSwap<Known>,
    progress: Mutex<Progress>,
    cache: BatchCache,
    /// Bytes of batches that are kept for the cache but are not committed yet.
    uncommitted_bytes: AtomicUsize,
    flusher: Flusher,
    keeper: Keeper,
    cleaner: Cleaner,
    counters: Counters,
    /// Reads that may block, at once.
    cold: Semaphore,
    waiters: AtomicU64,
    /// When the heartbeat was sent that the controller answered last, by `clock`.
    controller_heard: AtomicU64,
    /// Index of the metadata reconciled last.
    reconciled: watch::Sender<MetadataIndex>,
    /// Nobody is parked any more.
    draining: AtomicBool,
    stopping: AtomicBool,
}

impl Partitions {
    /// Starts the data path, without partitions: they come with [`Self::reconcile`].
    ///
    /// # Errors
    /// If the folder of logs cannot be made or a thread cannot be started.
    pub fn open(setup: Setup) -> std::io::Result<Self> {
        let Setup { config, dir, disk, clock, shutdown } = setup;
        let logs = dir.join("logs");
        disk.create_dir_all(&logs)?;
        let inner = Arc::new(Inner {
            cache: BatchCache::new(config.cache_bytes),
            config,
            logs,
            disk,
            clock,
            shutdown,
            replicas: ArcSwap::default(),
            failed: Mutex::default(),
            known: ArcSwap::default(),
            progress: Mutex::default(),
            uncommitted_bytes: AtomicUsize::new(0),
            flusher: Flusher::default(),
            keeper: Keeper::default(),
            cleaner: Cleaner::default(),
            counters: Counters::default(),
            cold: Semaphore::new(COLD_READS_MAX),
            waiters: AtomicU64::new(0),
            controller_heard: AtomicU64::new(0),
            reconciled: watch::Sender::default(),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let threads = Threads::start(&inner)?;
        Ok(Self { inner, threads })
    }

    /// Makes what is hosted agree with `image`, in which this node is `me`: opens and creates logs, follows
    /// leadership, removes what is placed here no more. Partitions serve as soon as each is ready. An older image than
    /// the last one changes nothing.
    ///
    /// Cancelling it does not stop the work.
    pub async fn reconcile(&self, image: Arc<Image>, me: NodeId) -> Reconciled {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || inner.reconcile(&image, me)).await;
        done.unwrap_or_else(|error| {
            tracing::error!(%error, "reconciliation failed");
            Reconciled::default()
        })
    }

    /// The time by the clock of the data path.
    #[must_use]
    pub fn now(&self) -> Monotonic {
        self.inner.clock.monotonic()
    }

    /// The controller has answered a heartbeat that was sent at this time, by [`Self::now`].
    pub fn heard_controller(&self, sent: Monotonic) {
        self.inner.controller_heard.fetch_max(sent.0, Ordering::Relaxed);
    }

    /// Appends batches to partitions that this node leads; answers when they are as safe as `acks` asks. With
    /// [`Acks::None`](rafka_broker::request::Acks::None) the answer is for the log only.
    ///
    /// Cancel safe: what was appended stays.
    pub async fn produce(&self, request: Produce) -> Vec<PartitionReply<Produced>> {
        self.append(request).await.settle().await
    }

    /// The first half of [`Self::produce`]: ends when everything is in the log or refused.
    pub async fn append(&self, request: Produce) -> Unsettled {
        self.inner.append(request, Author::Client).await
    }

    /// As [`Self::append`], for the node itself: internal topics are written in no other way.
    pub async fn append_internal(&self, request: Produce) -> Unsettled {
        self.inner.append(request, Author::Node).await
    }

    /// Reads committed batches, waiting for `min_bytes` of them at most `max_wait_ms`. Cancel safe.
    pub async fn fetch(&self, request: Fetch) -> Vec<PartitionReply<Fetched>> {
        self.inner.fetch(request).await
    }

    /// Looks offsets up. Cancel safe.
    pub async fn list_offsets(&self, request: ListOffsets) -> Vec<PartitionReply<FoundOffset>> {
        self.inner.list_offsets(request).await
    }

    /// Says where leader epochs end; `None` for one that is newer than the log knows.
    #[must_use]
    pub fn epoch_ends(&self, request: EpochEnds) -> Vec<PartitionReply<Option<EpochEnd>>> {
        self.inner.epoch_ends(request)
    }

    /// Moves log starts; answers with the new ones once they are durable. Cancelling it does not stop the work.
    pub async fn delete_records(&self, request: DeleteRecords) -> Vec<PartitionReply<Offset>> {
        self.inner.delete_records(request).await
    }

    /// The producers that a partition led here knows, by id.
    ///
    /// # Errors
    /// As for a produce to it.
    pub fn producers(&self, at: TopicPartition) -> Result<Vec<rafka_broker::producer::Known>, Failure> {
        self.inner.find(at)?.producers(&self.inner)
    }

    /// The same, as clients are told.
    ///
    /// # Errors
    /// As for a produce to it.
    pub fn active_producers(&self, at: TopicPartition) -> Result<Vec<ActiveProducer>, Failure> {
        let active = |producer: rafka_broker::producer::Known| ActiveProducer {
            id: producer.id,
            epoch: producer.epoch,
            last_sequence: producer.last.map_or(-1, |batch| batch.last_sequence()),
            last_timestamp: producer.last.map_or(-1, |batch| batch.max_timestamp.0),
            transaction_start: producer.transaction_start,
        };
        Ok(self.producers(at)?.into_iter().map(active).collect())
    }

    /// Sizes, offsets and counters, partition by partition.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// The counters of the node only: cheap.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.inner.totals()
    }

    /// Does this node lead the partition now?
    #[must_use]
    pub fn leads(&self, at: TopicPartition) -> bool {
        self.inner.replicas.load().get(&at).is_some_and(|replica| replica.serves())
    }

    /// Returns once metadata up to `index` was reconciled. Cancel safe.
    pub async fn reconciled(&self, index: MetadataIndex) {
        // The sender lives as long as we do.
        let _ = self.inner.reconciled.subscribe().wait_for(|reached| *reached >= index).await;
    }

    /// From here on fetches answer with what is there: the first stage of a shutdown.
    pub fn release_waiters(&self) {
        self.inner.draining.store(true, Ordering::Release);
        self.inner.replicas.load().values().for_each(|replica| replica.parked().lock().wake_all());
    }

    /// Stops serving, flushes and closes every log. Only after `Ok` may the data directory be marked as cleanly shut
    /// down. Cancelling it does not stop the work.
    ///
    /// # Errors
    /// [`ShutdownError`]; the next start then recovers as after a crash.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.release_waiters();
        shutdown::run(&self.inner, &self.threads).await
    }
}

impl Inner {
    /// When the heartbeat was sent that the controller answered last.
    fn controller_heard(&self) -> Monotonic {
        Monotonic(self.controller_heard.load(Ordering::Relaxed))
    }

    /// The replica that this node hosts of the partition.
    fn find(&self, at: TopicPartition) -> Result<Arc<Replica>, Failure> {
        if let Some(replica) = self.replicas.load().get(&at) {
            return Ok(replica.clone());
        }
        let known = self.known.load();
        if self.is_stopping() {
            return Err(Failure::new(ErrorCode::NotReady, "the node is stopping"));
        }
        match self.failed.lock().get(&at) {
            Some(failed) => {
                let message = format!("partition {} cannot be opened: {}", known.name(at), failed.reason);
                Err(Failure::new(failed.code, message))
            }
            None => Err(known.not_hosted(at)),
        }
    }

    /// Makes room for a batch that shall be cached once it is committed; false if too many wait already.
    fn reserve_uncommitted(&self, bytes: usize) -> bool {
        let limit = self.cache.bytes_max() / 4;
        let reserve = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        self.uncommitted_bytes.fetch_update(Ordering::AcqRel, Ordering::Relaxed, reserve).is_ok()
    }

    fn release_uncommitted(&self, bytes: usize) {
        self.uncommitted_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn next_waiter(&self) -> u64 {
        self.waiters.fetch_add(1, Ordering::Relaxed)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn disk_is_full(&self, error: &dyn std::error::Error) {
        if !self.counters.set_full(true) {
            tracing::error!(%error, "disk is full: appends stop until space returns");
        }
    }

    /// Is it that the disk is full? Then the flag goes up.
    fn note_full(&self, error: &LogError) -> bool {
        let full = matches!(error, LogError::Storage(storage) if storage.is_full());
        if full {
            self.disk_is_full(error);
        }
        full
    }

    /// Takes the full disk's flag down once there is space again, as far as the disk can tell.
    fn look_for_space(&self) {
        if !self.counters.is_full() {
            return;
        }
        let free = self.disk.free_bytes();
        if free.is_none_or(|free| free >= SPACE_BYTES_MIN) {
            self.counters.set_full(false);
            tracing::info!(free_bytes = free, "disk has space again");
        }
    }
}
