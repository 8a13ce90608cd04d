//! The page of the command line: the help of every command, as the programs print it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Commands deeper than this do not exist.
const DEPTH_MAX: usize = 4;

pub(crate) fn page(folder: &Path) -> String {
    let mut page = String::from(
        "# Command line\n\n`rafka` is everything; `rafka-node` is `rafka node start` alone, for servers and containers. \
         Output goes to stdout, logs and\nprogress to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 exists \
         or conflict, 5 denied, 6 unreachable or\ntimeout, 10 unhealthy, 78 bad configuration, 130 interrupted.\n",
    );
    command(&folder.join("rafka"), &mut vec!["rafka".to_owned()], &mut page);
    command(&folder.join("rafka-node"), &mut vec!["rafka-node".to_owned()], &mut page);
    page
}

fn command(program: &Path, words: &mut Vec<String>, page: &mut String) {
    assert!(words.len() <= DEPTH_MAX, "{words:?}");
    let help = help(program, &words[1..]);
    let _ =
        write!(page, "\n{} {}\n\n```text\n{}\n```\n", "#".repeat(words.len() + 1), words.join(" "), help.trim_end());
    for name in subcommands(&help) {
        words.push(name);
        command(program, words, page);
        words.pop();
    }
}

fn help(program: &Path, words: &[String]) -> String {
    let output = Command::new(program)
        .args(words)
        .arg("--help")
        // Defaults that depend on the environment or the user would differ from machine to machine.
        .env_clear()
        .env("HOME", "/nonexistent")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(output.status.success(), "{} {words:?} --help: {}", program.display(), output.status);
    let help = String::from_utf8(output.stdout).expect("help is text");
    help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names in the section `Commands:` of a help text, without `help`.
fn subcommands(help: &str) -> Vec<String> {
    let section = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let rows = section.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  "));
    let names = rows.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}
