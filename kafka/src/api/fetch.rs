//! Fetch: whole batches, as they lie in the log.

use rafka_broker::metadata::Topic;
use rafka_broker::request::{EpochEnd, EpochEnds, Fetch, FetchPartition, Fetched, PartitionReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::KAFKA_FETCH_BYTES_PRESSED;
use rafka_model::{Chunks, LeaderEpoch, Offset, PartitionId, TopicPartition};

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
            // That the client's log is another one explains an offset that is not in ours.
            (Err(failure), Some(end)) if failure.code == ErrorCode::OffsetOutOfRange => parted(data, end),
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
        records: Some(Chunks::new()),
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
        Some(end) => parted(data, end),
        None => data.records = Some(fetched.records),
    }
}

fn parted(data: &mut PartitionData, end: EpochEnd) {
    data.diverging_epoch = EpochEndOffset { epoch: end.epoch.0, end_offset: end.end.0 };
}

fn code(version: i16, failure: &Failure) -> i16 {
    if version < IDS_FROM { error::by_name(failure.code) } else { error::data(failure.code) }
}

#[cfg(test)]
mod tests {
    use rafka_broker::request::{Acks, Produce, ProducePartition};

    use super::*;
    use crate::door::uuid;
    use crate::fake::{Fake, batch, client, door};
    use crate::messages::fetch::FetchPartition as Wanted;

    async fn ask(version: i16, mut request: Request) -> Response {
        let door = door(Fake::default());
        let partitions =
            vec![ProducePartition { partition: door.desk.orders(0), leader_epoch: None, records: batch(&["a", "b"]) }];
        drop(door.desk.produce(Produce { acks: Acks::All, timeout_ms: 0, partitions }).await);
        for topic in request.topics.iter_mut().filter(|topic| topic.topic_id == crate::wire::Uuid::ZERO) {
            topic.topic_id = uuid(door.desk.orders(0).topic);
        }
        serve(&door, &client("127.0.0.1:9092"), version, request).await
    }

    fn wanted(partitions: Vec<Wanted>) -> Request {
        let topic = FetchTopic { topic: "orders".into(), partitions, ..FetchTopic::default() };
        Request { max_wait_ms: 10_000, min_bytes: 1, topics: vec![topic], ..Request::default() }
    }

    fn of(partition: i32, offset: i64) -> Wanted {
        Wanted { partition, fetch_offset: offset, partition_max_bytes: 1000, ..Wanted::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_come_at_once_beside_what_was_found() {
        let began = tokio::time::Instant::now();
        let response = ask(12, wanted(vec![of(0, 2), of(1, 0), of(2, 0), of(9, 0), of(0, 5)])).await;
        let codes: Vec<_> = response.responses[0].partitions.iter().map(|found| found.error_code).collect();
        assert_eq!((codes, began.elapsed().as_secs()), (vec![0, 0, 6, 3, 1], 0));
        assert_eq!(response.responses[0].partitions[0].records, Some(Chunks::new()), "empty, never null");
        let mut request = wanted(vec![of(0, 0)]);
        request.topics[0].topic_id = crate::wire::Uuid([9; 16]);
        assert_eq!(ask(13, request.clone()).await.responses[0].partitions[0].error_code, 100);
        assert_eq!(ask(12, request).await.responses[0].partitions[0].error_code, 0, "by name");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_log_is_another_is_told_where_they_parted() {
        for (offset, expected) in [(7, (0, 2)), (2, (0, -1))] {
            let asked = Wanted { last_fetched_epoch: 3, ..of(0, offset) };
            let response = ask(12, wanted(vec![of(1, 0), asked])).await;
            let partition = &response.responses[0].partitions[1];
            assert_eq!((partition.error_code, partition.diverging_epoch.end_offset), expected, "at {offset}");
        }
    }

    #[tokio::test]
    async fn sessions_are_declined_and_old_ones_unknown() {
        let first = Request { session_epoch: 0, ..wanted(vec![of(0, 0)]) };
        assert_eq!(ask(7, first.clone()).await.session_id, 0);
        let later = Request { session_id: 5, session_epoch: 1, ..first };
        assert_eq!(ask(7, later).await.error_code, 70);
    }

    #[tokio::test]
    async fn aborted_transactions_are_told_to_those_who_ask_for_committed_records() {
        for (isolation_level, aborted) in [(0, None), (1, Some(Vec::new()))] {
            let response = ask(4, Request { isolation_level, ..wanted(vec![of(0, 0)]) }).await;
            assert_eq!(response.responses[0].partitions[0].aborted_transactions, aborted);
        }
    }
}
