//! Who may speak: members by the registry, newcomers by certificate, clients by token, strangers for five seconds.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use rafka_model::limits::ADMISSION_MS_MAX;
use rafka_protocols::lane::Gate;

/// Who is let in without proof.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenDoor {
    /// Nobody: members show certificates, clients the join token.
    Closed,
    /// Peers that connect from this machine, while the cluster has no join token.
    Loopback,
    /// Everybody (`--insecure`).
    Everyone,
}

/// What a peer is to this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// A node of the cluster: in the registry, or with a valid certificate.
    Member,
    /// May produce, fetch, resolve and administrate.
    Client,
    /// May say hello and register, and nothing else; disconnected soon.
    Stranger,
}

/// Table of the connected peers' standing.
#[derive(Debug)]
pub(super) struct Admission {
    door: OpenDoor,
    members: HashSet<PeerId>,
    certified: HashMap<PeerId, Instant>,
    clients: HashSet<PeerId>,
    strangers: HashMap<PeerId, Instant>,
    /// Peers with a connection to the control swarm.
    connected: HashSet<PeerId>,
    /// Peers with a connection to the lane swarm.
    in_lanes: HashSet<PeerId>,
}

/// The one table of both swarms.
pub(super) type Shared = Arc<Mutex<Admission>>;

/// The lane swarm's door: whoever is let in there has no other word to say first, so strangers are not.
pub(super) struct LaneGate(pub(super) Shared);

impl Gate for LaneGate {
    fn admits(&self, peer: &PeerId, remote: &Multiaddr) -> bool {
        self.0.lock().lanes_connected(*peer, remote, Instant::now())
    }

    fn left(&self, peer: &PeerId) {
        self.0.lock().lanes_disconnected(peer);
    }
}

impl Admission {
    /// With nobody known.
    #[must_use]
    pub(super) fn new(door: OpenDoor) -> Self {
        Self {
            door,
            members: HashSet::new(),
            certified: HashMap::new(),
            clients: HashSet::new(),
            strangers: HashMap::new(),
            connected: HashSet::new(),
            in_lanes: HashSet::new(),
        }
    }

    /// The registry's members from now on; certificates of peers that left it stay valid until they expire.
    pub(super) fn set_members(&mut self, members: impl IntoIterator<Item = PeerId>) {
        self.members = members.into_iter().collect();
        self.strangers.retain(|peer, _| !self.members.contains(peer));
    }

    /// A peer showed a valid node certificate.
    pub(super) fn certify(&mut self, peer: PeerId, until: Instant) {
        self.strangers.remove(&peer);
        self.certified.insert(peer, until);
    }

    /// A client proved that it knows the join token; holds while it is connected.
    pub(super) fn admit_client(&mut self, peer: PeerId) {
        self.strangers.remove(&peer);
        self.clients.insert(peer);
    }

    /// A connection stands. Peers from an open door become clients at once.
    pub(super) fn connected(&mut self, peer: PeerId, endpoint: &ConnectedPoint, now: Instant) {
        self.connected.insert(peer);
        if self.standing(&peer, now) != Standing::Stranger {
            return;
        }
        if self.is_open_to(endpoint.get_remote_address()) {
            self.clients.insert(peer);
        } else {
            self.strangers.entry(peer).or_insert(now + Duration::from_millis(ADMISSION_MS_MAX));
        }
    }

    /// A peer wants to connect to the lane swarm; true if it may.
    pub(super) fn lanes_connected(&mut self, peer: PeerId, remote: &Multiaddr, now: Instant) -> bool {
        if self.standing(&peer, now) == Standing::Stranger {
            if !self.is_open_to(remote) {
                return false;
            }
            self.clients.insert(peer);
        }
        self.in_lanes.insert(peer);
        true
    }

    /// The last connection of a peer to the lane swarm is gone.
    pub(super) fn lanes_disconnected(&mut self, peer: &PeerId) {
        self.in_lanes.remove(peer);
        if !self.connected.contains(peer) {
            self.clients.remove(peer);
        }
    }

    fn is_open_to(&self, remote: &Multiaddr) -> bool {
        match self.door {
            OpenDoor::Closed => false,
            OpenDoor::Loopback => is_loopback(remote),
            OpenDoor::Everyone => true,
        }
    }

    /// The last connection of a peer is gone. A client that is busy on its lanes stays one.
    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.connected.remove(peer);
        if !self.in_lanes.contains(peer) {
            self.clients.remove(peer);
        }
        self.strangers.remove(peer);
    }

    /// What `peer` is now.
    #[must_use]
    pub(super) fn standing(&self, peer: &PeerId, now: Instant) -> Standing {
        if self.members.contains(peer) || self.certified.get(peer).is_some_and(|until| *until > now) {
            Standing::Member
        } else if self.clients.contains(peer) {
            Standing::Client
        } else {
            Standing::Stranger
        }
    }

    /// Strangers whose time is up; they are forgotten here and must be disconnected.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<PeerId> {
        self.certified.retain(|_, until| *until > now);
        let late: Vec<PeerId> = self.strangers.iter().filter(|(_, by)| **by <= now).map(|(peer, _)| *peer).collect();
        for peer in &late {
            self.strangers.remove(peer);
        }
        late
    }
}

/// True if the address names this machine.
#[must_use]
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip).is_loopback(),
        Some(Protocol::Memory(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;

    fn from(address: &str) -> ConnectedPoint {
        ConnectedPoint::Dialer {
            address: address.parse().expect("an address"),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        }
    }

    #[test]
    fn a_stranger_has_five_seconds() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut admission = Admission::new(OpenDoor::Closed);
        admission.connected(peer, &from("/ip4/127.0.0.1/tcp/1"), now);
        assert_eq!(admission.standing(&peer, now), Standing::Stranger);
        assert_eq!(admission.overdue(now + Duration::from_millis(ADMISSION_MS_MAX - 1)), []);
        assert_eq!(admission.overdue(now + Duration::from_millis(ADMISSION_MS_MAX)), [peer]);
    }

    #[test]
    fn a_stranger_that_proves_itself_stays() {
        let (now, late) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        let [node, client, registered] = [PeerId::random(), PeerId::random(), PeerId::random()];
        let mut admission = Admission::new(OpenDoor::Closed);
        for peer in [node, client, registered] {
            admission.connected(peer, &from("/ip4/10.0.0.1/tcp/1"), now);
        }
        admission.certify(node, late + Duration::from_secs(60));
        admission.admit_client(client);
        admission.set_members([registered]);
        assert_eq!(admission.overdue(late), []);
        assert_eq!(admission.standing(&node, late), Standing::Member);
        assert_eq!(admission.standing(&client, late), Standing::Client);
        assert_eq!(admission.standing(&registered, late), Standing::Member);
        admission.disconnected(&client);
        assert_eq!(admission.standing(&client, late), Standing::Stranger, "a client proves itself on each connection");
    }

    #[test]
    fn lanes_are_for_whom_the_mesh_knows_and_keep_a_client_known() {
        let (now, client, far) = (Instant::now(), PeerId::random(), "/ip4/10.0.0.1/tcp/1".parse().expect("legal"));
        let mut admission = Admission::new(OpenDoor::Loopback);
        admission.connected(client, &from("/ip4/10.0.0.1/tcp/1"), now);
        assert!(!admission.lanes_connected(client, &far, now), "a stranger has no lanes");
        admission.admit_client(client);
        assert!(admission.lanes_connected(client, &far, now));
        admission.disconnected(&client);
        assert_eq!(admission.standing(&client, now), Standing::Client);
        admission.lanes_disconnected(&client);
        assert_eq!(admission.standing(&client, now), Standing::Stranger);
        assert!(admission.lanes_connected(client, &"/ip4/127.0.0.1/tcp/1".parse().expect("legal"), now));
    }

    #[test]
    fn the_loopback_door_is_open_to_this_machine_only() {
        let (now, near, far) = (Instant::now(), PeerId::random(), PeerId::random());
        let mut admission = Admission::new(OpenDoor::Loopback);
        admission.connected(near, &from("/ip6/::1/tcp/1"), now);
        admission.connected(far, &from("/ip4/10.0.0.1/tcp/1"), now);
        assert_eq!(admission.standing(&near, now), Standing::Client);
        assert_eq!(admission.standing(&far, now), Standing::Stranger);
    }

    #[test]
    fn an_expired_certificate_is_worth_nothing() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut admission = Admission::new(OpenDoor::Closed);
        admission.certify(peer, now + Duration::from_secs(1));
        assert_eq!(admission.standing(&peer, now), Standing::Member);
        assert_eq!(admission.standing(&peer, now + Duration::from_secs(1)), Standing::Stranger);
    }
}
