//! The client: a connection to a cluster, from which producers, consumers and admins are made.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use rafka_broker::request::{AdminReply, SwarmDescription};
use rafka_dht::{Clock, Counts, Route, TopicView};
use rafka_model::config::nearest;
use rafka_model::{ClusterId, Monotonic, PartitionId, ProducerId, Timestamp, TopicName};
use rafka_protocols::{Protocol, admin};

use crate::backoff::Backoff;
use crate::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use crate::mesh::{self, Handle, Intent, PeerInfo};
use crate::routes::Routes;
use crate::{Admin, Consumer, Error, ErrorKind, Producer};

/// A connection to a cluster. Cheap to clone; the swarm behind it ends when the last clone, and everything made from
/// it, is dropped.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    config: ClientConfig,
    mesh: Handle,
    routes: Routes,
    clock: Clock,
}

impl Client {
    /// Finds the cluster through the first of the bootstrap addresses that answers, and joins its mesh as a client.
    ///
    /// Cancel safe: dropping the future ends everything that it started.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an address that is none; [`ErrorKind::Unreachable`] with the cause at each address
    /// when none answers; [`ErrorKind::Denied`] without the right join token; [`ErrorKind::Timeout`].
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> {
        let clock = rafka_dht::clock::system();
        let (mesh, verifier) = mesh::connect(&config, Arc::clone(&clock)).await?;
        let deadline = Duration::from_millis(config.request_timeout_ms);
        let routes = Routes::new(mesh.clone(), verifier, Arc::clone(&clock), deadline, config.fallback_disabled);
        Ok(Self(Arc::new(Inner { config, mesh, routes, clock })))
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.0.mesh.cluster_id()
    }

    /// The identity that this client made up for itself.
    #[must_use]
    pub fn local_peer_id(&self) -> PeerId {
        self.0.mesh.local()
    }

    /// A producer with its own batches and buffer.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn producer(&self, config: ProducerConfig) -> Producer {
        Producer::start(self.clone(), config)
    }

    /// A consumer: a stream of records. Returns once the topics of the subscription were found.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a topic that is named does not exist; [`ErrorKind::Unreachable`].
    pub async fn consumer(&self, config: ConsumerConfig) -> Result<Consumer, Error> {
        Consumer::start(self.clone(), config).await
    }

    /// Topics, configs, offsets, the cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// How the client sees the mesh.
    #[must_use]
    pub fn mesh(&self) -> Mesh {
        Mesh(self.clone())
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0.mesh
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.0.routes
    }

    pub(crate) fn now(&self) -> Monotonic {
        (self.0.clock)()
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.0.config.request_timeout_ms)
    }

    /// A producer id that nobody else has.
    pub(crate) async fn new_producer_id(&self) -> Result<ProducerId, Error> {
        let what = "cannot get a producer id";
        let frame = admin::encode_request(&rafka_broker::request::Admin::InitProducerId);
        let (mesh, deadline) = (self.handle(), self.deadline());
        let asked = mesh.ask_any(Protocol::Admin, &frame, deadline, Intent::Read, admin::decode_reply).await;
        match asked.map_err(|trouble| trouble.into_error(what))? {
            (AdminReply::Producer(id), _) => Ok(id),
            _ => Err(Error::new(ErrorKind::Failed, what).because("the answer is of another kind than the request")),
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.0.config.retry_backoff_ms, self.0.config.retry_backoff_ms_max)
    }

    /// A topic as its record tells it; if there is none, the error names the topic that may have been meant.
    pub(crate) async fn find_topic(&self, name: &TopicName) -> Result<TopicView, Error> {
        match self.routes().topic(name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.with_suggestion(name.as_str(), error).await),
            found => found,
        }
    }

    pub(crate) async fn with_suggestion(&self, name: &str, error: Error) -> Error {
        let Ok(Ok(topics)) = tokio::time::timeout(Duration::from_secs(2), self.admin().topics()).await else {
            return error;
        };
        match nearest(name, topics.iter().map(|topic| topic.name.as_str()).filter(|other| *other != name)) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error,
        }
    }
}

/// The wall clock.
pub(crate) fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The mesh as a client sees it.
#[derive(Clone)]
pub struct Mesh(Client);

impl Mesh {
    /// Nodes that the client knows, and whether it is connected to them at the moment.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.0.handle().peers()
    }

    /// Round trip of a small exchange with a node over a standing connection (which is made first, and not counted).
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] and [`ErrorKind::OutcomeUnknown`].
    pub async fn ping(&self, peer: PeerId) -> Result<Duration, Error> {
        let pinged = self.0.handle().ping(peer, self.0.deadline()).await;
        pinged.map_err(|trouble| trouble.into_error(format!("ping of {peer}")))
    }

    /// The swarm of one node: whom it is connected with, and how.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`].
    pub async fn swarm(&self, peer: PeerId) -> Result<SwarmDescription, Error> {
        let (frame, handle) = (admin::encode_request(&rafka_broker::request::Admin::DescribeSwarm), self.0.handle());
        let answer = handle.exchange(peer, Protocol::Admin, &frame, self.0.deadline(), admin::decode_reply).await;
        match answer.map_err(|trouble| trouble.into_error(format!("swarm of {peer}")))? {
            AdminReply::Swarm(swarm) => Ok(*swarm),
            _ => Err(Error::new(ErrorKind::Failed, "the answer is of another kind than the request")),
        }
    }

    /// Finds the leader of a partition, and says how: from which source, over how many hops, asking whom.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a topic or partition that does not exist; [`ErrorKind::Unreachable`] while it has no
    /// leader, or nobody can be asked.
    pub async fn route(&self, topic: &TopicName, partition: PartitionId) -> Result<Route, Error> {
        match self.0.routes().route(topic, partition).await {
            Ok(route) => Ok(Arc::unwrap_or_clone(route)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(self.0.with_suggestion(topic.as_str(), error).await)
            }
            Err(error) => Err(error),
        }
    }

    /// How often leaders were found where, since the client was made.
    #[must_use]
    pub fn resolve_counters(&self) -> Counts {
        self.0.routes().counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_move_between_tasks() {
        fn moves<T: Send + Unpin>() {}
        fn shares<T: Clone + Send + Sync>() {}
        shares::<Client>();
        shares::<Producer>();
        shares::<Admin>();
        shares::<Mesh>();
        shares::<crate::Pending>();
        moves::<Consumer>();
        moves::<crate::Pending>();
    }
}
