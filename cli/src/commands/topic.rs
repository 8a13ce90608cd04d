//! `rafka topic …`.

mod add_partitions;
mod alter;
mod create;
mod delete;
pub(in crate::commands) mod describe;
mod list;
mod offsets;
mod trim;

use clap::{Args, Subcommand};
use rafka_client::{PartitionId, TopicDescription};
use serde::Serialize;

use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::{Out, Row};

/// Make, change and look at topics.
#[derive(Args, Debug)]
pub(crate) struct TopicArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List all topics.
    List(list::ListArgs),
    /// Make topics.
    Create(create::CreateArgs),
    /// Show topics with their partitions and configs.
    Describe(describe::DescribeArgs),
    /// Change configs of a topic.
    Alter(alter::AlterArgs),
    /// Delete topics and their records.
    Delete(delete::DeleteArgs),
    /// Grow a topic. Keys move to other partitions by that; records stay where they are.
    AddPartitions(add_partitions::AddPartitionsArgs),
    /// Delete the oldest records of a topic.
    Trim(trim::TrimArgs),
    /// Show the offsets of a topic.
    Offsets(offsets::OffsetsArgs),
}

impl TopicArgs {
    pub(crate) async fn run(self, out: Out) -> Result {
        out.structured()?;
        match self.verb {
            Verb::List(args) => args.run(&self.cluster, out).await,
            Verb::Create(args) => args.run(&self.cluster, out).await,
            Verb::Describe(args) => args.run(&self.cluster, out).await,
            Verb::Alter(args) => args.run(&self.cluster, out).await,
            Verb::Delete(args) => args.run(&self.cluster, out).await,
            Verb::AddPartitions(args) => args.run(&self.cluster, out).await,
            Verb::Trim(args) => args.run(&self.cluster, out).await,
            Verb::Offsets(args) => args.run(&self.cluster, out).await,
        }
    }
}

/// What became of a topic.
#[derive(Debug, Serialize)]
struct Changed {
    topic: String,
    partitions: Option<usize>,
    replicas: Option<u16>,
    status: &'static str,
}

impl Changed {
    fn new(topic: &TopicDescription, status: &'static str) -> Self {
        let (partitions, replicas) = (Some(topic.partitions.len()), Some(topic.replication_factor));
        Self { topic: topic.name.to_string(), partitions, replicas, status }
    }
}

impl Row for Changed {
    const COLUMNS: &'static [&'static str] = &["TOPIC", "PARTITIONS", "REPLICAS", "STATUS"];

    fn cells(&self) -> Vec<String> {
        use crate::output::or_dash;
        vec![self.topic.clone(), or_dash(self.partitions), or_dash(self.replicas), self.status.to_owned()]
    }
}

/// Writes what was done, says every error but the last, and ends with that.
fn finish<R: Row>(out: Out, rows: &[R], mut errors: Vec<CliError>) -> Result {
    if !rows.is_empty() || errors.is_empty() {
        out.rows(rows)?;
    }
    let Some(last) = errors.pop() else { return Ok(()) };
    for error in errors {
        error.print(out.is_json());
    }
    Err(last)
}

/// `key=value`.
fn parse_config(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no value; write KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// The partitions that are meant: those named, or all.
///
/// # Errors
/// One that is named does not exist.
fn chosen(topic: &TopicDescription, named: &[u32]) -> Result<Vec<PartitionId>> {
    let number = topic.partitions.len();
    if let Some(missing) = named.iter().find(|partition| **partition as usize >= number) {
        let what = format!("partition {missing} of topic {:?} not found", topic.name.as_str());
        return Err(CliError::new(crate::errors::Exit::NotFound, what)
            .because(format!("it has partitions 0 to {}", number.saturating_sub(1))));
    }
    let all = topic.partitions.iter().map(|(partition, _)| *partition);
    Ok(all.filter(|partition| named.is_empty() || named.contains(&partition.0)).collect())
}

/// The one topic that was asked for.
async fn describe_one(client: &rafka_client::Client, name: &str) -> Result<TopicDescription> {
    let described = client.admin().describe_topics(&[name.to_owned()]).await?;
    match described.into_iter().next() {
        Some((_, topic)) => Ok(topic?),
        None => Err(CliError::failed(format!("the node did not describe {name:?}"))),
    }
}
