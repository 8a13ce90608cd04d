//! The Kafka door: its listeners, and the tasks that accept there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rafka_kafka::advertise::{Advertise, DEFAULT_LISTENER, registered};
use rafka_kafka::listener::{self, Places};
use rafka_kafka::{Door, metrics};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::Cluster;
use crate::config;
use crate::service::kafka::Desk;
use crate::tasks::Tasks;

/// A listener that is bound and does not accept yet.
pub(crate) struct Bound {
    name: String,
    listener: TcpListener,
    address: SocketAddr,
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
pub(crate) async fn bind(config: &config::Kafka) -> Result<Vec<Bound>, BindError> {
    let mut bound = Vec::new();
    for (name, address) in config.listeners() {
        let failed = |error| BindError { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        bound.push(Bound { name, listener, address });
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

    /// What the node registers for it: name and address.
    pub(crate) fn registered(&self, config: &config::Kafka) -> (String, String) {
        let advertised = config.advertise.iter().find(|advertise| advertise.name == self.name);
        (self.name.clone(), registered(self.address, advertised.map(|advertise| &advertise.address)))
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
}

/// Accepts connections at `bound` from the time on at which the node is in service.
pub(crate) fn open(config: &config::Kafka, bound: Vec<Bound>, setup: Setup, tasks: &Tasks) {
    let Setup { desk, cluster, metrics, accept, end, connections } = setup;
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
    let door = Arc::new(Door::new(desk, door, metrics));
    let places = Arc::new(Places::default());
    for Bound { name, listener, .. } in bound {
        let (door, places) = (door.clone(), places.clone());
        let (cluster, connections) = (cluster.clone(), connections.clone());
        let stop = listener::Stop { accept: accept.clone(), end: end.clone() };
        tasks.spawn("kafka listener", &accept, async move {
            // Who connects earlier waits in the operating system's queue: an empty cluster would be no answer.
            let mut standing = cluster.standing_changes();
            if standing.wait_for(|standing| standing.in_service).await.is_ok() {
                listener::run(door, listener, name.into(), places, stop, connections).await;
            }
        });
    }
}
