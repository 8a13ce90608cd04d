//! `rafka mesh ping`

use std::time::Duration;

use clap::Args;
use rafka_client::{Client, Node, PeerId};
use serde::Serialize;

use crate::connect::ClusterArgs;
use crate::errors::{CliError, Exit, Result};
use crate::output::{Out, Row, short_peer};
use crate::times::show_span;

/// Measure the way to nodes.
#[derive(Args, Debug)]
pub(super) struct PingArgs {
    /// Nodes, each by its number or (the beginning or end of) its peer id; all of them if none is named.
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// How often.
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
}

/// The way to one node.
#[derive(Debug, Serialize)]
struct Line {
    node: u64,
    peer_id: String,
    rtt_ms_min: Option<f64>,
    rtt_ms_avg: Option<f64>,
    rtt_ms_max: Option<f64>,
    error: Option<String>,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["NODE", "PEER", "MIN", "AVG", "MAX", "STATUS"];

    fn cells(&self) -> Vec<String> {
        let time =
            |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| show_span(Duration::from_secs_f64(ms / 1e3)));
        let status = self.error.clone().unwrap_or_else(|| "ok".to_owned());
        let (min, avg, max) = (time(self.rtt_ms_min), time(self.rtt_ms_avg), time(self.rtt_ms_max));
        vec![self.node.to_string(), short_peer(&self.peer_id), min, avg, max, status]
    }
}

impl PingArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let client = cluster.connect().await?;
        let nodes = client.admin().cluster().await?.nodes;
        let nodes = chosen(nodes, &self.nodes)?;
        let pings = nodes.iter().map(|node| ping(&client, node, self.count));
        let rows = futures::future::join_all(pings).await;
        out.rows(&rows)?;
        if rows.iter().any(|line| line.error.is_some()) { Err(CliError::silent(Exit::Unreachable)) } else { Ok(()) }
    }
}

/// The nodes that `wanted` names.
fn chosen(nodes: Vec<Node>, wanted: &[String]) -> Result<Vec<Node>> {
    if wanted.is_empty() {
        return Ok(nodes);
    }
    let one = |wanted: &String| {
        let mut named = nodes.iter().filter(|node| is_named(node, wanted));
        match (named.next(), named.next()) {
            (Some(node), None) => Ok(node.clone()),
            (None, _) => Err(CliError::new(Exit::NotFound, format!("node {wanted:?} not found"))
                .hint("see them all with `rafka cluster nodes`")),
            (Some(_), Some(_)) => Err(CliError::usage(format!("{wanted:?} is the name of several nodes"))),
        }
    };
    wanted.iter().map(one).collect()
}

fn is_named(node: &Node, name: &str) -> bool {
    match name.parse::<u64>() {
        Ok(number) => node.id.0 == number,
        Err(_) => {
            let mut ends = name.split('…');
            match (ends.next(), ends.next()) {
                (Some(head), Some(tail)) => node.peer_id.starts_with(head) && node.peer_id.ends_with(tail),
                _ => node.peer_id.starts_with(name) || node.peer_id.ends_with(name),
            }
        }
    }
}

async fn ping(client: &Client, node: &Node, count: u32) -> Line {
    let mut line = Line {
        node: node.id.0,
        peer_id: node.peer_id.clone(),
        rtt_ms_min: None,
        rtt_ms_avg: None,
        rtt_ms_max: None,
        error: None,
    };
    let Ok(peer) = node.peer_id.parse::<PeerId>() else {
        line.error = Some("its peer id is none".to_owned());
        return line;
    };
    let mut times = Vec::new();
    for _ in 0..count {
        match client.mesh().ping(peer).await {
            Ok(time) => times.push(time.as_secs_f64() * 1e3),
            Err(error) => {
                line.error = Some(error.cause().map_or_else(|| error.to_string(), ToString::to_string));
                break;
            }
        }
    }
    line.rtt_ms_min = times.iter().copied().reduce(f64::min);
    line.rtt_ms_max = times.iter().copied().reduce(f64::max);
    #[allow(clippy::cast_precision_loss, reason = "at most a thousand pings")]
    let number = times.len() as f64;
    line.rtt_ms_avg = Some(times.iter().sum::<f64>() / number).filter(|_| !times.is_empty());
    line
}
