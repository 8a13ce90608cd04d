//! `rafka bench e2e`

use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt as _;
use rafka_client::{Client, ConsumerConfig, OffsetSpec, PartitionId, ProducerConfig, Record, Start, TopicName};

use super::Where;
use super::measured::{Latency, Measured};
use crate::commands::publish::AcksArg;
use crate::errors::{CliError, Exit, Result};

/// A record that is not read by then is lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Publish records one by one, and measure when each is read.
#[derive(Args, Debug)]
pub(super) struct E2eArgs {
    #[command(flatten)]
    pub(super) place: Where,
    /// Records.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Bytes of each record's value; at least 8.
    #[arg(short, long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(8..=1_000_000))]
    size: u64,
    /// When a record counts as published.
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksArg,
}

impl E2eArgs {
    /// One record at a time in partition 0, each with its number in front.
    pub(super) async fn measure(&self, client: &Client, topic: &TopicName, made: bool) -> Result<Measured> {
        const PARTITION: PartitionId = PartitionId(0);
        let start = if made { Start::Earliest } else { end_of(client, topic, PARTITION).await? };
        let config =
            ConsumerConfig { partitions: Some(vec![PARTITION]), start, ..ConsumerConfig::topics([topic.clone()]) };
        let mut consumer = client.consumer(config).await?;
        // A batch of one record has no company to wait for.
        let producer =
            client.producer(ProducerConfig { acks: self.acks.into(), linger_ms: 0, ..ProducerConfig::default() });
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let mut latencies = Vec::new();
        let began = Instant::now();
        for number in 0..self.records {
            let mut value = vec![b'.'; size];
            value[..8].copy_from_slice(&number.to_be_bytes());
            let sent = Instant::now();
            let delivery = producer.send(Record::new(topic.clone(), value).partition(PARTITION));
            let read = async {
                while let Some(record) = consumer.next().await {
                    let value = record?.value.unwrap_or_default();
                    if value.get(..8) == Some(&number.to_be_bytes()) {
                        return Ok(sent.elapsed());
                    }
                }
                Err(CliError::failed("the consumer ended"))
            };
            let both = async { tokio::try_join!(async { Ok(delivery.await?) }, read) };
            let late = || CliError::new(Exit::Unreachable, format!("record {number} was not read"));
            let (_, latency) = tokio::time::timeout(LOST_AFTER, both).await.map_err(|_| late())??;
            latencies.push(latency);
        }
        let volume = (self.records, self.records * self.size);
        Ok(Measured::new("e2e", topic, volume, began.elapsed(), Latency::of(latencies)))
    }
}

/// The end as it is now, so that nothing that is sent from here on is missed.
async fn end_of(client: &Client, topic: &TopicName, partition: PartitionId) -> Result<Start> {
    let found = client.admin().list_offsets(topic, vec![(partition, OffsetSpec::Latest)]).await;
    match found.into_iter().next() {
        Some((_, found)) => Ok(found?.offset.map_or(Start::Earliest, Start::Offset)),
        None => Err(CliError::failed(format!("no node answered for {topic}/{partition}"))),
    }
}
