//! `rafka topic trim`

use clap::{ArgGroup, Args};
use clap_complete::ArgValueCompleter;
use rafka_client::{Admin, Offset, OffsetSpec, PartitionId, Timestamp, TopicName};
use serde::Serialize;

use super::offsets::look_up;
use super::{chosen, describe_one, finish};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::{Out, Row, or_dash};
use crate::prompt::confirm;
use crate::times::{show_time, time_flag};

/// Delete the oldest records of a topic.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("below").args(["before_offset", "before_time", "all"]).required(true))]
pub(super) struct TrimArgs {
    /// The topic.
    #[arg(add = ArgValueCompleter::new(crate::complete::topics))]
    topic: String,
    /// Delete the records below this offset of each partition.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    before_offset: Option<i64>,
    /// Delete the records before this time: RFC 3339, how long ago (10m), or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time_flag)]
    before_time: Option<Timestamp>,
    /// Delete all records that are committed.
    #[arg(long)]
    all: bool,
    /// Only this partition. Repeatable, or separated by commas.
    #[arg(short, long, value_name = "N", value_delimiter = ',')]
    partition: Vec<u32>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Show what would be deleted, delete nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What became of a partition.
#[derive(Debug, Serialize)]
struct Line {
    topic: String,
    partition: u32,
    /// First offset before.
    before: Option<i64>,
    /// First offset afterwards.
    log_start: Option<i64>,
    status: &'static str,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["TOPIC", "PARTITION", "BEFORE", "LOG START", "STATUS"];

    fn cells(&self) -> Vec<String> {
        let partition = self.partition.to_string();
        vec![self.topic.clone(), partition, or_dash(self.before), or_dash(self.log_start), self.status.to_owned()]
    }
}

impl TrimArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        confirm(&self.question(), self.yes || self.dry_run)?;
        let client = cluster.connect().await?;
        let topic = describe_one(&client, &self.topic).await?;
        let partitions = chosen(&topic, &self.partition)?;
        let admin = client.admin();
        let before = look_up(&admin, &topic.name, &partitions, OffsetSpec::Earliest).await;
        let below = self.below(&admin, &topic.name, &partitions).await?;
        let results: Vec<(PartitionId, Result<Offset>)> = if self.dry_run {
            let ends = look_up(&admin, &topic.name, &partitions, OffsetSpec::Latest).await;
            below.into_iter().zip(ends).map(|((partition, below), end)| (partition, would_be(below, end))).collect()
        } else {
            let done = admin.delete_records(&topic.name, below).await;
            done.into_iter().map(|(partition, result)| (partition, result.map_err(CliError::from))).collect()
        };
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for (partition, result) in results {
            let at = partitions.iter().position(|other| *other == partition);
            let before = at.and_then(|at| before[at].as_ref().ok()?.offset).map(|offset| offset.0);
            match result {
                Ok(start) => rows.push(Line {
                    topic: topic.name.to_string(),
                    partition: partition.0,
                    before,
                    log_start: Some(before.map_or(start.0, |before| before.max(start.0))),
                    status: if self.dry_run { "would be trimmed" } else { "trimmed" },
                }),
                Err(error) => errors.push(error),
            }
        }
        rows.sort_by_key(|line| line.partition);
        finish(out, &rows, errors)
    }

    fn question(&self) -> String {
        match (self.before_offset, self.before_time) {
            (Some(offset), _) => format!("delete the records of {} below offset {offset}", self.topic),
            (_, Some(time)) => format!("delete the records of {} before {}", self.topic, show_time(time)),
            _ => format!("delete all records of {}", self.topic),
        }
    }

    /// The new start of each partition; `None` is behind the last committed record.
    async fn below(
        &self,
        admin: &Admin,
        topic: &TopicName,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Option<Offset>)>> {
        if let Some(time) = self.before_time {
            let found = look_up(admin, topic, partitions, OffsetSpec::At(time)).await;
            return partitions.iter().zip(found).map(|(partition, found)| Ok((*partition, found?.offset))).collect();
        }
        let below = self.before_offset.map(Offset);
        Ok(partitions.iter().map(|partition| (*partition, below)).collect())
    }
}

fn would_be(below: Option<Offset>, end: Result<rafka_client::FoundOffset>) -> Result<Offset> {
    let end = end?.offset.unwrap_or(Offset::ZERO);
    match below {
        Some(below) if below > end => {
            Err(CliError::usage(format!("offset {below} is behind the end")).because(format!("the log ends at {end}")))
        }
        Some(below) => Ok(below),
        None => Ok(end),
    }
}
