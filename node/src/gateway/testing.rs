//! Leaders that live in memory, for tests of the gateway.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rafka_broker::metadata::{Image, Node, PartitionState, Role, Topic};
use rafka_broker::request::{
    FetchPartition, Fetched, FoundOffset, PartitionReply, Produce, ProducePartition, Produced,
};
use rafka_broker::{ErrorCode, Failure, LeaderHint};
use rafka_model::{
    BatchBuilder, BatchHeader, BootId, BrokerEpoch, Compression, DirectoryId, LeaderEpoch, MetadataIndex, NodeId,
    Offset, PartitionEpoch, PartitionId, ProducerId, RecordBatch, Timestamp, TopicId, TopicPartition,
};
use tokio::sync::{Notify, watch};

use super::metrics::Metrics;
use super::reach::{Ask, Reach, Told, Trouble};

/// Topic "orders".
pub(super) const ORDERS: TopicId = TopicId([1; 16]);

pub(super) fn at(partition: u32) -> TopicPartition {
    TopicPartition { topic: ORDERS, partition: PartitionId(partition) }
}

/// Topic "orders", whose partitions are led by these nodes, 0 for nobody; five nodes.
pub(super) fn image(leaders: &[u64]) -> Image {
    let mut image = Image { index: MetadataIndex(1), ..Image::default() };
    for id in 1..=5 {
        let node = Node {
            id: NodeId(id),
            peer_id: format!("peer-{id}"),
            directory: DirectoryId([0; 16]),
            epoch: BrokerEpoch(id),
            boot: BootId([0; 16]),
            incarnation: [0; 16],
            addresses: Vec::new(),
            lanes: Vec::new(),
            kafka: BTreeMap::new(),
            ops: None,
            rack: None,
            weight_milli: 1000,
            role: Role::Broker,
            version: String::new(),
            fenced: false,
            draining: false,
            features_max: 1,
        };
        image.nodes.insert(node.id, node);
    }
    let state = |leader: &u64| PartitionState {
        replicas: vec![NodeId(*leader)],
        leader: (*leader > 0).then_some(NodeId(*leader)),
        leader_epoch: LeaderEpoch(3),
        partition_epoch: PartitionEpoch(1),
        isr: vec![NodeId(*leader)],
        elr: Vec::new(),
        ..PartitionState::default()
    };
    let topic = Topic {
        id: ORDERS,
        name: "orders".parse().expect("a legal name"),
        configs: BTreeMap::new(),
        replication_factor: 1,
        partitions: leaders.iter().map(state).collect(),
        changed: image.index,
    };
    image.topic_ids.insert(topic.name.clone(), topic.id);
    image.topics.insert(topic.id, Arc::new(topic));
    image
}

/// A batch as it lies in a log.
pub(super) fn batch(base: i64, value: &str) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1_000), None, Some(value.as_bytes()), &[]);
    builder.build().stamp(Offset(base), LeaderEpoch(3)).bytes().clone()
}

/// A produce of one record; with a number it is the one of producer 7.
pub(super) fn records(value: &str, sequence: Option<i32>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some(sequence) = sequence {
        builder = builder.idempotent(ProducerId(7), 0, sequence);
    }
    builder.push(Timestamp(1_000), None, Some(value.as_bytes()), &[]);
    builder.build().bytes().clone()
}

pub(super) fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&mut prometheus_client::registry::Registry::default()))
}

/// What a node does with the next request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mood {
    /// Nothing; the caller learns that it was not sent.
    Down,
    /// Carries it out, and the answer is lost.
    Forgets,
    /// Loses the request.
    Loses,
}

/// Five nodes.
pub(super) struct Leaders {
    pub(super) images: watch::Sender<Arc<Image>>,
    me: Option<NodeId>,
    /// Who really leads, when that is not what the image says.
    pub(super) truth: Mutex<HashMap<TopicPartition, NodeId>>,
    pub(super) logs: Mutex<HashMap<TopicPartition, Vec<RecordBatch>>>,
    pub(super) moods: Mutex<Vec<(NodeId, Mood)>>,
    /// Nodes that answer only once they are told to.
    pub(super) slow: Mutex<HashMap<NodeId, Arc<Notify>>>,
    /// Who was asked what, in words.
    pub(super) asked: Mutex<Vec<String>>,
    appended: Notify,
}

impl Leaders {
    pub(super) fn new(leaders: &[u64], me: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            images: watch::Sender::new(Arc::new(image(leaders))),
            me: me.map(NodeId),
            truth: Mutex::default(),
            logs: Mutex::default(),
            moods: Mutex::default(),
            slow: Mutex::default(),
            asked: Mutex::default(),
            appended: Notify::new(),
        })
    }

    /// From now on this node leads the partition, and who does not know is told when it asks.
    pub(super) fn moves(&self, partition: u32, to: u64) {
        self.truth.lock().insert(at(partition), NodeId(to));
    }

    /// The image learns who leads.
    pub(super) fn told(&self, partition: u32, leader: u64) {
        self.images.send_modify(|image| {
            let image = Arc::make_mut(image);
            image.index.0 += 1;
            let state =
                &mut Arc::make_mut(image.topics.get_mut(&ORDERS).expect("there")).partitions[partition as usize];
            state.leader = (leader > 0).then_some(NodeId(leader));
            state.leader_epoch.0 += 1;
        });
    }

    pub(super) fn is(&self, node: u64, mood: Mood) {
        self.moods.lock().push((NodeId(node), mood));
    }

    /// The values of a partition's log, in order.
    pub(super) fn values(&self, partition: u32) -> Vec<String> {
        let logs = self.logs.lock();
        let batches = logs.get(&at(partition)).into_iter().flatten();
        let values = batches.flat_map(|batch| {
            let records = batch.records().expect("legal");
            records
                .map(|record| {
                    let record = record.expect("legal");
                    String::from_utf8(record.value.expect("there").to_vec()).expect("text")
                })
                .collect::<Vec<_>>()
        });
        values.collect()
    }

    fn led(&self, node: NodeId, partition: TopicPartition) -> Result<(), Failure> {
        let image = self.images.borrow().clone();
        let state = image.partition(partition).ok_or_else(|| Failure::new(ErrorCode::UnknownTopicId, "gone"))?;
        let truth = self.truth.lock().get(&partition).copied().or(state.leader);
        if truth == Some(node) {
            return Ok(());
        }
        let epoch = LeaderEpoch(state.leader_epoch.0 + 1);
        let hint = LeaderHint { node: truth, epoch, peer_id: None, addresses: Vec::new() };
        Err(Failure::new(ErrorCode::NotLeaderOrFollower, "not here").with_leader(hint))
    }

    fn append(&self, node: NodeId, part: &ProducePartition) -> Result<Produced, Failure> {
        self.led(node, part.partition)?;
        let mut logs = self.logs.lock();
        let log = logs.entry(part.partition).or_default();
        let batch = RecordBatch::parse(part.records.clone()).expect("legal");
        let header = *batch.header();
        if header.producer_id != ProducerId::NONE {
            let before = log.iter().find(|batch| {
                let known = batch.header();
                known.producer_id == header.producer_id && known.base_sequence == header.base_sequence
            });
            if let Some(before) = before {
                let base_offset = before.header().base_offset;
                return Ok(Produced { base_offset, append_time: None, log_start: Offset(0) });
            }
        }
        let base_offset = log.last().map_or(Offset(0), |batch| batch.header().next_offset());
        log.push(batch.stamp(base_offset, LeaderEpoch(3)));
        self.appended.notify_waiters();
        Ok(Produced { base_offset, append_time: None, log_start: Offset(0) })
    }

    fn read(&self, node: NodeId, part: &FetchPartition) -> Result<Fetched, Failure> {
        self.led(node, part.partition)?;
        let logs = self.logs.lock();
        let log: &[RecordBatch] = logs.get(&part.partition).map_or(&[], Vec::as_slice);
        let end = log.last().map_or(Offset(0), |batch| batch.header().next_offset());
        let mut records = BytesMut::new();
        for batch in log {
            let header = BatchHeader::parse(batch.bytes()).expect("legal");
            if header.next_offset() > part.offset {
                records.extend_from_slice(batch.bytes());
            }
        }
        let records = records.freeze().into();
        Ok(Fetched { high_watermark: end, last_stable_offset: end, log_start: Offset(0), records })
    }

    async fn carry_out(&self, node: NodeId, ask: Ask) -> Result<Told, Trouble> {
        fn reply<T>(partition: TopicPartition, result: Result<T, Failure>) -> PartitionReply<T> {
            PartitionReply { partition, result }
        }
        Ok(match ask {
            Ask::Produce(Produce { partitions, .. }) => {
                Told::Produced(partitions.iter().map(|part| reply(part.partition, self.append(node, part))).collect())
            }
            Ask::Fetch(fetch) => {
                let until = tokio::time::Instant::now() + Duration::from_millis(fetch.max_wait_ms.into());
                loop {
                    let woken = self.appended.notified();
                    let read = |part: &FetchPartition| reply(part.partition, self.read(node, part));
                    let found: Vec<_> = fetch.partitions.iter().map(read).collect();
                    let sizes = found.iter().map(|reply| reply.result.as_ref().map(|fetched| fetched.records.len()));
                    let refused = sizes.clone().any(|size| size.is_err());
                    let bytes: usize = sizes.flatten().sum();
                    if refused || bytes >= fetch.min_bytes as usize || tokio::time::Instant::now() >= until {
                        break Told::Fetched(found);
                    }
                    let _ = tokio::time::timeout_at(until, woken).await;
                }
            }
            Ask::ListOffsets(list) => {
                let one = |partition| {
                    let (offset, timestamp) = (Some(Offset(node.0 as i64)), Timestamp::NONE);
                    self.led(node, partition).map(|()| FoundOffset { offset, timestamp, leader_epoch: LeaderEpoch(3) })
                };
                Told::Offsets(
                    list.partitions.iter().map(|(partition, ..)| reply(*partition, one(*partition))).collect(),
                )
            }
            other => panic!("not expected here: {other:?}"),
        })
    }
}

fn words(ask: &Ask) -> String {
    match ask {
        Ask::Produce(produce) => {
            let parts: Vec<_> = produce.partitions.iter().map(|part| part.partition.partition.0).collect();
            format!("produce {parts:?}")
        }
        Ask::Fetch(fetch) => {
            let parts: Vec<_> =
                fetch.partitions.iter().map(|part| (part.partition.partition.0, part.offset.0)).collect();
            format!("fetch {parts:?}")
        }
        _ => "other".to_owned(),
    }
}

impl Reach for Leaders {
    fn image(&self) -> Arc<Image> {
        self.images.borrow().clone()
    }

    fn images(&self) -> watch::Receiver<Arc<Image>> {
        self.images.subscribe()
    }

    fn me(&self) -> Option<NodeId> {
        self.me
    }

    async fn ask(&self, to: NodeId, ask: Ask, within: Duration) -> Result<Told, Trouble> {
        self.asked.lock().push(format!("{to}: {}", words(&ask)));
        let slow = self.slow.lock().get(&to).cloned();
        let mood = {
            let mut moods = self.moods.lock();
            let found = moods.iter().position(|(node, _)| *node == to);
            found.map(|index| moods.remove(index).1)
        };
        let lost = Trouble { failure: Failure::new(ErrorCode::OutcomeUnknown, "lost"), outcome_unknown: true };
        match mood {
            Some(Mood::Down) => {
                return Err(Trouble::refused(Failure::new(ErrorCode::LeaderNotAvailable, "down")));
            }
            Some(Mood::Loses) => return Err(lost),
            _ => {}
        }
        let answer = tokio::time::timeout(within, async {
            if let Some(slow) = slow {
                slow.notified().await;
            }
            self.carry_out(to, ask).await
        });
        match answer.await {
            Ok(_) if mood == Some(Mood::Forgets) => Err(lost),
            Ok(answer) => answer,
            Err(_) => Err(lost),
        }
    }
}
