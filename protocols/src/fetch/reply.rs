//! Answers of the fetch protocol.

use bytes::Bytes;
use prost::Message;
use rafka_broker::request::{Fetched, FoundOffset, PartitionReply};
use rafka_model::limits::REQUEST_PARTITIONS_MAX;
use rafka_model::{LeaderEpoch, Offset, Timestamp};

use super::each;
use crate::Frame;
use crate::proto::{self, fetch_reply::Kind};
use crate::wire::{
    self, Answer, DecodeError, Pieces, failure_from_wire, failure_to_wire, header_only, no_body, result_from_wire,
    topic_id_to_wire, topic_partition,
};

/// The answer to the [`Request`](super::Request) of the same kind, per partition.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Batches.
    Fetched(Vec<PartitionReply<Fetched>>),
    /// Offsets.
    Offsets(Vec<PartitionReply<FoundOffset>>),
    /// The new log starts.
    Deleted(Vec<PartitionReply<Offset>>),
}

/// Encodes a reply; record bytes are shared, not copied.
#[must_use]
pub fn encode_reply(reply: &Answer<Reply>) -> Frame {
    let kind = match reply {
        Err(failure) => return wire::encode_failure(failure),
        Ok(Reply::Fetched(parts)) => return encode_fetched(parts),
        Ok(Reply::Offsets(parts)) => {
            Kind::Offsets(proto::FoundOffsets { partitions: parts.iter().map(found_to_wire).collect() })
        }
        Ok(Reply::Deleted(parts)) => {
            Kind::Deleted(proto::DeletedRecords { partitions: parts.iter().map(deleted_to_wire).collect() })
        }
    };
    header_only(&proto::FetchReply { kind: Some(kind), failure: None })
}

/// Decodes a reply.
///
/// # Errors
/// [`DecodeError`]; also when lengths and body do not agree.
pub fn decode_reply(frame: &Frame) -> Result<Answer<Reply>, DecodeError> {
    let limit = REQUEST_PARTITIONS_MAX + 8;
    let header: proto::FetchReply = wire::decode(frame.header(), "fields of a fetch reply", limit, &[1, 2, 3])?;
    if let Some(failure) = header.failure {
        return Ok(Err(failure_from_wire(failure)?));
    }
    let kind = header.kind.ok_or(DecodeError::Missing("kind of fetch reply"))?;
    if !matches!(kind, Kind::Fetched(_)) {
        no_body(frame)?;
    }
    Ok(Ok(match kind {
        Kind::Fetched(fetched) => {
            let mut pieces = Pieces::new(frame, fetched.partitions.iter().map(|part| part.records_bytes))?;
            let mut parts = Vec::with_capacity(fetched.partitions.len().min(REQUEST_PARTITIONS_MAX));
            for part in wire::bounded("partitions", fetched.partitions, REQUEST_PARTITIONS_MAX)? {
                let records = pieces.next(part.records_bytes);
                parts.push(fetched_from_wire(part, records)?);
            }
            Reply::Fetched(parts)
        }
        Kind::Offsets(found) => Reply::Offsets(each(found.partitions, found_from_wire)?),
        Kind::Deleted(deleted) => Reply::Deleted(each(deleted.partitions, deleted_from_wire)?),
    }))
}

fn encode_fetched(parts: &[PartitionReply<Fetched>]) -> Frame {
    let partitions = parts.iter().map(fetched_to_wire).collect();
    let kind = Some(Kind::Fetched(proto::FetchedPartitions { partitions }));
    let header = proto::FetchReply { kind, failure: None };
    let fetched = parts.iter().filter_map(|part| part.result.as_ref().ok());
    let chunks = fetched.flat_map(|fetched| fetched.records.as_slice()).cloned().collect();
    Frame::with_pieces(header.encode_to_vec().into(), chunks)
}

fn fetched_to_wire(part: &PartitionReply<Fetched>) -> proto::FetchedPartition {
    let at = proto::FetchedPartition {
        topic: topic_id_to_wire(part.partition.topic),
        partition: part.partition.partition.0,
        ..Default::default()
    };
    match &part.result {
        Ok(fetched) => proto::FetchedPartition {
            high_watermark: fetched.high_watermark.0,
            last_stable_offset: fetched.last_stable_offset.0,
            log_start: fetched.log_start.0,
            records_bytes: u32::try_from(fetched.records.len()).unwrap_or(u32::MAX),
            ..at
        },
        Err(failure) => proto::FetchedPartition { failure: Some(failure_to_wire(failure)), ..at },
    }
}

fn fetched_from_wire(part: proto::FetchedPartition, records: Bytes) -> Result<PartitionReply<Fetched>, DecodeError> {
    let partition = topic_partition(&part.topic, part.partition)?;
    let result = result_from_wire(part.failure, || {
        Ok(Fetched {
            high_watermark: Offset(part.high_watermark),
            last_stable_offset: Offset(part.last_stable_offset),
            log_start: Offset(part.log_start),
            records: records.into(),
        })
    })?;
    Ok(PartitionReply { partition, result })
}

fn found_to_wire(part: &PartitionReply<FoundOffset>) -> proto::FoundOffset {
    let at = proto::FoundOffset {
        topic: topic_id_to_wire(part.partition.topic),
        partition: part.partition.partition.0,
        ..Default::default()
    };
    match &part.result {
        Ok(found) => proto::FoundOffset {
            offset: found.offset.map(|offset| offset.0),
            timestamp: found.timestamp.0,
            leader_epoch: found.leader_epoch.0,
            ..at
        },
        Err(failure) => proto::FoundOffset { failure: Some(failure_to_wire(failure)), ..at },
    }
}

fn found_from_wire(part: proto::FoundOffset) -> Result<PartitionReply<FoundOffset>, DecodeError> {
    let partition = topic_partition(&part.topic, part.partition)?;
    let result = result_from_wire(part.failure, || {
        Ok(FoundOffset {
            offset: part.offset.map(Offset),
            timestamp: Timestamp(part.timestamp),
            leader_epoch: LeaderEpoch(part.leader_epoch),
        })
    })?;
    Ok(PartitionReply { partition, result })
}

fn deleted_to_wire(part: &PartitionReply<Offset>) -> proto::DeletedRecord {
    let at = proto::DeletedRecord {
        topic: topic_id_to_wire(part.partition.topic),
        partition: part.partition.partition.0,
        ..Default::default()
    };
    match &part.result {
        Ok(log_start) => proto::DeletedRecord { log_start: log_start.0, ..at },
        Err(failure) => proto::DeletedRecord { failure: Some(failure_to_wire(failure)), ..at },
    }
}

fn deleted_from_wire(part: proto::DeletedRecord) -> Result<PartitionReply<Offset>, DecodeError> {
    let partition = topic_partition(&part.topic, part.partition)?;
    let result = result_from_wire(part.failure, || Ok(Offset(part.log_start)))?;
    Ok(PartitionReply { partition, result })
}
