//! `rafka-simulations`: swarms and clusters in one process, their figures, and whether the bars were met.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Simulations of Rafka on one machine.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many real nodes' swarms in one process: joining, routing, gossip, churn.
    #[cfg(feature = "mesh")]
    Swarm(commands::mesh::SwarmArgs),
    /// Whole brokers in one process: publish, subscribe, kill, return, compare.
    #[cfg(feature = "mesh")]
    Cluster(commands::mesh::ClusterArgs),
    /// Many seeds of the replication simulator on all cores, until an invariant breaks or the time is over.
    Seeds(commands::hunt::SeedsArgs),
    /// One seed, told in lines, twice: it must do the same again.
    Replay(commands::hunt::OneArgs),
    /// The shortest schedule of a failing seed that still fails.
    Shrink(commands::hunt::OneArgs),
    /// Each rule of the protocol switched off in turn: every time an invariant must break.
    Mutants(commands::hunt::MutantsArgs),
    /// Everything that can happen to three replicas of one partition, within bounds.
    Explore(commands::explore::ExploreArgs),
}

impl Command {
    /// Nothing but machines, over disks and a network that do not exist.
    fn is_virtual(&self) -> bool {
        match self {
            #[cfg(feature = "mesh")]
            Self::Swarm(_) | Self::Cluster(_) => false,
            Self::Seeds(_) | Self::Replay(_) | Self::Shrink(_) | Self::Mutants(_) | Self::Explore(_) => true,
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = tracing_subscriber::EnvFilter::try_from_env("RAFKA_LOG");
    // What a simulated disk does to a log is not worth a line each time.
    let default = if command.is_virtual() { "off" } else { "error" };
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome: Result<Vec<String>, String> = match command {
        #[cfg(feature = "mesh")]
        Command::Swarm(args) => commands::mesh::swarm(args),
        #[cfg(feature = "mesh")]
        Command::Cluster(args) => commands::mesh::run_cluster(&args),
        Command::Seeds(args) => commands::hunt::seeds(&args),
        Command::Replay(args) => commands::hunt::replay(&args),
        Command::Shrink(args) => commands::hunt::shrunk(&args),
        Command::Mutants(args) => commands::hunt::mutants(&args),
        Command::Explore(args) => commands::explore::run(&args),
    };
    match outcome {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            missed.iter().for_each(|words| eprintln!("missed: {words}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
