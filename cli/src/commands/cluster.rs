//! `rafka cluster …`.

mod health;
mod nodes;
mod partitions;
mod status;

use clap::{Args, Subcommand};
use rafka_client::{ClusterDescription, Node, NodeId};

use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::Out;

pub(crate) use health::look;

/// Look at the cluster.
#[derive(Args, Debug)]
pub(crate) struct ClusterCommand {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the cluster in numbers.
    Status,
    /// Say whether the cluster is healthy; exit code 10 if it is not.
    Health(health::HealthArgs),
    /// List the nodes.
    Nodes,
    /// List the partitions of all topics.
    Partitions(partitions::PartitionsArgs),
}

impl ClusterCommand {
    pub(crate) async fn run(self, out: Out) -> Result {
        out.structured()?;
        match self.verb {
            Verb::Status => status::run(&self.cluster, out).await,
            Verb::Health(args) => args.run(&self.cluster, out).await,
            Verb::Nodes => nodes::run(&self.cluster, out).await,
            Verb::Partitions(args) => args.run(&self.cluster, out).await,
        }
    }
}

/// How a node is: out of service, in service but not reached by the node that was asked, or well.
pub(crate) fn standing(cluster: &ClusterDescription, node: &Node) -> &'static str {
    if node.fenced {
        "fenced"
    } else if cluster.unreachable.contains(&node.id) {
        "unreachable"
    } else {
        "up"
    }
}

/// The nodes that are not well.
pub(crate) fn down(cluster: &ClusterDescription) -> Vec<&Node> {
    cluster.nodes.iter().filter(|node| standing(cluster, node) != "up").collect()
}

/// The number of a node.
pub(crate) fn number(node: NodeId) -> u64 {
    node.0
}
