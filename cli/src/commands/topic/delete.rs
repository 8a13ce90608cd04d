//! `rafka topic delete`

use clap::Args;
use clap_complete::ArgValueCompleter;
use rafka_client::ErrorKind;

use super::{Changed, finish};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::Out;
use crate::prompt::confirm;

/// Delete topics and their records.
#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    /// Names of the topics.
    #[arg(required = true, value_name = "TOPIC", add = ArgValueCompleter::new(crate::complete::topics))]
    topics: Vec<String>,
    /// A topic that does not exist is fine.
    #[arg(long)]
    if_exists: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Check only, change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl DeleteArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let what = format!("delete {} with all records", self.topics.join(", "));
        confirm(&what, self.yes || self.dry_run)?;
        let admin = cluster.connect().await?.admin();
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for (name, result) in admin.delete_topics(self.topics, self.dry_run).await? {
            match result {
                Ok(topic) => rows.push(Changed::new(&topic, if self.dry_run { "would be deleted" } else { "deleted" })),
                Err(error) if error.kind() == ErrorKind::NotFound && self.if_exists => {
                    rows.push(Changed { topic: name, partitions: None, replicas: None, status: "absent" });
                }
                Err(error) => errors.push(CliError::from(error)),
            }
        }
        finish(out, &rows, errors)
    }
}
