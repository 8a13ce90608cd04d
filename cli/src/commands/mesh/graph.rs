//! `rafka mesh graph`

use std::collections::BTreeMap;

use clap::Args;
use rafka_client::{ClusterDescription, PeerInfo, TopicDescription};
use serde::Serialize;

use crate::commands::cluster::standing;
use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, emit, list, short_peer};

/// Draw the swarm as it is seen from here: this client's connections, and those of the node that answered.
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
    /// The node whose connections are drawn.
    seen_by: u64,
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
        let graph = Graph::new(&client.local_peer_id().to_string(), &cluster, &topics, &client.mesh().peers());
        if self.dot { emit(&graph.dot()) } else { out.one(&graph, || graph.words()) }
    }
}

impl Graph {
    fn new(client: &str, cluster: &ClusterDescription, topics: &[TopicDescription], peers: &[PeerInfo]) -> Self {
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
            if node.id != cluster.answered_by && status == "up" {
                edges.push(Edge { from: cluster.answered_by.to_string(), to: node.id.to_string() });
            }
            nodes.push(Vertex {
                node: node.id.0,
                peer_id: node.peer_id.clone(),
                addresses: node.addresses.clone(),
                status,
                controller: cluster.controller == Some(node.id),
                leads: leads.get(&node.id.0).copied().unwrap_or(0),
            });
        }
        Self { client: client.to_owned(), seen_by: cluster.answered_by.0, nodes, edges }
    }

    fn peers_of(&self, from: &str) -> Vec<&Vertex> {
        let to = |node: &Vertex| self.edges.iter().any(|edge| edge.from == from && edge.to == node.node.to_string());
        self.nodes.iter().filter(|node| to(node)).collect()
    }

    /// Two trees: what the client, and what the node that answered, is connected to.
    fn words(&self) -> String {
        let seen_by = self.seen_by.to_string();
        let mut text = format!("client ({})\n", short_peer(&self.client));
        text.push_str(&tree(&self.peers_of("client")));
        if let Some(node) = self.nodes.iter().find(|node| node.node == self.seen_by) {
            text.push_str(&format!("{}\n", node.words()));
        }
        text.push_str(&tree(&self.peers_of(&seen_by)));
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
            seen_by: 1,
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
