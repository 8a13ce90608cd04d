//! DescribeClientQuotas: there are none.

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::messages::describe_client_quotas::{Request, Response};

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, _: i16, _: Request) -> Response {
    Response { entries: Some(Vec::new()), ..Response::default() }
}
