//! `rafka cluster status`

use serde::Serialize;

use super::{down, number};
use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, fields, list, or_dash};

/// The cluster in numbers.
#[derive(Debug, Serialize)]
struct Status {
    cluster_id: String,
    controller: Option<u64>,
    voters: Vec<u64>,
    nodes: usize,
    nodes_down: usize,
    topics: u32,
    partitions: u32,
    offline_partitions: u32,
    under_replicated: u32,
    metadata_index: u64,
    answered_by: u64,
}

pub(super) async fn run(cluster: &ClusterArgs, out: Out) -> Result {
    let cluster = cluster.connect().await?.admin().cluster().await?;
    let status = Status {
        cluster_id: cluster.cluster_id.to_string(),
        controller: cluster.controller.map(number),
        voters: cluster.voters.iter().copied().map(number).collect(),
        nodes: cluster.nodes.len(),
        nodes_down: down(&cluster).len(),
        topics: cluster.topics,
        partitions: cluster.partitions,
        offline_partitions: cluster.offline_partitions,
        under_replicated: cluster.under_replicated,
        metadata_index: cluster.index.0,
        answered_by: number(cluster.answered_by),
    };
    out.one(&status, || status.words())
}

impl Status {
    fn words(&self) -> String {
        let nodes = match self.nodes_down {
            0 => self.nodes.to_string(),
            down => format!("{} ({down} down)", self.nodes),
        };
        let trouble = |number: u32, what: &str| if number == 0 { String::new() } else { format!(", {number} {what}") };
        let offline = trouble(self.offline_partitions, "offline");
        let under_replicated = trouble(self.under_replicated, "under-replicated");
        fields([
            ("Cluster", self.cluster_id.clone()),
            ("Controller", or_dash(self.controller.map(|node| format!("node {node}")))),
            ("Voters", list(&self.voters)),
            ("Nodes", nodes),
            ("Topics", self.topics.to_string()),
            ("Partitions", format!("{}{offline}{under_replicated}", self.partitions)),
            ("Metadata index", format!("{} (of node {})", self.metadata_index, self.answered_by)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_aligned_and_trouble_is_named() {
        let status = Status {
            cluster_id: "ab".to_owned(),
            controller: Some(1),
            voters: vec![1],
            nodes: 3,
            nodes_down: 1,
            topics: 2,
            partitions: 6,
            offline_partitions: 2,
            under_replicated: 0,
            metadata_index: 17,
            answered_by: 3,
        };
        let expected = "\
Cluster:        ab
Controller:     node 1
Voters:         1
Nodes:          3 (1 down)
Topics:         2
Partitions:     6, 2 offline
Metadata index: 17 (of node 3)
";
        assert_eq!(status.words(), expected);
    }
}
