//! `/rafka/<cid>/fetch/1`: reads of partitions that the receiver leads, and what goes with them: offsets by time,
//! and moving the log start.
//!
//! The body of a reply to a fetch is the batches of its partitions end to end, as they lie in the log.

mod reply;

use prost::Message;
use rafka_broker::request::{DeleteRecords, EpochEnds, Fetch, FetchPartition, ListOffsets, OffsetSpec};
use rafka_model::limits::{LONG_POLL_MS_MAX, REQUEST_PARTITIONS_MAX};
use rafka_model::{LeaderEpoch, Offset, Timestamp, TopicPartition};

use crate::Frame;
use crate::proto::{self, fetch_request::Kind};
use crate::wire::{self, DecodeError, bounded, no_body, topic_id_to_wire, topic_partition};

pub use reply::{Reply, decode_reply, encode_reply};

/// What is asked of the partitions.
#[derive(Clone, Debug)]
pub enum Request {
    /// Batches.
    Fetch(Fetch),
    /// Offsets.
    ListOffsets(ListOffsets),
    /// To drop records below an offset.
    DeleteRecords(DeleteRecords),
    /// Where leader epochs end.
    EpochEnds(EpochEnds),
    /// Who produces to a partition.
    Producers(TopicPartition),
}

/// Encodes a request.
#[must_use]
pub fn encode_request(request: &Request) -> Frame {
    let kind = match request {
        Request::Fetch(fetch) => Kind::Fetch(proto::Fetch {
            max_wait_ms: fetch.max_wait_ms,
            min_bytes: fetch.min_bytes,
            max_bytes: fetch.max_bytes,
            partitions: fetch.partitions.iter().map(fetch_to_wire).collect(),
        }),
        Request::ListOffsets(list) => {
            Kind::ListOffsets(proto::ListOffsets { partitions: list.partitions.iter().map(wanted_to_wire).collect() })
        }
        Request::DeleteRecords(delete) => Kind::DeleteRecords(proto::DeleteRecords {
            partitions: delete.partitions.iter().map(delete_to_wire).collect(),
        }),
        Request::EpochEnds(ends) => {
            Kind::EpochEnds(proto::EpochEnds { partitions: ends.partitions.iter().map(end_to_wire).collect() })
        }
        Request::Producers(at) => {
            Kind::Producers(proto::ProducersOf { topic: topic_id_to_wire(at.topic), partition: at.partition.0 })
        }
    };
    Frame::new(proto::FetchRequest { kind: Some(kind) }.encode_to_vec().into(), Default::default())
}

/// Decodes a request. Waits over [`LONG_POLL_MS_MAX`] are cut to it: no exchange lasts longer.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_request(frame: &Frame) -> Result<Request, DecodeError> {
    no_body(frame)?;
    let limit = REQUEST_PARTITIONS_MAX + 8;
    let header: proto::FetchRequest = wire::decode(frame.header(), "fields of a fetch", limit, &[1, 2, 3, 4])?;
    Ok(match header.kind.ok_or(DecodeError::Missing("kind of fetch"))? {
        Kind::Fetch(fetch) => Request::Fetch(Fetch {
            max_wait_ms: fetch.max_wait_ms.min(LONG_POLL_MS_MAX as u32),
            min_bytes: fetch.min_bytes,
            max_bytes: fetch.max_bytes,
            partitions: each(fetch.partitions, fetch_from_wire)?,
        }),
        Kind::ListOffsets(list) => {
            Request::ListOffsets(ListOffsets { partitions: each(list.partitions, wanted_from_wire)? })
        }
        Kind::DeleteRecords(delete) => {
            Request::DeleteRecords(DeleteRecords { partitions: each(delete.partitions, delete_from_wire)? })
        }
        Kind::EpochEnds(ends) => Request::EpochEnds(EpochEnds { partitions: each(ends.partitions, end_from_wire)? }),
        Kind::Producers(of) => Request::Producers(topic_partition(&of.topic, of.partition)?),
    })
}

fn each<W, T>(found: Vec<W>, convert: impl Fn(W) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
    bounded("partitions", found, REQUEST_PARTITIONS_MAX)?.into_iter().map(convert).collect()
}

fn fetch_to_wire(part: &FetchPartition) -> proto::FetchPartition {
    proto::FetchPartition {
        topic: topic_id_to_wire(part.partition.topic),
        partition: part.partition.partition.0,
        leader_epoch: part.leader_epoch.map(|epoch| epoch.0),
        offset: part.offset.0,
        max_bytes: part.max_bytes,
    }
}

fn fetch_from_wire(part: proto::FetchPartition) -> Result<FetchPartition, DecodeError> {
    Ok(FetchPartition {
        partition: topic_partition(&part.topic, part.partition)?,
        leader_epoch: part.leader_epoch.map(LeaderEpoch),
        offset: Offset(part.offset),
        max_bytes: part.max_bytes,
    })
}

type Wanted = (TopicPartition, Option<LeaderEpoch>, OffsetSpec);

fn wanted_to_wire((partition, leader_epoch, spec): &Wanted) -> proto::WantedOffset {
    let (spec, timestamp) = match spec {
        OffsetSpec::Earliest => (1, Timestamp::NONE),
        OffsetSpec::Latest => (2, Timestamp::NONE),
        OffsetSpec::At(time) => (3, *time),
        OffsetSpec::MaxTimestamp => (4, Timestamp::NONE),
    };
    proto::WantedOffset {
        topic: topic_id_to_wire(partition.topic),
        partition: partition.partition.0,
        leader_epoch: leader_epoch.map(|epoch| epoch.0),
        spec,
        timestamp: timestamp.0,
    }
}

fn wanted_from_wire(part: proto::WantedOffset) -> Result<Wanted, DecodeError> {
    let spec = match part.spec {
        1 => OffsetSpec::Earliest,
        2 => OffsetSpec::Latest,
        3 => OffsetSpec::At(Timestamp(part.timestamp)),
        4 => OffsetSpec::MaxTimestamp,
        _ => return Err(DecodeError::Missing("offset wanted")),
    };
    Ok((topic_partition(&part.topic, part.partition)?, part.leader_epoch.map(LeaderEpoch), spec))
}

fn delete_to_wire((partition, offset): &(TopicPartition, Option<Offset>)) -> proto::DeleteBelow {
    proto::DeleteBelow {
        topic: topic_id_to_wire(partition.topic),
        partition: partition.partition.0,
        offset: offset.map(|offset| offset.0),
    }
}

fn delete_from_wire(part: proto::DeleteBelow) -> Result<(TopicPartition, Option<Offset>), DecodeError> {
    Ok((topic_partition(&part.topic, part.partition)?, part.offset.map(Offset)))
}

type WantedEnd = (TopicPartition, Option<LeaderEpoch>, LeaderEpoch);

fn end_to_wire((partition, leader_epoch, epoch): &WantedEnd) -> proto::WantedEnd {
    proto::WantedEnd {
        topic: topic_id_to_wire(partition.topic),
        partition: partition.partition.0,
        leader_epoch: leader_epoch.map(|epoch| epoch.0),
        epoch: epoch.0,
    }
}

fn end_from_wire(part: proto::WantedEnd) -> Result<WantedEnd, DecodeError> {
    let partition = topic_partition(&part.topic, part.partition)?;
    Ok((partition, part.leader_epoch.map(LeaderEpoch), LeaderEpoch(part.epoch)))
}
