//! One node of the swarm: the node's own control swarm, and small stand-ins for the rest of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use rafka_broker::metadata::Role;
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::{Clock, Found, Key, Lookup, NoFallback, NoHosted, Resolver, Verifier, Version};
use rafka_model::limits::HELLO_MEMBERS_MAX;
use rafka_model::{BootId, BrokerEpoch, DirectoryId, MetadataIndex, NodeId};
use rafka_node::mesh::joiner::{self, Outcome, Search};
use rafka_node::mesh::{self, GossipMessage, Mesh, OpenDoor, Request, Started, SwarmRecorder};
use rafka_node::metrics::Metrics;
use rafka_protocols::Protocol;
use rafka_protocols::address::BootstrapAddress;
use rafka_protocols::certificate::Certificate;
use rafka_protocols::gossip::Hint;
use rafka_protocols::hello::{self, Admission, ClusterKey, Hello, Member};
use rafka_protocols::register::{self, Joiner, Reply};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::publish::{self, Settled};
use super::registry::{self, HEARTBEAT, Registry, View};

/// An exchange with the registry.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause before a registration is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// A hint arrived somewhere.
pub(super) struct Heard {
    /// The node's number in the swarm.
    pub(super) number: usize,
    /// Which hint.
    pub(super) index: MetadataIndex,
    /// When.
    pub(super) at: Instant,
}

/// What every node of a swarm has in common.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Clock,
    pub(super) heard: mpsc::UnboundedSender<Heard>,
    /// `/memory/0`, or `/ip4/127.0.0.1/tcp/0`.
    pub(super) listen: Multiaddr,
}

/// A running node. Dropping it ends it like a crash: nobody is told.
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) node: NodeId,
    pub(super) mesh: Mesh,
    pub(super) settled: watch::Receiver<Settled>,
    /// From the start of the search to the registration.
    pub(super) registered_in: Duration,
    began: Instant,
    swarm: AbortHandle,
    _tasks: JoinSet<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

/// Where a node comes from.
pub(super) struct Origin {
    pub(super) number: usize,
    pub(super) key: Keypair,
    /// Random for each start.
    pub(super) incarnation: [u8; 16],
    /// The one address that it knows; the founder knows none.
    pub(super) bootstrap: Option<Multiaddr>,
}

impl Peer {
    /// Finds the cluster, joins it, and runs.
    pub(super) async fn start(origin: Origin, around: &Surroundings) -> Result<Self, String> {
        let began = Instant::now();
        let id = origin.key.public().to_peer_id();
        let listen = vec![around.listen.clone()];
        let hello = match &origin.bootstrap {
            Some(address) => Some(find(&origin.key, &listen, address).await?),
            None => None,
        };
        let cluster = hello.as_ref().map_or_else(|| ClusterKey::new(around.registry.public_key()), |(key, _)| *key);
        let verifier = Verifier::new(cluster.id, &cluster.public_key).map_err(|error| error.to_string())?;
        let config = mesh::Config {
            key: origin.key,
            cluster: cluster.id,
            verifier,
            listen,
            door: OpenDoor::Loopback,
            clock: around.clock.clone(),
        };
        let started = mesh::start(config, SwarmRecorder::new(&Metrics::new())).await.map_err(|e| e.to_string())?;
        let Started { mesh, inbound, gossip, task, .. } = started;
        let swarm = task.abort_handle();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(around.registry.clone(), inbound));
        tasks.spawn(listen_to(origin.number, gossip, around.heard.clone()));
        let joiner = joiner(origin.incarnation, id, &mesh);
        let (node, epoch) = match hello {
            None => {
                let founded = around.registry.found(joiner.registration(&id)).map_err(|failure| failure.to_string())?;
                (founded.node, founded.epoch)
            }
            Some((key, hello)) => register(&mesh, &key, &hello, &joiner).await?,
        };
        let registered_in = began.elapsed();
        tasks.spawn(live(around.registry.clone(), node, epoch));
        tasks.spawn(follow(mesh.clone(), around.registry.views()));
        let (settled, settled_seen) = watch::channel(Settled::default());
        tasks.spawn(publish::run(around.registry.clone(), mesh.clone(), node, around.clock.clone(), settled));
        Ok(Self { id, node, mesh, settled: settled_seen, registered_in, began, swarm, _tasks: tasks })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> Multiaddr {
        self.mesh.listening().into_iter().next().unwrap_or_else(Multiaddr::empty)
    }

    /// Since it set out to find the cluster.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Asks the swarm's DHT.
pub(super) struct Via(pub(super) Mesh);

impl Lookup for Via {
    async fn get(&self, key: Key, min: Version) -> Found {
        self.0.dht_get(key, min).await
    }
}

/// A resolver with an empty cache, no image of its own and nobody to fall back on.
pub(super) type ColdResolver = Resolver<Via, NoFallback, NoHosted>;

pub(super) fn cold_resolver(mesh: &Mesh, around: &Surroundings) -> ColdResolver {
    Resolver::new(Via(mesh.clone()), NoFallback, NoHosted, around.registry.verifier(), around.clock.clone())
}

async fn find(key: &Keypair, listen: &[Multiaddr], address: &Multiaddr) -> Result<(ClusterKey, Hello), String> {
    let bootstrap = [BootstrapAddress::Direct(address.clone())];
    let search = Search { key, listen, bootstrap: &bootstrap, expect: None, cluster: None, nominee: None };
    match joiner::search(search, |_| Ok(())).await {
        Ok(Outcome::Join(cluster, hello, _)) => Ok((cluster, *hello)),
        Ok(Outcome::Found) => Err("a node that only joins was told to found".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn joiner(incarnation: [u8; 16], id: PeerId, mesh: &Mesh) -> Joiner {
    let mut directory = [0; 16];
    let digest = id.to_bytes();
    directory.copy_from_slice(&digest[digest.len() - 16..]);
    Joiner {
        directory: DirectoryId(directory),
        boot: BootId([1; 16]),
        incarnation,
        addresses: mesh.listening().iter().map(ToString::to_string).collect(),
        lanes: Vec::new(),
        kafka: Default::default(),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features_max: 1,
        unclean: false,
    }
}

/// Registers with the voter that the hello names, over the mesh, until it is accepted.
async fn register(
    mesh: &Mesh,
    cluster: &ClusterKey,
    hello: &Hello,
    joiner: &Joiner,
) -> Result<(NodeId, BrokerEpoch), String> {
    let voter = hello.members.iter().find(|member| member.voter).ok_or("the hello names no voter")?;
    let peer = voter.peer().ok_or("the voter's peer id is none")?;
    let end = Instant::now() + 6 * DEADLINE;
    loop {
        let request = register::Request::Join { proof: None, node: Box::new(joiner.clone()) };
        let frame = register::encode_request(&request);
        let answer = mesh.call(peer, voter.multiaddrs(), Protocol::Register, frame, DEADLINE).await;
        let reason = match answer.map(|frame| register::decode_reply(&frame)) {
            Ok(Ok(Ok(Reply::Joined { certificate, node, epoch, .. }))) => {
                let now_ms = registry::now_ms();
                Certificate::verify(&certificate, &cluster.public_key, &mesh.local(), now_ms)
                    .map_err(|error| error.to_string())?;
                return Ok((node, epoch));
            }
            // An earlier life of this node counts as alive for a moment.
            Ok(Ok(Err(failure))) => failure.to_string(),
            Ok(other) => return Err(format!("not an answer to a registration: {other:?}")),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= end {
            return Err(reason);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Says that the node lives until another life of it has registered.
async fn live(registry: Arc<Registry>, node: NodeId, epoch: BrokerEpoch) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    loop {
        tick.tick().await;
        if registry.heartbeat(node, epoch).is_err() {
            return;
        }
    }
}

async fn follow(mesh: Mesh, mut views: watch::Receiver<Arc<View>>) {
    loop {
        let view = views.borrow_and_update().clone();
        mesh.set_members(view.members.clone());
        if views.changed().await.is_err() {
            return;
        }
    }
}

async fn listen_to(number: usize, mut gossip: mpsc::Receiver<GossipMessage>, heard: mpsc::UnboundedSender<Heard>) {
    while let Some(message) = gossip.recv().await {
        if let Hint::Meta(meta) = message.hint {
            let _ = heard.send(Heard { number, index: meta.index, at: Instant::now() });
        }
    }
}

/// Answers hello, and registrations (which only the founder is asked for).
async fn serve(registry: Arc<Registry>, mut inbound: mpsc::Receiver<Request>) {
    while let Some(Request { peer, protocol, frame, respond, .. }) = inbound.recv().await {
        let answer = match protocol {
            Protocol::Hello => Ok(hello::encode_reply(&Ok(greeting(&registry)))),
            Protocol::Register => Ok(register::encode_reply(&admit(&registry, peer, &frame))),
            _ => Err(Failure::new(ErrorCode::InvalidRequest, "a simulated node only says hello and registers")),
        };
        respond.respond(answer);
    }
}

fn admit(registry: &Registry, peer: PeerId, frame: &rafka_protocols::Frame) -> Result<Reply, Failure> {
    let invalid = |what: String| Failure::new(ErrorCode::InvalidRequest, what);
    let node = match register::decode_request(frame).map_err(|error| invalid(error.to_string()))? {
        register::Request::Join { node, .. } => *node,
        other => return Err(invalid(format!("{other:?}"))),
    };
    let registered = registry.register(node.registration(&peer))?;
    let certificate = registry.certify(&peer, registered)?.into();
    let index = registry.images().index();
    Ok(Reply::Joined { certificate, node: registered.node, epoch: registered.epoch, index, snapshot: None })
}

fn greeting(registry: &Registry) -> Hello {
    let image = registry.images().current();
    let voters = image.voters.iter().filter_map(|id| image.nodes.get(id));
    let others = image.nodes.values().filter(|node| !image.voters.contains(&node.id));
    let member = |node: &rafka_broker::metadata::Node| Member {
        peer_id: node.peer_id.clone(),
        addresses: node.addresses.clone(),
        voter: image.voters.contains(&node.id),
    };
    Hello {
        cluster: Some(ClusterKey::new(registry.public_key())),
        members: voters.chain(others).take(HELLO_MEMBERS_MAX).map(member).collect(),
        nominee: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        admission: Admission::Open,
    }
}
