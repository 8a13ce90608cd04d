//! `rafka topic create`

use clap::Args;
use rafka_client::{ErrorKind, NewTopic};

use super::{Changed, finish, parse_config};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::Out;

/// Make topics.
#[derive(Args, Debug)]
pub(super) struct CreateArgs {
    /// Names of the topics.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Partitions of each; without it the cluster's default.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// Replicas of each partition; without it the cluster's default.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    replication_factor: Option<u16>,
    /// Config of the topics, such as retention.ms=3600000. Repeatable; see `rafka topic describe --configs`.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_config)]
    config: Vec<(String, String)>,
    /// A topic that exists already is fine, whatever it looks like.
    #[arg(long)]
    if_not_exists: bool,
    /// Check only, change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl CreateArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let new = |name: &String| NewTopic {
            name: name.clone(),
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            configs: self.config.iter().cloned().collect(),
            assignments: Vec::new(),
        };
        let topics = self.topics.iter().map(new).collect();
        let admin = cluster.connect().await?.admin();
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for (name, result) in admin.create_topics(topics, self.dry_run).await? {
            match result {
                Ok(topic) => rows.push(Changed::new(&topic, if self.dry_run { "would be created" } else { "created" })),
                Err(error) if error.kind() == ErrorKind::Conflict && self.if_not_exists => {
                    rows.push(Changed { topic: name, partitions: None, replicas: None, status: "exists" });
                }
                Err(error) => errors.push(CliError::from(error)),
            }
        }
        finish(out, &rows, errors)
    }
}
