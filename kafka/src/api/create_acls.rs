//! CreateAcls: refused, for nobody would look at the rules.

use crate::api::describe_acls::NO_AUTHORIZER;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::create_acls::{AclCreationResult, Request, Response};

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let refused = AclCreationResult { error_code: error::SECURITY_DISABLED, error_message: Some(NO_AUTHORIZER.into()) };
    Response { results: vec![refused; request.creations.len()], ..Response::default() }
}
