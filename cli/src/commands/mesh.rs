//! `rafka mesh …`.

mod graph;
mod peers;
mod ping;
mod route;

use clap::{Args, Subcommand};

use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::Out;

/// Look at the swarm, and at how partitions are found in it.
#[derive(Args, Debug)]
pub(crate) struct MeshArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the nodes that this client knows.
    Peers,
    /// Measure the way to nodes.
    Ping(ping::PingArgs),
    /// Find the leader of a partition, and show how it was found.
    Route(route::RouteArgs),
    /// Draw the swarm as it is seen from here.
    Graph(graph::GraphArgs),
}

impl MeshArgs {
    pub(crate) async fn run(self, out: Out) -> Result {
        out.structured()?;
        match self.verb {
            Verb::Peers => peers::run(&self.cluster, out).await,
            Verb::Ping(args) => args.run(&self.cluster, out).await,
            Verb::Route(args) => args.run(&self.cluster, out).await,
            Verb::Graph(args) => args.run(&self.cluster, out).await,
        }
    }
}
