//! AlterClientQuotas: refused, for a quota that is not kept is worse than none.

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::alter_client_quotas::{EntryData, EntryResult, Request, Response};

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let refused = |entry: EntryData| EntryResult {
        error_code: error::SECURITY_DISABLED,
        error_message: Some("quotas of clients are not available in this version".into()),
        entity: entry.entity,
    };
    Response { entries: request.entries.into_iter().map(refused).collect(), ..Response::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding};
    use crate::messages::describe_client_quotas as describe;

    #[tokio::test]
    async fn quotas_are_refused_and_there_are_none() {
        for version in [0, 1] {
            let request = Request { entries: vec![EntryData::default()], validate_only: false };
            assert_eq!(ask(&deciding(), version, &request).await.entries[0].error_code, 54);
            let told = ask(&deciding(), version, &describe::Request::default()).await;
            assert_eq!((told.error_code, told.entries), (0, Some(Vec::new())));
        }
    }
}
