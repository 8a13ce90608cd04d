//! Fetch: batches of partitions that this node leads, and what goes with them: offsets, and moving the log start.

use rafka_protocols::fetch::{self, Reply, Request};
use rafka_protocols::{Answer, Frame};

use super::produce::first_error;
use super::{Outcome, Served, malformed};
use crate::partitions::Partitions;

pub(super) async fn serve(partitions: &Partitions, frame: Frame) -> Served {
    let request = fetch::decode_request(&frame).map_err(malformed);
    drop(frame);
    let (answer, outcome): (Answer<Reply>, Outcome) = match request {
        Ok(Request::Fetch(request)) => {
            let parts = Ok(partitions.fetch(request).await);
            let outcome = first_error(&parts);
            (parts.map(Reply::Fetched), outcome)
        }
        Ok(Request::ListOffsets(request)) => {
            let parts = Ok(partitions.list_offsets(request).await);
            let outcome = first_error(&parts);
            (parts.map(Reply::Offsets), outcome)
        }
        Ok(Request::DeleteRecords(request)) => {
            let parts = Ok(partitions.delete_records(request).await);
            let outcome = first_error(&parts);
            (parts.map(Reply::Deleted), outcome)
        }
        Ok(Request::EpochEnds(request)) => {
            let parts = Ok(partitions.epoch_ends(request));
            let outcome = first_error(&parts);
            (parts.map(Reply::Ends), outcome)
        }
        Ok(Request::Producers(at)) => {
            let found = partitions.active_producers(at);
            let outcome = super::outcome(&found);
            (found.map(Reply::Producers), outcome)
        }
        Err(failure) => {
            let code = failure.code;
            (Err(failure), Some(code))
        }
    };
    (fetch::encode_reply(&answer), outcome)
}
