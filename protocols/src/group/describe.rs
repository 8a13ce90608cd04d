//! Descriptions of groups.

use rafka_broker::group::request::{
    ClassicDescription, ClassicMember, ConsumerDescription, ConsumerMember, GroupKind, GroupState,
};

use super::shared::{caller, caller_to_wire, optional_string, string, topics, topics_to_wire};
use crate::proto;
use crate::wire::DecodeError;

pub(super) fn state_to_wire(state: GroupState) -> u32 {
    match state {
        GroupState::Empty => 1,
        GroupState::PreparingRebalance => 2,
        GroupState::CompletingRebalance => 3,
        GroupState::Assigning => 4,
        GroupState::Reconciling => 5,
        GroupState::Stable => 6,
        GroupState::Dead => 7,
    }
}

pub(super) fn state_from_wire(state: u32) -> Result<GroupState, DecodeError> {
    Ok(match state {
        1 => GroupState::Empty,
        2 => GroupState::PreparingRebalance,
        3 => GroupState::CompletingRebalance,
        4 => GroupState::Assigning,
        5 => GroupState::Reconciling,
        6 => GroupState::Stable,
        7 => GroupState::Dead,
        _ => return Err(DecodeError::Missing("state of a group")),
    })
}

pub(super) fn kind_to_wire(kind: GroupKind) -> u32 {
    match kind {
        GroupKind::Classic => 1,
        GroupKind::Consumer => 2,
    }
}

pub(super) fn kind_from_wire(kind: u32) -> Result<GroupKind, DecodeError> {
    match kind {
        1 => Ok(GroupKind::Classic),
        2 => Ok(GroupKind::Consumer),
        _ => Err(DecodeError::Missing("kind of a group")),
    }
}

pub(super) fn classic_to_wire(group: &ClassicDescription) -> proto::ClassicGroup {
    let member = |member: &ClassicMember| proto::ClassicMember {
        member_id: member.member_id.clone(),
        instance_id: member.instance_id.clone(),
        caller: Some(caller_to_wire(&member.caller)),
        metadata: member.metadata.clone(),
        assignment: member.assignment.clone(),
    };
    proto::ClassicGroup {
        group: group.group.clone(),
        state: state_to_wire(group.state),
        protocol_type: group.protocol_type.clone(),
        protocol: group.protocol.clone(),
        members: group.members.iter().map(member).collect(),
    }
}

pub(super) fn classic_from_wire(group: proto::ClassicGroup) -> Result<ClassicDescription, DecodeError> {
    let member = |member: proto::ClassicMember| {
        Ok(ClassicMember {
            member_id: string("member id", member.member_id)?,
            instance_id: optional_string("instance id", member.instance_id)?,
            caller: caller(member.caller)?,
            metadata: member.metadata,
            assignment: member.assignment,
        })
    };
    Ok(ClassicDescription {
        group: string("group", group.group)?,
        state: state_from_wire(group.state)?,
        protocol_type: string("protocol type", group.protocol_type)?,
        protocol: string("protocol", group.protocol)?,
        members: group.members.into_iter().map(member).collect::<Result<_, DecodeError>>()?,
    })
}

pub(super) fn consumer_to_wire(group: &ConsumerDescription) -> proto::ConsumerGroup {
    proto::ConsumerGroup {
        group: group.group.clone(),
        state: state_to_wire(group.state),
        group_epoch: group.group_epoch,
        assignment_epoch: group.assignment_epoch,
        assignor: group.assignor.clone(),
        members: group.members.iter().map(member_to_wire).collect(),
    }
}

pub(super) fn consumer_from_wire(group: proto::ConsumerGroup) -> Result<ConsumerDescription, DecodeError> {
    Ok(ConsumerDescription {
        group: string("group", group.group)?,
        state: state_from_wire(group.state)?,
        group_epoch: group.group_epoch,
        assignment_epoch: group.assignment_epoch,
        assignor: string("assignor", group.assignor)?,
        members: group.members.into_iter().map(member_from_wire).collect::<Result<_, _>>()?,
    })
}

fn member_to_wire(member: &ConsumerMember) -> proto::ConsumerMember {
    proto::ConsumerMember {
        member_id: member.member_id.clone(),
        instance_id: member.instance_id.clone(),
        rack_id: member.rack_id.clone(),
        member_epoch: member.member_epoch,
        caller: Some(caller_to_wire(&member.caller)),
        subscribed_topics: member.subscribed_topics.clone(),
        subscribed_regex: member.subscribed_regex.clone(),
        assignment: topics_to_wire(&member.assignment),
        target: topics_to_wire(&member.target),
        is_classic: member.is_classic,
    }
}

fn member_from_wire(member: proto::ConsumerMember) -> Result<ConsumerMember, DecodeError> {
    let names = member.subscribed_topics.into_iter().map(|name| string("topic name", name));
    Ok(ConsumerMember {
        member_id: string("member id", member.member_id)?,
        instance_id: optional_string("instance id", member.instance_id)?,
        rack_id: optional_string("rack", member.rack_id)?,
        member_epoch: member.member_epoch,
        caller: caller(member.caller)?,
        subscribed_topics: names.collect::<Result<_, _>>()?,
        subscribed_regex: string("regular expression", member.subscribed_regex)?,
        assignment: topics(member.assignment)?,
        target: topics(member.target)?,
        is_classic: member.is_classic,
    })
}
