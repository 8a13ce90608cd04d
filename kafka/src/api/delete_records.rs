//! DeleteRecords: moves the log start.

use rafka_broker::ErrorCode;
use rafka_broker::request::DeleteRecords;
use rafka_model::{Offset, PartitionId, TopicPartition};

use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name};
use crate::error;
use crate::messages::delete_records::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult, Request, Response};

/// Stands for the high watermark.
const TO_HIGH_WATERMARK: i64 = -1;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let image = door.desk.image();
    let (mut topics, mut places, mut partitions) = (Vec::with_capacity(request.topics.len()), Vec::new(), Vec::new());
    for asked in request.topics {
        let topic = topic_by_name(&image, &asked.name);
        let mut results = Vec::with_capacity(asked.partitions.len());
        for part in asked.partitions {
            let at = topic.and_then(|topic| {
                let partition = PartitionId(u32::try_from(part.partition_index).ok()?);
                topic.partition(partition).map(|_| TopicPartition { topic: topic.id, partition })
            });
            let error_code = match (at, part.offset) {
                (None, _) => error::number(ErrorCode::UnknownTopicOrPartition),
                (_, offset) if offset < TO_HIGH_WATERMARK => error::number(ErrorCode::OffsetOutOfRange),
                (Some(at), offset) => {
                    places.push((topics.len(), results.len()));
                    partitions.push((at, (offset != TO_HIGH_WATERMARK).then_some(Offset(offset))));
                    error::NONE
                }
            };
            results.push(DeleteRecordsPartitionResult {
                partition_index: part.partition_index,
                low_watermark: -1,
                error_code,
            });
        }
        topics.push(DeleteRecordsTopicResult { name: asked.name, partitions: results });
    }
    let replies = match partitions.is_empty() {
        true => Vec::new(),
        false => door.desk.delete_records(DeleteRecords { partitions }).await,
    };
    for ((topic, partition), reply) in places.into_iter().zip(replies) {
        let result: &mut DeleteRecordsPartitionResult = &mut topics[topic].partitions[partition];
        match reply.result {
            Ok(log_start) => result.low_watermark = log_start.0,
            Err(failure) => result.error_code = error::by_name(failure.code),
        }
    }
    Response { topics, ..Response::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, client, door};
    use crate::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};

    #[tokio::test]
    async fn new_log_starts_are_told_by_partition() {
        let partition = |(partition_index, offset): (i32, i64)| DeleteRecordsPartition { partition_index, offset };
        let partitions = [(0, 5), (0, -1), (0, -2), (2, 5), (9, 5)].into_iter().map(partition).collect();
        let topic = DeleteRecordsTopic { name: "orders".into(), partitions };
        let request = Request { topics: vec![topic], timeout_ms: 1000 };
        let response = serve(&door(Fake::default()), &client("127.0.0.1:9092"), 2, request).await;
        let results = response.topics[0].partitions.iter().map(|result| (result.error_code, result.low_watermark));
        assert_eq!(results.collect::<Vec<_>>(), [(0, 5), (0, 0), (1, -1), (6, -1), (3, -1)]);
    }
}
