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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, batch, client, door};
    use crate::messages::offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    use rafka_broker::request::{Acks, Produce, ProducePartition};

    #[tokio::test]
    async fn ends_of_epochs_are_told_and_strange_ones_refused() {
        let door = door(Fake::default());
        let partitions =
            vec![ProducePartition { partition: door.desk.orders(0), leader_epoch: None, records: batch(&["a", "b"]) }];
        drop(door.desk.produce(Produce { acks: Acks::All, timeout_ms: 0, partitions }).await);
        let asked = [(0, -1, 3), (0, 3, 4), (0, 2, 3), (0, 4, 3), (2, -1, 3), (9, -1, 3)];
        let partition = |(partition, current_leader_epoch, leader_epoch): (i32, i32, i32)| OffsetForLeaderPartition {
            partition,
            current_leader_epoch,
            leader_epoch,
        };
        let topic =
            OffsetForLeaderTopic { topic: "orders".into(), partitions: asked.into_iter().map(partition).collect() };
        let request = Request { topics: vec![topic], ..Request::default() };
        let response = serve(&door, &client("127.0.0.1:9092"), 4, request).await;
        let ends: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|end| (end.partition, end.error_code, end.leader_epoch, end.end_offset))
            .collect();
        let expected = [(0, 0, 3, 2), (0, 0, -1, -1), (0, 74, -1, -1), (0, 75, -1, -1), (2, 6, -1, -1), (9, 3, -1, -1)];
        assert_eq!(ends, expected);
    }
}
