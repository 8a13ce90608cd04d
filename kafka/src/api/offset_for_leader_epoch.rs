//! OffsetForLeaderEpoch: where leader epochs end, so that a client sees that its log was cut (KIP-320).

use rafka_broker::ErrorCode;
use rafka_broker::request::EpochEnds;
use rafka_model::{LeaderEpoch, PartitionId, TopicPartition};

use crate::api::fetch::epoch;
use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name};
use crate::error;
use crate::messages::offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderTopicResult, Request, Response};

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let image = door.desk.image();
    let (mut topics, mut places, mut asked_for) = (Vec::with_capacity(request.topics.len()), Vec::new(), Vec::new());
    for asked in request.topics {
        let topic = topic_by_name(&image, &asked.topic);
        let mut ends = Vec::with_capacity(asked.partitions.len());
        for part in asked.partitions {
            let at = topic.and_then(|topic| {
                let partition = PartitionId(u32::try_from(part.partition).ok()?);
                topic.partition(partition).map(|_| TopicPartition { topic: topic.id, partition })
            });
            let error_code = match at {
                None => error::number(ErrorCode::UnknownTopicOrPartition),
                Some(at) => {
                    places.push((topics.len(), ends.len()));
                    asked_for.push((at, epoch(part.current_leader_epoch), LeaderEpoch(part.leader_epoch)));
                    error::NONE
                }
            };
            ends.push(EpochEndOffset { error_code, partition: part.partition, ..EpochEndOffset::default() });
        }
        topics.push(OffsetForLeaderTopicResult { topic: asked.topic, partitions: ends });
    }
    let replies = match asked_for.is_empty() {
        true => Vec::new(),
        false => door.desk.epoch_ends(EpochEnds { partitions: asked_for }).await,
    };
    for ((topic, partition), reply) in places.into_iter().zip(replies) {
        let answer: &mut EpochEndOffset = &mut topics[topic].partitions[partition];
        match reply.result {
            Ok(Some(end)) => (answer.leader_epoch, answer.end_offset) = (end.epoch.0, end.end.0),
            Ok(None) => {}
            Err(failure) => answer.error_code = error::by_name(failure.code),
        }
    }
    Response { topics, ..Response::default() }
}
