//! `rafka group seek`

use std::collections::{BTreeMap, BTreeSet};

use clap::{ArgGroup, Args};
use clap_complete::ArgValueCompleter;
use rafka_client::{Admin, Offset, OffsetSpec, PartitionId, Timestamp, TopicName};
use serde::Serialize;

use super::{Part, busy, finish, has_members, partitions};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Exit, Result};
use crate::output::{Out, Row, or_dash};
use crate::prompt::confirm;
use crate::times::{show_time, time_flag};

/// Move a group without members to other offsets.
///
/// An offset outside of a partition's log becomes the nearest one inside.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("to").args(["to_earliest", "to_latest", "to_time", "to_offset", "shift_by"]).required(true))]
pub(super) struct SeekArgs {
    /// The group.
    #[arg(add = ArgValueCompleter::new(crate::complete::groups))]
    group: String,
    /// Topics, or some of their partitions (orders/0,2). Without any: everything of which the group has committed offsets.
    #[arg(value_name = "TOPIC[/N,N]", add = ArgValueCompleter::new(crate::complete::topics))]
    topics: Vec<Part>,
    /// To the first record there is.
    #[arg(long)]
    to_earliest: bool,
    /// Behind the last record.
    #[arg(long)]
    to_latest: bool,
    /// To the first record of this time: RFC 3339, how long ago (10m), or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time_flag)]
    to_time: Option<Timestamp>,
    /// To this offset of each partition.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// So many records forward, or back (-N), from where the group is.
    #[arg(long, value_name = "N|-N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Show what would be moved, move nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What became of a partition.
#[derive(Debug, Serialize)]
struct Line {
    group: String,
    topic: String,
    partition: u32,
    before: Option<i64>,
    after: i64,
    status: &'static str,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["GROUP", "TOPIC", "PARTITION", "BEFORE", "AFTER", "STATUS"];

    fn cells(&self) -> Vec<String> {
        let (partition, before) = (self.partition.to_string(), or_dash(self.before));
        vec![self.group.clone(), self.topic.clone(), partition, before, self.after.to_string(), self.status.to_owned()]
    }
}

type At = (TopicName, PartitionId);

impl SeekArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        confirm(&self.question(), self.yes || self.dry_run)?;
        let client = cluster.connect().await?;
        let admin = client.admin();
        if has_members(&admin, &self.group).await? {
            return Err(busy(&self.group));
        }
        let mut before: BTreeMap<At, Offset> = BTreeMap::new();
        for found in admin.committed_offsets(&self.group).await? {
            if let (Ok(topic), 0..) = (TopicName::new(&found.topic), found.offset) {
                before.insert((topic, found.partition), Offset(found.offset));
            }
        }
        let wanted: Vec<At> = match self.topics.as_slice() {
            [] => before.keys().cloned().collect(),
            parts => partitions(&client, parts).await?,
        };
        if wanted.is_empty() {
            return Err(CliError::new(Exit::NotFound, format!("group {:?} has committed nothing", self.group))
                .hint("name topics to give it offsets: rafka group seek GROUP TOPIC …"));
        }
        let (targets, mut errors) = self.targets(&admin, &wanted, &before).await;
        let results = if self.dry_run || targets.is_empty() {
            vec![Ok(()); targets.len()]
        } else {
            let moves = targets.iter().map(|((topic, partition), offset)| (topic.clone(), *partition, *offset));
            let done = admin.alter_group_offsets(&self.group, moves.collect()).await?;
            done.into_iter().map(|result| result.map_err(CliError::from)).collect()
        };
        let mut rows = Vec::new();
        for ((at, after), result) in targets.into_iter().zip(results) {
            let before = before.get(&at).map(|offset| offset.0);
            let status = match (before == Some(after.0), self.dry_run) {
                (true, _) => "unchanged",
                (_, true) => "would be moved",
                (_, false) => "moved",
            };
            let (topic, partition) = (at.0.to_string(), at.1.0);
            match result {
                Ok(()) => {
                    rows.push(Line { group: self.group.clone(), topic, partition, before, after: after.0, status });
                }
                Err(error) => errors.push(error),
            }
        }
        finish(out, &rows, errors)
    }

    fn question(&self) -> String {
        let to = match (self.to_time, self.to_offset, self.shift_by) {
            (Some(time), ..) => format!("to {}", show_time(time)),
            (_, Some(offset), _) => format!("to offset {offset}"),
            (.., Some(records)) => format!("by {records} records"),
            _ if self.to_earliest => "to the first record there is".to_owned(),
            _ => "behind the last record".to_owned(),
        };
        let names: BTreeSet<&str> = self.topics.iter().map(|part| part.topic.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let of = if names.is_empty() { "everything".to_owned() } else { names.join(", ") };
        format!("move group {} in {of} {to}", self.group)
    }

    /// Where each partition is to be, inside of its log.
    async fn targets(
        &self,
        admin: &Admin,
        wanted: &[At],
        before: &BTreeMap<At, Offset>,
    ) -> (Vec<(At, Offset)>, Vec<CliError>) {
        let mut topics: BTreeMap<&TopicName, Vec<PartitionId>> = BTreeMap::new();
        for (topic, partition) in wanted {
            topics.entry(topic).or_default().push(*partition);
        }
        let (mut targets, mut errors) = (Vec::new(), Vec::new());
        for (topic, partitions) in topics {
            let mut specs = vec![OffsetSpec::Earliest, OffsetSpec::Latest];
            specs.extend(self.to_time.map(OffsetSpec::At));
            let asked = partitions.iter().flat_map(|partition| specs.iter().map(|spec| (*partition, *spec))).collect();
            let found = admin.list_offsets(topic, asked).await;
            for lines in found.chunks_exact(specs.len()) {
                let at = (topic.clone(), lines[0].0);
                let offsets: std::result::Result<Vec<_>, _> =
                    lines.iter().map(|(_, found)| found.clone().map(|found| found.offset)).collect();
                match offsets.map_err(CliError::from).and_then(|offsets| self.target(&at, &offsets, before)) {
                    Ok(offset) => targets.push((at, offset)),
                    Err(error) => errors.push(error),
                }
            }
        }
        (targets, errors)
    }

    fn target(&self, at: &At, log: &[Option<Offset>], before: &BTreeMap<At, Offset>) -> Result<Offset> {
        let first = log[0].unwrap_or(Offset::ZERO);
        let end = log[1].unwrap_or(first).max(first);
        let target = match (self.to_time, self.to_offset, self.shift_by) {
            // No record is that late.
            (Some(_), ..) => log.get(2).copied().flatten().unwrap_or(end),
            (_, Some(offset), _) => Offset(offset),
            (.., Some(records)) => match before.get(at) {
                Some(offset) => Offset(offset.0.saturating_add(records)),
                None => {
                    let what = format!("nothing of {}/{} is committed to be shifted", at.0, at.1);
                    return Err(CliError::new(Exit::NotFound, what));
                }
            },
            _ if self.to_earliest => first,
            _ => end,
        };
        Ok(target.clamp(first, end))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        seek: SeekArgs,
    }

    #[test]
    fn targets_lie_inside_of_the_log() {
        let at = (TopicName::new("t").expect("legal"), PartitionId(0));
        let before = BTreeMap::from([(at.clone(), Offset(15))]);
        let log = [Some(Offset(10)), Some(Offset(20)), Some(Offset(17))];
        let target = |flags: &str| {
            let line = Line::try_parse_from(format!("seek g {flags}").split(' ')).expect("legal");
            line.seek.target(&at, &log[..if flags.contains("time") { 3 } else { 2 }], &before).map(|offset| offset.0)
        };
        assert_eq!((target("--to-earliest"), target("--to-latest")), (Ok(10), Ok(20)));
        assert_eq!(
            (target("--to-offset 3"), target("--to-offset 12"), target("--to-offset 30")),
            (Ok(10), Ok(12), Ok(20))
        );
        assert_eq!(
            (target("--shift-by -2"), target("--shift-by 9"), target("--shift-by -9")),
            (Ok(13), Ok(20), Ok(10))
        );
        assert_eq!(target("--to-time 10m"), Ok(17));
        let line = Line::try_parse_from(["seek", "g", "--shift-by", "1"]).expect("legal");
        assert_eq!(line.seek.target(&at, &log[..2], &BTreeMap::new()).expect_err("nothing committed").code(), 3);
    }
}
