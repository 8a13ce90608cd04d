//! A node's swarm, as the admin protocol tells it.

use rafka_broker::request::{SwarmDescription, SwarmPeer};
use rafka_model::NodeId;
use rafka_model::limits::{ADDRESS_BYTES_MAX, CONNECTIONS_MAX, LABEL_BYTES_MAX};

use crate::proto;
use crate::wire::{DecodeError, addresses, bounded, optional_text, text};

pub(super) fn to_wire(swarm: &SwarmDescription) -> proto::SwarmDescription {
    let peer = |peer: &SwarmPeer| proto::SwarmPeer {
        peer_id: peer.peer_id.clone(),
        node: peer.node.map(|id| id.0),
        address: peer.address.clone(),
        connections: peer.connections,
        round_trip_us: peer.round_trip_us,
        agent: peer.agent.clone(),
        member: peer.member,
        in_routing_table: peer.in_routing_table,
        in_gossip_mesh: peer.in_gossip_mesh,
    };
    proto::SwarmDescription {
        node: swarm.node.map(|id| id.0),
        peer_id: swarm.peer_id.clone(),
        listening: swarm.listening.clone(),
        routing_table: swarm.routing_table,
        peers: swarm.peers.iter().map(peer).collect(),
    }
}

pub(super) fn from_wire(swarm: proto::SwarmDescription) -> Result<SwarmDescription, DecodeError> {
    let peer = |peer: proto::SwarmPeer| {
        Ok(SwarmPeer {
            peer_id: text("peer id", peer.peer_id, LABEL_BYTES_MAX)?,
            node: peer.node.map(NodeId),
            address: optional_text("address", peer.address, ADDRESS_BYTES_MAX)?,
            connections: peer.connections,
            round_trip_us: peer.round_trip_us,
            agent: optional_text("agent", peer.agent, LABEL_BYTES_MAX)?,
            member: peer.member,
            in_routing_table: peer.in_routing_table,
            in_gossip_mesh: peer.in_gossip_mesh,
        })
    };
    let peers = bounded("peers", swarm.peers, CONNECTIONS_MAX as usize)?;
    Ok(SwarmDescription {
        node: swarm.node.map(NodeId),
        peer_id: text("peer id", swarm.peer_id, LABEL_BYTES_MAX)?,
        listening: addresses(swarm.listening)?,
        routing_table: swarm.routing_table,
        peers: peers.into_iter().map(peer).collect::<Result<_, DecodeError>>()?,
    })
}
