//! From a topic's name to the node that leads a partition.
//!
//! hosted image → cache → DHT → metered fallback to an authoritative node. What comes out is a hint:
//! the leader epoch fences a wrong one, and the answer of the wrong node is fed back ([`Resolver::learn`]).
//! Routes of one topic never go back to a lower version while it is in the cache.

mod cache;
mod counters;
mod fetch;
mod find;
mod route;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::PeerId;
use rafka_broker::LeaderHint;
use rafka_broker::metadata::Image;
use rafka_model::limits::DHT_FALLBACKS_MAX;
use rafka_model::{ClusterId, LeaderEpoch, NodeId, PartitionId, TopicId, TopicName, TopicPartition};
use tokio::sync::Semaphore;

use crate::{Clock, Found, Key, Verifier, Version};
use cache::{Cache, Learned};

pub use counters::{Counters, Counts, Source};
pub use route::{NodeAt, ResolveError, Route, TopicRef, TopicView};

/// Asks the DHT: in practice a command to the task that owns the swarm, and from there [`crate::Queries::get`].
pub trait Lookup: Send + Sync {
    /// Looks `key` up; the lookup may end at the first valid record of at least `min`.
    fn get(&self, key: Key, min: Version) -> impl Future<Output = Found> + Send;
}

impl<T: Lookup> Lookup for Arc<T> {
    fn get(&self, key: Key, min: Version) -> impl Future<Output = Found> + Send {
        (**self).get(key, min)
    }
}

/// What an authoritative node answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Signed records, that of the key among them; others are taken along.
    Records(Vec<bytes::Bytes>),
    /// There is no such thing.
    Unknown,
}

/// Asks a node that has the metadata image, by whatever protocol. The last resort.
pub trait Fallback: Send + Sync {
    /// Asks for the record of `key`. The error is a text for people: who was asked, and what went wrong.
    fn ask(&self, key: &Key) -> impl Future<Output = Result<Answer, String>> + Send;
}

impl<T: Fallback> Fallback for Arc<T> {
    fn ask(&self, key: &Key) -> impl Future<Output = Result<Answer, String>> + Send {
        (**self).ask(key)
    }
}

/// No way to ask anyone: only the DHT counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFallback;

impl Fallback for NoFallback {
    async fn ask(&self, _key: &Key) -> Result<Answer, String> {
        Err("no authoritative node to ask".to_owned())
    }
}

/// What this process knows by itself.
pub trait Hosted: Send + Sync {
    /// The metadata image, whole or filtered to what the node hosts.
    fn image(&self) -> Option<Arc<Image>>;
}

impl<T: Hosted> Hosted for Arc<T> {
    fn image(&self) -> Option<Arc<Image>> {
        (**self).image()
    }
}

/// Knows nothing by itself: a light client.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHosted;

impl Hosted for NoHosted {
    fn image(&self) -> Option<Arc<Image>> {
        None
    }
}

/// Resolves topics and partitions. Shared by reference; every method is safe to cancel.
pub struct Resolver<L, F, H> {
    lookup: L,
    fallback: F,
    hosted: H,
    verifier: Verifier,
    clock: Clock,
    cache: Mutex<Cache>,
    fallbacks: Semaphore,
    counters: Counters,
}

/// What it took to find something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effort {
    source: Source,
    origin: Source,
    hops: u32,
    asked: Vec<PeerId>,
}

impl Effort {
    /// A route is as far away as the farthest of the records it needs.
    fn add(&mut self, other: Effort) {
        self.source = self.source.max(other.source);
        self.origin = self.origin.max(other.origin);
        self.hops = self.hops.max(other.hops);
        let fresh: Vec<_> = other.asked.into_iter().filter(|peer| !self.asked.contains(peer)).collect();
        self.asked.extend(fresh);
    }
}

impl<L: Lookup, F: Fallback, H: Hosted> Resolver<L, F, H> {
    /// A resolver with an empty cache.
    #[must_use]
    pub fn new(lookup: L, fallback: F, hosted: H, verifier: Verifier, clock: Clock) -> Self {
        Self {
            lookup,
            fallback,
            hosted,
            verifier,
            clock,
            cache: Mutex::new(Cache::default()),
            fallbacks: Semaphore::new(DHT_FALLBACKS_MAX),
            counters: Counters::default(),
        }
    }

    /// Counters by source: `rafka_resolve_total{source}`.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// The cluster whose topics it resolves.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.verifier.cluster_id()
    }

    /// Finds the leader of `partition`. `min` is the least version that will do: [`Version::ANY`], or what the
    /// caller learned from a hint or from the creation of the topic; the DHT is then asked again with short waits
    /// before any other way is tried.
    ///
    /// # Errors
    /// [`ResolveError`]; see [`ResolveError::code`] for what to tell a client.
    pub async fn route(
        &self,
        topic: impl Into<TopicRef>,
        partition: PartitionId,
        min: Version,
    ) -> Result<Route, ResolveError> {
        let found = self.find_route(&topic.into(), partition, min).await;
        self.counters.count(found.as_ref().map(|route| route.source));
        found
    }

    /// Finds a topic: how many partitions it has and what a client must know of its configuration.
    ///
    /// # Errors
    /// As [`Self::route`].
    pub async fn topic(&self, topic: impl Into<TopicRef>, min: Version) -> Result<TopicView, ResolveError> {
        let found = self.find_topic(&topic.into(), min).await;
        self.counters.count(found.as_ref().map(|view| view.source));
        found
    }

    /// Finds a node's addresses.
    ///
    /// # Errors
    /// As [`Self::route`].
    pub async fn node(&self, id: NodeId) -> Result<NodeAt, ResolveError> {
        let mut effort = Effort::default();
        let found = self.find_node(id, &mut effort).await;
        self.counters.count(found.as_ref().map(|_| effort.source));
        found
    }

    /// Finds the voters of the metadata quorum.
    ///
    /// # Errors
    /// As [`Self::route`].
    pub async fn quorum(&self) -> Result<crate::QuorumRecord, ResolveError> {
        let found = self.fetch(&Key::Quorum, Version::ANY).await;
        self.counters.count(found.as_ref().map(|fetched| fetched.effort.source));
        let record = found?.record;
        record.quorum().cloned().ok_or_else(|| ResolveError::unusable(&Key::Quorum))
    }

    /// Takes the answer of a node that was asked along `route` and does not lead: the next route goes where the
    /// hint points, or, if it names nobody, looks for a later record.
    pub fn learn(&self, route: &Route, hint: &LeaderHint) {
        self.learn_at(TopicPartition { topic: route.topic, partition: route.partition }, hint);
        if hint.node.is_none() || hint.epoch < route.leader_epoch {
            self.doubt(route);
        }
    }

    /// As [`Self::learn`], for an answer that came without a route.
    pub fn learn_at(&self, at: TopicPartition, hint: &LeaderHint) {
        let (Some(node), Some(peer)) = (hint.node, hint.peer_id.as_ref().and_then(|text| text.parse().ok())) else {
            return;
        };
        let addresses = hint.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        let learned = Learned { epoch: hint.epoch, at: NodeAt { id: node, peer, addresses, lanes: Vec::new() } };
        self.cache().learn(at, learned);
    }

    /// `route` was wrong and nobody said what is right: the next one asks for later records.
    pub fn doubt(&self, route: &Route) {
        let at = TopicPartition { topic: route.topic, partition: route.partition };
        let mut cache = self.cache();
        cache.forget_learned(at, route.leader_epoch);
        cache.doubt(&route.key());
    }

    /// The node at the end of `route` could not be reached: both its address and its leadership are in doubt.
    pub fn unreachable(&self, route: &Route) {
        self.doubt(route);
        self.cache().doubt(&Key::Node(route.leader));
    }

    /// A hint (gossip, an admin answer) said that `topic` changed at `version`: a cached older record no longer does.
    pub fn expect(&self, topic: &TopicName, version: Version) {
        self.cache().expect(&Key::Topic(topic.clone()), version);
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Each step leaves the cache whole, so a panic elsewhere does not spoil it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was learned of a partition, if it is later than `epoch`; at the same epoch a record that names a
    /// leader is right.
    fn learned(&self, topic: TopicId, partition: PartitionId, epoch: LeaderEpoch, led: bool) -> Option<Learned> {
        let learned = self.cache().learned(TopicPartition { topic, partition })?;
        (learned.epoch > epoch || learned.epoch == epoch && !led).then_some(learned)
    }
}

#[cfg(test)]
mod tests;
