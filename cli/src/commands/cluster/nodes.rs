//! `rafka cluster nodes`

use std::collections::BTreeMap;

use rafka_client::{ClusterDescription, Node};
use serde::Serialize;

use super::{number, standing};
use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, Row, list, or_dash, short_peer};

/// A node in a list.
#[derive(Debug, Serialize)]
struct Line {
    node: u64,
    peer_id: String,
    addresses: Vec<String>,
    /// Endpoints of Kafka listeners by their names; `:PORT` is at the host of the mesh address.
    kafka: BTreeMap<String, String>,
    ops: Option<String>,
    rack: Option<String>,
    role: rafka_broker::metadata::Role,
    status: &'static str,
    controller: bool,
    voter: bool,
    epoch: u64,
    version: String,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] =
        &["NODE", "PEER", "ADDRESS", "KAFKA", "RACK", "QUORUM", "STATUS", "VERSION"];

    fn cells(&self) -> Vec<String> {
        let quorum = match (self.controller, self.voter) {
            (true, _) => "controller",
            (_, true) => "voter",
            _ => "-",
        };
        vec![
            self.node.to_string(),
            short_peer(&self.peer_id),
            list(&self.addresses),
            list(self.kafka.values().cloned().collect::<Vec<_>>()),
            or_dash(self.rack.as_ref()),
            quorum.to_owned(),
            self.status.to_owned(),
            self.version.clone(),
        ]
    }
}

pub(super) async fn run(cluster: &ClusterArgs, out: Out) -> Result {
    let cluster = cluster.connect().await?.admin().cluster().await?;
    out.rows(&cluster.nodes.iter().map(|node| line(&cluster, node)).collect::<Vec<_>>())
}

fn line(cluster: &ClusterDescription, node: &Node) -> Line {
    Line {
        node: number(node.id),
        peer_id: node.peer_id.clone(),
        addresses: node.addresses.clone(),
        kafka: node.kafka.clone(),
        ops: node.ops.clone(),
        rack: node.rack.clone(),
        role: node.role,
        status: standing(cluster, node),
        controller: cluster.controller == Some(node.id),
        voter: cluster.voters.contains(&node.id),
        epoch: node.epoch.0,
        version: node.version.clone(),
    }
}
