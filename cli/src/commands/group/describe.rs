//! `rafka group describe`

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::ArgValueCompleter;
use rafka_client::{Admin, Caller, GroupDescription, PartitionLag};
use serde::Serialize;

use crate::connect::ClusterArgs;
use crate::errors::{CliError, Result};
use crate::output::{Format, Out, emit, fields, json_line, list, or_dash, table};

/// Show groups with their members.
#[derive(Args, Debug)]
pub(super) struct DescribeArgs {
    /// Names of the groups.
    #[arg(required = true, value_name = "GROUP", add = ArgValueCompleter::new(crate::complete::groups))]
    groups: Vec<String>,
}

/// A group.
#[derive(Debug, Serialize)]
struct Group {
    group: String,
    state: &'static str,
    r#type: &'static str,
    /// What it is for: `consumer`, `connect`, …
    protocol_type: String,
    /// How partitions are assigned, once they are.
    assignor: Option<String>,
    /// Of groups whose coordinator assigns.
    epoch: Option<i32>,
    /// Records still to be read, of all partitions of which offsets are committed.
    lag: Option<i64>,
    members: Vec<Member>,
}

/// A member.
#[derive(Debug, Serialize)]
struct Member {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    epoch: Option<i32>,
    assignment: BTreeMap<String, Vec<u32>>,
}

impl Member {
    const COLUMNS: [&'static str; 5] = ["MEMBER", "CLIENT", "HOST", "INSTANCE", "PARTITIONS"];

    fn new(
        member_id: String,
        instance_id: Option<String>,
        caller: Caller,
        epoch: Option<i32>,
        lags: &[PartitionLag],
    ) -> Self {
        let mut assignment: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for lag in lags.iter().filter(|lag| lag.member.as_ref().is_some_and(|(id, _)| *id == member_id)) {
            assignment.entry(lag.topic.clone()).or_default().push(lag.partition.0);
        }
        Self { member_id, instance_id, client_id: caller.client_id, host: caller.client_host, epoch, assignment }
    }

    fn cells(&self) -> Vec<String> {
        let part = |(topic, partitions): (&String, &Vec<u32>)| format!("{topic}/{}", list(partitions));
        let parts: Vec<String> = self.assignment.iter().map(part).collect();
        let parts = if parts.is_empty() { "-".to_owned() } else { parts.join(" ") };
        let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let instance = or_dash(self.instance_id.as_ref());
        vec![self.member_id.clone(), text(&self.client_id), text(&self.host), instance, parts]
    }
}

impl DescribeArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let admin = cluster.connect().await?.admin();
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for name in &self.groups {
            match describe(&admin, name).await {
                Ok(group) => found.push(group),
                Err(error) => errors.push(error),
            }
        }
        match out.structured()? {
            Format::Json => emit(&found.iter().map(json_line).collect::<String>())?,
            Format::Yaml => out.one(&found, String::new)?,
            _ => emit(&found.iter().map(Group::words).collect::<Vec<_>>().join("\n"))?,
        }
        let Some(last) = errors.pop() else { return Ok(()) };
        for error in errors {
            error.print(out.is_json());
        }
        Err(last)
    }
}

async fn describe(admin: &Admin, name: &str) -> Result<Group> {
    let description = admin.describe_group(name).await?;
    let lags = admin.group_lag(name).await.map_err(CliError::from)?;
    let known: Vec<i64> = lags.iter().filter_map(PartitionLag::lag).collect();
    let lag = (!known.is_empty()).then(|| known.iter().sum());
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(match description {
        GroupDescription::Classic(group) => Group {
            group: group.group,
            state: group.state.name(),
            r#type: "classic",
            protocol_type: group.protocol_type,
            assignor: some(group.protocol),
            epoch: None,
            lag,
            members: group
                .members
                .into_iter()
                .map(|member| Member::new(member.member_id, member.instance_id, member.caller, None, &lags))
                .collect(),
        },
        GroupDescription::Consumer(group) => Group {
            group: group.group,
            state: group.state.name(),
            r#type: "consumer",
            protocol_type: "consumer".to_owned(),
            assignor: some(group.assignor),
            epoch: Some(group.group_epoch),
            lag,
            members: group
                .members
                .into_iter()
                .map(|member| {
                    let epoch = Some(member.member_epoch);
                    Member::new(member.member_id, member.instance_id, member.caller, epoch, &lags)
                })
                .collect(),
        },
    })
}

impl Group {
    fn words(&self) -> String {
        let mut text = fields([
            ("group", self.group.clone()),
            ("state", self.state.to_owned()),
            ("type", self.r#type.to_owned()),
            ("assignor", or_dash(self.assignor.as_ref())),
            ("epoch", or_dash(self.epoch)),
            ("lag", or_dash(self.lag)),
            ("members", self.members.len().to_string()),
        ]);
        if !self.members.is_empty() {
            text.push('\n');
            text.push_str(&table(&Member::COLUMNS, self.members.iter().map(Member::cells)));
        }
        text
    }
}
