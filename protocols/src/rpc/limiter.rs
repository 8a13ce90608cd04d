//! Backpressure for callers: request-response itself queues without bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;
use rafka_model::limits::{PEER_CALLS_MAX, PEER_REQUESTS_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::CallError;
use crate::Protocol;
use crate::protocol::PROTOCOLS;

/// Peers after which unused entries are swept out.
const SWEEP_PEERS: usize = 1024;

/// Permits for calls: [`PEER_REQUESTS_MAX`] for a peer and protocol, [`PEER_CALLS_MAX`] for a peer. Cheap to clone.
///
/// Every caller takes a permit before [`Behaviour::send`](super::Behaviour::send) and keeps it until its call is over.
#[derive(Clone, Debug, Default)]
pub struct Limiter {
    peers: Arc<Mutex<HashMap<PeerId, Arc<Peer>>>>,
}

/// The right to have one call outstanding.
#[derive(Debug)]
pub struct Permit {
    _protocol: OwnedSemaphorePermit,
    _peer: OwnedSemaphorePermit,
    // Keeps the entry from being swept while it is in use.
    _entry: Arc<Peer>,
}

#[derive(Debug)]
struct Peer {
    all: Arc<Semaphore>,
    each: [Arc<Semaphore>; PROTOCOLS],
}

impl Limiter {
    /// Waits for a permit, first come first served. Cancel safe, but a waiter that comes back queues anew.
    pub async fn acquire(&self, peer: PeerId, protocol: Protocol) -> Permit {
        let entry = self.entry(peer);
        // Always in this order, and holders of both never wait: no deadlock.
        let each = Arc::clone(&entry.each[protocol as usize]);
        let of_protocol = each.acquire_owned().await.expect("the semaphores are never closed");
        let of_peer = Arc::clone(&entry.all).acquire_owned().await.expect("the semaphores are never closed");
        Permit { _protocol: of_protocol, _peer: of_peer, _entry: entry }
    }

    /// A permit, if one is free.
    ///
    /// # Errors
    /// [`CallError::Busy`].
    pub fn try_acquire(&self, peer: PeerId, protocol: Protocol) -> Result<Permit, CallError> {
        let entry = self.entry(peer);
        let each = Arc::clone(&entry.each[protocol as usize]);
        let of_protocol = each.try_acquire_owned().map_err(|_| CallError::Busy)?;
        let of_peer = Arc::clone(&entry.all).try_acquire_owned().map_err(|_| CallError::Busy)?;
        Ok(Permit { _protocol: of_protocol, _peer: of_peer, _entry: entry })
    }

    fn entry(&self, peer: PeerId) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= SWEEP_PEERS {
            peers.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        Arc::clone(peers.entry(peer).or_default())
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(PEER_CALLS_MAX)),
            each: std::array::from_fn(|_| Arc::new(Semaphore::new(PEER_REQUESTS_MAX))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_and_a_peer_have_their_own_bounds() {
        let limiter = Limiter::default();
        let peer = PeerId::random();
        let take = |protocol| limiter.try_acquire(peer, protocol);
        let mut held: Vec<_> = (0..PEER_REQUESTS_MAX).map(|_| take(Protocol::Fetch).expect("free")).collect();
        assert_eq!(take(Protocol::Fetch).err(), Some(CallError::Busy));
        for protocol in [Protocol::Produce, Protocol::Watch] {
            held.extend((0..PEER_REQUESTS_MAX).map(|_| take(protocol).expect("free")));
        }
        assert_eq!(held.len(), PEER_CALLS_MAX);
        assert_eq!(take(Protocol::Admin).err(), Some(CallError::Busy));
        assert!(limiter.try_acquire(PeerId::random(), Protocol::Fetch).is_ok());
        drop(held);
        assert!(take(Protocol::Admin).is_ok());
    }

    #[test]
    fn peers_without_calls_are_forgotten() {
        let limiter = Limiter::default();
        let kept = PeerId::random();
        let _held = limiter.try_acquire(kept, Protocol::Fetch).expect("free");
        for _ in 0..3 * SWEEP_PEERS {
            assert!(limiter.try_acquire(PeerId::random(), Protocol::Fetch).is_ok());
        }
        let peers = limiter.peers.lock().expect("not poisoned");
        assert!(peers.len() <= SWEEP_PEERS && peers.contains_key(&kept));
    }
}
