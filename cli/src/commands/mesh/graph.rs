//! `rafka mesh graph`

use std::collections::BTreeMap;

use clap::Args;
use rafka_client::{ClusterDescription, NodeId, PeerInfo, SwarmDescription, TopicDescription};
use serde::Serialize;

use super::swarms;
use crate::commands::cluster::standing;
use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, emit, list, short_peer};

/// Draw who is connected with whom: this client, and every node as it says itself.
#[derive(Args, Debug)]
pub(super) struct GraphArgs {
    /// As a Graphviz digraph (`| dot -Tsvg`).
    #[arg(long, conflicts_with = "output")]
    dot: bool,
}

/// The swarm.
#[derive(Debug, Serialize)]
struct Graph {
    client: String,
    nodes: Vec<Vertex>,
    edges: Vec<Edge>,
}

#[derive(Debug, Serialize)]
struct Vertex {
    node: u64,
    peer_id: String,
    addresses: Vec<String>,
    status: &'static str,
    controller: bool,
    /// Partitions that it leads.
    leads: usize,
}

/// A connection.
#[derive(Debug, Serialize)]
struct Edge {
    /// A node's number, or `client`.
    from: String,
    to: String,
}

impl GraphArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let client = cluster.connect().await?;
        let admin = client.admin();
        let (cluster, topics) = tokio::try_join!(admin.cluster(), admin.topics())?;
        let swarms = swarms(&client, &cluster.nodes).await;
        let local = client.local_peer_id().to_string();
        let graph = Graph::new(&local, &cluster, &topics, &client.mesh().peers(), &swarms);
        if self.dot { emit(&graph.dot()) } else { out.one(&graph, || graph.words()) }
    }
}

impl Graph {
    fn new(
        client: &str,
        cluster: &ClusterDescription,
        topics: &[TopicDescription],
        peers: &[PeerInfo],
        swarms: &BTreeMap<u64, SwarmDescription>,
    ) -> Self {
        let mut leads: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, state) in topics.iter().flat_map(|topic| &topic.partitions) {
            if let Some(leader) = state.leader {
                *leads.entry(leader.0).or_default() += 1;
            }
        }
        let connected: Vec<String> =
            peers.iter().filter(|peer| peer.connected).map(|peer| peer.peer.to_string()).collect();
        let (mut nodes, mut edges) = (Vec::new(), Vec::new());
        for node in &cluster.nodes {
            let status = standing(cluster, node);
            if connected.contains(&node.peer_id) {
                edges.push(Edge { from: "client".to_owned(), to: node.id.to_string() });
            }
            // Each connection once: from the lower number, or from the only end that tells of it.
            let members =
                swarms.get(&node.id.0).into_iter().flat_map(|swarm| &swarm.peers).filter_map(|peer| peer.node);
            let drawn = |other: &NodeId| node.id < *other || !swarms.contains_key(&other.0);
            edges.extend(members.filter(drawn).map(|other| Edge { from: node.id.to_string(), to: other.to_string() }));
            nodes.push(Vertex {
                node: node.id.0,
                peer_id: node.peer_id.clone(),
                addresses: node.addresses.clone(),
                status,
                controller: cluster.controller == Some(node.id),
                leads: leads.get(&node.id.0).copied().unwrap_or(0),
            });
        }
        Self { client: client.to_owned(), nodes, edges }
    }

    fn peers_of(&self, from: &str) -> Vec<&Vertex> {
        let to = |node: &Vertex| {
            let node = node.node.to_string();
            self.edges.iter().any(|edge| edge.from == from && edge.to == node || edge.to == from && edge.from == node)
        };
        self.nodes.iter().filter(|node| to(node)).collect()
    }

    /// A tree for the client and for each node: what it is connected to.
    fn words(&self) -> String {
        let mut text = format!("client ({})\n", short_peer(&self.client));
        text.push_str(&tree(&self.peers_of("client")));
        for node in self.nodes.iter().filter(|node| node.status == "up") {
            text.push_str(&format!("{}\n", node.words()));
            text.push_str(&tree(&self.peers_of(&node.node.to_string())));
        }
        let lost: Vec<&Vertex> = self.nodes.iter().filter(|node| node.status != "up").collect();
        if !lost.is_empty() {
            text.push_str("not connected\n");
            text.push_str(&tree(&lost));
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = String::from("graph rafka {\n  node [shape=box, fontname=\"monospace\"];\n");
        text.push_str(&format!("  \"client\" [label=\"client\\n{}\", style=rounded];\n", short_peer(&self.client)));
        for node in &self.nodes {
            let style = if node.status == "up" { "solid" } else { "dashed" };
            let label = format!("node {}\\n{}\\nleads {}", node.node, short_peer(&node.peer_id), node.leads);
            text.push_str(&format!("  \"{}\" [label=\"{label}\", style={style}];\n", node.node));
        }
        for edge in &self.edges {
            text.push_str(&format!("  \"{}\" -- \"{}\";\n", edge.from, edge.to));
        }
        text.push_str("}\n");
        text
    }
}

impl Vertex {
    fn words(&self) -> String {
        let controller = if self.controller { ", controller" } else { "" };
        let (peer, addresses) = (short_peer(&self.peer_id), list(&self.addresses));
        format!("node {} ({peer})  {addresses}  {}{controller}, leads {}", self.node, self.status, self.leads)
    }
}

fn tree(nodes: &[&Vertex]) -> String {
    let branch = |i: usize| if i + 1 == nodes.len() { "└──" } else { "├──" };
    nodes.iter().enumerate().map(|(i, node)| format!("{} {}\n", branch(i), node.words())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(node: u64, status: &'static str) -> Vertex {
        let peer_id = format!("12D3KooWabc{node}xyz");
        Vertex { node, peer_id, addresses: vec!["/a".to_owned()], status, controller: node == 1, leads: 2 }
    }

    fn graph() -> Graph {
        let edge = |from: &str, to: &str| Edge { from: from.to_owned(), to: to.to_owned() };
        Graph {
            client: "12D3KooWclient".to_owned(),
            nodes: vec![vertex(1, "up"), vertex(4, "up"), vertex(6, "fenced")],
            edges: vec![edge("client", "1"), edge("client", "4"), edge("1", "4")],
        }
    }

    #[test]
    fn the_trees_show_who_is_connected_to_whom() {
        let expected = "\
client (12D3…ent)
├── node 1 (12D3…xyz)  /a  up, controller, leads 2
└── node 4 (12D3…xyz)  /a  up, leads 2
node 1 (12D3…xyz)  /a  up, controller, leads 2
└── node 4 (12D3…xyz)  /a  up, leads 2
node 4 (12D3…xyz)  /a  up, leads 2
└── node 1 (12D3…xyz)  /a  up, controller, leads 2
not connected
└── node 6 (12D3…xyz)  /a  fenced, leads 2
";
        assert_eq!(graph().words(), expected);
    }

    #[test]
    fn dot_has_every_edge_once() {
        let dot = graph().dot();
        assert!(dot.starts_with("graph rafka {\n") && dot.ends_with("}\n"), "{dot}");
        assert_eq!(dot.matches(" -- ").count(), 3);
        assert!(dot.contains("style=dashed"), "{dot}");
    }
}
