//! Files that come from code are as the code says. `cargo xtask generate` writes them.

mod cli_page;
mod kafka_page;

use std::fmt::Write as _;

use rafka_broker::ErrorCode;
use rafka_model::config::{KEYS, Kind};
use rafka_node::config::{default_yaml, reference_markdown};
use xtask::generate::{BINARIES, keep};

#[test]
fn default_configuration_is_current() {
    keep("config/config.yaml", default_yaml().as_bytes()).expect("current");
}

#[test]
fn reference_of_the_configuration_is_current() {
    keep("docs/src/reference/config.md", reference_markdown().as_bytes()).expect("current");
}

#[test]
fn reference_of_topic_configuration_is_current() {
    let mut page = String::from(
        "# Topic configuration\n\nKafka's names, and two of our own (`durability`, `storage.engine`). Set them with \
         `rafka topic create -c KEY=VALUE` or\n`rafka topic alter`; a value that is not set follows the nodes' `topic` \
         section. Times are milliseconds, sizes bytes.\n\n| Key | Default | Values | Meaning |\n|---|---|---|---|\n",
    );
    for key in KEYS {
        let values = match key.kind {
            Kind::Integer { min, max: i64::MAX } => format!("from {min}"),
            Kind::Integer { min, max } => format!("{min} to {max}"),
            Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Kind::Boolean => "`true`, `false`".to_owned(),
            Kind::Ratio => "0 to 1".to_owned(),
            Kind::Text => "any text".to_owned(),
        };
        let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
        let _ = writeln!(page, "| `{}` | {default} | {values} | {} |", key.name, key.doc);
    }
    keep("docs/src/reference/topic-config.md", page.as_bytes()).expect("current");
}

#[test]
fn reference_of_errors_is_current() {
    let source = include_str!("../../../broker/src/error.rs");
    let mut page = String::from(
        "# Errors\n\nNames and numbers follow Kafka's where Kafka has the error; numbers from 1000 are Rafka's own. A \
         *retriable* error may\nsucceed later or elsewhere with the same request.\n\n| Number | Name | Retriable | \
         Meaning |\n|---|---|---|---|\n",
    );
    for code in ErrorCode::ALL {
        let retriable = if code.is_retriable() { "yes" } else { "no" };
        let meaning = meaning(source, code.name()).expect("every code is documented");
        let _ = writeln!(page, "| {} | `{}` | {retriable} | {meaning} |", code.number(), code.name());
    }
    keep("docs/src/reference/errors.md", page.as_bytes()).expect("current");
}

#[test]
fn reference_of_kafkas_apis_is_current() {
    keep("docs/src/reference/kafka.md", kafka_page::page().as_bytes()).expect("current");
}

/// The doc comment above the row that names `code`.
fn meaning(source: &str, code: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let row = lines.iter().position(|line| line.contains(&format!("\"{code}\"")))?;
    let doc: Vec<&str> = lines[..row].iter().rev().map_while(|line| line.strip_prefix("/// ")).collect();
    let doc: Vec<&str> = doc.into_iter().rev().collect();
    (!doc.is_empty()).then(|| doc.join(" "))
}

/// Needs the binary; `cargo xtask generate` names its folder, as does the test command.
#[test]
fn reference_of_the_command_line_is_current() {
    let Some(folder) = std::env::var_os(BINARIES) else {
        eprintln!("not compared: {BINARIES} does not name the folder of the binaries");
        return;
    };
    let folder = xtask::root().join(folder);
    keep("docs/src/reference/cli.md", cli_page::page(&folder).as_bytes()).expect("current");
}
