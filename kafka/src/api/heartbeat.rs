//! Heartbeat: a member is still here.

use rafka_broker::ErrorCode;
use rafka_broker::group::request::{GroupReply, GroupRequest, Heartbeat};

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::groups::{self, owned};
use crate::messages::heartbeat::{Request, Response};

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let heartbeat = Heartbeat {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id),
    };
    let heard = |reply| matches!(reply, GroupReply::Heartbeat).then_some(());
    let error_code = match groups::ask(door, GroupRequest::Heartbeat(heartbeat), heard).await {
        Ok(()) => error::NONE,
        // Sessions begin when the coordinator has read everything, so that nothing is lost; clients take this error
        // for the end of all.
        Err(failure) if failure.code == ErrorCode::CoordinatorLoadInProgress => error::NONE,
        Err(failure) => error::group(failure.code),
    };
    Response { error_code, ..Response::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding_with};
    use rafka_broker::Failure;

    #[tokio::test]
    async fn a_heartbeat_is_answered_by_its_outcome() {
        for (outcome, told) in [
            (Ok(GroupReply::Heartbeat), 0),
            (Err(ErrorCode::RebalanceInProgress), 27),
            (Err(ErrorCode::FencedInstanceId), 82),
            (Err(ErrorCode::CoordinatorLoadInProgress), 0),
            (Err(ErrorCode::Busy), 15),
            (Ok(GroupReply::Delete), -1),
        ] {
            let door = deciding_with(|fake| {
                let outcome = outcome.map_err(|code| Failure::new(code, "no"));
                fake.coordinates = Box::new(move |_| outcome.clone());
            });
            for version in 0..=4 {
                let request = Request { group_id: "g".into(), generation_id: 7, ..Request::default() };
                assert_eq!(ask(&door, version, &request).await.error_code, told);
            }
            let asked = door.desk.asked_groups.lock();
            assert!(matches!(&asked[0], GroupRequest::Heartbeat(one) if one.generation == 7 && one.group == "g"));
        }
    }
}
