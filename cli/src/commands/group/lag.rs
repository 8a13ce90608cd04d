//! `rafka group lag`

use clap::Args;
use clap_complete::ArgValueCompleter;
use rafka_client::{Caller, PartitionLag};
use serde::Serialize;

use super::finish;
use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::{Out, Row, or_dash};

/// Show how far groups are, and how much they have still to read.
#[derive(Args, Debug)]
pub(super) struct LagArgs {
    /// Names of the groups.
    #[arg(required = true, value_name = "GROUP", add = ArgValueCompleter::new(crate::complete::groups))]
    groups: Vec<String>,
}

/// One partition of a group.
#[derive(Debug, Serialize)]
struct Line {
    group: String,
    topic: String,
    partition: u32,
    /// The record to be read next.
    committed: Option<i64>,
    /// Offset behind the last committed record.
    end: Option<i64>,
    lag: Option<i64>,
    member_id: Option<String>,
    client_id: Option<String>,
    host: Option<String>,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] =
        &["GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.group.clone(),
            self.topic.clone(),
            self.partition.to_string(),
            or_dash(self.committed),
            or_dash(self.end),
            or_dash(self.lag),
            or_dash(self.member_id.as_ref()),
            or_dash(self.host.as_ref().filter(|host| !host.is_empty())),
        ]
    }
}

impl LagArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let admin = cluster.connect().await?.admin();
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for group in &self.groups {
            match admin.group_lag(group).await {
                Ok(lags) => {
                    for lag in lags {
                        rows.push(line(group, &lag));
                        if let Err(error) = lag.log {
                            let what = format!("the end of {}/{} is not known", lag.topic, lag.partition);
                            errors.push(CliError::from(error).within(what));
                        }
                    }
                }
                Err(error) => errors.push(error.into()),
            }
        }
        finish(out, &rows, errors)
    }
}

fn line(group: &str, lag: &PartitionLag) -> Line {
    let (member_id, caller) = lag.member.clone().unzip();
    let (client_id, host) = caller.map(|Caller { client_id, client_host }| (client_id, client_host)).unzip();
    Line {
        group: group.to_owned(),
        topic: lag.topic.clone(),
        partition: lag.partition.0,
        committed: lag.committed.map(|offset| offset.0),
        end: lag.log.as_ref().ok().map(|(_, end)| end.0),
        lag: lag.lag(),
        member_id,
        client_id,
        host,
    }
}
