//! `rafka node …`.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use rafka_node::args::NodeArgs;
use rafka_node::config;
use rafka_node::mesh::identity::Identity;
use serde::Serialize;
use serde_json::Value;

use crate::errors::{CliError, Exit, Result};
use crate::output::{Out, fields, or_dash};

/// Ops HTTP on this machine answers at once or not at all.
const OPS_WAIT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const OPS_BYTES_MAX: u64 = 1 << 20;

/// Run a node, or look at one on this machine.
#[derive(Args, Debug)]
pub(crate) struct NodeCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a node in the foreground; the same as `rafka-node`.
    Start(Box<StartArgs>),
    /// Show how a node is, by its ops door.
    Status(StatusArgs),
    /// Show the identity that a data directory holds.
    Id(IdArgs),
}

/// Run a node in the foreground; the same as `rafka-node`.
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// End when standard input ends: a supervisor's child does not outlive it.
    #[arg(long, hide = true)]
    stop_on_stdin_eof: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct StatusArgs {
    /// Ops HTTP of the node.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644")]
    ops: String,
}

#[derive(Args, Debug)]
struct IdArgs {
    /// The data directory; without it the one that a node started here would use.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Who a node is.
#[derive(Debug, Serialize)]
struct Id {
    peer_id: String,
    node_id: Option<u64>,
    cluster_id: Option<String>,
    directory_id: Option<String>,
    data_dir: PathBuf,
}

impl NodeCommand {
    /// The node to run, if that is what was asked for.
    pub(crate) fn into_start(self) -> std::result::Result<Box<StartArgs>, Self> {
        match self.verb {
            Verb::Start(start) => Ok(start),
            verb => Err(Self { verb }),
        }
    }

    pub(crate) async fn run(self, out: Out) -> Result {
        out.structured()?;
        match self.verb {
            Verb::Start(_) => Err(CliError::usage("a node runs in the foreground")),
            Verb::Status(args) => tokio::task::spawn_blocking(move || args.run(out))
                .await
                .map_err(|error| CliError::failed("the look at the node was cut short").because(error))?,
            Verb::Id(args) => args.run(out),
        }
    }
}

impl StartArgs {
    /// Runs the node until it ends.
    pub(crate) fn run(&self) -> ExitCode {
        if !self.stop_on_stdin_eof {
            return rafka_node::main_with(&self.node);
        }
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            // An error is an end, too.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drop(ended);
        });
        rafka_node::main_until(&self.node, async move {
            let _ = end.await;
        })
    }
}

impl StatusArgs {
    fn run(self, out: Out) -> Result {
        let (code, status) = get(&self.ops, "/status")?;
        if code != 200 {
            return Err(CliError::failed(format!("{} answers /status with {code}", self.ops)).because(status));
        }
        let (_, ready) = get(&self.ops, "/readyz")?;
        let Value::Object(mut shown) = status else {
            return Err(CliError::failed(format!("{} does not answer like a node of Rafka", self.ops)));
        };
        let is_ready = ready["ok"] == Value::Bool(true);
        shown.insert("ready".to_owned(), is_ready.into());
        if !is_ready {
            shown.insert("reasons".to_owned(), ready["reasons"].clone());
        }
        let words = || fields(shown.iter().map(|(name, value)| (name.as_str(), words(value))));
        out.one(&shown, words)?;
        if is_ready { Ok(()) } else { Err(CliError::silent(Exit::Unhealthy)) }
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// `GET path` of an ops door: the status code and the JSON body.
fn get(ops: &str, path: &str) -> Result<(u16, Value)> {
    let failed = |error: std::io::Error| {
        CliError::new(Exit::Unreachable, format!("no node answers at {ops}"))
            .because(error)
            .hint("name the node's ops door with --ops; `rafka dev status` and `rafka cluster nodes` know it")
    };
    let ops = ops.trim_start_matches("http://").trim_end_matches('/');
    let address =
        ops.to_socket_addrs().map_err(failed)?.next().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let mut stream = TcpStream::connect_timeout(&address, OPS_WAIT).map_err(failed)?;
    stream.set_read_timeout(Some(OPS_WAIT)).map_err(failed)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {ops}\r\n\r\n").map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(OPS_BYTES_MAX).read_to_end(&mut answer).map_err(failed)?;
    parse_answer(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| CliError::failed(format!("{ops} does not answer like a node of Rafka")))
}

/// Of an HTTP/1.0 answer that ends with its connection.
fn parse_answer(answer: &str) -> Option<(u16, Value)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((code, serde_json::from_str(body.trim()).ok()?))
}

impl IdArgs {
    fn run(self, out: Out) -> Result {
        let root = match self.data_dir {
            Some(root) => root,
            None => config::load(&NodeArgs::default().sources())?.config.node.data_dir,
        };
        let key = root.join("identity.key");
        if !key.exists() {
            let what = format!("{} holds no identity", root.display());
            return Err(
                CliError::new(Exit::NotFound, what).hint("a node makes one when it starts; name its --data-dir")
            );
        }
        let identity = Identity::load(&key).map_err(|error| {
            CliError::failed(format!("the identity in {} cannot be read", root.display())).because(error)
        })?;
        // A running node holds the directory's lock; its files are replaced as a whole, so they can be read beside it.
        let node: Value = std::fs::read_to_string(root.join("node.json"))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let text = |name: &str| node[name].as_str().map(str::to_owned);
        let id = Id {
            peer_id: identity.peer_id.to_string(),
            node_id: node["node_id"].as_u64(),
            cluster_id: text("cluster_id"),
            directory_id: text("directory_id"),
            data_dir: root,
        };
        out.one(&id, || {
            fields([
                ("Peer", id.peer_id.clone()),
                ("Node", or_dash(id.node_id)),
                ("Cluster", or_dash(id.cluster_id.as_ref())),
                ("Directory", or_dash(id.directory_id.as_ref())),
                ("Data", id.data_dir.display().to_string()),
            ])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_code_and_json() {
        let (code, body) =
            parse_answer("HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\n{\"ok\":false}").expect("parses");
        assert_eq!((code, &body["ok"]), (503, &Value::Bool(false)));
        for wrong in ["", "HTTP/1.0 200 OK\r\n\r\nhello", "SSH-2.0\r\n\r\n{}"] {
            assert!(parse_answer(wrong).is_none(), "{wrong}");
        }
    }
}
