//! Keeps this node registered and alive in the controller's eyes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rafka_broker::controller::Registration;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::CONTROL_DEADLINE_MS;
use rafka_model::{BrokerEpoch, NodeId};
use rafka_protocols::Protocol;
use rafka_protocols::address::BootstrapAddress;
use rafka_protocols::certificate;
use rafka_protocols::register::{self, Joiner, Reply, Request};
use tracing::{debug, error, info, warn};

use super::{Cluster, Reachable, Standing};
use crate::bootstrap;
use crate::controller::{Founding, Joined};
use crate::datadir::{DataDir, Membership};
use crate::ops::Health;
use crate::partitions::Partitions;

/// First pause between two attempts to register.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What the registrar needs beside the cluster.
pub struct Registrar {
    /// Shared state.
    pub cluster: Arc<Cluster>,
    /// What the node says of itself; addresses are those listened on now.
    pub registration: Registration,
    /// blake3 of this node's join token.
    pub token: Option<[u8; 32]>,
    /// Who told of the cluster, while the image names no controller yet.
    pub first: Vec<Reachable>,
    /// Where to look for members when those of the image have all moved.
    pub bootstrap: Vec<BootstrapAddress>,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Where the node's place in the cluster is kept.
    pub data: Arc<DataDir>,
    /// Leads partitions as long as the controller is heard.
    pub partitions: Arc<Partitions>,
    /// Not ready while not in service.
    pub health: Health,
}

impl Registrar {
    /// Registers, then says every heartbeat that the node lives; registers again when the controller has forgotten it.
    /// Ends only with an error that no retry can mend.
    ///
    /// # Errors
    /// [`ErrorCode::DuplicateBrokerRegistration`], or a refusal such as a wrong join token.
    pub async fn run(self) -> Failure {
        let mut pause = RETRY_MIN;
        let mut twin_since: Option<Instant> = None;
        self.health.hold("membership", "not registered yet");
        loop {
            match self.register().await {
                Ok((node, epoch)) => {
                    (pause, twin_since) = (RETRY_MIN, None);
                    info!(%node, %epoch, "registered");
                    let place = Membership { cluster_id: self.cluster.id, node_id: Some(node) };
                    if let Err(error) = self.data.save_membership(place) {
                        error!(%error, "cannot keep the node's place in the cluster");
                    }
                    self.cluster.standing.send_replace(Standing {
                        node: Some(node),
                        epoch: Some(epoch),
                        in_service: false,
                    });
                    self.beat(node, epoch).await;
                }
                // A process that was killed counts as alive for three heartbeats; one that lives on, for ever.
                Err(failure)
                    if failure.code == ErrorCode::DuplicateBrokerRegistration
                        && twin_since.is_none_or(|since| since.elapsed() < self.cluster.session * 2) =>
                {
                    if twin_since.is_none() {
                        info!(%failure, "waiting for an earlier process with this identity to be forgotten");
                        twin_since = Some(Instant::now());
                    }
                    tokio::time::sleep(RETRY_MIN * 2).await;
                }
                Err(failure) if !failure.code.is_retriable() => {
                    error!(%failure, "the cluster refuses this node");
                    return failure;
                }
                Err(failure) => {
                    debug!(%failure, "not registered yet");
                    self.dial_bootstrap().await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Registers once, with the controller of this process or with the one that the image or the first peers name.
    async fn register(&self) -> Result<(NodeId, BrokerEpoch), Failure> {
        if let Some(controller) = &self.cluster.controller {
            controller.until_active().await;
            let founder = self.registration.clone();
            let registered: Joined = match self.cluster.images.current().cluster {
                Some(_) => controller.register(founder).await?,
                None => controller.found(Founding { join_token_hash: self.token, founder }).await?,
            };
            self.cluster.certificate.store(Some(Arc::new(registered.certificate)));
            return Ok((registered.node, registered.epoch));
        }
        let known = self.cluster.controller_node(&self.cluster.images.current());
        let mut candidates: Vec<Reachable> = known.into_iter().chain(self.first.iter().cloned()).collect();
        let mut last = Failure::new(ErrorCode::ControllerUnavailable, "no controller is known yet");
        let mut asked = 0;
        while let Some(candidate) = candidates.get(asked).cloned() {
            asked += 1;
            match self.join(&candidate).await {
                Err(failure) => {
                    // A member that is not the controller names it: ask that one next, once.
                    if let Some(named) = failure.leader.as_deref().and_then(named)
                        && candidates.iter().all(|other| other.peer != named.peer)
                    {
                        candidates.insert(asked, named);
                    }
                    if !failure.code.is_retriable() {
                        return Err(failure);
                    }
                    last = failure;
                }
                joined => return joined,
            }
        }
        Err(last)
    }

    async fn join(&self, at: &Reachable) -> Result<(NodeId, BrokerEpoch), Failure> {
        let local = self.cluster.mesh.local();
        let proof = self.token.map(|token| certificate::proof(&token, &self.cluster.id, &local, &at.peer));
        let request = Request::Join { proof, node: Box::new(joiner(&self.registration)) };
        let deadline = Duration::from_millis(CONTROL_DEADLINE_MS);
        let frame = register::encode_request(&request);
        let answer = self.cluster.mesh.call(at.peer, at.addresses.clone(), Protocol::Register, frame, deadline).await;
        let answer = answer.map_err(|error| {
            Failure::new(ErrorCode::ControllerUnavailable, format!("peer {} cannot be asked: {error}", at.peer))
        })?;
        match register::decode_reply(&answer)
            .map_err(|e| Failure::new(ErrorCode::ControllerUnavailable, e.to_string()))??
        {
            Reply::Joined { certificate, node, epoch, .. } => {
                self.cluster.heard_controller();
                self.cluster.certificate.store(Some(Arc::new(certificate)));
                Ok((node, epoch))
            }
            _ => Err(Failure::new(ErrorCode::ControllerUnavailable, "the answer is of another kind than the request")),
        }
    }

    /// Says that the node lives until the controller no longer knows this registration.
    async fn beat(&self, node: NodeId, epoch: BrokerEpoch) {
        let mut tick = tokio::time::interval(self.heartbeat);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut images = self.cluster.images.subscribe();
        let mut silent = 0u32;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // The sooner the controller hears that the own registration was seen, the sooner it unfences.
                Ok(()) = images.changed(), if !self.cluster.standing().in_service => {}
            }
            let sent = self.partitions.now();
            match self.heartbeat(node, epoch).await {
                Ok(fenced) => {
                    self.partitions.heard_controller(sent);
                    silent = 0;
                    if fenced {
                        self.health.hold("membership", "out of service until the controller has seen a heartbeat");
                    } else {
                        self.health.release("membership");
                    }
                    self.cluster.standing.send_if_modified(|standing| {
                        let changed = standing.in_service == fenced;
                        standing.in_service = !fenced;
                        changed
                    });
                }
                Err(failure) if failure.code == ErrorCode::StaleBrokerEpoch => {
                    warn!(%node, %epoch, "the controller knows another registration of this node");
                    return;
                }
                Err(failure) => {
                    silent += 1;
                    if silent.is_power_of_two() {
                        warn!(%failure, silent, "a heartbeat was not answered");
                    }
                    self.dial_bootstrap().await;
                }
            }
        }
    }

    /// One heartbeat; true if the node is still fenced.
    async fn heartbeat(&self, node: NodeId, epoch: BrokerEpoch) -> Result<bool, Failure> {
        let index = self.cluster.images.index();
        if let Some(controller) = &self.cluster.controller {
            return controller.heartbeat(node, epoch, index).await.map(|beat| beat.fenced);
        }
        let frame = register::encode_request(&Request::Heartbeat { node, epoch, index });
        let answer = self.cluster.ask_controller(Protocol::Register, frame, self.heartbeat.max(RETRY_MAX)).await?;
        match register::decode_reply(&answer).map_err(|e| Failure::new(ErrorCode::Unknown, e.to_string()))?? {
            Reply::Alive { fenced, .. } => Ok(fenced),
            _ => Err(Failure::new(ErrorCode::Unknown, "the answer is of another kind than the request")),
        }
    }

    /// Members may have moved: connect to whoever answers at the bootstrap addresses, its identity tells who it is.
    async fn dial_bootstrap(&self) {
        for address in bootstrap::resolve_all(&self.bootstrap).await.addresses {
            self.cluster.mesh.dial(address).await;
        }
    }
}

fn named(hint: &rafka_broker::LeaderHint) -> Option<Reachable> {
    let addresses = hint.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    Some(Reachable { id: hint.node?, peer: hint.peer_id.as_ref()?.parse().ok()?, addresses, lanes: Vec::new() })
}

fn joiner(registration: &Registration) -> Joiner {
    let Registration {
        directory,
        boot,
        incarnation,
        addresses,
        lanes,
        kafka,
        ops,
        rack,
        weight_milli,
        role,
        version,
        features_max,
        unclean,
        peer_id: _,
    } = registration.clone();
    Joiner {
        directory,
        boot,
        incarnation,
        addresses,
        lanes,
        kafka,
        ops,
        rack,
        weight_milli,
        role,
        version,
        features_max,
        unclean,
    }
}
