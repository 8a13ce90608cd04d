//! Produce: batches for partitions that this node leads.

use rafka_broker::Failure;
use rafka_broker::request::PartitionReply;
use rafka_protocols::{Frame, produce};

use super::{Outcome, Served, malformed};
use crate::partitions::Partitions;

pub(super) async fn serve(partitions: &Partitions, frame: Frame) -> Served {
    let request = produce::decode_request(&frame).map_err(malformed);
    // The batches are shared from here on; once nobody else holds them they are stamped in place.
    drop(frame);
    let answer = match request {
        Ok(request) => Ok(partitions.produce(request).await),
        Err(failure) => Err(failure),
    };
    let outcome = first_error(&answer);
    (produce::encode_reply(&answer), outcome)
}

/// What to count an answer as that has its errors inside.
pub(super) fn first_error<T>(answer: &Result<Vec<PartitionReply<T>>, Failure>) -> Outcome {
    match answer {
        Ok(replies) => replies.iter().find_map(|reply| reply.result.as_ref().err()).map(|failure| failure.code),
        Err(failure) => Some(failure.code),
    }
}
