//! Whom a node keeps connected: everybody in a small cluster, the nearest and a few others in a large one.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use libp2p::kad::KBucketKey;
use libp2p::{Multiaddr, PeerId};
use rafka_model::limits::{DHT_HOLDERS, FULL_MESH_NODES_MAX};

/// First pause after a dial that failed; doubles up to [`REDIAL_MAX`].
const REDIAL_MIN: Duration = Duration::from_millis(200);
const REDIAL_MAX: Duration = Duration::from_secs(5);

/// A node of the cluster as the swarm needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its identity.
    pub peer: PeerId,
    /// Where it listens.
    pub addresses: Vec<Multiaddr>,
}

/// The members, and when to dial which of them again.
#[derive(Debug)]
pub(super) struct Membership {
    local: PeerId,
    members: BTreeMap<PeerId, Vec<Multiaddr>>,
    wanted: Vec<PeerId>,
    redial: HashMap<PeerId, (Instant, Duration)>,
}

impl Membership {
    /// Of the node `local`, with nobody known.
    #[must_use]
    pub(super) fn new(local: PeerId) -> Self {
        Self { local, members: BTreeMap::new(), wanted: Vec::new(), redial: HashMap::new() }
    }

    /// Takes the registry's members, this node left out. Returns those that are new or have moved.
    pub(super) fn set(&mut self, members: Vec<Member>) -> Vec<Member> {
        let next: BTreeMap<_, _> =
            members.into_iter().filter(|m| m.peer != self.local).map(|m| (m.peer, m.addresses)).collect();
        let changed: Vec<Member> = next
            .iter()
            .filter(|(peer, addresses)| self.members.get(peer) != Some(addresses))
            .map(|(peer, addresses)| Member { peer: *peer, addresses: addresses.clone() })
            .collect();
        for member in &changed {
            self.redial.remove(&member.peer);
        }
        self.redial.retain(|peer, _| next.contains_key(peer));
        self.members = next;
        self.wanted = wanted(self.local, self.members.keys().copied());
        changed
    }

    /// Addresses of a member.
    #[must_use]
    pub(super) fn addresses(&self, peer: &PeerId) -> Option<&[Multiaddr]> {
        self.members.get(peer).map(Vec::as_slice)
    }

    /// A connection to `peer` stands.
    pub(super) fn connected(&mut self, peer: &PeerId) {
        self.redial.remove(peer);
    }

    /// A dial of `peer` failed: the next waits longer.
    pub(super) fn failed(&mut self, peer: &PeerId, now: Instant) {
        let pause = self.redial.get(peer).map_or(REDIAL_MIN, |(_, pause)| (*pause * 2).clamp(REDIAL_MIN, REDIAL_MAX));
        self.redial.insert(*peer, (now + pause, pause));
    }

    /// Members to dial now, given who is connected; each counts as being dialled until it connects or fails.
    pub(super) fn due(&mut self, now: Instant, is_connected: impl Fn(&PeerId) -> bool) -> Vec<Member> {
        let due: Vec<PeerId> = self
            .wanted
            .iter()
            .filter(|peer| !is_connected(peer))
            .filter(|peer| self.redial.get(*peer).is_none_or(|(at, _)| *at <= now))
            .copied()
            .collect();
        for peer in &due {
            let pause = self.redial.get(peer).map_or(Duration::ZERO, |(_, pause)| *pause);
            self.redial.insert(*peer, (now + REDIAL_MAX, pause));
        }
        due.into_iter().filter_map(|peer| Some(Member { peer, addresses: self.members.get(&peer)?.clone() })).collect()
    }
}

/// All others in a small cluster; in a large one the nearest by XOR (they hold our records) and those that
/// follow at doubling distances, which is what Kademlia's lookups go through.
fn wanted(local: PeerId, members: impl Iterator<Item = PeerId>) -> Vec<PeerId> {
    let here = KBucketKey::from(local);
    let mut near: Vec<_> = members.map(|peer| (here.distance(&KBucketKey::from(peer)), peer)).collect();
    near.sort();
    let all = near.len() < FULL_MESH_NODES_MAX;
    let mut next_power = DHT_HOLDERS;
    let mut keep = |rank: usize| {
        let doubling = rank >= next_power;
        if doubling {
            next_power *= 2;
        }
        all || rank < DHT_HOLDERS || doubling
    };
    near.into_iter().enumerate().filter(|(rank, _)| keep(*rank)).map(|(_, (_, peer))| peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: usize) -> Vec<Member> {
        (0..count).map(|_| Member { peer: PeerId::random(), addresses: vec![Multiaddr::empty()] }).collect()
    }

    #[test]
    fn a_small_cluster_is_fully_connected_and_a_large_one_is_not() {
        let mut membership = Membership::new(PeerId::random());
        membership.set(members(FULL_MESH_NODES_MAX - 1));
        assert_eq!(membership.due(Instant::now(), |_| false).len(), FULL_MESH_NODES_MAX - 1);
        membership.set(members(200));
        let dialled = membership.due(Instant::now(), |_| false).len();
        assert!((DHT_HOLDERS..DHT_HOLDERS + 8).contains(&dialled), "{dialled}");
    }

    #[test]
    fn a_member_is_dialled_once_then_with_growing_pauses_and_at_once_when_it_moves() {
        let (local, start) = (PeerId::random(), Instant::now());
        let mut membership = Membership::new(local);
        let mut other = members(1);
        assert_eq!(membership.set(other.clone()), other);
        assert_eq!(membership.set(other.clone()), [], "nothing changed");
        assert_eq!(membership.due(start, |_| false), other);
        assert_eq!(membership.due(start, |_| false), [], "a dial is under way");
        membership.failed(&other[0].peer, start);
        assert_eq!(membership.due(start + REDIAL_MIN, |_| false), other);
        membership.failed(&other[0].peer, start);
        assert_eq!(membership.due(start + REDIAL_MIN, |_| false), [], "the pause has doubled");
        other[0].addresses = vec!["/ip4/127.0.0.1/tcp/9".parse().expect("an address")];
        assert_eq!(membership.set(other.clone()), other);
        assert_eq!(membership.due(start, |_| false), other);
        assert_eq!(membership.due(start, |_| true), [], "connected members are left alone");
    }
}
