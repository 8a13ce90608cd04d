//! ListPartitionReassignments: which partitions are moving. None do yet.

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::messages::list_partition_reassignments::{Request, Response};

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, _: i16, _: Request) -> Response {
    Response::default()
}
