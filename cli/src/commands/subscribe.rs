//! `rafka subscribe`: records of a topic, or of every topic that a pattern matches.

mod format;
mod json;
mod pattern;
mod sink;
mod start;

use clap::Args;
use clap_complete::ArgValueCompleter;
use futures::FutureExt as _;
use rafka_client::{ConsumedRecord, Error, GroupConfig, PartitionId, Timestamp};

use self::format::Template;
use self::pattern::Pattern;
use self::sink::{Shape, Sink};
use self::start::From;
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Exit, Result};
use crate::interrupt::Interrupt;
use crate::output::{Format, Out, note};
use crate::times::time_flag;

/// Read records, by default new ones only, until Ctrl-C.
///
/// Records of one partition come in their order; partitions are mixed.
#[derive(Args, Debug)]
pub(crate) struct SubscribeArgs {
    /// Topic, or a pattern such as `orders.*` or `{a,b}-?` (quote it): topics that are made later join in.
    #[arg(value_name = "TOPIC-OR-GLOB", add = ArgValueCompleter::new(crate::complete::topics))]
    topic: Pattern,
    /// Begin at the first record there is.
    #[arg(long, group = "start")]
    from_beginning: bool,
    /// Begin at this offset of each partition; -N is N records before the end.
    #[arg(long, group = "start", value_name = "N|-N", allow_negative_numbers = true)]
    offset: Option<i64>,
    /// Begin at the first record of this time: RFC 3339, how long ago (10m), or milliseconds since 1970.
    #[arg(long, group = "start", value_name = "TIME", value_parser = time_flag)]
    from_time: Option<Timestamp>,
    /// Share the topics with the other subscribers of this group, and go on where the group stopped; the flags that say
    /// where to begin are for partitions of which nothing is committed. Ctrl-C commits what was written, and leaves.
    #[arg(short, long, value_name = "GROUP", conflicts_with = "partition",
        add = ArgValueCompleter::new(crate::complete::groups))]
    group: Option<String>,
    /// Name of this subscriber in its group: whoever comes back under it soon gets the same partitions.
    #[arg(long, value_name = "NAME", requires = "group")]
    instance: Option<String>,
    /// Only this partition. Repeatable, or separated by commas.
    #[arg(short, long, value_name = "N", value_delimiter = ',')]
    partition: Vec<u32>,
    /// End after so many records.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How to write a record: %t topic, %p partition, %o offset, %k key, %v value, %h headers, %T time (ms), %K and %V
    /// lengths of key and value (-1: none), %% percent; \n \r \t \0 \xHH \\.
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "output")]
    format: Option<Template>,
    /// End at the records that were there at the start.
    #[arg(long)]
    exit_at_end: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl SubscribeArgs {
    pub(crate) async fn run(self, out: Out) -> Result {
        let shape = match (self.format.clone(), out.asked()) {
            (Some(template), _) => Shape::Template(template),
            (None, None | Some(Format::Json)) => Shape::Json,
            (None, Some(Format::Raw)) => Shape::Raw,
            (None, Some(Format::Table | Format::Yaml)) => {
                return Err(
                    CliError::usage("records are written as json or raw").hint("use -o json, -o raw, or --format")
                );
            }
        };
        if self.group.is_some() && self.offset.is_some() {
            let hint = "move the group with `rafka group seek`, or use --from-beginning or --from-time";
            return Err(CliError::usage("a group has one offset for each partition").hint(hint));
        }
        let interrupt = Interrupt::install()?;
        let client = tokio::select! {
            client = self.cluster.connect() => client?,
            () = interrupt.wait() => return Err(CliError::silent(Exit::Interrupted)),
        };
        let from = match (self.from_beginning, self.offset, self.from_time) {
            (true, ..) => From::Beginning,
            (_, Some(offset @ 0..), _) => From::Offset(offset),
            (_, Some(offset), _) => From::BeforeEnd(offset.saturating_neg()),
            (_, _, Some(time)) => From::Time(time),
            _ => From::End,
        };
        let partitions = Some(self.partition.iter().copied().map(PartitionId).collect::<Vec<_>>());
        let partitions = partitions.filter(|all| !all.is_empty());
        let group = self.group.clone().map(|group| GroupConfig {
            instance_id: self.instance.clone(),
            confirm: true,
            ..GroupConfig::new(group)
        });
        let plan = start::Plan { partitions, from, exit_at_end: self.exit_at_end, group };
        let mut records = tokio::select! {
            records = plan.open(&client, &self.topic) => records?,
            () = interrupt.wait() => return Err(CliError::silent(Exit::Interrupted)),
        };
        let done = copy(&mut records, Sink::stdout(shape), self.count.unwrap_or(u64::MAX), &interrupt).await;
        match (done, records.close().await) {
            (Ok(()), Err(error)) => Err(CliError::from(error).within("the group was not told how far it is")),
            (done, closed) => {
                if let Err(error) = closed {
                    note(CliError::from(error).to_lines().replacen("error: ", "warning: ", 1).trim_end());
                }
                done
            }
        }
    }
}

/// Writes records until there are no more, there were enough, or somebody has had enough.
async fn copy(records: &mut start::Records, mut sink: Sink, mut left: u64, interrupt: &Interrupt) -> Result {
    let mut failure = None;
    while left > 0 {
        if interrupt.fired() {
            sink.flush()?;
            records.confirm();
            return Err(CliError::silent(Exit::Interrupted));
        }
        let next = match records.next().now_or_never() {
            Some(next) => next,
            None => {
                // Nothing more at the moment: what is there must be seen.
                sink.flush()?;
                records.confirm();
                tokio::select! {
                    next = records.next() => next,
                    () = interrupt.wait() => continue,
                }
            }
        };
        match next {
            Some(Ok(record)) => {
                sink.write(&record)?;
                left -= 1;
                if sink.is_empty() {
                    records.confirm();
                }
            }
            Some(Err(error)) => {
                sink.flush()?;
                failure = trouble(error).or(failure);
            }
            None => break,
        }
    }
    sink.flush()?;
    records.confirm();
    failure.map_or(Ok(()), Err)
}

/// Says what is wrong. An error that may pass is only said; another one is what the command ends with.
fn trouble(error: Error) -> Option<CliError> {
    let passing = error.is_retriable();
    let error = CliError::from(error);
    if passing {
        note(error.to_lines().replacen("error: ", "warning: ", 1).trim_end());
        return None;
    }
    Some(if error.code() == Exit::Usage as u8 { error.exit(Exit::Failed) } else { error })
}

/// A stream of records.
type Item = std::result::Result<ConsumedRecord, Error>;
