//! Where to begin, and the streams that begin there.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use rafka_client::{
    Client, Consumer, ConsumerConfig, Error, GroupConfig, Offset, OffsetSpec, PartitionId, Start, Subscription,
    Timestamp, TopicDescription, TopicName,
};

use super::Item;
use super::pattern::Pattern;
use crate::errors::{CliError, Exit, Result};

/// New topics of a pattern join within this time, ms.
const REFRESH_MS: u64 = 1_000;

/// Where to begin in each partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum From {
    Beginning,
    End,
    Offset(i64),
    /// So many records before the end.
    BeforeEnd(i64),
    Time(Timestamp),
}

/// What to read of the topics.
pub(super) struct Plan {
    pub(super) partitions: Option<Vec<PartitionId>>,
    pub(super) from: From,
    pub(super) exit_at_end: bool,
    pub(super) group: Option<GroupConfig>,
}

/// Records of one or several consumers, or of a member of a group.
pub(super) enum Records {
    Alone(SelectAll<BoxStream<'static, Item>>),
    Member(Box<Consumer>),
}

impl Records {
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Item> {
        match self {
            Self::Alone(streams) => streams.next().await,
            Self::Member(consumer) => consumer.next().await,
        }
    }

    /// What was given was written, and need not come again.
    pub(super) fn confirm(&mut self) {
        if let Self::Member(consumer) = self {
            consumer.confirm();
        }
    }

    /// Commits what was confirmed, and leaves.
    pub(super) async fn close(self) -> std::result::Result<(), Error> {
        match self {
            Self::Alone(_) => Ok(()),
            Self::Member(consumer) => consumer.close().await,
        }
    }
}

impl Plan {
    pub(super) async fn open(&self, client: &Client, pattern: &Pattern) -> Result<Records> {
        self.check_partitions(client, pattern).await?;
        let start = match self.from {
            From::Beginning => Start::Earliest,
            From::End => Start::Latest,
            From::Offset(offset) => Start::Offset(Offset(offset)),
            From::Time(time) => Start::Time(time),
            From::BeforeEnd(records) => return self.before_end(client, pattern, records).await,
        };
        let config = self.config(pattern.subscription(), start);
        if config.group.is_some() {
            return Ok(Records::Member(Box::new(client.consumer(config).await?)));
        }
        Ok(Records::Alone([consumer(client, config).await?].into_iter().collect()))
    }

    fn config(&self, subscription: Subscription, start: Start) -> ConsumerConfig {
        ConsumerConfig {
            partitions: self.partitions.clone(),
            start,
            exit_at_end: self.exit_at_end,
            group: self.group.clone(),
            refresh_ms: REFRESH_MS,
            ..ConsumerConfig::new(subscription)
        }
    }

    /// A partition that a named topic does not have would otherwise be waited for in silence.
    async fn check_partitions(&self, client: &Client, pattern: &Pattern) -> Result {
        let (Pattern::Topic(topic), Some(wanted)) = (pattern, &self.partitions) else { return Ok(()) };
        let described = client.admin().describe_topics(&[topic.to_string()]).await?;
        for (_, topic) in described {
            let topic = topic?;
            let number = topic.partitions.len();
            if let Some(missing) = wanted.iter().find(|partition| partition.0 as usize >= number) {
                let what = format!("partition {missing} of topic {:?} not found", topic.name.as_str());
                return Err(
                    CliError::new(Exit::NotFound, what).because(format!("it has partitions 0 to {}", number - 1))
                );
            }
        }
        Ok(())
    }

    /// Each partition begins at an offset of its own, so those that share one share a consumer.
    async fn before_end(&self, client: &Client, pattern: &Pattern, records: i64) -> Result<Records> {
        let mut streams = SelectAll::new();
        let topics = topics(client, pattern).await?;
        for topic in &topics {
            for (start, partitions) in self.starts(client, topic, records).await? {
                let config = ConsumerConfig {
                    partitions: Some(partitions),
                    ..self.config(Subscription::Topics(vec![topic.name.clone()]), Start::Offset(start))
                };
                streams.push(consumer(client, config).await?);
            }
        }
        if matches!(pattern, Pattern::Glob(_)) && !self.exit_at_end {
            let known: Vec<TopicName> = topics.into_iter().map(|topic| topic.name).collect();
            streams.push(consumer(client, self.config(pattern.except(known), Start::Earliest)).await?);
        }
        Ok(Records::Alone(streams))
    }

    async fn starts(
        &self,
        client: &Client,
        topic: &TopicDescription,
        records: i64,
    ) -> Result<BTreeMap<Offset, Vec<PartitionId>>> {
        let wanted = |partition: &PartitionId| self.partitions.as_ref().is_none_or(|some| some.contains(partition));
        let partitions: Vec<PartitionId> = topic.partitions.iter().map(|(id, _)| *id).filter(wanted).collect();
        let admin = client.admin();
        let at = |spec| partitions.iter().map(|partition| (*partition, spec)).collect::<Vec<_>>();
        let (first, last) = tokio::join!(
            admin.list_offsets(&topic.name, at(OffsetSpec::Earliest)),
            admin.list_offsets(&topic.name, at(OffsetSpec::Latest)),
        );
        let mut firsts = BTreeMap::new();
        for (partition, found) in first {
            firsts.insert(partition, found?.offset.unwrap_or(Offset::ZERO));
        }
        let mut starts: BTreeMap<Offset, Vec<PartitionId>> = BTreeMap::new();
        for (partition, found) in last {
            let end = found?.offset.unwrap_or(Offset::ZERO);
            let first = firsts.get(&partition).copied().unwrap_or(Offset::ZERO);
            starts.entry(first.max(end.plus(-records))).or_default().push(partition);
        }
        Ok(starts)
    }
}

async fn topics(client: &Client, pattern: &Pattern) -> Result<Vec<TopicDescription>> {
    match pattern {
        Pattern::Topic(name) => {
            let described = client.admin().describe_topics(&[name.to_string()]).await?;
            described.into_iter().map(|(_, topic)| topic.map_err(CliError::from)).collect()
        }
        Pattern::Glob(_) => {
            let all = client.admin().topics().await?;
            Ok(all.into_iter().filter(|topic| pattern.matches(&topic.name)).collect())
        }
    }
}

async fn consumer(client: &Client, config: ConsumerConfig) -> Result<BoxStream<'static, Item>> {
    Ok(client.consumer(config).await?.boxed())
}
