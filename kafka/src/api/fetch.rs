//! Fetch: whole batches, as they lie in the log.

use rafka_broker::metadata::Topic;
use rafka_broker::request::{EpochEnd, EpochEnds, Fetch, FetchPartition, Fetched, PartitionReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::KAFKA_FETCH_BYTES_PRESSED;
use rafka_model::{LeaderEpoch, Offset, PartitionId, TopicPartition};

use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name, topic_id};
use crate::error;
use crate::leaders::Leaders;
use crate::messages::fetch::{
    EpochEndOffset, FetchTopic, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData, Request,
    Response,
};

/// First version that names topics by id.
const IDS_FROM: i16 = 13;
/// First version that tells clients where another leader is.
const ENDPOINTS_FROM: i16 = 16;
/// First version that tells clients of another leader.
const LEADERS_FROM: i16 = 12;

pub(crate) async fn serve<D: FrontDesk>(
    door: &Door<D>,
    client: &Client,
    version: i16,
    request: Request,
) -> Response {
    // Sessions are declined: the answer to a first fetch (epoch 0) and to one without (epoch -1) has session id 0. A
    // later one can only be of a session that another process kept.
    if request.session_id != 0 && request.session_epoch > 0 {
        return Response { error_code: error::FETCH_SESSION_ID_NOT_FOUND, ..Response::default() };
    }
    let mut taken = take_in(door, version, request.topics);
    let diverged = diverged(door, &taken).await;
    let unsigned = |number: i32| u32::try_from(number).unwrap_or(0);
    let max_bytes = unsigned(request.max_bytes);
    // Whoever reads slowly holds what was read for it. When that is much altogether, everybody gets less at a time.
    let max_bytes = if door.budget.is_pressed() { max_bytes.min(KAFKA_FETCH_BYTES_PRESSED) } else { max_bytes };
    let fetch = Fetch {
        // What is refused is told at once.
        max_wait_ms: if taken.refused || !diverged.is_empty() { 0 } else { unsigned(request.max_wait_ms) },
        min_bytes: unsigned(request.min_bytes),
        max_bytes,
        partitions: taken.partitions,
    };
    let replies = match fetch.partitions.is_empty() {
        true => Vec::new(),
        false => door.desk.fetch(fetch).await,
    };
    let image = door.desk.image();
    let mut leaders = Leaders::default();
    for ((topic, partition), reply) in taken.places.iter().zip(replies) {
        let data = &mut taken.topics[*topic].partitions[*partition];
        let end = diverged.iter().find(|(at, _)| *at == reply.partition).map(|(_, end)| *end);
        match (reply.result, end) {
            (Ok(fetched), end) => fill(data, fetched, end, request.isolation_level),
            (Err(failure), _) => {
                if version >= LEADERS_FROM
                    && let Some((leader_id, leader_epoch)) = leaders.note(&image, reply.partition, &failure)
                {
                    data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
                }
                data.error_code = code(version, &failure);
            }
        }
    }
    let leaders = if version >= ENDPOINTS_FROM { leaders } else { Leaders::default() };
    let endpoint = |endpoint: crate::advertise::Endpoint| NodeEndpoint {
        node_id: endpoint.node,
        host: endpoint.host,
        port: endpoint.port,
        rack: endpoint.rack,
    };
    Response {
        responses: taken.topics,
        node_endpoints: leaders.endpoints(door, client, &image).into_iter().map(endpoint).collect(),
        ..Response::default()
    }
}

/// A request, sorted out.
struct Taken {
    partitions: Vec<FetchPartition>,
    /// Epoch of the last record that the client has of each partition, if it says so.
    last_epochs: Vec<(TopicPartition, LeaderEpoch, Offset)>,
    topics: Vec<FetchableTopicResponse>,
    /// Where the reply to each partition that was passed on belongs: topic, partition.
    places: Vec<(usize, usize)>,
    refused: bool,
}

fn take_in<D: FrontDesk>(door: &Door<D>, version: i16, asked: Vec<FetchTopic>) -> Taken {
    let image = door.desk.image();
    let mut taken = Taken {
        partitions: Vec::new(),
        last_epochs: Vec::new(),
        topics: Vec::with_capacity(asked.len()),
        places: Vec::new(),
        refused: false,
    };
    for topic in asked {
        let by_id = version >= IDS_FROM;
        let found: Option<&Topic> = match by_id {
            true => image.topics.get(&topic_id(topic.topic_id)).map(AsRef::as_ref),
            false => topic_by_name(&image, &topic.topic),
        };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for part in topic.partitions {
            let at = found.and_then(|topic| {
                let partition = PartitionId(u32::try_from(part.partition).ok()?);
                topic.partition(partition).map(|_| TopicPartition { topic: topic.id, partition })
            });
            let unknown = match by_id && found.is_none() {
                true => ErrorCode::UnknownTopicId,
                false => ErrorCode::UnknownTopicOrPartition,
            };
            let error_code = if at.is_some() { error::NONE } else { error::number(unknown) };
            taken.refused |= at.is_none();
            if let Some(at) = at {
                taken.places.push((taken.topics.len(), partitions.len()));
                let offset = Offset(part.fetch_offset);
                if part.last_fetched_epoch >= 0 {
                    taken.last_epochs.push((at, LeaderEpoch(part.last_fetched_epoch), offset));
                }
                taken.partitions.push(FetchPartition {
                    partition: at,
                    leader_epoch: epoch(part.current_leader_epoch),
                    offset,
                    max_bytes: u32::try_from(part.partition_max_bytes).unwrap_or(0),
                });
            }
            partitions.push(nothing(part.partition, error_code));
        }
        taken.topics.push(FetchableTopicResponse { topic: topic.topic, topic_id: topic.topic_id, partitions });
    }
    taken
}

/// An epoch that a client believes in; negative is none.
pub(crate) fn epoch(number: i32) -> Option<LeaderEpoch> {
    (number >= 0).then_some(LeaderEpoch(number))
}

fn nothing(partition: i32, error_code: i16) -> PartitionData {
    PartitionData {
        partition_index: partition,
        error_code,
        high_watermark: -1,
        records: Some(bytes::Bytes::new()),
        ..PartitionData::default()
    }
}

/// Partitions whose last record at the client is none of this log (KIP-595), with where the log parted from it.
async fn diverged<D: FrontDesk>(door: &Door<D>, taken: &Taken) -> Vec<(TopicPartition, EpochEnd)> {
    if taken.last_epochs.is_empty() {
        return Vec::new();
    }
    let partitions = taken.last_epochs.iter().map(|(at, epoch, _)| (*at, None, *epoch)).collect();
    let ends: Vec<PartitionReply<_>> = door.desk.epoch_ends(EpochEnds { partitions }).await;
    let parted = |(reply, (at, epoch, offset)): (PartitionReply<Option<EpochEnd>>, &(TopicPartition, _, _))| {
        let end = reply.result.ok().flatten()?;
        (end.epoch < *epoch || end.end < *offset).then_some((*at, end))
    };
    ends.into_iter().zip(&taken.last_epochs).filter_map(parted).collect()
}

fn fill(data: &mut PartitionData, fetched: Fetched, diverged: Option<EpochEnd>, isolation_level: i8) {
    data.high_watermark = fetched.high_watermark.0;
    data.last_stable_offset = fetched.last_stable_offset.0;
    data.log_start_offset = fetched.log_start.0;
    // Without transactions none is aborted; who does not ask for committed records only is told nothing.
    data.aborted_transactions = (isolation_level == 1).then(Vec::new);
    match diverged {
        Some(end) => data.diverging_epoch = EpochEndOffset { epoch: end.epoch.0, end_offset: end.end.0 },
        None => data.records = Some(fetched.records),
    }
}

fn code(version: i16, failure: &Failure) -> i16 {
    if version < IDS_FROM { error::by_name(failure.code) } else { error::data(failure.code) }
}
