//! Groups whose members assign: JoinGroup, SyncGroup, Heartbeat and LeaveGroup.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rafka_model::{Monotonic, Timestamp};

use super::coordinator::Token;
use super::request::{Caller, ClassicDescription, ClassicMember, GroupState, Protocol};
use crate::{ErrorCode, Failure};

/// A classic group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    /// Never assigning, reconciling or dead: a dead group is gone.
    pub(super) state: GroupState,
    /// Since when, as records say it.
    pub(super) since: Timestamp,
    /// Set by the first member that ever joined; none if only offsets were ever committed.
    pub(super) protocol_type: Option<String>,
    pub(super) generation: i32,
    /// Chosen with the generation.
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Static members by name.
    pub(super) instances: BTreeMap<String, Arc<str>>,
    /// Member ids given out to members that have not come again yet.
    pub(super) pending: BTreeSet<Arc<str>>,
    /// Topics that the members read, if they speak the consumer protocol and can be read.
    pub(super) topics: Option<BTreeSet<String>>,
}

/// A member of a classic group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) caller: Caller,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// The best first.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// A JoinGroup that waits for the generation to begin.
    pub(super) joining: Option<Token>,
    /// A SyncGroup that waits for the leader's.
    pub(super) syncing: Option<Token>,
    /// The session ends then, unless the member is heard of.
    pub(super) deadline: Monotonic,
}

impl Group {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            state: GroupState::Empty,
            since: Timestamp::NONE,
            protocol_type: None,
            generation: 0,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeSet::new(),
            topics: None,
        }
    }

    /// The members speak the protocol of consumers, whose bytes the coordinator can read.
    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// True if the members read `topic`; if that cannot be told of a group of consumers, they may.
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        self.topics.as_ref().map_or(self.is_of_consumers() && !self.members.is_empty(), |topics| topics.contains(topic))
    }

    /// Whether `member_id`, perhaps under the name of a static member, is one of the group.
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            let current = self.instances.get(instance_id).ok_or(ErrorCode::UnknownMemberId)?;
            if **current != *member_id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether offsets of this member and generation are taken.
    pub(super) fn check_commit(
        &self,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), Failure> {
        let refuse = |code, why| Err(Failure::new(code, why));
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return refuse(ErrorCode::UnknownMemberId, "the group has members: only they may commit");
        }
        if let Err(code) = self.check_member(member_id, instance_id) {
            return refuse(code, "who commits is not a member of the group");
        }
        if generation != self.generation {
            return refuse(ErrorCode::IllegalGeneration, "the group is in another generation");
        }
        if self.state == GroupState::CompletingRebalance {
            return refuse(ErrorCode::RebalanceInProgress, "the group waits for its assignment");
        }
        Ok(())
    }

    pub(super) fn describe(&self) -> ClassicDescription {
        let stable = self.state == GroupState::Stable;
        let members = self.members.iter().map(|(id, member)| {
            let metadata = member.protocols.iter().find(|one| Some(&one.name) == self.protocol.as_ref());
            ClassicMember {
                member_id: id.to_string(),
                instance_id: member.instance_id.clone(),
                caller: member.caller.clone(),
                metadata: metadata.filter(|_| stable).map(|one| one.metadata.clone()).unwrap_or_default(),
                assignment: if stable { member.assignment.clone() } else { Bytes::new() },
            }
        });
        ClassicDescription {
            group: self.name.to_string(),
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().filter(|_| stable).unwrap_or_default(),
            members: members.collect(),
        }
    }
}
