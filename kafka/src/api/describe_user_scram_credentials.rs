//! DescribeUserScramCredentials: nobody has any.

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsResult as UserResult, Request, Response, UserName,
};

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let unknown = |user: UserName| UserResult {
        user: user.name,
        error_code: error::RESOURCE_NOT_FOUND,
        error_message: Some("this user has no SCRAM credentials".into()),
        ..UserResult::default()
    };
    Response { results: request.users.unwrap_or_default().into_iter().map(unknown).collect(), ..Response::default() }
}
