//! ListGroups: the groups that this node coordinates.

use rafka_broker::group::request::Listed;

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::list_groups::{ListedGroup, Request, Response};
use crate::wire::Str;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let (states, kinds) = (words(&request.states_filter), words(&request.types_filter));
    let wanted = |listed: &Listed| {
        let in_state = states.is_empty() || states.contains(&listed.state.name().to_ascii_lowercase());
        in_state && (kinds.is_empty() || kinds.iter().any(|kind| kind == listed.kind.name()))
    };
    match door.desk.list_groups().await {
        Ok(groups) => {
            Response { groups: groups.into_iter().filter(wanted).map(row).collect(), ..Response::default() }
        }
        Err(failure) => Response { error_code: error::group(failure.code), ..Response::default() },
    }
}

/// The words of a filter, however they are written.
fn words(filter: &[Str]) -> Vec<String> {
    filter.iter().map(|word| word.trim().to_ascii_lowercase()).collect()
}

fn row(listed: Listed) -> ListedGroup {
    ListedGroup {
        group_id: listed.group.into(),
        protocol_type: listed.protocol_type.into(),
        group_state: listed.state.name().into(),
        group_type: listed.kind.name().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rafka_broker::group::request::{GroupKind, GroupState};
    use rafka_broker::{ErrorCode, Failure};

    use super::*;
    use crate::fake::Fake;
    use crate::fake::decides::{ask, deciding_with};

    fn door() -> Arc<Door<Fake>> {
        let listed = |group: &str, protocol_type: &str, state, kind| Listed {
            group: group.to_owned(),
            protocol_type: protocol_type.to_owned(),
            state,
            kind,
        };
        deciding_with(|fake| {
            fake.groups = Ok(vec![
                listed("a", "connect", GroupState::PreparingRebalance, GroupKind::Classic),
                listed("b", "consumer", GroupState::Stable, GroupKind::Consumer),
                listed("c", "consumer", GroupState::Stable, GroupKind::Classic),
            ]);
        })
    }

    async fn names(version: i16, states: &[&'static str], kinds: &[&'static str]) -> String {
        let words = |words: &[&'static str]| words.iter().map(|word| Str::from(*word)).collect();
        let request = Request { states_filter: words(states), types_filter: words(kinds) };
        let told = ask(&door(), version, &request).await;
        told.groups.iter().map(|group| group.group_id.to_string()).collect()
    }

    #[tokio::test]
    async fn filters_are_words_in_any_case() {
        for version in 0..=5 {
            assert_eq!(names(version, &[], &[]).await, "abc");
        }
        assert_eq!(names(4, &["stable"], &[]).await, "bc");
        assert_eq!(names(5, &["Stable", " preparingREBALANCE "], &["Classic"]).await, "ac");
        assert_eq!(names(5, &[], &["consumer"]).await, "b");
        assert_eq!(names(5, &[], &["share"]).await, "");
        assert_eq!(names(5, &["nonsense"], &[]).await, "");
    }

    #[tokio::test]
    async fn states_and_types_are_told_in_kafkas_words() {
        let told = ask(&door(), 5, &Request::default()).await.groups.remove(0);
        let words = (&*told.protocol_type, &*told.group_state, &*told.group_type);
        assert_eq!(words, ("connect", "PreparingRebalance", "classic"));
        let loading = deciding_with(|fake| {
            fake.groups = Err(Failure::new(ErrorCode::CoordinatorLoadInProgress, "not yet"));
        });
        assert_eq!(ask(&loading, 0, &Request::default()).await.error_code, 14);
    }
}
