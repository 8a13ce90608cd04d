//! This node's place in the cluster: who it is there, who decides, and how to reach them.

pub mod feed;
pub mod greet;
pub mod hints;
pub mod load;
mod producer_ids;
pub mod publish;
pub mod registrar;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use rafka_broker::metadata::{Image, Node, PartitionState};
use rafka_broker::request::{Admin, AdminReply, FoundOffset, ListOffsets, PartitionReply};
use rafka_broker::{ErrorCode, Failure, LeaderHint};
use rafka_model::limits::{CERTIFICATE_MS, CONTROL_DEADLINE_MS, EXCHANGE_MS_MAX, FULL_MESH_NODES_MAX};
use rafka_model::{BrokerEpoch, ClusterId, Monotonic, NodeId};
use rafka_protocols::certificate::{Certificate, Role};
use rafka_protocols::rpc::CallError;
use rafka_protocols::{Frame, Protocol, admin, fetch};
use tokio::sync::watch;

use crate::controller;
use crate::image::ImageStore;
use crate::lanes::Lanes;
use crate::mesh::{Member, Mesh, Multiaddr, PeerId};

/// What the controller last said of this node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Id, once registered.
    pub node: Option<NodeId>,
    /// Epoch of the registration of this process.
    pub epoch: Option<BrokerEpoch>,
    /// In service: heartbeats are answered and the node is not fenced.
    pub in_service: bool,
}

/// A node of the cluster that can be called.
#[derive(Clone, Debug)]
pub struct Reachable {
    /// Its id.
    pub id: NodeId,
    /// Its identity.
    pub peer: PeerId,
    /// Where it listens.
    pub addresses: Vec<Multiaddr>,
    /// Where it takes lanes, as far as that is known.
    pub lanes: Vec<Multiaddr>,
}

/// Shared by every task of the node. Cheap to use: reads take no lock for long.
pub struct Cluster {
    /// The cluster.
    pub id: ClusterId,
    /// Public half of the cluster key.
    pub public_key: [u8; 32],
    /// What this node knows of the metadata.
    pub images: Arc<ImageStore>,
    /// The control swarm.
    pub mesh: Mesh,
    /// The lane swarm.
    pub lanes: Lanes,
    /// The controller's door, on a voter.
    pub controller: Option<controller::Handle>,
    /// Silence after which the controller counts as unreachable.
    pub session: Duration,
    /// The node's clock.
    pub clock: rafka_dht::Clock,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) certificate: ArcSwapOption<Bytes>,
    pub(crate) heard: Mutex<Monotonic>,
    /// What members tell of their load.
    pub loads: load::Loads,
    pub(crate) producer_ids: producer_ids::ProducerIds,
}

impl Cluster {
    /// This node's id and registration, as last confirmed.
    #[must_use]
    pub fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Told when the standing changes.
    #[must_use]
    pub fn standing_changes(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Whoever leads the metadata quorum, as far as this node knows. Today the quorum has one voter.
    #[must_use]
    pub fn controller_node(&self, image: &Image) -> Option<Reachable> {
        image.voters.first().and_then(|id| image.nodes.get(id)).and_then(reachable)
    }

    /// True if the controller answered within `session`.
    #[must_use]
    pub fn hears_controller(&self, session: Duration) -> bool {
        self.controller.as_ref().is_some_and(controller::Handle::is_active)
            || (self.clock)().since(*self.heard.lock()) < session
    }

    pub(crate) fn heard_controller(&self) {
        *self.heard.lock() = (self.clock)();
    }

    /// The controller, unless it has been silent for a session.
    #[must_use]
    pub fn controller_heard(&self) -> Option<NodeId> {
        let controller = self.controller_node(&self.images.current())?.id;
        self.hears_controller(self.session).then_some(controller)
    }

    /// Nodes in service by the image, with which this node should have a connection and has none: the first sign of a
    /// death that the controller has not decided on yet.
    pub async fn unreachable(&self, image: &Image) -> Vec<NodeId> {
        if image.nodes.len() > FULL_MESH_NODES_MAX {
            return Vec::new();
        }
        let Some(swarm) = self.mesh.snapshot().await else { return Vec::new() };
        let connected = |node: &Node| swarm.peers.iter().any(|peer| peer.peer.to_string() == node.peer_id);
        let local = self.mesh.local().to_string();
        let missing = image.nodes.values().filter(|node| !node.fenced && node.peer_id != local && !connected(node));
        missing.map(|node| node.id).collect()
    }

    /// Carries out a change of metadata: here if this node is the controller, else over the mesh.
    ///
    /// # Errors
    /// [`ErrorCode::ControllerUnavailable`] when it was not sent, [`ErrorCode::OutcomeUnknown`] when no answer came.
    pub async fn change(&self, request: Admin) -> Result<AdminReply, Failure> {
        if let Some(controller) = self.controller.as_ref().filter(|controller| controller.is_active()) {
            return controller.admin(request).await;
        }
        let frame = admin::encode_request(&request);
        let reply = self.ask_controller(Protocol::Admin, frame, Duration::from_millis(CONTROL_DEADLINE_MS)).await?;
        admin::decode_reply(&reply).map_err(|e| Failure::new(ErrorCode::Unknown, e.to_string()))?
    }

    /// One exchange with `to`, at most `deadline` long: over a lane if one stands, else by request-response while a
    /// lane is being opened.
    ///
    /// Requests of one caller that are under way together may be served in any order. With a `deadline` beyond
    /// [`EXCHANGE_MS_MAX`] it waits for the lane.
    ///
    /// # Errors
    /// As [`Mesh::call`]. What may have been carried out is not asked twice.
    pub async fn exchange(
        &self,
        to: &Reachable,
        protocol: Protocol,
        frame: Frame,
        deadline: Duration,
    ) -> Result<Frame, CallError> {
        let began = Instant::now();
        if deadline > Duration::from_millis(EXCHANGE_MS_MAX) {
            // Only a lane carries what lasts; where there is none the request may be lucky.
            match self.lanes.call(to.peer, to.lanes.clone(), protocol, frame.clone(), deadline).await {
                Err(CallError::Dial(_) | CallError::Busy | CallError::Unsupported) => {}
                ended => return ended,
            }
        } else if let Some(ended) = self.lanes.call_if_open(to.peer, &to.lanes, protocol, &frame, deadline).await {
            return ended;
        }
        let left = deadline.saturating_sub(began.elapsed());
        self.mesh.call(to.peer, to.addresses.clone(), protocol, frame, left).await
    }

    /// Has another node look up offsets of partitions that it leads, at most `deadline` long.
    ///
    /// # Errors
    /// [`ErrorCode::NotReady`] if there is no such node to be asked, or it does not answer.
    pub async fn list_offsets(
        &self,
        node: NodeId,
        request: ListOffsets,
        deadline: Duration,
    ) -> Result<Vec<PartitionReply<FoundOffset>>, Failure> {
        let not_ready = |why: String| Failure::new(ErrorCode::NotReady, why);
        let to = Self::reachable(&self.images.current(), node).filter(|to| to.peer != self.mesh.local());
        let to = to.ok_or_else(|| not_ready(format!("node {node} cannot be asked")))?;
        let frame = fetch::encode_request(&fetch::Request::ListOffsets(request));
        let answer = self.exchange(&to, Protocol::Fetch, frame, deadline).await;
        let answer = answer.map_err(|error| not_ready(format!("node {node} does not answer: {error}")))?;
        match fetch::decode_reply(&answer).map_err(|error| not_ready(error.to_string()))?? {
            fetch::Reply::Offsets(parts) => Ok(parts),
            _ => Err(not_ready(format!("node {node} answered with something else"))),
        }
    }

    /// A node of the cluster, by the image.
    #[must_use]
    pub fn reachable(image: &Image, node: NodeId) -> Option<Reachable> {
        image.nodes.get(&node).and_then(reachable)
    }

    /// One exchange with the controller.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub async fn ask_controller(&self, protocol: Protocol, frame: Frame, deadline: Duration) -> Result<Frame, Failure> {
        let Some(node) = self.controller_node(&self.images.current()) else {
            return Err(Failure::new(ErrorCode::ControllerUnavailable, "no controller is known yet"));
        };
        if node.peer == self.mesh.local() {
            return Err(Failure::new(ErrorCode::ControllerUnavailable, "this node's controller is starting"));
        }
        let id = node.id;
        let answer = self.mesh.call(node.peer, node.addresses, protocol, frame, deadline).await;
        answer.inspect(|_| self.heard_controller()).map_err(|error| match error {
            CallError::Timeout | CallError::ConnectionClosed => {
                Failure::new(ErrorCode::OutcomeUnknown, format!("node {id}, the controller, did not answer: {error}"))
            }
            _ => Failure::new(
                ErrorCode::ControllerUnavailable,
                format!("node {id}, the controller, cannot be reached: {error}"),
            ),
        })
    }

    /// Until when a certificate that `peer` shows makes it a member.
    ///
    /// # Errors
    /// [`ErrorCode::ClusterAuthorizationFailed`] says which check failed.
    pub fn verify(&self, peer: &PeerId, shown: &[u8]) -> Result<Instant, Failure> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
        let denied = |message: String| Failure::new(ErrorCode::ClusterAuthorizationFailed, message);
        let certificate =
            Certificate::verify(shown, &self.public_key, peer, now_ms).map_err(|e| denied(e.to_string()))?;
        if certificate.role != Role::Node {
            return Err(denied("the certificate is not a node's".to_owned()));
        }
        let left = u64::try_from(certificate.not_after_ms.saturating_sub(now_ms)).unwrap_or(0);
        Ok(Instant::now() + Duration::from_millis(left.min(CERTIFICATE_MS)))
    }

    /// Where the leader of a partition is, for who asked the wrong node.
    #[must_use]
    pub fn leader_hint(image: &Image, state: &PartitionState) -> LeaderHint {
        let node = state.leader.and_then(|id| image.nodes.get(&id));
        LeaderHint {
            node: state.leader,
            epoch: state.leader_epoch,
            peer_id: node.map(|node| node.peer_id.clone()),
            addresses: node.map(|node| node.addresses.clone()).unwrap_or_default(),
        }
    }

    /// The registry as the swarm needs it.
    #[must_use]
    pub fn members(image: &Image) -> Vec<Member> {
        image.nodes.values().filter_map(reachable).map(|n| Member { peer: n.peer, addresses: n.addresses }).collect()
    }
}

impl rafka_dht::Hosted for Cluster {
    fn image(&self) -> Option<Arc<Image>> {
        Some(self.images.current())
    }
}

/// A registered node whose peer id parses; addresses that do not are left out.
fn reachable(node: &Node) -> Option<Reachable> {
    let parsed = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect();
    let (addresses, lanes) = (parsed(&node.addresses), parsed(&node.lanes));
    Some(Reachable { id: node.id, peer: node.peer_id.parse().ok()?, addresses, lanes })
}

/// True if the request changes metadata; the others are reads that any node answers.
#[must_use]
pub fn is_change(request: &Admin) -> bool {
    !matches!(
        request,
        Admin::DescribeTopics { .. }
            | Admin::DescribeCluster
            | Admin::DescribeSwarm
            | Admin::DescribeLogDirs
            | Admin::InitProducerId
    )
}
