//! Register: who may join, who is who, who lives.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::NodeId;
use rafka_protocols::Frame;
use rafka_protocols::certificate;
use rafka_protocols::register::{self, Joiner, Reply, Request};

use super::{Served, Service, malformed, outcome};
use crate::cluster::Cluster;
use crate::controller;
use crate::mesh::{PeerId, Standing};

impl Service {
    /// blake3 of the join token that strangers must know, if there is one.
    pub(super) fn join_token(&self) -> Option<[u8; 32]> {
        let image = self.cluster.images.current();
        image.cluster.as_ref().and_then(|cluster| cluster.join_token_hash).filter(|_| !self.insecure)
    }

    /// Checks a proof of `peer` against the token.
    fn admit(&self, peer: &PeerId, standing: Standing, proof: Option<[u8; 32]>) -> Result<(), Failure> {
        let cluster = &self.cluster;
        let denied = |message: &str| Err(Failure::new(ErrorCode::ClusterAuthorizationFailed, message));
        match self.join_token() {
            _ if self.insecure => Ok(()),
            None if standing == Standing::Stranger => {
                denied("this cluster has no join token and admits peers on loopback only")
            }
            None => Ok(()),
            Some(hash) => match proof {
                None => denied("this cluster wants a join token; give --join-token-file FILE"),
                Some(proof) if certificate::verify_proof(&proof, &hash, &cluster.id, peer, &cluster.mesh.local()) => {
                    Ok(())
                }
                Some(_) => denied("the join token is not this cluster's"),
            },
        }
    }
}

pub(super) async fn serve(service: &Service, peer: PeerId, standing: Standing, frame: &Frame) -> Served {
    let answer = match register::decode_request(frame).map_err(malformed) {
        Ok(request) => answer(service, peer, standing, request).await,
        Err(failure) => Err(failure),
    };
    (register::encode_reply(&answer), outcome(&answer))
}

async fn answer(service: &Service, peer: PeerId, standing: Standing, request: Request) -> Result<Reply, Failure> {
    let cluster = &service.cluster;
    match request {
        Request::Join { proof, node } => {
            // A member that comes back has proven itself before; its key is the proof now.
            if standing != Standing::Member {
                service.admit(&peer, standing, proof)?;
            }
            join(cluster, peer, *node).await
        }
        Request::Present { certificate } => present(cluster, peer, &certificate).await,
        Request::PresentClient { proof } => {
            service.admit(&peer, standing, proof)?;
            cluster.mesh.admit_client(peer).await;
            Ok(Reply::Admitted)
        }
        Request::Heartbeat { node, epoch, index } => {
            let controller = own(cluster, &peer, node)?;
            let beat = controller.heartbeat(node, epoch, index).await?;
            Ok(Reply::Alive { fenced: beat.fenced, index: beat.index })
        }
        Request::Leave { node, epoch } => {
            own(cluster, &peer, node)?.leave(node, epoch).await?;
            Ok(Reply::Left)
        }
    }
}

/// The controller, for a peer that speaks of itself.
fn own<'a>(cluster: &'a Cluster, peer: &PeerId, node: NodeId) -> Result<&'a controller::Handle, Failure> {
    let image = cluster.images.current();
    if image.nodes.get(&node).is_none_or(|known| known.peer_id != peer.to_string()) {
        return Err(Failure::new(ErrorCode::StaleBrokerEpoch, format!("node {node} is not peer {peer}")));
    }
    cluster.controller.as_ref().ok_or_else(|| not_controller(cluster))
}

async fn join(cluster: &Cluster, peer: PeerId, node: Joiner) -> Result<Reply, Failure> {
    let Some(controller) = &cluster.controller else { return Err(not_controller(cluster)) };
    let registered = controller.register(node.registration(&peer)).await?;
    cluster.mesh.certify(peer, Instant::now() + Duration::from_secs(24 * 3600)).await;
    Ok(Reply::Joined {
        certificate: registered.certificate,
        node: registered.node,
        epoch: registered.epoch,
        index: cluster.images.index(),
        snapshot: None,
    })
}

/// Two members that meet before their images know each other show certificates.
async fn present(cluster: &Cluster, peer: PeerId, shown: &[u8]) -> Result<Reply, Failure> {
    let verified = cluster.verify(&peer, shown)?;
    cluster.mesh.certify(peer, verified).await;
    let own = cluster.certificate.load_full().map(|own| Bytes::clone(&own));
    own.map(|certificate| Reply::Presented { certificate })
        .ok_or_else(|| Failure::new(ErrorCode::NotReady, "this node has no certificate yet"))
}

fn not_controller(cluster: &Cluster) -> Failure {
    let image = cluster.images.current();
    let failure = Failure::new(ErrorCode::NotController, "this node is not the controller");
    match cluster.controller_node(&image).and_then(|node| image.nodes.get(&node.id)) {
        None => failure,
        Some(node) => failure.with_leader(rafka_broker::LeaderHint {
            node: Some(node.id),
            epoch: rafka_model::LeaderEpoch(0),
            peer_id: Some(node.peer_id.clone()),
            addresses: node.addresses.clone(),
        }),
    }
}
