//! `/rafka/<cid>/produce/1`: append batches to partitions that the receiver leads.
//!
//! The header names partitions and lengths; the body is their batches end to end, as the producers made them.

use std::collections::BTreeSet;

use rafka_broker::request::{Acks, PartitionReply, Produce, ProducePartition, Produced};
use rafka_model::limits::{LONG_POLL_MS_MAX, REQUEST_PARTITIONS_MAX};
use rafka_model::{LeaderEpoch, Offset, Timestamp};

use crate::Frame;
use crate::proto;
use crate::wire::{
    self, Answer, DecodeError, Pieces, bounded, failure_from_wire, failure_to_wire, header_only, no_body, piece_bytes,
    result_from_wire, topic_id_to_wire, topic_partition,
};
use prost::Message;

/// Encodes a request; record bytes are shared, not copied.
#[must_use]
pub fn encode_request(request: &Produce) -> Frame {
    let partitions = request.partitions.iter().map(|part| proto::ProducePartition {
        topic: topic_id_to_wire(part.partition.topic),
        partition: part.partition.partition.0,
        leader_epoch: part.leader_epoch.map(|epoch| epoch.0),
        records_bytes: piece_bytes(&part.records),
    });
    let acks = match request.acks {
        Acks::None => 1,
        Acks::Leader => 2,
        Acks::All => 3,
    };
    let header = proto::ProduceRequest { acks, timeout_ms: request.timeout_ms, partitions: partitions.collect() };
    let pieces = request.partitions.iter().map(|part| part.records.clone()).collect();
    Frame::with_pieces(header.encode_to_vec().into(), pieces)
}

/// Decodes a request. Waits over [`LONG_POLL_MS_MAX`] are cut to it: no exchange lasts longer.
///
/// # Errors
/// [`DecodeError`]; also when a partition comes twice, or lengths and body do not agree.
pub fn decode_request(frame: &Frame) -> Result<Produce, DecodeError> {
    let header: proto::ProduceRequest =
        wire::decode(frame.header(), "fields of a produce", REQUEST_PARTITIONS_MAX + 8, &[])?;
    let acks = match header.acks {
        1 => Acks::None,
        2 => Acks::Leader,
        3 => Acks::All,
        _ => return Err(DecodeError::Missing("acks")),
    };
    let found = bounded("partitions", header.partitions, REQUEST_PARTITIONS_MAX)?;
    let mut pieces = Pieces::new(frame, found.iter().map(|part| part.records_bytes))?;
    let mut seen = BTreeSet::new();
    let mut partitions = Vec::with_capacity(found.len());
    for part in found {
        let partition = topic_partition(&part.topic, part.partition)?;
        if !seen.insert(partition) {
            return Err(DecodeError::Invalid { what: "partition", found: format!("{partition} comes twice") });
        }
        partitions.push(ProducePartition {
            partition,
            leader_epoch: part.leader_epoch.map(LeaderEpoch),
            records: pieces.next(part.records_bytes),
        });
    }
    Ok(Produce { acks, timeout_ms: header.timeout_ms.min(LONG_POLL_MS_MAX as u32), partitions })
}

/// Encodes a reply.
#[must_use]
pub fn encode_reply(reply: &Answer<Vec<PartitionReply<Produced>>>) -> Frame {
    let replies = match reply {
        Ok(replies) => replies,
        Err(failure) => return wire::encode_failure(failure),
    };
    let partitions = replies.iter().map(|reply| {
        let at = proto::Produced {
            topic: topic_id_to_wire(reply.partition.topic),
            partition: reply.partition.partition.0,
            ..Default::default()
        };
        match &reply.result {
            Ok(done) => proto::Produced {
                base_offset: done.base_offset.0,
                append_time: done.append_time.map(|time| time.0),
                log_start: done.log_start.0,
                ..at
            },
            Err(failure) => proto::Produced { failure: Some(failure_to_wire(failure)), ..at },
        }
    });
    header_only(&proto::ProduceReply { partitions: partitions.collect(), failure: None })
}

/// Decodes a reply.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_reply(frame: &Frame) -> Result<Answer<Vec<PartitionReply<Produced>>>, DecodeError> {
    no_body(frame)?;
    let header: proto::ProduceReply =
        wire::decode(frame.header(), "fields of a produce reply", REQUEST_PARTITIONS_MAX + 8, &[])?;
    if let Some(failure) = header.failure {
        return Ok(Err(failure_from_wire(failure)?));
    }
    let reply = |part: proto::Produced| {
        let partition = topic_partition(&part.topic, part.partition)?;
        let result = result_from_wire(part.failure, || {
            Ok(Produced {
                base_offset: Offset(part.base_offset),
                append_time: part.append_time.map(Timestamp),
                log_start: Offset(part.log_start),
            })
        })?;
        Ok(PartitionReply { partition, result })
    };
    bounded("partitions", header.partitions, REQUEST_PARTITIONS_MAX)?
        .into_iter()
        .map(reply)
        .collect::<Result<_, _>>()
        .map(Ok)
}
