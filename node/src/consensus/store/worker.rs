//! The disk thread: takes writes in order and syncs many of them at once.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::storage::IOFlushed;
use rafka_log::StorageError;
use rafka_model::limits::METADATA_GROUP_BYTES_MAX;
use tokio::sync::{mpsc, oneshot};

use super::super::types::{LogId, RaftEntry, TypeConfig, Vote};
use super::writer::{Place, WriteError, Writer};
use super::{Shared, weight};

/// How long to wait before a write to a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(500);

type Done = oneshot::Sender<io::Result<()>>;

/// One write, in the order in which openraft asked for it.
pub(super) enum Job {
    Append(Vec<RaftEntry>, IOFlushed<TypeConfig>),
    Committed(Option<LogId>),
    Vote(Vote, Done),
    Truncate(Option<LogId>, Done),
    Purge(LogId, Done),
}

/// Appends that share one sync.
#[derive(Default)]
struct Group {
    entries: VecDeque<RaftEntry>,
    waiting: Vec<IOFlushed<TypeConfig>>,
    committed: Option<Option<LogId>>,
    bytes: usize,
}

struct Thread {
    shared: Arc<Shared>,
    writer: Writer,
    /// After this nothing is written any more.
    failed: Option<StorageError>,
}

pub(super) fn spawn(shared: Arc<Shared>, writer: Writer, inbox: mpsc::Receiver<Job>) -> io::Result<JoinHandle<()>> {
    let thread = Thread { shared, writer, failed: None };
    std::thread::Builder::new().name("metadata-log".to_owned()).spawn(move || thread.run(inbox))
}

impl Thread {
    fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let mut held = None;
        while let Some(job) = held.take().or_else(|| inbox.blocking_recv()) {
            match job {
                Job::Append(..) | Job::Committed(_) => {
                    let mut group = Group::default();
                    held = group.add(job);
                    while held.is_none()
                        && group.bytes < METADATA_GROUP_BYTES_MAX
                        && let Ok(job) = inbox.try_recv()
                    {
                        held = group.add(job);
                    }
                    self.write(group);
                }
                Job::Vote(vote, done) => {
                    let result = self.attempt(|writer| writer.save_vote(&vote));
                    if result.is_ok() {
                        self.shared.state.lock().vote = Some(vote);
                    }
                    let _ = done.send(result);
                }
                Job::Truncate(last, done) => {
                    let _ = done.send(self.truncate(last));
                }
                Job::Purge(upto, done) => {
                    let result = self.attempt(|writer| writer.purge(upto));
                    if result.is_ok() {
                        self.shared.state.lock().purge(upto);
                    }
                    let _ = done.send(result);
                }
            }
        }
        // The last mark spares the next start a wait, nothing more.
        let _ = self.writer.write_committed();
    }

    fn write(&mut self, mut group: Group) {
        if let Some(committed) = group.committed {
            self.writer.set_committed(committed);
        }
        if group.waiting.is_empty() && self.failed.is_none() {
            // A full disk does not matter here: the mark goes out with a later append.
            if let Err(WriteError::Fatal(error)) = self.writer.write_committed() {
                self.fail(error);
            }
            return;
        }
        let mut result = Ok(());
        while !group.entries.is_empty() && result.is_ok() {
            let written = self.attempt(|writer| writer.append(&mut group.entries));
            result = written.map(|places| self.wrote(&places));
        }
        for waiting in group.waiting {
            // io::Error cannot be cloned.
            waiting.io_completed(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }

    fn wrote(&self, places: &[(u64, Place)]) {
        let mut state = self.shared.state.lock();
        for (index, place) in places {
            if let Some(slot) = state.slot(*index) {
                slot.place = Some(*place);
            }
        }
        state.evict(self.shared.cache_bytes);
    }

    fn truncate(&mut self, last: Option<LogId>) -> io::Result<()> {
        let (end, keep) = {
            let mut state = self.shared.state.lock();
            let end = last.map_or(0, |last| last.index + 1);
            if end >= state.end() {
                return Ok(());
            }
            let place = last.and_then(|last| state.slot(last.index)?.place);
            (end, last.map(|last| last.index).zip(place))
        };
        self.attempt(|writer| writer.truncate_after(keep))?;
        self.shared.state.lock().truncate(end);
        Ok(())
    }

    /// Does one write; on a full disk waits for space and tries again, unless the node is stopping.
    fn attempt<T>(&mut self, mut write: impl FnMut(&mut Writer) -> Result<T, WriteError>) -> io::Result<T> {
        if let Some(error) = &self.failed {
            return Err(io::Error::new(error.kind, format!("the metadata log stopped after an error: {error}")));
        }
        loop {
            match write(&mut self.writer) {
                Ok(done) => {
                    let mut waiting = self.shared.waiting.lock();
                    if std::mem::take(&mut waiting.stalled) {
                        tracing::info!("the metadata log goes on: there is space again");
                    }
                    return Ok(done);
                }
                Err(WriteError::Full(error)) => {
                    let mut waiting = self.shared.waiting.lock();
                    if waiting.closing {
                        return Err(io::Error::new(error.kind, error.to_string()));
                    }
                    if !std::mem::replace(&mut waiting.stalled, true) {
                        tracing::warn!(%error, "the metadata log waits: the disk is full");
                    }
                    self.shared.wake.wait_for(&mut waiting, FULL_RETRY);
                }
                Err(WriteError::Fatal(error)) => {
                    let result = io::Error::new(error.kind, error.to_string());
                    self.fail(error);
                    return Err(result);
                }
            }
        }
    }

    fn fail(&mut self, error: StorageError) {
        tracing::error!(%error, "the metadata log stops: its disk failed; check the disk, then restart the node");
        self.failed = Some(error);
    }
}

impl Group {
    /// Takes an append or a commit mark in; gives anything else back.
    fn add(&mut self, job: Job) -> Option<Job> {
        match job {
            Job::Append(entries, done) => {
                self.bytes += entries.iter().map(weight).sum::<usize>();
                self.entries.extend(entries);
                self.waiting.push(done);
            }
            Job::Committed(committed) => self.committed = Some(committed),
            other => return Some(other),
        }
        None
    }
}
