//! The gate of protocols that know no standing: what a stranger says to them waits until it is let in.
//!
//! Kademlia and gossip serve whoever is connected. Behind the gate they do not hear of a stranger; a newcomer that
//! proves itself a moment later loses nothing, and one that does not takes what it said with it.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use rafka_model::limits::{STRANGER_EVENTS_MAX, STRANGERS_EVENTS_MAX};

/// `B`, deaf to strangers.
pub(super) struct Gated<B: NetworkBehaviour> {
    inner: B,
    /// What each stranger has said so far; the first words are kept, for they introduce it.
    strangers: HashMap<PeerId, Vec<(ConnectionId, THandlerOutEvent<B>)>>,
    /// Of all strangers.
    held: usize,
}

impl<B: NetworkBehaviour> Gated<B> {
    /// With the gate open to everybody.
    pub(super) fn new(inner: B) -> Self {
        Self { inner, strangers: HashMap::new(), held: 0 }
    }

    /// `peer` is a stranger until [`Self::admit`], or until it is gone.
    pub(super) fn hold(&mut self, peer: PeerId) {
        self.strangers.entry(peer).or_default();
    }

    /// `peer` is none any more: what it said is heard now.
    pub(super) fn admit(&mut self, peer: &PeerId) {
        for (connection, event) in self.forget(peer) {
            self.inner.on_connection_handler_event(*peer, connection, event);
        }
    }

    fn forget(&mut self, peer: &PeerId) -> Vec<(ConnectionId, THandlerOutEvent<B>)> {
        let events = self.strangers.remove(peer).unwrap_or_default();
        self.held -= events.len();
        events
    }

    fn closed(&mut self, peer: &PeerId, connection: ConnectionId, remaining: usize) {
        if remaining == 0 {
            self.forget(peer);
        } else if let Some(events) = self.strangers.get_mut(peer) {
            let before = events.len();
            events.retain(|(of, _)| *of != connection);
            self.held -= before - events.len();
        }
    }
}

impl<B: NetworkBehaviour> Deref for Gated<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B: NetworkBehaviour> DerefMut for Gated<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event {
            self.closed(&closed.peer_id, closed.connection_id, closed.remaining_established);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        match self.strangers.get_mut(&peer) {
            None => self.inner.on_connection_handler_event(peer, connection, event),
            Some(events) if events.len() < STRANGER_EVENTS_MAX && self.held < STRANGERS_EVENTS_MAX => {
                events.push((connection, event));
                self.held += 1;
            }
            Some(_) => tracing::debug!(%peer, "a stranger says more than is kept"),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
