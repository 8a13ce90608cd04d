//! `rafka mesh …`.

mod graph;
mod peers;
mod ping;
mod route;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures::future::join_all;
use rafka_client::{Client, Node, SwarmDescription};

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
    /// List the nodes, and what each one's swarm looks like.
    Peers,
    /// Measure the way to nodes.
    Ping(ping::PingArgs),
    /// Find the leader of a partition, and show how it was found.
    Route(route::RouteArgs),
    /// Draw who is connected with whom, as each node says.
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

/// A node that does not tell of its swarm within this time is shown without it.
const SWARM_WAIT: Duration = Duration::from_secs(2);

/// What each of `nodes` says of its own swarm, by node id; silent ones are left out.
async fn swarms(client: &Client, nodes: &[Node]) -> BTreeMap<u64, SwarmDescription> {
    let ask = |node: &Node| {
        let (id, peer, mesh) = (node.id.0, node.peer_id.parse(), client.mesh());
        async move {
            let swarm = tokio::time::timeout(SWARM_WAIT, mesh.swarm(peer.ok()?)).await.ok()?.ok()?;
            Some((id, swarm))
        }
    };
    join_all(nodes.iter().map(ask)).await.into_iter().flatten().collect()
}
