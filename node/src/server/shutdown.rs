//! The end of the process, in stages under one deadline: stop accepting → tell the cluster → end coordinators, release and drain →
//! flush and mark clean → leave the mesh. The clean marker is written only if everything was flushed.

use std::time::{Duration, Instant};

use rafka_model::limits::CONTROL_DEADLINE_MS;
use rafka_protocols::Protocol;
use rafka_protocols::register::{self, Request};
use tracing::{info, warn};

use super::Server;

/// What the parting word and the last replies may take of the deadline, each.
const PARTING_SHARE: u32 = 8;

impl Server {
    /// Stops the node; true if everything was flushed, so that the next start need not recover.
    pub async fn shutdown(self) -> bool {
        let (began, deadline) = (Instant::now(), self.shutdown_deadline());
        let left = || deadline.saturating_sub(began.elapsed()).max(Duration::from_millis(500));
        info!("stopping");
        self.health.set_ready(false);
        self.stop.accept.cancel();
        // Tell the cluster, so that nobody waits for the session to end. Without an answer it finds out by itself.
        if tokio::time::timeout(deadline / PARTING_SHARE, self.leave()).await.is_err() {
            warn!("the controller did not answer to the parting word");
        }
        self.stop.membership.cancel();
        // Members of groups look for their coordinator elsewhere; those who wait for each other are told so at once.
        self.groups.stop();
        self.stop.groups.cancel();
        // Waiters are released with an error that sends them elsewhere; their replies still go out.
        self.partitions.release_waiters();
        if tokio::time::timeout(deadline / PARTING_SHARE, self.stop.requests.wait()).await.is_err() {
            warn!(left = self.stop.requests.len(), "requests were still under way");
        }
        let flushed = match tokio::time::timeout(left(), self.partitions.shutdown()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                warn!(%error, "not everything was flushed; the next start recovers");
                false
            }
            Err(_) => {
                warn!("flushing took longer than the deadline; the next start recovers");
                false
            }
        };
        self.stop_quorum().await;
        let clean = flushed && self.data.mark_clean().inspect_err(|error| warn!(%error, "not marked clean")).is_ok();
        self.stop.ops.cancel();
        let _ = tokio::time::timeout(left(), self.tasks.ended()).await;
        info!(clean, took_ms = began.elapsed().as_millis(), "stopped");
        clean
    }

    /// Ends the node as a crash would, as far as one process can: nothing is flushed, nobody is told.
    pub async fn kill(self) {
        for token in [&self.stop.accept, &self.stop.membership, &self.stop.groups, &self.stop.ops] {
            token.cancel();
        }
        self.stop_quorum().await;
        self.stop.requests.close();
        self.stop.requests.wait().await;
        self.tasks.ended().await;
    }

    async fn stop_quorum(&self) {
        self.stop.quorum.cancel();
        if let Some(raft) = &self.raft {
            raft.shutdown().await;
        }
    }

    async fn leave(&self) {
        let standing = self.cluster.standing();
        let (Some(node), Some(epoch)) = (standing.node, standing.epoch) else { return };
        let outcome = match &self.cluster.controller {
            Some(controller) => controller.leave(node, epoch).await,
            None => {
                let frame = register::encode_request(&Request::Leave { node, epoch });
                let deadline = Duration::from_millis(CONTROL_DEADLINE_MS);
                self.cluster.ask_controller(Protocol::Register, frame, deadline).await.map(drop)
            }
        };
        if let Err(failure) = outcome {
            warn!(%failure, "the cluster could not be told that this node leaves");
        }
    }
}
