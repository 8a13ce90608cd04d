//! Produce: appends in the order in which requests come, answers when the records are as safe as asked.

use std::collections::BTreeSet;

use rafka_broker::metadata::{Image, Topic};
use rafka_broker::request::{Acks, PartitionReply, Produce, ProducePartition, Produced};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::{PartitionId, TopicPartition};

use crate::ApiKey;
use crate::api::{Incoming, Outcome, Reply, Work};
use crate::desk::{FrontDesk, Settling};
use crate::door::{is_internal, topic_by_name, topic_id};
use crate::error;
use crate::leaders::Leaders;
use crate::messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, Request, Response, TopicProduceResponse,
};
use crate::wire::Str;

/// First version that names topics by id.
const IDS_FROM: i16 = 13;
/// First version that tells clients of another leader.
const LEADERS_FROM: i16 = 10;

/// Reads a request into an append; what it returns is polled before any later request of the connection begins.
pub(crate) fn begin<D: FrontDesk>(request: Request, call: Incoming<D>) -> Work {
    Box::pin(async move {
        let (produce, answer) = take_in(&call, request);
        let settling = match produce {
            Some(produce) => call.door.desk.produce(produce).await,
            None => Settling::Settled(Vec::new()),
        };
        match settling {
            Settling::Settled(replies) => Outcome::Done(answer.give(&call, replies)),
            Settling::Waiting(replies) => Outcome::Later(Box::pin(async move {
                let replies = replies.await;
                answer.give(&call, replies)
            })),
        }
    })
}

/// A response in the making.
struct Answer {
    acks: i16,
    topics: Vec<TopicProduceResponse>,
    /// Where the reply to each partition that was passed on belongs: topic, partition.
    places: Vec<(usize, usize)>,
}

/// Sorts out what can be passed on. Nothing of the request outlives this but its records, so that whoever holds them
/// last may stamp them in place.
fn take_in<D: FrontDesk>(call: &Incoming<D>, request: Request) -> (Option<Produce>, Answer) {
    let image = call.door.desk.image();
    let mut answer = Answer { acks: request.acks, topics: Vec::new(), places: Vec::new() };
    let mut partitions = Vec::new();
    let mut seen = BTreeSet::new();
    let acks = match request.acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        _ => Err(error::INVALID_REQUIRED_ACKS),
    };
    for topic in request.topic_data {
        let by_id = call.version >= IDS_FROM;
        let found: Option<&Topic> = match by_id {
            true => image.topics.get(&topic_id(topic.topic_id)).map(AsRef::as_ref),
            false => topic_by_name(&image, &topic.name),
        };
        let unknown = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let closed = found.is_some_and(|topic| is_internal(topic.name.as_str())) && !is_admin(call);
        let mut responses = Vec::with_capacity(topic.partition_data.len());
        for part in topic.partition_data {
            let refused = |code| PartitionProduceResponse {
                index: part.index,
                error_code: code,
                base_offset: -1,
                ..PartitionProduceResponse::default()
            };
            let partition = found.and_then(|topic| {
                let partition = PartitionId(u32::try_from(part.index).ok()?);
                topic.partition(partition).map(|_| TopicPartition { topic: topic.id, partition })
            });
            let taken = match (acks, partition, part.records) {
                (Err(code), ..) => Err(code),
                (Ok(_), Some(_), _) if closed => Err(error::number(ErrorCode::InvalidTopic)),
                (Ok(_), None, _) if found.is_some() => Err(error::number(ErrorCode::UnknownTopicOrPartition)),
                (Ok(_), None, _) => Err(error::number(unknown)),
                (Ok(_), Some(_), None) => Err(error::number(ErrorCode::InvalidRecord)),
                (Ok(_), Some(at), Some(_)) if !seen.insert(at) => Err(error::number(ErrorCode::InvalidRequest)),
                (Ok(_), Some(at), Some(records)) => Ok((at, records)),
            };
            match taken {
                Ok((partition, records)) => {
                    answer.places.push((answer.topics.len(), responses.len()));
                    partitions.push(ProducePartition { partition, leader_epoch: None, records });
                    responses.push(refused(error::NONE));
                }
                Err(code) => responses.push(refused(code)),
            }
        }
        answer.topics.push(TopicProduceResponse {
            // The request's own text would keep the whole frame in memory.
            name: Str::from(topic.name.to_string()),
            topic_id: topic.topic_id,
            partition_responses: responses,
        });
    }
    let produce = acks.ok().filter(|_| !partitions.is_empty()).map(|acks| Produce {
        acks,
        timeout_ms: u32::try_from(request.timeout_ms).unwrap_or(0),
        partitions,
    });
    (produce, answer)
}

/// Kafka's tools alone write to topics that the cluster keeps for itself: they call themselves so.
fn is_admin<D>(call: &Incoming<D>) -> bool {
    call.client.id.as_deref() == Some("__admin_client")
}

impl Answer {
    fn give<D: FrontDesk>(mut self, call: &Incoming<D>, replies: Vec<PartitionReply<Produced>>) -> Reply {
        let image = call.door.desk.image();
        let mut leaders = Leaders::default();
        for ((topic, partition), reply) in self.places.iter().zip(replies) {
            let response = &mut self.topics[*topic].partition_responses[*partition];
            match reply.result {
                Ok(produced) => {
                    response.base_offset = produced.base_offset.0;
                    response.log_append_time_ms = produced.append_time.map_or(-1, |time| time.0);
                    response.log_start_offset = produced.log_start.0;
                }
                Err(failure) => {
                    if call.version >= LEADERS_FROM
                        && let Some((leader_id, leader_epoch)) = leaders.note(&image, reply.partition, &failure)
                    {
                        response.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
                    }
                    refuse(response, call.version, failure);
                }
            }
        }
        if self.acks == 0 {
            let failed = self.topics.iter().flat_map(|topic| &topic.partition_responses);
            return match failed.into_iter().any(|response| response.error_code != error::NONE) {
                true => Reply::Close("a produce with acks=0 failed"),
                false => Reply::Silence,
            };
        }
        let node_endpoints = self.endpoints(call, &image, leaders);
        let response = Response { responses: self.topics, throttle_time_ms: 0, node_endpoints };
        call.reply(ApiKey::Produce, &response)
    }

    fn endpoints<D: FrontDesk>(&self, call: &Incoming<D>, image: &Image, leaders: Leaders) -> Vec<NodeEndpoint> {
        let endpoints = leaders.endpoints(&call.door, &call.client, image).into_iter();
        endpoints
            .map(|endpoint| NodeEndpoint {
                node_id: endpoint.node,
                host: endpoint.host,
                port: endpoint.port,
                rack: endpoint.rack,
            })
            .collect()
    }
}

fn refuse(response: &mut PartitionProduceResponse, version: i16, failure: Failure) {
    let named = version < IDS_FROM;
    response.error_code = if named { error::by_name(failure.code) } else { error::data(failure.code) };
    response.error_message = Some(failure.message.into());
}
