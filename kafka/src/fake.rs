//! A node that lives in memory, for tests of the door.

pub(crate) mod decides;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rafka_broker::group::request::{Coordinator, GroupReply, GroupRequest, Listed};
use rafka_broker::metadata::{Cluster, Image, Node, PartitionState, Role, Topic};
use rafka_broker::request::{
    ActiveProducer, Admin, AdminReply, DeleteRecords, EpochEnd, EpochEnds, Fetch, Fetched, FoundOffset, ListOffsets,
    OffsetSpec, PartitionReply, Produce, Produced,
};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::{
    BatchBuilder, BatchHeader, BootId, BrokerEpoch, ClusterId, Compression, DirectoryId, LeaderEpoch, MetadataIndex,
    NodeId, Offset, PartitionEpoch, PartitionId, ProducerId, RecordBatch, Timestamp, TopicId, TopicPartition,
};
use tokio::sync::Semaphore;

use crate::advertise::DEFAULT_LISTENER;
use crate::desk::{FrontDesk, LogDir, Setting, Settling};
use crate::door::{Client, Config, Door};
use crate::metrics::Metrics;

/// Answers admin requests.
pub(crate) type Answer = Box<dyn Fn(&mut Image, Admin) -> Result<AdminReply, Failure> + Send + Sync>;

/// Answers what coordinators are asked.
pub(crate) type Coordinates = Box<dyn Fn(GroupRequest) -> Result<GroupReply, Failure> + Send + Sync>;

/// The node.
pub(crate) struct Fake {
    pub(crate) image: Mutex<Arc<Image>>,
    /// Batches as stored, by partition.
    pub(crate) logs: Mutex<BTreeMap<TopicPartition, Vec<RecordBatch>>>,
    /// Produces are safe once there is a permit for each.
    pub(crate) safe: Option<Arc<Semaphore>>,
    /// Admin requests that came.
    pub(crate) asked: Mutex<Vec<Admin>>,
    pub(crate) answer: Answer,
    /// What coordinators were asked.
    pub(crate) asked_groups: Mutex<Vec<GroupRequest>>,
    pub(crate) coordinates: Coordinates,
    /// Coordinators answer once there is a permit for each request.
    pub(crate) settled: Option<Arc<Semaphore>>,
    pub(crate) groups: Result<Vec<Listed>, Failure>,
    pub(crate) coordinator: Result<Coordinator, Failure>,
    pub(crate) producers: Vec<ActiveProducer>,
    pub(crate) log_dirs: Vec<LogDir>,
    pub(crate) settings: Vec<Setting>,
    pub(crate) topic_defaults: BTreeMap<String, String>,
}

/// Topic "orders" with two partitions led by node 1, and a third led by node 2.
impl Default for Fake {
    fn default() -> Self {
        let mut image = Image { index: MetadataIndex(7), voters: vec![NodeId(1)], ..Image::default() };
        image.cluster =
            Some(Cluster { id: ClusterId([7; 32]), public_key: [0; 32], join_token_hash: None, feature_level: 1 });
        for id in 1..=2 {
            let node = node(id, &format!("127.0.0.1:909{id}"));
            image.nodes.insert(node.id, node);
        }
        add_topic(&mut image, "orders", &[1, 1, 2]);
        Self {
            image: Mutex::new(Arc::new(image)),
            logs: Mutex::default(),
            safe: None,
            asked: Mutex::default(),
            answer: Box::new(|_, _| Err(Failure::new(ErrorCode::InvalidRequest, "not expected here"))),
            asked_groups: Mutex::default(),
            coordinates: Box::new(|_| Err(Failure::new(ErrorCode::NotCoordinator, "not expected here"))),
            settled: None,
            groups: Ok(Vec::new()),
            coordinator: Ok(Coordinator { node: NodeId(2), partition: PartitionId(0) }),
            producers: Vec::new(),
            log_dirs: Vec::new(),
            settings: Vec::new(),
            topic_defaults: BTreeMap::new(),
        }
    }
}

/// Adds a topic whose partitions are led by these nodes; its id is made of its name.
pub(crate) fn add_topic(image: &mut Image, name: &str, leaders: &[u64]) -> TopicId {
    let mut id = [0; 16];
    id.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    let partition = |leader: &u64| PartitionState {
        replicas: vec![NodeId(*leader)],
        leader: Some(NodeId(*leader)),
        leader_epoch: LeaderEpoch(3),
        partition_epoch: PartitionEpoch(1),
        isr: vec![NodeId(*leader)],
        elr: Vec::new(),
        ..PartitionState::default()
    };
    let topic = Topic {
        id: TopicId(id),
        name: name.parse().expect("a legal name"),
        configs: BTreeMap::new(),
        replication_factor: 1,
        partitions: leaders.iter().map(partition).collect(),
        changed: image.index,
    };
    image.topic_ids.insert(topic.name.clone(), topic.id);
    image.topics.insert(topic.id, Arc::new(topic));
    TopicId(id)
}

/// A node with this endpoint at the default listener.
pub(crate) fn node(id: u64, endpoint: &str) -> Node {
    Node {
        id: NodeId(id),
        peer_id: format!("peer-{id}"),
        directory: DirectoryId([0; 16]),
        epoch: BrokerEpoch(id),
        boot: BootId([0; 16]),
        incarnation: [0; 16],
        addresses: Vec::new(),
        lanes: Vec::new(),
        kafka: BTreeMap::from([(DEFAULT_LISTENER.to_owned(), endpoint.to_owned())]),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: String::new(),
        fenced: false,
        draining: false,
        features_max: 1,
    }
}

/// A client that came by the default listener, at this address of ours.
pub(crate) fn client(local: &str) -> Client {
    let peer = "127.0.0.1:50000".parse().expect("an address");
    let local: SocketAddr = local.parse().expect("an address");
    Client { peer, local, listener: DEFAULT_LISTENER.into(), id: None }
}

/// A door in front of `fake`.
pub(crate) fn door(fake: Fake) -> Arc<Door<Fake>> {
    Arc::new(Door::new(fake, Config::default(), Arc::new(Metrics::default())))
}

/// A batch with these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(Timestamp(1_000), None, Some(value.as_bytes()), &[]);
    }
    builder.build().bytes().clone()
}

impl Fake {
    /// Partition `index` of topic "orders".
    pub(crate) fn orders(&self, index: u32) -> TopicPartition {
        let image = self.image.lock();
        let topic = image.topic_ids[&"orders".parse().expect("a legal name")];
        TopicPartition { topic, partition: PartitionId(index) }
    }

    fn led(&self, at: TopicPartition, believed: Option<LeaderEpoch>) -> Result<LeaderEpoch, Failure> {
        let image = self.image.lock();
        let state = image.partition(at).ok_or_else(|| Failure::new(ErrorCode::UnknownTopicId, "no such partition"))?;
        if state.leader != Some(NodeId(1)) {
            return Err(Failure::new(ErrorCode::NotLeaderOrFollower, "node 2 leads it"));
        }
        match believed {
            Some(epoch) if epoch < state.leader_epoch => Err(Failure::new(ErrorCode::FencedLeaderEpoch, "old epoch")),
            Some(epoch) if epoch > state.leader_epoch => Err(Failure::new(ErrorCode::UnknownLeaderEpoch, "new epoch")),
            _ => Ok(state.leader_epoch),
        }
    }

    fn end(&self, at: TopicPartition) -> Offset {
        let logs = self.logs.lock();
        logs.get(&at).and_then(|log| log.last()).map_or(Offset(0), |batch| batch.header().next_offset())
    }

    fn append(&self, at: TopicPartition, records: Bytes) -> Result<Produced, Failure> {
        let epoch = self.led(at, None)?;
        let batch = RecordBatch::parse(records).map_err(|e| Failure::new(ErrorCode::CorruptMessage, e.to_string()))?;
        let base_offset = self.end(at);
        self.logs.lock().entry(at).or_default().push(batch.stamp(base_offset, epoch));
        Ok(Produced { base_offset, append_time: None, log_start: Offset(0) })
    }

    fn read(&self, at: TopicPartition, from: Offset) -> Result<Fetched, Failure> {
        let end = self.end(at);
        if from < Offset(0) || from > end {
            return Err(Failure::new(ErrorCode::OffsetOutOfRange, "no such offset"));
        }
        let mut records = BytesMut::new();
        for batch in self.logs.lock().get(&at).into_iter().flatten() {
            if BatchHeader::parse(batch.bytes()).is_ok_and(|header| header.next_offset() > from) {
                records.extend_from_slice(batch.bytes());
            }
        }
        let records = records.freeze();
        Ok(Fetched { high_watermark: end, last_stable_offset: end, log_start: Offset(0), records: records.into() })
    }

    fn find(&self, at: TopicPartition, spec: OffsetSpec, leader_epoch: LeaderEpoch) -> FoundOffset {
        let (offset, timestamp) = match spec {
            OffsetSpec::Earliest => (Some(Offset(0)), Timestamp::NONE),
            OffsetSpec::Latest => (Some(self.end(at)), Timestamp::NONE),
            OffsetSpec::At(time) if time.0 > 1_000 => (None, Timestamp::NONE),
            OffsetSpec::At(_) => (Some(Offset(0)), Timestamp(1_000)),
            OffsetSpec::MaxTimestamp => (Some(Offset(self.end(at).0 - 1)), Timestamp(1_000)),
        };
        FoundOffset { offset, timestamp, leader_epoch }
    }
}

fn reply<T>(partition: TopicPartition, result: Result<T, Failure>) -> PartitionReply<T> {
    PartitionReply { partition, result }
}

impl FrontDesk for Fake {
    fn image(&self) -> Arc<Image> {
        self.image.lock().clone()
    }

    fn node(&self) -> Option<NodeId> {
        Some(NodeId(1))
    }

    fn node_epoch(&self) -> Option<BrokerEpoch> {
        Some(BrokerEpoch(1))
    }

    fn controller(&self) -> Option<NodeId> {
        Some(NodeId(1))
    }

    async fn reached(&self, _: MetadataIndex) {}

    async fn produce(&self, request: Produce) -> Settling {
        let append = |part: rafka_broker::request::ProducePartition| {
            reply(part.partition, self.append(part.partition, part.records))
        };
        let replies = request.partitions.into_iter().map(append).collect();
        match self.safe.clone() {
            None => Settling::Settled(replies),
            Some(safe) => Settling::Waiting(Box::pin(async move {
                safe.acquire_owned().await.expect("open").forget();
                replies
            })),
        }
    }

    async fn fetch(&self, request: Fetch) -> Vec<PartitionReply<Fetched>> {
        let read = || -> Vec<_> {
            let read = |part: &rafka_broker::request::FetchPartition| {
                let led = self.led(part.partition, part.leader_epoch);
                reply(part.partition, led.and_then(|_| self.read(part.partition, part.offset)))
            };
            request.partitions.iter().map(read).collect()
        };
        let replies = read();
        let bytes: usize = replies.iter().filter_map(|reply| Some(reply.result.as_ref().ok()?.records.len())).sum();
        if bytes < request.min_bytes as usize && replies.iter().all(|reply| reply.result.is_ok()) {
            tokio::time::sleep(Duration::from_millis(request.max_wait_ms.into())).await;
            return read();
        }
        replies
    }

    async fn list_offsets(&self, request: ListOffsets) -> Vec<PartitionReply<FoundOffset>> {
        let find = |(at, believed, spec): (TopicPartition, _, _)| {
            reply(at, self.led(at, believed).map(|epoch| self.find(at, spec, epoch)))
        };
        request.partitions.into_iter().map(find).collect()
    }

    async fn delete_records(&self, request: DeleteRecords) -> Vec<PartitionReply<Offset>> {
        let delete = |(at, to): (TopicPartition, Option<Offset>)| {
            reply(at, self.led(at, None).map(|_| to.unwrap_or_else(|| self.end(at))))
        };
        request.partitions.into_iter().map(delete).collect()
    }

    async fn epoch_ends(&self, request: EpochEnds) -> Vec<PartitionReply<Option<EpochEnd>>> {
        let end = |(at, believed, epoch): (TopicPartition, _, LeaderEpoch)| {
            let found = self.led(at, believed).map(|latest| match epoch > latest {
                true => None,
                false => Some(EpochEnd { epoch, end: self.end(at) }),
            });
            reply(at, found)
        };
        request.partitions.into_iter().map(end).collect()
    }

    async fn admin(&self, request: Admin) -> Result<AdminReply, Failure> {
        self.asked.lock().push(request.clone());
        (self.answer)(Arc::make_mut(&mut self.image.lock()), request)
    }

    async fn next_producer_id(&self) -> Result<ProducerId, Failure> {
        Ok(ProducerId(4000))
    }

    async fn group(&self, request: GroupRequest) -> Result<GroupReply, Failure> {
        self.asked_groups.lock().push(request.clone());
        if let Some(settled) = self.settled.clone() {
            settled.acquire_owned().await.expect("open").forget();
        }
        (self.coordinates)(request)
    }

    async fn list_groups(&self) -> Result<Vec<Listed>, Failure> {
        self.groups.clone()
    }

    async fn coordinator(&self, _: &str) -> Result<Coordinator, Failure> {
        self.coordinator.clone()
    }

    async fn producers(&self, partition: TopicPartition) -> Result<Vec<ActiveProducer>, Failure> {
        self.led(partition, None).map(|_| self.producers.clone())
    }

    fn log_dirs(&self) -> Vec<LogDir> {
        self.log_dirs.clone()
    }

    fn settings(&self) -> Vec<Setting> {
        self.settings.clone()
    }

    fn topic_defaults(&self) -> BTreeMap<String, String> {
        self.topic_defaults.clone()
    }
}
