//! Which cluster: the one of the data directory, one that bootstrap peers know, or a new one.

use rafka_model::ClusterId;
use rafka_protocols::hello::{ClusterKey, Hello};
use tracing::info;

use super::ServerError;
use crate::cluster::Reachable;
use crate::config::Config;
use crate::datadir::DataDir;
use crate::mesh::identity::Identity;
use crate::mesh::joiner::{self, Outcome, Search};
use crate::mesh::{Multiaddr, PeerId};

/// What a node without a cluster does next.
pub(super) enum Plan {
    /// Founds one.
    Found,
    /// Joins the one that a peer told of.
    Join(ClusterKey, Vec<Reachable>),
}

/// Decides for an empty data directory (CLUSTER.md, "Bootstrap").
pub(super) async fn plan(
    config: &Config,
    data: &DataDir,
    identity: &Identity,
    known: Option<ClusterId>,
) -> Result<Plan, ServerError> {
    let cluster = &config.cluster;
    if known.is_none() && (cluster.init || (config.mesh.bootstrap.is_empty() && cluster.bootstrap_expect.is_none())) {
        if let Some(pinned) = cluster.id {
            return Err(ServerError::Conflict(format!(
                "cannot found cluster {pinned}: a new cluster makes its own id\n  hint: drop --cluster-id, or name a peer with --bootstrap"
            )));
        }
        return Ok(Plan::Found);
    }
    let listen: Vec<Multiaddr> = config.mesh.listen.iter().map(|address| address.multiaddr().clone()).collect();
    let search = Search {
        key: &identity.keypair,
        listen: &listen,
        bootstrap: &config.mesh.bootstrap,
        expect: if known.is_some() { None } else { cluster.bootstrap_expect },
        cluster: known.or(cluster.id),
        nominee: data.nominee().and_then(|text| text.parse().ok()),
    };
    let outcome =
        joiner::search(search, |nominee: PeerId| data.save_nominee(&nominee.to_string()).map_err(|e| e.to_string()))
            .await?;
    Ok(match outcome {
        Outcome::Found => Plan::Found,
        Outcome::Join(key, hello, told_by) => {
            info!(%told_by, cluster = %key.id, members = hello.members.len(), "a cluster was found");
            Plan::Join(key, first_peers(&hello, told_by))
        }
    })
}

/// Voters first, then whoever answered, then the others.
fn first_peers(hello: &Hello, told_by: PeerId) -> Vec<Reachable> {
    let mut members: Vec<_> = hello.members.iter().filter_map(|member| Some((member, member.peer()?))).collect();
    members.sort_by_key(|(member, peer)| (!member.voter, *peer != told_by));
    // Ids are not known before the image is; they only serve messages.
    let reachable = |(member, peer): (&rafka_protocols::hello::Member, PeerId)| Reachable {
        id: rafka_model::NodeId(0),
        peer,
        addresses: member.multiaddrs(),
        lanes: Vec::new(),
    };
    members.into_iter().map(reachable).collect()
}
