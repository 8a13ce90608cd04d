//! `/rafka/<cid>/group/1`: what the coordinator of a consumer group is asked, and what any node can be asked about
//! groups: which it coordinates, and who coordinates one.
//!
//! Requests and answers are messages in the body: assignments may be larger than any header.

mod describe;
mod reply;
mod shared;

use bytes::Bytes;
use prost::Message;
use rafka_broker::group::request::{
    Commit, ConsumerHeartbeat, ForgetOffsets, GroupRequest, Heartbeat, Join, Leave, Leaving, OffsetToCommit,
    OffsetsAsked, Protocol, Sync,
};
use rafka_model::PartitionId;
use rafka_model::limits::GROUP_REQUEST_ITEMS_MAX;

use crate::Frame;
use crate::proto::{self, group_request::Kind};
use crate::wire::{self, DecodeError, Inside, topic_id, topic_id_to_wire};
use shared::{
    caller, caller_to_wire, optional_string, partition_ids, partition_ids_to_wire, string, topics, topics_to_wire,
};

pub use reply::{Reply, decode_reply, encode_reply};

/// What a node is asked about groups.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are of the largest variant")]
pub enum Request {
    /// One group's coordinator does it.
    Group(GroupRequest),
    /// All groups that the node coordinates.
    List,
    /// Who coordinates the group.
    Coordinator {
        /// The group.
        group: String,
    },
}

/// Messages of a request that hold lists.
const TREE: &[Inside] = &[
    Inside(1, &[]),
    Inside(2, &[]),
    Inside(4, &[]),
    Inside(5, &[Inside(7, &[]), Inside(10, &[Inside(1, &[])])]),
    Inside(6, &[]),
    Inside(7, &[Inside(5, &[Inside(1, &[])])]),
    Inside(8, &[]),
];

/// Encodes a request.
#[must_use]
pub fn encode_request(request: &Request) -> Frame {
    let kind = match request {
        Request::List => Kind::List(proto::ListGroups {}),
        Request::Coordinator { group } => Kind::Coordinator(group.clone()),
        Request::Group(request) => to_wire(request),
    };
    Frame::new(Bytes::new(), proto::GroupRequest { kind: Some(kind) }.encode_to_vec().into())
}

/// Decodes a request. Names are bounded here; whether they are legal is for the coordinator to say.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_request(frame: &Frame) -> Result<Request, DecodeError> {
    let wire: proto::GroupRequest =
        wire::decode_tree(&frame.body(), "fields of a group request", GROUP_REQUEST_ITEMS_MAX, TREE)?;
    Ok(Request::Group(match wire.kind.ok_or(DecodeError::Missing("kind of group request"))? {
        Kind::List(_) => return Ok(Request::List),
        Kind::Coordinator(group) => return Ok(Request::Coordinator { group: string("group", group)? }),
        Kind::Join(join) => GroupRequest::Join(join_from_wire(join)?),
        Kind::Sync(sync) => GroupRequest::Sync(sync_from_wire(sync)?),
        Kind::Heartbeat(heartbeat) => GroupRequest::Heartbeat(Heartbeat {
            group: string("group", heartbeat.group)?,
            generation: heartbeat.generation,
            member_id: string("member id", heartbeat.member_id)?,
            instance_id: optional_string("instance id", heartbeat.instance_id)?,
        }),
        Kind::Leave(leave) => GroupRequest::Leave(Leave {
            group: string("group", leave.group)?,
            members: leave.members.into_iter().map(leaving_from_wire).collect::<Result<_, _>>()?,
        }),
        Kind::ConsumerHeartbeat(heartbeat) => GroupRequest::ConsumerHeartbeat(consumer_heartbeat_from_wire(heartbeat)?),
        Kind::Commit(commit) => GroupRequest::Commit(Commit {
            group: string("group", commit.group)?,
            generation: commit.generation,
            member_id: string("member id", commit.member_id)?,
            instance_id: optional_string("instance id", commit.instance_id)?,
            retention_ms: commit.retention_ms,
            offsets: commit.offsets.into_iter().map(offset_from_wire).collect::<Result<_, _>>()?,
        }),
        Kind::Offsets(asked) => GroupRequest::Offsets(asked_from_wire(asked)?),
        Kind::ForgetOffsets(forget) => GroupRequest::ForgetOffsets(ForgetOffsets {
            group: string("group", forget.group)?,
            partitions: forget
                .partitions
                .into_iter()
                .map(|at| Ok((string("topic name", at.topic)?, PartitionId(at.partition))))
                .collect::<Result<_, DecodeError>>()?,
        }),
        Kind::Describe(group) => GroupRequest::Describe { group: string("group", group)? },
        Kind::Delete(group) => GroupRequest::Delete { group: string("group", group)? },
    }))
}

fn to_wire(request: &GroupRequest) -> Kind {
    match request {
        GroupRequest::Join(join) => Kind::Join(join_to_wire(join)),
        GroupRequest::Sync(sync) => Kind::Sync(sync_to_wire(sync)),
        GroupRequest::Heartbeat(heartbeat) => Kind::Heartbeat(proto::GroupHeartbeat {
            group: heartbeat.group.clone(),
            generation: heartbeat.generation,
            member_id: heartbeat.member_id.clone(),
            instance_id: heartbeat.instance_id.clone(),
        }),
        GroupRequest::Leave(leave) => Kind::Leave(proto::GroupLeave {
            group: leave.group.clone(),
            members: leave.members.iter().map(leaving_to_wire).collect(),
        }),
        GroupRequest::ConsumerHeartbeat(heartbeat) => Kind::ConsumerHeartbeat(consumer_heartbeat_to_wire(heartbeat)),
        GroupRequest::Commit(commit) => Kind::Commit(proto::GroupCommit {
            group: commit.group.clone(),
            generation: commit.generation,
            member_id: commit.member_id.clone(),
            instance_id: commit.instance_id.clone(),
            retention_ms: commit.retention_ms,
            offsets: commit.offsets.iter().map(offset_to_wire).collect(),
        }),
        GroupRequest::Offsets(asked) => Kind::Offsets(asked_to_wire(asked)),
        GroupRequest::ForgetOffsets(forget) => Kind::ForgetOffsets(proto::ForgetOffsets {
            group: forget.group.clone(),
            partitions: forget
                .partitions
                .iter()
                .map(|(topic, partition)| proto::NamedPartition { topic: topic.clone(), partition: partition.0 })
                .collect(),
        }),
        GroupRequest::Describe { group } => Kind::Describe(group.clone()),
        GroupRequest::Delete { group } => Kind::Delete(group.clone()),
    }
}

fn join_to_wire(join: &Join) -> proto::GroupJoin {
    let protocol =
        |protocol: &Protocol| proto::GroupProtocol { name: protocol.name.clone(), metadata: protocol.metadata.clone() };
    proto::GroupJoin {
        group: join.group.clone(),
        member_id: join.member_id.clone(),
        instance_id: join.instance_id.clone(),
        session_timeout_ms: join.session_timeout_ms,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        protocol_type: join.protocol_type.clone(),
        protocols: join.protocols.iter().map(protocol).collect(),
        requires_member_id: join.requires_member_id,
        can_skip_assignment: join.can_skip_assignment,
        reason: join.reason.clone(),
        caller: Some(caller_to_wire(&join.caller)),
    }
}

fn join_from_wire(join: proto::GroupJoin) -> Result<Join, DecodeError> {
    let protocol = |protocol: proto::GroupProtocol| {
        Ok(Protocol { name: string("protocol", protocol.name)?, metadata: protocol.metadata })
    };
    Ok(Join {
        group: string("group", join.group)?,
        member_id: string("member id", join.member_id)?,
        instance_id: optional_string("instance id", join.instance_id)?,
        session_timeout_ms: join.session_timeout_ms,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        protocol_type: string("protocol type", join.protocol_type)?,
        protocols: join.protocols.into_iter().map(protocol).collect::<Result<_, DecodeError>>()?,
        requires_member_id: join.requires_member_id,
        can_skip_assignment: join.can_skip_assignment,
        reason: optional_string("reason", join.reason)?,
        caller: caller(join.caller)?,
    })
}

fn sync_to_wire(sync: &Sync) -> proto::GroupSync {
    let assignment = |(member_id, assignment): &(String, Bytes)| proto::MemberAssignment {
        member_id: member_id.clone(),
        assignment: assignment.clone(),
    };
    proto::GroupSync {
        group: sync.group.clone(),
        generation: sync.generation,
        member_id: sync.member_id.clone(),
        instance_id: sync.instance_id.clone(),
        protocol_type: sync.protocol_type.clone(),
        protocol: sync.protocol.clone(),
        assignments: sync.assignments.iter().map(assignment).collect(),
    }
}

fn sync_from_wire(sync: proto::GroupSync) -> Result<Sync, DecodeError> {
    let assignment = |found: proto::MemberAssignment| Ok((string("member id", found.member_id)?, found.assignment));
    Ok(Sync {
        group: string("group", sync.group)?,
        generation: sync.generation,
        member_id: string("member id", sync.member_id)?,
        instance_id: optional_string("instance id", sync.instance_id)?,
        protocol_type: optional_string("protocol type", sync.protocol_type)?,
        protocol: optional_string("protocol", sync.protocol)?,
        assignments: sync.assignments.into_iter().map(assignment).collect::<Result<_, DecodeError>>()?,
    })
}

fn leaving_to_wire(member: &Leaving) -> proto::LeavingMember {
    proto::LeavingMember {
        member_id: member.member_id.clone(),
        instance_id: member.instance_id.clone(),
        reason: member.reason.clone(),
    }
}

fn leaving_from_wire(member: proto::LeavingMember) -> Result<Leaving, DecodeError> {
    Ok(Leaving {
        member_id: string("member id", member.member_id)?,
        instance_id: optional_string("instance id", member.instance_id)?,
        reason: optional_string("reason", member.reason)?,
    })
}

fn consumer_heartbeat_to_wire(heartbeat: &ConsumerHeartbeat) -> proto::ConsumerHeartbeat {
    proto::ConsumerHeartbeat {
        group: heartbeat.group.clone(),
        member_id: heartbeat.member_id.clone(),
        member_epoch: heartbeat.member_epoch,
        instance_id: heartbeat.instance_id.clone(),
        rack_id: heartbeat.rack_id.clone(),
        rebalance_timeout_ms: heartbeat.rebalance_timeout_ms,
        subscribed_topics: heartbeat.subscribed_topics.clone().map(|names| proto::TopicNames { names }),
        subscribed_regex: heartbeat.subscribed_regex.clone(),
        server_assignor: heartbeat.server_assignor.clone(),
        owned: heartbeat.owned.as_ref().map(|owned| proto::TopicPartitionsList { topics: topics_to_wire(owned) }),
        caller: Some(caller_to_wire(&heartbeat.caller)),
    }
}

fn consumer_heartbeat_from_wire(heartbeat: proto::ConsumerHeartbeat) -> Result<ConsumerHeartbeat, DecodeError> {
    let names = |found: proto::TopicNames| found.names.into_iter().map(|name| string("topic name", name)).collect();
    Ok(ConsumerHeartbeat {
        group: string("group", heartbeat.group)?,
        member_id: string("member id", heartbeat.member_id)?,
        member_epoch: heartbeat.member_epoch,
        instance_id: optional_string("instance id", heartbeat.instance_id)?,
        rack_id: optional_string("rack", heartbeat.rack_id)?,
        rebalance_timeout_ms: heartbeat.rebalance_timeout_ms,
        subscribed_topics: heartbeat.subscribed_topics.map(names).transpose()?,
        subscribed_regex: optional_string("regular expression", heartbeat.subscribed_regex)?,
        server_assignor: optional_string("assignor", heartbeat.server_assignor)?,
        owned: heartbeat.owned.map(|owned| topics(owned.topics)).transpose()?,
        caller: caller(heartbeat.caller)?,
    })
}

fn offset_to_wire(offset: &OffsetToCommit) -> proto::OffsetToCommit {
    proto::OffsetToCommit {
        topic: offset.topic.clone(),
        topic_id: offset.topic_id.map(topic_id_to_wire),
        partition: offset.partition.0,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
    }
}

fn offset_from_wire(offset: proto::OffsetToCommit) -> Result<OffsetToCommit, DecodeError> {
    Ok(OffsetToCommit {
        topic: string("topic name", offset.topic)?,
        topic_id: offset.topic_id.map(|id| topic_id(&id)).transpose()?,
        partition: PartitionId(offset.partition),
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: string("metadata of an offset", offset.metadata)?,
    })
}

fn asked_to_wire(asked: &OffsetsAsked) -> proto::OffsetsAsked {
    let topic = |(name, partitions): &(String, Vec<PartitionId>)| proto::NamedTopic {
        name: name.clone(),
        partitions: partition_ids_to_wire(partitions),
    };
    proto::OffsetsAsked {
        group: asked.group.clone(),
        member_id: asked.member_id.clone(),
        member_epoch: asked.member_epoch,
        require_stable: asked.require_stable,
        topics: asked.topics.as_ref().map(|topics| proto::NamedTopics { topics: topics.iter().map(topic).collect() }),
    }
}

fn asked_from_wire(asked: proto::OffsetsAsked) -> Result<OffsetsAsked, DecodeError> {
    let topics = asked.topics.map(|found| {
        let topics = found.topics.into_iter();
        topics.map(|topic| Ok((string("topic name", topic.name)?, partition_ids(topic.partitions)))).collect()
    });
    Ok(OffsetsAsked {
        group: string("group", asked.group)?,
        member_id: optional_string("member id", asked.member_id)?,
        member_epoch: asked.member_epoch,
        require_stable: asked.require_stable,
        topics: topics.transpose()?,
    })
}
