//! The registry: the controller's own logic over a log in memory, and what it signs.
//!
//! It stands for the founder's metadata quorum. Nodes reach it over the mesh to register; what the watch feed would
//! bring them (members, records to publish) they take from here, so that a simulation of hundreds of nodes measures
//! the mesh and not the feed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libp2p::PeerId;
use rafka_broker::controller::{Answer, Command, Config, Controller, Registered, Registration};
use rafka_broker::metadata::Image;
use rafka_broker::request::{Admin, NewTopic};
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::directory::{self, Quorum};
use rafka_dht::{Key, SignedRecord, Signer, Verifier, Version};
use rafka_model::limits::CERTIFICATE_MS;
use rafka_model::{BrokerEpoch, ClusterId, Monotonic, NodeId};
use rafka_node::cluster::Cluster;
use rafka_node::image::ImageStore;
use rafka_node::mesh::Member;
use rafka_protocols::certificate::{Certificate, Role};
use tokio::sync::watch;

/// Silence after which a node is out of service; shorter than a real cluster's, so that churn heals while one watches.
const SESSION: Duration = Duration::from_millis(2_000);
/// How often nodes say that they live.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(400);
/// Members are told of at most this often: a real quorum's group commit and watch feed fold changes as well.
const TELL_EVERY: Duration = Duration::from_millis(20);

/// Shared by all nodes of a swarm.
pub(super) struct Registry {
    controller: Mutex<Controller>,
    images: ImageStore,
    signer: Signer,
    began: Instant,
    view: watch::Sender<Arc<View>>,
}

/// An image, and what every node would make of it, made once.
#[derive(Default)]
pub(super) struct View {
    pub(super) image: Arc<Image>,
    /// Every node that is registered.
    pub(super) members: Vec<Member>,
    /// Those that may hold records.
    pub(super) in_service: Vec<PeerId>,
}

impl View {
    fn of(image: Arc<Image>) -> Self {
        let in_service = image.nodes.values().filter(|node| !node.fenced);
        let in_service = in_service.filter_map(|node| node.peer_id.parse().ok()).collect();
        Self { members: Cluster::members(&image), in_service, image }
    }
}

impl Registry {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let config = Config { session_ms: SESSION.as_millis() as u64, ..Config::default() };
        Self {
            controller: Mutex::new(Controller::new(Image::default(), config, Monotonic::default())),
            images: ImageStore::default(),
            signer: Signer::new(secret),
            began: Instant::now(),
            view: watch::Sender::default(),
        }
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.signer.cluster_id()
    }

    pub(super) fn public_key(&self) -> [u8; 32] {
        self.signer.public_key()
    }

    pub(super) fn verifier(&self) -> Verifier {
        Verifier::new(self.cluster(), &self.public_key()).expect("a key and its own hash")
    }

    pub(super) fn images(&self) -> &ImageStore {
        &self.images
    }

    pub(super) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Fences who is silent, and tells the members who the others are. Runs as long as the swarm.
    pub(super) async fn run(self: Arc<Self>) {
        let mut images = self.images.subscribe();
        let mut tick = tokio::time::interval(TELL_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            {
                let mut controller = self.controller();
                controller.tick(self.now());
                self.commit(&mut controller);
            }
            if images.has_changed().unwrap_or(false) {
                let image = images.borrow_and_update().clone();
                self.view.send_replace(Arc::new(View::of(image)));
            }
        }
    }

    pub(super) fn found(&self, founder: Registration) -> Result<Registered, Failure> {
        let public_key = self.public_key();
        self.registered(Command::Found { public_key, join_token_hash: None, feature_level: 1, founder })
    }

    pub(super) fn register(&self, registration: Registration) -> Result<Registered, Failure> {
        self.registered(Command::Register(registration))
    }

    fn registered(&self, command: Command) -> Result<Registered, Failure> {
        match self.decide(command) {
            Answer::Registered(registered) => Ok(registered),
            Answer::Refused(failure) => Err(failure),
            other => Err(Failure::new(ErrorCode::Unknown, format!("{other:?}"))),
        }
    }

    pub(super) fn create_topics(&self, topics: Vec<NewTopic>, seed: [u8; 32]) -> Result<(), Failure> {
        let request = Admin::CreateTopics { topics, validate_only: false };
        match self.decide(Command::Admin { request, seed }) {
            Answer::Admin(rafka_broker::request::AdminReply::Topics(made)) => {
                made.into_iter().try_for_each(|topic| topic.result.map(drop))
            }
            Answer::Refused(failure) => Err(failure),
            other => Err(Failure::new(ErrorCode::Unknown, format!("{other:?}"))),
        }
    }

    /// A node says that it lives; the error says that another registration has replaced it.
    pub(super) fn heartbeat(&self, node: NodeId, epoch: BrokerEpoch) -> Result<(), Failure> {
        let mut controller = self.controller();
        let heard = controller.heartbeat(node, epoch, self.images.index(), self.now());
        self.commit(&mut controller);
        heard.map(drop)
    }

    /// Signs that `peer` is this node.
    pub(super) fn certify(&self, peer: &PeerId, registered: Registered) -> Result<Vec<u8>, Failure> {
        let certificate = Certificate {
            cluster_id: self.cluster(),
            peer_id: peer.to_string(),
            node: Some(registered.node),
            role: Role::Node,
            not_after_ms: now_ms() + CERTIFICATE_MS as i64,
            serial: registered.epoch.0,
        };
        let signed = certificate.sign(|message| self.signer.sign_bytes(message));
        signed.map_err(|error| Failure::new(ErrorCode::Unknown, error.to_string()))
    }

    /// The records that `node` shall publish and that are newer than those it was given.
    pub(super) fn records_for(
        &self,
        image: &Image,
        node: NodeId,
        given: &mut BTreeMap<Key, Version>,
    ) -> Vec<SignedRecord> {
        let keys = directory::published_by(image, node);
        let mut records = Vec::new();
        for body in keys.iter().filter_map(|key| directory::body_of(image, Quorum::default(), key)) {
            if given.get(&body.key).is_none_or(|known| *known < body.version) {
                given.insert(body.key.clone(), body.version);
                records.extend(self.signer.sign(body));
            }
        }
        given.retain(|key, _| keys.contains(key));
        records
    }

    /// What the image says must be in the directory.
    pub(super) fn record_count(&self) -> usize {
        directory::records_of(&self.images.current(), Quorum::default()).len()
    }

    fn decide(&self, command: Command) -> Answer {
        let mut controller = self.controller();
        let decision = controller.evaluate(command, self.now());
        self.commit(&mut controller);
        decision.answer
    }

    fn commit(&self, controller: &mut Controller) {
        for entry in controller.take_entries() {
            self.images.apply(entry).expect("the controller writes entries that follow its image");
        }
    }

    fn controller(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Monotonic {
        Monotonic::default().plus(self.began.elapsed())
    }
}

pub(super) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
