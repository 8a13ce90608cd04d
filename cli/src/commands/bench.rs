//! `rafka bench …`: what a client gets from a cluster.

mod consume;
mod e2e;
mod measured;
mod produce;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use rafka_client::{Client, NewTopic, TopicName};

use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::interrupt::Interrupt;
use crate::output::{Out, note};

/// Measure a cluster.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Publish records as fast as it goes.
    Produce(produce::ProduceArgs),
    /// Read records as fast as it goes, from the beginning.
    Consume(consume::ConsumeArgs),
    /// Publish records one by one, and measure when each is read.
    E2e(e2e::E2eArgs),
}

/// Where to measure.
#[derive(Args, Clone, Debug)]
struct Where {
    /// Topic to use; without it one is made, and deleted afterwards.
    #[arg(add = ArgValueCompleter::new(crate::complete::topics))]
    topic: Option<TopicName>,
    /// Partitions of the topic that is made.
    #[arg(short, long, value_name = "N", default_value_t = 12, conflicts_with = "topic", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
}

/// How many records of which size.
#[derive(Args, Clone, Copy, Debug)]
struct Load {
    /// Records.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Bytes of each record's value.
    #[arg(short, long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
}

impl BenchArgs {
    pub(crate) async fn run(self, out: Out) -> Result {
        out.structured()?;
        let interrupt = Interrupt::install()?;
        let client = self.cluster.connect().await?;
        let place = match &self.verb {
            Verb::Produce(args) => &args.place,
            Verb::Consume(args) => &args.place,
            Verb::E2e(args) => &args.place,
        };
        let (topic, made) = place.topic(&client).await?;
        let measured = async {
            match &self.verb {
                Verb::Produce(args) => args.measure(&client, &topic).await,
                Verb::Consume(args) => args.measure(&client, &topic, made).await,
                Verb::E2e(args) => args.measure(&client, &topic, made).await,
            }
        };
        let measured = tokio::select! {
            measured = measured => measured,
            () = interrupt.wait() => Err(CliError::silent(crate::errors::Exit::Interrupted)),
        };
        if made {
            for (_, deleted) in client.admin().delete_topics(vec![topic.to_string()], false).await? {
                deleted?;
            }
        }
        let measured = measured?;
        out.one(&measured, || measured.words())
    }
}

impl Where {
    /// The topic, and whether it was made for this.
    async fn topic(&self, client: &Client) -> Result<(TopicName, bool)> {
        if let Some(topic) = &self.topic {
            return Ok((topic.clone(), false));
        }
        let name = format!("bench-{}-{}", std::process::id(), crate::times::now());
        let topic = NewTopic { name: name.clone(), partitions: Some(self.partitions), ..NewTopic::default() };
        client.admin().create_topic(topic, false).await?;
        note(&format!("Topic {name} made for the measurement."));
        let topic = TopicName::new(&name).map_err(|error| CliError::failed("no topic").because(error))?;
        Ok((topic, true))
    }
}

impl Load {
    /// A value that compresses about as well as text does.
    fn value(self) -> bytes::Bytes {
        let text = b"the quick brown fox jumps over the lazy dog; 0123456789 ".iter().copied();
        text.cycle()
            .enumerate()
            .map(|(i, byte)| if i % 7 == 0 { byte ^ (i / 7) as u8 } else { byte })
            .take(self.size)
            .collect()
    }
}
