//! Members that speak the classic protocol within a group of KIP-848: they are told of a rebalance by their heartbeat,
//! join with what they still have, and get their share by SyncGroup. None of them leads.

use std::sync::Arc;

use rafka_model::PartitionId;

use super::metadata::topic;
use super::protocol::{ClassicSubscription, Named, read_subscription, write_assignment};
use super::timers::{Deadline, later};
use super::{Group, Member};
use crate::group::records::consumer::{ClassicPart, MemberState, Subscription};
use crate::group::request::{Heartbeat, Join, JoinReply, Joined, Leave, Left, Sync, SyncReply, TopicPartitions};
use crate::group::work::Work;
use crate::metadata::Image;
use crate::{ErrorCode, Failure};

/// The only protocol type whose bytes the coordinator can read.
pub(in crate::group) const CONSUMER: &str = "consumer";

fn refuse<T>(code: ErrorCode, why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(code, why))
}

/// Partitions by id; topics that do not exist are left out.
fn by_id(named: &Named, image: &Image) -> Vec<TopicPartitions> {
    let known = named.iter().filter_map(|(name, partitions)| Some((topic(image, name)?.id, partitions)));
    known.map(|(topic, partitions)| TopicPartitions { topic, partitions: partitions.clone() }).collect()
}

impl Group {
    /// JoinGroup.
    ///
    /// # Errors
    /// As Kafka: protocols that the group's classic members do not share, a full group, bytes that cannot be read.
    pub(in crate::group) fn join(&mut self, work: &mut Work<'_>, request: &Join) -> Result<JoinReply, Failure> {
        let is_new = request.member_id.is_empty();
        let id: Arc<str> = if is_new {
            format!("{}-{:032x}", request.caller.client_id, work.context.unique).into()
        } else {
            request.member_id.as_str().into()
        };
        let holder = request.instance_id.as_ref().and_then(|name| self.instances.get(name)).cloned();
        self.has_room(work, !self.members.contains_key(&id) && holder.is_none())?;
        self.check_protocols(request, &id)?;
        let subscription = read_join(request)?;
        if is_new && request.requires_member_id && request.instance_id.is_none() {
            return Ok(JoinReply::TakeMemberId(id.to_string()));
        }
        match holder {
            Some(old) if old != id && is_new => self.replace(work, &old, &id),
            Some(old) if old != id => {
                return refuse(ErrorCode::FencedInstanceId, format!("the static member's name is {old}'s now"));
            }
            None if request.instance_id.is_some() && !is_new => {
                return refuse(ErrorCode::UnknownMemberId, "no static member has this name");
            }
            _ => {}
        }
        let owned = by_id(&subscription.owned, work.context.image);
        self.advance(work, &id, Some(subscribed(request, subscription)), Some(&owned));
        self.heard(work, &id);
        let due = later(work.context.now, i64::from(request.rebalance_timeout_ms));
        let Some(member) = self.members.get_mut(&id) else {
            return refuse(ErrorCode::UnknownMemberId, "no such member");
        };
        (member.join, member.sync) = (None, Some(due));
        let generation = member.current.epoch;
        self.alarms.set(Deadline::Sync(Arc::clone(&id)), due);
        Ok(JoinReply::Joined(Joined {
            generation,
            protocol_type: CONSUMER.to_owned(),
            protocol: request.protocols[0].name.clone(),
            member_id: id.to_string(),
            ..Joined::default()
        }))
    }

    /// The protocols must be consumers', and there must be one that all classic members speak.
    fn check_protocols(&self, request: &Join, id: &str) -> Result<(), Failure> {
        let others = self.members.iter().filter(|(other, _)| ***other != *id);
        let mut others = others.filter_map(|(_, member)| member.subscription.classic.as_ref()).peekable();
        let mut common: Vec<&str> = request.protocols.iter().map(|protocol| &*protocol.name).collect();
        while let Some(other) = others.next().filter(|_| !common.is_empty()) {
            common.retain(|name| other.protocols.iter().any(|protocol| protocol.name == *name));
        }
        if request.protocol_type != CONSUMER || common.is_empty() {
            return refuse(ErrorCode::InconsistentGroupProtocol, "the member has no protocol in common with the group");
        }
        Ok(())
    }

    /// SyncGroup.
    ///
    /// # Errors
    /// As Kafka: who is no classic member, or of another generation, or has to join again.
    pub(in crate::group) fn sync(&mut self, work: &mut Work<'_>, request: &Sync) -> Result<SyncReply, Failure> {
        let id = self.classic_member(&request.member_id, request.instance_id.as_deref(), request.generation)?;
        let member = &self.members[&id];
        let protocol = member.subscription.classic.as_ref().and_then(|classic| classic.protocols.first());
        let Some(protocol) = protocol.cloned() else {
            return refuse(ErrorCode::InconsistentGroupProtocol, "the member has no protocol");
        };
        let differs = |said: &Option<String>, is: &str| said.as_deref().is_some_and(|said| said != is);
        if differs(&request.protocol_type, CONSUMER) || differs(&request.protocol, &protocol.name) {
            return refuse(ErrorCode::InconsistentGroupProtocol, "the member joined with another protocol");
        }
        if self.target_epoch.epoch > member.current.epoch && member.current.state != MemberState::Unrevoked {
            self.call_back(work, &id);
            return refuse(ErrorCode::RebalanceInProgress, "the group has a newer target: join again");
        }
        let version = read_subscription(&protocol.metadata).map(|read| read.version).unwrap_or_default();
        let assignment = write_assignment(version, &self.named(&id, work.context.image));
        self.heard(work, &id);
        if let Some(member) = self.members.get_mut(&id) {
            member.sync = None;
        }
        Ok(SyncReply { protocol_type: CONSUMER.to_owned(), protocol: protocol.name, assignment })
    }

    /// What a member has, by name.
    pub(super) fn named(&self, id: &str, image: &Image) -> Named {
        let assigned = self.members.get(id).into_iter().flat_map(|member| &member.current.assigned);
        let named = assigned.filter_map(|(topic, partitions)| {
            let name = image.topics.get(topic)?.name.as_str().to_owned();
            Some((name, partitions.keys().copied().collect::<Vec<PartitionId>>()))
        });
        named.collect()
    }

    /// Heartbeat: `REBALANCE_IN_PROGRESS` if there is reason to join again.
    ///
    /// # Errors
    /// As Kafka.
    pub(in crate::group) fn classic_heartbeat(
        &mut self,
        work: &mut Work<'_>,
        request: &Heartbeat,
    ) -> Result<(), Failure> {
        let id = self.classic_member(&request.member_id, request.instance_id.as_deref(), request.generation)?;
        self.heard(work, &id);
        let member = &self.members[&id];
        let behind = member.current.epoch < self.target_epoch.epoch;
        let moves = match member.current.state {
            MemberState::Unrevoked => true,
            MemberState::Unreleased => self.has_news(&id, member),
            _ => false,
        };
        if behind || moves {
            self.call_back(work, &id);
            return refuse(ErrorCode::RebalanceInProgress, "the group rebalances: join again");
        }
        Ok(())
    }

    /// All that the member waits for is free.
    fn has_news(&self, id: &Arc<str>, member: &Member) -> bool {
        self.share(id).iter().all(|(topic, partitions)| {
            let has = member.current.assigned.get(topic);
            partitions.iter().all(|partition| {
                has.is_some_and(|has| has.contains_key(partition)) || !self.owners.contains_key(&(*topic, *partition))
            })
        })
    }

    /// The member must join again within its rebalance timeout.
    fn call_back(&mut self, work: &Work<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id).filter(|member| member.join.is_none()) else { return };
        let due = later(work.context.now, i64::from(member.subscription.rebalance_timeout_ms));
        member.join = Some(due);
        self.alarms.set(Deadline::Join(Arc::clone(id)), due);
    }

    fn classic_member(&self, id: &str, instance: Option<&str>, generation: i32) -> Result<Arc<str>, Failure> {
        let id = self.find(id, instance).map_err(|code| Failure::new(code, "no such member"))?;
        let member = &self.members[&id];
        if !member.is_classic() {
            return refuse(ErrorCode::UnknownMemberId, "the member does not speak the classic protocol");
        }
        if generation != member.current.epoch {
            let why = format!("the member is in generation {}, not {generation}", member.current.epoch);
            return refuse(ErrorCode::IllegalGeneration, why);
        }
        Ok(id)
    }

    /// LeaveGroup, for members of either kind.
    pub(in crate::group) fn leave(&mut self, work: &mut Work<'_>, request: &Leave) -> Vec<Left> {
        let mut gone = Vec::new();
        let mut answers = Vec::with_capacity(request.members.len());
        for leaving in &request.members {
            let found = self.find(&leaving.member_id, leaving.instance_id.as_deref());
            let (member_id, instance_id) = (leaving.member_id.clone(), leaving.instance_id.clone());
            answers.push(Left { member_id, instance_id, result: found.map(|id| gone.push(id)) });
        }
        self.fence(work, &gone);
        answers
    }
}

/// The subscription in a JoinGroup: that of the member's best protocol, as Kafka takes it.
fn read_join(request: &Join) -> Result<ClassicSubscription, Failure> {
    let read = request.protocols.first().map(|protocol| read_subscription(&protocol.metadata));
    match read {
        Some(Ok(subscription)) => Ok(subscription),
        _ => refuse(ErrorCode::InconsistentGroupProtocol, "the member's subscription cannot be read"),
    }
}

fn subscribed(request: &Join, subscription: ClassicSubscription) -> Subscription {
    let protocols = request.protocols.clone();
    Subscription {
        instance_id: request.instance_id.clone(),
        rack_id: subscription.rack_id,
        caller: request.caller.clone(),
        topics: subscription.topics.into_iter().collect(),
        regex: None,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicPart { session_timeout_ms: request.session_timeout_ms, protocols }),
    }
}
