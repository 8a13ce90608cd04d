//! Brokers with directories of their own, started, killed and started again.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use rafka_node::config::{self, Directories, HostFiles, Sources};
use rafka_node::server::Server;
use tempfile::TempDir;

use super::DEADLINE;

/// Settings that make deaths known sooner than in production.
const QUICK: [&str; 2] = ["cluster.heartbeat_ms=200", "cluster.session_ms=2000"];

/// The brokers of a cluster; the first one founded it.
pub(super) struct Nodes {
    root: TempDir,
    ports: Vec<u16>,
    ids: Vec<u64>,
    /// `None` while a node is down.
    servers: Vec<Option<Server>>,
}

impl Nodes {
    /// Starts `count` brokers at the same moment, all but the first with its address alone. Also how long it took until
    /// each held all others, authenticated, in its routing table.
    pub(super) async fn start(count: usize) -> Result<(Self, Duration), String> {
        let root = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        // All are held until all are known, so that no two are the same.
        let held: Result<Vec<_>, _> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect();
        let ports = held.and_then(|held| held.iter().map(|l| Ok(l.local_addr()?.port())).collect());
        let ports: Vec<u16> = ports.map_err(|error: std::io::Error| format!("no free ports: {error}"))?;
        let mut nodes = Self { root, ports, ids: Vec::new(), servers: Vec::new() };
        let began = Instant::now();
        let servers = try_join_all((0..count).map(|number| nodes.launch(number)));
        let servers =
            tokio::time::timeout(DEADLINE, servers).await.map_err(|_| "the brokers did not start in time")??;
        let known = join_all(servers.iter().map(|server| holds_all(server, count - 1)));
        tokio::time::timeout(DEADLINE, known)
            .await
            .map_err(|_| "the brokers did not get to know each other in time")?;
        let joined = began.elapsed();
        for server in servers {
            nodes.ids.push(ready(&server).await?);
            nodes.servers.push(Some(server));
        }
        Ok((nodes, joined))
    }

    /// Addresses of all nodes.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// The id of a node in the cluster.
    pub(super) fn id(&self, number: usize) -> u64 {
        self.ids[number]
    }

    /// Kills a node and starts it again; how long it was out of service.
    pub(super) async fn kill_and_restart(&mut self, number: usize) -> Result<Duration, String> {
        let began = Instant::now();
        if let Some(server) = self.servers[number].take() {
            server.kill().await;
        }
        let server = tokio::time::timeout(DEADLINE, self.launch(number)).await;
        let server = server.map_err(|_| format!("broker {number} did not start again in time"))??;
        let id = ready(&server).await?;
        self.servers[number] = Some(server);
        if id != self.ids[number] {
            return Err(format!("broker {} came back as node {id}", self.ids[number]));
        }
        Ok(began.elapsed())
    }

    /// Stops all, the founder last.
    pub(super) async fn shutdown(mut self) {
        while let Some(server) = self.servers.pop() {
            if let Some(server) = server {
                server.shutdown().await;
            }
        }
    }

    async fn launch(&self, number: usize) -> Result<Server, String> {
        let data: PathBuf = self.root.path().join(number.to_string());
        let mut set: Vec<String> = QUICK.map(str::to_owned).to_vec();
        set.push(format!("node.data_dir={}", data.display()));
        set.push(format!("mesh.listen=127.0.0.1:{}", self.ports[number]));
        set.push("kafka.listen=none".to_owned());
        set.push("ops.listen=none".to_owned());
        if number > 0 {
            set.push(format!("mesh.bootstrap=127.0.0.1:{}", self.ports[0]));
        }
        let directories = Directories { data, search: Vec::new() };
        let sources =
            Sources { flags: Vec::new(), set, file: None, environment: Vec::new(), directories, files: &HostFiles };
        let config = config::load(&sources).map_err(|error| error.to_string())?.config;
        let started = Server::start(config, None, Instant::now()).await;
        started.map_err(|error| format!("broker {number} did not start: {error}"))
    }
}

/// Waits until a node is in service; its id.
async fn ready(server: &Server) -> Result<u64, String> {
    match tokio::time::timeout(DEADLINE, server.ready()).await {
        Ok(Ok(ready)) => Ok(ready.node_id),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("a broker was not in service in time".to_owned()),
    }
}

/// Waits until a node is connected with so many others that are members and in its routing table. A swarm does not tell
/// when its table is complete, so it is asked.
async fn holds_all(server: &Server, others: usize) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        tick.tick().await;
        let Some(swarm) = server.cluster().mesh.snapshot().await else { return };
        if swarm.peers.iter().filter(|peer| peer.member && peer.in_routing_table).count() >= others {
            return;
        }
    }
}
