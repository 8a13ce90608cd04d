//! The node's control swarm: one task owns it, everybody else holds a [`Mesh`].
//!
//! The swarm never does bulk work and never waits: frames pass it as pointers (the codec reads and writes them in
//! connection tasks, see `rafka_protocols::rpc`), commands and events go through bounded queues. The lane swarm
//! (`crate::lanes`) stands beside this one with the same identity and the same table of who may speak.

mod admission;
mod behaviour;
mod gate;
pub mod identity;
pub mod joiner;
mod membership;
mod recorder;
mod task;

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
pub use libp2p::{Multiaddr, PeerId};
use libp2p::{Swarm, multiaddr};
use parking_lot::Mutex;
use rafka_dht::{Clock, Found, Key, SignedRecord, Stored, Verifier, Version};
use rafka_model::ClusterId;
use rafka_model::limits::{NODE_REQUESTS_MAX, SWARM_COMMANDS_MAX};
use rafka_protocols::gossip::{self, Channel, Hint};
use rafka_protocols::lane;
use rafka_protocols::rpc::{self, CallError, Limiter, Responder};
use rafka_protocols::transport::{Connections, memory_transport, swarm_config, transport};
use rafka_protocols::{Frame, Protocol};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use admission::is_loopback;
pub use admission::{OpenDoor, Standing};
pub use membership::Member;
pub use recorder::SwarmRecorder;

/// A connection without streams is closed after this; those to members are made anew when they are needed.
const IDLE: Duration = Duration::from_secs(300);

/// A request of a peer that may ask it.
#[derive(Debug)]
pub struct Request {
    /// Who asks; authenticated by Noise.
    pub peer: PeerId,
    /// What the peer is to this node.
    pub standing: Standing,
    /// Which protocol.
    pub protocol: Protocol,
    /// The request, not yet decoded.
    pub frame: Frame,
    /// Where the answer goes.
    pub respond: Responder,
}

/// A gossip event whose source is a member.
#[derive(Debug)]
pub struct GossipMessage {
    /// Who published it; authenticated by signature.
    pub source: PeerId,
    /// What it says.
    pub hint: Hint,
}

/// A connected peer, as `rafka mesh peers` shows it.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its identity.
    pub peer: PeerId,
    /// Remote address of its newest connection.
    pub address: Option<Multiaddr>,
    /// Connections.
    pub connections: u32,
    /// Newest ping.
    pub round_trip: Option<Duration>,
    /// Program and version it claims.
    pub agent: Option<String>,
    /// A node of this cluster.
    pub member: bool,
    /// In this node's Kademlia routing table.
    pub in_routing_table: bool,
    /// In this node's gossip mesh.
    pub in_gossip_mesh: bool,
}

impl PeerInfo {
    fn new(peer: PeerId) -> Self {
        Self {
            peer,
            address: None,
            connections: 0,
            round_trip: None,
            agent: None,
            member: false,
            in_routing_table: false,
            in_gossip_mesh: false,
        }
    }
}

/// The swarm as it is now.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Addresses listened on.
    pub listening: Vec<Multiaddr>,
    /// Connected peers.
    pub peers: Vec<PeerInfo>,
    /// Entries of the Kademlia routing table.
    pub routing_table: usize,
}

/// What the swarm task can be asked.
enum Command {
    Call {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        protocol: Protocol,
        frame: Frame,
        reply: oneshot::Sender<Result<Frame, CallError>>,
    },
    Get {
        key: Key,
        min: Version,
        reply: oneshot::Sender<Found>,
    },
    Put {
        record: SignedRecord,
        holders: Vec<PeerId>,
        reply: oneshot::Sender<Stored>,
    },
    Publish {
        hint: Hint,
    },
    Dial {
        address: Multiaddr,
    },
    Certify {
        peer: PeerId,
        until: Instant,
    },
    AdmitClient {
        peer: PeerId,
    },
    Snapshot {
        reply: oneshot::Sender<Snapshot>,
    },
}

/// What the swarm is built from.
pub struct Config {
    /// Identity.
    pub key: Keypair,
    /// The cluster.
    pub cluster: ClusterId,
    /// Public half of the cluster key: what records must be signed by.
    pub verifier: Verifier,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Who is let in without proof.
    pub door: OpenDoor,
    /// Time, for the record store.
    pub clock: Clock,
}

/// A running swarm's ends.
pub struct Started {
    /// To ask it.
    pub mesh: Mesh,
    /// Requests of peers, admitted as far as their protocol demands.
    pub inbound: mpsc::Receiver<Request>,
    /// Gossip of members.
    pub gossip: mpsc::Receiver<GossipMessage>,
    /// Peers whose first connection was just made.
    pub connected: mpsc::Receiver<PeerId>,
    /// Request counters of the protocols.
    pub counters: Arc<rpc::Counters>,
    /// What the lane swarm shares with this one.
    pub shared: Shared,
    /// The swarm task; ends when every [`Mesh`] is dropped.
    pub task: tokio::task::JoinHandle<()>,
}

/// What the two swarms of a node have in common.
pub struct Shared {
    /// Identity.
    pub key: Keypair,
    /// Who may speak.
    pub gate: Arc<dyn lane::Gate>,
    /// What becomes of requests, and what they may hold.
    pub serve: lane::Serve,
    /// Where requests are counted.
    pub counters: Arc<rpc::Counters>,
}

/// Why the swarm did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why.
        reason: String,
    },
    /// A part of the swarm refused its configuration.
    #[error("cannot build the swarm: {0}")]
    Build(String),
}

/// Starts the swarm and waits until it listens on every address.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start(config: Config, recorder: SwarmRecorder) -> Result<Started, StartError> {
    let local = config.key.public().to_peer_id();
    let exchanges = rpc::Config::default();
    let (counters, budget) = (exchanges.counters.clone(), exchanges.budget.clone());
    let rpc = rpc::Behaviour::new(Some(&config.cluster), exchanges);
    let places = rpc.places();
    let kad = rafka_dht::behaviour(local, config.verifier.clone(), rafka_dht::Mode::Server, config.clock);
    let behaviour =
        behaviour::Behaviour::new(&config.key, kad, gossip::config(&config.cluster), rpc).map_err(StartError::Build)?;
    let mut swarm = Swarm::new(connections(&config.key, &config.listen)?, behaviour, local, swarm_config(IDLE));
    for channel in Channel::ALL {
        let topic = channel.topic(&config.cluster);
        swarm.behaviour_mut().gossip.subscribe(&topic).map_err(|e| StartError::Build(e.to_string()))?;
    }
    listen_on(&mut swarm, &config.listen).await?;

    let (commands, command_queue) = mpsc::channel(SWARM_COMMANDS_MAX);
    let (members, members_seen) = watch::channel(Vec::new());
    let (held, held_seen) = watch::channel(rafka_dht::Held::default());
    let (listening, listening_seen) = watch::channel(swarm.listeners().cloned().collect());
    let (inbound_queue, inbound) = mpsc::channel(NODE_REQUESTS_MAX);
    let (gossip_queue, gossip) = mpsc::channel(SWARM_COMMANDS_MAX);
    let (connected_queue, connected) = mpsc::channel(SWARM_COMMANDS_MAX);
    let admission: admission::Shared = Arc::new(Mutex::new(admission::Admission::new(config.door)));
    let sink = lane_sink(admission.clone(), inbound_queue.clone());
    let shared = Shared {
        key: config.key,
        gate: Arc::new(admission::LaneGate(admission.clone())),
        serve: lane::Serve { sink, places, budget },
        counters: counters.clone(),
    };
    let task = task::Task {
        swarm,
        cluster: config.cluster,
        queries: rafka_dht::Queries::new(local, config.verifier),
        admission,
        membership: membership::Membership::new(local),
        commands: command_queue,
        members: members_seen,
        inbound: inbound_queue,
        gossip: gossip_queue,
        connected: connected_queue,
        listening,
        recorder,
        peers: std::collections::HashMap::new(),
        held,
    };
    let task = tokio::spawn(task.run());
    let mesh =
        Mesh { local, commands, members, listening: listening_seen, held: held_seen, limiter: Limiter::default() };
    Ok(Started { mesh, inbound, gossip, connected, counters, shared, task })
}

/// Requests that come through lanes go where the others go.
fn lane_sink(admission: admission::Shared, queue: mpsc::Sender<Request>) -> Box<dyn Fn(rpc::Inbound) + Send + Sync> {
    Box::new(move |inbound| {
        let standing = admission.lock().standing(&inbound.peer, Instant::now());
        task::hand_over(&queue, standing, inbound);
    })
}

/// What connections are made of: TCP, or memory where all addresses are of this process (simulations).
pub(crate) fn connections(key: &Keypair, listen: &[Multiaddr]) -> Result<Connections, StartError> {
    let in_memory = |address: &Multiaddr| matches!(address.iter().next(), Some(multiaddr::Protocol::Memory(_)));
    let is_simulated = !listen.is_empty() && listen.iter().all(in_memory);
    let made = if is_simulated { memory_transport(key) } else { transport(key) };
    made.map_err(|error| StartError::Build(error.to_string()))
}

/// The TCP port in an address.
#[must_use]
pub fn tcp_port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| if let multiaddr::Protocol::Tcp(port) = part { Some(port) } else { None })
}

/// Listens on every address and waits for the addresses to be bound, so that an error is found at the start.
async fn listen_on<B>(swarm: &mut Swarm<B>, addresses: &[Multiaddr]) -> Result<(), StartError>
where
    B: libp2p::swarm::NetworkBehaviour,
{
    use futures::StreamExt;
    use libp2p::swarm::SwarmEvent;
    for address in addresses {
        let failed = |reason: String| StartError::Listen { address: address.clone(), reason };
        let listener = swarm.listen_on(address.clone()).map_err(|e| failed(e.to_string()))?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address, .. } if listener_id == listener => {
                    swarm.add_external_address(address);
                    break;
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                    return Err(failed(reason.err().map_or_else(|| "closed".to_owned(), |e| e.to_string())));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Handle of the swarm. Cheap to clone; the swarm ends with the last one.
#[derive(Clone)]
pub struct Mesh {
    local: PeerId,
    commands: mpsc::Sender<Command>,
    members: watch::Sender<Vec<Member>>,
    listening: watch::Receiver<Vec<Multiaddr>>,
    held: watch::Receiver<rafka_dht::Held>,
    limiter: Limiter,
}

impl Mesh {
    /// This node's peer id.
    #[must_use]
    pub fn local(&self) -> PeerId {
        self.local
    }

    /// Addresses that the swarm listens on.
    #[must_use]
    pub fn listening(&self) -> Vec<Multiaddr> {
        self.listening.borrow().clone()
    }

    /// The DHT records held here, as of the last tick.
    #[must_use]
    pub fn held(&self) -> rafka_dht::Held {
        *self.held.borrow()
    }

    /// Told whenever the listen addresses change.
    #[must_use]
    pub fn listening_changes(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.listening.clone()
    }

    /// Tells the swarm who is in the cluster: it keeps connections to them and lets them in.
    pub fn set_members(&self, members: Vec<Member>) {
        self.members.send_if_modified(|old| {
            let changed = *old != members;
            if changed {
                *old = members;
            }
            changed
        });
    }

    /// One exchange with `peer`, at most `deadline` long. `addresses` help when the peer is no member yet.
    ///
    /// Cancel safety: dropping the future gives the place up; the peer may still carry the request out.
    ///
    /// # Errors
    /// [`CallError`]; after `ConnectionClosed` and `Timeout` the request may have been carried out.
    pub async fn call(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        protocol: Protocol,
        frame: Frame,
        deadline: Duration,
    ) -> Result<Frame, CallError> {
        let exchange = async {
            let _place = self.limiter.acquire(peer, protocol).await;
            let (reply, answer) = oneshot::channel();
            let command = Command::Call { peer, addresses, protocol, frame, reply };
            self.commands.send(command).await.map_err(|_| CallError::ConnectionClosed)?;
            answer.await.unwrap_or(Err(CallError::ConnectionClosed))
        };
        tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(CallError::Timeout))
    }

    /// Asks the DHT; finds nothing when the swarm has stopped.
    pub async fn dht_get(&self, key: Key, min: Version) -> Found {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Get { key, min, reply }).await.is_err() {
            return Found::default();
        }
        answer.await.unwrap_or_default()
    }

    /// Hands a record to `holders`; `None` when the swarm has stopped.
    pub async fn dht_put(&self, record: SignedRecord, holders: Vec<PeerId>) -> Option<Stored> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Put { record, holders, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Connects to whoever listens at `address`; what becomes of it shows in the connections.
    pub async fn dial(&self, address: Multiaddr) {
        let _ = self.commands.send(Command::Dial { address }).await;
    }

    /// Gossips a hint; lossy, also when this node's queue is full.
    pub fn publish(&self, hint: Hint) {
        let _ = self.commands.try_send(Command::Publish { hint });
    }

    /// `peer` showed a valid certificate.
    pub async fn certify(&self, peer: PeerId, until: Instant) {
        let _ = self.commands.send(Command::Certify { peer, until }).await;
    }

    /// `peer` proved that it knows the join token.
    pub async fn admit_client(&self, peer: PeerId) {
        let _ = self.commands.send(Command::AdmitClient { peer }).await;
    }

    /// The swarm as it is now; `None` when it has stopped.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Snapshot { reply }).await.ok()?;
        answer.await.ok()
    }
}
