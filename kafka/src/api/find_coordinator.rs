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
        TRANSACTION => {
            (error::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not available in this version")
        }
        _ => (error::COORDINATOR_NOT_AVAILABLE, "consumer groups are not available in this version"),
    };
    let message = Some(Str::from(message));
    if version < BATCHED_FROM {
        return Response {
            error_code: code,
            error_message: message,
            node_id: -1,
            port: -1,
            ..Response::default()
        };
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
