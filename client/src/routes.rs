//! Finding leaders: the DHT first, a node's registry only when the DHT does not know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::{
    Answer, Clock, Counts, Fallback, Found, Key, Lookup, NoHosted, ResolveError, Resolver, Route, TopicView, Verifier,
    Version,
};
use rafka_model::limits::ROUTE_CACHE_TOPICS_MAX;
use rafka_model::{MetadataIndex, PartitionId, TopicId, TopicName};
use rafka_protocols::Protocol;
use rafka_protocols::resolve::{self, Subject};

use crate::mesh::{Handle, Intent, Trouble};
use crate::{Error, ErrorKind};

/// Asks the DHT through the client's own swarm.
#[derive(Debug)]
struct Dht(Handle);

impl Lookup for Dht {
    async fn get(&self, key: Key, min: Version) -> Found {
        self.0.dht_get(key, min).await
    }
}

/// Asks any node for what its metadata image says.
#[derive(Debug)]
struct AnyNode {
    mesh: Handle,
    disabled: bool,
    deadline: Duration,
}

impl Fallback for AnyNode {
    async fn ask(&self, key: &Key) -> Result<Answer, String> {
        if self.disabled {
            return Err("asking nodes is switched off".to_owned());
        }
        let subject = match key {
            Key::Quorum => Subject::Quorum,
            Key::Topic(name) => Subject::Topic(name.clone()),
            Key::Name(id) => Subject::TopicId(*id),
            Key::Shard(id, shard) => Subject::Shard(*id, *shard),
            Key::Node(id) => Subject::Node(*id),
        };
        let frame = resolve::encode_request(&[subject]);
        let decode = |frame: &_| resolve::decode_reply(frame, 1);
        let (records, _) = self
            .mesh
            .ask_any(Protocol::Resolve, &frame, self.deadline, Intent::Read, decode)
            .await
            .map_err(|trouble| trouble.to_string())?;
        match records.into_iter().next() {
            Some(Ok(record)) => Ok(Answer::Records(vec![record])),
            Some(Err(failure)) if is_unknown(failure.code) => Ok(Answer::Unknown),
            Some(Err(failure)) => Err(failure.to_string()),
            None => Err("the answer is empty".to_owned()),
        }
    }
}

fn is_unknown(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
}

/// Routes of one client.
pub(crate) struct Routes {
    resolver: Resolver<Dht, AnyNode, NoHosted>,
    mesh: Handle,
    /// Topics that this client made or changed: older records will not do.
    expected: Mutex<BTreeMap<TopicName, Version>>,
    changed: AtomicU64,
}

impl Routes {
    pub(crate) fn new(
        mesh: Handle,
        verifier: Verifier,
        clock: Clock,
        deadline: Duration,
        fallback_disabled: bool,
    ) -> Self {
        let fallback = AnyNode { mesh: mesh.clone(), disabled: fallback_disabled, deadline };
        let resolver = Resolver::new(Dht(mesh.clone()), fallback, NoHosted, verifier, clock);
        Self { resolver, mesh, expected: Mutex::new(BTreeMap::new()), changed: AtomicU64::new(0) }
    }

    /// The leader of a partition.
    ///
    /// Cancel safe.
    pub(crate) async fn route(&self, topic: &TopicName, partition: PartitionId) -> Result<Arc<Route>, Error> {
        let min = self.expected_version(topic);
        match self.resolver.route(topic, partition, min).await {
            Ok(route) => {
                self.mesh.learn(route.peer, &route.addresses);
                self.mesh.learn_lanes(route.peer, &route.lanes);
                Ok(Arc::new(route))
            }
            Err(error) => Err(unresolved(&error, format!("no leader found for {topic}/{partition}"))),
        }
    }

    /// Partitions and configs of a topic.
    ///
    /// Cancel safe.
    pub(crate) async fn topic(&self, topic: &TopicName) -> Result<TopicView, Error> {
        let min = self.expected_version(topic);
        let found = self.resolver.topic(topic, min).await;
        found.map_err(|error| unresolved(&error, format!("topic {:?} cannot be looked up", topic.as_str())))
    }

    /// The name of a topic.
    ///
    /// Cancel safe.
    pub(crate) async fn name(&self, id: TopicId) -> Result<TopicName, Error> {
        let found = self.resolver.topic(id, Version::ANY).await;
        found.map(|view| view.name).map_err(|error| unresolved(&error, format!("topic {id} cannot be looked up")))
    }

    /// `topic` changed at `index`: records from before will not do.
    pub(crate) fn expect(&self, topic: &TopicName, index: MetadataIndex) {
        self.changed.fetch_max(index.0, Ordering::Relaxed);
        let version = Version::new(0, index);
        let mut expected = self.expected.lock();
        if expected.len() >= ROUTE_CACHE_TOPICS_MAX {
            expected.clear();
        }
        let known = expected.entry(topic.clone()).or_insert(version);
        *known = version.max(*known);
        self.resolver.expect(topic, version);
    }

    /// Index of this client's last change: who describes topics to it must know of that.
    pub(crate) fn changed(&self) -> MetadataIndex {
        MetadataIndex(self.changed.load(Ordering::Relaxed))
    }

    fn expected_version(&self, topic: &TopicName) -> Version {
        self.expected.lock().get(topic).copied().unwrap_or(Version::ANY)
    }

    /// A node that was asked along `route` refused. True if that says something about the route.
    pub(crate) fn refused(&self, route: &Route, failure: &Failure) -> bool {
        use ErrorCode as C;
        let about_route = matches!(
            failure.code,
            C::NotLeaderOrFollower
                | C::LeaderNotAvailable
                | C::FencedLeaderEpoch
                | C::UnknownLeaderEpoch
                | C::UnknownTopicOrPartition
                | C::UnknownTopicId
                | C::NotReady
                | C::NotCoordinator
                | C::CoordinatorNotAvailable
        );
        match &failure.leader {
            Some(hint) => self.resolver.learn(route, hint),
            None if about_route => self.resolver.doubt(route),
            None => {}
        }
        about_route
    }

    /// The exchange along `route` broke.
    pub(crate) fn broken(&self, route: &Route, trouble: &Trouble) {
        match trouble {
            Trouble::Refused(failure) => {
                self.refused(route, failure);
            }
            Trouble::Call(_) => self.resolver.unreachable(route),
            Trouble::Malformed(_) => self.resolver.doubt(route),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.resolver.counts()
    }
}

fn unresolved(error: &ResolveError, what: String) -> Error {
    match error {
        ResolveError::UnknownTopic { topic } => {
            let failure = Failure::new(error.code(), "");
            Error::refused(format!("topic {topic:?} not found"), &failure, None)
        }
        ResolveError::UnknownPartition { topic, partition, partitions } => {
            let what = format!("partition {partition} of topic {:?} not found", topic.as_str());
            Error::refused(what, &Failure::new(error.code(), format!("it has {partitions} partitions")), None)
        }
        ResolveError::NoLeader { .. } | ResolveError::UnknownNode { .. } => {
            Error::refused(what, &Failure::new(error.code(), error.to_string()), None)
        }
        ResolveError::Unavailable { .. } => Error::new(ErrorKind::Unreachable, what).because(error.to_string()),
    }
}
