//! AlterUserScramCredentials: refused; no listener authenticates by SCRAM, so a credential would only seem to protect.

use std::collections::BTreeSet;

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::alter_user_scram_credentials::{AlterUserScramCredentialsResult as UserResult, Request, Response};

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let deleted = request.deletions.into_iter().map(|deletion| deletion.name);
    let users: BTreeSet<_> = deleted.chain(request.upsertions.into_iter().map(|upsertion| upsertion.name)).collect();
    let refused = |user| UserResult {
        user,
        error_code: error::SECURITY_DISABLED,
        error_message: Some("SCRAM is not available in this version".into()),
    };
    Response { results: users.into_iter().map(refused).collect(), ..Response::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding};
    use crate::messages::alter_user_scram_credentials::{ScramCredentialDeletion, ScramCredentialUpsertion};
    use crate::messages::describe_user_scram_credentials as describe;

    #[tokio::test]
    async fn each_user_is_refused_once() {
        let deletions = vec![ScramCredentialDeletion { name: "ann".into(), mechanism: 1 }];
        let upsert = |name: &'static str| ScramCredentialUpsertion { name: name.into(), ..Default::default() };
        let request = Request { deletions, upsertions: vec![upsert("ann"), upsert("bob")] };
        let told = ask(&deciding(), 0, &request).await;
        let users: Vec<_> = told.results.iter().map(|result| (&*result.user, result.error_code)).collect();
        assert_eq!(users, [("ann", 54), ("bob", 54)]);
    }

    #[tokio::test]
    async fn nobody_has_credentials() {
        let told = ask(&deciding(), 0, &describe::Request { users: None }).await;
        assert_eq!((told.error_code, told.results.len()), (0, 0));
        let users = Some(vec![describe::UserName { name: "ann".into() }]);
        assert_eq!(ask(&deciding(), 0, &describe::Request { users }).await.results[0].error_code, 91);
    }
}
