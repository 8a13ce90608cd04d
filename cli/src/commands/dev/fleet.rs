//! The supervisor: all nodes of a cluster.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::child::Node;
use super::control::Request;
use super::directory::DevDir;
use super::ports::Ports;
use super::show::Fleet;
use crate::errors::{CliError, Exit, Result};

/// What a cluster was started with.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) keep: bool,
    pub(super) memory: bool,
    /// Keys of the nodes' configuration.
    pub(super) set: Vec<String>,
}

/// All nodes.
pub(super) struct Supervisor {
    name: String,
    plan: Plan,
    nodes: Vec<Node>,
    began: Instant,
    ready_ms: OnceLock<u64>,
    /// Somebody wants the cluster to stop.
    stop: CancellationToken,
    /// It has.
    stopped: CancellationToken,
}

impl Supervisor {
    pub(super) fn new(directory: &DevDir, plan: Plan, ports: &[Ports], began: Instant) -> Arc<Self> {
        let node = |(number, ports): (u32, &Ports)| Node::new(number, directory.node(number), *ports);
        Arc::new(Self {
            name: directory.name().to_owned(),
            plan,
            nodes: (1..).zip(ports).map(node).collect(),
            began,
            ready_ms: OnceLock::new(),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
        })
    }

    pub(super) fn show(&self) -> Fleet {
        Fleet {
            name: self.name.clone(),
            pid: std::process::id(),
            keep: self.plan.keep,
            memory: self.plan.memory,
            ready_ms: self.ready_ms.get().copied(),
            nodes: self.nodes.iter().map(Node::show).collect(),
        }
    }

    /// Starts the first node, which founds the cluster, and then the others, which join it; one after the other, so
    /// that their numbers in the cluster have the same order. Returns when all are ready.
    pub(super) async fn start(&self) -> Result {
        for node in &self.nodes {
            node.start(&self.set(), &self.peers_of(node)).await?;
        }
        let ready_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let _ = self.ready_ms.set(ready_ms);
        Ok(())
    }

    /// Where the nodes other than `node` are.
    fn peers_of(&self, node: &Node) -> Vec<String> {
        self.nodes.iter().filter(|other| !std::ptr::eq(*other, node)).filter_map(Node::address).collect()
    }

    fn set(&self) -> Vec<String> {
        let memory = self.plan.memory.then(|| "topic.storage_engine=memory".to_owned());
        memory.into_iter().chain(self.plan.set.clone()).collect()
    }

    fn node(&self, number: u32) -> Result<&Node> {
        let index = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
        self.nodes.get(index).ok_or_else(|| {
            CliError::new(Exit::NotFound, format!("there is no node {number}"))
                .because(format!("the cluster has nodes 1 to {}", self.nodes.len()))
        })
    }

    pub(super) async fn answer(&self, request: Request) -> Result<Fleet> {
        match request {
            Request::Status => {}
            Request::Kill { node } => self.node(node)?.kill().await?,
            Request::Restart { node } => {
                let node = self.node(node)?;
                node.stop().await;
                node.start(&self.set(), &self.peers_of(node)).await?;
            }
            Request::Stop => {
                self.stop.cancel();
                self.stopped.cancelled().await;
            }
        }
        Ok(self.show())
    }

    /// Waits until somebody asks for the end. Cancel safe.
    pub(super) async fn stop_asked(&self) {
        self.stop.cancelled().await;
    }

    /// Stops all nodes, the first one last: it may be needed for the others' farewells.
    pub(super) async fn stop_all(&self) {
        if let Some((first, others)) = self.nodes.split_first() {
            join_all(others.iter().map(Node::stop)).await;
            first.stop().await;
        }
    }

    /// The end is complete: who asked for it is told.
    pub(super) fn set_stopped(&self) {
        self.stopped.cancel();
    }
}
