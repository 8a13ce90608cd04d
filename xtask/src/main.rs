//! `cargo xtask`: see [`xtask`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{compat, data, fuzz, generate, house};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project automation")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check layers, sources, limits and the licences of dependencies.
    Check,
    /// Write the files that come from code: default configuration, reference pages, fuzz seeds.
    Generate {
        /// Change nothing; fail if a file differs from what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Build and run fuzz targets, without cargo-fuzz, on the stable toolchain.
    Fuzz(fuzz::Options),
    /// Install real Kafka clients, and run them against real nodes.
    Compat(compat::Options),
    /// Make big inputs and compare what came back.
    #[command(subcommand)]
    Data(Data),
}

#[derive(Subcommand)]
enum Data {
    /// Write `KEY<tab>{json}` lines whose order within each key can be checked.
    Generate {
        /// Size of the file, MiB.
        #[arg(long, default_value_t = 64)]
        mb: u64,
        /// Distinct keys.
        #[arg(long, default_value_t = 1000)]
        keys: u32,
        /// The same seed makes the same file.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where to.
        out: PathBuf,
    },
    /// Compare the lines of two such files: nothing missing, nothing more, in order within each key.
    Compare {
        /// A line may come again (a producer that does not know the outcome repeats its batch).
        #[arg(long)]
        allow_duplicates: bool,
        /// What was published.
        sent: PathBuf,
        /// What was read back.
        received: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Check => house::check(&xtask::root()).map(|()| println!("house: in order")),
        Command::Generate { check } => generate::run(check),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Compat(options) => compat::run(&options),
        Command::Data(Data::Generate { mb, keys, seed, out }) => data::generate(&out, mb, keys, seed).map(|lines| {
            println!("{}", serde_json::json!({ "lines": lines, "keys": keys, "mb": mb }));
        }),
        Command::Data(Data::Compare { allow_duplicates, sent, received }) => {
            data::compare(&sent, &received).and_then(|found| {
                println!("{found}");
                found.verdict(allow_duplicates)
            })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
