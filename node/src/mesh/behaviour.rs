//! The one libp2p `Behaviour` of a node's control swarm.

use std::time::Duration;

use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, connection_limits, gossipsub, identify, identity, memory_connection_limits, ping};
use rafka_model::limits::{CONNECTIONS_MAX, PEER_CONNECTIONS_MAX, PENDING_CONNECTIONS_MAX};

use super::gate::Gated;

/// Share of the machine's memory above which new connections are refused.
const MEMORY_SHARE_MAX: f64 = 0.9;
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Everything that rides on a connection between two peers, in the order in which it may refuse one.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// Counts of connections, per peer and in all.
    pub(super) limits: connection_limits::Behaviour,
    /// No new connections when memory is short.
    pub(super) memory: memory_connection_limits::Behaviour,
    /// Who the other end is and where it listens.
    pub(super) identify: identify::Behaviour,
    /// Round-trip times, and a dead peer's end.
    pub(super) ping: ping::Behaviour,
    /// The directory of signed records.
    pub(super) kad: Gated<rafka_dht::Behaviour>,
    /// Hints and cluster events.
    pub(super) gossip: Gated<gossipsub::Behaviour>,
    /// The request-response protocols.
    pub(super) rpc: rafka_protocols::rpc::Behaviour,
}

impl Behaviour {
    /// Composes the parts for the node with this `key`.
    ///
    /// # Errors
    /// A text, if gossipsub refuses its configuration (it does not: a test builds it).
    pub(super) fn new(
        key: &identity::Keypair,
        kad: rafka_dht::Behaviour,
        gossip: gossipsub::Config,
        rpc: rafka_protocols::rpc::Behaviour,
    ) -> Result<Self, String> {
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_CONNECTIONS_MAX))
            .with_max_pending_outgoing(Some(PENDING_CONNECTIONS_MAX))
            .with_max_established(Some(CONNECTIONS_MAX))
            .with_max_established_per_peer(Some(PEER_CONNECTIONS_MAX));
        let identify = identify::Config::new("/rafka/1".to_owned(), key.public())
            .with_agent_version(concat!("rafka/", env!("CARGO_PKG_VERSION")).to_owned());
        let gossip = gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Signed(key.clone()), gossip)
            .map_err(str::to_owned)?;
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            memory: memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE_MAX),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
            kad: Gated::new(kad),
            gossip: Gated::new(gossip),
            rpc,
        })
    }

    /// `peer` is a stranger: Kademlia and gossip do not hear it.
    pub(super) fn hold(&mut self, peer: PeerId) {
        self.kad.hold(peer);
        self.gossip.hold(peer);
    }

    /// `peer` is none any more.
    pub(super) fn admit(&mut self, peer: &PeerId) {
        self.kad.admit(peer);
        self.gossip.admit(peer);
    }
}
