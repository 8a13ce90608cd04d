//! LeaveGroup: members go, or are sent away by an administrator.

use rafka_broker::group::request::{GroupReply, GroupRequest, Leave, Leaving, Left};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::REQUEST_PARTITIONS_MAX;

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::groups::{self, owned};
use crate::messages::leave_group::{MemberIdentity, MemberResponse, Request, Response};
use crate::wire::Str;

/// First version with several members.
const SEVERAL_FROM: i16 = 3;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    let alone = |member_id| vec![MemberIdentity { member_id, ..MemberIdentity::default() }];
    let members = if version < SEVERAL_FROM { alone(request.member_id) } else { request.members };
    let left = leave(door, request.group_id.to_string(), members).await;
    let code = |failure: Failure| Response { error_code: error::group(failure.code), ..Response::default() };
    let row = |left: Left| MemberResponse {
        member_id: left.member_id.into(),
        group_instance_id: left.instance_id.map(Str::from),
        error_code: left.result.map_or_else(error::group, |()| error::NONE),
    };
    match left {
        Err(failure) => code(failure),
        Ok(left) if version >= SEVERAL_FROM => {
            Response { members: left.into_iter().map(row).collect(), ..Response::default() }
        }
        Ok(left) => match left.into_iter().next() {
            Some(left) => Response { error_code: row(left).error_code, ..Response::default() },
            None => code(groups::strange()),
        },
    }
}

async fn leave<D: FrontDesk>(
    door: &Door<D>,
    group: String,
    members: Vec<MemberIdentity>,
) -> Result<Vec<Left>, Failure> {
    if members.len() > REQUEST_PARTITIONS_MAX {
        let text = format!("{} members leave at once, at most {REQUEST_PARTITIONS_MAX} can", members.len());
        return Err(Failure::new(ErrorCode::InvalidRequest, text));
    }
    let leaving = |member: MemberIdentity| Leaving {
        member_id: member.member_id.to_string(),
        instance_id: owned(member.group_instance_id),
        reason: owned(member.reason),
    };
    let members: Vec<_> = members.into_iter().map(leaving).collect();
    let request = GroupRequest::Leave(Leave { group, members: members.clone() });
    let reply = groups::ask(door, request, |reply| match reply {
        GroupReply::Leave(left) => Some(left),
        _ => None,
    });
    match reply.await {
        // There is no such group: nobody is a member of it.
        Err(failure) if failure.code == ErrorCode::UnknownMemberId => {
            let result = Err(failure.code);
            Ok(members.into_iter().map(|Leaving { member_id, instance_id, .. }| Left { member_id, instance_id, result }).collect())
        }
        reply => reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding_with};

    fn leaves(request: GroupRequest) -> Result<GroupReply, Failure> {
        let GroupRequest::Leave(Leave { group, members }) = request else { panic!("{request:?}") };
        if group != "g" {
            return Err(Failure::new(ErrorCode::UnknownMemberId, "no such group"));
        }
        let left = |Leaving { member_id, instance_id, .. }: Leaving| {
            let known = member_id == "m" || instance_id.is_some();
            Left { member_id, instance_id, result: known.then_some(()).ok_or(ErrorCode::UnknownMemberId) }
        };
        Ok(GroupReply::Leave(members.into_iter().map(left).collect()))
    }

    #[tokio::test]
    async fn one_member_leaves_in_the_old_versions_and_several_in_the_new() {
        let door = deciding_with(|fake| fake.coordinates = Box::new(leaves));
        for version in 0..=2 {
            for (group_id, member_id, code) in [("g", "m", 0), ("g", "x", 25), ("h", "m", 25)] {
                let request =
                    Request { group_id: group_id.into(), member_id: member_id.into(), ..Request::default() };
                assert_eq!(ask(&door, version, &request).await.error_code, code);
            }
        }
        for version in 3..=5 {
            let member = |member_id: &'static str, instance: Option<&'static str>| MemberIdentity {
                member_id: member_id.into(),
                group_instance_id: instance.map(Str::from),
                reason: None,
            };
            let members = vec![member("m", None), member("", Some("i")), member("x", None)];
            let mut request = Request { group_id: "g".into(), members, ..Request::default() };
            let told = ask(&door, version, &request).await;
            let codes: Vec<_> = told.members.iter().map(|member| member.error_code).collect();
            assert_eq!((told.error_code, codes), (0, vec![0, 0, 25]));
            assert_eq!(told.members[1].group_instance_id.as_deref(), Some("i"));
            request.group_id = "h".into();
            let told = ask(&door, version, &request).await;
            let codes: Vec<_> = told.members.iter().map(|member| member.error_code).collect();
            assert_eq!((told.error_code, codes), (0, vec![25, 25, 25]));
        }
    }
}
