//! OffsetDelete: forgets how far a group has read.

use rafka_broker::ErrorCode;
use rafka_broker::group::request::{ForgetOffsets, GroupReply, GroupRequest};

use crate::desk::FrontDesk;
use crate::door::{Client, Door, partition_of, topic_by_name};
use crate::error;
use crate::groups;
use crate::messages::offset_delete::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, Request, Response,
};

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let refused = |code| Response { error_code: error::group(code), ..Response::default() };
    if let Err(failure) = groups::few_enough(request.topics.iter().map(|topic| topic.partitions.len()).sum()) {
        return refused(failure.code);
    }
    let image = door.desk.image();
    let (mut topics, mut places, mut partitions) = (Vec::with_capacity(request.topics.len()), Vec::new(), Vec::new());
    for asked in request.topics {
        let topic = topic_by_name(&image, &asked.name);
        let mut responses = Vec::with_capacity(asked.partitions.len());
        for part in asked.partitions {
            let found = topic.and_then(|topic| Some((topic, partition_of(topic, part.partition_index)?)));
            let error_code = match found {
                Some((topic, partition)) => {
                    places.push((topics.len(), responses.len()));
                    partitions.push((topic.name.to_string(), partition));
                    error::NONE
                }
                None => error::number(ErrorCode::UnknownTopicOrPartition),
            };
            responses.push(OffsetDeleteResponsePartition { partition_index: part.partition_index, error_code });
        }
        topics.push(OffsetDeleteResponseTopic { name: asked.name, partitions: responses });
    }
    // Asked even if nothing is left of it: an unknown group is told as such first.
    let forget = GroupRequest::ForgetOffsets(ForgetOffsets { group: request.group_id.to_string(), partitions });
    let reply = groups::ask(door, forget, |reply| match reply {
        GroupReply::ForgetOffsets(results) => Some(results),
        _ => None,
    });
    match reply.await {
        Err(failure) => refused(failure.code),
        Ok(results) if results.len() != places.len() => refused(groups::strange().code),
        Ok(results) => {
            for ((topic, partition), result) in places.into_iter().zip(results) {
                let code = result.map_or_else(error::by_name, |()| error::NONE);
                topics[topic].partitions[partition].error_code = code;
            }
            Response { topics, ..Response::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use rafka_broker::Failure;
    use rafka_model::PartitionId;

    use super::*;
    use crate::fake::decides::{ask, deciding_with};
    use crate::messages::offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};

    fn request(group: &'static str, topics: &[(&'static str, &[i32])]) -> Request {
        let partition = |index: &i32| OffsetDeleteRequestPartition { partition_index: *index };
        let topic = |(name, partitions): &(&'static str, &[i32])| OffsetDeleteRequestTopic {
            name: (*name).into(),
            partitions: partitions.iter().map(partition).collect(),
        };
        Request { group_id: group.into(), topics: topics.iter().map(topic).collect() }
    }

    #[tokio::test]
    async fn offsets_are_forgotten_partition_by_partition() {
        let door = deciding_with(|fake| {
            fake.coordinates = Box::new(|request| {
                let GroupRequest::ForgetOffsets(forget) = request else { panic!("{request:?}") };
                if forget.group != "g" {
                    return Err(Failure::new(ErrorCode::GroupIdNotFound, "no such group"));
                }
                let result = |(_, partition): &(String, PartitionId)| match partition.0 {
                    1 => Err(ErrorCode::GroupSubscribedToTopic),
                    _ => Ok(()),
                };
                Ok(GroupReply::ForgetOffsets(forget.partitions.iter().map(result).collect()))
            });
        });
        let told = ask(&door, 0, &request("g", &[("nope", &[0]), ("orders", &[0, 1, 9, 2])])).await;
        let codes = |i: usize| told.topics[i].partitions.iter().map(|one| one.error_code).collect::<Vec<_>>();
        assert_eq!((told.error_code, codes(0), codes(1)), (0, vec![3], vec![0, 86, 3, 0]));
        let told = ask(&door, 0, &request("h", &[("orders", &[0])])).await;
        assert_eq!((told.error_code, told.topics.len()), (69, 0));
        let told = ask(&door, 0, &request("h", &[("nope", &[0])])).await;
        assert_eq!((told.error_code, told.topics.len()), (69, 0), "the group comes first");
    }
}
