//! Opens and accepts lanes: one connection for each, and one substream on it.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, Stream,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use rafka_model::ClusterId;
use rafka_model::limits::LANE_STREAMS_MAX;

use super::Class;
use crate::rpc::{CallError, dial_words};

/// Who may bring lanes in. Asked for each connection, before it costs anything.
pub trait Gate: Send + Sync + 'static {
    /// True if `peer`, which connects from `remote`, is a member or an admitted client. It has a connection then.
    fn admits(&self, peer: &PeerId, remote: &Multiaddr) -> bool;

    /// The last connection of `peer` is gone.
    fn left(&self, peer: &PeerId);
}

/// What the behaviour tells the owner of the swarm.
#[derive(Debug)]
pub enum Event {
    /// A lane that this end opened, of the class that was asked for, or one that the peer opened.
    Lane {
        /// The other end.
        peer: PeerId,
        /// Of those that this end opened.
        class: Option<Class>,
        /// The lane.
        stream: Stream,
    },
    /// A lane could not be opened.
    Failed {
        /// The other end.
        peer: PeerId,
        /// That was asked for.
        class: Class,
        /// Why.
        error: CallError,
    },
}

/// The behaviour of the lane swarm; it comes behind those that refuse connections.
pub struct Behaviour {
    protocol: StreamProtocol,
    gate: Arc<dyn Gate>,
    /// Connections that are being made for a lane, until they carry it.
    opening: HashMap<ConnectionId, (PeerId, Class)>,
    /// Connections that peers have made.
    inbound: HashMap<PeerId, usize>,
    actions: VecDeque<ToSwarm<Event, Infallible>>,
}

impl Behaviour {
    /// Lanes of `cluster`, for whom `gate` admits.
    #[must_use]
    pub fn new(cluster: &ClusterId, gate: Arc<dyn Gate>) -> Self {
        Self {
            protocol: super::name(cluster),
            gate,
            opening: HashMap::new(),
            inbound: HashMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// Begins to open a lane of `class` to `peer`; one event tells what comes of it.
    pub fn open(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, class: Class) {
        // Of a port of its own: from the listen port there is only one connection to another listen port.
        let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses);
        let opts = dial.allocate_new_port().build();
        self.opening.insert(opts.connection_id(), (peer, class));
        self.actions.push_back(ToSwarm::Dial { opts });
    }

    fn failed(&mut self, connection: ConnectionId, error: CallError) {
        if let Some((peer, class)) = self.opening.remove(&connection) {
            self.actions.push_back(ToSwarm::GenerateEvent(Event::Failed { peer, class, error }));
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.gate.admits(&peer, remote) {
            return Err(ConnectionDenied::new("lanes are for members and admitted clients"));
        }
        *self.inbound.entry(peer).or_default() += 1;
        Ok(Handler::new(self.protocol.clone(), None))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let class = self.opening.get(&connection).map(|(_, class)| *class);
        Ok(Handler::new(self.protocol.clone(), class))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::DialFailure(failure) => {
                self.failed(failure.connection_id, CallError::Dial(dial_words(failure.error)));
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.failed(closed.connection_id, CallError::Dial("the connection was closed at once".to_owned()));
                if closed.endpoint.is_listener()
                    && let Some(count) = self.inbound.get_mut(&closed.peer_id)
                {
                    *count -= 1;
                    if *count == 0 {
                        self.inbound.remove(&closed.peer_id);
                        self.gate.left(&closed.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, made: THandlerOutEvent<Self>) {
        match made {
            Made::Opened(Ok(stream)) => {
                if let Some((_, class)) = self.opening.remove(&connection) {
                    let event = Event::Lane { peer, class: Some(class), stream };
                    self.actions.push_back(ToSwarm::GenerateEvent(event));
                }
            }
            Made::Opened(Err(error)) => self.failed(connection, error),
            Made::Accepted(stream) => {
                self.actions.push_back(ToSwarm::GenerateEvent(Event::Lane { peer, class: None, stream }));
            }
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Of one connection.
pub struct Handler {
    protocol: StreamProtocol,
    /// The lane that the connection was made for, until it was asked for.
    wants: Option<Class>,
    made: VecDeque<Made>,
    accepted: usize,
}

/// Substreams, which a task takes from here.
#[derive(Debug)]
pub enum Made {
    /// The one that was asked for.
    Opened(Result<Stream, CallError>),
    /// One that the peer has opened.
    Accepted(Stream),
}

impl Handler {
    fn new(protocol: StreamProtocol, wants: Option<Class>) -> Self {
        Self { protocol, wants, made: VecDeque::new(), accepted: 0 }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Made;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if self.wants.take().is_some() {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: self.listen_protocol() });
        }
        match self.made.pop_front() {
            Some(made) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(made)),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, never: Infallible) {
        match never {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.made.push_back(Made::Opened(Ok(protocol)));
            }
            // Those over the limit are reset.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
                if self.accepted < LANE_STREAMS_MAX =>
            {
                self.accepted += 1;
                self.made.push_back(Made::Accepted(protocol));
            }
            ConnectionEvent::DialUpgradeError(error) => {
                let error = CallError::Dial(format!("no lane on the connection: {}", error.error));
                self.made.push_back(Made::Opened(Err(error)));
            }
            _ => {}
        }
    }
}
