//! `rafka context …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use rafka_model::ClusterId;
use rafka_protocols::address::BootstrapAddress;
use serde::Serialize;

use crate::context::{Context, Store};
use crate::errors::{CliError, Exit, Result};
use crate::output::{Out, Row, list, or_dash};

/// Name clusters, and select one.
#[derive(Args, Debug)]
pub(crate) struct ContextArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the contexts.
    List,
    /// Select a context.
    Use(NameArgs),
    /// Make a context, and select it if it is the first.
    Create(CreateArgs),
    /// Show the selected context.
    Current,
    /// Delete a context; the cluster is not concerned.
    Delete(NameArgs),
}

#[derive(Args, Debug)]
struct NameArgs {
    /// Name of the context.
    #[arg(add = ArgValueCompleter::new(crate::complete::contexts))]
    name: String,
}

#[derive(Args, Debug)]
struct CreateArgs {
    /// Name of the context.
    name: String,
    /// Mesh address of a node. Repeatable.
    #[arg(long, required = true, value_name = "ADDR")]
    bootstrap: Vec<BootstrapAddress>,
    /// File with the cluster's join token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The only cluster to talk to: 64 hex digits.
    #[arg(long, value_name = "ID")]
    cluster_id: Option<ClusterId>,
    /// Select it.
    #[arg(long)]
    select: bool,
    /// Replace a context of this name.
    #[arg(long)]
    replace: bool,
}

/// A context in a list.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    current: bool,
    bootstrap: Vec<String>,
    token_file: Option<PathBuf>,
    cluster_id: Option<String>,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["CURRENT", "NAME", "BOOTSTRAP", "TOKEN FILE"];

    fn cells(&self) -> Vec<String> {
        let current = if self.current { "*" } else { "" };
        let token_file = or_dash(self.token_file.as_ref().map(|path| path.display()));
        vec![current.to_owned(), self.name.clone(), list(&self.bootstrap), token_file]
    }
}

impl Line {
    fn new(name: &str, context: &Context, current: bool) -> Self {
        let Context { bootstrap, token_file, cluster_id } = context.clone();
        Self { name: name.to_owned(), current, bootstrap, token_file, cluster_id }
    }
}

impl ContextArgs {
    pub(crate) fn run(self, out: Out) -> Result {
        out.structured()?;
        let store = Store::of_user()?;
        match self.verb {
            Verb::List => {
                let contexts = store.load()?;
                let current = contexts.current.as_deref();
                let line = |(name, context): (&String, &Context)| Line::new(name, context, current == Some(name));
                out.rows(&contexts.contexts.iter().map(line).collect::<Vec<_>>())
            }
            Verb::Current => {
                let contexts = store.load()?;
                let Some((name, context)) = contexts.current() else {
                    return Err(
                        CliError::new(Exit::NotFound, "no context is selected").hint("`rafka context use NAME`")
                    );
                };
                let line = Line::new(name, context, true);
                out.one(&line, || format!("{name}\n"))
            }
            Verb::Use(NameArgs { name }) => {
                let line = store.update(|contexts| {
                    let line = Line::new(&name, contexts.get(&name)?, true);
                    contexts.current = Some(name.clone());
                    Ok(line)
                })?;
                out.one(&line, || format!("Context {name:?} selected\n"))
            }
            Verb::Create(args) => args.run(&store, out),
            Verb::Delete(NameArgs { name }) => {
                let line = store.update(|contexts| {
                    let line = Line::new(&name, contexts.get(&name)?, false);
                    contexts.contexts.remove(&name);
                    if contexts.current.as_ref() == Some(&name) {
                        contexts.current = None;
                    }
                    Ok(line)
                })?;
                out.one(&line, || format!("Context {name:?} deleted\n"))
            }
        }
    }
}

impl CreateArgs {
    fn run(self, store: &Store, out: Out) -> Result {
        let name = self.name.clone();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(CliError::usage(format!("context name {name:?} has other letters than a-z A-Z 0-9 . _ -")));
        }
        // A relative path would mean another file in another directory.
        let absolute =
            |path: PathBuf| std::path::absolute(&path).map_err(|error| CliError::file("find", &path, &error));
        let context = Context {
            bootstrap: self.bootstrap.iter().map(ToString::to_string).collect(),
            token_file: self.token_file.map(absolute).transpose()?,
            cluster_id: self.cluster_id.map(|id| id.to_string()),
        };
        let line = store.update(|contexts| {
            if contexts.contexts.contains_key(&name) && !self.replace {
                return Err(CliError::new(Exit::Conflict, format!("context {name:?} exists")).hint("add --replace"));
            }
            if self.select || contexts.contexts.is_empty() {
                contexts.current = Some(name.clone());
            }
            contexts.contexts.insert(name.clone(), context.clone());
            Ok(Line::new(&name, &context, contexts.current.as_ref() == Some(&name)))
        })?;
        out.one(&line, || format!("Context {name:?} created{}\n", if line.current { " and selected" } else { "" }))
    }
}
