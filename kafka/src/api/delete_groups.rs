//! DeleteGroups: removes groups without members, with their offsets.

use rafka_broker::group::request::{GroupReply, GroupRequest};

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::groups;
use crate::messages::delete_groups::{DeletableGroupResult, Request, Response};

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let names = groups::once(request.groups_names);
    let questions = names.iter().map(|group| GroupRequest::Delete { group: group.to_string() }).collect();
    let deleted = |reply| matches!(reply, GroupReply::Delete).then_some(());
    let told = groups::ask_each(door, questions, deleted).await;
    let results = names.into_iter().zip(told).map(|(group_id, result)| DeletableGroupResult {
        group_id,
        error_code: result.map_or_else(|failure| error::group(failure.code), |()| error::NONE),
    });
    Response { results: results.collect(), ..Response::default() }
}

#[cfg(test)]
mod tests {
    use rafka_broker::{ErrorCode, Failure};

    use super::*;
    use crate::fake::decides::{ask, deciding_with};
    use crate::wire::Str;

    #[tokio::test]
    async fn each_group_is_deleted_or_refused() {
        let door = deciding_with(|fake| {
            fake.coordinates = Box::new(|request| match request.group() {
                "empty" => Ok(GroupReply::Delete),
                "busy" => Err(Failure::new(ErrorCode::NonEmptyGroup, "it has members")),
                _ => Err(Failure::new(ErrorCode::GroupIdNotFound, "no such group")),
            });
        });
        for version in 0..=2 {
            let groups_names = ["busy", "empty", "nope"].map(Str::from).to_vec();
            let told = ask(&door, version, &Request { groups_names }).await.results;
            let codes: Vec<_> = told.iter().map(|one| (&*one.group_id, one.error_code)).collect();
            assert_eq!(codes, [("busy", 68), ("empty", 0), ("nope", 69)]);
        }
    }

    #[tokio::test]
    async fn too_many_at_once_are_refused() {
        let groups_names: Vec<_> = (0..10_001).map(|i| Str::from(i.to_string())).collect();
        let told = ask(&deciding_with(|_| {}), 2, &Request { groups_names }).await.results;
        assert!(told.len() == 10_001 && told.iter().all(|one| one.error_code == 42));
    }
}
