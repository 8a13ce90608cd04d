//! Which cluster is meant, and the connection to it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rafka_client::{Client, ClientConfig};

use crate::context::{Context, Store};
use crate::errors::{CliError, Exit, Result};
use crate::times::parse_span;

/// Address of a node that runs here with its defaults.
const DEFAULT: &str = "127.0.0.1:7300";

/// How to find the cluster.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// Mesh address of a node: HOST:PORT, multiaddr, dns:NAME[:PORT] or srv:NAME. Repeatable; one that answers is enough.
    /// Without it: $RAFKA_BOOTSTRAP (separated by commas), the current context, 127.0.0.1:7300.
    #[arg(long, global = true, value_name = "ADDR", display_order = 800)]
    pub(crate) bootstrap: Vec<String>,
    /// Context to use instead of the current one.
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "bootstrap", display_order = 801,
        add = clap_complete::ArgValueCompleter::new(crate::complete::contexts))]
    pub(crate) context: Option<String>,
    /// File with the cluster's join token, where nodes ask for it. Without it: $RAFKA_TOKEN_FILE, the context's.
    #[arg(long, global = true, value_name = "FILE", display_order = 802)]
    pub(crate) token_file: Option<PathBuf>,
    /// Longest time for finding the cluster.
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_span, default_value = "10s", display_order = 803)]
    pub(crate) connect_timeout: Duration,
}

/// Where the addresses came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    Context(String),
    Default,
}

/// A cluster that was chosen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) cluster_id: Option<String>,
    pub(crate) origin: Origin,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--bootstrap"),
            Self::Environment => f.write_str("$RAFKA_BOOTSTRAP"),
            Self::Context(name) => write!(f, "context {name:?}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl ClusterArgs {
    /// The cluster that these flags, the environment and the contexts mean.
    ///
    /// # Errors
    /// The context does not exist, or the contexts cannot be read.
    pub(crate) fn target(&self) -> Result<Target> {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        // A user without a home still has flags and the environment.
        let store = Store::of_user().ok();
        choose(self, variable("RAFKA_BOOTSTRAP"), variable("RAFKA_TOKEN_FILE"), || match &store {
            Some(store) => store.load(),
            None => Ok(crate::context::Contexts::default()),
        })
    }

    /// Joins the mesh as a client.
    ///
    /// # Errors
    /// No node answers, or the cluster will not have us.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let target = self.target()?;
        let config = target.client_config(self.connect_timeout)?;
        let where_to = format!("{} (from {})", target.bootstrap.join(", "), target.origin);
        Client::connect(config).await.map_err(|error| {
            let error = CliError::from(error);
            match error.code() {
                code if code == Exit::Unreachable as u8 => error.hint(match target.origin {
                    Origin::Default => "start a cluster with `rafka dev`, or name one with --bootstrap".to_owned(),
                    _ => format!("tried {where_to}; is a node running there? `rafka doctor` looks closer"),
                }),
                code if code == Exit::Denied as u8 => error.hint(match &target.token_file {
                    None => "give the cluster's join token with --token-file".to_owned(),
                    Some(path) => format!("is the token in {} (--token-file) the cluster's?", path.display()),
                }),
                _ => error,
            }
        })
    }
}

impl Target {
    /// The SDK's settings for this cluster.
    ///
    /// # Errors
    /// The token cannot be read, or the cluster id is none.
    pub(crate) fn client_config(&self, connect_timeout: Duration) -> Result<ClientConfig> {
        let token = self.token_file.as_ref().map(|path| {
            let text =
                std::fs::read_to_string(path).map_err(|error| CliError::file("read the token from", path, &error))?;
            match text.trim() {
                "" => Err(CliError::usage(format!("{} holds no token", path.display()))),
                token => Ok(token.to_owned()),
            }
        });
        let cluster_id = self.cluster_id.as_ref().map(|id| {
            id.parse()
                .map_err(|error| CliError::new(Exit::BadConfig, format!("cluster id {id:?} is none")).because(error))
        });
        Ok(ClientConfig {
            bootstrap: self.bootstrap.clone(),
            token: token.transpose()?,
            cluster_id: cluster_id.transpose()?,
            connect_timeout_ms: u64::try_from(connect_timeout.as_millis()).unwrap_or(u64::MAX),
            ..ClientConfig::default()
        })
    }
}

/// Flags, then the environment, then the current context, then the default.
fn choose(
    args: &ClusterArgs,
    bootstrap: Option<String>,
    token_file: Option<String>,
    contexts: impl FnOnce() -> Result<crate::context::Contexts>,
) -> Result<Target> {
    let token_file = args.token_file.clone().or_else(|| token_file.map(PathBuf::from));
    let plain = |bootstrap, origin| Target { bootstrap, token_file: token_file.clone(), cluster_id: None, origin };
    if !args.bootstrap.is_empty() {
        return Ok(plain(args.bootstrap.clone(), Origin::Flag));
    }
    let of_context = |name: &str, context: &Context| Target {
        bootstrap: context.bootstrap.clone(),
        token_file: token_file.clone().or_else(|| context.token_file.clone()),
        cluster_id: context.cluster_id.clone(),
        origin: Origin::Context(name.to_owned()),
    };
    if let Some(name) = &args.context {
        return contexts()?.get(name).map(|context| of_context(name, context));
    }
    if let Some(addresses) = bootstrap {
        let addresses = addresses.split(',').map(|address| address.trim().to_owned());
        return Ok(plain(addresses.filter(|address| !address.is_empty()).collect(), Origin::Environment));
    }
    let contexts = contexts()?;
    Ok(match contexts.current() {
        Some((name, context)) => of_context(name, context),
        None => plain(vec![DEFAULT.to_owned()], Origin::Default),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Contexts;

    fn contexts() -> Contexts {
        let context =
            Context { bootstrap: vec!["context:1".to_owned()], token_file: Some("t".into()), cluster_id: None };
        Contexts { current: Some("here".to_owned()), contexts: [("here".to_owned(), context)].into() }
    }

    fn chosen(args: &ClusterArgs, environment: Option<&str>, contexts: Contexts) -> (Vec<String>, Origin) {
        let target = choose(args, environment.map(str::to_owned), None, || Ok(contexts)).expect("chosen");
        (target.bootstrap, target.origin)
    }

    #[test]
    fn flags_win_over_the_environment_over_the_context_over_the_default() {
        let none = ClusterArgs::default();
        let flag = ClusterArgs { bootstrap: vec!["flag:1".to_owned(), "flag:2".to_owned()], ..none.clone() };
        let named = ClusterArgs { context: Some("here".to_owned()), ..none.clone() };
        assert_eq!(chosen(&flag, Some("env:1"), contexts()), (flag.bootstrap.clone(), Origin::Flag));
        let context = (vec!["context:1".to_owned()], Origin::Context("here".to_owned()));
        assert_eq!(chosen(&named, Some("env:1"), contexts()), context);
        let environment = (vec!["env:1".to_owned(), "env:2".to_owned()], Origin::Environment);
        assert_eq!(chosen(&none, Some("env:1, env:2"), contexts()), environment);
        assert_eq!(chosen(&none, None, contexts()), context);
        assert_eq!(chosen(&none, None, Contexts::default()), (vec![DEFAULT.to_owned()], Origin::Default));
    }

    #[test]
    fn a_context_brings_its_token_and_a_missing_one_is_an_error() {
        let named = |name: &str| ClusterArgs { context: Some(name.to_owned()), ..ClusterArgs::default() };
        let target = choose(&named("here"), None, None, || Ok(contexts())).expect("chosen");
        assert_eq!(target.token_file, Some("t".into()));
        let other = choose(&named("here"), None, Some("u".to_owned()), || Ok(contexts())).expect("chosen");
        assert_eq!(other.token_file, Some("u".into()));
        assert_eq!(choose(&named("gone"), None, None, || Ok(contexts())).expect_err("missing").code(), 3);
    }
}
