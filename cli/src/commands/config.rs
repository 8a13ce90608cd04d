//! `rafka config …`: the configuration of nodes, as a node started here would see it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rafka_node::args::NodeArgs;
use rafka_node::config::{self, Origin, Shown, Value};
use serde::Serialize;

use crate::errors::{CliError, Result};
use crate::output::{Format, Out, emit, json_line, note, table};

/// Show and check the configuration of a node.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show every value that a node started here, with these flags, would have.
    Show(Box<ShowArgs>),
    /// Print the commented default configuration.
    Default,
    /// Check a configuration file, or what a node started here would find.
    Lint(LintArgs),
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// Say where every value came from.
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct LintArgs {
    /// The file; without it the one that a node would find.
    file: Option<PathBuf>,
}

/// A value.
#[derive(Debug, Serialize)]
struct Line {
    key: String,
    value: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

impl ConfigArgs {
    pub(crate) fn run(self, out: Out) -> Result {
        match self.verb {
            Verb::Show(args) => args.run(out),
            Verb::Default => emit(&config::default_yaml()),
            Verb::Lint(args) => args.run(out),
        }
    }
}

impl ShowArgs {
    fn run(self, out: Out) -> Result {
        let format = out.structured()?;
        let loaded = config::load(&self.node.sources())?;
        let lines: Vec<Line> = loaded.shown().into_iter().map(|shown| Line::new(shown, self.origin)).collect();
        match format {
            Format::Json => emit(&lines.iter().map(json_line).collect::<String>()),
            Format::Yaml => out.one(&lines, String::new),
            _ => {
                if let Some(file) = &loaded.file {
                    note(&format!("Configuration file: {}", file.display()));
                }
                let columns: &[&str] = if self.origin { &["KEY", "VALUE", "ORIGIN"] } else { &["KEY", "VALUE"] };
                emit(&table(columns, lines.iter().map(Line::cells)))
            }
        }
    }
}

impl LintArgs {
    fn run(self, out: Out) -> Result {
        let mut sources = NodeArgs::default().sources();
        if self.file.is_some() {
            // The file alone is on trial, not what this shell's environment says besides.
            sources.environment.clear();
            sources.file = self.file;
        }
        let loaded = config::load(&sources)?;
        let Some(file) = loaded.file else {
            let searched = sources.directories.search.iter().map(|path| path.display().to_string());
            let searched = format!("looked at {}", searched.collect::<Vec<_>>().join(", "));
            return Err(CliError::new(crate::errors::Exit::NotFound, "no configuration file found").because(searched));
        };
        let file = file.display().to_string();
        out.one(&serde_json::json!({ "file": file, "ok": true }), || format!("{file}: ok\n"))
    }
}

impl Line {
    fn new(shown: Shown, with_origin: bool) -> Self {
        let value = match shown.value {
            None => serde_json::Value::Null,
            Some(Value::One(text)) => text.into(),
            Some(Value::Many(texts)) => texts.into(),
        };
        let origin = with_origin.then(|| match shown.origin {
            Origin::Default => "default".to_owned(),
            origin => origin.to_string(),
        });
        Self { key: shown.key, value, origin }
    }

    fn cells(&self) -> Vec<String> {
        let value = match &self.value {
            serde_json::Value::Null => "-".to_owned(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut cells = vec![self.key.clone(), value];
        cells.extend(self.origin.clone());
        cells
    }
}
