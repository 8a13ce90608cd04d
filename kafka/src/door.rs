//! The door: what all connections share.

use std::net::SocketAddr;
use std::sync::Arc;

use rafka_broker::group::OFFSETS_TOPIC;
use rafka_broker::metadata::{Image, Topic};
use rafka_model::limits::{KAFKA_CONNECTIONS_MAX, KAFKA_FRAME_BYTES_MAX, KAFKA_IDLE_MS, KAFKA_REQUEST_BYTES_MAX};
use rafka_model::{PartitionId, TopicId, TopicName};

use crate::advertise::{Advertise, Endpoint};
use crate::budget::Budget;
use crate::desk::FrontDesk;
use crate::metrics::Metrics;
use crate::wire::{Str, Uuid};

/// Level of `metadata.version` that clients are told: Kafka 4.0's last. Tools derive from it what they may use.
pub const METADATA_VERSION: i16 = 25;
/// Lowest level of it that Kafka 4 knows.
pub const METADATA_VERSION_MIN: i16 = 7;

/// Settings of the door.
#[derive(Clone, Debug)]
pub struct Config {
    /// Topics are made when a client asks for their metadata and allows it (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Largest request (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Bytes of requests of all connections together.
    pub request_bytes_max: usize,
    /// A connection without requests for this long is closed (`connections.max.idle.ms`).
    pub idle_ms: u64,
    /// Connections in total (`max.connections`).
    pub connections_max: usize,
    /// Connections from one address (`max.connections.per.ip`).
    pub connections_per_address_max: usize,
    /// What clients are told.
    pub advertise: Advertise,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auto_create_topics: true,
            frame_bytes_max: KAFKA_FRAME_BYTES_MAX,
            request_bytes_max: KAFKA_REQUEST_BYTES_MAX,
            idle_ms: KAFKA_IDLE_MS,
            connections_max: KAFKA_CONNECTIONS_MAX,
            connections_per_address_max: KAFKA_CONNECTIONS_MAX,
            advertise: Advertise::default(),
        }
    }
}

/// What all connections share.
pub struct Door<D> {
    /// The node behind it.
    pub(crate) desk: D,
    pub(crate) config: Config,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Budget,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// The address of ours that it used.
    pub local: SocketAddr,
    /// Name of the listener that it came in by.
    pub listener: Arc<str>,
    /// What it calls itself.
    pub id: Option<Str>,
}

impl<D: FrontDesk> Door<D> {
    /// A door in front of `desk`.
    pub fn new(desk: D, config: Config, metrics: Arc<Metrics>) -> Self {
        let budget = Budget::new(config.request_bytes_max);
        Self { desk, config, metrics, budget }
    }

    /// Where `client` finds every node in service.
    pub(crate) fn endpoints(&self, client: &Client, image: &Image) -> Vec<Endpoint> {
        self.config.advertise.endpoints(client, self.desk.node(), image)
    }

    /// Where `client` finds these nodes, each once.
    pub(crate) fn endpoints_of(&self, client: &Client, image: &Image, mut nodes: Vec<i32>) -> Vec<Endpoint> {
        nodes.sort_unstable();
        nodes.dedup();
        let mut all = self.endpoints(client, image);
        all.retain(|endpoint| nodes.binary_search(&endpoint.node).is_ok());
        all
    }
}

/// The topic of this name, legal or not.
pub(crate) fn topic_by_name<'a>(image: &'a Image, name: &str) -> Option<&'a Topic> {
    image.topic(&TopicName::new(name).ok()?)
}

/// Does the cluster keep this topic for itself?
pub(crate) fn is_internal(topic: &str) -> bool {
    topic == OFFSETS_TOPIC
}

/// The partition of a topic that an index of the wire names, if it exists.
pub(crate) fn partition_of(topic: &Topic, index: i32) -> Option<PartitionId> {
    let partition = PartitionId(u32::try_from(index).ok()?);
    topic.partition(partition).map(|_| partition)
}

/// A topic's id on the wire.
pub(crate) fn uuid(id: TopicId) -> Uuid {
    Uuid(id.0)
}

/// The topic that an id of the wire names.
pub(crate) fn topic_id(uuid: Uuid) -> TopicId {
    TopicId(uuid.0)
}
