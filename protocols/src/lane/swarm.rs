//! The swarm of the lanes: beside the control swarm, with the same identity, on a port of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, connection_limits, memory_connection_limits};
use rafka_model::ClusterId;
use rafka_model::limits::{CONNECTIONS_MAX, PEER_CONNECTIONS_MAX, PENDING_CONNECTIONS_MAX, SWARM_COMMANDS_MAX};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info, warn};

use super::behaviour::{self, Event, Gate};
use super::driver::{Driver, End};
use super::handle::Handle;
use super::pool::{Lanes, Open, Slots};
use super::{Class, Counters};
use crate::rpc::{self, Budget, CallError, Inbound};
use crate::transport::{Connections, swarm_config};

/// A connection whose lane has ended is closed after this.
const IDLE: Duration = Duration::from_secs(5);
/// Share of the machine's memory above which new connections are refused.
const MEMORY_SHARE_MAX: f64 = 0.9;

/// What a lane swarm is made of.
pub struct Setup {
    /// This process.
    pub local: PeerId,
    /// How connections are made.
    pub connections: Connections,
    /// Whose lanes.
    pub cluster: ClusterId,
    /// Where peers find it; nowhere, if it only opens lanes.
    pub listen: Vec<Multiaddr>,
    /// Take any free port where the one that was named is taken.
    pub any_port: bool,
    /// Who may bring lanes in.
    pub gate: Arc<dyn Gate>,
    /// What becomes of requests; without it they are declined.
    pub serve: Option<Serve>,
    /// Where requests are counted.
    pub exchanges: Arc<rpc::Counters>,
}

/// What requests that come through lanes may have of the node.
pub struct Serve {
    /// Takes each request, at once: it must not wait.
    pub sink: Box<dyn Fn(Inbound) + Send + Sync>,
    /// Requests being served at once.
    pub places: Arc<Semaphore>,
    /// Bytes that they may hold.
    pub budget: Budget,
}

/// A running lane swarm.
pub struct Started {
    /// To call through it.
    pub lanes: Lanes,
    /// Where it listens.
    pub listening: Vec<Multiaddr>,
    /// Its task; ends when every [`Lanes`] is dropped.
    pub task: JoinHandle<()>,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct StartError {
    /// The address.
    pub address: Multiaddr,
    /// Why.
    pub reason: String,
}

#[derive(NetworkBehaviour)]
struct Composed {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    lanes: behaviour::Behaviour,
}

/// Starts a lane swarm and waits until it listens.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start(setup: Setup) -> Result<Started, StartError> {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_CONNECTIONS_MAX))
        .with_max_pending_outgoing(Some(PENDING_CONNECTIONS_MAX))
        .with_max_established(Some(CONNECTIONS_MAX))
        .with_max_established_per_peer(Some(PEER_CONNECTIONS_MAX));
    let composed = Composed {
        limits: connection_limits::Behaviour::new(limits),
        memory: memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE_MAX),
        lanes: behaviour::Behaviour::new(&setup.cluster, setup.gate),
    };
    let mut swarm = Swarm::new(setup.connections, composed, setup.local, swarm_config(IDLE));
    let mut listening = Vec::new();
    for address in setup.listen {
        let bound = match listen(&mut swarm, address.clone()).await {
            Err(error) if setup.any_port => {
                warn!(%error, "taking any free port for lanes");
                listen(&mut swarm, with_port(&address, 0)).await?
            }
            bound => bound?,
        };
        listening.push(bound);
    }
    let counters = Arc::new(Counters { exchanges: setup.exchanges, ..Counters::default() });
    let slots = Arc::new(Slots::new(counters));
    let (opens, opened) = mpsc::channel(SWARM_COMMANDS_MAX);
    let task = Task { swarm, slots: slots.clone(), serve: setup.serve.map(Arc::new), opens: opened };
    Ok(Started { lanes: Lanes { slots, opens }, listening, task: tokio::spawn(task.run()) })
}

/// `address` with another TCP port.
#[must_use]
pub fn with_port(address: &Multiaddr, port: u16) -> Multiaddr {
    address.iter().map(|part| if let Protocol::Tcp(_) = part { Protocol::Tcp(port) } else { part }).collect()
}

async fn listen(swarm: &mut Swarm<Composed>, address: Multiaddr) -> Result<Multiaddr, StartError> {
    let failed = |reason: String| StartError { address: address.clone(), reason };
    let listener = swarm.listen_on(address.clone()).map_err(|error| failed(error.to_string()))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address, .. } if listener_id == listener => return Ok(address),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                return Err(failed(reason.err().map_or_else(|| "closed".to_owned(), |error| error.to_string())));
            }
            _ => {}
        }
    }
}

struct Task {
    swarm: Swarm<Composed>,
    slots: Arc<Slots>,
    serve: Option<Arc<Serve>>,
    opens: mpsc::Receiver<Open>,
}

/// A lane that ended.
struct Over {
    peer: PeerId,
    /// Of a lane that this end opened.
    wanted: Option<Class>,
    /// Of one on which the peer has spoken.
    opened: Option<Class>,
    lane: Handle,
    end: End,
}

impl Task {
    async fn run(mut self) {
        // With the task end the lanes.
        let mut lanes: JoinSet<Over> = JoinSet::new();
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event, &mut lanes),
                open = self.opens.recv() => match open {
                    Some(Open { peer, addresses, class }) => {
                        self.swarm.behaviour_mut().lanes.open(peer, addresses, class);
                    }
                    None => return,
                },
                Some(over) = lanes.join_next() => match over {
                    Ok(over) => self.on_over(over),
                    Err(error) => warn!(%error, "the task of a lane died"),
                },
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<ComposedEvent>, lanes: &mut JoinSet<Over>) {
        match event {
            SwarmEvent::Behaviour(ComposedEvent::Lanes(Event::Lane { peer, class, stream })) => {
                let counters = self.slots.counters.clone();
                let (lane, named) = (Handle::new(), Arc::new(OnceLock::new()));
                let on_open = {
                    let (slots, lane, named, is_own) =
                        (self.slots.clone(), lane.clone(), named.clone(), class.is_some());
                    move |class| {
                        let _ = named.set(class);
                        slots.add(peer, class, lane, is_own);
                    }
                };
                let driver = Driver::new(stream, peer, &lane, self.serve.clone(), counters, class, Box::new(on_open));
                lanes.spawn(async move {
                    let end = driver.run().await;
                    Over { peer, wanted: class, opened: named.get().copied(), lane, end }
                });
            }
            SwarmEvent::Behaviour(ComposedEvent::Lanes(Event::Failed { peer, class, error })) => {
                debug!(%peer, ?class, %error, "a lane cannot be opened");
                self.slots.failed(peer, class, error);
            }
            SwarmEvent::NewListenAddr { address, .. } => info!(%address, "listening for lanes"),
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "a listener for lanes failed"),
            _ => {}
        }
    }

    fn on_over(&mut self, over: Over) {
        let Over { peer, wanted, opened, lane, end } = over;
        let counters = &self.slots.counters;
        let error = match end {
            End::Closed => None,
            End::Broken(error) => {
                counters.broken.inc();
                debug!(%peer, ?wanted, ?opened, %error, "a lane broke off");
                Some(CallError::of(&error))
            }
            End::Violated(violation) => {
                counters.violated.inc();
                warn!(%peer, ?wanted, ?opened, %violation, "a lane was cut off");
                Some(CallError::ConnectionClosed)
            }
        };
        match (opened, wanted) {
            (Some(class), _) => self.slots.ended(peer, class, &lane),
            (None, Some(class)) => {
                let why = error.map_or_else(|| "the peer closed it".to_owned(), |error| error.to_string());
                self.slots.failed(peer, class, CallError::Dial(format!("no lane was granted: {why}")));
            }
            (None, None) => {}
        }
    }
}
