//! Real `rafka-node` processes, seen through a Kafka client that others wrote (rskafka).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rskafka::chrono::{TimeZone, Utc};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;
use tempfile::TempDir;

/// Every wait ends by then, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    match std::env::var_os("RAFKA_BIN_DIR") {
        Some(dir) => Path::new(&dir).join("rafka-node"),
        None => env!("CARGO_BIN_EXE_rafka-node").into(),
    }
}

/// A node on free ports; ends with the test.
struct Node {
    process: Child,
    home: TempDir,
    flags: Vec<String>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    fn start(flags: &[&str]) -> Self {
        let home = TempDir::new().expect("a directory");
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { process: launch(home.path(), &flags), home, flags }
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(self.home.path().join("ready.json"));
    }

    fn start_again(&mut self) {
        self.process = launch(self.home.path(), &self.flags);
    }

    /// What the node says of itself once it is ready.
    fn ready(&mut self) -> serde_json::Value {
        let began = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(self.home.path().join("ready.json")) {
                return serde_json::from_str(&text).expect("JSON");
            }
            assert_eq!(self.process.try_wait().expect("a child"), None, "the node ended before it was ready");
            assert!(began.elapsed() < DEADLINE, "not ready in time");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kafka(&mut self) -> String {
        self.ready()["kafka"][0].as_str().expect("it listens").to_owned()
    }
}

fn launch(home: &Path, flags: &[String]) -> Child {
    let mut command = Command::new(binary());
    command.arg("--data-dir").arg(home.join("data")).arg("--ready-file").arg(home.join("ready.json"));
    command.args(["--listen", "127.0.0.1:0", "--ops-listen", "none", "--log-format", "json"]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("rafka-node starts")
}

const ANY: &[&str] = &["--kafka-listen", "127.0.0.1:0"];

async fn partition(bootstrap: &str, topic: &str, partition: i32) -> PartitionClient {
    let client = ClientBuilder::new(vec![bootstrap.to_owned()]).build().await.expect("a broker answers");
    client.partition_client(topic, partition, UnknownTopicHandling::Retry).await.expect("a leader")
}

fn record(key: &str, value: &str) -> Record {
    Record {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: BTreeMap::from([("h".to_owned(), vec![1, 2, 3])]),
        timestamp: Utc.timestamp_millis_opt(1_700_000_000_000).single().expect("a time"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_kafka_client_writes_another_reads_whatever_the_codec() {
    let mut node = Node::start(ANY);
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
    let mut nodes = vec![Node::start(ANY)];
    let mesh = nodes[0].ready()["mesh"][0].as_str().expect("an address").to_owned();
    nodes.extend((0..2).map(|_| Node::start(&[ANY, &["--bootstrap", &mesh]].concat())));
    let doors: Vec<_> = nodes.iter_mut().map(Node::kafka).collect();
    let client = ClientBuilder::new(vec![doors[1].clone()]).build().await.expect("a broker answers");
    let controller = client.controller_client().expect("a controller");
    controller.create_topic("wide", 12, 1, 10_000).await.expect("made");
    let mut leaders = std::collections::BTreeSet::new();
    for (door, index) in doors.iter().cycle().zip(0..12) {
        let partition = Arc::new(partition(door, "wide", index).await);
        let offsets = partition.produce(vec![record("k", "v")], Compression::NoCompression).await.expect("taken");
        assert_eq!(offsets, [0]);
        leaders.insert(index);
    }
    assert_eq!(leaders.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_the_process_was_killed() {
    let mut node = Node::start(ANY);
    let bootstrap = node.kafka();
    let writer = partition(&bootstrap, "kept", 0).await;
    for number in 0..20 {
        writer.produce(vec![record("k", &number.to_string())], Compression::NoCompression).await.expect("taken");
    }
    node.kill();
    node.start_again();
    let bootstrap = node.kafka();
    let reader = partition(&bootstrap, "kept", 0).await;
    let (records, high_watermark) = reader.fetch_records(0, 1..1_000_000, 1_000).await.expect("given");
    assert_eq!((records.len(), high_watermark), (20, 20));
}

#[test]
fn a_busy_port_is_said_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("bound").to_string();
    let home = TempDir::new().expect("a directory");
    let output = Command::new(binary())
        .arg("--data-dir")
        .arg(home.path())
        .args(["--listen", "127.0.0.1:0", "--ops-listen", "none", "--kafka-listen", &address])
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&address) && said.contains("hint:") && said.contains("--kafka-listen"), "{said}");
}
