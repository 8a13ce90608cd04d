//! What requests and answers both hold.

use rafka_broker::ErrorCode;
use rafka_broker::group::request::{Caller, TopicPartitions};
use rafka_model::PartitionId;
use rafka_model::limits::GROUP_STRING_BYTES_MAX;

use crate::proto;
use crate::wire::{DecodeError, optional_text, text, topic_id, topic_id_to_wire};

pub(super) fn string(what: &'static str, found: String) -> Result<String, DecodeError> {
    text(what, found, GROUP_STRING_BYTES_MAX)
}

pub(super) fn optional_string(what: &'static str, found: Option<String>) -> Result<Option<String>, DecodeError> {
    optional_text(what, found, GROUP_STRING_BYTES_MAX)
}

pub(super) fn caller_to_wire(caller: &Caller) -> proto::GroupCaller {
    proto::GroupCaller { client_id: caller.client_id.clone(), client_host: caller.client_host.clone() }
}

pub(super) fn caller(found: Option<proto::GroupCaller>) -> Result<Caller, DecodeError> {
    let found = found.unwrap_or_default();
    Ok(Caller {
        client_id: string("client id", found.client_id)?,
        client_host: string("client host", found.client_host)?,
    })
}

/// Any numbers: a group may be asked about partitions that there never were.
pub(super) fn partition_ids(found: Vec<u32>) -> Vec<PartitionId> {
    found.into_iter().map(PartitionId).collect()
}

pub(super) fn partition_ids_to_wire(ids: &[PartitionId]) -> Vec<u32> {
    ids.iter().map(|id| id.0).collect()
}

pub(super) fn topics(found: Vec<proto::TopicPartitions>) -> Result<Vec<TopicPartitions>, DecodeError> {
    let topic = |found: proto::TopicPartitions| {
        Ok(TopicPartitions { topic: topic_id(&found.topic)?, partitions: partition_ids(found.partitions) })
    };
    found.into_iter().map(topic).collect()
}

pub(super) fn topics_to_wire(topics: &[TopicPartitions]) -> Vec<proto::TopicPartitions> {
    let topic = |topic: &TopicPartitions| proto::TopicPartitions {
        topic: topic_id_to_wire(topic.topic),
        partitions: partition_ids_to_wire(&topic.partitions),
    };
    topics.iter().map(topic).collect()
}

/// Of an error that this version does not know, all that can be said is that it is one.
pub(super) fn error(number: i32) -> Option<ErrorCode> {
    (number != 0).then(|| ErrorCode::from_number(number).unwrap_or(ErrorCode::Unknown))
}

pub(super) fn result(number: i32) -> Result<(), ErrorCode> {
    error(number).map_or(Ok(()), Err)
}

pub(super) fn result_to_wire(result: Result<(), ErrorCode>) -> i32 {
    result.err().map_or(0, ErrorCode::number)
}
