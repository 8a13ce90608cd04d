//! Lanes to the nodes that have them, for a client that has much to say: opened when it begins to, used while they
//! stand. Everything else, and everything until then, goes by request-response.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use rafka_model::ClusterId;
use rafka_model::limits::{EXCHANGE_MS_MAX, KIB, NODES_MAX};
use rafka_protocols::lane::{self, Gate, Setup};
use rafka_protocols::rpc::{CallError, Counters};
use rafka_protocols::{Frame, Protocol, transport};
use tokio::sync::OnceCell;
use tracing::warn;

/// A lane is worth its connection for so many requests in flight to a node …
const BUSY_IN_FLIGHT: usize = 4;
/// … or a body of so many bytes …
const BUSY_BYTES: usize = 32 * KIB;
/// … or so many requests within a second.
const BUSY_PER_SECOND: u32 = 50;

/// The lanes of one client.
pub(super) struct Lanes {
    key: Keypair,
    cluster: ClusterId,
    nodes: Mutex<HashMap<PeerId, Arc<Node>>>,
    /// Started by the first that is worth it; none if that failed.
    swarm: OnceCell<Option<lane::Lanes>>,
}

/// A node with lanes.
#[derive(Default)]
struct Node {
    addresses: Mutex<Vec<Multiaddr>>,
    in_flight: AtomicUsize,
    /// Requests since then, for up to a second.
    recent: Mutex<Option<(Instant, u32)>>,
}

/// Nobody connects to a client.
struct Shut;

impl Gate for Shut {
    fn admits(&self, _: &PeerId, _: &Multiaddr) -> bool {
        false
    }

    fn left(&self, _: &PeerId) {}
}

impl Lanes {
    pub(super) fn new(key: Keypair, cluster: ClusterId) -> Self {
        Self { key, cluster, nodes: Mutex::default(), swarm: OnceCell::new() }
    }

    /// A node takes lanes at `addresses`; with none, nothing new is known.
    pub(super) fn learn(&self, peer: PeerId, addresses: &[Multiaddr]) {
        let mut nodes = self.nodes.lock();
        if !addresses.is_empty() && (nodes.len() < NODES_MAX || nodes.contains_key(&peer)) {
            *nodes.entry(peer).or_default().addresses.lock() = addresses.to_vec();
        }
    }

    /// One exchange if a lane stands, else nothing: then one is being opened if that is worth it.
    ///
    /// Cancel safe: dropped, it tells the node.
    pub(super) async fn call(
        &self,
        peer: PeerId,
        protocol: Protocol,
        frame: &Frame,
    ) -> Option<Result<Frame, CallError>> {
        let node = self.nodes.lock().get(&peer).cloned()?;
        let is_busy = node.is_busy(frame, Instant::now());
        let swarm = match self.swarm.get() {
            Some(swarm) => swarm.as_ref()?,
            None if is_busy => self.swarm.get_or_init(|| self.start()).await.as_ref()?,
            None => return None,
        };
        if !is_busy && !swarm.is_open(peer, protocol) {
            return None;
        }
        let _counted = node.count();
        let addresses = node.addresses.lock().clone();
        swarm.call_if_open(peer, &addresses, protocol, frame, Duration::from_millis(EXCHANGE_MS_MAX)).await
    }

    /// Counts an exchange that goes another way, as long as it lasts.
    pub(super) fn count(&self, peer: PeerId) -> Option<impl Drop + use<>> {
        self.nodes.lock().get(&peer).map(Node::count)
    }

    async fn start(&self) -> Option<lane::Lanes> {
        let connections = transport::transport(&self.key).inspect_err(|error| warn!(%error, "no lanes")).ok()?;
        let setup = Setup {
            local: self.key.public().to_peer_id(),
            connections,
            cluster: self.cluster,
            listen: Vec::new(),
            any_port: false,
            gate: Arc::new(Shut),
            serve: None,
            exchanges: Arc::new(Counters::default()),
        };
        let started = lane::start(setup).await.inspect_err(|error| warn!(%error, "no lanes")).ok()?;
        // Its task ends with the last handle.
        Some(started.lanes)
    }
}

impl Node {
    fn is_busy(&self, frame: &Frame, now: Instant) -> bool {
        let mut recent = self.recent.lock();
        let (since, count) = match *recent {
            Some((since, count)) if now.saturating_duration_since(since) < Duration::from_secs(1) => (since, count + 1),
            _ => (now, 1),
        };
        *recent = Some((since, count));
        count > BUSY_PER_SECOND
            || frame.body_len() >= BUSY_BYTES
            || self.in_flight.load(Ordering::Relaxed) >= BUSY_IN_FLIGHT
    }

    fn count(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }
}

struct InFlight(Arc<Node>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_worth_it_for_large_bodies_many_at_once_and_many_in_a_row() {
        let (node, now) = (Arc::new(Node::default()), Instant::now());
        let frame = |bytes| Frame::new(bytes::Bytes::new(), vec![0; bytes].into());
        assert!(!node.is_busy(&frame(10), now));
        assert!(node.is_busy(&frame(BUSY_BYTES), now));
        let held: Vec<_> = (0..BUSY_IN_FLIGHT).map(|_| node.count()).collect();
        assert!(node.is_busy(&frame(10), now));
        drop(held);
        assert!(!node.is_busy(&frame(10), now));
        for _ in 0..BUSY_PER_SECOND {
            node.is_busy(&frame(10), now);
        }
        assert!(node.is_busy(&frame(10), now));
        assert!(!node.is_busy(&frame(10), now + Duration::from_secs(1)), "a second later it is quiet again");
    }
}
