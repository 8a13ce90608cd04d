//! Groups whose coordinator assigns (KIP-848): members say what they read and are told what they own.
//!
//! Three epochs move one after another: the group's grows with each change of members, subscriptions or topics; the
//! target follows once an assignor has run for it; each member follows when it has given back what is not its share.
//! A partition is given to a member only when nobody has it: no member owns it, and none still has to give it back.
//! All state that must survive is changed by applying the records that the log gets, so a replay leads to the same.

mod assignor;
mod classic;
mod convert;
mod heartbeat;
mod metadata;
mod protocol;
mod reconcile;
#[cfg(test)]
mod simulation;
mod state;
#[cfg(test)]
mod tests;
mod timers;

pub(super) use self::classic::CONSUMER as PROTOCOL_TYPE;
pub(super) use self::heartbeat::{JOIN, check};

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_model::{Monotonic, PartitionId, TopicId};

use self::assignor::Assignment;
use self::timers::Deadline;
use super::records::consumer::{Current, Epoch, MemberState, Owned, Resolved, Subscription, TargetEpoch};
use super::request::{ConsumerDescription, ConsumerMember, GroupState, OffsetToCommit, TopicPartitions};
use super::timers::Timers;
use crate::metadata::Image;
use crate::{ErrorCode, Failure};

/// A group of KIP-848.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    epoch: Epoch,
    target_epoch: TargetEpoch,
    target: BTreeMap<Arc<str>, Assignment>,
    members: BTreeMap<Arc<str>, Member>,
    /// Expressions in use and the topics that they stand for.
    regexes: BTreeMap<String, Resolved>,

    /// Static members by name.
    instances: BTreeMap<String, Arc<str>>,
    /// Who has a partition, or has to give it back.
    owners: BTreeMap<(TopicId, PartitionId), Arc<str>>,
    /// Members that name each topic.
    topics: BTreeMap<String, usize>,
    /// Members with each expression.
    expressions: BTreeMap<String, usize>,
    /// Members that have reached the target.
    settled: usize,
    /// Members that speak the classic protocol.
    classic: usize,
    /// What the members hold.
    bytes: usize,

    alarms: Timers<Deadline>,
    /// When an assignor ran last here.
    assigned: Option<Monotonic>,
    /// When the group last became restless: its members come more often for a while.
    changed: Option<Monotonic>,
}

/// A member of a group of KIP-848.
#[derive(Debug, Default)]
struct Member {
    subscription: Subscription,
    current: Current,
    /// The session ends then, unless the member is heard of.
    session: Monotonic,
    /// What it was told to give back must be given back by then.
    revoke: Option<Monotonic>,
    /// A classic member that was told to join again must do so by then.
    join: Option<Monotonic>,
    /// A classic member that joined must ask for its assignment by then.
    sync: Option<Monotonic>,
}

impl Member {
    fn is_classic(&self) -> bool {
        self.subscription.classic.is_some()
    }

    /// It has what the target of this epoch says.
    fn has_reached(&self, target_epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == target_epoch
    }
}

impl Group {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            epoch: Epoch::default(),
            target_epoch: TargetEpoch { epoch: 0, made: rafka_model::Timestamp(0) },
            target: BTreeMap::new(),
            members: BTreeMap::new(),
            regexes: BTreeMap::new(),
            instances: BTreeMap::new(),
            owners: BTreeMap::new(),
            topics: BTreeMap::new(),
            expressions: BTreeMap::new(),
            settled: 0,
            classic: 0,
            bytes: 0,
            alarms: Timers::default(),
            assigned: None,
            changed: None,
        }
    }

    pub(super) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch.epoch > self.target_epoch.epoch {
            GroupState::Assigning
        } else if self.settled < self.members.len() {
            GroupState::Reconciling
        } else {
            GroupState::Stable
        }
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Bytes that the members hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing is left of the group.
    pub(super) fn is_blank(&self) -> bool {
        self.members.is_empty() && self.epoch.epoch == 0
    }

    /// True if some member reads `topic`.
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        self.topics.contains_key(topic) || self.regexes.values().any(|resolved| resolved.topics.contains(topic))
    }

    /// Whether each of the offsets may be stored: the member must be of its epoch, or of an older one in which it has
    /// had the partition without a break (KIP-1251).
    ///
    /// # Errors
    /// Who asks is no member, or says that it is in an epoch that never was.
    pub(super) fn check_commit(
        &self,
        epoch: i32,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<Commits<'_>, Failure> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(Commits { member: None, epoch });
        }
        let refuse = |code, why| Err(Failure::new(code, why));
        let Some(member) = self.members.get(member_id) else {
            return refuse(ErrorCode::UnknownMemberId, "who commits is not a member of the group");
        };
        if instance_id.is_some_and(|name| self.instances.get(name).is_some_and(|id| **id != *member_id)) {
            return refuse(ErrorCode::FencedInstanceId, "another member has this static member's name");
        }
        match epoch.cmp(&member.current.epoch) {
            std::cmp::Ordering::Equal => Ok(Commits { member: None, epoch }),
            std::cmp::Ordering::Less => Ok(Commits { member: Some(member), epoch }),
            std::cmp::Ordering::Greater => {
                let code = member.wrong_epoch();
                refuse(code, "the member is not yet in the epoch that it says it is in")
            }
        }
    }

    /// Whether a member of this epoch may read offsets.
    ///
    /// # Errors
    /// Who asks is no member, or not of its epoch.
    pub(super) fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), Failure> {
        let Some(member_id) = member_id.filter(|id| !(id.is_empty() && epoch < 0)) else { return Ok(()) };
        let Some(member) = self.members.get(member_id) else {
            return Err(Failure::new(ErrorCode::UnknownMemberId, "who asks is not a member of the group"));
        };
        if epoch == member.current.epoch {
            return Ok(());
        }
        let why = format!("the member is in epoch {}, not {epoch}", member.current.epoch);
        Err(Failure::new(member.wrong_epoch(), why))
    }

    pub(super) fn describe(&self) -> ConsumerDescription {
        let members = self.members.iter().map(|(id, member)| ConsumerMember {
            member_id: id.to_string(),
            instance_id: member.subscription.instance_id.clone(),
            rack_id: member.subscription.rack_id.clone(),
            member_epoch: member.current.epoch,
            caller: member.subscription.caller.clone(),
            subscribed_topics: member.subscription.topics.iter().cloned().collect(),
            subscribed_regex: member.subscription.regex.clone().unwrap_or_default(),
            assignment: told(&member.current.assigned),
            target: self.target.get(id).map(wanted).unwrap_or_default(),
            is_classic: member.is_classic(),
        });
        ConsumerDescription {
            group: self.name.to_string(),
            state: self.state(),
            group_epoch: self.epoch.epoch,
            assignment_epoch: self.target_epoch.epoch,
            assignor: self.assignor().name().to_owned(),
            members: members.collect(),
        }
    }
}

impl Member {
    /// What a member of another epoch is told.
    fn wrong_epoch(&self) -> ErrorCode {
        if self.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
    }
}

/// The verdict on the offsets of one commit.
#[derive(Debug)]
pub(super) struct Commits<'a> {
    /// Set if the commit is of an older epoch.
    member: Option<&'a Member>,
    epoch: i32,
}

impl Commits<'_> {
    /// Whether this offset may be stored.
    pub(super) fn check(&self, image: &Image, one: &OffsetToCommit) -> Result<(), ErrorCode> {
        let Some(member) = self.member else { return Ok(()) };
        let topic = one.topic_id.or_else(|| metadata::topic(image, &one.topic).map(|topic| topic.id));
        let has = |owned: &Owned| topic.and_then(|topic| owned.get(&topic)?.get(&one.partition).copied());
        match has(&member.current.assigned).or_else(|| has(&member.current.revoking)) {
            Some(since) if self.epoch >= since => Ok(()),
            _ => Err(member.wrong_epoch()),
        }
    }
}

fn told(owned: &Owned) -> Vec<TopicPartitions> {
    owned
        .iter()
        .map(|(topic, has)| TopicPartitions { topic: *topic, partitions: has.keys().copied().collect() })
        .collect()
}

fn wanted(target: &Assignment) -> Vec<TopicPartitions> {
    target
        .iter()
        .map(|(topic, has)| TopicPartitions { topic: *topic, partitions: has.iter().copied().collect() })
        .collect()
}
