//! Answers of the group protocol.

use bytes::Bytes;
use prost::Message;
use rafka_broker::ErrorCode;
use rafka_broker::group::request::{
    CommittedOffset, ConsumerHeartbeatReply, Coordinator, GroupDescription, GroupReply, JoinReply, Joined,
    JoinedMember, Left, Listed, SyncReply,
};
use rafka_model::limits::GROUP_REPLY_ITEMS_MAX;
use rafka_model::{NodeId, PartitionId};

use super::describe::{
    classic_from_wire, classic_to_wire, consumer_from_wire, consumer_to_wire, kind_from_wire, kind_to_wire,
    state_from_wire, state_to_wire,
};
use super::shared::{error, optional_string, result, result_to_wire, string, topics, topics_to_wire};
use crate::Frame;
use crate::proto::{self, group_answer::Kind};
use crate::wire::{self, Answer, DecodeError, Inside, failure_from_wire, partition_id, topic_id, topic_id_to_wire};

/// The answer to the [`Request`](super::Request) of the same name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// What the coordinator says.
    Group(GroupReply),
    /// All groups that the node coordinates.
    List(Vec<Listed>),
    /// Who coordinates the group.
    Coordinator(Coordinator),
}

/// Messages of an answer that hold lists.
const TREE: &[Inside] = &[
    Inside(1, &[]),
    Inside(5, &[]),
    Inside(6, &[Inside(4, &[Inside(1, &[])])]),
    Inside(7, &[]),
    Inside(8, &[]),
    Inside(9, &[]),
    Inside(10, &[]),
    Inside(11, &[Inside(6, &[Inside(8, &[]), Inside(9, &[])])]),
    Inside(13, &[]),
];

/// Encodes a reply.
#[must_use]
pub fn encode_reply(reply: &Answer<Reply>) -> Frame {
    let kind = match reply {
        Err(failure) => return wire::encode_failure(failure),
        Ok(Reply::Group(reply)) => to_wire(reply),
        Ok(Reply::List(groups)) => {
            Kind::Listed(proto::ListedGroups { groups: groups.iter().map(listed_to_wire).collect() })
        }
        Ok(Reply::Coordinator(Coordinator { node, partition })) => {
            Kind::Coordinator(proto::GroupCoordinator { node: node.0, partition: partition.0 })
        }
    };
    Frame::new(Bytes::new(), proto::GroupAnswer { kind: Some(kind) }.encode_to_vec().into())
}

/// Decodes a reply.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_reply(frame: &Frame) -> Result<Answer<Reply>, DecodeError> {
    let header: proto::Refusal = wire::decode(frame.header(), "fields of a reply", 16, &[])?;
    if let Some(failure) = header.failure {
        return Ok(Err(failure_from_wire(failure)?));
    }
    let answer: proto::GroupAnswer =
        wire::decode_tree(&frame.body(), "fields of a group's answer", GROUP_REPLY_ITEMS_MAX, TREE)?;
    Ok(Ok(Reply::Group(match answer.kind.ok_or(DecodeError::Missing("kind of group answer"))? {
        Kind::Joined(joined) => GroupReply::Join(JoinReply::Joined(joined_from_wire(joined)?)),
        Kind::TakeMemberId(id) => GroupReply::Join(JoinReply::TakeMemberId(string("member id", id)?)),
        Kind::Assignment(assignment) => GroupReply::Sync(SyncReply {
            protocol_type: string("protocol type", assignment.protocol_type)?,
            protocol: string("protocol", assignment.protocol)?,
            assignment: assignment.assignment,
        }),
        Kind::Alive(_) => GroupReply::Heartbeat,
        Kind::Left(left) => GroupReply::Leave(left.members.into_iter().map(left_from_wire).collect::<Result<_, _>>()?),
        Kind::ConsumerHeartbeat(answer) => GroupReply::ConsumerHeartbeat(ConsumerHeartbeatReply {
            member_id: string("member id", answer.member_id)?,
            member_epoch: answer.member_epoch,
            heartbeat_interval_ms: answer.heartbeat_interval_ms,
            assignment: answer.assignment.map(|assignment| topics(assignment.topics)).transpose()?,
        }),
        Kind::Committed(results) => GroupReply::Commit(results_from_wire(results)),
        Kind::Offsets(found) => {
            GroupReply::Offsets(found.offsets.into_iter().map(offset_from_wire).collect::<Result<_, _>>()?)
        }
        Kind::Forgotten(results) => GroupReply::ForgetOffsets(results_from_wire(results)),
        Kind::Classic(group) => GroupReply::Describe(GroupDescription::Classic(classic_from_wire(group)?)),
        Kind::Consumer(group) => GroupReply::Describe(GroupDescription::Consumer(consumer_from_wire(group)?)),
        Kind::Deleted(_) => GroupReply::Delete,
        Kind::Listed(listed) => {
            let groups = listed.groups.into_iter().map(listed_from_wire);
            return Ok(Ok(Reply::List(groups.collect::<Result<_, _>>()?)));
        }
        Kind::Coordinator(found) => {
            let partition = partition_id(found.partition)?;
            return Ok(Ok(Reply::Coordinator(Coordinator { node: NodeId(found.node), partition })));
        }
    })))
}

fn to_wire(reply: &GroupReply) -> Kind {
    match reply {
        GroupReply::Join(JoinReply::Joined(joined)) => Kind::Joined(joined_to_wire(joined)),
        GroupReply::Join(JoinReply::TakeMemberId(id)) => Kind::TakeMemberId(id.clone()),
        GroupReply::Sync(sync) => Kind::Assignment(proto::GroupAssignment {
            protocol_type: sync.protocol_type.clone(),
            protocol: sync.protocol.clone(),
            assignment: sync.assignment.clone(),
        }),
        GroupReply::Heartbeat => Kind::Alive(proto::GroupAlive {}),
        GroupReply::Leave(left) => Kind::Left(proto::GroupLeft { members: left.iter().map(left_to_wire).collect() }),
        GroupReply::ConsumerHeartbeat(answer) => Kind::ConsumerHeartbeat(proto::ConsumerHeartbeatAnswer {
            member_id: answer.member_id.clone(),
            member_epoch: answer.member_epoch,
            heartbeat_interval_ms: answer.heartbeat_interval_ms,
            assignment: answer
                .assignment
                .as_ref()
                .map(|assignment| proto::TopicPartitionsList { topics: topics_to_wire(assignment) }),
        }),
        GroupReply::Commit(results) => Kind::Committed(results_to_wire(results)),
        GroupReply::Offsets(offsets) => {
            Kind::Offsets(proto::CommittedOffsets { offsets: offsets.iter().map(offset_to_wire).collect() })
        }
        GroupReply::ForgetOffsets(results) => Kind::Forgotten(results_to_wire(results)),
        GroupReply::Describe(GroupDescription::Classic(group)) => Kind::Classic(classic_to_wire(group)),
        GroupReply::Describe(GroupDescription::Consumer(group)) => Kind::Consumer(consumer_to_wire(group)),
        GroupReply::Delete => Kind::Deleted(proto::GroupDeleted {}),
    }
}

fn joined_to_wire(joined: &Joined) -> proto::GroupJoined {
    let member = |member: &JoinedMember| proto::JoinedMember {
        member_id: member.member_id.clone(),
        instance_id: member.instance_id.clone(),
        metadata: member.metadata.clone(),
    };
    proto::GroupJoined {
        generation: joined.generation,
        protocol_type: joined.protocol_type.clone(),
        protocol: joined.protocol.clone(),
        leader: joined.leader.clone(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id.clone(),
        members: joined.members.iter().map(member).collect(),
    }
}

fn joined_from_wire(joined: proto::GroupJoined) -> Result<Joined, DecodeError> {
    let member = |member: proto::JoinedMember| {
        Ok(JoinedMember {
            member_id: string("member id", member.member_id)?,
            instance_id: optional_string("instance id", member.instance_id)?,
            metadata: member.metadata,
        })
    };
    Ok(Joined {
        generation: joined.generation,
        protocol_type: string("protocol type", joined.protocol_type)?,
        protocol: string("protocol", joined.protocol)?,
        leader: string("member id", joined.leader)?,
        skip_assignment: joined.skip_assignment,
        member_id: string("member id", joined.member_id)?,
        members: joined.members.into_iter().map(member).collect::<Result<_, DecodeError>>()?,
    })
}

fn left_to_wire(left: &Left) -> proto::LeftMember {
    proto::LeftMember {
        member_id: left.member_id.clone(),
        instance_id: left.instance_id.clone(),
        error: result_to_wire(left.result),
    }
}

fn left_from_wire(left: proto::LeftMember) -> Result<Left, DecodeError> {
    Ok(Left {
        member_id: string("member id", left.member_id)?,
        instance_id: optional_string("instance id", left.instance_id)?,
        result: result(left.error),
    })
}

fn results_to_wire(results: &[Result<(), ErrorCode>]) -> proto::GroupResults {
    proto::GroupResults { errors: results.iter().map(|result| result_to_wire(*result)).collect() }
}

fn results_from_wire(results: proto::GroupResults) -> Vec<Result<(), ErrorCode>> {
    results.errors.into_iter().map(result).collect()
}

fn offset_to_wire(offset: &CommittedOffset) -> proto::CommittedOffset {
    proto::CommittedOffset {
        topic: offset.topic.clone(),
        topic_id: offset.topic_id.map(topic_id_to_wire),
        partition: offset.partition.0,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        error: offset.error.map_or(0, ErrorCode::number),
    }
}

fn offset_from_wire(offset: proto::CommittedOffset) -> Result<CommittedOffset, DecodeError> {
    Ok(CommittedOffset {
        topic: string("topic name", offset.topic)?,
        topic_id: offset.topic_id.map(|id| topic_id(&id)).transpose()?,
        partition: PartitionId(offset.partition),
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: string("metadata of an offset", offset.metadata)?,
        error: error(offset.error),
    })
}

fn listed_to_wire(listed: &Listed) -> proto::ListedGroup {
    proto::ListedGroup {
        group: listed.group.clone(),
        protocol_type: listed.protocol_type.clone(),
        state: state_to_wire(listed.state),
        kind: kind_to_wire(listed.kind),
    }
}

fn listed_from_wire(listed: proto::ListedGroup) -> Result<Listed, DecodeError> {
    Ok(Listed {
        group: string("group", listed.group)?,
        protocol_type: string("protocol type", listed.protocol_type)?,
        state: state_from_wire(listed.state)?,
        kind: kind_from_wire(listed.kind)?,
    })
}
