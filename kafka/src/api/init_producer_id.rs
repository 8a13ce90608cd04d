//! InitProducerId: an id for an idempotent producer.

use rafka_broker::ErrorCode;

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::init_producer_id::{Request, Response};

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let refused = |error_code| Response { error_code, producer_epoch: -1, ..Response::default() };
    match request.transactional_id {
        Some(id) if id.is_empty() => return refused(error::number(ErrorCode::InvalidRequest)),
        // There are no transactions; of the errors that end a producer at once this one says most.
        Some(_) => return refused(error::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        None => {}
    }
    // A producer without transactions gets a new id whatever it had before (KIP-360).
    match door.desk.next_producer_id().await {
        Ok(id) => Response { producer_id: id.0, producer_epoch: 0, ..Response::default() },
        Err(failure) if failure.code.is_retriable() => refused(error::number(rafka_broker::ErrorCode::CoordinatorNotAvailable)),
        Err(failure) => refused(error::data(failure.code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, client, door};

    #[tokio::test]
    async fn idempotent_producers_get_an_id_and_transactional_ones_a_clear_no() {
        let mut answers = Vec::new();
        for id in [None, Some(""), Some("mine")] {
            let request = Request { transactional_id: id.map(Into::into), ..Request::default() };
            let response = serve(&door(Fake::default()), &client("127.0.0.1:9092"), 5, request).await;
            answers.push((response.error_code, response.producer_id, response.producer_epoch));
        }
        assert_eq!(answers, [(0, 4000, 0), (42, -1, -1), (53, -1, -1)]);
    }
}
