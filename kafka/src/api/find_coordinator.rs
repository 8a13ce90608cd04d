//! FindCoordinator: who keeps a group or a transaction. Nobody does yet.

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::find_coordinator::{Coordinator, Request, Response};
use crate::wire::Str;

/// The key names a transaction.
const TRANSACTION: i8 = 1;
/// First version with several keys.
const BATCHED_FROM: i16 = 4;

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    let (code, message) = match request.key_type {
        // Clients would ask for ever for what may yet come; this they give up at once.
        TRANSACTION => (error::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not available in this version"),
        _ => (error::number(rafka_broker::ErrorCode::CoordinatorNotAvailable), "consumer groups are not available in this version"),
    };
    let message = Some(Str::from(message));
    if version < BATCHED_FROM {
        return Response { error_code: code, error_message: message, node_id: -1, port: -1, ..Response::default() };
    }
    let missing = |key| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: code,
        error_message: message.clone(),
        ..Coordinator::default()
    };
    Response { coordinators: request.coordinator_keys.into_iter().map(missing).collect(), ..Response::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, client, door};

    #[tokio::test]
    async fn groups_may_be_asked_for_again_and_transactions_not() {
        let mut codes = Vec::new();
        for (version, key_type) in [(0, 0), (3, 0), (3, 1), (6, 0), (6, 1)] {
            let request = Request { key: "k".into(), key_type, coordinator_keys: vec!["a".into(), "b".into()] };
            let response = serve(&door(Fake::default()), &client("127.0.0.1:9092"), version, request).await;
            codes.push(match version {
                6 => {
                    let keys: Vec<_> = response.coordinators.iter().map(|found| found.key.as_str()).collect();
                    assert_eq!(keys, ["a", "b"]);
                    response.coordinators[1].error_code
                }
                _ => response.error_code,
            });
        }
        assert_eq!(codes, [15, 15, 53, 15, 53]);
    }
}
