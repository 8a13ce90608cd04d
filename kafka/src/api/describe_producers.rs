//! DescribeProducers: who produces to partitions that this node leads (KIP-664).

use std::collections::BTreeSet;

use rafka_broker::metadata::Image;
use rafka_broker::request::ActiveProducer;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::REQUEST_PARTITIONS_MAX;
use rafka_model::{PartitionId, TopicPartition};

use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name};
use crate::error;
use crate::messages::describe_producers::{
    PartitionResponse, ProducerState, Request, Response, TopicRequest, TopicResponse,
};

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let image = door.desk.image();
    // Each partition once: what is asked in few bytes is answered in many.
    let mut once = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for TopicRequest { name, partition_indexes } in request.topics {
        let room = REQUEST_PARTITIONS_MAX.saturating_sub(once.len());
        let mut partitions = Vec::new();
        for index in partition_indexes.into_iter().take(room) {
            if once.insert((name.clone(), index)) {
                partitions.push(partition(door, &image, &name, index).await);
            }
        }
        topics.push(TopicResponse { partitions, name });
    }
    Response { topics, ..Response::default() }
}

async fn partition<D: FrontDesk>(door: &Door<D>, image: &Image, topic: &str, index: i32) -> PartitionResponse {
    match producers(door, image, topic, index).await {
        Ok(producers) => PartitionResponse {
            partition_index: index,
            active_producers: producers.into_iter().map(state).collect(),
            ..PartitionResponse::default()
        },
        Err(failure) => PartitionResponse {
            partition_index: index,
            error_code: error::data(failure.code),
            error_message: Some(failure.message.into()),
            ..PartitionResponse::default()
        },
    }
}

async fn producers<D: FrontDesk>(
    door: &Door<D>,
    image: &Image,
    topic: &str,
    index: i32,
) -> Result<Vec<ActiveProducer>, Failure> {
    let found = topic_by_name(image, topic).and_then(|topic| {
        let partition = PartitionId(u32::try_from(index).ok()?);
        topic.partition(partition).map(|_| TopicPartition { topic: topic.id, partition })
    });
    match found {
        Some(at) => door.desk.producers(at).await,
        None => Err(Failure::new(ErrorCode::UnknownTopicOrPartition, "there is no such partition")),
    }
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: -1,
        current_txn_start_offset: producer.transaction_start.map_or(-1, |offset| offset.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding_with};
    use rafka_model::{Offset, ProducerId};

    #[tokio::test]
    async fn producers_are_told_by_the_leader() {
        let door = deciding_with(|fake| {
            fake.producers = vec![ActiveProducer {
                id: ProducerId(4000),
                epoch: 2,
                last_sequence: 9,
                last_timestamp: 77,
                transaction_start: Some(Offset(5)),
            }];
        });
        let topic = |name: &'static str, partition_indexes| TopicRequest { name: name.into(), partition_indexes };
        let topics = vec![topic("orders", vec![0, 2, 3, -1, 0]), topic("nope", vec![0])];
        let told = ask(&door, 0, &Request { topics }).await;
        let codes = |i: usize| told.topics[i].partitions.iter().map(|one| one.error_code).collect::<Vec<_>>();
        assert_eq!((codes(0), codes(1)), (vec![0, 6, 3, 3], vec![3]));
        let producer = &told.topics[0].partitions[0].active_producers[0];
        assert_eq!((producer.producer_id, producer.producer_epoch, producer.last_sequence), (4000, 2, 9));
        assert_eq!((producer.last_timestamp, producer.current_txn_start_offset), (77, 5));
    }
}
