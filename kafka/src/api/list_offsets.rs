//! ListOffsets: first, last, by time.

use std::collections::BTreeSet;

use rafka_broker::ErrorCode;
use rafka_broker::request::{ListOffsets, OffsetSpec};
use rafka_model::limits::KAFKA_AHEAD_PARTITIONS_MAX;
use rafka_model::{PartitionId, Timestamp, TopicPartition};

use crate::ApiKey;
use crate::api::fetch::epoch;
use crate::api::{self, Incoming, Outcome, Work};
use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name};
use crate::error;
use crate::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse, Request, Response};

/// First version that knows "not available yet"; earlier ones are told of a missing leader (KIP-207).
const NOT_AVAILABLE_FROM: i16 = 5;

/// What a timestamp asks for.
enum Wanted {
    Spec(OffsetSpec),
    /// What only tiered storage has.
    Nothing,
    /// This version has no such timestamp.
    Unsupported,
}

fn wanted(version: i16, timestamp: i64) -> Wanted {
    let since = |first: i16, wanted| if version >= first { wanted } else { Wanted::Unsupported };
    match timestamp {
        -1 => Wanted::Spec(OffsetSpec::Latest),
        -2 => Wanted::Spec(OffsetSpec::Earliest),
        -3 => since(7, Wanted::Spec(OffsetSpec::MaxTimestamp)),
        // The first offset on this node's disk: all are.
        -4 => since(8, Wanted::Spec(OffsetSpec::Earliest)),
        -5 => since(9, Wanted::Nothing),
        -6 => since(11, Wanted::Nothing),
        time => Wanted::Spec(OffsetSpec::At(Timestamp(time))),
    }
}

/// As [`serve`], where other nodes are asked: the next request may begin meanwhile, for most clients ask for each
/// partition by itself. A request that is large waits for its turn, because what is under way stays in memory.
pub(crate) fn begin<D: FrontDesk>(request: Request, call: Incoming<D>) -> Work {
    let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let is_small = request.topics.len() + partitions <= KAFKA_AHEAD_PARTITIONS_MAX;
    let reply = async move {
        let response = serve(&call.door, &call.client, call.version, request).await;
        call.reply(ApiKey::ListOffsets, &response)
    };
    match is_small {
        true => api::ahead(reply),
        false => Box::pin(async move { Outcome::Done(reply.await) }),
    }
}

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    let image = door.desk.image();
    let (mut topics, mut places, mut partitions) = (Vec::with_capacity(request.topics.len()), Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for asked in request.topics {
        let topic = topic_by_name(&image, &asked.name);
        let mut responses = Vec::with_capacity(asked.partitions.len());
        for part in asked.partitions {
            let at = topic.and_then(|topic| {
                let partition = PartitionId(u32::try_from(part.partition_index).ok()?);
                topic.partition(partition).map(|_| TopicPartition { topic: topic.id, partition })
            });
            let error_code = match (at, wanted(version, part.timestamp)) {
                (None, _) => error::number(ErrorCode::UnknownTopicOrPartition),
                (_, Wanted::Unsupported) => error::number(ErrorCode::UnsupportedVersion),
                (Some(at), _) if !seen.insert(at) => error::number(ErrorCode::InvalidRequest),
                (_, Wanted::Nothing) => error::NONE,
                (Some(at), Wanted::Spec(spec)) => {
                    places.push((topics.len(), responses.len()));
                    partitions.push((at, epoch(part.current_leader_epoch), spec));
                    error::NONE
                }
            };
            responses.push(ListOffsetsPartitionResponse {
                partition_index: part.partition_index,
                error_code,
                ..ListOffsetsPartitionResponse::default()
            });
        }
        topics.push(ListOffsetsTopicResponse { name: asked.name, partitions: responses });
    }
    let replies = match partitions.is_empty() {
        true => Vec::new(),
        false => door.desk.list_offsets(ListOffsets { partitions }).await,
    };
    for ((topic, partition), reply) in places.into_iter().zip(replies) {
        let response: &mut ListOffsetsPartitionResponse = &mut topics[topic].partitions[partition];
        match reply.result {
            Ok(found) => {
                response.offset = found.offset.map_or(-1, |offset| offset.0);
                response.timestamp = found.timestamp.0;
                if version >= 4 && found.offset.is_some() {
                    response.leader_epoch = found.leader_epoch.0;
                }
            }
            Err(failure) => {
                response.error_code = match failure.code {
                    ErrorCode::OffsetNotAvailable if version < NOT_AVAILABLE_FROM => {
                        error::number(ErrorCode::LeaderNotAvailable)
                    }
                    code => error::by_name(code),
                };
            }
        }
    }
    Response { topics, ..Response::default() }
}
