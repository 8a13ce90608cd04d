//! SyncGroup: the leader of a generation gives the assignment, everybody gets his part of it.

use rafka_broker::ErrorCode;
use rafka_broker::group::request::{GroupReply, GroupRequest, Sync};

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::groups::{self, copied, owned};
use crate::messages::sync_group::{Request, Response, SyncGroupRequestAssignment};

/// First version that says, and is told, what protocol it speaks of (KIP-559).
const PROTOCOL_FROM: i16 = 5;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    if version >= PROTOCOL_FROM && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return refused(error::number(ErrorCode::InconsistentGroupProtocol));
    }
    let sync = GroupRequest::Sync(sync(request));
    let reply = groups::ask(door, sync, |reply| match reply {
        GroupReply::Sync(reply) => Some(reply),
        _ => None,
    });
    match reply.await {
        Ok(reply) => Response {
            protocol_type: (version >= PROTOCOL_FROM).then(|| reply.protocol_type.into()),
            protocol_name: (version >= PROTOCOL_FROM).then(|| reply.protocol.into()),
            assignment: reply.assignment,
            ..Response::default()
        },
        // Clients join again, which is what they have to do: generations that had no assignment yet are forgotten.
        Err(failure) if failure.code == ErrorCode::CoordinatorLoadInProgress => {
            refused(error::number(ErrorCode::RebalanceInProgress))
        }
        Err(failure) => refused(error::group(failure.code)),
    }
}

fn sync(request: Request) -> Sync {
    let assignment = |one: SyncGroupRequestAssignment| (one.member_id.to_string(), copied(&one.assignment));
    Sync {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id),
        protocol_type: owned(request.protocol_type),
        protocol: owned(request.protocol_name),
        assignments: request.assignments.into_iter().map(assignment).collect(),
    }
}

fn refused(error_code: i16) -> Response {
    Response { error_code, ..Response::default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rafka_broker::Failure;
    use rafka_broker::group::request::SyncReply;

    use super::*;
    use crate::fake::decides::{ask, deciding_with};

    fn request(version: i16) -> Request {
        let name = |text: &'static str| (version >= PROTOCOL_FROM).then(|| text.into());
        let one = SyncGroupRequestAssignment { member_id: "m".into(), assignment: Bytes::from_static(b"a") };
        Request {
            group_id: "g".into(),
            generation_id: 3,
            member_id: "m".into(),
            group_instance_id: None,
            protocol_type: name("consumer"),
            protocol_name: name("range"),
            assignments: vec![one],
        }
    }

    #[tokio::test]
    async fn an_assignment_goes_through_unread() {
        let door = deciding_with(|fake| {
            fake.coordinates = Box::new(|request| {
                let GroupRequest::Sync(sync) = request else { panic!("{request:?}") };
                assert_eq!((sync.generation, sync.assignments.len()), (3, 1));
                let (protocol_type, protocol) = ("consumer".to_owned(), "range".to_owned());
                let assignment = sync.assignments[0].1.clone();
                Ok(GroupReply::Sync(SyncReply { protocol_type, protocol, assignment }))
            });
        });
        for version in 0..=5 {
            let told = ask(&door, version, &request(version)).await;
            assert_eq!((told.error_code, &told.assignment[..]), (0, &b"a"[..]));
            assert_eq!(told.protocol_name.as_deref(), (version >= 5).then_some("range"));
        }
        let silent = Request { protocol_name: None, ..request(5) };
        assert_eq!(ask(&door, 5, &silent).await.error_code, 23);
    }

    #[tokio::test]
    async fn a_new_coordinator_lets_the_group_join_again() {
        for (code, told) in [
            (ErrorCode::CoordinatorLoadInProgress, 27),
            (ErrorCode::NotCoordinator, 16),
            (ErrorCode::IllegalGeneration, 22),
        ] {
            let door = deciding_with(|fake| {
                fake.coordinates = Box::new(move |_| Err(Failure::new(code, "no")));
            });
            assert_eq!(ask(&door, 3, &request(3)).await.error_code, told);
        }
    }
}
