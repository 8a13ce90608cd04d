//! JoinGroup: takes part in the next generation of a group. Answered when that begins, which may take minutes.

use rafka_broker::ErrorCode;
use rafka_broker::group::request::{GroupReply, GroupRequest, Join, JoinReply, Joined, JoinedMember, Protocol};
use rafka_model::limits::{GROUP_METADATA_BYTES_MAX, GROUP_PROTOCOLS_MAX};

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::groups::{self, copied, owned};
use crate::messages::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember, Request, Response};
use crate::wire::Str;

/// First version whose clients know that a new member must come again with its id (KIP-394).
const MEMBER_ID_FROM: i16 = 4;
/// First version that tells the protocol type, and may tell no protocol.
const PROTOCOL_TYPE_FROM: i16 = 7;
/// First version whose clients know that an assignment may stand (KIP-814).
const SKIP_FROM: i16 = 9;
/// Characters of a reason that are kept (Kafka's clients send no more).
const REASON_CHARS_MAX: usize = 255;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, client: &Client, version: i16, request: Request) -> Response {
    let member_id = Str::from(request.member_id.to_string());
    if is_too_large(&request) {
        return refused(version, error::number(ErrorCode::InvalidRequest), member_id);
    }
    let join = GroupRequest::Join(join(client, version, request));
    let reply = groups::ask(door, join, |reply| match reply {
        GroupReply::Join(reply) => Some(reply),
        _ => None,
    });
    match reply.await {
        Ok(JoinReply::Joined(joined)) => accepted(version, joined),
        Ok(JoinReply::TakeMemberId(id)) => refused(version, error::number(ErrorCode::MemberIdRequired), id.into()),
        Err(failure) => refused(version, error::group(failure.code), member_id),
    }
}

/// More than any coordinator takes. What is joined with is kept while the join waits, its frame is not.
fn is_too_large(request: &Request) -> bool {
    let metadata: usize = request.protocols.iter().map(|protocol| protocol.metadata.len()).sum();
    request.protocols.len() > GROUP_PROTOCOLS_MAX || metadata > GROUP_METADATA_BYTES_MAX
}

fn join(client: &Client, version: i16, request: Request) -> Join {
    // Version 0 has but one timeout.
    let rebalance_timeout_ms = match request.rebalance_timeout_ms {
        -1 => request.session_timeout_ms,
        ms => ms,
    };
    let protocol = |protocol: JoinGroupRequestProtocol| Protocol {
        name: protocol.name.to_string(),
        metadata: copied(&protocol.metadata),
    };
    Join {
        group: request.group_id.to_string(),
        requires_member_id: version >= MEMBER_ID_FROM
            && request.member_id.is_empty()
            && request.group_instance_id.is_none(),
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        can_skip_assignment: version >= SKIP_FROM,
        reason: request.reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect()),
        caller: groups::caller(client),
    }
}

fn accepted(version: i16, joined: Joined) -> Response {
    let member = |member: JoinedMember| JoinGroupResponseMember {
        member_id: member.member_id.into(),
        group_instance_id: member.instance_id.map(Str::from),
        metadata: member.metadata,
    };
    Response {
        generation_id: joined.generation,
        protocol_type: (version >= PROTOCOL_TYPE_FROM).then(|| joined.protocol_type.into()),
        protocol_name: Some(joined.protocol.into()),
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment && version >= SKIP_FROM,
        member_id: joined.member_id.into(),
        members: joined.members.into_iter().map(member).collect(),
        ..Response::default()
    }
}

fn refused(version: i16, error_code: i16, member_id: Str) -> Response {
    let protocol_name = (version < PROTOCOL_TYPE_FROM).then(Str::default);
    Response { error_code, protocol_name, member_id, ..Response::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rafka_broker::Failure;

    use super::*;
    use crate::fake::Fake;
    use crate::fake::decides::{ask, deciding_with};

    fn request(version: i16) -> Request {
        Request {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: if version == 0 { -1 } else { 60_000 },
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"m") }],
            ..Request::default()
        }
    }

    fn joining(coordinates: fn(Join) -> Result<JoinReply, Failure>) -> Arc<Door<Fake>> {
        deciding_with(|fake| {
            fake.coordinates = Box::new(move |request| match request {
                GroupRequest::Join(join) => coordinates(join).map(GroupReply::Join),
                other => panic!("{other:?}"),
            });
        })
    }

    fn first(join: Join) -> Result<JoinReply, Failure> {
        if join.requires_member_id {
            return Ok(JoinReply::TakeMemberId("m-1".to_owned()));
        }
        let metadata = join.protocols[0].metadata.clone();
        Ok(JoinReply::Joined(Joined {
            generation: 3,
            protocol_type: join.protocol_type,
            protocol: join.protocols[0].name.clone(),
            leader: "m-1".to_owned(),
            skip_assignment: true,
            member_id: "m-1".to_owned(),
            members: vec![JoinedMember { member_id: "m-1".to_owned(), instance_id: join.instance_id, metadata }],
        }))
    }

    #[tokio::test]
    async fn every_version_joins_as_its_clients_understand_it() {
        let door = joining(first);
        for version in 0..=9 {
            let mut request = request(version);
            let told = ask(&door, version, &request).await;
            if version >= MEMBER_ID_FROM {
                assert_eq!((told.error_code, &*told.member_id, told.generation_id), (79, "m-1", -1));
                request.member_id = told.member_id;
            }
            let told = ask(&door, version, &request).await;
            assert_eq!((told.error_code, told.generation_id, &*told.leader), (0, 3, "m-1"), "version {version}");
            assert_eq!((told.protocol_name.as_deref(), told.members.len()), (Some("range"), 1));
            assert_eq!(told.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
            assert_eq!(told.skip_assignment, version >= 9);
            assert_eq!(&told.members[0].metadata[..], b"m");
            let asked = door.desk.asked_groups.lock().pop();
            let Some(GroupRequest::Join(join)) = asked else { panic!("{asked:?}") };
            let rebalance_timeout_ms = if version == 0 { 10_000 } else { 60_000 };
            assert_eq!((join.session_timeout_ms, join.rebalance_timeout_ms), (10_000, rebalance_timeout_ms));
            assert_eq!((join.can_skip_assignment, &*join.caller.client_host), (version >= 9, "/127.0.0.1"));
        }
    }

    #[tokio::test]
    async fn a_static_member_needs_no_id_first() {
        let door = joining(first);
        let told = ask(&door, 5, &Request { group_instance_id: Some("i".into()), ..request(5) }).await;
        assert_eq!((told.error_code, told.members[0].group_instance_id.as_deref()), (0, Some("i")));
    }

    #[tokio::test]
    async fn what_no_coordinator_takes_is_not_copied_for_it() {
        let door = joining(first);
        for (protocols, bytes) in [(1, GROUP_METADATA_BYTES_MAX + 1), (GROUP_PROTOCOLS_MAX + 1, 1)] {
            let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: vec![0; bytes].into() };
            let told = ask(&door, 3, &Request { protocols: vec![protocol; protocols], ..request(3) }).await;
            assert_eq!(told.error_code, 42);
        }
        assert!(door.desk.asked_groups.lock().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_tells_the_member_who_it_is() {
        let door = joining(|_| Err(Failure::new(ErrorCode::UnknownMemberId, "who?")));
        for version in 0..=9 {
            let told = ask(&door, version, &Request { member_id: "m-2".into(), ..request(version) }).await;
            assert_eq!((told.error_code, told.generation_id, &*told.member_id), (25, -1, "m-2"));
            assert_eq!(told.protocol_name.is_none(), version >= 7);
        }
    }
}
