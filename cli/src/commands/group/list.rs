//! `rafka group list`

use clap::{Args, ValueEnum};
use rafka_client::{GroupKind, Listed};
use serde::Serialize;

use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::{Out, Row, note};

/// List the groups of the cluster.
#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Only groups in this state: Empty, Stable, PreparingRebalance, CompletingRebalance, Assigning, Reconciling, Dead.
    /// Repeatable, or separated by commas.
    #[arg(long, value_name = "STATE", value_delimiter = ',', ignore_case = true)]
    state: Vec<String>,
    /// Only groups of this type: members of a `classic` group assign partitions, the coordinator of a `consumer` group
    /// does so itself (KIP-848).
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Kind {
    Classic,
    Consumer,
}

/// A group in a list.
#[derive(Debug, Serialize)]
struct Line {
    group: String,
    state: &'static str,
    r#type: &'static str,
    protocol_type: String,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["GROUP", "STATE", "TYPE", "PROTOCOL"];

    fn cells(&self) -> Vec<String> {
        let protocol = if self.protocol_type.is_empty() { "-" } else { &self.protocol_type };
        vec![self.group.clone(), self.state.to_owned(), self.r#type.to_owned(), protocol.to_owned()]
    }
}

impl From<Listed> for Line {
    fn from(listed: Listed) -> Self {
        let Listed { group, protocol_type, state, kind } = listed;
        Self { group, state: state.name(), r#type: kind.name(), protocol_type }
    }
}

impl ListArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let listing = cluster.connect().await?.admin().list_groups().await?;
        let wanted = |listed: &Listed| {
            let state = self.state.is_empty() || self.state.iter().any(|s| s.eq_ignore_ascii_case(listed.state.name()));
            let kind = self.kind.is_none_or(|kind| match kind {
                Kind::Classic => listed.kind == GroupKind::Classic,
                Kind::Consumer => listed.kind == GroupKind::Consumer,
            });
            state && kind
        };
        out.rows(&listing.groups.into_iter().filter(wanted).map(Line::from).collect::<Vec<_>>())?;
        for (node, error) in listing.missing {
            let error = CliError::from(error).within(format!("groups that node {node} coordinates are missing"));
            note(error.to_lines().replacen("error: ", "warning: ", 1).trim_end());
        }
        Ok(())
    }
}
