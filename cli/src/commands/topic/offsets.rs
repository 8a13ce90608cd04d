//! `rafka topic offsets`

use clap::Args;
use clap_complete::ArgValueCompleter;
use rafka_client::{Admin, FoundOffset, OffsetSpec, PartitionId, Timestamp, TopicName};
use serde::Serialize;

use super::{chosen, describe_one, finish};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::{Out, Row, or_dash};
use crate::times::time_flag;

/// Show the offsets of a topic.
#[derive(Args, Debug)]
pub(super) struct OffsetsArgs {
    /// The topic.
    #[arg(add = ArgValueCompleter::new(crate::complete::topics))]
    topic: String,
    /// Only this partition. Repeatable, or separated by commas.
    #[arg(short, long, value_name = "N", value_delimiter = ',')]
    partition: Vec<u32>,
    /// The offset of the first record of this time, too: RFC 3339, how long ago (10m), or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time_flag)]
    at: Option<Timestamp>,
}

/// The offsets of one partition.
#[derive(Debug, Serialize)]
struct Line {
    topic: String,
    partition: u32,
    earliest: Option<i64>,
    latest: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Option<i64>>,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["PARTITION", "EARLIEST", "LATEST", "RECORDS"];

    fn cells(&self) -> Vec<String> {
        let records = self.latest.zip(self.earliest).map(|(latest, earliest)| latest - earliest);
        vec![self.partition.to_string(), or_dash(self.earliest), or_dash(self.latest), or_dash(records)]
    }
}

/// The same with the offset that was asked for by time.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct LineAt(Line);

impl Row for LineAt {
    const COLUMNS: &'static [&'static str] = &["PARTITION", "EARLIEST", "LATEST", "RECORDS", "AT"];

    fn cells(&self) -> Vec<String> {
        let mut cells = self.0.cells();
        cells.push(or_dash(self.0.at.flatten()));
        cells
    }
}

impl OffsetsArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let client = cluster.connect().await?;
        let topic = describe_one(&client, &self.topic).await?;
        let partitions = chosen(&topic, &self.partition)?;
        let admin = client.admin();
        let (earliest, latest) = tokio::join!(
            look_up(&admin, &topic.name, &partitions, OffsetSpec::Earliest),
            look_up(&admin, &topic.name, &partitions, OffsetSpec::Latest),
        );
        let at = match self.at {
            Some(time) => Some(look_up(&admin, &topic.name, &partitions, OffsetSpec::At(time)).await),
            None => None,
        };
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for (i, partition) in partitions.iter().enumerate() {
            let of = |found: &[Found]| found[i].clone().map(|found| found.offset.map(|offset| offset.0));
            let line = (of(&earliest), of(&latest), at.as_deref().map(of).transpose());
            match line {
                (Ok(earliest), Ok(latest), Ok(at)) => {
                    rows.push(Line { topic: topic.name.to_string(), partition: partition.0, earliest, latest, at });
                }
                (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => errors.push(error),
            }
        }
        match self.at {
            Some(_) => finish(out, &rows.into_iter().map(LineAt).collect::<Vec<_>>(), errors),
            None => finish(out, &rows, errors),
        }
    }
}

type Found = Result<FoundOffset>;

/// Offsets in the order of `partitions`.
pub(super) async fn look_up(
    admin: &Admin,
    topic: &TopicName,
    partitions: &[PartitionId],
    spec: OffsetSpec,
) -> Vec<Found> {
    let wanted = partitions.iter().map(|partition| (*partition, spec)).collect();
    let mut found = admin.list_offsets(topic, wanted).await;
    let mut take = |partition: &PartitionId| {
        let at = found.iter().position(|(of, _)| of == partition);
        match at.map(|at| found.swap_remove(at).1) {
            Some(result) => result.map_err(CliError::from),
            None => Err(CliError::failed(format!("no node answered for {topic}/{partition}"))),
        }
    };
    partitions.iter().map(&mut take).collect()
}
