//! The gateway: a front desk that presents this node as the leader of everything.
//!
//! A client that comes by a listener with `kafka.routing` `mesh` is told of this node only ([`view`]). What other nodes
//! lead is relayed to them through the mesh ([`reach`]): produces in the order of each partition ([`outbox`]), fetches
//! through a cache ([`reads`], [`polls`], [`cache`]), the rest taken apart by leader ([`scatter`]).
//!
//! A request is relayed once: what comes by the mesh goes to the partitions of this node and never here.

mod cache;
mod groups;
mod metrics;
mod outbox;
mod polls;
mod reach;
mod reads;
mod scatter;
mod survey;
#[cfg(test)]
mod testing;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::group::request::{Coordinator, GroupReply, GroupRequest, Listed};
use rafka_broker::metadata::Image;
use rafka_broker::request::{
    ActiveProducer, Admin, AdminReply, DeleteRecords, EpochEnd, EpochEnds, Fetch, Fetched, FoundOffset, ListOffsets,
    LogDir, PartitionReply, Produce, Produced,
};
use rafka_broker::{ErrorCode, Failure};
use rafka_kafka::desk::{FrontDesk, Setting, Settling};
use rafka_model::limits::CONTROL_DEADLINE_MS;
use rafka_model::{BrokerEpoch, LeaderEpoch, MetadataIndex, NodeId, Offset, ProducerId, TopicPartition};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::service::kafka::Desk;
use cache::HotCache;
use metrics::{Api, CacheFigures, Metrics, Route};
use outbox::{Ending, Outbox, deadline};
use polls::Polls;
use reach::{Ask, MeshReach, Reach, Told, read_trouble};
use reads::Reads;
use scatter::Scatter;
use view::View;

/// What all listeners that route through the mesh share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    desk: Desk,
    reach: Arc<MeshReach>,
    view: View,
    outbox: Outbox<MeshReach>,
    reads: Reads<MeshReach>,
    scatter: Scatter<MeshReach>,
    cache: Arc<HotCache>,
    metrics: Arc<Metrics>,
}

/// What a gateway is built from.
pub(crate) struct Setup {
    /// This node.
    pub(crate) desk: Desk,
    /// Memory for the cache.
    pub(crate) cache_bytes_max: usize,
    /// How relayed requests run.
    pub(crate) errands: Errands,
}

/// How relayed requests run, and end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Errands {
    /// Those under way.
    pub(crate) requests: TaskTracker,
    /// Nobody waits any more, for records or for leaders.
    pub(crate) stop: CancellationToken,
    /// Ends them at once.
    pub(crate) end: CancellationToken,
}

impl Errands {
    fn spawn(&self, errand: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.requests.spawn(async move { end.run_until_cancelled_owned(errand).await });
    }
}

impl Gateway {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { desk, cache_bytes_max, errands } = setup;
        let cache = Arc::new(HotCache::new(cache_bytes_max));
        let metrics = desk.service.metrics.register(|registry| {
            registry.register_collector(Box::new(CacheFigures(cache.clone())));
            Arc::new(Metrics::new(registry))
        });
        let reach = Arc::new(MeshReach { desk: desk.clone() });
        let polls = Polls::new(reach.clone(), cache.clone(), metrics.clone(), errands.clone());
        let inner = Inner {
            outbox: Outbox::new(reach.clone(), metrics.clone(), errands.clone()),
            reads: Reads {
                reach: reach.clone(),
                polls,
                cache: cache.clone(),
                metrics: metrics.clone(),
                stop: errands.stop,
            },
            scatter: Scatter { reach: reach.clone(), metrics: metrics.clone() },
            desk,
            reach,
            view: View::default(),
            cache,
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Keeps the cache in step with metadata, for ever.
    pub(crate) async fn follow(self) {
        let mut images = self.inner.reach.images();
        loop {
            let image = images.borrow_and_update().clone();
            self.inner.cache.keep_only(&image);
            drop(image);
            if images.changed().await.is_err() {
                return;
            }
        }
    }
}

impl FrontDesk for Gateway {
    fn image(&self) -> Arc<Image> {
        self.inner.view.of(&self.inner.desk.image(), self.node())
    }

    fn node(&self) -> Option<NodeId> {
        self.inner.desk.node()
    }

    fn node_epoch(&self) -> Option<BrokerEpoch> {
        self.inner.desk.node_epoch()
    }

    /// Changes that a client asks of this node go to the controller.
    fn controller(&self) -> Option<NodeId> {
        self.inner.desk.controller().and(self.node())
    }

    async fn reached(&self, index: MetadataIndex) {
        self.inner.desk.reached(index).await;
    }

    async fn produce(&self, request: Produce) -> Settling {
        self.inner.produce(request).await
    }

    async fn fetch(&self, request: Fetch) -> Vec<PartitionReply<Fetched>> {
        self.inner.reads.fetch(request).await
    }

    async fn list_offsets(&self, request: ListOffsets) -> Vec<PartitionReply<FoundOffset>> {
        let ask = |partitions| Ask::ListOffsets(ListOffsets { partitions });
        let open = |told| if let Told::Offsets(parts) = told { Some(parts) } else { None };
        self.inner.scatter.each(request.partitions, |part| part.0, ask, open).await
    }

    fn asks_others(&self) -> bool {
        true
    }

    async fn delete_records(&self, request: DeleteRecords) -> Vec<PartitionReply<Offset>> {
        let ask = |partitions| Ask::DeleteRecords(DeleteRecords { partitions });
        let open = |told| if let Told::Deleted(parts) = told { Some(parts) } else { None };
        let replies = self.inner.scatter.each(request.partitions, |part| part.0, ask, open).await;
        for reply in &replies {
            if let Ok(log_start) = &reply.result {
                self.inner.cache.starts_at(reply.partition, *log_start);
            }
        }
        replies
    }

    async fn epoch_ends(&self, request: EpochEnds) -> Vec<PartitionReply<Option<EpochEnd>>> {
        let ask = |partitions| Ask::EpochEnds(EpochEnds { partitions });
        let open = |told| if let Told::Ends(parts) = told { Some(parts) } else { None };
        self.inner.scatter.each(request.partitions, |part| part.0, ask, open).await
    }

    async fn fetch_epoch_ends(&self, request: EpochEnds) -> Vec<PartitionReply<Option<EpochEnd>>> {
        self.inner.fetch_epoch_ends(request, |request| self.epoch_ends(request)).await
    }

    async fn admin(&self, request: Admin) -> Result<AdminReply, Failure> {
        self.inner.desk.admin(request).await
    }

    async fn next_producer_id(&self) -> Result<ProducerId, Failure> {
        self.inner.desk.next_producer_id().await
    }

    async fn group(&self, request: GroupRequest) -> Result<GroupReply, Failure> {
        self.inner.scatter.group(request).await
    }

    /// What goes over the mesh may overtake.
    fn keeps_order_of_groups(&self) -> bool {
        false
    }

    async fn list_groups(&self) -> Result<Vec<Listed>, Failure> {
        self.inner.scatter.list_groups().await
    }

    async fn coordinator(&self, group: &str) -> Result<Coordinator, Failure> {
        let found = self.inner.desk.coordinator(group).await?;
        Ok(Coordinator { node: self.node().unwrap_or(found.node), ..found })
    }

    async fn producers(&self, partition: TopicPartition) -> Result<Vec<ActiveProducer>, Failure> {
        let within = Duration::from_millis(CONTROL_DEADLINE_MS);
        let told = self.inner.scatter.leader(partition, Ask::Producers(partition), within).await;
        match told.map_err(|trouble| read_trouble(trouble).failure)? {
            Told::Producers(producers) => Ok(producers),
            _ => Err(mistold()),
        }
    }

    /// Those of all nodes.
    async fn log_dirs(&self) -> Vec<LogDir> {
        self.inner.scatter.log_dirs().await
    }

    fn settings(&self) -> Vec<Setting> {
        self.inner.desk.settings()
    }

    fn topic_defaults(&self) -> BTreeMap<String, String> {
        self.inner.desk.topic_defaults()
    }
}

/// Where the reply to a part of a produce comes from.
enum Source {
    /// The next reply of this node.
    Here,
    /// A leader.
    Relayed(Ending),
}

impl Inner {
    /// Ends once the place of everything in the order of its partition is certain.
    async fn produce(&self, request: Produce) -> Settling {
        let (image, me) = (self.reach.image(), self.reach.me());
        let Produce { acks, timeout_ms, partitions } = request;
        let until = deadline(timeout_ms);
        let named: Vec<_> = partitions.iter().map(|part| part.partition).collect();
        let mut here = Vec::new();
        let mut sources = Vec::with_capacity(partitions.len());
        for part in partitions {
            let leader = image.partition(part.partition).and_then(|state| state.leader);
            if leader.is_some() && leader == me && !self.outbox.is_busy(part.partition) {
                self.metrics.answered(Api::Produce, Route::Local, part.records.len() as u64);
                here.push(part);
                sources.push(Source::Here);
            } else {
                sources.push(Source::Relayed(self.outbox.submit(part, acks, until).await));
            }
        }
        let here = match here.is_empty() {
            true => Settling::Settled(Vec::new()),
            false => self.desk.produce(Produce { acks, timeout_ms, partitions: here }).await,
        };
        if let Settling::Settled(replies) = here {
            if sources.iter().all(|source| matches!(source, Source::Here)) {
                return Settling::Settled(replies);
            }
            return Settling::Waiting(Box::pin(gather(named, sources, std::future::ready(replies))));
        }
        let Settling::Waiting(replies) = here else { return Settling::Settled(Vec::new()) };
        Settling::Waiting(Box::pin(gather(named, sources, replies)))
    }

    /// A client whose last record is of the current leader's epoch cannot have parted from it: the fetch says whether its
    /// offset is in the log. Where an earlier epoch ended is asked once.
    async fn fetch_epoch_ends<F>(
        &self,
        request: EpochEnds,
        ask: impl FnOnce(EpochEnds) -> F,
    ) -> Vec<PartitionReply<Option<EpochEnd>>>
    where
        F: Future<Output = Vec<PartitionReply<Option<EpochEnd>>>>,
    {
        let image = self.reach.image();
        let current = |at: TopicPartition| image.partition(at).map(|state| state.leader_epoch);
        let known = |(at, believed, epoch): &(TopicPartition, Option<LeaderEpoch>, LeaderEpoch)| {
            let current = current(*at).filter(|current| believed.is_none_or(|believed| believed == *current))?;
            if *epoch == current {
                return Some(EpochEnd { epoch: current, end: Offset(i64::MAX) });
            }
            self.cache.end_of(*at, current, *epoch)
        };
        let found: Vec<_> = request.partitions.iter().map(known).collect();
        let unknown = request.partitions.iter().zip(&found).filter(|(_, found)| found.is_none());
        let unknown: Vec<_> = unknown.map(|(part, _)| *part).collect();
        let asked = unknown.clone();
        let mut told = match unknown.is_empty() {
            true => Vec::new(),
            false => ask(EpochEnds { partitions: unknown }).await,
        };
        for ((at, _, epoch), reply) in asked.into_iter().zip(&told) {
            if let (Ok(Some(end)), Some(current)) = (&reply.result, current(at)) {
                self.cache.ended(at, current, epoch, *end);
            }
        }
        let mut told = told.drain(..);
        let reply = |((at, ..), found): (&(TopicPartition, _, _), Option<EpochEnd>)| match found {
            Some(end) => PartitionReply { partition: *at, result: Ok(Some(end)) },
            None => told.next().unwrap_or_else(|| PartitionReply { partition: *at, result: Err(mistold()) }),
        };
        request.partitions.iter().zip(found).map(reply).collect()
    }
}

/// The replies in the order in which they were asked for.
async fn gather(
    named: Vec<TopicPartition>,
    sources: Vec<Source>,
    here: impl Future<Output = Vec<PartitionReply<Produced>>>,
) -> Vec<PartitionReply<Produced>> {
    let mut here = here.await.into_iter();
    let mut replies = Vec::with_capacity(named.len());
    for (partition, source) in named.into_iter().zip(sources) {
        let result = match source {
            Source::Here => here.next().map_or_else(|| Err(mistold()), |reply| reply.result),
            Source::Relayed(ending) => ending.await.unwrap_or_else(|_| {
                Err(Failure::new(ErrorCode::OutcomeUnknown, "this node stopped before the leader answered"))
            }),
        };
        replies.push(PartitionReply { partition, result });
    }
    replies
}

fn mistold() -> Failure {
    Failure::new(ErrorCode::Unknown, "a node answered another question than the one that it was asked")
}
