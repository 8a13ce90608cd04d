//! The Kafka door: its listeners, and the tasks that accept there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rafka_broker::metadata::Role;
use rafka_kafka::advertise::{Advertise, DEFAULT_LISTENER, registered};
use rafka_kafka::desk::FrontDesk;
use rafka_kafka::listener::{self, Places};
use rafka_kafka::{Door, metrics};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::Cluster;
use crate::config;
use crate::config::Routing;
use crate::gateway::{self, Errands, Gateway};
use crate::service::kafka::Desk;
use crate::tasks::Tasks;

/// A listener that is bound and does not accept yet.
pub(crate) struct Bound {
    name: String,
    listener: TcpListener,
    address: SocketAddr,
    routing: Routing,
}

/// A listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the Kafka door cannot listen on {address}: {error}{}", hint(error))]
pub struct BindError {
    /// The configured address.
    pub address: SocketAddr,
    /// What the operating system said.
    pub error: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "\n  hint: another program (another node, or Kafka itself) uses this port; choose another with --kafka-listen, any free one with port 0, or none"
        }
        io::ErrorKind::AddrNotAvailable => "\n  hint: --kafka-listen must name an address of this machine",
        _ => "",
    }
}

/// Opens the listeners of the configuration.
///
/// # Errors
/// [`BindError`] of the first that cannot be opened; none is then.
pub(crate) async fn bind(config: &config::Kafka, role: Role) -> Result<Vec<Bound>, BindError> {
    let mut bound = Vec::new();
    for (name, address) in config.listeners() {
        let failed = |error| BindError { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let routing = config.routing_of(&name, role);
        bound.push(Bound { name, listener, address, routing });
    }
    Ok(bound)
}

impl Bound {
    /// Where it listens, as people write it: the default listener without its name.
    pub(crate) fn shown(&self) -> String {
        match self.name.as_str() {
            DEFAULT_LISTENER => self.address.to_string(),
            name => format!("{name}={}", self.address),
        }
    }

    /// What the node registers for it: name and address. Other nodes tell their clients of it; so nothing for a listener
    /// that routes through the mesh, whose clients know no other node and whom no client of others shall meet.
    pub(crate) fn registered(&self, config: &config::Kafka) -> Option<(String, String)> {
        if self.routing == Routing::Mesh {
            return None;
        }
        let advertised = config.advertise.iter().find(|advertise| advertise.name == self.name);
        Some((self.name.clone(), registered(self.address, advertised.map(|advertise| &advertise.address))))
    }
}

/// What the door needs of the node.
pub(crate) struct Setup {
    pub(crate) desk: Desk,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) metrics: Arc<metrics::Metrics>,
    /// No new connections, no new requests.
    pub(crate) accept: CancellationToken,
    /// Nothing at all any more.
    pub(crate) end: CancellationToken,
    /// Connections under way.
    pub(crate) connections: TaskTracker,
    /// Memory for batches that were relayed.
    pub(crate) relayed_bytes_max: usize,
}

/// Accepts connections at `bound` from the time on at which the node is in service.
pub(crate) fn open(config: &config::Kafka, bound: Vec<Bound>, setup: Setup, tasks: &Tasks) {
    let Setup { desk, cluster, metrics, accept, end, connections, relayed_bytes_max } = setup;
    let advertise =
        Advertise { own: config.advertise.iter().map(|told| (told.name.clone(), told.address.clone())).collect() };
    let door = rafka_kafka::Config {
        auto_create_topics: config.auto_create_topics,
        frame_bytes_max: config.request_bytes_max,
        request_bytes_max: config.requests_bytes_max,
        idle_ms: config.idle_ms,
        connections_max: config.connections_max,
        connections_per_address_max: config.connections_per_address_max,
        advertise,
    };
    let stop = listener::Stop { accept, end };
    let ways = Ways { cluster, places: Arc::new(Places::default()), stop, connections };
    let (mesh, direct): (Vec<_>, Vec<_>) = bound.into_iter().partition(|bound| bound.routing == Routing::Mesh);
    if !mesh.is_empty() {
        let (requests, stop, end) = (ways.connections.clone(), ways.stop.accept.clone(), ways.stop.end.clone());
        let errands = Errands { requests, stop, end };
        let gateway = Gateway::new(gateway::Setup { desk: desk.clone(), cache_bytes_max: relayed_bytes_max, errands });
        tasks.spawn("gateway cache", &ways.stop.accept, gateway.clone().follow());
        let door = Arc::new(Door::new(gateway, door.clone(), metrics.clone()));
        mesh.into_iter().for_each(|bound| ways.accept(bound, door.clone(), tasks));
    }
    let door = Arc::new(Door::new(desk, door, metrics));
    direct.into_iter().for_each(|bound| ways.accept(bound, door.clone(), tasks));
}

/// What all listeners share, however they route.
struct Ways {
    cluster: Arc<Cluster>,
    places: Arc<Places>,
    stop: listener::Stop,
    connections: TaskTracker,
}

impl Ways {
    fn accept<D: FrontDesk>(&self, bound: Bound, door: Arc<Door<D>>, tasks: &Tasks) {
        let Bound { name, listener, .. } = bound;
        let (cluster, places) = (self.cluster.clone(), self.places.clone());
        let (stop, connections) = (self.stop.clone(), self.connections.clone());
        tasks.spawn("kafka listener", &self.stop.accept, async move {
            // Who connects earlier waits in the operating system's queue: an empty cluster would be no answer.
            let mut standing = cluster.standing_changes();
            if standing.wait_for(|standing| standing.in_service).await.is_ok() {
                listener::run(door, listener, name.into(), places, stop, connections).await;
            }
        });
    }
}
