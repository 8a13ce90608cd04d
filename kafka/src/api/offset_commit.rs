//! OffsetCommit: stores how far a group has read.

use rafka_broker::ErrorCode;
use rafka_broker::group::request::{Commit, GroupReply, GroupRequest, OffsetToCommit};
use rafka_broker::metadata::{Image, Topic};

use crate::ApiKey;
use crate::api::{self, Incoming, Work};
use crate::desk::FrontDesk;
use crate::door::{Client, Door, partition_of, topic_by_name, topic_id};
use crate::error;
use crate::groups::{self, owned};
use crate::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    Request, Response,
};

/// First version that names topics by id.
const IDS_FROM: i16 = 10;
/// First version whose clients know of member epochs (KIP-848).
const EPOCHS_FROM: i16 = 9;

/// As [`serve`], but once the commit stands in the queue of its coordinator the next request may begin.
pub(crate) fn begin<D: FrontDesk>(request: Request, call: Incoming<D>) -> Work {
    api::ahead(async move {
        let response = serve(&call.door, &call.client, call.version, request).await;
        call.reply(ApiKey::OffsetCommit, &response)
    })
}

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    let Request { topics, .. } = &request;
    let count = topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut answer = Answer::default();
    if let Err(failure) = groups::few_enough(count) {
        return answer.refuse_all(request.topics, error::group(failure.code));
    }
    let image = door.desk.image();
    let mut offsets = Vec::new();
    for topic in request.topics {
        answer.take_in(&image, version, topic, &mut offsets);
    }
    if offsets.is_empty() {
        return answer.response;
    }
    let commit = Commit {
        group: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id),
        retention_ms: retention(request.retention_time_ms),
        offsets,
    };
    let reply = groups::ask(door, GroupRequest::Commit(commit), |reply| match reply {
        GroupReply::Commit(results) => Some(results),
        _ => None,
    });
    let results = reply.await.and_then(|results| match results.len() == answer.places.len() {
        true => Ok(results),
        false => Err(groups::strange()),
    });
    match results {
        Ok(results) => answer.fill(results.into_iter().map(|result| result.map_or_else(error::by_name, |()| 0))),
        Err(failure) => answer.fill(std::iter::repeat(refusal(version, failure.code))),
    }
    answer.response
}

/// -1 is the coordinator's own; what is less is over as soon as it began.
fn retention(ms: i64) -> Option<u64> {
    (ms != -1).then(|| u64::try_from(ms).unwrap_or(0))
}

fn refusal(version: i16, code: ErrorCode) -> i16 {
    match code {
        ErrorCode::MessageTooLarge => error::number(ErrorCode::InvalidCommitOffsetSize),
        ErrorCode::StaleMemberEpoch if version < EPOCHS_FROM => error::number(ErrorCode::UnsupportedVersion),
        code => error::group(code),
    }
}

/// A response in the making.
#[derive(Default)]
struct Answer {
    response: Response,
    /// Where the result of each offset that was passed on belongs: topic, partition.
    places: Vec<(usize, usize)>,
}

impl Answer {
    /// Sorts out what can be passed on.
    fn take_in(
        &mut self,
        image: &Image,
        version: i16,
        asked: OffsetCommitRequestTopic,
        offsets: &mut Vec<OffsetToCommit>,
    ) {
        let (topic, unknown) = match version >= IDS_FROM {
            true => (image.topics.get(&topic_id(asked.topic_id)).map(AsRef::as_ref), ErrorCode::UnknownTopicId),
            false => (topic_by_name(image, &asked.name), ErrorCode::UnknownTopicOrPartition),
        };
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for part in asked.partitions {
            let partition_index = part.partition_index;
            let error_code = match (topic, offset(topic, part)) {
                (_, Some(offset)) => {
                    self.places.push((self.response.topics.len(), partitions.len()));
                    offsets.push(offset);
                    error::NONE
                }
                (Some(_), None) => error::number(ErrorCode::UnknownTopicOrPartition),
                (None, None) => error::number(unknown),
            };
            partitions.push(OffsetCommitResponsePartition { partition_index, error_code });
        }
        let (name, topic_id) = (asked.name, asked.topic_id);
        self.response.topics.push(OffsetCommitResponseTopic { name, topic_id, partitions });
    }

    fn fill(&mut self, codes: impl Iterator<Item = i16>) {
        for ((topic, partition), code) in self.places.iter().zip(codes) {
            self.response.topics[*topic].partitions[*partition].error_code = code;
        }
    }

    fn refuse_all(mut self, topics: Vec<OffsetCommitRequestTopic>, error_code: i16) -> Response {
        let topic = |topic: OffsetCommitRequestTopic| {
            let partition =
                |part: &OffsetCommitRequestPartition| OffsetCommitResponsePartition {
                    partition_index: part.partition_index,
                    error_code,
                };
            let partitions = topic.partitions.iter().map(partition).collect();
            OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions }
        };
        self.response.topics = topics.into_iter().map(topic).collect();
        self.response
    }
}

fn offset(topic: Option<&Topic>, part: OffsetCommitRequestPartition) -> Option<OffsetToCommit> {
    let topic = topic?;
    Some(OffsetToCommit {
        topic: topic.name.to_string(),
        topic_id: Some(topic.id),
        partition: partition_of(topic, part.partition_index)?,
        offset: part.committed_offset,
        leader_epoch: part.committed_leader_epoch,
        metadata: part.committed_metadata.as_deref().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::door::uuid;
    use crate::fake::Fake;
    use crate::fake::decides::{ask, deciding_with};
    use crate::wire::{Str, Uuid};
    use rafka_broker::Failure;
    use rafka_model::limits::GROUP_COMMIT_OFFSETS_MAX;

    fn committing(refused: Option<ErrorCode>) -> Arc<Door<Fake>> {
        deciding_with(|fake| {
            fake.coordinates = Box::new(move |request| {
                let GroupRequest::Commit(commit) = request else { panic!("{request:?}") };
                if let Some(code) = refused {
                    return Err(Failure::new(code, "no"));
                }
                let result = |one: &OffsetToCommit| match one.metadata.len() {
                    ..4 => Ok(()),
                    _ => Err(ErrorCode::OffsetMetadataTooLarge),
                };
                Ok(GroupReply::Commit(commit.offsets.iter().map(result).collect()))
            });
        })
    }

    fn request(version: i16, ids: [Uuid; 2]) -> Request {
        let part = |partition_index, metadata: Option<&'static str>| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 7,
            committed_metadata: metadata.map(Str::from),
            ..OffsetCommitRequestPartition::default()
        };
        let topic = |name: &'static str, id, partitions| match version >= IDS_FROM {
            true => OffsetCommitRequestTopic { topic_id: id, partitions, ..OffsetCommitRequestTopic::default() },
            false => OffsetCommitRequestTopic { name: name.into(), partitions, ..OffsetCommitRequestTopic::default() },
        };
        let orders = vec![part(0, None), part(3, Some("m")), part(1, Some("long")), part(-1, None), part(2, Some("m"))];
        let topics = vec![topic("nope", ids[1], vec![part(0, None)]), topic("orders", ids[0], orders)];
        Request { group_id: "g".into(), topics, ..Request::default() }
    }

    fn ids(door: &Door<Fake>) -> [Uuid; 2] {
        [uuid(door.desk.orders(0).topic), Uuid([9; 16])]
    }

    fn codes(response: &Response) -> Vec<Vec<i16>> {
        let partitions = response.topics.iter().map(|topic| &topic.partitions);
        partitions.map(|partitions| partitions.iter().map(|one| one.error_code).collect()).collect()
    }

    #[tokio::test]
    async fn what_exists_is_stored_and_the_rest_is_told_apart() {
        let door = committing(None);
        for version in 2..=10 {
            let told = ask(&door, version, &request(version, ids(&door))).await;
            let unknown = if version >= 10 { 100 } else { 3 };
            assert_eq!(codes(&told), [vec![unknown], vec![0, 3, 12, 3, 0]], "version {version}");
            let asked = door.desk.asked_groups.lock().pop();
            let Some(GroupRequest::Commit(commit)) = asked else { panic!("{asked:?}") };
            assert_eq!((commit.generation, commit.offsets.len()), (-1, 3));
            let first = &commit.offsets[0];
            assert_eq!((&*first.topic, first.topic_id), ("orders", Some(door.desk.orders(0).topic)));
            assert_eq!((first.offset, first.leader_epoch, &*first.metadata), (7, -1, ""));
        }
    }

    #[tokio::test]
    async fn old_clients_say_how_long_their_offsets_are_kept() {
        let door = committing(None);
        for (version, asked, told) in [(2, 60_000, Some(60_000)), (4, -1, None), (3, -2, Some(0)), (5, -1, None)] {
            let request = Request { retention_time_ms: asked, ..request(version, ids(&door)) };
            ask(&door, version, &request).await;
            let Some(GroupRequest::Commit(commit)) = door.desk.asked_groups.lock().pop() else { panic!("no commit") };
            assert_eq!(commit.retention_ms, told, "version {version}");
        }
    }

    #[tokio::test]
    async fn a_refused_commit_is_refused_for_each_partition_that_exists() {
        for (code, version, told) in [
            (ErrorCode::IllegalGeneration, 2, 22),
            (ErrorCode::NotCoordinator, 5, 16),
            (ErrorCode::OutcomeUnknown, 8, 15),
            (ErrorCode::MessageTooLarge, 8, 28),
            (ErrorCode::StaleMemberEpoch, 8, 35),
            (ErrorCode::StaleMemberEpoch, 9, 113),
        ] {
            let door = committing(Some(code));
            let response = ask(&door, version, &request(version, ids(&door))).await;
            assert_eq!(codes(&response), [vec![3], vec![told, 3, told, 3, told]]);
        }
    }

    #[tokio::test]
    async fn the_coordinator_is_not_asked_about_nothing_nor_about_too_much() {
        let door = committing(None);
        let mut request = request(9, ids(&door));
        request.topics.truncate(1);
        assert_eq!(codes(&ask(&door, 9, &request).await), [vec![3]]);
        request.topics[0].partitions = vec![OffsetCommitRequestPartition::default(); GROUP_COMMIT_OFFSETS_MAX + 1];
        let told = ask(&door, 9, &request).await;
        assert!(codes(&told)[0].iter().all(|code| *code == 42));
        assert!(door.desk.asked_groups.lock().is_empty());
    }
}
