//! `rafka mesh peers`

use serde::Serialize;

use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, Row, list, or_dash, short_peer};

/// A peer in a list.
#[derive(Debug, Serialize)]
struct Line {
    /// Its number in the cluster's metadata; none if it is not registered.
    node: Option<u64>,
    peer_id: String,
    addresses: Vec<String>,
    connected: bool,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["NODE", "PEER", "ADDRESSES", "CONNECTED"];

    fn cells(&self) -> Vec<String> {
        let connected = if self.connected { "yes" } else { "no" };
        vec![or_dash(self.node), short_peer(&self.peer_id), list(&self.addresses), connected.to_owned()]
    }
}

pub(super) async fn run(cluster: &ClusterArgs, out: Out) -> Result {
    let client = cluster.connect().await?;
    let nodes = client.admin().cluster().await?.nodes;
    let number = |peer: &str| nodes.iter().find(|node| node.peer_id == peer).map(|node| node.id.0);
    let mut rows: Vec<Line> = Vec::new();
    for peer in client.mesh().peers() {
        let peer_id = peer.peer.to_string();
        let addresses = peer.addresses.iter().map(ToString::to_string).collect();
        rows.push(Line { node: number(&peer_id), peer_id, addresses, connected: peer.connected });
    }
    rows.sort_by_key(|line| (line.node.is_none(), line.node, line.peer_id.clone()));
    out.rows(&rows)
}
