//! `rafka topic list`

use clap::Args;
use rafka_client::TopicDescription;
use serde::Serialize;

use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, Row};

/// List all topics.
#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Internal topics, too (their names begin with two underscores).
    #[arg(short, long)]
    all: bool,
}

/// A topic in a list.
#[derive(Debug, Serialize)]
struct Line {
    topic: String,
    id: String,
    partitions: usize,
    replicas: u16,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["TOPIC", "PARTITIONS", "REPLICAS"];

    fn cells(&self) -> Vec<String> {
        vec![self.topic.clone(), self.partitions.to_string(), self.replicas.to_string()]
    }
}

impl From<TopicDescription> for Line {
    fn from(topic: TopicDescription) -> Self {
        Self {
            topic: topic.name.to_string(),
            id: topic.id.to_string(),
            partitions: topic.partitions.len(),
            replicas: topic.replication_factor,
        }
    }
}

impl ListArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let topics = cluster.connect().await?.admin().topics().await?;
        let shown = topics.into_iter().filter(|topic| self.all || !topic.name.as_str().starts_with("__"));
        out.rows(&shown.map(Line::from).collect::<Vec<_>>())
    }
}
