//! The life of the process, top to bottom: open, find or found a cluster, join, serve, stop.

mod found;
mod sample;
mod shutdown;
mod start;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rafka_broker::Failure;
use rafka_model::{ClusterId, NodeId};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::{Cluster, Standing};
use crate::config::Config;
use crate::consensus::RaftLog;
use crate::datadir::{DataDir, DataDirError};
use crate::groups::Groups;
use crate::logging::LevelHandle;
use crate::mesh;
use crate::mesh::Multiaddr;
use crate::ops::Health;
use crate::partitions::Partitions;
use crate::tasks::Tasks;

/// A running node.
pub struct Server {
    config: Config,
    data: Arc<DataDir>,
    cluster: Arc<Cluster>,
    partitions: Arc<Partitions>,
    groups: Groups,
    raft: Option<RaftLog>,
    health: Health,
    ops: Option<SocketAddr>,
    /// Listeners of the Kafka door.
    kafka: Vec<String>,
    /// Where the lane swarm listens.
    lanes: Vec<Multiaddr>,
    tasks: Tasks,
    stop: Stop,
    /// Why the cluster refuses this node, once it does.
    refused: watch::Receiver<Option<Failure>>,
    began: Instant,
}

/// The stages of a shutdown; each token ends the tasks of its stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// No new requests.
    pub(crate) accept: CancellationToken,
    /// Requests under way.
    pub(crate) requests: TaskTracker,
    /// Coordinators of groups.
    pub(crate) groups: CancellationToken,
    /// Registrar, feed, publisher and whatever else talks to the cluster.
    pub(crate) membership: CancellationToken,
    /// The controller and its log.
    pub(crate) quorum: CancellationToken,
    /// Ops HTTP, the swarm, and whatever is left.
    pub(crate) ops: CancellationToken,
}

/// What a node says of itself when it is ready: content of `--ready-file`, and of the start banner.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// Id in the cluster.
    pub node_id: u64,
    /// libp2p peer id.
    pub peer_id: String,
    /// 64 hex digits.
    pub cluster_id: String,
    /// Mesh addresses with `/p2p`, as bound.
    pub mesh: Vec<String>,
    /// Addresses of the lanes with `/p2p`, as bound.
    pub lanes: Vec<String>,
    /// Kafka listeners, as bound; those with a name of their own as `NAME=HOST:PORT`.
    pub kafka: Vec<String>,
    /// Ops HTTP, as bound.
    pub ops: Option<String>,
    /// This process.
    pub pid: u32,
    /// Data directory.
    pub data_dir: PathBuf,
    /// From the start of the process to ready.
    pub ready_ms: u64,
}

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The identity key cannot be used.
    #[error(transparent)]
    Identity(#[from] mesh::identity::IdentityError),
    /// An address is taken, or the swarm cannot be built.
    #[error(transparent)]
    Mesh(#[from] mesh::StartError),
    /// Logs cannot be opened.
    #[error("cannot open the partitions: {0}")]
    Partitions(String),
    /// The metadata log cannot be opened.
    #[error("cannot open the metadata log: {0}")]
    Consensus(String),
    /// The Kafka door cannot listen.
    #[error(transparent)]
    Kafka(#[from] crate::kafka::BindError),
    /// Ops HTTP cannot listen.
    #[error(transparent)]
    Ops(#[from] crate::ops::BindError),
    /// The cluster refuses this node.
    #[error("the cluster refuses this node: {0}")]
    Refused(Failure),
    /// The configuration contradicts what the data directory says.
    #[error("{0}")]
    Conflict(String),
    /// A file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Server {
    /// Starts a node: returns once it serves what it can; [`Self::ready`] waits until it is in service.
    ///
    /// Cancel safety: dropping the future leaves no task behind that writes to the data directory.
    ///
    /// # Errors
    /// [`ServerError`]; nothing runs then.
    pub async fn start(config: Config, level: Option<LevelHandle>, began: Instant) -> Result<Self, ServerError> {
        start::start(config, level, began).await
    }

    /// Waits until the node is registered, has seen its registration, opened its partitions and is in service.
    ///
    /// # Errors
    /// [`ServerError::Refused`] when the cluster will not have it.
    pub async fn ready(&self) -> Result<Ready, ServerError> {
        let mut standing = self.cluster.standing_changes();
        let mut refused = self.refused.clone();
        let in_service = standing.wait_for(|standing| standing.in_service);
        tokio::select! {
            found = in_service => drop(found),
            found = refused.wait_for(Option::is_some) => {
                let failure = found.ok().and_then(|failure| failure.clone());
                return Err(ServerError::Refused(failure.unwrap_or_else(|| {
                    Failure::new(rafka_broker::ErrorCode::NotReady, "the node is stopping")
                })));
            }
        }
        let index = self.cluster.images.index();
        self.partitions.reconciled(index).await;
        self.health.set_ready(true);
        Ok(self.describe())
    }

    /// Waits until the cluster refuses this node; pending for ever otherwise.
    pub async fn refused(&self) -> Failure {
        let mut refused = self.refused.clone();
        match refused.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone()) {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// The node as it stands.
    #[must_use]
    pub fn describe(&self) -> Ready {
        let Standing { node, .. } = self.cluster.standing();
        let peer = self.cluster.mesh.local();
        let with_peer = |address: Multiaddr| address.with_p2p(peer).map_or_else(|a| a.to_string(), |a| a.to_string());
        Ready {
            node_id: node.map_or(0, |NodeId(id)| id),
            peer_id: peer.to_string(),
            cluster_id: self.cluster_id().to_string(),
            mesh: self.cluster.mesh.listening().into_iter().map(with_peer).collect(),
            lanes: self.lanes.iter().cloned().map(with_peer).collect(),
            kafka: self.kafka.clone(),
            ops: self.ops.map(|address| address.to_string()),
            pid: std::process::id(),
            data_dir: self.data.root().to_path_buf(),
            ready_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The cluster that the node is in.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster.id
    }

    /// Shared state, for whoever runs a node inside another program.
    #[must_use]
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Writes the ready file that the configuration names.
    ///
    /// # Errors
    /// [`ServerError::Write`].
    pub fn write_ready_file(&self, ready: &Ready) -> Result<(), ServerError> {
        let Some(path) = &self.config.node.ready_file else { return Ok(()) };
        let failed = |reason: String| ServerError::Write { path: path.clone(), reason };
        let text = serde_json::to_string(ready).map_err(|e| failed(e.to_string()))?;
        let part = path.with_extension("part");
        std::fs::write(&part, text + "\n")
            .and_then(|()| std::fs::rename(&part, path))
            .map_err(|e| failed(e.to_string()))
    }

    /// Longest time that [`Self::shutdown`] takes.
    #[must_use]
    pub fn shutdown_deadline(&self) -> Duration {
        Duration::from_millis(self.config.node.shutdown_ms)
    }
}
