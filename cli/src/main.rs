//! `rafka`: the command line of the mesh.
//!
//! A light client of the mesh: it finds leaders in the DHT and publishes and fetches by the mesh's own protocols. Standard
//! output carries data and nothing else; progress, hints and errors go to standard error.

mod commands;
mod complete;
mod connect;
mod context;
mod errors;
mod interrupt;
mod output;
mod prompt;
mod times;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::commands::Command;
use crate::errors::{CliError, Exit, Result};
use crate::output::{Format, Out};

/// The command line of Rafka: a durable, partitioned log served by a peer-to-peer mesh.
#[derive(Debug, Parser)]
#[command(
    name = "rafka",
    version = rafka_node::args::version(),
    long_version = rafka_node::args::long_version(),
    arg_required_else_help = true,
    after_help = "Begin with `rafka dev` and `rafka cheat`.\n\n\
        Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 exists or conflict, 5 denied, 6 unreachable or timeout,\n\
        10 unhealthy, 78 bad config, 130 interrupted."
)]
struct Cli {
    /// How to write the result. JSON is one object a line.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", display_order = 900)]
    output: Option<Format>,
    /// Log what the client does to standard error; twice for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 901)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(Cli::command).bin("rafka").complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let out = Out::new(cli.output);
    match run(cli, out) {
        Ok(code) => code,
        Err(error) => {
            error.print(out.is_json());
            ExitCode::from(&error)
        }
    }
}

fn run(cli: Cli, out: Out) -> Result<ExitCode> {
    // A node has its own runtime and logging.
    let command = match cli.command {
        Command::Node(node) => match node.into_start() {
            Ok(start) => return Ok(start.run()),
            Err(node) => Command::Node(node),
        },
        command => command,
    };
    log(cli.verbose)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed("cannot start the runtime").because(error))?;
    let result = runtime.block_on(command.run(out));
    // What still runs in the background (a read of the terminal, a dial) must not hold up the end.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// Logs of the client go to standard error, if they are asked for.
fn log(verbose: u8) -> Result {
    let level = match verbose {
        0 => return Ok(()),
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let level = level.parse().map_err(CliError::usage)?;
    let init = rafka_node::logging::init(&level, rafka_node::config::LogFormat::Compact);
    init.map(drop).map_err(|error| CliError::failed("cannot set up logging").because(error))
}

/// Help, version, and command lines that are wrong.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => ExitCode::from(&CliError::stdout(&error)),
        };
    }
    if wants_json() {
        let text = error.render().to_string();
        let text = text.trim().trim_start_matches("error: ");
        let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        let usage = CliError::usage(what.replace('\n', " "));
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        let usage = if rest.is_empty() { usage } else { usage.hint(rest) };
        usage.print(true);
    } else {
        let _ = write!(std::io::stderr(), "{}", error.render().ansi_if_terminal());
    }
    ExitCode::from(Exit::Usage as u8)
}

/// Whether JSON was asked for on a line that cannot be parsed.
fn wants_json() -> bool {
    let arguments: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let pair = |pair: &[String]| ["-o", "--output"].contains(&&*pair[0]) && pair[1] == "json";
    arguments.iter().any(|a| a == "-ojson" || a == "-o=json" || a == "--output=json") || arguments.windows(2).any(pair)
}

trait AnsiIfTerminal {
    fn ansi_if_terminal(&self) -> String;
}

impl AnsiIfTerminal for clap::builder::StyledStr {
    fn ansi_if_terminal(&self) -> String {
        use std::io::IsTerminal as _;
        let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        if coloured { self.ansi().to_string() } else { self.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_help() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            for subcommand in command.get_subcommands() {
                assert!(subcommand.get_about().is_some(), "{} has no words", subcommand.get_name());
                check(subcommand);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn the_words_of_the_contract_are_there() {
        for line in [
            "rafka dev",
            "rafka dev --nodes 3",
            "rafka dev start --nodes 3",
            "rafka dev status",
            "rafka dev logs 2 -f",
            "rafka dev kill 2",
            "rafka dev restart 2",
            "rafka dev stop",
            "rafka dev purge --yes",
            "rafka node start",
            "rafka node id",
            "rafka node status",
            "rafka publish orders v -k a",
            "rafka pub orders -",
            "rafka produce orders",
            "rafka subscribe orders --from-beginning -n 1",
            "rafka sub orders.* -o raw",
            "rafka consume orders --exit-at-end",
            "rafka sub orders --offset -5",
            "rafka topic list",
            "rafka topic create orders -p 3 --dry-run",
            "rafka topic describe orders",
            "rafka topic alter orders -c retention.ms=1",
            "rafka topic delete orders --yes",
            "rafka topic add-partitions orders -p 6",
            "rafka topic trim orders --all --yes",
            "rafka topic offsets orders",
            "rafka sub orders --group billing --from-beginning",
            "rafka group list",
            "rafka group list --state Empty --type consumer",
            "rafka group describe billing",
            "rafka group lag billing",
            "rafka group seek billing orders --to-earliest --dry-run",
            "rafka group seek billing orders/3 --to-offset 7 --yes",
            "rafka group seek billing --shift-by -10 --yes",
            "rafka group seek billing orders --to-time 10m",
            "rafka group delete billing --yes",
            "rafka group delete billing --topic orders --yes",
            "rafka cluster status",
            "rafka cluster health --wait",
            "rafka cluster health --watch",
            "rafka cluster nodes",
            "rafka cluster partitions",
            "rafka mesh peers",
            "rafka mesh ping",
            "rafka mesh route orders/3",
            "rafka mesh graph",
            "rafka context list",
            "rafka context use dev",
            "rafka context create x --bootstrap a:1",
            "rafka context current",
            "rafka context delete x",
            "rafka config show --origin",
            "rafka config default",
            "rafka config lint",
            "rafka bench produce",
            "rafka bench consume orders",
            "rafka bench e2e",
            "rafka doctor",
            "rafka debug dump-log x.log",
            "rafka completions bash",
            "rafka man .",
            "rafka cheat publish",
            "rafka topic --bootstrap a:1 list -o json",
            "rafka -o json topic list --bootstrap a:1 --bootstrap b:2",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
        }
        let refused = |line: &str| Cli::try_parse_from(line.split(' ')).is_err();
        assert!(refused("rafka sub orders --group g -p 1"), "the group says which partitions");
        assert!(refused("rafka group seek g t") && refused("rafka group seek g t --to-earliest --to-latest"));
    }
}
