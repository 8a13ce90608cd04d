//! Carries the fetcher's actions out, and brings the answers back to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use rafka_broker::request::{Fetch, FetchPartition, Fetched, FoundOffset, ListOffsets, OffsetSpec, PartitionReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::Route;
use rafka_model::limits::LONG_POLL_MS_MAX;
use rafka_model::{BatchError, Offset, RecordBatch, TopicPartition};
use rafka_protocols::{Answer as ProtocolAnswer, DecodeError, Frame, Protocol, fetch};

use super::Inner;
use super::fetcher::{Action, Answer, Flight, Line, Slot};
use crate::mesh::Trouble;

pub(super) async fn carry_out(inner: Arc<Inner>, action: Action) {
    match action {
        Action::Route { slot, topic, partition } => {
            let found = inner.client.routes().route(&topic, partition).await;
            let now = inner.client.now();
            inner.fetcher.lock().routed(now, slot, found);
        }
        Action::List { peer, lines } => list(&inner, peer, lines).await,
        Action::Fetch { flight, lines } => read(&inner, flight, lines).await,
    }
    inner.changed();
}

async fn list(inner: &Inner, peer: PeerId, lines: Vec<Line<OffsetSpec>>) {
    let line = |line: &Line<OffsetSpec>| (at(&line.route), Some(line.route.leader_epoch), line.wanted);
    let request = fetch::Request::ListOffsets(ListOffsets { partitions: lines.iter().map(line).collect() });
    let pick = |reply| match reply {
        fetch::Reply::Offsets(found) => Some(found),
        _ => None,
    };
    match exchange(inner, peer, &request, inner.client.deadline(), pick).await {
        Ok(mut found) => {
            for line in lines {
                let result: Result<FoundOffset, _> = take(&mut found, inner, &line.route);
                let now = inner.client.now();
                inner.fetcher.lock().listed(now, line.slot, line.route.leader, result);
            }
        }
        Err(trouble) => broken(inner, None, &lines, &trouble),
    }
}

async fn read(inner: &Inner, flight: Flight, lines: Vec<Line<Offset>>) {
    let config = &inner.config;
    let max_wait_ms = config.max_wait_ms.min(LONG_POLL_MS_MAX as u32);
    let line = |line: &Line<Offset>| FetchPartition {
        partition: at(&line.route),
        leader_epoch: Some(line.route.leader_epoch),
        offset: line.wanted,
        max_bytes: config.partition_bytes_max.min(flight.bytes),
    };
    let request = fetch::Request::Fetch(Fetch {
        max_wait_ms,
        min_bytes: config.min_bytes,
        max_bytes: flight.bytes,
        partitions: lines.iter().map(line).collect(),
    });
    let pick = |reply| match reply {
        fetch::Reply::Fetched(fetched) => Some(fetched),
        _ => None,
    };
    let deadline = Duration::from_millis(u64::from(max_wait_ms)) + inner.client.deadline();
    match exchange(inner, flight.peer, &request, deadline, pick).await {
        Ok(mut fetched) => {
            let answer = |line: Line<Offset>| {
                let result: Result<Fetched, _> = take(&mut fetched, inner, &line.route);
                let result = result.map(|fetched| Answer {
                    high_watermark: fetched.high_watermark,
                    batches: batches(fetched.records.into_bytes()),
                });
                (line, result)
            };
            let answers = lines.into_iter().map(answer).collect();
            let now = inner.client.now();
            inner.fetcher.lock().fetched(now, flight, answers);
        }
        Err(trouble) => broken(inner, Some(flight), &lines, &trouble),
    }
}

/// The whole batches of an answer, checksums verified. One that is cut off at the end comes again.
fn batches(records: Bytes) -> Result<Vec<RecordBatch>, BatchError> {
    let mut whole = Vec::new();
    for batch in RecordBatch::split(records) {
        match batch {
            Ok(batch) => whole.push(batch),
            Err(BatchError::CutOff { .. }) if !whole.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}

type Found<T> = BTreeMap<TopicPartition, Result<T, Failure>>;

async fn exchange<T>(
    inner: &Inner,
    peer: PeerId,
    request: &fetch::Request,
    deadline: Duration,
    pick: impl Fn(fetch::Reply) -> Option<Vec<PartitionReply<T>>>,
) -> Result<Found<T>, Trouble> {
    let decode = |frame: &Frame| -> Result<ProtocolAnswer<Vec<PartitionReply<T>>>, DecodeError> {
        match fetch::decode_reply(frame)? {
            Ok(reply) => pick(reply).map(Ok).ok_or(DecodeError::Missing("reply of the kind asked for")),
            Err(failure) => Ok(Err(failure)),
        }
    };
    let frame = fetch::encode_request(request);
    let replies = inner.client.handle().exchange(peer, Protocol::Fetch, &frame, deadline, decode).await?;
    Ok(replies.into_iter().map(|reply| (reply.partition, reply.result)).collect())
}

/// What `found` says of the partition of `route`; a refusal is told to the routes.
fn take<T>(found: &mut Found<T>, inner: &Inner, route: &Route) -> Result<T, Failure> {
    let missing = || Err(Failure::new(ErrorCode::Busy, "the answer leaves the partition out"));
    let result = found.remove(&at(route)).unwrap_or_else(missing);
    if let Err(failure) = &result {
        inner.client.routes().refused(route, failure);
    }
    result
}

fn broken<T>(inner: &Inner, flight: Option<Flight>, lines: &[Line<T>], trouble: &Trouble) {
    for line in lines {
        inner.client.routes().broken(&line.route, trouble);
    }
    let slots: Vec<Slot> = lines.iter().map(|line| line.slot).collect();
    let error = trouble.clone().into_error("reading");
    let now = inner.client.now();
    inner.fetcher.lock().broken(now, flight, &slots, &error);
}

fn at(route: &Route) -> TopicPartition {
    TopicPartition { topic: route.topic, partition: route.partition }
}
