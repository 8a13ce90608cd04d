//! The Kafka door of real nodes, through a Kafka client that others wrote (rskafka), and through bare sockets.

use std::collections::{BTreeMap, BTreeSet};

use rskafka::chrono::{TimeZone, Utc};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Home, Node};

/// The Kafka door on any free port.
const ANY: &[&str] = &["--kafka-listen", "127.0.0.1:0"];

pub(crate) async fn partition(bootstrap: &str, topic: &str, partition: i32) -> PartitionClient {
    let client = ClientBuilder::new(vec![bootstrap.to_owned()]).build().await.expect("a broker answers");
    client.partition_client(topic, partition, UnknownTopicHandling::Retry).await.expect("a leader")
}

pub(crate) fn record(key: &str, value: &str) -> Record {
    Record {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: BTreeMap::from([("h".to_owned(), vec![1, 2, 3])]),
        timestamp: Utc.timestamp_millis_opt(1_700_000_000_000).single().expect("a time"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_kafka_client_writes_another_reads_whatever_the_codec() {
    let node = Node::start(ANY).await;
    let bootstrap = node.kafka();
    // Nobody made the topic: asking for it does.
    let writer = partition(&bootstrap, "orders", 3).await;
    let codecs =
        [Compression::NoCompression, Compression::Gzip, Compression::Lz4, Compression::Snappy, Compression::Zstd];
    for (at, codec) in (0..).zip(codecs) {
        let offsets = writer.produce(vec![record("k", "first"), record("k", "second")], codec).await.expect("taken");
        assert_eq!(offsets, [2 * at, 2 * at + 1]);
    }
    let reader = partition(&bootstrap, "orders", 3).await;
    let (records, high_watermark) = reader.fetch_records(1, 1..1_000_000, 1_000).await.expect("given");
    assert_eq!(high_watermark, 10);
    assert_eq!(records.iter().map(|found| found.offset).collect::<Vec<_>>(), (1..10).collect::<Vec<i64>>());
    assert_eq!(records[0].record, record("k", "second"));
    assert_eq!(reader.get_offset(OffsetAt::Latest).await.expect("known"), 10);
    reader.delete_records(4, 1_000).await.expect("deleted");
    assert_eq!(reader.get_offset(OffsetAt::Earliest).await.expect("known"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_every_partition_through_any_node() {
    let mut nodes = vec![Node::start(ANY).await];
    for _ in 0..2 {
        let node = Node::start(&[ANY, &["--bootstrap", nodes[0].mesh()]].concat()).await;
        nodes.push(node);
    }
    let doors: Vec<_> = nodes.iter().map(Node::kafka).collect();
    let client = ClientBuilder::new(vec![doors[1].clone()]).build().await.expect("a broker answers");
    let controller = client.controller_client().expect("a controller");
    controller.create_topic("wide", 12, 1, 10_000).await.expect("made");
    let mut leaders = BTreeSet::new();
    for (door, index) in doors.iter().cycle().zip(0..12) {
        let partition = partition(door, "wide", index).await;
        let offsets = partition.produce(vec![record("k", "v")], Compression::NoCompression).await.expect("taken");
        assert_eq!(offsets, [0]);
        leaders.insert(index);
    }
    assert_eq!(leaders.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_the_process_was_killed() {
    let node = Node::start(ANY).await;
    let bootstrap = node.kafka();
    let writer = partition(&bootstrap, "kept", 0).await;
    for number in 0..20 {
        writer.produce(vec![record("k", &number.to_string())], Compression::NoCompression).await.expect("taken");
    }
    let node = node.kill().start(ANY).await;
    let bootstrap = node.kafka();
    let reader = partition(&bootstrap, "kept", 0).await;
    let (records, high_watermark) = reader.fetch_records(0, 1..1_000_000, 1_000).await.expect("given");
    assert_eq!((records.len(), high_watermark), (20, 20));
}

#[test]
fn a_busy_port_is_said_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("bound").to_string();
    Home::new().is_refused(&["--kafka-listen", &address], 1, &[&address, "--kafka-listen"]);
}

/// An ApiVersions request, version 0, of a client without a name.
const API_VERSIONS: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_lie_end_their_connection_and_nothing_else() {
    let node = Node::start(ANY).await;
    let bootstrap = node.kafka();
    let writer = partition(&bootstrap, "calm", 0).await;
    let before = node.resident_bytes();
    let lies: [&[u8]; 6] = [
        // Two gigabytes announced, a negative length, a length without a header, an unknown API, and claimed counts.
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 1],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 2, 0, 18],
        &[0, 0, 0, 10, 0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff],
    ];
    for lie in lies.iter().cycle().take(300) {
        let mut door = TcpStream::connect(&bootstrap).await.expect("it accepts");
        door.write_all(lie).await.expect("sent");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(crate::support::DEADLINE, door.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{lie:?} kept its connection");
    }
    let offsets = writer.produce(vec![record("k", "v")], Compression::NoCompression).await.expect("taken");
    assert_eq!(offsets, [0]);
    if let (Some(before), Some(after)) = (before, node.resident_bytes()) {
        assert!(after < before + (64 << 20), "from {before} to {after} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_at_once_are_answered_in_their_order() {
    let node = Node::start(ANY).await;
    let mut door = TcpStream::connect(node.kafka()).await.expect("it accepts");
    let mut requests = Vec::new();
    for number in 0..50u8 {
        requests.extend_from_slice(&API_VERSIONS[..11]);
        requests.push(number);
        requests.extend_from_slice(&API_VERSIONS[12..]);
    }
    door.write_all(&requests).await.expect("sent");
    for number in 0..50 {
        let length = door.read_u32().await.expect("an answer") as usize;
        let mut answer = vec![0; length];
        door.read_exact(&mut answer).await.expect("whole");
        assert_eq!(answer[..6], [0, 0, 0, number, 0, 0]);
    }
}
