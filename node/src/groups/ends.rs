//! Where partitions end that groups of this node read and other nodes lead: for metrics, their leaders are asked now
//! and then, and only while somebody looks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use rafka_broker::Failure;
use rafka_broker::metadata::Image;
use rafka_broker::request::{FoundOffset, ListOffsets, OffsetSpec, PartitionReply};
use rafka_model::limits::{
    GROUP_ENDS_IDLE_ROUNDS, GROUP_ENDS_LEADERS_MAX, GROUP_ENDS_MS, GROUP_ENDS_MS_MAX, METRIC_GROUP_OFFSETS_MAX,
};
use rafka_model::{NodeId, Offset, PartitionId, TopicName, TopicPartition};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{Inner, stats};

/// Asks another node for offsets of partitions that it leads.
pub type AskLeader = Box<
    dyn Fn(NodeId, ListOffsets) -> BoxFuture<'static, Result<Vec<PartitionReply<FoundOffset>>, Failure>> + Send + Sync,
>;

/// What the leaders last said.
#[derive(Default)]
pub(super) struct Ends {
    known: ArcSwap<HashMap<TopicPartition, Offset>>,
    /// Somebody took a sample.
    looked: Notify,
}

impl Ends {
    pub(super) fn looked(&self) {
        self.looked.notify_one();
    }

    pub(super) fn known(&self) -> Arc<HashMap<TopicPartition, Offset>> {
        self.known.load_full()
    }
}

/// Keeps the ends known for as long as samples are taken.
pub(super) async fn follow(inner: Arc<Inner>) {
    loop {
        inner.ends.looked.notified().await;
        let mut idle = 0;
        while idle < GROUP_ENDS_IDLE_ROUNDS {
            learn(&inner).await;
            sleep(Duration::from_millis(GROUP_ENDS_MS)).await;
            idle = if inner.ends.looked.notified().now_or_never().is_some() { 0 } else { idle + 1 };
        }
        // What is old by the time that somebody looks again must not be told.
        inner.ends.known.store(Arc::default());
    }
}

/// Asks every leader once, all at the same time; of one that does not answer nothing is known until it does.
pub(super) async fn learn(inner: &Inner) {
    let asks = elsewhere(inner).into_iter().map(|(leader, places)| async move {
        let partitions = places.iter().map(|at| (*at, None, OffsetSpec::Latest)).collect();
        let answer = (inner.ask_leader)(leader, ListOffsets { partitions });
        let failure = match timeout(Duration::from_millis(GROUP_ENDS_MS_MAX), answer).await {
            Ok(Ok(parts)) => return found(&places, parts),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(node = %leader, failure, "the ends of partitions that groups read are not known");
        Vec::new()
    });
    let answers: Vec<_> = stream::iter(asks).buffer_unordered(GROUP_ENDS_LEADERS_MAX).collect().await;
    inner.ends.known.store(Arc::new(answers.into_iter().flatten().collect()));
}

/// The partitions whose lag is shown and which this node does not lead, by leader.
fn elsewhere(inner: &Inner) -> BTreeMap<NodeId, BTreeSet<TopicPartition>> {
    let image = inner.images.current();
    let mut leaders: BTreeMap<NodeId, BTreeSet<TopicPartition>> = BTreeMap::new();
    for shown in stats::sample(inner, METRIC_GROUP_OFFSETS_MAX).shown {
        let Some(at) = place(&image, &shown.topic, shown.partition) else { continue };
        if inner.partitions.high_watermark(at).is_some() {
            continue;
        }
        if let Some(leader) = image.partition(at).and_then(|state| state.leader) {
            leaders.entry(leader).or_default().insert(at);
        }
    }
    leaders
}

/// The partition, by the name of its topic.
pub(super) fn place(image: &Image, topic: &str, partition: PartitionId) -> Option<TopicPartition> {
    let topic = *image.topic_ids.get(&TopicName::new(topic).ok()?)?;
    Some(TopicPartition { topic, partition })
}

/// What is of use in an answer: nothing that was not asked for.
fn found(asked: &BTreeSet<TopicPartition>, parts: Vec<PartitionReply<FoundOffset>>) -> Vec<(TopicPartition, Offset)> {
    let of_use = parts.into_iter().filter(|part| asked.contains(&part.partition));
    of_use.filter_map(|part| Some((part.partition, part.result.ok()?.offset?))).collect()
}
