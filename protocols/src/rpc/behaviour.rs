//! The behaviour that a swarm carries for all protocols.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::request_response::{self, Message, OutboundFailure, OutboundRequestId, ProtocolSupport, ResponseChannel};
use libp2p::swarm::handler::multi::MultiHandler;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::ClusterId;
use rafka_model::limits::{
    EXCHANGE_MS_MAX, NODE_REQUEST_BYTES_MAX, NODE_REQUESTS_MAX, PEER_CALLS_MAX, PEER_REQUESTS_MAX, PEER_STREAMS_MAX,
    STRANGER_REQUEST_BYTES_MAX,
};
use tokio::sync::Semaphore;

use super::call::{Call, Reply, Waiting};
use super::codec::{Codec, Request, RequestKind, Response, ResponseKind};
use super::responder::Claim;
use super::{Budget, CallError, Counters, Inbound, Responder};
use crate::protocol::PROTOCOLS;
use crate::{Frame, Protocol};

/// Calls to one peer and protocol that [`Behaviour::send`] lets through. Callers hold a permit of the
/// [`Limiter`](super::Limiter), which is stricter; this is for those that do not, and leaves the peer as many streams.
const PROTOCOL_CALLS_MAX: usize = PEER_STREAMS_MAX / 2;
/// The same for all protocols together; the connection dies of 512 streams, both sides' and all behaviours'.
const ALL_CALLS_MAX: usize = PEER_CALLS_MAX + PEER_CALLS_MAX / 8;
const _: () = assert!(PEER_REQUESTS_MAX < PROTOCOL_CALLS_MAX && 2 * ALL_CALLS_MAX + 64 < 512);
/// Bytes of the words for a failed dial.
const DIAL_ERROR_BYTES_MAX: usize = 512;

type Exchange = request_response::Behaviour<Codec>;
type Action = ToSwarm<Event, THandlerInEvent<Behaviour>>;

/// What the behaviour tells the owner of the swarm.
#[derive(Debug)]
pub enum Event {
    /// A peer asks for something.
    Inbound(Inbound),
}

/// Settings of a [`Behaviour`]; the defaults are the limits of `model`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Answer requests, or only make them.
    pub serve: bool,
    /// Longest exchange, either way.
    pub exchange: Duration,
    /// Requests being served at once; more are answered "busy".
    pub requests_max: usize,
    /// Bytes that requests being served may hold.
    pub budget: Budget,
    /// The same for requests on connections where none of the protocol was granted yet.
    pub strangers: Budget,
    /// Where calls are counted.
    pub counters: Arc<Counters>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            serve: true,
            exchange: Duration::from_millis(EXCHANGE_MS_MAX),
            requests_max: NODE_REQUESTS_MAX,
            budget: Budget::new(NODE_REQUEST_BYTES_MAX),
            strangers: Budget::new(STRANGER_REQUEST_BYTES_MAX),
            counters: Arc::default(),
        }
    }
}

/// Request-response for every [`Protocol`]: one of libp2p's behaviours for each, and the calls that go through them.
///
/// In a composed behaviour it comes behind those that refuse connections: request-response counts on a connection as
/// soon as it has made a handler for it, and calls given to one that another behaviour then refuses never end.
pub struct Behaviour {
    /// By protocol; without a cluster there is only hello.
    exchanges: [Option<Exchange>; PROTOCOLS],
    calls: HashMap<(Protocol, OutboundRequestId), (PeerId, Arc<Call>)>,
    waiting: HashMap<PeerId, Arc<Waiting>>,
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
    actions: VecDeque<Action>,
}

impl Behaviour {
    /// Hello alone, both ways: for who has no cluster yet.
    #[must_use]
    pub fn hello_only() -> Self {
        Self::new(None, Config::default())
    }

    /// Every protocol of `cluster`; `serve` says whether requests are answered, or only made.
    #[must_use]
    pub fn cluster(cluster: &ClusterId, serve: bool) -> Self {
        Self::new(Some(cluster), Config { serve, ..Config::default() })
    }

    /// The same with other settings; without a cluster, hello alone.
    #[must_use]
    pub fn new(cluster: Option<&ClusterId>, config: Config) -> Self {
        let support = if config.serve { ProtocolSupport::Full } else { ProtocolSupport::Outbound };
        let settings = request_response::Config::default()
            .with_request_timeout(config.exchange)
            .with_max_concurrent_streams(PEER_STREAMS_MAX);
        let exchanges = Protocol::ALL.map(|protocol| {
            let name = match cluster {
                Some(cluster) => protocol.name(cluster),
                None if protocol == Protocol::Hello => Protocol::hello_name(),
                None => return None,
            };
            let codec = Codec::new(protocol, &config);
            Some(Exchange::with_codec(codec, [(name, support.clone())], settings.clone()))
        });
        Self {
            exchanges,
            calls: HashMap::new(),
            waiting: HashMap::new(),
            places: Arc::new(Semaphore::new(config.requests_max.min(Semaphore::MAX_PERMITS))),
            counters: config.counters,
            actions: VecDeque::new(),
        }
    }

    /// What went by so far.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Calls `peer`, dialling `addresses` if there is no connection. `reply` is completed with the answer by the task
    /// of the connection; errors come from [`NetworkBehaviour::poll`], and those found at once from here. Dropping the
    /// receiver of `reply` ends the call.
    pub fn send(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, protocol: Protocol, frame: Frame, reply: Reply) {
        let waiting = Arc::clone(self.waiting.entry(peer).or_default());
        let is_full = waiting.of(protocol) >= PROTOCOL_CALLS_MAX || waiting.all() >= ALL_CALLS_MAX;
        let call = Arc::new(Call::new(protocol, waiting, Arc::clone(&self.counters), reply));
        let exchange = match (frame.check(protocol.request_caps()), &mut self.exchanges[protocol as usize]) {
            (Ok(()), Some(exchange)) if !is_full => exchange,
            (Ok(()), Some(_)) => return self.refuse(peer, &call, CallError::Busy),
            (Ok(()), None) => return self.refuse(peer, &call, CallError::Unsupported),
            (Err(error), _) => return self.refuse(peer, &call, CallError::TooLarge(error)),
        };
        let request = Request(RequestKind::Outbound(frame, Arc::clone(&call)));
        let id = exchange.send_request_with_addresses(&peer, request, addresses);
        self.calls.insert((protocol, id), (peer, call));
    }

    /// Room for requests being served, for whoever brings in more of them by another way.
    #[must_use]
    pub fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.places)
    }

    /// Calls that have not ended.
    #[must_use]
    pub fn calls_outstanding(&self) -> usize {
        self.calls.len()
    }

    fn refuse(&mut self, peer: PeerId, call: &Call, error: CallError) {
        call.complete(Err(error));
        self.forget_if_idle(peer);
    }

    fn end_call(&mut self, protocol: Protocol, id: OutboundRequestId, error: Option<CallError>) {
        let Some((peer, call)) = self.calls.remove(&(protocol, id)) else { return };
        if let Some(error) = error {
            call.complete(Err(error));
        }
        self.forget_if_idle(peer);
    }

    fn forget_if_idle(&mut self, peer: PeerId) {
        if self.waiting.get(&peer).is_some_and(|waiting| waiting.all() == 0) {
            self.waiting.remove(&peer);
        }
    }

    fn begin_request(
        &mut self,
        peer: PeerId,
        protocol: Protocol,
        request: Request,
        channel: ResponseChannel<Response>,
    ) {
        let (frame, refusal, claim) = match (request.0, Arc::clone(&self.places).try_acquire_owned()) {
            (RequestKind::Inbound(frame, bytes, trust), Ok(place)) => {
                (frame, None, Some(Claim { _place: place, _bytes: bytes, trust: Some(trust) }))
            }
            (RequestKind::Inbound(..), Err(_)) => {
                let busy = Failure::new(ErrorCode::Busy, "the node serves as many requests as it may");
                (Frame::default(), Some(busy), None)
            }
            (RequestKind::Refused(failure), _) => (Frame::default(), Some(failure), None),
            // Only codecs make inbound requests.
            (RequestKind::Outbound(..), _) => return,
        };
        let (respond, answer) = Responder::new(protocol, Arc::clone(&self.counters), claim);
        let response = Response(ResponseKind::Outbound(answer));
        let exchange = self.exchanges[protocol as usize].as_mut();
        if exchange.is_none_or(|exchange| exchange.send_response(channel, response).is_err()) {
            // The connection is gone; the responder, dropped, counts that.
            return;
        }
        match refusal {
            Some(failure) => respond.respond(Err(failure)),
            None => {
                let inbound = Inbound { peer, protocol, frame, respond };
                self.actions.push_back(ToSwarm::GenerateEvent(Event::Inbound(inbound)));
            }
        }
    }

    fn on_exchange(
        &mut self,
        protocol: Protocol,
        event: request_response::Event<Request, Response>,
        dial_error: Option<&str>,
    ) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => self.begin_request(peer, protocol, request, channel),
                Message::Response { request_id, .. } => self.end_call(protocol, request_id, None),
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                let error = match error {
                    OutboundFailure::DialFailure => {
                        CallError::Dial(dial_error.unwrap_or("the peer cannot be dialled").to_owned())
                    }
                    OutboundFailure::Timeout => CallError::Timeout,
                    OutboundFailure::ConnectionClosed => CallError::ConnectionClosed,
                    OutboundFailure::UnsupportedProtocols => CallError::Unsupported,
                    // The codec has told the caller, unless the stream was refused before it reached the codec.
                    OutboundFailure::Io(error) if error.kind() == std::io::ErrorKind::Other => CallError::Busy,
                    OutboundFailure::Io(error) => CallError::of(&error),
                };
                self.end_call(protocol, request_id, Some(error));
            }
            // The responder has counted what became of it.
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {}
        }
    }

    /// Carries out what the behaviours below have to say; they say it at once, and wake nobody.
    fn drain(&mut self, dial_error: Option<&str>) {
        let mut context = Context::from_waker(Waker::noop());
        for protocol in Protocol::ALL {
            while let Some(exchange) = &mut self.exchanges[protocol as usize] {
                let Poll::Ready(action) = exchange.poll(&mut context) else { break };
                match action {
                    ToSwarm::GenerateEvent(event) => self.on_exchange(protocol, event, dial_error),
                    ToSwarm::Dial { opts } => self.actions.push_back(ToSwarm::Dial { opts }),
                    ToSwarm::NotifyHandler { peer_id, handler, event } => {
                        let event = (protocol, event);
                        self.actions.push_back(ToSwarm::NotifyHandler { peer_id, handler, event });
                    }
                    // Request-response has no other wishes.
                    _ => {}
                }
            }
        }
    }

    fn handlers(
        &mut self,
        mut make: impl FnMut(&mut Exchange) -> Result<THandler<Exchange>, ConnectionDenied>,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let mut handlers = Vec::with_capacity(PROTOCOLS);
        for protocol in Protocol::ALL {
            if let Some(exchange) = &mut self.exchanges[protocol as usize] {
                handlers.push((protocol, make(exchange)?));
            }
        }
        Ok(MultiHandler::try_from_iter(handlers).expect("no two protocols have one name"))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = MultiHandler<Protocol, THandler<Exchange>>;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handlers(|exchange| exchange.handle_established_inbound_connection(connection, peer, local, remote))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut known = Vec::new();
        for exchange in self.exchanges.iter_mut().flatten() {
            for address in exchange.handle_pending_outbound_connection(connection, peer, addresses, role)? {
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        Ok(known)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handlers(|exchange| exchange.handle_established_outbound_connection(connection, peer, address, role, port))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        for exchange in self.exchanges.iter_mut().flatten() {
            exchange.on_swarm_event(event);
        }
        if let FromSwarm::DialFailure(failure) = event {
            // Now, while the reason is at hand.
            let words = dial_words(failure.error);
            self.drain(Some(&words));
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        (protocol, event): THandlerOutEvent<Self>,
    ) {
        if let Some(exchange) = &mut self.exchanges[protocol as usize] {
            exchange.on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Action> {
        self.drain(None);
        match self.actions.pop_front() {
            Some(action) => Poll::Ready(action),
            None => Poll::Pending,
        }
    }
}

/// One line that says what went wrong at each address.
pub(crate) fn dial_words(error: &DialError) -> String {
    let words = match error {
        DialError::Transport(errors) => {
            let each = errors.iter().map(|(address, error)| format!("{address}: {}", root_cause(error)));
            each.collect::<Vec<_>>().join("; ")
        }
        error => root_cause(error),
    };
    crate::wire::clipped(&words, DIAL_ERROR_BYTES_MAX)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
