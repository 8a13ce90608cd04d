//! openraft's log on a [`Disk`]: what it writes is framed and checksummed, synced in groups by one thread of its own,
//! and never believed again without being checked.

mod frame;
mod reader;
#[cfg(test)]
mod tests;
mod worker;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend};
use parking_lot::{Condvar, Mutex};
use rafka_log::StorageError;
use rafka_log::disk::Disk;
use rafka_model::limits::{METADATA_CACHE_BYTES, METADATA_SEGMENT_BYTES, METADATA_WRITES_MAX};
use tokio::sync::{mpsc, oneshot};

use self::reader::LogReader;
use self::worker::Job;
use self::writer::{Place, Writer};
use super::error::OpenError;
use super::types::{LogId, RaftEntry, RaftPayload, TypeConfig, Vote};

/// The log as openraft writes it. One writer; readers are cheap clones.
pub(super) struct LogStore {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What outlives the store that openraft owns: the disk thread and its state.
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How large things may grow.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// A segment is closed once it holds this.
    segment_bytes: u64,
    /// Entries kept in memory for readers.
    cache_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { segment_bytes: METADATA_SEGMENT_BYTES, cache_bytes: METADATA_CACHE_BYTES }
    }
}

struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    cache_bytes: usize,
    state: Mutex<State>,
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Position in the log of `slots[0]`.
    first: u64,
    slots: VecDeque<Slot>,
    /// Entries below this are not in memory.
    cached_from: u64,
    cached_bytes: usize,
}

struct Slot {
    id: LogId,
    /// In memory: always until it is on disk, afterwards while there is room.
    entry: Option<RaftEntry>,
    place: Option<Place>,
}

/// Is the disk thread waiting for space, and shall it go on doing so?
#[derive(Default)]
struct Waiting {
    stalled: bool,
    closing: bool,
}

impl LogStore {
    /// Opens or creates the log of consensus group `group` in `dir`. Blocking.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, group: u32) -> Result<(Self, Worker), OpenError> {
        Self::open_with(disk, dir, group, Sizes::default())
    }

    fn open_with(disk: Arc<dyn Disk>, dir: &Path, group: u32, sizes: Sizes) -> Result<(Self, Worker), OpenError> {
        let mut state = State::default();
        let (writer, recovered) = Writer::open(disk.clone(), dir, group, sizes.segment_bytes, |entry, place| {
            state.push(entry);
            if let Some(slot) = state.slots.back_mut() {
                slot.place = Some(place);
            }
            state.evict(sizes.cache_bytes);
        })?;
        (state.vote, state.purged, state.committed) = (recovered.vote, recovered.purged, recovered.committed);
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_owned(),
            cache_bytes: sizes.cache_bytes,
            state: Mutex::new(state),
            waiting: Mutex::default(),
            wake: Condvar::new(),
        });
        let (jobs, inbox) = mpsc::channel(METADATA_WRITES_MAX);
        let thread = worker::spawn(shared.clone(), writer, inbox)
            .map_err(|error| StorageError::new("start the disk thread of", dir, &error))?;
        Ok((Self { shared: shared.clone(), jobs }, Worker { shared, thread: Some(thread) }))
    }

    async fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(|_| io::Error::other("the disk thread of the metadata log has stopped"))
    }

    async fn done(&self, job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        self.send(job(done)).await?;
        result.await.unwrap_or_else(|_| Err(io::Error::other("the disk thread of the metadata log has stopped")))
    }
}

impl Worker {
    /// True while writes wait for space on a full disk; they are done when there is some.
    pub(super) fn is_stalled(&self) -> bool {
        self.shared.waiting.lock().stalled
    }

    /// No more waiting for space: what cannot be written now fails.
    pub(super) fn close(&self) {
        self.shared.waiting.lock().closing = true;
        self.shared.wake.notify_all();
    }

    /// Waits until the disk thread is done; it ends when openraft has dropped its store. Blocking.
    pub(super) fn join(&mut self) {
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the disk thread of the metadata log panicked");
        }
    }
}

impl State {
    fn push(&mut self, entry: RaftEntry) {
        if self.slots.is_empty() {
            self.first = entry.log_id.index;
            self.cached_from = self.first;
        }
        self.cached_bytes += weight(&entry);
        self.slots.push_back(Slot { id: entry.log_id, entry: Some(entry), place: None });
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn slot(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Drops the oldest entries that are on disk from memory until the rest is small enough.
    fn evict(&mut self, cache_bytes: usize) {
        while self.cached_bytes > cache_bytes {
            let index = self.cached_from;
            let Some(slot) = self.slot(index).filter(|slot| slot.place.is_some()) else { return };
            let freed = slot.entry.take().as_ref().map_or(0, weight);
            self.cached_bytes -= freed;
            self.cached_from += 1;
        }
    }

    fn truncate(&mut self, end: u64) {
        while self.end() > end.max(self.first) {
            let slot = self.slots.pop_back();
            self.cached_bytes -= slot.and_then(|slot| slot.entry).as_ref().map_or(0, weight);
        }
        self.cached_from = self.cached_from.min(self.end());
    }

    fn purge(&mut self, upto: LogId) {
        self.purged = self.purged.max(Some(upto));
        while self.first <= upto.index
            && let Some(slot) = self.slots.pop_front()
        {
            self.cached_bytes -= slot.entry.as_ref().map_or(0, weight);
            self.first += 1;
        }
        self.cached_from = self.cached_from.max(self.first);
    }

    fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).or(self.purged)
    }
}

/// Memory that an entry takes, about.
fn weight(entry: &RaftEntry) -> usize {
    128 + match &entry.payload {
        RaftPayload::Normal(proposal) => proposal.0.len(),
        RaftPayload::Blank | RaftPayload::Membership(_) => 0,
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.shared.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.done(|done| Job::Vote(*vote, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.state.lock().committed = committed;
        self.send(Job::Committed(committed)).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<RaftEntry> = entries.into_iter().collect();
        {
            let mut state = self.shared.state.lock();
            for entry in &entries {
                state.push(entry.clone());
            }
        }
        self.send(Job::Append(entries, callback)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.done(|done| Job::Truncate(last, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.done(|done| Job::Purge(upto, done)).await
    }
}
