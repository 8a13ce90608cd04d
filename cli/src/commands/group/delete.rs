//! `rafka group delete`

use clap::Args;
use clap_complete::ArgValueCompleter;
use rafka_client::{Client, ErrorKind};
use serde::Serialize;

use super::{Part, busy, finish, has_members};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::{Out, Row, or_dash};
use crate::prompt::confirm;

/// Delete groups without members, or some of their offsets.
#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    /// Names of the groups.
    #[arg(required = true, value_name = "GROUP", add = ArgValueCompleter::new(crate::complete::groups))]
    groups: Vec<String>,
    /// Only the offsets of this topic, or of some of its partitions (orders/0,2); the group stays. Repeatable.
    #[arg(long, value_name = "TOPIC[/N,N]", add = ArgValueCompleter::new(crate::complete::topics))]
    topic: Vec<Part>,
    /// A group that does not exist is fine.
    #[arg(long)]
    if_exists: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Check only, delete nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What became of a group, or of an offset.
#[derive(Debug, Serialize)]
struct Line {
    group: String,
    topic: Option<String>,
    partition: Option<u32>,
    status: &'static str,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["GROUP", "TOPIC", "PARTITION", "STATUS"];

    fn cells(&self) -> Vec<String> {
        vec![self.group.clone(), or_dash(self.topic.as_ref()), or_dash(self.partition), self.status.to_owned()]
    }
}

impl DeleteArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let groups = self.groups.join(", ");
        let what = match self.topic.as_slice() {
            [] => format!("delete {groups} with all offsets"),
            parts => {
                let topics: Vec<&str> = parts.iter().map(|part| part.topic.as_str()).collect();
                format!("delete the offsets of {groups} in {}", topics.join(", "))
            }
        };
        confirm(&what, self.yes || self.dry_run)?;
        let client = cluster.connect().await?;
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let done = match self.topic.as_slice() {
                [] => self.delete(&client, group).await.map(|line| rows.push(line)),
                _ => self.forget(&client, group, &mut rows).await,
            };
            errors.extend(done.err());
        }
        finish(out, &rows, errors)
    }

    async fn delete(&self, client: &Client, group: &str) -> Result<Line> {
        let admin = client.admin();
        let line = |status| Line { group: group.to_owned(), topic: None, partition: None, status };
        let done = if self.dry_run {
            match admin.describe_group(group).await {
                Ok(_) if has_members(&admin, group).await? => return Err(busy(group)),
                found => found.map(|_| line("would be deleted")),
            }
        } else {
            admin.delete_group(group).await.map(|()| line("deleted"))
        };
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound && self.if_exists => Ok(line("absent")),
            done => Ok(done?),
        }
    }

    async fn forget(&self, client: &Client, group: &str, rows: &mut Vec<Line>) -> Result {
        let admin = client.admin();
        // Topics may be gone; what counts is what the group has committed.
        let committed = admin.committed_offsets(group).await?.into_iter().filter(|found| found.offset >= 0);
        let meant = |topic: &str, partition: u32| {
            let of = |part: &Part| {
                part.topic.as_str() == topic && (part.partitions.is_empty() || part.partitions.contains(&partition))
            };
            self.topic.iter().any(of)
        };
        let wanted: Vec<_> = committed
            .filter(|found| meant(&found.topic, found.partition.0))
            .map(|found| (found.topic, found.partition))
            .collect();
        if wanted.is_empty() && !self.if_exists {
            let what = format!("group {group:?} has committed nothing there");
            return Err(CliError::new(crate::errors::Exit::NotFound, what).hint("see `rafka group lag`"));
        }
        let results = match self.dry_run || wanted.is_empty() {
            true => vec![Ok(()); wanted.len()],
            false => admin.delete_group_offsets(group, wanted.clone()).await?,
        };
        let mut failed = Ok(());
        for ((topic, partition), result) in wanted.into_iter().zip(results) {
            let status = if self.dry_run { "would be deleted" } else { "deleted" };
            match result {
                Ok(()) => {
                    let (group, topic, partition) = (group.to_owned(), Some(topic), Some(partition.0));
                    rows.push(Line { group, topic, partition, status });
                }
                Err(error) => failed = Err(CliError::from(error)),
            }
        }
        failed
    }
}
