//! The brokers that the clients talk to: processes of this machine, with folders of their own.

use std::fs::{self, File, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::network::{self, Network, behind};
use super::page::Known;

/// A node is in service within this time.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What is waited for is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a log that are shown when its node does not start.
const LAST_WORDS: usize = 12;

/// Shortest session that a member of a group may ask for, or that the coordinator gives it, milliseconds.
pub(super) const SESSION_MS: u32 = 6000;

/// Brokers, and how they are started. Cases that run side by side share it.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    kind: Kind,
    known: Known,
    inputs: AtomicUsize,
    /// Removed after the nodes have ended.
    network: Option<Network>,
}

enum Kind {
    Rafka { binaries: PathBuf },
    Kafka { jars: PathBuf },
}

struct Node {
    folder: PathBuf,
    /// Each host:port.
    kafka: String,
    mesh: String,
    gateway: Option<String>,
    /// A port next to the mesh's, unless it is said here.
    lanes: Option<String>,
    process: Mutex<Option<Child>>,
}

impl Node {
    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.process().as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process().take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Cluster {
    /// Starts nodes of Rafka; with a network each of them in its own namespace, the last one within the clients' reach.
    pub(super) fn rafka(
        nodes: usize,
        known: Known,
        network: Option<Network>,
        folder: &Path,
        binaries: &Path,
    ) -> Result<Self, String> {
        let kind = Kind::Rafka { binaries: binaries.to_owned() };
        let nodes = match &network {
            None => here(nodes, known, folder)?,
            Some(_) => apart(nodes, folder),
        };
        Self::start(nodes, known, network, kind)
    }

    /// Starts brokers of Apache Kafka.
    pub(super) fn kafka(nodes: usize, folder: &Path, jars: &Path) -> Result<Self, String> {
        let known = Known::Directly;
        Self::start(here(nodes, known, folder)?, known, None, Kind::Kafka { jars: jars.to_owned() })
    }

    fn start(nodes: Vec<Node>, known: Known, network: Option<Network>, kind: Kind) -> Result<Self, String> {
        let cluster = Self { nodes, kind, known, inputs: AtomicUsize::new(0), network };
        for index in 0..cluster.nodes.len() {
            fs::create_dir_all(&cluster.nodes[index].folder).map_err(|error| error.to_string())?;
            cluster.launch(index, true)?;
            // The first node of Rafka founds the cluster that the others join; those of Kafka need each other.
            if matches!(cluster.kind, Kind::Rafka { .. }) {
                cluster.await_ready(index)?;
            }
        }
        cluster.revive()?;
        if let Some(network) = &cluster.network {
            cluster.prove_cut_off(network)?;
        }
        Ok(cluster)
    }

    /// Kafka addresses of all nodes, separated by commas; the last node's gateway alone, if it is gateways that are tried.
    pub(super) fn bootstrap(&self) -> String {
        match (self.known, self.addresses()) {
            (Known::Directly, addresses) => addresses.join(","),
            (_, mut addresses) => addresses.pop().unwrap_or_default(),
        }
    }

    /// Kafka addresses of the nodes that clients reach.
    pub(super) fn addresses(&self) -> Vec<String> {
        match self.known {
            Known::Directly => self.nodes.iter().map(|node| node.kafka.clone()).collect(),
            _ => self.nodes.iter().filter_map(|node| node.gateway.clone()).collect(),
        }
    }

    /// What is put before the program of a client.
    pub(super) fn clients_prefix(&self) -> Vec<String> {
        self.network.as_ref().map(Network::of_clients).unwrap_or_default()
    }

    fn prefix(&self, index: usize) -> Vec<String> {
        self.network.as_ref().map(|network| network.of_node(index)).unwrap_or_default()
    }

    /// Nothing would be proven by clients that reach more than they should. What they do not reach is there: a node does.
    fn prove_cut_off(&self, network: &Network) -> Result<(), String> {
        let (clients, beside) = (network.of_clients(), network.of_node(0));
        for address in self.addresses() {
            if !Network::reaches(&clients, &address)? {
                return Err(format!("the clients do not reach {address}"));
            }
        }
        let others = self.nodes.iter().flat_map(|node| [Some(&node.kafka), Some(&node.mesh), node.lanes.as_ref()]);
        let others: Vec<&String> = others.flatten().collect();
        for address in &others {
            if !Network::reaches(&beside, address)? {
                return Err(format!("nobody listens at {address}"));
            }
            if Network::reaches(&clients, address)? {
                return Err(format!("the clients reach {address}"));
            }
        }
        println!("\nthe clients reach {}, and none of {} other addresses of nodes", self.bootstrap(), others.len());
        Ok(())
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Kills a node (SIGKILL), starts it again, and waits until it is in service.
    pub(super) fn restart(&self, index: usize) -> Result<(), String> {
        if let Some(mut process) = self.nodes[index].process().take() {
            process.kill().and_then(|()| process.wait()).map_err(|error| error.to_string())?;
        }
        self.launch(index, false)?;
        self.await_ready(index)
    }

    /// Starts what has ended, so that one client's trouble is not the next one's.
    pub(super) fn revive(&self) -> Result<(), String> {
        for index in 0..self.nodes.len() {
            if self.nodes[index].has_ended() {
                eprintln!("*** node {} has ended by itself; its log: {} ***", index + 1, self.log(index).display());
                self.launch(index, false)?;
            }
            self.await_ready(index)?;
        }
        Ok(())
    }

    /// Runs `rafka` against the nodes (beside the first of them), with `input`; returns what it says. `None` if the brokers are not Rafka's.
    pub(super) fn rafka_cli(&self, words: &[&str], input: &str) -> Option<Result<String, String>> {
        let Kind::Rafka { binaries } = &self.kind else { return None };
        let mut command = behind(&self.prefix(0), binaries.join("rafka"));
        command.args(words);
        for node in &self.nodes {
            command.args(["--bootstrap", &node.mesh]);
        }
        self.plain(&mut command);
        let number = self.inputs.fetch_add(1, Ordering::Relaxed);
        let file = self.nodes[0].folder.with_file_name(format!("input-{number}"));
        let result = fs::write(&file, input).and_then(|()| command.stdin(File::open(&file)?).output());
        // It goes with the folder at the latest.
        let _ = fs::remove_file(&file);
        Some(match result {
            Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(output) => Err(format!("rafka {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("rafka: {error}")),
        })
    }

    fn launch(&self, index: usize, first: bool) -> Result<(), String> {
        let log =
            OpenOptions::new().create(true).append(true).open(self.log(index)).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = match &self.kind {
            Kind::Rafka { binaries } => self.rafka_node(index, first, binaries),
            Kind::Kafka { jars } => self.kafka_broker(index, first, jars)?,
        };
        let process = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        *self.nodes[index].process() = Some(process.map_err(|error| format!("{command:?}: {error}"))?);
        Ok(())
    }

    fn rafka_node(&self, index: usize, first: bool, binaries: &Path) -> Command {
        let node = &self.nodes[index];
        let _ = fs::remove_file(node.folder.join("ready"));
        let mut command = behind(&self.prefix(index), binaries.join("rafka-node"));
        command.arg("--data-dir").arg(node.folder.join("data")).arg("--ready-file").arg(node.folder.join("ready"));
        command.args(["--listen", &node.mesh, "--ops-listen", "127.0.0.1:0"]);
        command.args(["--kafka-listen", &node.kafka, "--log-format", "compact"]);
        // The coordinator gives sessions to the members of KIP-848, and would give 45 seconds.
        command.args(["--set", &format!("groups.consumer_session_timeout_ms={SESSION_MS}")]);
        command.args(["--set", "groups.consumer_heartbeat_interval_ms=500"]);
        if let Some(gateway) = &node.gateway {
            command.args(["--kafka-listen", &format!("gateway={gateway}"), "--kafka-routing", "gateway=mesh"]);
        }
        if let Some(lanes) = &node.lanes {
            // It is not the loopback any more, and nobody else is there.
            command.args(["--lane-listen", lanes, "--insecure"]);
        }
        let others =
            self.nodes.iter().enumerate().filter(|(other, _)| if first { *other < index } else { *other != index });
        for (_, other) in others {
            command.args(["--bootstrap", &other.mesh]);
        }
        self.plain(&mut command);
        command
    }

    /// What the user has configured stays out of it.
    fn plain(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RAFKA_")) {
            command.env_remove(name);
        }
        let home = self.nodes[0].folder.with_file_name("home");
        for name in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            command.env(name, &home);
        }
    }

    fn kafka_broker(&self, index: usize, first: bool, jars: &Path) -> Result<Command, String> {
        let (node, id) = (&self.nodes[index], index + 1);
        let voters = self.nodes.iter().enumerate().map(|(i, node)| format!("{}@{}", i + 1, node.mesh));
        let text = format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://{},CONTROLLER://{}\n\
             advertised.listeners=PLAINTEXT://{}\ncontroller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\nlog.dirs={}\nnum.partitions=4\ndefault.replication.factor=1\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             group.consumer.min.session.timeout.ms={SESSION_MS}\ngroup.consumer.session.timeout.ms={SESSION_MS}\n\
             group.consumer.min.heartbeat.interval.ms=500\ngroup.consumer.heartbeat.interval.ms=500\nbroker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500\n",
            voters.collect::<Vec<_>>().join(","),
            node.kafka,
            node.mesh,
            node.kafka,
            node.folder.join("data").display(),
        );
        let file = node.folder.join("properties");
        fs::write(&file, text).map_err(|error| error.to_string())?;
        let java = |class: &str| {
            let mut command = Command::new("java");
            command.args(["-Xmx512m", "-cp"]).arg(jars.join("*")).arg(class);
            command
        };
        if first {
            let mut format = java("kafka.tools.StorageTool");
            format.args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "--ignore-formatted", "-c"]).arg(&file);
            let output = format.output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(format!("cannot format: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        let mut broker = java("kafka.Kafka");
        broker.arg(file);
        Ok(broker)
    }

    fn await_ready(&self, index: usize) -> Result<(), String> {
        let until = Instant::now() + READY_WITHIN;
        while Instant::now() < until {
            let node = &self.nodes[index];
            let ready = match self.kind {
                Kind::Rafka { .. } => {
                    let said = fs::read_to_string(node.folder.join("ready")).unwrap_or_default();
                    serde_json::from_str::<Value>(&said).is_ok()
                }
                Kind::Kafka { .. } => TcpStream::connect(&node.kafka).is_ok(),
            };
            if ready {
                return Ok(());
            }
            if node.has_ended() {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let log = fs::read_to_string(self.log(index)).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(LAST_WORDS).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        Err(format!("node {} is not in service; its last words:\n{tail}", index + 1))
    }

    fn log(&self, index: usize) -> PathBuf {
        self.nodes[index].folder.join("log")
    }
}

/// Nodes at the loopback.
fn here(nodes: usize, known: Known, folder: &Path) -> Result<Vec<Node>, String> {
    let ports = free_ports(3 * nodes)?;
    let at = |port: u16| format!("127.0.0.1:{port}");
    let nodes = ports.chunks(3).enumerate().map(|(index, ports)| Node {
        folder: folder.join((index + 1).to_string()),
        kafka: at(ports[0]),
        mesh: at(ports[1]),
        gateway: (known != Known::Directly).then(|| at(ports[2])),
        lanes: None,
        process: Mutex::default(),
    });
    Ok(nodes.collect())
}

/// Nodes in namespaces of their own.
fn apart(nodes: usize, folder: &Path) -> Vec<Node> {
    let at = |index, port: u16| format!("{}:{port}", Network::address(index));
    let nodes_at = (0..nodes).map(|index| Node {
        folder: folder.join((index + 1).to_string()),
        kafka: at(index, 9092),
        mesh: at(index, 7300),
        gateway: (index + 1 == nodes).then(|| format!("{}:9092", network::GATEWAY)),
        lanes: Some(at(index, 7400)),
        process: Mutex::default(),
    });
    nodes_at.collect()
}

/// Ports that were free a moment ago: a node that is restarted must have the same.
fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>();
    let held = held.map_err(|error| error.to_string())?;
    held.iter().map(|port| port.local_addr().map(|at| at.port())).collect::<Result<_, _>>().map_err(|e| e.to_string())
}
