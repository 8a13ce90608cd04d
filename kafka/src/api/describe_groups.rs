//! DescribeGroups: members and assignments of classic groups.

use rafka_broker::group::request::{
    ClassicDescription, ClassicMember, GroupDescription, GroupReply, GroupRequest, GroupState,
};
use rafka_broker::{ErrorCode, Failure};

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::groups;
use crate::messages::describe_groups::{DescribedGroup, DescribedGroupMember, Request, Response};
use crate::wire::Str;

/// First version that tells an unknown group from a dead one (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    let names = groups::once(request.groups);
    let questions = names.iter().map(|group| GroupRequest::Describe { group: group.to_string() }).collect();
    let told = groups::ask_each(door, questions, description).await;
    let operations = groups::operations(request.include_authorized_operations);
    let row = |(name, told): (Str, Result<GroupDescription, Failure>)| match told {
        Ok(GroupDescription::Classic(group)) => DescribedGroup { authorized_operations: operations, ..row(group) },
        Ok(GroupDescription::Consumer(_)) => {
            let text = format!("Group {name} is not a classic group.");
            missing(version, name, operations, text)
        }
        Err(failure) if failure.code == ErrorCode::GroupIdNotFound => {
            let text = not_found(&name);
            missing(version, name, operations, text)
        }
        Err(failure) => DescribedGroup {
            error_code: error::group(failure.code),
            error_message: Some(failure.message.into()),
            group_id: name,
            ..DescribedGroup::default()
        },
    };
    Response { groups: names.into_iter().zip(told).map(row).collect(), ..Response::default() }
}

/// Kafka's words, which its tools show.
pub(crate) fn not_found(group: &str) -> String {
    format!("Group {group} not found.")
}

/// Takes out a description.
pub(crate) fn description(reply: GroupReply) -> Option<GroupDescription> {
    match reply {
        GroupReply::Describe(description) => Some(description),
        _ => None,
    }
}

fn missing(version: i16, group_id: Str, operations: i32, text: String) -> DescribedGroup {
    let dead = DescribedGroup { group_id, group_state: GroupState::Dead.name().into(), ..DescribedGroup::default() };
    match version {
        ..NOT_FOUND_FROM => DescribedGroup { authorized_operations: operations, ..dead },
        _ => DescribedGroup {
            error_code: error::number(ErrorCode::GroupIdNotFound),
            error_message: Some(text.into()),
            ..dead
        },
    }
}

fn row(group: ClassicDescription) -> DescribedGroup {
    let member = |member: ClassicMember| DescribedGroupMember {
        member_id: member.member_id.into(),
        group_instance_id: member.instance_id.map(Str::from),
        client_id: member.caller.client_id.into(),
        client_host: member.caller.client_host.into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    DescribedGroup {
        group_id: group.group.into(),
        group_state: group.state.name().into(),
        protocol_type: group.protocol_type.into(),
        protocol_data: group.protocol.into(),
        members: group.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rafka_broker::group::request::{Caller, ConsumerDescription};

    use super::*;
    use crate::fake::Fake;
    use crate::fake::decides::{ask, deciding_with};

    fn door() -> Arc<Door<Fake>> {
        deciding_with(|fake| {
            fake.coordinates = Box::new(|request| match request.group() {
                "classic" => Ok(GroupReply::Describe(GroupDescription::Classic(ClassicDescription {
                    group: "classic".to_owned(),
                    state: GroupState::Stable,
                    protocol_type: "consumer".to_owned(),
                    protocol: "range".to_owned(),
                    members: vec![ClassicMember {
                        member_id: "m".to_owned(),
                        instance_id: Some("i".to_owned()),
                        caller: Caller { client_id: "c".to_owned(), client_host: "/10.0.0.1".to_owned() },
                        metadata: Bytes::from_static(b"metadata"),
                        assignment: Bytes::from_static(b"assignment"),
                    }],
                }))),
                "consumer" => Ok(GroupReply::Describe(GroupDescription::Consumer(ConsumerDescription {
                    group: "consumer".to_owned(),
                    state: GroupState::Stable,
                    group_epoch: 1,
                    assignment_epoch: 1,
                    assignor: "uniform".to_owned(),
                    members: Vec::new(),
                }))),
                "nope" => Err(Failure::new(ErrorCode::GroupIdNotFound, "no such group")),
                _ => Err(Failure::new(ErrorCode::NotCoordinator, "elsewhere")),
            });
        })
    }

    #[tokio::test]
    async fn a_classic_group_is_told_and_others_are_dead_or_unknown() {
        let door = door();
        for version in 0..=6 {
            let groups = ["classic", "consumer", "nope", "lost", "classic"].map(Str::from).to_vec();
            let request = Request { groups, include_authorized_operations: version >= 3 };
            let told = ask(&door, version, &request).await.groups;
            let unknown = if version >= 6 { 69 } else { 0 };
            let codes: Vec<_> = told.iter().map(|group| (group.error_code, &*group.group_state)).collect();
            assert_eq!(codes, [(0, "Stable"), (unknown, "Dead"), (unknown, "Dead"), (16, "")], "version {version}");
            assert_eq!(told[2].error_message.as_deref(), (version >= 6).then_some("Group nope not found."));
            assert_eq!(told[0].authorized_operations, if version >= 3 { 3400 } else { i32::MIN });
            let member = &told[0].members[0];
            assert_eq!((&*member.client_id, &*member.client_host), ("c", "/10.0.0.1"));
            assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (&b"metadata"[..], &b"assignment"[..]));
            assert_eq!(member.group_instance_id.as_deref(), (version >= 4).then_some("i"));
            assert_eq!((&*told[0].protocol_type, &*told[0].protocol_data), ("consumer", "range"));
        }
    }
}
