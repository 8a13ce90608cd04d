//! Commands that run real nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rafka_simulations::progress::Progress;
use rafka_simulations::report::{SwarmReport, growth_missed, table};
use rafka_simulations::{cluster, plot, swarm};
use serde::Serialize;

#[derive(Args)]
pub(crate) struct SwarmArgs {
    /// Nodes; several numbers, separated by commas, make a series, each in a process of its own.
    #[arg(long, default_value = "25", value_delimiter = ',')]
    nodes: Vec<usize>,
    /// Topics.
    #[arg(long, default_value_t = 20)]
    topics: usize,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 6)]
    partitions: u32,
    /// Seconds during which a tenth of the nodes crash and come back, again and again.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    churn: u64,
    /// Lookups of random topics from random nodes.
    #[arg(long, default_value_t = 1_000)]
    lookups: usize,
    /// Fixes identities and choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Loopback TCP instead of memory.
    #[arg(long)]
    tcp: bool,
    /// All nodes join at the same moment; with up to five of them, within two seconds.
    #[arg(long)]
    join_at_once: bool,
    /// Whole brokers instead: the same as the command `cluster`.
    #[arg(long)]
    full: bool,
    /// Where figures (JSON) and the plot (SVG) go.
    #[arg(long, default_value = "target/simulations", value_name = "DIR")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct ClusterArgs {
    /// Brokers.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Records to publish, at least: publishing goes on while a node is down.
    #[arg(long, default_value_t = 30_000)]
    records: u64,
    /// Kills, each followed by a return; the nodes take turns, the founder first.
    #[arg(long, default_value_t = 3)]
    kills: usize,
    /// Fixes the order of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where figures (JSON) go.
    #[arg(long, default_value = "target/simulations", value_name = "DIR")]
    out: PathBuf,
}

/// Runs what `swarm` asks for; the bars that were missed.
pub(crate) fn swarm(args: SwarmArgs) -> Result<Vec<String>, String> {
    if args.full {
        let nodes = args.nodes.first().copied().unwrap_or(3);
        let defaults = cluster::Config::default();
        let (records, kills) = (defaults.records, defaults.kills);
        return run_cluster(&ClusterArgs { nodes, records, kills, seed: args.seed, out: args.out });
    }
    if args.nodes.len() > 1 { run_series(&args) } else { run_swarm(&args) }
}

/// Runs one swarm; the bars that it missed.
fn run_swarm(args: &SwarmArgs) -> Result<Vec<String>, String> {
    let config = swarm::Config {
        nodes: args.nodes.first().copied().unwrap_or(1).max(1),
        topics: args.topics.max(1),
        partitions: args.partitions.max(1),
        lookups: args.lookups,
        churn: Duration::from_secs(args.churn),
        seed: args.seed,
        tcp: args.tcp,
        at_once: args.join_at_once,
        ..swarm::Config::default()
    };
    let report = runtime()?.block_on(swarm::run(&config, Progress::Stderr))?;
    save(&args.out, &report_name(args, config.nodes), &report)?;
    let reports = [report];
    show(&args.out, &format!("swarm-{}", config.nodes), &reports)?;
    let [report] = reports;
    Ok(report.missed)
}

/// Runs several swarms, one after the other, each in a process of its own so that its memory is its own.
fn run_series(args: &SwarmArgs) -> Result<Vec<String>, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let (mut reports, mut broken) = (Vec::new(), Vec::new());
    for nodes in &args.nodes {
        let mut child = std::process::Command::new(&program);
        child.arg("swarm").arg("--out").arg(&args.out).stdout(std::process::Stdio::null());
        for (flag, value) in [
            ("--nodes", *nodes as u64),
            ("--topics", args.topics as u64),
            ("--partitions", args.partitions.into()),
            ("--churn", args.churn),
            ("--lookups", args.lookups as u64),
            ("--seed", args.seed),
        ] {
            child.arg(flag).arg(value.to_string());
        }
        child.args(args.tcp.then_some("--tcp")).args(args.join_at_once.then_some("--join-at-once"));
        let path = args.out.join(report_name(args, *nodes));
        // What an earlier run left must not be taken for this one's.
        let _ = std::fs::remove_file(&path);
        child.status().map_err(|error| format!("a swarm could not be started: {error}"))?;
        match std::fs::read(&path) {
            Ok(text) => {
                let report: SwarmReport = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
                reports.push(report);
            }
            // It has said why.
            Err(_) => broken.push(format!("{nodes} nodes: there is no report")),
        }
    }
    show(&args.out, "swarm", &reports)?;
    let named = |report: &SwarmReport| {
        let nodes = report.nodes;
        report.missed.iter().map(move |words| format!("{nodes} nodes: {words}")).collect::<Vec<_>>()
    };
    Ok(reports.iter().flat_map(named).chain(growth_missed(&reports)).chain(broken).collect())
}

/// Runs whole brokers; the bars that were missed.
pub(crate) fn run_cluster(args: &ClusterArgs) -> Result<Vec<String>, String> {
    let config = cluster::Config {
        nodes: args.nodes.max(1),
        records: args.records,
        kills: args.kills,
        seed: args.seed,
        ..cluster::Config::default()
    };
    let report = runtime()?.block_on(cluster::run(&config, Progress::Stderr))?;
    save(&args.out, &format!("cluster-{}.json", config.nodes), &report)?;
    println!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?);
    Ok(report.violations)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start threads: {error}"))
}

fn report_name(args: &SwarmArgs, nodes: usize) -> String {
    format!("swarm-{nodes}{}.json", if args.tcp { "-tcp" } else { "" })
}

fn save(out: &Path, name: &str, report: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    write(&out.join(name), &text)
}

/// Prints the table and saves the plot.
fn show(out: &Path, name: &str, reports: &[SwarmReport]) -> Result<(), String> {
    print!("{}", table(reports));
    let path = out.join(format!("{name}.svg"));
    write(&path, &plot::svg(reports))?;
    eprintln!("figures and plot are in {}", out.display());
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(path, text)).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
