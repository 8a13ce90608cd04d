//! The offsets topic: made when the first group is asked for.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use rafka_broker::group::OFFSETS_TOPIC;
use rafka_broker::metadata::{Image, Role, Topic};
use rafka_broker::request::{Admin, AdminReply, NewTopic};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{BATCH_BYTES_MAX, GROUP_TOPIC_MS_MAX, GROUP_TOPIC_NEGATIVE_MS};
use rafka_model::{MetadataIndex, TopicName};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Config, Inner, unavailable};

static NAME: LazyLock<TopicName> = LazyLock::new(|| TopicName::new(OFFSETS_TOPIC).expect("a legal name"));

/// Who makes the topic, one at a time; holds why the last one could not.
#[derive(Debug, Default)]
pub(super) struct Making(Mutex<Option<(Instant, Failure)>>);

/// The offsets topic, if there is one.
pub(super) fn find(image: &Image) -> Option<&Topic> {
    image.topic(&NAME)
}

impl Inner {
    /// Makes the topic, unless it is there; returns once this node knows it.
    pub(super) async fn make_topic(&self) -> Result<(), Failure> {
        let mut last = self.making.0.lock().await;
        if find(&self.images.current()).is_some() {
            return Ok(());
        }
        // Those who waited for the same attempt need no other.
        if let Some((at, failure)) = &*last
            && at.elapsed() < Duration::from_millis(GROUP_TOPIC_NEGATIVE_MS)
        {
            return Err(failure.clone());
        }
        let made = self.make().await;
        *last = made.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
        made
    }

    async fn make(&self) -> Result<(), Failure> {
        let wanted = replication_factor(&self.config, &self.images.current());
        let mut made = self.create(wanted).await;
        if made.as_ref().is_err_and(|failure| failure.code == ErrorCode::InvalidReplicationFactor) && wanted > 1 {
            made = self.create(1).await;
        }
        let index = match made {
            Ok(index) => Some(index),
            // Somebody else was first.
            Err(failure) if failure.code == ErrorCode::TopicAlreadyExists => None,
            Err(failure) => return Err(unavailable(format!("the offsets topic cannot be made: {failure}"))),
        };
        let known = async {
            let mut images = self.images.subscribe();
            // The sender lives in the store.
            let _ = images.wait_for(|image| find(image).is_some()).await.map(drop);
            if let Some(index) = index {
                self.partitions.reconciled(index).await;
            }
        };
        let known = tokio::time::timeout(Duration::from_millis(GROUP_TOPIC_MS_MAX), known).await;
        known.map_err(|_| unavailable("the offsets topic was made, and this node has not heard of it yet".to_owned()))
    }

    async fn create(&self, replication_factor: u16) -> Result<MetadataIndex, Failure> {
        let topic = new_topic(&self.config, replication_factor);
        let reply = (self.change)(Admin::CreateTopics { topics: vec![topic], validate_only: false }).await?;
        let AdminReply::Topics(mut replies) = reply else {
            return Err(Failure::new(ErrorCode::Unknown, "not an answer about topics"));
        };
        let reply = replies.pop().ok_or_else(|| Failure::new(ErrorCode::Unknown, "an answer about no topic"))?;
        let (_, index) = reply.result?;
        tracing::info!(topic = OFFSETS_TOPIC, replication_factor, "made the topic of consumer groups");
        Ok(index)
    }
}

/// As many as configured, but no more than nodes in service can hold.
fn replication_factor(config: &Config, image: &Image) -> u16 {
    let nodes = image.nodes.values().filter(|node| !node.fenced && node.role == Role::Broker).count();
    config.topic_replication_factor.min(u16::try_from(nodes).unwrap_or(u16::MAX)).max(1)
}

fn new_topic(config: &Config, replication_factor: u16) -> NewTopic {
    let segment = config.topic_segment_bytes.to_string();
    let largest = BATCH_BYTES_MAX.to_string();
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("durability", "fsync"),
        // A group's metadata is one record, however many members it has.
        ("max.message.bytes", largest.as_str()),
        ("segment.bytes", segment.as_str()),
    ];
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: Some(config.topic_partitions),
        replication_factor: Some(replication_factor),
        configs: configs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        ..NewTopic::default()
    }
}
