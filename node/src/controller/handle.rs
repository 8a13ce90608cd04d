//! The controller's door for the rest of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rafka_broker::controller::{Answer, Command, Heartbeat, Registered, Registration};
use rafka_broker::metadata::Image;
use rafka_broker::request::{Admin, AdminReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::Key;
use rafka_model::limits::{CERTIFICATE_MS, CONTROLLER_QUEUE_MAX};
use rafka_model::{BrokerEpoch, MetadataIndex, NodeId};
use rafka_protocols::certificate::{Certificate, Role};
use tokio::sync::{mpsc, oneshot, watch};

use super::records::Records;
use super::{ClusterKey, FEATURE_LEVEL};
use crate::image::ImageStore;

/// Asks the controller of this process. Cheap to clone; outlives the driver, and then says so.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
    beats: mpsc::Sender<Beat>,
}

pub(super) struct Shared {
    pub(super) images: Arc<ImageStore>,
    pub(super) key: Arc<ClusterKey>,
    pub(super) records: Records,
    pub(super) active: watch::Sender<bool>,
    pub(super) counters: Counters,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) commands: AtomicU64,
    pub(super) heartbeats: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// What the controller of this process has done, since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Commands evaluated.
    pub commands: u64,
    /// Heartbeats taken.
    pub heartbeats: u64,
    /// Entries applied.
    pub entries: u64,
    /// Proposals that failed, or whose outcome is unknown.
    pub failed: u64,
    /// Commands that wait.
    pub queued: usize,
}

pub(super) struct Ask {
    pub(super) command: Command,
    pub(super) reply: oneshot::Sender<Result<Answer, Failure>>,
}

pub(super) struct Beat {
    pub(super) node: NodeId,
    pub(super) epoch: BrokerEpoch,
    pub(super) applied: MetadataIndex,
    pub(super) reply: oneshot::Sender<Result<Heartbeat, Failure>>,
}

/// How a cluster begins.
#[derive(Clone, Debug)]
pub struct Founding {
    /// blake3 of the join token; `None` admits anyone (on loopback).
    pub join_token_hash: Option<[u8; 32]>,
    /// The founder itself.
    pub founder: Registration,
}

/// A node that the controller has registered.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its id, for ever.
    pub node: NodeId,
    /// Names this registration.
    pub epoch: BrokerEpoch,
    /// Its certificate, signed by the cluster key.
    pub certificate: Bytes,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> (Self, mpsc::Receiver<Ask>, mpsc::Receiver<Beat>) {
        let (asks, inbox) = mpsc::channel(CONTROLLER_QUEUE_MAX);
        let (beats, heartbeats) = mpsc::channel(CONTROLLER_QUEUE_MAX);
        (Self { shared, asks, beats }, inbox, heartbeats)
    }

    /// Does this node decide for the cluster at the moment?
    #[must_use]
    pub fn is_active(&self) -> bool {
        *self.shared.active.borrow()
    }

    /// Waits until this node decides for the cluster. Cancel safe.
    pub async fn until_active(&self) {
        let mut active = self.shared.active.subscribe();
        let _ = active.wait_for(|active| *active).await.map(drop);
    }

    /// Asks for a decision, and waits until it is applied. Not cancel safe: a dropped call may still take place.
    ///
    /// # Errors
    /// What the controller refuses; [`ErrorCode::Busy`] and [`ErrorCode::NotController`]: nothing happened;
    /// [`ErrorCode::OutcomeUnknown`].
    pub async fn submit(&self, command: Command) -> Result<Answer, Failure> {
        self.check_active()?;
        let (reply, answer) = oneshot::channel();
        self.asks.try_send(Ask { command, reply }).map_err(refused)?;
        match answer.await.unwrap_or_else(|_| Err(unknown()))? {
            Answer::Refused(failure) => Err(failure),
            answer => Ok(answer),
        }
    }

    /// Founds the cluster of this process's cluster key.
    ///
    /// # Errors
    /// As [`Self::submit`]; [`ErrorCode::InvalidRequest`] if it is founded already.
    pub async fn found(&self, founding: Founding) -> Result<Joined, Failure> {
        let Founding { join_token_hash, founder } = founding;
        let (peer_id, public_key) = (founder.peer_id.clone(), self.shared.key.public_key());
        let command = Command::Found { public_key, join_token_hash, feature_level: FEATURE_LEVEL, founder };
        self.registered(peer_id, command).await
    }

    /// Registers a node that the door has admitted, and certifies it.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn register(&self, registration: Registration) -> Result<Joined, Failure> {
        self.registered(registration.peer_id.clone(), Command::Register(registration)).await
    }

    async fn registered(&self, peer_id: String, command: Command) -> Result<Joined, Failure> {
        match self.submit(command).await? {
            Answer::Registered(Registered { node, epoch }) => {
                Ok(Joined { node, epoch, certificate: self.certify(peer_id, node, epoch)? })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Takes a node out of service because it stops.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn leave(&self, node: NodeId, epoch: BrokerEpoch) -> Result<(), Failure> {
        match self.submit(Command::Leave { node, epoch }).await? {
            Answer::Left => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Carries out a change of topics.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn admin(&self, request: Admin) -> Result<AdminReply, Failure> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Failure::new(ErrorCode::Unknown, format!("no random numbers for topic ids: {error}")))?;
        match self.submit(Command::Admin { request, seed }).await? {
            Answer::Admin(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Says that `node` lives and has applied the metadata up to `applied`.
    ///
    /// # Errors
    /// [`ErrorCode::StaleBrokerEpoch`]: the node must register again; as [`Self::submit`] otherwise.
    pub async fn heartbeat(
        &self,
        node: NodeId,
        epoch: BrokerEpoch,
        applied: MetadataIndex,
    ) -> Result<Heartbeat, Failure> {
        self.check_active()?;
        let (reply, answer) = oneshot::channel();
        self.beats.try_send(Beat { node, epoch, applied, reply }).map_err(refused)?;
        answer.await.unwrap_or_else(|_| Err(unknown()))
    }

    /// As [`Records::sign`].
    #[must_use]
    pub fn sign(&self, image: &Image, key: &Key) -> Option<Bytes> {
        self.shared.records.sign(image, key)
    }

    /// As [`Records::records_for`].
    #[must_use]
    pub fn records_for(&self, node: NodeId, since: MetadataIndex) -> Vec<Bytes> {
        self.shared.records.records_for(node, since)
    }

    /// What this controller has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Counters { commands, heartbeats, entries, failed } = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commands: read(commands),
            heartbeats: read(heartbeats),
            entries: read(entries),
            failed: read(failed),
            queued: self.asks.max_capacity() - self.asks.capacity(),
        }
    }

    fn check_active(&self) -> Result<(), Failure> {
        if self.is_active() { Ok(()) } else { Err(inactive()) }
    }

    fn certify(&self, peer_id: String, node: NodeId, epoch: BrokerEpoch) -> Result<Bytes, Failure> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let not_after = since_1970 + Duration::from_millis(CERTIFICATE_MS);
        let certificate = Certificate {
            cluster_id: self.shared.key.cluster_id(),
            peer_id,
            node: Some(node),
            role: Role::Node,
            not_after_ms: i64::try_from(not_after.as_millis()).unwrap_or(i64::MAX),
            serial: epoch.0,
        };
        let signed = certificate.sign(|bytes| self.shared.key.sign(bytes));
        signed.map(Bytes::from).map_err(|error| Failure::new(ErrorCode::Unknown, error.to_string()))
    }
}

pub(super) fn inactive() -> Failure {
    Failure::new(ErrorCode::NotController, "this node is not the controller at the moment")
}

fn unknown() -> Failure {
    Failure::new(ErrorCode::OutcomeUnknown, "the controller stopped before it answered")
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::new(ErrorCode::Unknown, format!("the controller's answer is of another kind: {answer:?}"))
}

fn refused<T>(error: mpsc::error::TrySendError<T>) -> Failure {
    match error {
        mpsc::error::TrySendError::Full(_) => {
            Failure::new(ErrorCode::Busy, format!("{CONTROLLER_QUEUE_MAX} requests wait for the controller already"))
        }
        mpsc::error::TrySendError::Closed(_) => inactive(),
    }
}
