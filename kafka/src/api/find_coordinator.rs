//! FindCoordinator: which node keeps a group. Transactions and share groups are kept by nobody yet.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::NodeId;
use rafka_model::limits::{KAFKA_CHANGES_MAX, REQUEST_PARTITIONS_MAX};

use crate::advertise::{Endpoint, number};
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::find_coordinator::{Coordinator, Request, Response};
use crate::wire::Str;

/// The key names a group.
const GROUP: i8 = 0;
/// The key names a transaction.
const TRANSACTION: i8 = 1;
/// First version with several keys.
const BATCHED_FROM: i16 = 4;

/// Number and words of why there is no coordinator.
type Refusal = (i16, Str);

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, client: &Client, version: i16, request: Request) -> Response {
    let Request { key, key_type, coordinator_keys } = request;
    let keys = if version < BATCHED_FROM { vec![key] } else { coordinator_keys };
    let found = match refusal(key_type, keys.len()) {
        Some(refusal) => keys.iter().map(|_| Err(refusal.clone())).collect(),
        None => find(door, client, &keys).await,
    };
    let mut coordinators: Vec<_> = keys.into_iter().zip(found).map(|(key, found)| row(key, found)).collect();
    if version >= BATCHED_FROM {
        return Response { coordinators, ..Response::default() };
    }
    let Some(Coordinator { node_id, host, port, error_code, error_message, .. }) = coordinators.pop() else {
        return Response::default();
    };
    Response { error_code, error_message, node_id, host, port, ..Response::default() }
}

/// Why nothing of this kind is looked for.
fn refusal(key_type: i8, keys: usize) -> Option<Refusal> {
    match key_type {
        GROUP if keys <= REQUEST_PARTITIONS_MAX => None,
        GROUP => {
            let text = format!("{keys} groups are named at once, at most {REQUEST_PARTITIONS_MAX} can be");
            Some((error::number(ErrorCode::InvalidRequest), text.into()))
        }
        // Clients would ask for ever for what may yet come; this they give up at once.
        TRANSACTION => Some((
            error::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "transactions are not available in this version".into(),
        )),
        _ => Some((
            error::number(ErrorCode::InvalidRequest),
            "groups and transactions have coordinators, nothing else has in this version".into(),
        )),
    }
}

async fn find<D: FrontDesk>(door: &Door<D>, client: &Client, keys: &[Str]) -> Vec<Result<Endpoint, Refusal>> {
    let groups: Vec<_> = keys.iter().map(ToString::to_string).collect();
    let one = |group: String| async move { door.desk.coordinator(&group).await };
    let nodes: Vec<_> = stream::iter(groups).map(one).buffered(KAFKA_CHANGES_MAX).collect().await;
    let image = door.desk.image();
    let all = door.endpoints(client, &image).into_iter();
    let endpoints: BTreeMap<i32, Endpoint> = all.map(|endpoint| (endpoint.node, endpoint)).collect();
    let place = |found: Result<NodeId, Failure>| {
        let unavailable = |text: String| (error::number(ErrorCode::CoordinatorNotAvailable), Str::from(text));
        let node = found.map_err(|failure| unavailable(failure.message))?;
        let missing = || unavailable(format!("node {node} coordinates the group and has no address for this client"));
        endpoints.get(&number(node)).cloned().ok_or_else(missing)
    };
    nodes.into_iter().map(|found| place(found.map(|coordinator| coordinator.node))).collect()
}

fn row(key: Str, found: Result<Endpoint, Refusal>) -> Coordinator {
    match found {
        Ok(Endpoint { node, host, port, .. }) => {
            Coordinator { key, node_id: node, host, port, ..Coordinator::default() }
        }
        Err((error_code, text)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code,
            error_message: Some(text),
            ..Coordinator::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake::decides::{ask, deciding, deciding_with};

    fn keys(key_type: i8) -> Request {
        Request { key: "k".into(), key_type, coordinator_keys: vec!["a".into(), "b".into()] }
    }

    async fn told(door: &Arc<Door<crate::fake::Fake>>, version: i16, key_type: i8) -> Vec<(String, i32, i32, i16)> {
        let mut request = keys(key_type);
        match version {
            ..BATCHED_FROM => request.coordinator_keys = Vec::new(),
            _ => request.key = Str::default(),
        }
        let told = ask(door, version, &request).await;
        match version {
            ..BATCHED_FROM => vec![(told.host.to_string(), told.node_id, told.port, told.error_code)],
            _ => {
                let keys: Vec<_> = told.coordinators.iter().map(|found| found.key.as_str()).collect();
                assert_eq!(keys, ["a", "b"]);
                let all = told.coordinators.iter();
                all.map(|one| (one.host.to_string(), one.node_id, one.port, one.error_code)).collect()
            }
        }
    }

    #[tokio::test]
    async fn a_group_is_found_where_the_client_reaches_its_node() {
        let door = deciding();
        let there = ("127.0.0.1".to_owned(), 2, 9092, 0);
        for version in 0..=6 {
            let told = told(&door, version, GROUP).await;
            assert!(!told.is_empty() && told.iter().all(|one| *one == there), "version {version}: {told:?}");
        }
    }

    #[tokio::test]
    async fn who_cannot_be_reached_may_be_asked_for_again() {
        let gone = deciding_with(|fake| {
            let mut image = fake.image.lock();
            Arc::make_mut(&mut image).nodes.get_mut(&NodeId(2)).expect("there").fenced = true;
        });
        let none = deciding_with(|fake| {
            fake.coordinator = Err(Failure::new(ErrorCode::NotReady, "not yet"));
        });
        for door in [gone, none] {
            assert_eq!(told(&door, 3, GROUP).await, [(String::new(), -1, -1, 15)]);
            assert_eq!(told(&door, 6, GROUP).await.len(), 2);
        }
    }

    #[tokio::test]
    async fn transactions_and_share_groups_are_given_up_at_once() {
        for version in [1, 3, 4, 6] {
            assert_eq!(told(&deciding(), version, TRANSACTION).await[0].3, 53);
            assert_eq!(told(&deciding(), version, 2).await[0].3, 42);
        }
    }
}
