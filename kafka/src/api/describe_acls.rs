//! DescribeAcls: there is no authorizer, and so there are no rules.

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::describe_acls::{Request, Response};

/// What every ACL request is told.
pub(crate) const NO_AUTHORIZER: &str = "no authorizer is configured";

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, _: i16, _: Request) -> Response {
    Response { error_code: error::SECURITY_DISABLED, error_message: Some(NO_AUTHORIZER.into()), ..Response::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding};
    use crate::messages::{create_acls, delete_acls, list_partition_reassignments as moves};

    #[tokio::test]
    async fn rules_are_refused_at_both_ends_of_the_versions() {
        let door = deciding();
        for version in [1, 3] {
            let filter = Request { pattern_type_filter: 3, ..Request::default() };
            assert_eq!(ask(&door, version, &filter).await.error_code, 54);
            let creations = vec![create_acls::AclCreation::default(); 2];
            let told = ask(&door, version, &create_acls::Request { creations }).await;
            assert_eq!(told.results.iter().map(|result| result.error_code).collect::<Vec<_>>(), [54, 54]);
            let filters = vec![delete_acls::DeleteAclsFilter::default()];
            let told = ask(&door, version, &delete_acls::Request { filters }).await;
            assert_eq!(told.filter_results[0].error_code, 54);
        }
    }

    #[tokio::test]
    async fn nothing_moves() {
        let told = ask(&deciding(), 0, &moves::Request::default()).await;
        assert_eq!((told.error_code, told.topics.len()), (0, 0));
    }
}
