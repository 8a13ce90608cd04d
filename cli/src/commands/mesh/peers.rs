//! `rafka mesh peers`

use serde::Serialize;

use super::swarms;
use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, Row, list, or_dash, short_peer};

/// A node in a list.
#[derive(Debug, Serialize)]
struct Line {
    /// Its number in the cluster's metadata; none if it is not registered.
    node: Option<u64>,
    peer_id: String,
    addresses: Vec<String>,
    /// This client has a connection to it.
    connected: bool,
    /// What it says of its own swarm; none if it does not answer.
    swarm: Option<Swarm>,
}

#[derive(Debug, Serialize)]
struct Swarm {
    /// Entries of its Kademlia routing table.
    routing_table: u32,
    peers: Vec<Peer>,
}

/// A peer that the node is connected with.
#[derive(Debug, Serialize)]
struct Peer {
    node: Option<u64>,
    peer_id: String,
    address: Option<String>,
    connections: u32,
    round_trip_us: Option<u64>,
    agent: Option<String>,
    /// Authenticated as a node of the cluster; others are clients.
    member: bool,
    in_routing_table: bool,
    in_gossip_mesh: bool,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] =
        &["NODE", "PEER", "ADDRESSES", "CONNECTED", "MEMBERS", "TABLE", "GOSSIP", "CLIENTS", "RTT"];

    fn cells(&self) -> Vec<String> {
        let connected = if self.connected { "yes" } else { "no" };
        let count = |which: fn(&Peer) -> bool| {
            or_dash(self.swarm.as_ref().map(|swarm| swarm.peers.iter().filter(|peer| which(peer)).count()))
        };
        let slowest = self.swarm.as_ref().and_then(|swarm| swarm.peers.iter().filter_map(|p| p.round_trip_us).max());
        vec![
            or_dash(self.node),
            short_peer(&self.peer_id),
            list(&self.addresses),
            connected.to_owned(),
            count(|peer| peer.member),
            or_dash(self.swarm.as_ref().map(|swarm| swarm.routing_table)),
            count(|peer| peer.in_gossip_mesh),
            count(|peer| !peer.member),
            or_dash(slowest.map(|us| format!("{us} us"))),
        ]
    }
}

pub(super) async fn run(cluster: &ClusterArgs, out: Out) -> Result {
    let client = cluster.connect().await?;
    let nodes = client.admin().cluster().await?.nodes;
    let mut swarms = swarms(&client, &nodes).await;
    let number = |peer: &str| nodes.iter().find(|node| node.peer_id == peer).map(|node| node.id.0);
    let mut rows: Vec<Line> = Vec::new();
    for peer in client.mesh().peers() {
        let peer_id = peer.peer.to_string();
        let node = number(&peer_id);
        let swarm = node.and_then(|node| swarms.remove(&node)).map(|swarm| Swarm {
            routing_table: swarm.routing_table,
            peers: swarm.peers.into_iter().map(Peer::from).collect(),
        });
        let addresses = peer.addresses.iter().map(ToString::to_string).collect();
        rows.push(Line { node, peer_id, addresses, connected: peer.connected, swarm });
    }
    rows.sort_by_key(|line| (line.node.is_none(), line.node, line.peer_id.clone()));
    out.rows(&rows)
}

impl From<rafka_client::SwarmPeer> for Peer {
    fn from(peer: rafka_client::SwarmPeer) -> Self {
        Self {
            node: peer.node.map(|id| id.0),
            peer_id: peer.peer_id,
            address: peer.address,
            connections: peer.connections,
            round_trip_us: peer.round_trip_us,
            agent: peer.agent,
            member: peer.member,
            in_routing_table: peer.in_routing_table,
            in_gossip_mesh: peer.in_gossip_mesh,
        }
    }
}
