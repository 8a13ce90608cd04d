//! One node of a dev cluster: a child process, watched.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::directory::NodeDir;
use super::ports::Ports;
use super::show;
use crate::errors::{CliError, Exit, Result};
use crate::output::note;

/// A node is in service by then, or something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The ready file is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A node that was asked to stop is killed after this time.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of log that are searched for last words.
const LAST_WORDS_BYTES: u64 = 16 * 1024;

/// A node, running or not.
pub(super) struct Node {
    number: u32,
    directory: NodeDir,
    /// The same after a restart.
    ports: Mutex<Ports>,
    state: watch::Sender<State>,
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
    /// Starting and stopping exclude each other.
    busy: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct State {
    phase: Phase,
    pid: Option<u32>,
    /// What the node last said of itself.
    ready: Option<Ready>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum Phase {
    #[default]
    Stopped,
    Starting,
    Ready,
    Stopping,
    Killed,
    /// By itself.
    Ended(String),
}

/// Content of a node's ready file.
#[derive(Clone, Debug, Deserialize)]
struct Ready {
    node_id: u64,
    peer_id: String,
    mesh: Vec<String>,
    kafka: Vec<String>,
    ops: Option<String>,
}

enum Order {
    Terminate,
    Kill,
}

impl Phase {
    fn runs(&self) -> bool {
        matches!(self, Self::Starting | Self::Ready | Self::Stopping)
    }

    fn words(&self) -> String {
        match self {
            Self::Stopped => "stopped".to_owned(),
            Self::Starting => "starting".to_owned(),
            Self::Ready => "ready".to_owned(),
            Self::Stopping => "stopping".to_owned(),
            Self::Killed => "killed".to_owned(),
            Self::Ended(how) => how.clone(),
        }
    }
}

impl Node {
    pub(super) fn new(number: u32, directory: NodeDir, ports: Ports) -> Self {
        let state = watch::Sender::new(State::default());
        let (ports, orders, busy) = (Mutex::new(ports), Mutex::new(None), tokio::sync::Mutex::new(()));
        Self { number, directory, ports, state, orders, busy }
    }

    pub(super) fn show(&self) -> show::Node {
        let State { phase, pid, ready } = self.state.borrow().clone();
        show::Node {
            node: self.number,
            node_id: ready.as_ref().map(|ready| ready.node_id),
            peer_id: ready.as_ref().map(|ready| ready.peer_id.clone()),
            mesh: ready.as_ref().map(|ready| ready.mesh.clone()).unwrap_or_default(),
            kafka: ready.as_ref().and_then(|ready| ready.kafka.first().cloned()),
            ops: ready.and_then(|ready| ready.ops),
            pid,
            status: phase.words(),
            data_dir: self.directory.data().display().to_string(),
            log: self.directory.log().display().to_string(),
        }
    }

    /// Where it is dialled, once it has been ready.
    pub(super) fn address(&self) -> Option<String> {
        self.state.borrow().ready.as_ref().and_then(|ready| ready.mesh.first().cloned())
    }

    /// Starts the node and waits until it is in service. `set`: keys of its configuration; `peers`: where others are.
    pub(super) async fn start(&self, set: &[String], peers: &[String]) -> Result {
        let _busy = self.busy.lock().await;
        if self.state.borrow().phase.runs() {
            return Ok(());
        }
        self.directory.create()?;
        let _ = fs::remove_file(self.directory.ready_file());
        let mut child = self.command(set, peers)?.spawn().map_err(|error| {
            CliError::failed(format!("cannot start the process of node {}", self.number)).because(error)
        })?;
        self.state.send_modify(|state| {
            state.phase = Phase::Starting;
            state.pid = child.id();
        });
        // Held as long as the node runs: its end is the child's signal that nobody watches over it any more.
        let pipe = child.stdin.take();
        let (orders, inbox) = mpsc::unbounded_channel();
        *self.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(orders);
        tokio::spawn(watch_over(self.number, child, pipe, inbox, self.state.clone()));
        self.await_ready().await
    }

    fn command(&self, set: &[String], peers: &[String]) -> Result<Command> {
        let program =
            std::env::current_exe().map_err(|error| CliError::failed("cannot find this program").because(error))?;
        let (log_path, config) = (self.directory.log(), self.directory.config());
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(|error| CliError::file("write", &log_path, &error))?;
        fs::write(&config, "# Of a dev cluster: everything is said by flags.\nnode: {}\n")
            .map_err(|error| CliError::file("write", &config, &error))?;
        let ports = self.ports();
        let mut command = Command::new(program);
        command.args(["node", "start", "--stop-on-stdin-eof", "--log-format", "compact"]);
        command.arg("--data-dir").arg(self.directory.data()).arg("--config").arg(config);
        command.arg("--ready-file").arg(self.directory.ready_file());
        command.args(["--listen", &format!("127.0.0.1:{}", ports.mesh)]);
        command.args(["--kafka-listen", &format!("127.0.0.1:{}", ports.kafka)]);
        command.args(["--ops-listen", &format!("127.0.0.1:{}", ports.ops)]);
        for peer in peers {
            command.args(["--bootstrap", peer]);
        }
        for key in set {
            command.args(["--set", key]);
        }
        // The user's own nodes may be configured by the environment; these are not.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name == "RAFKA_CONFIG" || (name.starts_with("RAFKA_") && name.contains("__")) {
                command.env_remove(name.as_ref());
            }
        }
        // A group of its own, so that Ctrl-C reaches the supervisor alone.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0);
        Ok(command)
    }

    fn ports(&self) -> Ports {
        *self.ports.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn await_ready(&self) -> Result {
        let mut changes = self.state.subscribe();
        let looked = async {
            loop {
                if let Some(ready) = self.read_ready() {
                    return Some(ready);
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    gone = changes.wait_for(|state| !state.phase.runs()) => { drop(gone); return None; }
                }
            }
        };
        match tokio::time::timeout(READY_WITHIN, looked).await {
            Ok(Some(ready)) => {
                let ports = Ports {
                    kafka: ready.kafka.first().map_or(0, |address| port(address)),
                    mesh: ready.mesh.first().map_or(0, |address| port(&show::host_port(address))),
                    ops: ready.ops.as_deref().map_or(0, port),
                };
                *self.ports.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = ports;
                self.state.send_modify(|state| {
                    state.ready = Some(ready);
                    if state.phase == Phase::Starting {
                        state.phase = Phase::Ready;
                    }
                });
                Ok(())
            }
            Ok(None) => Err(self.did_not_start(&self.state.borrow().phase.words())),
            Err(_) => Err(self.did_not_start("not in service in time").exit(Exit::Unreachable)),
        }
    }

    fn did_not_start(&self, how: &str) -> CliError {
        let error = CliError::failed(format!("node {} did not start", self.number));
        let cause = match self.last_words() {
            Some(words) => format!("{how}: {words}"),
            None => how.to_owned(),
        };
        error.because(cause).hint(format!("see its log: {}", self.directory.log().display()))
    }

    fn read_ready(&self) -> Option<Ready> {
        serde_json::from_str(&fs::read_to_string(self.directory.ready_file()).ok()?).ok()
    }

    /// The last line of the log that tells of an error, or just the last.
    fn last_words(&self) -> Option<String> {
        let mut log = fs::File::open(self.directory.log()).ok()?;
        let bytes = log.metadata().ok()?.len();
        log.seek(SeekFrom::Start(bytes.saturating_sub(LAST_WORDS_BYTES))).ok()?;
        let mut text = Vec::new();
        log.take(LAST_WORDS_BYTES).read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text);
        let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
        let error = lines().find(|line| line.starts_with("error: "));
        error.or_else(|| lines().next()).map(|line| line.trim_start_matches("error: ").to_owned())
    }

    /// Kills it. Returns once it is dead.
    pub(super) async fn kill(&self) -> Result {
        if !self.state.borrow().phase.runs() {
            let what = format!("node {} is not running", self.number);
            return Err(
                CliError::new(Exit::Conflict, what).because(format!("it is {}", self.state.borrow().phase.words()))
            );
        }
        self.order(Order::Kill);
        self.gone().await;
        Ok(())
    }

    /// Stops it in peace; kills it if that takes too long.
    pub(super) async fn stop(&self) {
        let _busy = self.busy.lock().await;
        if !self.state.borrow().phase.runs() {
            return;
        }
        self.order(Order::Terminate);
        if tokio::time::timeout(STOP_WITHIN, self.gone()).await.is_err() {
            note(&format!("node {} did not stop in {} s and is killed", self.number, STOP_WITHIN.as_secs()));
            self.order(Order::Kill);
            self.gone().await;
        }
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &*self.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            // A child that is gone needs no order.
            let _ = orders.send(order);
        }
    }

    async fn gone(&self) {
        // The sender is ours.
        let _ = self.state.subscribe().wait_for(|state| !state.phase.runs()).await;
    }
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

/// Waits for the child's end, carrying out orders meanwhile.
async fn watch_over(
    number: u32,
    mut child: Child,
    pipe: Option<tokio::process::ChildStdin>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    state: watch::Sender<State>,
) {
    let mut ordered = None;
    let ended = loop {
        tokio::select! {
            ended = child.wait() => break ended,
            Some(order) = orders.recv() => match order {
                Order::Terminate => {
                    ordered = Some(Phase::Stopped);
                    state.send_modify(|state| state.phase = Phase::Stopping);
                    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                        let _ = kill_process(pid, Signal::TERM);
                    }
                }
                Order::Kill => {
                    ordered = Some(Phase::Killed);
                    let _ = child.start_kill();
                }
            },
        }
    };
    drop(pipe);
    let how = match ended {
        Ok(status) => how(status),
        Err(error) => format!("lost: {error}"),
    };
    state.send_modify(|state| {
        if ordered.is_none() && state.phase == Phase::Ready {
            note(&format!("node {number} {how} by itself; `rafka dev logs {number}`, `rafka dev restart {number}`"));
        }
        state.phase = ordered.unwrap_or(Phase::Ended(how));
        state.pid = None;
    });
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited ({code})"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => "ended".to_owned(),
    }
}
