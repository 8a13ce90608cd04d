//! `rafka topic describe`

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::ArgValueCompleter;
use rafka_client::{NodeId, PartitionState, TopicDescription};
use rafka_model::config::KEYS;
use serde::Serialize;

use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::{Format, Out, emit, json_line, list, or_dash, table};

/// Show topics with their partitions and configs.
#[derive(Args, Debug)]
pub(super) struct DescribeArgs {
    /// Names of the topics.
    #[arg(required = true, value_name = "TOPIC", add = ArgValueCompleter::new(crate::complete::topics))]
    topics: Vec<String>,
    /// Every config with its value and what it does, defaults with them.
    #[arg(short, long)]
    configs: bool,
}

/// A topic.
#[derive(Debug, Serialize)]
struct Topic {
    topic: String,
    id: String,
    replication_factor: u16,
    /// Those that differ from the default; with `--configs` all.
    configs: BTreeMap<String, String>,
    partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Partition {
    partition: u32,
    leader: Option<u64>,
    leader_epoch: i32,
    replicas: Vec<u64>,
    isr: Vec<u64>,
}

impl Partition {
    pub(in crate::commands) fn new(partition: u32, state: &PartitionState) -> Self {
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        Self {
            partition,
            leader: state.leader.map(|node| node.0),
            leader_epoch: state.leader_epoch.0,
            replicas: ids(&state.replicas),
            isr: ids(&state.isr),
        }
    }

    pub(in crate::commands) const COLUMNS: [&'static str; 5] = ["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR"];

    pub(in crate::commands) fn cells(&self) -> Vec<String> {
        let (number, leader) = (self.partition.to_string(), or_dash(self.leader));
        vec![number, leader, self.leader_epoch.to_string(), list(&self.replicas), list(&self.isr)]
    }
}

impl DescribeArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let admin = cluster.connect().await?.admin();
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for (_, result) in admin.describe_topics(&self.topics).await? {
            match result {
                Ok(topic) => found.push(Topic::new(topic, self.configs)),
                Err(error) => errors.push(CliError::from(error)),
            }
        }
        match out.structured()? {
            Format::Json => emit(&found.iter().map(json_line).collect::<String>())?,
            Format::Yaml => out.one(&found, String::new)?,
            _ => emit(&found.iter().map(|topic| topic.words(self.configs)).collect::<Vec<_>>().join("\n"))?,
        }
        let Some(last) = errors.pop() else { return Ok(()) };
        errors.iter().for_each(|error| error.print(out.is_json()));
        Err(last)
    }
}

impl Topic {
    fn new(topic: TopicDescription, all: bool) -> Self {
        let defaults = KEYS.iter().filter(|_| all).map(|key| (key.name.to_owned(), key.default.to_owned()));
        Self {
            topic: topic.name.to_string(),
            id: topic.id.to_string(),
            replication_factor: topic.replication_factor,
            configs: defaults.chain(topic.configs).collect(),
            partitions: topic.partitions.iter().map(|(id, state)| Partition::new(id.0, state)).collect(),
        }
    }

    fn words(&self, all: bool) -> String {
        let configs = self.configs.iter().map(|(key, value)| format!("{key}={value}"));
        let cells = vec![
            self.topic.clone(),
            self.id.clone(),
            self.partitions.len().to_string(),
            self.replication_factor.to_string(),
            if all { "see below".to_owned() } else { list(configs) },
        ];
        let mut text = table(&["TOPIC", "ID", "PARTITIONS", "REPLICAS", "CONFIGS"], [cells]);
        text.push('\n');
        text.push_str(&table(&Partition::COLUMNS, self.partitions.iter().map(Partition::cells)));
        if all {
            let row = |key: &rafka_model::config::Key| {
                let value = self.configs.get(key.name).cloned().unwrap_or_default();
                let is_default = if value == key.default { "default" } else { "topic" };
                vec![key.name.to_owned(), value, is_default.to_owned(), key.doc.to_owned()]
            };
            text.push('\n');
            text.push_str(&table(&["CONFIG", "VALUE", "FROM", "MEANING"], KEYS.iter().map(row)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use rafka_client::TopicName;
    use rafka_model::{LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

    use super::*;

    fn orders(all: bool) -> Topic {
        let state = |leader| PartitionState {
            replicas: vec![NodeId(1)],
            leader,
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(5),
            isr: vec![NodeId(1)],
            elr: Vec::new(),
            ..PartitionState::default()
        };
        let description = TopicDescription {
            id: TopicId([0xab; 16]),
            name: TopicName::new("orders").expect("a name"),
            configs: [("retention.ms".to_owned(), "1000".to_owned())].into(),
            replication_factor: 1,
            partitions: vec![(PartitionId(0), state(Some(NodeId(1)))), (PartitionId(1), state(None))],
        };
        Topic::new(description, all)
    }

    #[test]
    fn a_topic_is_shown_with_its_partitions() {
        let expected = "\
TOPIC   ID                                PARTITIONS  REPLICAS  CONFIGS
orders  abababababababababababababababab  2           1         retention.ms=1000

PARTITION  LEADER  EPOCH  REPLICAS  ISR
0          1       4      1         1
1          -       4      1         1
";
        assert_eq!(orders(false).words(false), expected);
    }

    #[test]
    fn the_json_keeps_its_shape() {
        let expected = "{\"topic\":\"orders\",\"id\":\"abababababababababababababababab\",\"replication_factor\":1,\
            \"configs\":{\"retention.ms\":\"1000\"},\"partitions\":[\
            {\"partition\":0,\"leader\":1,\"leader_epoch\":4,\"replicas\":[1],\"isr\":[1]},\
            {\"partition\":1,\"leader\":null,\"leader_epoch\":4,\"replicas\":[1],\"isr\":[1]}]}\n";
        assert_eq!(json_line(&orders(false)), expected);
    }

    #[test]
    fn all_configs_are_shown_with_where_they_come_from() {
        let text = orders(true).words(true);
        assert!(text.lines().any(|line| line.starts_with("retention.ms ") && line.contains(" topic ")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("segment.bytes ") && line.contains(" default ")), "{text}");
        assert_eq!(orders(true).configs.len(), KEYS.len());
    }
}
