//! `rafka cluster partitions`

use clap::Args;
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use crate::commands::topic::describe::Partition;
use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, Row};

/// List the partitions of all topics.
#[derive(Args, Debug)]
pub(super) struct PartitionsArgs {
    /// Only those of these topics.
    #[arg(value_name = "TOPIC", add = ArgValueCompleter::new(crate::complete::topics))]
    topics: Vec<String>,
    /// Only those without a leader.
    #[arg(long)]
    offline: bool,
    /// Only those with fewer in-sync replicas than replicas.
    #[arg(long)]
    under_replicated: bool,
}

/// A partition in a list.
#[derive(Debug, Serialize)]
struct Line {
    topic: String,
    #[serde(flatten)]
    partition: Partition,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["TOPIC", "PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR"];

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.topic.clone()];
        cells.extend(self.partition.cells());
        cells
    }
}

impl PartitionsArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let admin = cluster.connect().await?.admin();
        let topics = if self.topics.is_empty() {
            admin.topics().await?
        } else {
            let described = admin.describe_topics(&self.topics).await?;
            described.into_iter().map(|(_, topic)| Ok(topic?)).collect::<Result<Vec<_>>>()?
        };
        let mut rows = Vec::new();
        for topic in &topics {
            for (id, state) in &topic.partitions {
                let offline = state.leader.is_none();
                let under_replicated = state.isr.len() < state.replicas.len();
                if (offline || !self.offline) && (under_replicated || !self.under_replicated) {
                    rows.push(Line { topic: topic.name.to_string(), partition: Partition::new(id.0, state) });
                }
            }
        }
        out.rows(&rows)
    }
}
