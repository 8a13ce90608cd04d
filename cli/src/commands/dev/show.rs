//! A dev cluster for people and scripts.

use serde::{Deserialize, Serialize};

use crate::errors::Result;
use crate::output::{Out, Row, emit, note, or_dash, short_peer};

/// A cluster as its supervisor tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fleet {
    pub(super) name: String,
    /// Of the supervisor.
    pub(super) pid: u32,
    pub(super) keep: bool,
    pub(super) memory: bool,
    /// From the start to all nodes ready; none while they are starting.
    pub(super) ready_ms: Option<u64>,
    pub(super) nodes: Vec<Node>,
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Node {
    /// Its number here, from 1: what `kill` and `restart` take.
    pub(super) node: u32,
    /// Its number in the cluster's metadata.
    pub(super) node_id: Option<u64>,
    pub(super) peer_id: Option<String>,
    /// Mesh addresses with the peer id.
    pub(super) mesh: Vec<String>,
    /// Where Kafka clients connect.
    pub(super) kafka: Option<String>,
    pub(super) ops: Option<String>,
    pub(super) pid: Option<u32>,
    /// `starting`, `ready`, `stopping`, `stopped`, `killed`, or how it ended.
    pub(super) status: String,
    pub(super) data_dir: String,
    pub(super) log: String,
}

impl Row for Node {
    const COLUMNS: &'static [&'static str] = &["NODE", "PEER", "KAFKA", "PID", "STATUS"];

    fn cells(&self) -> Vec<String> {
        let peer = or_dash(self.peer_id.as_deref().map(short_peer));
        let kafka = or_dash(self.kafka.as_ref());
        vec![self.node.to_string(), peer, kafka, or_dash(self.pid), self.status.clone()]
    }
}

impl Fleet {
    /// A mesh address of each node.
    pub(super) fn bootstrap(&self) -> Vec<String> {
        self.nodes.iter().filter_map(|node| node.mesh.first().map(|address| host_port(address))).collect()
    }
}

/// `127.0.0.1:7300` of `/ip4/127.0.0.1/tcp/7300/p2p/…`; the address itself if it has another form.
pub(super) fn host_port(address: &str) -> String {
    let mut parts = address.split('/').skip(1);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("ip4" | "dns" | "dns4" | "dns6"), Some(host), Some("tcp"), Some(port)) => format!("{host}:{port}"),
        (Some("ip6"), Some(host), Some("tcp"), Some(port)) => format!("[{host}]:{port}"),
        _ => address.to_owned(),
    }
}

/// The nodes as a list.
pub(super) fn status(fleet: &Fleet, out: Out) -> Result {
    out.rows(&fleet.nodes)
}

/// What is said when a cluster is ready: a banner for one node, a table for several.
pub(super) fn ready(fleet: &Fleet, out: Out) -> Result {
    if out.structured()? != crate::output::Format::Table {
        return out.rows(&fleet.nodes);
    }
    let [node] = fleet.nodes.as_slice() else {
        out.rows(&fleet.nodes)?;
        note(&last_words(fleet));
        return Ok(());
    };
    emit(&banner(fleet, node))
}

fn banner(fleet: &Fleet, node: &Node) -> String {
    let mesh = node.mesh.first().map_or("-", String::as_str);
    let data = match (fleet.keep, fleet.memory) {
        (true, _) => "kept data",
        (_, true) => "records in memory",
        _ => "temporary data",
    };
    let kafka = or_dash(node.kafka.as_ref());
    let ops = or_dash(node.ops.as_ref().map(|ops| format!("http://{ops}")));
    format!(
        "  Rafka {} · dev mode: {data}, no auth, loopback only\n\
         \x20 Kafka     {kafka}\n\
         \x20 Mesh      {mesh}\n\
         \x20 Ops       {ops}      (metrics, health)\n\
         {}\n\
         \x20 Try:   rafka topic create orders -p 3\n\
         \x20 Join:  rafka-node --bootstrap {mesh}\n",
        rafka_node::args::version(),
        last_words(fleet),
    )
}

fn last_words(fleet: &Fleet) -> String {
    format!("  Context {:?} created and selected. Ready in {} ms.", fleet.name, fleet.ready_ms.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table;

    fn fleet(nodes: u32) -> Fleet {
        let node = |node: u32| Node {
            node,
            node_id: Some(u64::from(node)),
            peer_id: Some(format!("12D3KooWabc{node}qPw")),
            mesh: vec![format!("/ip4/127.0.0.1/tcp/{}/p2p/12D3KooWabc{node}qPw", 7299 + node)],
            kafka: Some(format!("127.0.0.1:{}", 9091 + node)),
            ops: Some("127.0.0.1:9644".to_owned()),
            pid: Some(4100 + node),
            status: "ready".to_owned(),
            data_dir: String::new(),
            log: String::new(),
        };
        let nodes = (1..=nodes).map(node).collect();
        Fleet { name: "dev".to_owned(), pid: 1, keep: false, memory: false, ready_ms: Some(84), nodes }
    }

    #[test]
    fn one_node_gets_a_banner() {
        let fleet = fleet(1);
        let expected = "\
 · dev mode: temporary data, no auth, loopback only
  Kafka     127.0.0.1:9092
  Mesh      /ip4/127.0.0.1/tcp/7300/p2p/12D3KooWabc1qPw
  Ops       http://127.0.0.1:9644      (metrics, health)
  Context \"dev\" created and selected. Ready in 84 ms.
  Try:   rafka topic create orders -p 3
  Join:  rafka-node --bootstrap /ip4/127.0.0.1/tcp/7300/p2p/12D3KooWabc1qPw
";
        let text = banner(&fleet, &fleet.nodes[0]);
        assert!(text.starts_with("  Rafka ") && text.ends_with(expected), "{text}");
    }

    #[test]
    fn several_nodes_get_a_table() {
        let text = table(Node::COLUMNS, fleet(2).nodes.iter().map(Row::cells));
        let expected = "\
NODE  PEER      KAFKA           PID   STATUS
1     12D3…qPw  127.0.0.1:9092  4101  ready
2     12D3…qPw  127.0.0.1:9093  4102  ready
";
        assert_eq!(text, expected);
    }

    #[test]
    fn addresses_are_short() {
        assert_eq!(host_port("/ip6/::1/tcp/7300/p2p/x"), "[::1]:7300");
        assert_eq!(host_port("/unix/x"), "/unix/x");
    }
}
