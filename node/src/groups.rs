//! The coordinators of consumer groups that live on this node: one for each partition of the offsets topic that it leads.
//!
//! ```text
//! a door ─▶ ask ─▶ the queue of one coordinator ─▶ machine (broker::group) ─▶ records: one append for many requests
//!                                                                         └▶ replies: held until those are committed
//! ```
//! The *keeper* follows leadership and starts and ends coordinators (`keeper`); each is one task that loads what its
//! log says (`load`) and then drives its machine (`shard`). A machine that lost an append, or its partition, is dropped
//! with everything that it promised nobody yet, and whoever waits is sent to look for the coordinator again.

mod ends;
mod keeper;
mod load;
mod shard;
mod stats;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use rafka_broker::group::request::{Coordinator as Found, Listed};
use rafka_broker::group::{self, GroupReply, GroupRequest, partition_of};
use rafka_broker::metadata::Image;
use rafka_broker::request::{Admin, AdminReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::GROUP_LOADS_MAX;
use rafka_model::{PartitionId, TopicPartition};
use tokio::sync::Semaphore;

use crate::image::ImageStore;
use crate::partitions::{Clock, Partitions};

pub use ends::AskLeader;
pub use stats::{GroupOffset, Sample};

use ends::Ends;
use shard::Shard;
use stats::Figures;
use topic::Making;

/// What an operator can set about groups.
#[derive(Clone, Debug)]
pub struct Config {
    /// Settings of each coordinator.
    pub coordinator: group::Config,
    /// Longest wait (ms) for records of a coordinator to be committed (`offsets.commit.timeout.ms`).
    pub commit_timeout_ms: u32,
    /// Partitions of the offsets topic when it is made (`offsets.topic.num.partitions`).
    pub topic_partitions: u32,
    /// Replicas of each, if there are as many nodes (`offsets.topic.replication.factor`).
    pub topic_replication_factor: u16,
    /// Bytes of their segments (`offsets.topic.segment.bytes`).
    pub topic_segment_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            coordinator: group::Config::default(),
            commit_timeout_ms: 5_000,
            topic_partitions: 50,
            topic_replication_factor: 3,
            topic_segment_bytes: 100 * 1024 * 1024,
        }
    }
}

/// Has the controller change metadata.
pub type Change = Box<dyn Fn(Admin) -> BoxFuture<'static, Result<AdminReply, Failure>> + Send + Sync>;

/// What coordinators are built from.
pub struct Setup {
    /// Settings.
    pub config: Config,
    /// The metadata.
    pub images: Arc<ImageStore>,
    /// Where the log of each coordinator is.
    pub partitions: Arc<Partitions>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The controller.
    pub change: Change,
    /// The leaders of other partitions.
    pub ask_leader: AskLeader,
}

/// The coordinators of this node. Cheap to clone.
#[derive(Clone)]
pub struct Groups {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    images: Arc<ImageStore>,
    partitions: Arc<Partitions>,
    clock: Arc<dyn Clock>,
    change: Change,
    ask_leader: AskLeader,
    making: Making,
    /// Replaced whole when coordinators come or go.
    shards: ArcSwap<HashMap<TopicPartition, Arc<Shard>>>,
    /// Who may read a log.
    loads: Semaphore,
    figures: Figures,
    ends: Ends,
    stopping: AtomicBool,
}

impl Groups {
    /// Without coordinators: they come with [`Self::run`].
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { config, images, partitions, clock, change, ask_leader } = setup;
        Self {
            inner: Arc::new(Inner {
                config,
                images,
                partitions,
                clock,
                change,
                ask_leader,
                making: Making::default(),
                shards: ArcSwap::default(),
                loads: Semaphore::new(GROUP_LOADS_MAX),
                figures: Figures::default(),
                ends: Ends::default(),
                stopping: AtomicBool::new(false),
            }),
        }
    }

    /// Starts and ends coordinators as partitions of the offsets topic come to this node and go. Dropping the future
    /// ends all of them.
    pub async fn run(self) {
        keeper::keep(self.inner).await;
    }

    /// For [`Self::sample`]: asks other nodes, now and then, where the partitions end that groups of this node read. Runs
    /// until it is dropped.
    pub async fn follow_ends(self) {
        ends::follow(self.inner).await;
    }

    /// Asks the coordinator of the group, if it is here.
    ///
    /// Cancel safe in the sense that what was asked may still happen.
    ///
    /// # Errors
    /// [`ErrorCode::NotCoordinator`] with the hint who is; [`ErrorCode::CoordinatorLoadInProgress`];
    /// [`ErrorCode::CoordinatorNotAvailable`] while nobody is; what the coordinator refuses.
    pub async fn ask(&self, request: GroupRequest) -> Result<GroupReply, Failure> {
        let at = self.inner.partition_of(request.group()).await?;
        let Some(shard) = self.inner.shards.load().get(&at).cloned() else {
            return Err(self.inner.absent(at));
        };
        match shard.ask(request).await {
            Some(answer) => answer,
            None => Err(self.inner.ended(at)),
        }
    }

    /// The groups that are coordinated here.
    ///
    /// # Errors
    /// [`ErrorCode::CoordinatorLoadInProgress`] while a coordinator of this node does not know its groups yet.
    pub async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let shards: Vec<_> = self.inner.shards.load().values().cloned().collect();
        let lists = shards.iter().map(|shard| shard.list());
        let mut all = Vec::new();
        // A coordinator that ended meanwhile has moved, and its groups with it.
        for listed in futures::future::join_all(lists).await.into_iter().flatten() {
            all.extend(listed?);
        }
        Ok(all)
    }

    /// Which node coordinates the group. Makes the offsets topic if there is none yet.
    ///
    /// # Errors
    /// [`ErrorCode::CoordinatorNotAvailable`] while nobody does.
    pub async fn coordinator(&self, group: &str) -> Result<Found, Failure> {
        let at = self.inner.partition_of(group).await?;
        let image = self.inner.images.current();
        let leader = image.partition(at).and_then(|state| state.leader);
        let found = leader.map(|node| Found { node, partition: at.partition });
        found.ok_or_else(|| unavailable(format!("partition {} of the offsets topic has no leader", at.partition)))
    }

    /// Refuses everybody from here on, those who wait too.
    pub fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Release);
        self.inner.shards.store(Arc::default());
    }

    /// Figures for metrics; at most `offsets_max` committed offsets have a series of their own.
    #[must_use]
    pub fn sample(&self, offsets_max: usize) -> Sample {
        self.inner.ends.looked();
        stats::sample(&self.inner, offsets_max)
    }

    /// Time from the arrival of a commit to its answer.
    #[must_use]
    pub fn commit_latency(&self) -> prometheus_client::metrics::histogram::Histogram {
        self.inner.figures.commit_latency.clone()
    }
}

impl Inner {
    /// The partition whose leader coordinates the group.
    async fn partition_of(&self, group: &str) -> Result<TopicPartition, Failure> {
        let place = |image: &Image| {
            let topic = topic::find(image)?;
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            Some(TopicPartition { topic: topic.id, partition: PartitionId(partition_of(group, count)) })
        };
        if let Some(at) = place(&self.images.current()) {
            return Ok(at);
        }
        self.make_topic().await?;
        place(&self.images.current()).ok_or_else(|| unavailable("the offsets topic was deleted".to_owned()))
    }

    /// Why there is no coordinator here.
    fn absent(&self, at: TopicPartition) -> Failure {
        if self.stopping.load(Ordering::Acquire) {
            return Failure::new(ErrorCode::NotCoordinator, "the node is stopping");
        }
        match self.partitions.refusal(at) {
            Some(refusal) => as_coordinator(refusal),
            // It leads and its keeper has not heard of it yet.
            None => loading(at),
        }
    }

    /// What to tell those who waited for a coordinator that ended.
    fn ended(&self, at: TopicPartition) -> Failure {
        match self.partitions.refusal(at).map(as_coordinator) {
            Some(refusal) if refusal.code == ErrorCode::NotCoordinator => refusal,
            _ => Failure::new(ErrorCode::NotCoordinator, "the coordinator ended before it answered; find it again"),
        }
    }
}

/// A partition's refusal in the words of coordinators.
fn as_coordinator(refusal: Failure) -> Failure {
    let code = match refusal.code {
        ErrorCode::NotLeaderOrFollower | ErrorCode::NotReady => ErrorCode::NotCoordinator,
        _ => ErrorCode::CoordinatorNotAvailable,
    };
    Failure { code, ..refusal }
}

fn loading(at: TopicPartition) -> Failure {
    let text = format!("the coordinator at partition {} of the offsets topic is loading", at.partition);
    Failure::new(ErrorCode::CoordinatorLoadInProgress, text)
}

fn unavailable(text: String) -> Failure {
    Failure::new(ErrorCode::CoordinatorNotAvailable, text)
}
