//! `rafka doctor`: a look at everything between here and the cluster, step by step.

use std::collections::BTreeSet;

use clap::Args;
use rafka_client::Client;
use rafka_node::args::NodeArgs;
use serde::Serialize;

use crate::commands::cluster;
use crate::connect::ClusterArgs;
use crate::context::Store;
use crate::errors::{CliError, Exit, Result};
use crate::output::{Out, Row};
use crate::times::show_span;

/// Look for what is wrong between here and the cluster.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What was found in one place.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["CHECK", "STATUS", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "FAILED",
        };
        vec![self.check.to_owned(), status.to_owned(), self.detail.clone()]
    }
}

impl Finding {
    fn new(check: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { check, status, detail: detail.into() }
    }

    fn failed(check: &'static str, error: &CliError) -> Self {
        Self::new(check, Status::Failed, error.to_lines().trim_end().trim_start_matches("error: ").replace('\n', "; "))
    }
}

impl DoctorArgs {
    pub(crate) async fn run(self, out: Out) -> Result {
        out.structured()?;
        let mut findings = vec![
            Finding::new("program", Status::Ok, format!("rafka {}", rafka_node::args::version())),
            contexts(),
            node_config(),
        ];
        let mut end = Ok(());
        match self.cluster.target() {
            Err(error) => findings.push(Finding::failed("target", &error)),
            Ok(target) => {
                let detail = format!("{} (from {})", target.bootstrap.join(", "), target.origin);
                findings.push(Finding::new("target", Status::Ok, detail));
                match self.cluster.connect().await {
                    Err(error) => {
                        findings.push(Finding::failed("connection", &error));
                        end = Err(CliError::silent(Exit::Unreachable));
                    }
                    Ok(client) => findings.extend(look(&client).await),
                }
            }
        }
        out.rows(&findings)?;
        end?;
        let failed =
            |check: &str| findings.iter().any(|f| f.status == Status::Failed && (check.is_empty() || f.check == check));
        match (failed("health"), failed("")) {
            (true, _) => Err(CliError::silent(Exit::Unhealthy)),
            (_, true) => Err(CliError::silent(Exit::Failed)),
            _ => Ok(()),
        }
    }
}

fn contexts() -> Finding {
    match Store::of_user().and_then(|store| Ok((store.path().display().to_string(), store.load()?))) {
        Ok((path, contexts)) => {
            let current = contexts.current.as_deref().unwrap_or("none");
            let detail = format!("{} in {path}, current: {current}", contexts.contexts.len());
            let dangling = contexts.current.is_some() && contexts.current().is_none();
            Finding::new("contexts", if dangling { Status::Warning } else { Status::Ok }, detail)
        }
        Err(error) => Finding::failed("contexts", &error),
    }
}

fn node_config() -> Finding {
    const CHECK: &str = "node config";
    match rafka_node::config::load(&NodeArgs::default().sources()) {
        Ok(loaded) => {
            let file = loaded.file.map_or_else(|| "no file, defaults".to_owned(), |file| file.display().to_string());
            Finding::new(CHECK, Status::Ok, file)
        }
        Err(error) => Finding::failed(CHECK, &error.into()),
    }
}

async fn look(client: &Client) -> Vec<Finding> {
    let mut findings = vec![Finding::new("connection", Status::Ok, format!("cluster {}", client.cluster_id()))];
    match cluster::look(client).await {
        Ok(health) => {
            let status = if health.healthy { Status::Ok } else { Status::Failed };
            let words = health.words().trim().split_once("  ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
            let hints = health.hints.iter().map(|hint| format!("; {hint}")).collect::<String>();
            findings.push(Finding::new("health", status, words + &hints));
        }
        Err(error) => findings.push(Finding::failed("health", &error)),
    }
    match client.admin().cluster().await {
        Ok(cluster) => {
            let versions: BTreeSet<&str> = cluster.nodes.iter().map(|node| node.version.as_str()).collect();
            let status = if versions.len() > 1 { Status::Warning } else { Status::Ok };
            let detail = versions.into_iter().collect::<Vec<_>>().join(", ");
            findings.push(Finding::new("versions", status, detail));
            findings.push(pings(client, &cluster.nodes).await);
        }
        Err(error) => findings.push(Finding::failed("versions", &error.into())),
    }
    findings
}

/// Can this machine reach every node, as producers and consumers must?
async fn pings(client: &Client, nodes: &[rafka_client::Node]) -> Finding {
    let mesh = client.mesh();
    let one = |node: &rafka_client::Node| {
        let (mesh, id, peer) = (mesh.clone(), node.id, node.peer_id.parse());
        async move {
            match peer {
                Ok(peer) => mesh.ping(peer).await.map_err(|error| format!("node {id}: {error}")),
                Err(_) => Err(format!("node {id}: its peer id is none")),
            }
        }
    };
    let results = futures::future::join_all(nodes.iter().filter(|node| !node.fenced).map(one)).await;
    let slowest = results.iter().filter_map(|result| result.as_ref().ok()).max().copied().unwrap_or_default();
    let (number, lost): (usize, Vec<String>) =
        (results.len(), results.into_iter().filter_map(std::result::Result::err).collect());
    match lost.is_empty() {
        true => {
            Finding::new("reach", Status::Ok, format!("{number} of {number} nodes, slowest {}", show_span(slowest)))
        }
        false => Finding::new("reach", Status::Failed, lost.join("; ")),
    }
}
