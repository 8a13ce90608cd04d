//! Counts what the swarm does: libp2p's own metrics, and the connections that are open now.

use libp2p::metrics::{Metrics as Libp2p, Recorder};
use libp2p::swarm::SwarmEvent;
use libp2p::{gossipsub, identify, kad, ping};
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::Metrics;

/// Takes every event of the swarm task.
pub struct SwarmRecorder {
    libp2p: Libp2p,
    connections: Gauge,
    peers: Gauge,
}

impl SwarmRecorder {
    /// Registers with `metrics`; once a process.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        metrics.register(|registry| {
            let (connections, peers) = (Gauge::default(), Gauge::default());
            registry.register("rafka_swarm_connections", "Open connections", connections.clone());
            registry.register("rafka_swarm_peers", "Peers with a connection", peers.clone());
            Self { libp2p: Libp2p::new(registry), connections, peers }
        })
    }

    /// An event of the swarm itself.
    pub fn swarm<E>(&self, event: &SwarmEvent<E>) {
        match event {
            SwarmEvent::ConnectionEstablished { num_established, .. } => {
                self.connections.inc();
                if num_established.get() == 1 {
                    self.peers.inc();
                }
            }
            SwarmEvent::ConnectionClosed { num_established, .. } => {
                self.connections.dec();
                if *num_established == 0 {
                    self.peers.dec();
                }
            }
            _ => {}
        }
        self.libp2p.record(event);
    }

    /// An event of Kademlia.
    pub fn kad(&self, event: &kad::Event) {
        self.libp2p.record(event);
    }

    /// An event of gossip.
    pub fn gossip(&self, event: &gossipsub::Event) {
        self.libp2p.record(event);
    }

    /// An event of ping.
    pub fn ping(&self, event: &ping::Event) {
        self.libp2p.record(event);
    }

    /// An event of identify.
    pub fn identify(&self, event: &identify::Event) {
        self.libp2p.record(event);
    }
}
