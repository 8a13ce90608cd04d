//! DeleteAcls: refused, for there are no rules.

use crate::api::describe_acls::NO_AUTHORIZER;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::delete_acls::{DeleteAclsFilterResult, Request, Response};

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let refused = DeleteAclsFilterResult {
        error_code: error::SECURITY_DISABLED,
        error_message: Some(NO_AUTHORIZER.into()),
        ..DeleteAclsFilterResult::default()
    };
    Response { filter_results: vec![refused; request.filters.len()], ..Response::default() }
}
