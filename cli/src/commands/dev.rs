//! `rafka dev …`: a cluster of real processes on this machine, under a supervisor.
//!
//! The supervisor is a `rafka dev start` that stays in the foreground (or in the background, with `--detach`). It holds a
//! lock in the cluster's directory for as long as it lives and listens on a socket beside it; the other verbs talk to
//! that. Its children end when it does, however it ends: their standard input is a pipe from it.

mod child;
mod control;
mod directory;
mod fleet;
mod launch;
mod logs;
mod ports;
mod purge;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::control::Request;
use self::directory::DevDir;
use crate::errors::Result;
use crate::output::Out;

/// Run a cluster on this machine: real processes, temporary data.
///
/// Without a verb it starts one in the foreground; Ctrl-C stops it.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    start: StartArgs,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the cluster, in the foreground unless told otherwise.
    Start(StartArgs),
    /// List the nodes.
    Status(NameArgs),
    /// Show what the nodes have logged.
    Logs(logs::LogsArgs),
    /// Kill a node (SIGKILL).
    Kill(NodeArgs),
    /// Start a node again; one that runs is stopped first.
    Restart(NodeArgs),
    /// Stop the cluster.
    Stop(NameArgs),
    /// Delete the data and logs of a cluster that does not run.
    Purge(purge::PurgeArgs),
}

/// Which of this user's dev clusters.
#[derive(Args, Clone, Debug)]
struct NameArgs {
    /// Name of the cluster, and of its context.
    #[arg(long, value_name = "NAME", default_value = "dev", value_parser = parse_name)]
    name: String,
}

#[derive(Args, Debug)]
struct NodeArgs {
    /// Number of the node, from 1.
    node: u32,
    #[command(flatten)]
    cluster: NameArgs,
}

/// Start the cluster, in the foreground unless told otherwise.
#[derive(Args, Clone, Debug)]
struct StartArgs {
    /// How many nodes.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,
    #[command(flatten)]
    cluster: NameArgs,
    /// Keep the data when the cluster stops, and use it at the next start.
    #[arg(long, conflicts_with = "memory")]
    keep: bool,
    /// Keep records of new topics in memory only.
    #[arg(long)]
    memory: bool,
    /// Return as soon as the cluster is ready; `rafka dev stop` ends it.
    #[arg(short, long)]
    detach: bool,
    /// First mesh port; a busy one is skipped, 0 takes any free ones (for Kafka and ops HTTP, too).
    #[arg(long, value_name = "PORT", default_value_t = 7300)]
    base_port: u16,
    /// First port of the Kafka door.
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    kafka_base_port: u16,
    /// First port of ops HTTP.
    #[arg(long, value_name = "PORT", default_value_t = 9644)]
    ops_base_port: u16,
    /// Written when the cluster is ready: one JSON object with all addresses.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Set a key of the nodes' configuration. Repeatable.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// This process is the supervisor that `--detach` left behind.
    #[arg(long, hide = true)]
    detached: bool,
}

fn parse_name(text: &str) -> std::result::Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.is_empty() || text.len() > 40 || text.starts_with('.') || !text.bytes().all(legal) {
        return Err("a name is 1 to 40 of a-z A-Z 0-9 . _ -, and does not begin with a dot".to_owned());
    }
    Ok(text.to_owned())
}

impl StartArgs {
    fn base_ports(&self) -> ports::Ports {
        ports::Ports { kafka: self.kafka_base_port, mesh: self.base_port, ops: self.ops_base_port }
    }
}

impl DevArgs {
    pub(crate) async fn run(self, out: Out) -> Result {
        out.structured()?;
        match self.verb.unwrap_or(Verb::Start(self.start)) {
            Verb::Start(args) => launch::run(args, out).await,
            Verb::Logs(args) => args.run().await,
            Verb::Purge(args) => args.run(),
            Verb::Status(args) => show::status(&ask(&args, &Request::Status).await?, out),
            Verb::Kill(args) => show::status(&ask(&args.cluster, &Request::Kill { node: args.node }).await?, out),
            Verb::Restart(args) => show::status(&ask(&args.cluster, &Request::Restart { node: args.node }).await?, out),
            Verb::Stop(args) => {
                let fleet = ask(&args, &Request::Stop).await?;
                let words = if fleet.keep { "; its data is kept" } else { "" };
                out.one(&serde_json::json!({ "name": fleet.name, "status": "stopped" }), || {
                    format!("Cluster {:?} stopped{words}\n", fleet.name)
                })
            }
        }
    }
}

async fn ask(args: &NameArgs, request: &Request) -> Result<show::Fleet> {
    control::ask(&DevDir::of_user(&args.name)?, request).await
}

/// The command that starts each node of this user's running dev clusters again, by peer id. Empty on any failure.
pub(crate) async fn numbers() -> BTreeMap<String, String> {
    let mut numbers = BTreeMap::new();
    for directory in DevDir::all() {
        let Ok(fleet) = control::ask(&directory, &Request::Status).await else { continue };
        let name = if fleet.name == "dev" { String::new() } else { format!(" --name {}", fleet.name) };
        for node in fleet.nodes {
            if let Some(peer) = node.peer_id {
                numbers.insert(peer, format!("rafka dev restart {}{name}", node.node));
            }
        }
    }
    numbers
}
