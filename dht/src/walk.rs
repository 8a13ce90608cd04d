//! Account of one lookup: who was asked, and who told of whom.
//!
//! kad walks towards a key but does not say how. Its answers pass through our [`crate::Behaviour`],
//! which notes them here, so that hops are counted and not guessed.

use std::collections::HashMap;

use libp2p::PeerId;
use rafka_model::limits::DHT_WALK_PEERS_MAX;

/// The peers of one lookup. A peer of our own routing table is 1 hop away, a peer that we heard of
/// from one at depth d is d + 1 away.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    depth: HashMap<PeerId, u32>,
    asked: Vec<PeerId>,
    answered: u32,
}

impl Walk {
    /// Begins with the peers that we know ourselves.
    pub(crate) fn from_table(known: impl IntoIterator<Item = PeerId>) -> Self {
        Self { depth: known.into_iter().map(|peer| (peer, 1)).collect(), ..Self::default() }
    }

    /// `peer` answered and told of `others`.
    pub(crate) fn answered(&mut self, peer: PeerId, others: impl IntoIterator<Item = PeerId>) {
        self.note(peer);
        self.answered += 1;
        let next = self.depth_of(&peer) + 1;
        for other in others {
            if let Some(depth) = self.depth.get_mut(&other) {
                *depth = next.min(*depth);
            } else if self.depth.len() < DHT_WALK_PEERS_MAX {
                self.depth.insert(other, next);
            }
        }
    }

    /// `peer` was asked and did not answer.
    pub(crate) fn failed(&mut self, peer: PeerId) {
        self.note(peer);
    }

    fn note(&mut self, peer: PeerId) {
        if self.asked.len() < DHT_WALK_PEERS_MAX && !self.asked.contains(&peer) {
            self.asked.push(peer);
        }
    }

    /// Hops to `peer`.
    pub(crate) fn depth_of(&self, peer: &PeerId) -> u32 {
        self.depth.get(peer).copied().unwrap_or(1)
    }

    /// Hops to the farthest peer that was asked; 0 if none was.
    pub(crate) fn depth_max(&self) -> u32 {
        self.asked.iter().map(|peer| self.depth_of(peer)).max().unwrap_or(0)
    }

    /// Peers that answered.
    pub(crate) fn answers(&self) -> u32 {
        self.answered
    }

    /// Peers that answered or failed, in order.
    pub(crate) fn into_asked(self) -> Vec<PeerId> {
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_the_shortest_chain_of_referrals() {
        let [near, far, farther] = [(); 3].map(|()| PeerId::random());
        let mut walk = Walk::from_table([near]);
        assert_eq!(walk.depth_max(), 0);
        walk.answered(near, [far]);
        assert_eq!(walk.depth_max(), 1, "only peers that were asked count");
        walk.answered(far, [farther, near]);
        walk.failed(farther);
        assert_eq!((walk.depth_of(&near), walk.depth_of(&far), walk.depth_of(&farther)), (1, 2, 3));
        assert_eq!((walk.depth_max(), walk.answers()), (3, 2));
        walk.answered(near, [farther]);
        assert_eq!(walk.depth_of(&farther), 2, "a shorter chain was found");
        assert_eq!(walk.into_asked(), [near, far, farther]);
    }

    #[test]
    fn a_peer_that_names_thousands_fills_nothing() {
        let near = PeerId::random();
        let mut walk = Walk::from_table([near]);
        walk.answered(near, (0..3 * DHT_WALK_PEERS_MAX).map(|_| PeerId::random()));
        assert_eq!(walk.depth.len(), DHT_WALK_PEERS_MAX);
    }
}
