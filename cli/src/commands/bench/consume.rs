//! `rafka bench consume`

use std::time::Instant;

use clap::Args;
use futures::StreamExt as _;
use rafka_client::{Client, ConsumerConfig, ProducerConfig, Start, TopicName};

use super::measured::Measured;
use super::produce::publish;
use super::{Load, Where};
use crate::errors::Result;
use crate::output::note;

/// Read records as fast as it goes, from the beginning.
#[derive(Args, Debug)]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    pub(super) place: Where,
    #[command(flatten)]
    load: Load,
}

impl ConsumeArgs {
    /// Reads up to so many records; a topic that was made for this is filled first.
    pub(super) async fn measure(&self, client: &Client, topic: &TopicName, fill: bool) -> Result<Measured> {
        if fill {
            note("Filling it first.");
            publish(client, topic, self.load, ProducerConfig::default()).await?;
        }
        let config =
            ConsumerConfig { start: Start::Earliest, exit_at_end: true, ..ConsumerConfig::topics([topic.clone()]) };
        let began = Instant::now();
        let mut consumer = client.consumer(config).await?;
        let (mut records, mut bytes) = (0, 0);
        while records < self.load.records {
            let Some(record) = consumer.next().await else { break };
            let record = record?;
            records += 1;
            bytes += (record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len())) as u64;
        }
        Ok(Measured::new("consume", topic, (records, bytes), began.elapsed(), None))
    }
}
