//! OffsetFetch: how far groups have read.

use std::collections::BTreeMap;

use rafka_broker::group::request::{CommittedOffset, GroupReply, GroupRequest, OffsetsAsked};
use rafka_broker::metadata::Image;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::PartitionId;

use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name, topic_id, uuid};
use crate::error;
use crate::groups::{self, owned};
use crate::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    Request, Response,
};
use crate::wire::{Str, Uuid};

/// First version that tells an error of the whole group.
const GROUP_ERROR_FROM: i16 = 2;
/// First version with several groups.
const GROUPS_FROM: i16 = 8;
/// First version that names topics by id.
const IDS_FROM: i16 = 10;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    if version >= GROUPS_FROM {
        let groups = fetch(door, version, request.groups, request.require_stable).await;
        return Response { groups, ..Response::default() };
    }
    let alone = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: request.topics.map(|topics| topics.into_iter().map(newer).collect()),
        ..OffsetFetchRequestGroup::default()
    };
    let asked = if version < GROUP_ERROR_FROM { alone.topics.clone().unwrap_or_default() } else { Vec::new() };
    let mut groups = fetch(door, version, vec![alone], request.require_stable).await;
    let Some(OffsetFetchResponseGroup { topics, error_code, .. }) = groups.pop() else { return Response::default() };
    if version < GROUP_ERROR_FROM && error_code != error::NONE {
        let topics = asked.iter().map(|topic| refused_topic(topic, error_code)).map(older).collect();
        return Response { topics, ..Response::default() };
    }
    Response { topics: topics.into_iter().map(older).collect(), error_code, ..Response::default() }
}

fn newer(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    let OffsetFetchRequestTopic { name, partition_indexes } = topic;
    OffsetFetchRequestTopics { name, partition_indexes, ..OffsetFetchRequestTopics::default() }
}

fn older(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |part: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: part.partition_index,
        committed_offset: part.committed_offset,
        committed_leader_epoch: part.committed_leader_epoch,
        metadata: part.metadata,
        error_code: part.error_code,
    };
    OffsetFetchResponseTopic { name: topic.name, partitions: topic.partitions.into_iter().map(partition).collect() }
}

async fn fetch<D: FrontDesk>(
    door: &Door<D>,
    version: i16,
    groups: Vec<OffsetFetchRequestGroup>,
    require_stable: bool,
) -> Vec<OffsetFetchResponseGroup> {
    let indexes = |group: &OffsetFetchRequestGroup| -> usize {
        group.topics.iter().flatten().map(|topic| topic.partition_indexes.len()).sum()
    };
    if let Err(failure) = groups::few_enough(groups.iter().map(indexes).sum()) {
        let code = error::group(failure.code);
        return groups.into_iter().map(|group| refused(group.group_id, code)).collect();
    }
    let image = door.desk.image();
    let (mut answers, mut questions) = (Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len()));
    for group in groups {
        let (answer, asked) = take_in(&image, version, require_stable, group);
        answers.push(answer);
        questions.push(GroupRequest::Offsets(asked));
    }
    let replies = groups::ask_each(door, questions, |reply| match reply {
        GroupReply::Offsets(offsets) => Some(offsets),
        _ => None,
    });
    let replies = replies.await;
    answers.into_iter().zip(replies).map(|(answer, reply)| answer.give(&image, version, reply)).collect()
}

/// The answer to one group in the making.
struct Answer {
    group: Str,
    /// Every stored offset is wanted.
    all: bool,
    topics: Vec<OffsetFetchResponseTopics>,
    /// Where each offset that was asked for belongs: topic, partition.
    places: Vec<(usize, usize)>,
}

fn take_in(
    image: &Image,
    version: i16,
    require_stable: bool,
    group: OffsetFetchRequestGroup,
) -> (Answer, OffsetsAsked) {
    let all = group.topics.is_none();
    let mut answer = Answer { group: group.group_id, all, topics: Vec::new(), places: Vec::new() };
    let mut named = Vec::new();
    for topic in group.topics.into_iter().flatten() {
        // Offsets of topics that are gone are there until somebody forgets them, but have no id any more.
        let name = match version >= IDS_FROM {
            true => image.topics.get(&topic_id(topic.topic_id)).map(|topic| topic.name.to_string()),
            false => Some(topic.name.to_string()),
        };
        let Some(name) = name else {
            answer.topics.push(refused_topic(&topic, error::number(ErrorCode::UnknownTopicId)));
            continue;
        };
        let mut asked = Vec::with_capacity(topic.partition_indexes.len());
        for (place, index) in topic.partition_indexes.iter().enumerate() {
            // There is nothing below 0, as of any other partition that nobody committed.
            if let Ok(index) = u32::try_from(*index) {
                answer.places.push((answer.topics.len(), place));
                asked.push(PartitionId(index));
            }
        }
        named.push((name, asked));
        answer.topics.push(refused_topic(&topic, error::NONE));
    }
    let asked = OffsetsAsked {
        group: answer.group.to_string(),
        member_id: owned(group.member_id),
        member_epoch: group.member_epoch,
        require_stable,
        topics: (!all).then_some(named),
    };
    (answer, asked)
}

impl Answer {
    fn give(
        mut self,
        image: &Image,
        version: i16,
        reply: Result<Vec<CommittedOffset>, Failure>,
    ) -> OffsetFetchResponseGroup {
        let offsets = match reply {
            Ok(offsets) if self.all || offsets.len() == self.places.len() => offsets,
            Ok(_) => return refused(self.group, error::group(groups::strange().code)),
            Err(failure) => return refused(self.group, error::group(failure.code)),
        };
        if self.all {
            self.topics = everything(image, version, offsets);
        } else {
            for ((topic, place), offset) in self.places.iter().zip(offsets) {
                self.topics[*topic].partitions[*place] = row(offset);
            }
        }
        OffsetFetchResponseGroup { group_id: self.group, topics: self.topics, error_code: error::NONE }
    }
}

/// All offsets, by topic; without those of topics that cannot be named.
fn everything(image: &Image, version: i16, offsets: Vec<CommittedOffset>) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: BTreeMap<String, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for mut offset in offsets {
        topics.entry(std::mem::take(&mut offset.topic)).or_default().push(row(offset));
    }
    let topic = |(name, partitions): (String, Vec<_>)| {
        let topic_id = match version >= IDS_FROM {
            true => uuid(topic_by_name(image, &name)?.id),
            false => Uuid::ZERO,
        };
        Some(OffsetFetchResponseTopics { name: name.into(), topic_id, partitions })
    };
    topics.into_iter().filter_map(topic).collect()
}

fn row(offset: CommittedOffset) -> OffsetFetchResponsePartitions {
    let index = i32::try_from(offset.partition.0).unwrap_or(i32::MAX);
    match offset.error {
        Some(code) => refused_partition(index, error::by_name(code)),
        None => OffsetFetchResponsePartitions {
            partition_index: index,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            metadata: Some(offset.metadata.into()),
            error_code: error::NONE,
        },
    }
}

fn refused(group_id: Str, error_code: i16) -> OffsetFetchResponseGroup {
    OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code }
}

fn refused_topic(asked: &OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let partitions = asked.partition_indexes.iter().map(|index| refused_partition(*index, error_code)).collect();
    OffsetFetchResponseTopics { name: asked.name.clone(), topic_id: asked.topic_id, partitions }
}

/// Nothing is stored for it, or that cannot be told.
fn refused_partition(partition_index: i32, error_code: i16) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::default()),
        error_code,
    }
}

#[cfg(test)]
mod tests;
