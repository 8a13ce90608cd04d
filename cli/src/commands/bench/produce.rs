//! `rafka bench produce`

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::Args;
use futures::FutureExt as _;
use rafka_client::{Client, Pending, ProducerConfig, Record, TopicName};

use super::measured::{Latency, Measured};
use super::{Load, Where};
use crate::commands::publish::{AcksArg, Codec};
use crate::errors::Result;

/// Publish records as fast as it goes.
#[derive(Args, Debug)]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    pub(super) place: Where,
    #[command(flatten)]
    load: Load,
    /// When a record counts as published.
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksArg,
    /// Codec of the batches.
    #[arg(long, value_enum, default_value = "none")]
    compression: Codec,
    /// Bytes of a batch before compression.
    #[arg(long, value_name = "BYTES")]
    batch_bytes: Option<usize>,
    /// How long a batch may wait for company, ms.
    #[arg(long, value_name = "MS")]
    linger_ms: Option<u64>,
}

impl ProduceArgs {
    pub(super) async fn measure(&self, client: &Client, topic: &TopicName) -> Result<Measured> {
        let default = ProducerConfig::default();
        let config = ProducerConfig {
            acks: self.acks.into(),
            compression: self.compression.into(),
            batch_bytes: self.batch_bytes.unwrap_or(default.batch_bytes),
            linger_ms: self.linger_ms.unwrap_or(default.linger_ms),
            ..default
        };
        let began = Instant::now();
        let latencies = publish(client, topic, self.load, config).await?;
        let took = began.elapsed();
        let bytes = self.load.records * self.load.size as u64;
        Ok(Measured::new("produce", topic, (self.load.records, bytes), took, Latency::of(latencies)))
    }
}

/// Publishes and waits for everything; how long each record took from its hand-over to its acknowledgement.
pub(super) async fn publish(
    client: &Client,
    topic: &TopicName,
    load: Load,
    config: ProducerConfig,
) -> Result<Vec<Duration>> {
    let producer = client.producer(config);
    let value = load.value();
    let mut promised: VecDeque<(Instant, Pending)> = VecDeque::new();
    let mut latencies = Vec::new();
    for i in 0..load.records {
        let taken = Instant::now();
        promised.push_back((taken, producer.enqueue(Record::new(topic.clone(), value.clone())).await?));
        if i % 64 == 0 {
            while let Some((taken, pending)) = promised.front_mut() {
                let Some(delivered) = pending.now_or_never() else { break };
                delivered?;
                latencies.push(taken.elapsed());
                promised.pop_front();
            }
        }
    }
    producer.close().await?;
    for (taken, pending) in promised {
        pending.await?;
        latencies.push(taken.elapsed());
    }
    Ok(latencies)
}
