//! The front desk of the mesh door: one file for each protocol turns frames into requests and replies into frames.
//!
//! Requests come from the swarm through one bounded queue. Each is served by its own task, at most
//! [`NODE_REQUESTS_MAX`] at once; beyond, the queue fills and peers are told that the node is busy.

mod admin;
mod fetch;
mod group;
mod hello;
pub(crate) mod kafka;
mod produce;
mod register;
mod resolve;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::NODE_REQUESTS_MAX;
use rafka_protocols::{DecodeError, Frame, Protocol};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::cluster::Cluster;
use crate::config;
use crate::datadir::DataDir;
use crate::groups::Groups;
use crate::mesh::Request;
use crate::metrics::Metrics;
use crate::partitions::Partitions;

/// What the services work on.
pub(crate) struct Service {
    /// Shared state of the node.
    pub(crate) cluster: Arc<Cluster>,
    /// The partitions that this node hosts.
    pub(crate) partitions: Arc<Partitions>,
    /// Where they are.
    pub(crate) data: Arc<DataDir>,
    /// The coordinators of groups on this node.
    pub(crate) groups: Groups,
    /// Metrics of requests.
    pub(crate) metrics: Arc<Metrics>,
    /// Everybody is let in, whatever the cluster says (`--insecure`).
    pub(crate) insecure: bool,
    /// Configs of new topics that differ from the built-in defaults; what the creator sets wins.
    pub(crate) topic_defaults: config::Topic,
}

/// Serves requests until `stop`, then lets those under way finish, but not longer than until `end`; `tracker` tells when
/// they have.
pub(crate) async fn run(
    service: Arc<Service>,
    mut inbound: mpsc::Receiver<Request>,
    stop: CancellationToken,
    end: CancellationToken,
    tracker: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(NODE_REQUESTS_MAX));
    let mut number = 0u64;
    loop {
        let request = tokio::select! {
            request = inbound.recv() => request,
            () = stop.cancelled() => None,
        };
        let Some(request) = request else { break };
        number += 1;
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let span = tracing::debug_span!("request", number, peer = %request.peer, protocol = request.protocol.word());
        let service = service.clone();
        let serve = async move {
            service.serve(request).await;
            drop(place);
        };
        tracker.spawn(end.clone().run_until_cancelled_owned(serve.instrument(span)));
    }
    tracker.close();
}

impl Service {
    async fn serve(&self, request: Request) {
        let began = Instant::now();
        let Request { peer, standing, protocol, frame, mut respond } = request;
        let (reply, outcome) = match protocol {
            Protocol::Hello => hello::serve(self, &frame),
            Protocol::Register => register::serve(self, peer, standing, &frame).await,
            Protocol::Watch => watch::serve(self, peer, &frame).await,
            Protocol::Resolve => resolve::serve(self, &frame).await,
            Protocol::Admin => admin::serve(self, standing, &frame).await,
            Protocol::Produce => produce::serve(&self.partitions, frame).await,
            Protocol::Fetch => fetch::serve(&self.partitions, frame).await,
            Protocol::Group => group::serve(self, peer, frame, &mut respond).await,
        };
        self.metrics.request(protocol, outcome, began.elapsed());
        respond.respond(Ok(reply));
    }
}

/// The first error of a reply, for metrics: `None` is success.
type Outcome = Option<ErrorCode>;

/// A frame that is not a request of its protocol.
fn malformed(error: DecodeError) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, format!("the request cannot be read: {error}"))
}

fn outcome<T>(answer: &Result<T, Failure>) -> Outcome {
    answer.as_ref().err().map(|failure| failure.code)
}

/// A reply and what to count it as.
type Served = (Frame, Outcome);
