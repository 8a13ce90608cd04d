//! Real `rafka-node` processes, seen through the SDK: joining, finding partitions, and what is refused at the start.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rafka_client::{Client, ClientConfig, ErrorCode, NewTopic, PartitionId, Source, TopicName};
use tempfile::TempDir;

/// Every wait ends by then, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    match std::env::var_os("RAFKA_BIN_DIR") {
        Some(dir) => Path::new(&dir).join("rafka-node"),
        None => env!("CARGO_BIN_EXE_rafka-node").into(),
    }
}

/// A node on a free port; ends with the test.
struct Node {
    process: Child,
    home: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("--data-dir").arg(data).args([
        "--listen",
        "127.0.0.1:0",
        "--kafka-listen",
        "none",
        "--ops-listen",
        "none",
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Node {
    fn start(flags: &[&str]) -> Self {
        let home = TempDir::new().expect("a directory");
        let mut command = command(&home.path().join("data"));
        let process = command.args(["--log-format", "json"]).args(flags).stderr(Stdio::piped()).spawn();
        Self { process: process.expect("rafka-node starts"), home }
    }

    /// Reads the log up to the line that says that the node is ready; its `mesh` address and its peer id.
    fn ready(&mut self) -> (String, String) {
        let mut log = BufReader::new(self.process.stderr.take().expect("asked for once")).lines();
        let ready = log.by_ref().map(|line| line.expect("text")).find(|line| line.contains(r#""message":"ready""#));
        let ready: serde_json::Value =
            serde_json::from_str(&ready.expect("the node ended before it was ready")).expect("JSON");
        // Somebody must go on reading, or the node would wait for room to log.
        std::thread::spawn(move || log.for_each(drop));
        let address = ready["mesh"].as_str().expect("a list").split('"').nth(1).expect("an address").to_owned();
        (address, ready["peer"].as_str().expect("a peer id").to_owned())
    }
}

/// A founder, and others that join through its address at the same time.
fn cluster(joiners: usize) -> (Vec<Node>, Vec<(String, String)>) {
    let mut nodes = vec![Node::start(&[])];
    let mut ready = vec![nodes[0].ready()];
    let address = ready[0].0.clone();
    nodes.extend((0..joiners).map(|_| Node::start(&["--bootstrap", &address])));
    ready.extend(nodes[1..].iter_mut().map(Node::ready));
    (nodes, ready)
}

async fn client(address: &str, fallback_disabled: bool) -> Client {
    let config = ClientConfig { bootstrap: vec![address.to_owned()], fallback_disabled, ..ClientConfig::default() };
    Client::connect(config).await.expect("a node answers")
}

/// Issue: five nodes that join at once through one address know each other, authenticated, in their routing tables.
#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_that_join_at_once_know_each_other() {
    let (_nodes, ready) = cluster(4);
    let client = client(&ready[0].0, false).await;
    let began = Instant::now();
    for (_, peer_id) in &ready {
        let peer = peer_id.parse().expect("a peer id");
        loop {
            let swarm = client.mesh().swarm(peer).await.expect("every node tells of its swarm");
            let known = |other: &&rafka_client::SwarmPeer| other.member && other.in_routing_table;
            if swarm.peers.iter().filter(known).count() == 4 {
                break;
            }
            assert!(began.elapsed() < DEADLINE, "{peer_id} knows {:?}", swarm.peers);
        }
    }
}

/// Issue: a client with a cold cache and one address finds every partition of a new topic through the DHT alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_cold_client_finds_twenty_of_twenty_partitions_by_dht() {
    let (_nodes, ready) = cluster(4);
    let topic = NewTopic { name: "wide".to_owned(), partitions: Some(20), ..NewTopic::default() };
    client(&ready[1].0, false).await.admin().create_topic(topic, false).await.expect("made");
    let cold = client(&ready[4].0, true).await;
    let name = TopicName::new("wide").expect("legal");
    for partition in (0..20).map(PartitionId) {
        let route = cold.mesh().route(&name, partition).await.expect("found");
        assert!(matches!(route.source, Source::Dht | Source::Cache), "partition {partition} by {:?}", route.source);
    }
    let counts = cold.mesh().resolve_counters();
    assert_eq!((counts.quorum, counts.fallbacks), (0, 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_than_one_are_refused_not_ignored() {
    let (_nodes, ready) = cluster(0);
    let topic =
        NewTopic { name: "safe".to_owned(), partitions: Some(1), replication_factor: Some(3), ..NewTopic::default() };
    let error = client(&ready[0].0, false).await.admin().create_topic(topic, false).await.expect_err("refused");
    assert_eq!(error.code(), Some(ErrorCode::InvalidReplicationFactor));
}

/// Runs a node that cannot start; what it says and how it ends.
fn refused(data: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } =
        command(data).args(flags).stderr(Stdio::piped()).output().expect("rafka-node runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn a_data_directory_serves_one_process() {
    let mut first = Node::start(&[]);
    first.ready();
    let (code, said) = refused(&first.home.path().join("data"), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: ") && said.contains(&first.process.id().to_string()), "{said}");
}

#[test]
fn a_busy_port_is_named_with_a_hint() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = busy.local_addr().expect("bound").to_string();
    let home = TempDir::new().expect("a directory");
    let output = Command::new(binary())
        .args(["--listen", &address, "--kafka-listen", "none", "--ops-listen", "none", "--data-dir"])
        .arg(home.path().join("data"))
        .output()
        .expect("rafka-node runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on") && said.contains("hint: "), "{said}");
}

#[test]
fn a_damaged_identity_is_refused_and_left_as_it_is() {
    let mut node = Node::start(&[]);
    node.ready();
    let (data, key) = (node.home.path().join("data"), node.home.path().join("data/identity.key"));
    node.process.kill().expect("it runs");
    node.process.wait().expect("it ends");
    std::fs::write(&key, b"garbage").expect("written");
    let (code, said) = refused(&data, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("identity.key"), "{said}");
    assert_eq!(std::fs::read(&key).expect("still there"), b"garbage");
}

#[test]
fn a_wrong_setting_ends_with_78_and_a_suggestion() {
    let home = TempDir::new().expect("a directory");
    let (code, said) = refused(&home.path().join("data"), &["--set", "mesh.lisen=127.0.0.1:1"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("mesh.listen"), "{said}");
}
