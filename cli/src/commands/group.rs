//! `rafka group …`.

mod delete;
mod describe;
mod lag;
mod list;
mod seek;

use std::str::FromStr;

use clap::{Args, Subcommand};
use rafka_client::{Admin, Client, ErrorKind, GroupDescription, GroupState, PartitionId, TopicName};

use crate::connect::ClusterArgs;
use crate::errors::{CliError, Exit, Result};
use crate::output::{Out, Row};

/// Look at consumer groups, and move them.
#[derive(Args, Debug)]
pub(crate) struct GroupArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the groups of the cluster.
    List(list::ListArgs),
    /// Show groups with their members.
    Describe(describe::DescribeArgs),
    /// Show how far groups are, and how much they have still to read.
    Lag(lag::LagArgs),
    /// Move a group without members to other offsets.
    Seek(seek::SeekArgs),
    /// Delete groups without members, or some of their offsets.
    Delete(delete::DeleteArgs),
}

impl GroupArgs {
    pub(crate) async fn run(self, out: Out) -> Result {
        out.structured()?;
        match self.verb {
            Verb::List(args) => args.run(&self.cluster, out).await,
            Verb::Describe(args) => args.run(&self.cluster, out).await,
            Verb::Lag(args) => args.run(&self.cluster, out).await,
            Verb::Seek(args) => args.run(&self.cluster, out).await,
            Verb::Delete(args) => args.run(&self.cluster, out).await,
        }
    }
}

/// `TOPIC`, or some partitions of it: `TOPIC/0,2`.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Part {
    topic: TopicName,
    /// Empty: all.
    partitions: Vec<u32>,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, numbers) = match text.split_once('/') {
            Some((name, numbers)) => (name, Some(numbers)),
            None => (text, None),
        };
        let topic = TopicName::new(name).map_err(|error| error.to_string())?;
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no partition; write TOPIC/0,2"));
        let partitions = numbers.map(|numbers| numbers.split(',').map(number).collect()).transpose()?;
        Ok(Self { topic, partitions: partitions.unwrap_or_default() })
    }
}

/// The partitions that `parts` mean, of topics that exist.
async fn partitions(client: &Client, parts: &[Part]) -> Result<Vec<(TopicName, PartitionId)>> {
    let names: Vec<String> = parts.iter().map(|part| part.topic.to_string()).collect();
    let described = client.admin().describe_topics(&names).await?;
    let mut all = Vec::new();
    for (part, (_, described)) in parts.iter().zip(described) {
        let number = described?.partitions.len();
        if let Some(missing) = part.partitions.iter().find(|partition| **partition as usize >= number) {
            let what = format!("partition {missing} of topic {:?} not found", part.topic.as_str());
            return Err(CliError::new(Exit::NotFound, what)
                .because(format!("it has partitions 0 to {}", number.saturating_sub(1))));
        }
        let meant = |partition: &u32| part.partitions.is_empty() || part.partitions.contains(partition);
        let range = 0..u32::try_from(number).unwrap_or(u32::MAX);
        all.extend(range.filter(meant).map(|partition| (part.topic.clone(), PartitionId(partition))));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Whether the group has members now; one that there is not has none.
async fn has_members(admin: &Admin, group: &str) -> Result<bool> {
    let state = match admin.describe_group(group).await {
        Ok(GroupDescription::Classic(group)) => group.state,
        Ok(GroupDescription::Consumer(group)) => group.state,
        Err(error) if error.kind() == ErrorKind::NotFound => GroupState::Dead,
        Err(error) => return Err(error.into()),
    };
    Ok(!matches!(state, GroupState::Empty | GroupState::Dead))
}

fn busy(group: &str) -> CliError {
    CliError::new(Exit::Conflict, format!("group {group:?} has members"))
        .hint("stop the group's consumers first: `rafka group describe` shows them")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_or_some_of_its_partitions() {
        let part = |text: &str| text.parse::<Part>().map(|part| (part.topic.to_string(), part.partitions));
        assert_eq!(part("orders"), Ok(("orders".to_owned(), vec![])));
        assert_eq!(part("orders/0,12"), Ok(("orders".to_owned(), vec![0, 12])));
        assert!(part("orders/").is_err() && part("orders/x").is_err() && part("a b/1").is_err());
    }
}
