//! Members that meet show each other their certificates, so that a node whose registration has not reached the other's
//! image yet is let in all the same.

use std::sync::Arc;
use std::time::Duration;

use rafka_model::limits::CONTROL_DEADLINE_MS;
use rafka_protocols::Protocol;
use rafka_protocols::register::{self, Reply, Request};
use tokio::sync::mpsc;
use tracing::debug;

use super::Cluster;
use crate::mesh::PeerId;

/// Greets every peer that `connected` names and the image knows, once this node has a certificate.
pub async fn run(cluster: Arc<Cluster>, mut connected: mpsc::Receiver<PeerId>) {
    while let Some(peer) = connected.recv().await {
        let known = cluster.images.current().node_by_peer(&peer.to_string()).is_some();
        let Some(certificate) = cluster.certificate.load_full().filter(|_| known) else { continue };
        let frame = register::encode_request(&Request::Present { certificate: (*certificate).clone() });
        let deadline = Duration::from_millis(CONTROL_DEADLINE_MS);
        let answer = cluster.mesh.call(peer, Vec::new(), Protocol::Register, frame, deadline).await;
        match answer.map(|frame| register::decode_reply(&frame)) {
            Ok(Ok(Ok(Reply::Presented { certificate }))) => match cluster.verify(&peer, &certificate) {
                Ok(until) => cluster.mesh.certify(peer, until).await,
                Err(failure) => debug!(%peer, %failure, "the peer's certificate is not valid"),
            },
            other => debug!(%peer, ?other, "not greeted back"),
        }
    }
}
