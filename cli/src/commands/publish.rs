//! `rafka publish`: a value, lines of standard input, or lines of a file.

mod input;
mod lines;
mod report;
mod send;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use bytes::Bytes;
use clap::{ArgGroup, Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use rafka_client::{Acks, Compression, Header, PartitionId, ProducerConfig, TopicName};

use self::input::Input;
use self::lines::Lines;
use self::report::Report;
use self::send::{Ended, Sender, Template};
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Exit, Result};
use crate::interrupt::Interrupt;
use crate::output::{Out, note};

/// Publish records.
///
/// Without VALUE, or with `-`, every line of standard input is a record; with --file, every line of the file.
/// Records of one key go to one partition and keep their order.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("source").args(["value", "file", "null_value"]).multiple(false))]
pub(crate) struct PublishArgs {
    /// Topic to publish to.
    #[arg(add = ArgValueCompleter::new(crate::complete::topics))]
    topic: TopicName,
    /// The record's value; `-` or nothing reads standard input, a record for each line.
    value: Option<String>,
    /// Read this file, a record for each line.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Publish one record without a value: a tombstone.
    #[arg(long)]
    null_value: bool,
    /// Key of every record.
    #[arg(short, long, value_name = "KEY", conflicts_with = "key_separator")]
    key: Option<String>,
    /// Each line is a key, this text, and a value.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["null_value"])]
    key_separator: Option<String>,
    /// Header of every record. Repeatable.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<Header>,
    /// Partition, instead of the one that the key says.
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// When a record counts as published: sent (0), written by the leader (1), on all in-sync replicas (all).
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksArg,
    /// Codec of the batches.
    #[arg(long, value_enum, default_value = "none")]
    compression: Codec,
    /// Say nothing about records that were published; with -o json only a closing object.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// `--acks`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum AcksArg {
    /// Do not wait.
    #[value(name = "0", alias = "none")]
    None,
    /// The leader has written it.
    #[value(name = "1", alias = "leader")]
    Leader,
    /// Every in-sync replica has it.
    #[value(name = "all", alias = "-1")]
    All,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Self {
        match acks {
            AcksArg::None => Self::None,
            AcksArg::Leader => Self::Leader,
            AcksArg::All => Self::All,
        }
    }
}

/// `--compression`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Codec {
    /// As it is.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

fn parse_header(text: &str) -> std::result::Result<Header, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no value; write NAME=VALUE"))?;
    Ok(Header { key: name.to_owned(), value: Some(Bytes::copy_from_slice(value.as_bytes())) })
}

impl PublishArgs {
    pub(crate) async fn run(self, out: Out) -> Result {
        let format = out.structured()?;
        // Whatever is wrong with the input is said before anything is connected.
        let mut input = self.input()?;
        let client = self.cluster.connect().await?;
        let interrupt = Interrupt::install()?;
        let config = ProducerConfig {
            acks: self.acks.into(),
            compression: self.compression.into(),
            ..ProducerConfig::default()
        };
        let producer = client.producer(config);
        let lines = input.as_ref().map(|input| (Lines::new(self.key_separator.clone()), input.progress(self.quiet)));
        let report = Report::new(self.topic.clone(), format, self.quiet);
        let mut sender = Sender::new(producer, self.template(), report);
        let ended = match (&mut input, lines) {
            (Some(input), Some((lines, progress))) => {
                let ended = sender.lines(input, lines, &progress, &interrupt).await;
                progress.finish_and_clear();
                ended
            }
            _ => {
                let value = self.value.map(Bytes::from);
                sender.one(value, &interrupt).await
            }
        };
        let report = sender.finish(&interrupt).await;
        report.close(ended)
    }

    /// Where the lines come from; `None` if the one record is on the command line.
    fn input(&self) -> Result<Option<Input>> {
        match (&self.value, &self.file) {
            (_, Some(path)) => Input::file(path).map(Some),
            (Some(value), _) if value != "-" => match self.key_separator {
                Some(_) => Err(CliError::usage("--key-separator is for lines of standard input or of a file")),
                None => Ok(None),
            },
            _ if self.null_value => Ok(None),
            _ => {
                if std::io::stdin().is_terminal() {
                    note("Reading records from the terminal, one a line; Ctrl-D ends.");
                }
                Ok(Some(Input::stdin()))
            }
        }
    }

    fn template(&self) -> Template {
        Template {
            topic: self.topic.clone(),
            partition: self.partition.map(PartitionId),
            key: self.key.clone().map(Bytes::from),
            headers: self.headers.clone(),
        }
    }
}

impl Report {
    /// The last words, and what the command ends with.
    fn close(self, ended: Ended) -> Result {
        let result = self.outcome();
        let records = crate::output::count(self.acknowledged(), "record");
        match (ended, result) {
            // What went wrong with a record weighs more than that somebody pressed Ctrl-C while it did.
            (_, Err(error)) => Err(error),
            (Ended::Interrupted, Ok(())) => {
                note(&format!("interrupted: {records} published"));
                Err(CliError::silent(Exit::Interrupted))
            }
            (Ended::Input(error), Ok(())) => Err(error.or_hint(format!("published before it: {records}"))),
            (Ended::AtEnd, Ok(())) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let header = parse_header("trace=a=b").expect("a header");
        assert_eq!((header.key.as_str(), header.value.as_deref()), ("trace", Some(&b"a=b"[..])));
        assert_eq!(parse_header("trace=").expect("empty").value.as_deref(), Some(&b""[..]));
        assert!(parse_header("trace").is_err());
    }

    #[test]
    fn names_of_codecs_are_those_of_the_model() {
        for codec in Codec::value_variants() {
            let name = codec.to_possible_value().expect("a value").get_name().to_owned();
            assert_eq!(Compression::from_name(&name), Some(Compression::from(*codec)));
        }
    }
}
