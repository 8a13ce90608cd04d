//! Nodes as users have them: processes with a data directory, seen through the SDK and ops HTTP.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rafka_client::{
    Client, ClientConfig, ConsumedRecord, ConsumerConfig, Error, NewTopic, NodeId, PartitionId, Start, TopicName,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Every wait ends by then, however busy the machine is.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody when it changes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) fn binary() -> PathBuf {
    match std::env::var_os("RAFKA_BIN_DIR") {
        Some(dir) => Path::new(&dir).join("rafka-node"),
        None => env!("CARGO_BIN_EXE_rafka-node").into(),
    }
}

/// Looks until there is something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(began.elapsed() < DEADLINE, "{caller}: not in time: {what}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Says why a test proves nothing here, where nobody captures it.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Mounts a tmpfs that ends with the test; `None`, said aloud, where that is not allowed.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn new(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        if mounted.as_ref().is_ok_and(|done| done.status.success()) {
            return Some(Self(at.to_owned()));
        }
        skipped(&format!("no file system can be mounted here: {mounted:?}"));
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Where one node lives, whether it runs or not: data directory, ready file, log.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// A file beside the data directory, for flags that name one.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("text").to_owned()
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.env_clear().current_dir(self.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.arg("--data-dir").arg(self.data()).args(flags);
        for (flag, default) in
            [("--listen", "127.0.0.1:0"), ("--kafka-listen", "none"), ("--ops-listen", "127.0.0.1:0")]
        {
            if !flags.contains(&flag) {
                command.args([flag, default]);
            }
        }
        command
    }

    /// Starts the node; it may or may not become ready.
    pub(crate) fn spawn(self, flags: &[&str]) -> Starting {
        let ready_file = self.path().join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let log = self.path().join("log");
        let output = File::options().create(true).append(true).open(&log).expect("opened");
        let mut command = self.command(flags);
        command.arg("--ready-file").arg(&ready_file).args(["--log-format", "compact"]).stderr(output);
        Starting { process: Process { child: command.spawn().expect("rafka-node starts"), log }, home: self }
    }

    pub(crate) async fn start(self, flags: &[&str]) -> Node {
        self.spawn(flags).ready().await
    }

    /// Runs a node that must end by itself; how it ended, and what it said.
    #[track_caller]
    pub(crate) fn refused(&self, flags: &[&str]) -> (i32, String) {
        let log = self.path().join("refused");
        let mut command = self.command(flags);
        let child = command.stderr(File::create(&log).expect("made")).spawn().expect("rafka-node starts");
        let mut process = Process { child, log: log.clone() };
        let code = process.end().expect("it ends by itself");
        (code, std::fs::read_to_string(&log).expect("text"))
    }

    /// As [`Self::refused`]; checks the code, that an error and a hint were given, and that all of `words` were said.
    #[track_caller]
    pub(crate) fn is_refused(&self, flags: &[&str], code: i32, words: &[&str]) {
        let (ended, said) = self.refused(flags);
        assert_eq!(ended, code, "{said}");
        for words in words.iter().chain(&["error: ", "hint: "]) {
            assert!(said.contains(words), "{words:?} is not in: {said}");
        }
    }

    /// Every file of the data directory but the lock, which each process writes its id into.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("listed") {
                let path = entry.expect("read").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.ends_with("lock") => {}
                    false => drop(found.insert(path.clone(), std::fs::read(path).expect("read"))),
                }
            }
        }
        found
    }
}

/// A process that ends with the test; a test that fails shows its log.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Waits for its end; the exit code, or `None` if a signal ended it.
    #[track_caller]
    fn end(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(began.elapsed() < DEADLINE, "the node does not end");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let from = log.len().saturating_sub(8_000);
            eprintln!("--- log of process {}:\n{}", self.child.id(), log.get(from..).unwrap_or(&log));
        }
    }
}

/// A node that is not ready yet.
pub(crate) struct Starting {
    process: Process,
    home: Home,
}

impl Starting {
    pub(crate) async fn ready(mut self) -> Node {
        let file = self.home.path().join("ready.json");
        let ready = eventually("the ready file", async || {
            if let Some(status) = self.process.child.try_wait().expect("a child") {
                panic!("the node ended before it was ready: {status}");
            }
            std::fs::read(&file).ok()
        });
        let ready = serde_json::from_slice(&ready.await).expect("JSON");
        Node { process: self.process, home: self.home, ready }
    }

    /// Waits until it has logged this.
    pub(crate) async fn said(&self, words: &str) {
        said(&self.process.log, words).await;
    }
}

async fn said(log: &Path, words: &str) {
    eventually(words, async || std::fs::read_to_string(log).is_ok_and(|log| log.contains(words)).then_some(())).await;
}

/// A node in service.
pub(crate) struct Node {
    process: Process,
    pub(crate) home: Home,
    ready: Value,
}

impl Node {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Home::new().start(flags).await
    }

    /// Mesh address with the peer id.
    pub(crate) fn mesh(&self) -> &str {
        self.ready["mesh"][0].as_str().expect("an address")
    }

    /// Mesh address without the peer id.
    pub(crate) fn multiaddr(&self) -> &str {
        self.mesh().split("/p2p/").next().expect("an address")
    }

    pub(crate) fn port(&self) -> u16 {
        self.multiaddr().rsplit('/').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    /// The flag that takes the same port again.
    pub(crate) fn host_port(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    pub(crate) fn peer(&self) -> rafka_client::PeerId {
        self.peer_id().parse().expect("a peer id")
    }

    pub(crate) fn peer_id(&self) -> &str {
        self.ready["peer_id"].as_str().expect("a peer id")
    }

    pub(crate) fn cluster_id(&self) -> &str {
        self.ready["cluster_id"].as_str().expect("a cluster id")
    }

    /// Address of the Kafka door.
    pub(crate) fn kafka(&self) -> String {
        self.ready["kafka"][0].as_str().expect("the Kafka door is open").to_owned()
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId(self.ready["node_id"].as_u64().expect("a node id"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Waits until it has logged this.
    pub(crate) async fn said(&self, words: &str) {
        said(&self.process.log, words).await;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.process.log).expect("text")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.child.try_wait().expect("a child").is_none()
    }

    /// Memory of the process, bytes.
    pub(crate) fn resident_bytes(&self) -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn kill(mut self) -> Home {
        self.process.child.kill().expect("it runs");
        self.process.child.wait().expect("it ends");
        self.home
    }

    /// SIGTERM, and a clean end.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Home {
        let pid = rustix::process::Pid::from_child(&self.process.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        assert_eq!(self.process.end(), Some(0), "a clean end");
        self.home
    }

    /// The body that ops HTTP answers with.
    pub(crate) async fn ops(&self, path: &str) -> String {
        let ops = self.ready["ops"].as_str().expect("ops HTTP listens");
        let mut door = TcpStream::connect(ops).await.expect("ops HTTP answers");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {ops}\r\nconnection: close\r\n\r\n");
        door.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        door.read_to_string(&mut answer).await.expect("text");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    }

    pub(crate) async fn status(&self) -> Value {
        serde_json::from_str(&self.ops("/status").await).expect("JSON")
    }

    /// A metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.ops("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("there is no metric {name}"))
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(ClientConfig::default()).await
    }

    /// A client that knows this node's address and nothing else.
    pub(crate) async fn client_with(&self, config: ClientConfig) -> Client {
        let config = ClientConfig { bootstrap: vec![self.mesh().to_owned()], ..config };
        Client::connect(config).await.expect("the node answers")
    }
}

/// A founder, and others that join through its address at the same time.
pub(crate) async fn cluster(nodes: usize) -> Vec<Node> {
    let founder = Node::start(&[]).await;
    let bootstrap = founder.mesh().to_owned();
    let joining: Vec<_> = (1..nodes).map(|_| Home::new().spawn(&["--bootstrap", &bootstrap])).collect();
    let mut all = vec![founder];
    for node in joining {
        all.push(node.ready().await);
    }
    all
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    held.each_ref().map(|listener| listener.local_addr().expect("bound").port())
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName::new(topic).expect("legal")
}

/// A topic of this many partitions with these configs, as its creator wants it.
pub(crate) fn new_topic(topic: &str, partitions: u32, configs: &[(&str, &str)]) -> NewTopic {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NewTopic {
        name: topic.to_owned(),
        partitions: Some(partitions),
        replication_factor: None,
        assignments: Vec::new(),
        configs,
    }
}

pub(crate) async fn create(client: &Client, topic: &str, partitions: u32, configs: &[(&str, &str)]) -> TopicName {
    client.admin().create_topic(new_topic(topic, partitions, configs), false).await.expect("made");
    name(topic)
}

/// The partitions of a topic that each node leads.
pub(crate) async fn led_by(client: &Client, topic: &TopicName, node: NodeId) -> Vec<PartitionId> {
    let described = client.admin().describe_topics(&[topic.to_string()]).await.expect("answered").remove(0).1;
    let partitions = described.expect("exists").partitions;
    partitions.into_iter().filter(|(_, state)| state.leader == Some(node)).map(|(partition, _)| partition).collect()
}

/// Everything from the start to the end of a topic.
pub(crate) async fn read_all(client: &Client, topic: &TopicName) -> Vec<ConsumedRecord> {
    let records = try_read(client, ConsumerConfig::topics([topic.clone()])).await;
    records.into_iter().map(|record| record.expect("read")).collect()
}

/// Everything from the start to the end, errors with it.
pub(crate) async fn try_read(client: &Client, config: ConsumerConfig) -> Vec<Result<ConsumedRecord, Error>> {
    let config = ConsumerConfig { start: Start::Earliest, exit_at_end: true, ..config };
    let read = async { client.consumer(config).await.expect("subscribed").collect().await };
    tokio::time::timeout(DEADLINE, read).await.expect("the end is reached in time")
}
