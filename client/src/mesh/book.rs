//! Who is in the cluster and where, as far as a client needs to know.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use rafka_model::limits::{NODE_ADDRESSES_MAX, NODES_MAX};

use crate::backoff::Random;

/// The nodes that the client has heard of. Bootstrap addresses are not special once they have answered.
#[derive(Debug, Default)]
pub(super) struct Book {
    members: BTreeMap<PeerId, Vec<Multiaddr>>,
    connected: BTreeSet<PeerId>,
}

impl Book {
    /// A node is at these addresses (without `/p2p`); the newest that were told come first. True if that is news.
    pub(super) fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr]) -> bool {
        if self.members.len() >= NODES_MAX && !self.members.contains_key(&peer) {
            return false;
        }
        let known = self.members.entry(peer).or_default();
        if known.starts_with(addresses) {
            return false;
        }
        let mut merged = addresses.to_vec();
        merged.extend(known.drain(..).filter(|old| !addresses.contains(old)));
        merged.truncate(NODE_ADDRESSES_MAX);
        *known = merged;
        true
    }

    pub(super) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.members.get(peer).cloned().unwrap_or_default()
    }

    pub(super) fn connected(&mut self, peer: PeerId) {
        self.connected.insert(peer);
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.connected.remove(peer);
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.connected.contains(peer)
    }

    pub(super) fn any_connected(&self) -> bool {
        self.connected.iter().any(|peer| self.members.contains_key(peer))
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&PeerId, &Vec<Multiaddr>)> {
        self.members.iter()
    }

    /// Every node, connected ones first, otherwise in random order: no node is everybody's first choice.
    pub(super) fn candidates(&self, random: &mut Random) -> Vec<PeerId> {
        let mut order: Vec<_> =
            self.members.keys().map(|peer| (!self.connected.contains(peer), random.next(), *peer)).collect();
        order.sort_unstable_by_key(|(far, chance, _)| (*far, *chance));
        order.into_iter().map(|(_, _, peer)| peer).collect()
    }
}

/// The address without a trailing `/p2p/…`.
pub(super) fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("legal")
    }

    #[test]
    fn the_newest_address_is_tried_first_and_old_ones_are_kept() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        assert!(book.learn(peer, &[at(1)]));
        assert!(!book.learn(peer, &[at(1)]));
        assert!(book.learn(peer, &[at(2)]));
        assert_eq!(book.addresses(&peer), [at(2), at(1)]);
        for port in 3..200 {
            book.learn(peer, &[at(port)]);
        }
        assert_eq!(book.addresses(&peer).len(), NODE_ADDRESSES_MAX);
        assert_eq!(book.addresses(&peer)[0], at(199));
    }

    #[test]
    fn connected_nodes_are_asked_first() {
        let (mut book, mut random) = (Book::default(), Random::seeded(5));
        let peers: Vec<_> = (0..8).map(|_| PeerId::random()).collect();
        peers.iter().for_each(|peer| assert!(book.learn(*peer, &[at(1)])));
        book.connected(peers[3]);
        let mut second = BTreeSet::new();
        for _ in 0..50 {
            let candidates = book.candidates(&mut random);
            assert_eq!((candidates[0], candidates.len()), (peers[3], 8));
            second.insert(candidates[1]);
        }
        assert!(second.len() > 3, "the others come by chance");
    }
}
