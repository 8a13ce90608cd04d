//! `rafka topic alter`

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::{Changed, parse_config};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::Out;

/// Change configs of a topic.
#[derive(Args, Debug)]
pub(super) struct AlterArgs {
    /// The topic.
    #[arg(add = ArgValueCompleter::new(crate::complete::topics))]
    topic: String,
    /// Set a config. Repeatable; see `rafka topic describe --configs`.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_config)]
    config: Vec<(String, String)>,
    /// Go back to a config's default. Repeatable.
    #[arg(long, value_name = "KEY")]
    reset: Vec<String>,
    /// Check only, change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl AlterArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let mut changes: BTreeMap<String, Option<String>> = BTreeMap::new();
        let set = self.config.into_iter().map(|(key, value)| (key, Some(value)));
        for (key, value) in set.chain(self.reset.into_iter().map(|key| (key, None))) {
            if changes.insert(key.clone(), value).is_some() {
                return Err(CliError::usage(format!("config {key:?} is changed twice")));
            }
        }
        if changes.is_empty() {
            return Err(CliError::usage("nothing to change").hint("name a change with -c KEY=VALUE or --reset KEY"));
        }
        let admin = cluster.connect().await?.admin();
        let topic = admin.alter_configs(&self.topic, changes, self.dry_run).await?;
        out.rows(&[Changed::new(&topic, if self.dry_run { "would be altered" } else { "altered" })])
    }
}
