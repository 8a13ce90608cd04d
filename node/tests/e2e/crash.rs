//! Nodes that die under load.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rafka_client::{
    Client, ClientConfig, ConsumedRecord, Delivery, Offset, PartitionId, Producer, ProducerConfig, Record, TopicName,
};
use tokio::task::JoinSet;

use crate::support::{DEADLINE, Home, Node, cluster, create, eventually, led_by, read_all};

/// Keys whose records must keep their order.
const KEYS: u64 = 24;
/// Records of one key under way at once.
const FLIGHT: usize = 32;

/// What a writer has been promised: key and number of each record, and where it lies.
type Acknowledged = BTreeMap<(PartitionId, Offset), (u64, u64)>;

/// Acknowledged records of each partition, counted while they are written.
type Counts = Arc<[AtomicU64; 6]>;

/// Writers of numbered records, one for each key, so that a key whose node is away holds up no other.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Counts,
    tasks: JoinSet<Acknowledged>,
}

impl Writers {
    fn start(client: &Client, topic: &TopicName) -> Self {
        let producer = client.producer(ProducerConfig::default());
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Counts::default());
        let write = |key| write(producer.clone(), topic.clone(), key, stop.clone(), written.clone());
        let tasks = (0..KEYS).map(write).collect();
        Self { stop, written, tasks }
    }

    /// Waits until more was acknowledged in each of these partitions.
    async fn progress(&self, partitions: impl IntoIterator<Item = PartitionId>) {
        for partition in partitions {
            let count = &self.written[partition.0 as usize];
            let before = count.load(Ordering::Relaxed);
            let what = format!("records of partition {partition} are acknowledged");
            eventually(&what, async || (count.load(Ordering::Relaxed) > before).then_some(())).await;
        }
    }

    async fn end(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        let all = tokio::time::timeout(DEADLINE, self.tasks.join_all()).await.expect("all is delivered in time");
        all.into_iter().flatten().collect()
    }
}

async fn write(producer: Producer, topic: TopicName, key: u64, stop: Arc<AtomicBool>, written: Counts) -> Acknowledged {
    let (mut promises, mut acknowledged) = (VecDeque::new(), Acknowledged::new());
    for number in 0.. {
        let is_last = stop.load(Ordering::Relaxed);
        let record = Record::new(topic.clone(), format!("{number}")).key(format!("{key}"));
        promises.push_back((number, producer.enqueue(record).await.expect("taken")));
        while promises.len() > FLIGHT || (is_last && !promises.is_empty()) {
            let (number, pending) = promises.pop_front().expect("not empty");
            let Delivery { partition, offset, .. } = pending.await.expect("delivered, however long a node is away");
            written[partition.0 as usize].fetch_add(1, Ordering::Relaxed);
            acknowledged.insert((partition, offset.expect("acks all tells it")), (key, number));
        }
        if is_last {
            break;
        }
    }
    acknowledged
}

fn content(record: &ConsumedRecord) -> (u64, u64) {
    let number = |bytes: &Option<bytes::Bytes>| {
        std::str::from_utf8(bytes.as_deref().expect("set")).expect("text").parse().expect("a number")
    };
    (number(&record.key), number(&record.value))
}

/// Every record that was acknowledged lies where it was said to lie, and the records of each key are in order.
fn check(acknowledged: &Acknowledged, read: &[ConsumedRecord]) {
    let found: Acknowledged = read.iter().map(|r| ((r.partition, r.offset), content(r))).collect();
    for (place, record) in acknowledged {
        assert_eq!(found.get(place), Some(record), "at {place:?}");
    }
    // A record may come twice after a lost answer, but no later one before the first of it.
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, number) in found.values() {
        let next = next.entry(*key).or_default();
        assert!(number <= next, "key {key}: {number} came before {next}");
        *next = (*next).max(number + 1);
    }
}

/// Issue: each of three nodes, the founder too, is killed while records are written with acks all: every acknowledged
/// record is read back, in order within its key, and the partitions of the killed go on after its restart.
#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_record_survives_kills_of_every_node() {
    let mut nodes = cluster(3).await;
    let bootstrap = nodes.iter().map(|node| node.mesh().to_owned()).collect();
    let client = Client::connect(ClientConfig { bootstrap, ..ClientConfig::default() }).await.expect("answered");
    let topic = create(&client, "killed", 6, &[]).await;
    let writers = Writers::start(&client, &topic);
    for _ in 0..3 {
        // The first in the list is the next to die; the founder is the first of all.
        let node = nodes.remove(0);
        let owned = led_by(&client, &topic, node.id()).await;
        assert!(!owned.is_empty(), "every node leads some");
        writers.progress(owned.clone()).await;
        let (port, seed) = (node.host_port(), nodes[0].mesh().to_owned());
        let home = node.kill();
        writers.progress((0..6).map(PartitionId).filter(|partition| !owned.contains(partition))).await;
        nodes.push(home.start(&["--listen", &port, "--bootstrap", &seed]).await);
        writers.progress(owned).await;
    }
    let acknowledged = writers.end().await;
    let fresh = nodes[0].client().await;
    check(&acknowledged, &read_all(&fresh, &topic).await);
}

/// All at once, as when the machine's operator slips: nothing but the processes is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_killed_whole_comes_back_whole() {
    let nodes = cluster(3).await;
    let client = nodes[0].client().await;
    let topic = create(&client, "whole", 6, &[("durability", "fsync")]).await;
    let writers = Writers::start(&client, &topic);
    writers.progress((0..6).map(PartitionId)).await;
    let ports: Vec<String> = nodes.iter().map(Node::host_port).collect();
    let homes: Vec<Home> = nodes.into_iter().map(Node::kill).collect();
    let starting: Vec<_> = homes.into_iter().zip(&ports).map(|(home, port)| home.spawn(&["--listen", port])).collect();
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.ready().await);
    }
    writers.progress((0..6).map(PartitionId)).await;
    let acknowledged = writers.end().await;
    check(&acknowledged, &read_all(&nodes[1].client().await, &topic).await);
}
