//! `rafka cluster health`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use rafka_client::{Client, ClusterDescription, NodeId, TopicDescription};
use serde::Serialize;

use super::{down, standing};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Exit, Result};
use crate::interrupt::Interrupt;
use crate::output::{Out, note, short_peer};
use crate::times::{parse_span, show_span};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Say whether the cluster is healthy; exit code 10 if it is not.
#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    /// Wait until it is.
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
    /// Longest wait.
    #[arg(long, value_name = "TIME", value_parser = parse_span, default_value = "60s")]
    timeout: Duration,
    /// Say it again whenever it changes, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// How a cluster is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Health {
    pub(crate) healthy: bool,
    pub(crate) nodes: usize,
    pub(crate) nodes_down: usize,
    pub(crate) offline_partitions: u32,
    pub(crate) under_replicated: u32,
    pub(crate) hints: Vec<String>,
}

impl HealthArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let began = Instant::now();
        let interrupt = Interrupt::install()?;
        let mut client = None;
        let mut shown = None;
        loop {
            let looked = tokio::select! {
                looked = connect_and_look(cluster, &mut client) => looked,
                () = interrupt.wait() => return Err(CliError::silent(Exit::Interrupted)),
            };
            let over = began.elapsed() >= self.timeout;
            match looked {
                Ok(health) if self.watch => {
                    if shown.as_ref() != Some(&health) {
                        health.show(out)?;
                        shown = Some(health);
                    }
                }
                Ok(health) if health.healthy || !self.wait || over => {
                    health.show(out)?;
                    if !health.healthy && self.wait {
                        note(&format!("  still unhealthy after {}", show_span(self.timeout)));
                    }
                    return if health.healthy { Ok(()) } else { Err(CliError::silent(Exit::Unhealthy)) };
                }
                Ok(_) => {}
                Err(error) if self.watch => {
                    if shown.take().is_some() {
                        error.print(out.is_json());
                    }
                }
                Err(error) if error.code() != Exit::Unreachable as u8 || !self.wait || over => return Err(error),
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = interrupt.wait() => return Err(CliError::silent(Exit::Interrupted)),
            }
        }
    }
}

async fn connect_and_look(cluster: &ClusterArgs, client: &mut Option<Client>) -> Result<Health> {
    let client = match client {
        Some(client) => client,
        None => client.insert(cluster.connect().await?),
    };
    look(client).await
}

/// Looks at the cluster once.
///
/// # Errors
/// No node answers.
pub(crate) async fn look(client: &Client) -> Result<Health> {
    let admin = client.admin();
    let cluster = admin.cluster().await?;
    // What metadata says of partitions lags behind a node that has just gone; then each partition is looked at.
    let topics = if cluster.unreachable.is_empty() { None } else { Some(admin.topics().await?) };
    let dev = super::super::dev::numbers().await;
    Ok(Health::of(&cluster, topics.as_deref(), &dev))
}

impl Health {
    /// `dev`: numbers of the nodes of dev clusters on this machine, by peer id.
    fn of(cluster: &ClusterDescription, topics: Option<&[TopicDescription]>, dev: &BTreeMap<String, String>) -> Self {
        let down = down(cluster);
        let (offline_partitions, under_replicated) = match topics {
            None => (cluster.offline_partitions, cluster.under_replicated),
            Some(topics) => count(topics, &down.iter().map(|node| node.id).collect::<Vec<_>>()),
        };
        let mut hints: Vec<String> = Vec::new();
        for node in &down {
            let state = standing(cluster, node);
            let start = match dev.get(&node.peer_id) {
                Some(command) => format!("`{command}`"),
                None => "start it again".to_owned(),
            };
            let peer = short_peer(&node.peer_id);
            hints.push(format!("node {} ({peer}) {state}; {start} or `rafka cluster health --wait`", node.id));
        }
        if cluster.controller.is_none() {
            hints.push(
                "the metadata quorum has no leader that node ".to_owned()
                    + &format!("{} knows of", cluster.answered_by),
            );
        }
        if offline_partitions > 0 && down.is_empty() {
            hints.push("see which: `rafka cluster partitions --offline`".to_owned());
        }
        let healthy =
            down.is_empty() && offline_partitions == 0 && under_replicated == 0 && cluster.controller.is_some();
        Self {
            healthy,
            nodes: cluster.nodes.len(),
            nodes_down: down.len(),
            offline_partitions,
            under_replicated,
            hints,
        }
    }

    fn show(&self, out: Out) -> Result {
        out.one(self, || self.words())?;
        if out.structured()? == crate::output::Format::Table {
            for hint in &self.hints {
                note(&format!("  hint: {hint}"));
            }
        }
        Ok(())
    }

    pub(crate) fn words(&self) -> String {
        let word = if self.healthy { "HEALTHY" } else { "UNHEALTHY" };
        let nodes = match self.nodes_down {
            0 if self.nodes == 1 => "1 node".to_owned(),
            0 => format!("{} nodes", self.nodes),
            down => format!("{down} of {} nodes down", self.nodes),
        };
        let Self { offline_partitions, under_replicated, .. } = self;
        format!("{word}  {nodes} · {offline_partitions} offline partitions · {under_replicated} under-replicated\n")
    }
}

/// Partitions that nobody leads, and those that have lost replicas, if these nodes are gone.
fn count(topics: &[TopicDescription], down: &[NodeId]) -> (u32, u32) {
    let (mut offline, mut under_replicated) = (0, 0);
    for (_, state) in topics.iter().flat_map(|topic| &topic.partitions) {
        let in_sync = state.isr.iter().filter(|node| !down.contains(node)).count();
        offline += u32::from(state.leader.is_none_or(|leader| down.contains(&leader)));
        under_replicated += u32::from(in_sync < state.replicas.len());
    }
    (offline, under_replicated)
}

#[cfg(test)]
mod tests {
    use rafka_client::{Node, PartitionId, PartitionState, TopicName};
    use rafka_model::{
        BootId, BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, MetadataIndex, PartitionEpoch, TopicId,
    };

    use super::*;
    use crate::output::json_line;

    fn node(id: u64) -> Node {
        Node {
            id: NodeId(id),
            peer_id: format!("12D3KooWabc{id}qPw"),
            directory: DirectoryId([0; 16]),
            epoch: BrokerEpoch(id),
            boot: BootId([0; 16]),
            incarnation: [0; 16],
            addresses: Vec::new(),
            lanes: Vec::new(),
            kafka: BTreeMap::new(),
            ops: None,
            rack: None,
            weight_milli: 1000,
            role: rafka_broker::metadata::Role::Broker,
            version: String::new(),
            fenced: false,
            draining: false,
            features_max: 1,
        }
    }

    fn cluster(unreachable: &[u64]) -> ClusterDescription {
        ClusterDescription {
            cluster_id: ClusterId([0; 32]),
            controller: Some(NodeId(1)),
            voters: vec![NodeId(1)],
            nodes: vec![node(1), node(2), node(3)],
            answered_by: NodeId(1),
            index: MetadataIndex(9),
            topics: 1,
            partitions: 3,
            offline_partitions: 0,
            under_replicated: 0,
            unreachable: unreachable.iter().copied().map(NodeId).collect(),
        }
    }

    fn topic(replicas: [u64; 3]) -> TopicDescription {
        let replicas: Vec<NodeId> = replicas.map(NodeId).into();
        let state = |leader: u64| PartitionState {
            replicas: replicas.clone(),
            leader: Some(NodeId(leader)),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            isr: replicas.clone(),
            elr: Vec::new(),
            ..PartitionState::default()
        };
        TopicDescription {
            id: TopicId([0; 16]),
            name: TopicName::new("orders").expect("a name"),
            configs: BTreeMap::new(),
            replication_factor: 3,
            partitions: (0..3).map(|id| (PartitionId(id), state(u64::from(id) + 1))).collect(),
        }
    }

    #[test]
    fn a_well_cluster_is_healthy() {
        let health = Health::of(&cluster(&[]), None, &BTreeMap::new());
        assert_eq!(health.words(), "HEALTHY  3 nodes · 0 offline partitions · 0 under-replicated\n");
        assert!(health.hints.is_empty());
    }

    #[test]
    fn a_node_that_has_just_gone_counts_before_it_is_fenced() {
        let dev = BTreeMap::from([("12D3KooWabc2qPw".to_owned(), "rafka dev restart 2".to_owned())]);
        let health = Health::of(&cluster(&[2]), Some(&[topic([1, 2, 3])]), &dev);
        assert_eq!(health.words(), "UNHEALTHY  1 of 3 nodes down · 1 offline partitions · 3 under-replicated\n");
        let hint = "node 2 (12D3…qPw) unreachable; `rafka dev restart 2` or `rafka cluster health --wait`";
        assert_eq!(health.hints, [hint]);
        let expected = format!(
            "{{\"healthy\":false,\"nodes\":3,\"nodes_down\":1,\"offline_partitions\":1,\"under_replicated\":3,\"hints\":[\"{hint}\"]}}\n"
        );
        assert_eq!(json_line(&health), expected);
    }

    #[test]
    fn a_quorum_without_a_leader_is_not_healthy() {
        let leaderless = ClusterDescription { controller: None, ..cluster(&[]) };
        let health = Health::of(&leaderless, None, &BTreeMap::new());
        assert!(!health.healthy && health.hints[0].contains("no leader"), "{health:?}");
    }
}
