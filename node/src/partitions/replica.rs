//! One replica of a partition: its log, the machine that leads it, and who waits for it.
//!
//! Everything that changes it happens under one lock, which is never held across an await or a sync. Readers need no
//! lock: they see the high watermark, the standing and the log through atomics.

mod append;
mod care;
mod producers;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rafka_broker::group::OFFSETS_TOPIC;
use rafka_broker::metadata::PartitionState;
use rafka_broker::producer;
use rafka_broker::replication::{self, Election, Input, Leader, Output, Position, Ticket};
use rafka_broker::request::EpochEnd;
use rafka_broker::{ErrorCode, Failure};
use rafka_log::disk::Disk;
use rafka_log::{LogConfig, LogError, LogReader, PartitionLog, Recovery, Shutdown};
use rafka_model::limits::{REPLICA_LAG_MS_MAX, SESSION_MS};
use rafka_model::{
    Durability, LeaderEpoch, NodeId, Offset, StorageEngine, Timestamp, TopicConfig, TopicName, TopicPartition,
};
use tokio::sync::oneshot;

use super::Inner;
use super::known::Known;
use super::parked::Parked;

pub(super) use append::{Accepted, Terms, failure_of};

/// A partition that this node hosts.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) at: TopicPartition,
    pub(super) topic: TopicName,
    /// Written by nodes only.
    pub(super) is_internal: bool,
    dir: PathBuf,
    reader: LogReader,
    standing: ArcSwap<Standing>,
    high_watermark: AtomicI64,
    /// False after an election until the high watermark is known to be what consumers may have seen (KIP-207).
    offsets_known: AtomicBool,
    writer: Mutex<Writer>,
    parked: Mutex<Parked>,
    /// Bytes appended since somebody read here.
    unread_bytes: AtomicU64,
    /// Is in the queue of those that are flushed at once.
    pub(super) flush_asked: AtomicBool,
    /// Is in the queue of those that are flushed later.
    pub(super) flush_due: AtomicBool,
}

/// What the replica is at the moment, replaced whole.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) role: Role,
    pub(super) config: Arc<TopicConfig>,
}

/// What it may do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// Serves reads and writes in this epoch.
    Leader(LeaderEpoch),
    /// Somebody else leads, or nobody.
    Follower,
    /// Its disk failed; the text says how. Until restart.
    Offline(Arc<str>),
    /// It was removed from this node.
    Gone,
    /// The node is stopping.
    Stopped,
}

/// What changes under the lock.
#[derive(Debug)]
struct Writer {
    /// `None` once it is closed.
    log: Option<PartitionLog>,
    leader: Option<Leader>,
    /// What the log says of its producers.
    producers: producer::States,
    /// Produces that wait to be safe.
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<(), ErrorCode>>>,
    next_ticket: u64,
    /// Appended, not yet below the high watermark; in order.
    uncommitted: VecDeque<Uncommitted>,
    /// Bytes appended since the last flush began.
    unflushed_bytes: u64,
    /// Log end when the last flush began.
    flush_began_at: Offset,
    /// Outputs of the machine; kept for its allocation.
    out: Vec<Output>,
}

#[derive(Debug)]
struct Uncommitted {
    base: Offset,
    next: Offset,
    bytes: u64,
    /// For the cache, unless it is full of such already.
    batch: Option<Bytes>,
}

impl Standing {
    /// The epoch in which this replica serves, if it does and the sender does not believe in another.
    pub(super) fn serve(
        &self,
        at: TopicPartition,
        believed: Option<LeaderEpoch>,
        known: &Known,
    ) -> Result<LeaderEpoch, Failure> {
        match &self.role {
            Role::Leader(epoch) => known.check_epoch(at, believed, *epoch).map(|()| *epoch),
            Role::Follower => Err(known.not_leader(at)),
            Role::Offline(reason) => {
                let message = format!("partition {} is offline on node {}: {reason}", known.name(at), known.me);
                Err(Failure::new(ErrorCode::StorageError, message))
            }
            Role::Gone => Err(known.not_hosted(at)),
            Role::Stopped => Err(Failure::new(ErrorCode::NotReady, "the node is stopping")),
        }
    }
}

impl Replica {
    /// Opens the log in `dir`, or creates it. The replica serves nothing before [`Self::apply`].
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        (at, topic): (TopicPartition, TopicName),
        config: Arc<TopicConfig>,
        shutdown: Shutdown,
        now: Timestamp,
    ) -> Result<(Self, Recovery), LogError> {
        let (mut log, recovery) = PartitionLog::open(disk, dir, &LogConfig::from(&*config), now, shutdown)?;
        let producers = producers::restore(&mut log, now)?;
        let start = log.log_start();
        let replica = Self {
            at,
            is_internal: topic.as_str() == OFFSETS_TOPIC,
            topic,
            dir: dir.to_owned(),
            reader: log.reader(),
            standing: ArcSwap::from_pointee(Standing { role: Role::Follower, config }),
            high_watermark: AtomicI64::new(start.0),
            offsets_known: AtomicBool::new(false),
            writer: Mutex::new(Writer {
                flush_began_at: log.flushed(),
                unflushed_bytes: log.dirty_bytes(),
                log: Some(log),
                leader: None,
                producers,
                waiting: BTreeMap::new(),
                next_ticket: 0,
                uncommitted: VecDeque::new(),
                out: Vec::new(),
            }),
            parked: Mutex::default(),
            unread_bytes: AtomicU64::new(0),
            flush_asked: AtomicBool::new(false),
            flush_due: AtomicBool::new(false),
        };
        Ok((replica, recovery))
    }

    /// Takes over what the metadata says: configuration, leadership, epoch.
    pub(super) fn apply(self: &Arc<Self>, inner: &Inner, me: NodeId, state: &PartitionState, config: Arc<TopicConfig>) {
        let mut writer = self.writer.lock();
        let before = self.standing.load_full();
        if !matches!(before.role, Role::Leader(_) | Role::Follower) {
            return;
        }
        if before.config != config {
            if let Some(log) = &mut writer.log {
                log.set_config(&config);
            }
            self.step(inner, &mut writer, Input::Configured(safety(&config)));
        }
        if before.role != Role::Follower && before.role != role_by(me, state) {
            // Whoever is refused by what follows finds out here who leads now.
            self.standing.store(Arc::new(Standing { role: Role::Follower, config: config.clone() }));
        }
        self.step(inner, &mut writer, Input::Changed(state.clone()));
        if state.leader == Some(me) && writer.leader.is_none() {
            self.elect(inner, &mut writer, state, &config);
        }
        let role = writer.leader.as_ref().map_or(Role::Follower, |leader| Role::Leader(leader.epoch()));
        let changed = role != before.role;
        self.standing.store(Arc::new(Standing { role, config }));
        self.publish(&writer);
        drop(writer);
        if changed {
            self.parked.lock().wake_all();
        }
        self.flush_what_restart_found(inner);
    }

    /// Nodes came into service or left it.
    pub(super) fn meet(&self, inner: &Inner, members: &replication::Members) {
        let mut writer = self.writer.lock();
        if writer.leader.as_ref().is_some_and(|leader| !leader.is_sole()) {
            self.step(inner, &mut writer, Input::Members(members.clone()));
        }
    }

    fn elect(&self, inner: &Inner, writer: &mut Writer, state: &PartitionState, config: &TopicConfig) {
        let Some(log) = &writer.log else { return };
        let known = inner.known.load();
        let position = Position { end: log.log_end(), flushed: log.flushed() };
        let mut high_watermark = self.high_watermark();
        if state.replicas.len() == 1 {
            // Nobody else can know better: whatever its log kept may have been committed.
            let kept = match config.durability {
                Durability::Replicated => position.end,
                Durability::Fsync => position.flushed,
            };
            high_watermark = high_watermark.max(kept);
        }
        writer.leader = Some(Leader::new(Election {
            me: known.identity(),
            at: self.at,
            state,
            config: safety(config),
            members: known.members.clone(),
            log: position,
            high_watermark,
            now: inner.clock.monotonic(),
        }));
    }

    /// Feeds the machine and does what it says. `mine` is a ticket whose answer the caller wants to have itself.
    fn step_for(
        &self,
        inner: &Inner,
        writer: &mut Writer,
        input: Input,
        mine: Option<Ticket>,
    ) -> Option<Result<(), ErrorCode>> {
        let leader = writer.leader.as_mut()?;
        let mut out = std::mem::take(&mut writer.out);
        leader.step(input, &mut out);
        let mut answer = None;
        for output in out.drain(..) {
            let (ticket, result) = match output {
                Output::AdvanceHighWatermark(mark) => {
                    self.commit(inner, writer, mark);
                    continue;
                }
                Output::Resign => {
                    writer.leader = None;
                    continue;
                }
                Output::Propose(proposal) => {
                    tracing::error!(partition = %self.at, isr = ?proposal.isr, "no way to tell the controller of an in-sync set");
                    continue;
                }
                Output::Acknowledge(ticket) => (ticket, Ok(())),
                Output::Refuse(ticket, code) => (ticket, Err(code)),
            };
            if mine == Some(ticket) {
                answer = Some(result);
            } else if let Some(waiting) = writer.waiting.remove(&ticket) {
                // Whoever does not listen any more does not want to know.
                let _ = waiting.send(result);
            }
        }
        writer.out = out;
        answer
    }

    fn step(&self, inner: &Inner, writer: &mut Writer, input: Input) {
        self.step_for(inner, writer, input, None);
    }

    /// Records below `mark` are committed: offers them to the cache, shows them to readers, wakes fetches.
    fn commit(&self, inner: &Inner, writer: &mut Writer, mark: Offset) {
        let mut bytes = 0;
        while let Some(batch) = writer.uncommitted.pop_front_if(|batch| batch.next <= mark) {
            bytes += batch.bytes;
            if let Some(records) = batch.batch {
                inner.release_uncommitted(records.len());
                inner.cache.insert(self.at, batch.base, batch.next, records);
            }
        }
        self.publish(writer);
        self.parked.lock().advance(mark, bytes);
    }

    fn publish(&self, writer: &Writer) {
        if let Some(leader) = &writer.leader {
            self.high_watermark.store(leader.high_watermark().0, Ordering::Release);
            self.offsets_known.store(leader.offsets_are_known(), Ordering::Release);
        }
    }

    /// Ends its service for good: refuses who waits for it with `code`, wakes who is parked.
    fn end(&self, inner: &Inner, writer: &mut Writer, role: Role, code: ErrorCode) {
        let config = self.standing.load().config.clone();
        self.standing.store(Arc::new(Standing { role, config }));
        writer.leader = None;
        for (_, waiting) in std::mem::take(&mut writer.waiting) {
            let _ = waiting.send(Err(code));
        }
        let batches = std::mem::take(&mut writer.uncommitted);
        batches.into_iter().filter_map(|batch| batch.batch).for_each(|batch| inner.release_uncommitted(batch.len()));
        self.parked.lock().wake_all();
    }

    /// The partition was taken from this node: closes the log without a flush.
    pub(super) fn retire(&self, inner: &Inner) {
        let mut writer = self.writer.lock();
        self.end(inner, &mut writer, Role::Gone, ErrorCode::UnknownTopicOrPartition);
        writer.log = None;
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    pub(super) fn standing(&self) -> arc_swap::Guard<Arc<Standing>> {
        self.standing.load()
    }

    /// Is it a leader now?
    pub(super) fn serves(&self) -> bool {
        matches!(self.standing.load().role, Role::Leader(_))
    }

    pub(super) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    pub(super) fn offsets_are_known(&self) -> bool {
        self.offsets_known.load(Ordering::Acquire)
    }

    pub(super) fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Somebody reads here: what is appended is worth keeping.
    pub(super) fn note_reader(&self) {
        self.unread_bytes.store(0, Ordering::Relaxed);
    }

    /// Where the largest epoch up to `epoch` ends; `None` if that is one that has not begun. `current` is the one in
    /// which it leads: it may have written nothing yet.
    pub(super) fn epoch_end(&self, current: LeaderEpoch, epoch: LeaderEpoch) -> Option<EpochEnd> {
        if epoch > current {
            return None;
        }
        if let Some((epoch, end)) = self.reader.end_offset_for_epoch(epoch) {
            return Some(EpochEnd { epoch, end });
        }
        let epoch = if epoch == current { current } else { self.reader.latest_epoch()? };
        Some(EpochEnd { epoch, end: self.reader.log_end() })
    }

    pub(super) fn parked(&self) -> &Mutex<Parked> {
        &self.parked
    }

    /// Its folder; `None` if it lives in memory.
    pub(super) fn folder(&self) -> Option<&Path> {
        (self.standing.load().config.storage_engine == StorageEngine::File).then_some(&*self.dir)
    }
}

/// The role of `me` by the metadata.
fn role_by(me: NodeId, state: &PartitionState) -> Role {
    if state.leader == Some(me) { Role::Leader(state.leader_epoch) } else { Role::Follower }
}

fn safety(config: &TopicConfig) -> replication::Config {
    replication::Config {
        durability: config.durability,
        min_insync: config.min_insync_replicas,
        lag_max: Duration::from_millis(REPLICA_LAG_MS_MAX),
        session: Duration::from_millis(SESSION_MS),
    }
}
