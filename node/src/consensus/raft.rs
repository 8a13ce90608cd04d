//! [`MetadataLog`] on openraft.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy, SnapshotPolicy};
use parking_lot::Mutex;
use rafka_broker::metadata::{Entry, encode_entry};
use rafka_log::disk::Disk;
use rafka_model::limits::{
    RAFT_ELECTION_MS_MAX, RAFT_ELECTION_MS_MIN, RAFT_HEARTBEAT_MS, SNAPSHOT_ENTRIES, SNAPSHOT_ENTRIES_KEPT,
};
use rafka_model::{MetadataIndex, NodeId};
use tokio::sync::watch;

use super::error::{OpenError, ProposeError};
use super::machine::Machine;
use super::network::{self, Network, Rpc, SnapshotRequest, Transport};
use super::snapshots::SnapshotFile;
use super::store::{LogStore, Worker};
use super::types::{Member, Outcome, Proposal, Snapshot, TypeConfig};
use super::{Leadership, MetadataLog};
use crate::image::ImageStore;

/// How a voter takes part in consensus.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which consensus group; the metadata log is group 0, and the only one so far.
    pub group: u32,
    /// This voter. The founder is node 1, because the first entry registers it.
    pub node: NodeId,
    /// The leader says that it lives this often, ms.
    pub heartbeat_ms: u64,
    /// A voter stands for election after a silence of a random length between these, ms.
    pub election_ms: (u64, u64),
    /// Entries after which a snapshot is written.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot.
    pub snapshot_entries_kept: u64,
}

impl Config {
    /// The settings of a voter in a local network.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            group: 0,
            node,
            heartbeat_ms: RAFT_HEARTBEAT_MS,
            election_ms: (RAFT_ELECTION_MS_MIN, RAFT_ELECTION_MS_MAX),
            snapshot_entries: SNAPSHOT_ENTRIES,
            snapshot_entries_kept: SNAPSHOT_ENTRIES_KEPT,
        }
    }

    fn for_openraft(&self) -> Result<openraft::Config, OpenError> {
        let config = openraft::Config {
            cluster_name: format!("metadata-{}", self.group),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_ms.0,
            election_timeout_max: self.election_ms.1,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.snapshot_entries_kept,
            // Whole segments are freed, so purging entry by entry would only write marks.
            purge_batch_size: 256,
            enable_pre_vote: Some(true),
            // The commit mark is not synced, so a restarted leader must win an election to know what is committed.
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| OpenError::Consensus(error.to_string()))
    }
}

/// The metadata log of a voter. Clones are handles of the same log.
#[derive(Clone)]
pub struct RaftLog {
    raft: Raft<TypeConfig, Machine>,
    node: NodeId,
    leadership: watch::Receiver<Leadership>,
    /// The term in which the barrier was passed.
    ready_term: Arc<AtomicU64>,
    worker: Arc<Mutex<Worker>>,
}

impl RaftLog {
    /// Is there a metadata log in the data directory `data`, so that this node is a voter?
    ///
    /// # Errors
    /// Of the disk.
    pub fn exists(disk: &dyn Disk, data: &Path, group: u32) -> io::Result<bool> {
        let dir = directory(data, group);
        Ok(disk.exists(&dir)? && !disk.list(&dir)?.is_empty())
    }

    /// Opens or creates the log in the data directory `data` and restores `images`, which shall be empty, from snapshot
    /// and log as far as that is known to be committed; [`Self::recovered`] waits for the rest.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open<T: Transport>(
        config: &Config,
        disk: Arc<dyn Disk>,
        data: &Path,
        images: Arc<ImageStore>,
        transport: T,
    ) -> Result<Self, OpenError> {
        let openraft_config = Arc::new(config.for_openraft()?);
        let (dir, group) = (directory(data, config.group), config.group);
        let opened = tokio::task::spawn_blocking(move || {
            let (store, worker) = LogStore::open(disk.clone(), &dir, group)?;
            let file = SnapshotFile::new(disk, &dir);
            // openraft would report a damaged snapshot in its own words.
            file.load()?;
            Ok::<_, OpenError>((store, worker, file))
        });
        let (store, worker, file) = opened.await.map_err(|error| OpenError::Consensus(error.to_string()))??;
        let machine = Machine::new(images, file);
        let raft = Raft::new(config.node.0, openraft_config, Network(transport), store, machine).await;
        let raft = raft.map_err(|error| OpenError::Consensus(error.to_string()))?;
        let leadership = follow_leadership(&raft, config.node);
        let log = Self {
            raft,
            node: config.node,
            leadership,
            ready_term: Arc::default(),
            worker: Arc::new(Mutex::new(worker)),
        };
        if log.raft.voter_ids().eq([config.node.0]) {
            // Who is alone need not wait for rivals.
            log.raft.trigger().elect(false).await.map_err(|error| OpenError::Consensus(error.to_string()))?;
        }
        Ok(log)
    }

    /// Makes this node the first voter of a new log; does nothing if the log has begun already.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn initialize(&self, member: Member) -> Result<(), ProposeError> {
        let begun = self.raft.is_initialized().await.map_err(|error| ProposeError::Stopped(error.to_string()))?;
        if begun {
            return Ok(());
        }
        let initialized = self.raft.initialize(BTreeMap::from([(self.node.0, member)])).await;
        initialized.map_err(|error| ProposeError::Stopped(error.to_string()))
    }

    /// Waits until the image holds everything that this voter had acknowledged before it was last stopped. A log that
    /// was never initialized waits for ever. Cancel safe.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn recovered(&self) -> Result<(), ProposeError> {
        let recovered = self.raft.wait_for_recovery(None).await;
        recovered.map(|_| ()).map_err(|error| ProposeError::Stopped(error.to_string()))
    }

    /// True while writes of the log wait for space on a full disk.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.worker.lock().is_stalled()
    }

    /// Answers what another voter asked over its [`Transport`].
    ///
    /// # Errors
    /// `InvalidData` for bytes that are no such request; others if this voter has stopped.
    pub async fn serve(&self, rpc: Rpc, request: Bytes, body: Bytes) -> io::Result<Bytes> {
        let stopped = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
        match rpc {
            Rpc::Append => {
                let answer = self.raft.append_entries(network::decode(&request)?).await;
                network::encode(&answer.map_err(|error| stopped(&error))?)
            }
            Rpc::Vote => {
                let answer = self.raft.vote(network::decode(&request)?).await;
                network::encode(&answer.map_err(|error| stopped(&error))?)
            }
            Rpc::PreVote => {
                let answer = self.raft.pre_vote(network::decode(&request)?).await;
                network::encode(&answer.map_err(|error| stopped(&error))?)
            }
            Rpc::Snapshot => {
                let request: SnapshotRequest = network::decode(&request)?;
                let snapshot = Snapshot { meta: request.meta, snapshot: body };
                let answer = self.raft.install_full_snapshot(request.vote, snapshot).await;
                network::encode(&answer.map_err(|error| stopped(&error))?)
            }
            Rpc::TransferLeader => {
                let answer = self.raft.handle_transfer_leader(network::decode(&request)?).await;
                network::encode(&answer.map_err(|error| stopped(&error))?)
            }
        }
    }

    /// Stops consensus and waits until the last write is on disk. What waits for space on a full disk is given up; it
    /// was acknowledged to no one.
    pub async fn shutdown(&self) {
        self.worker.lock().close();
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "consensus did not stop cleanly");
        }
        let worker = self.worker.clone();
        if tokio::task::spawn_blocking(move || worker.lock().join()).await.is_err() {
            tracing::error!("waiting for the disk thread of the metadata log failed");
        }
    }
}

impl MetadataLog for RaftLog {
    async fn propose(&self, entry: &Entry) -> Result<MetadataIndex, ProposeError> {
        if self.leadership.borrow().stopped {
            return Err(ProposeError::Stopped("see the log of this node".to_owned()));
        }
        let bytes = encode_entry(entry).map_err(|error| ProposeError::Refused(error.to_string()))?;
        let unknown = |reason: &dyn std::fmt::Display| Err(ProposeError::OutcomeUnknown(reason.to_string()));
        match self.raft.client_write(Proposal(bytes.into())).await {
            Ok(written) => match written.data {
                Outcome::Applied(index) => Ok(index),
                Outcome::Refused(reason) => Err(ProposeError::Refused(reason)),
                Outcome::Nothing => unknown(&"the entry was not seen when it was applied"),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader { leader: to.leader_id.map(NodeId) })
            }
            Err(error) => unknown(&error),
        }
    }

    async fn barrier(&self) -> Result<(), ProposeError> {
        let term = self.leadership.borrow().term;
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => {
                self.ready_term.store(term, Ordering::Release);
                Ok(())
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader { leader: to.leader_id.map(NodeId) })
            }
            Err(RaftError::APIError(error)) => Err(ProposeError::OutcomeUnknown(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(ProposeError::Stopped(error.to_string())),
        }
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn is_leader_ready(&self) -> bool {
        let now = *self.leadership.borrow();
        now.leads && !now.stopped && self.ready_term.load(Ordering::Acquire) == now.term
    }

    async fn change_voters(&self, voters: BTreeMap<NodeId, Member>) -> Result<(), ProposeError> {
        let known: BTreeSet<u64> = self.raft.voter_ids().collect();
        let ids: BTreeSet<u64> = voters.keys().map(|id| id.0).collect();
        for (id, member) in voters {
            if !known.contains(&id.0) {
                self.raft.add_learner(id.0, member, true).await.map_err(|error| membership_error(&error))?;
            }
        }
        self.raft.change_membership(ids, false).await.map_err(|error| membership_error(&error))?;
        Ok(())
    }

    async fn snapshot(&self) -> Result<(), ProposeError> {
        let applied = self.raft.metrics().borrow_watched().last_applied;
        let stopped = |error: &dyn std::fmt::Display| ProposeError::Stopped(error.to_string());
        self.raft.trigger().snapshot().await.map_err(|error| stopped(&error))?;
        let written = self.raft.wait(None).metrics(|metrics| metrics.snapshot >= applied, "snapshot is written").await;
        written.map(|_| ()).map_err(|error| stopped(&error))
    }
}

fn directory(data: &Path, group: u32) -> std::path::PathBuf {
    data.join("metadata").join(format!("raft-{group}"))
}

fn membership_error(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            ProposeError::NotLeader { leader: to.leader_id.map(NodeId) }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => ProposeError::Refused(error.to_string()),
        other => ProposeError::OutcomeUnknown(other.to_string()),
    }
}

/// Translates openraft's metrics; ends when openraft does, with a last word that says so.
fn follow_leadership(raft: &Raft<TypeConfig, Machine>, node: NodeId) -> watch::Receiver<Leadership> {
    let mut metrics = raft.server_metrics();
    let (sender, receiver) = watch::channel(Leadership::default());
    tokio::spawn(async move {
        loop {
            let now = {
                let metrics = metrics.borrow_and_update();
                let leader = metrics.current_leader.map(NodeId);
                let leads = metrics.state.is_leader() && leader == Some(node);
                Leadership { term: metrics.vote.leader_id.term, leader, leads, stopped: false }
            };
            sender.send_if_modified(|seen| std::mem::replace(seen, now) != now);
            let ended = tokio::select! {
                changed = metrics.changed() => changed.is_err(),
                () = sender.closed() => return,
            };
            if ended {
                sender.send_modify(|seen| *seen = Leadership { leader: None, leads: false, stopped: true, ..*seen });
                return;
            }
        }
    });
    receiver
}
