//! Groups whose members assign: JoinGroup, SyncGroup, Heartbeat and LeaveGroup.
//!
//! A generation begins when all members have joined or the wait for them is over; the leader then sends the assignment
//! of everybody. Protocol type, metadata and assignment are opaque, save that the topics of consumers are read from
//! their metadata, to know which offsets are still needed.
//!
//! Source: Kafka's group coordinator; KIP-62 (sessions), KIP-134 (initial delay), KIP-345 (static members), KIP-394
//! (member ids are given out first), KIP-814 (a static leader need not assign again).

mod convert;
mod join;
mod leave;
mod rebalance;
mod stored;
mod sync;
#[cfg(test)]
mod tests;
mod votes;

pub(super) use join::check;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rafka_model::{Monotonic, Timestamp};

use super::coordinator::Token;
use super::request::{
    Caller, ClassicDescription, ClassicMember, GroupReply, GroupState, JoinReply, Joined, JoinedMember, Protocol,
};
use super::rules::{Rule, Rules};
use super::subscription;
use super::timers::Alarm;
use super::work::Work;
use crate::{ErrorCode, Failure};

/// The protocol type whose metadata the coordinator can read.
const CONSUMERS: &str = "consumer";

/// A classic group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    /// One of empty, preparing, completing and stable: a dead group is gone.
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
    /// Members of the generation that have not asked for their assignment.
    unsynced: BTreeSet<Arc<str>>,
    /// Members whose JoinGroup waits.
    joining: usize,
    /// How many members speak a protocol.
    speakers: BTreeMap<String, usize>,
    /// Bytes that the members hold.
    bytes: usize,
    /// When the wait for joins (preparing) or syncs (completing, stable) is over.
    wait: Option<Monotonic>,
    /// Set while the first generation of a group that was empty is prepared.
    initial: Option<Initial>,
}

/// The wait for the first members of a group (KIP-134).
#[derive(Clone, Copy, Debug)]
struct Initial {
    /// Nobody came for the configured delay.
    quiet: Monotonic,
    /// The wait ends then, even if members still come.
    latest: Monotonic,
}

/// A member of a classic group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) caller: Caller,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// The best first, no name twice.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// A JoinGroup that waits for the generation to begin.
    pub(super) joining: Option<Token>,
    /// A SyncGroup that waits for the leader's.
    pub(super) syncing: Option<Token>,
    /// The session ends then, unless the member is heard of.
    pub(super) deadline: Monotonic,
    /// Was in no generation yet.
    pub(super) is_new: bool,
}

impl Member {
    fn bytes(&self) -> usize {
        let protocols = self.protocols.iter().map(|one| one.name.len() + one.metadata.len()).sum::<usize>();
        let texts = self.instance_id.as_ref().map_or(0, String::len) + self.caller.client_id.len();
        protocols + self.assignment.len() + texts + self.caller.client_host.len() + 256
    }

    fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let chosen = self.protocols.iter().find(|one| Some(&*one.name) == protocol);
        chosen.map(|one| one.metadata.clone()).unwrap_or_default()
    }

    /// The member was heard of, or owes no word for now.
    fn touch(&mut self, work: &mut Work<'_>, group: &Arc<str>, id: &Arc<str>) {
        self.lives_until(work, group, id, work.after(self.session_timeout_ms));
    }

    fn lives_until(&mut self, work: &mut Work<'_>, group: &Arc<str>, id: &Arc<str>, deadline: Monotonic) {
        self.deadline = deadline;
        work.timers.set(Alarm::Session(Arc::clone(group), Arc::clone(id)), deadline);
    }
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
            unsynced: BTreeSet::new(),
            joining: 0,
            speakers: BTreeMap::new(),
            bytes: 0,
            wait: None,
            initial: None,
        }
    }

    /// Nothing worth a record: no member ever joined, and none is about to.
    pub(super) fn is_blank(&self) -> bool {
        self.protocol_type.is_none() && self.generation == 0 && self.members.is_empty() && self.pending.is_empty()
    }

    /// Bytes that the members hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The members speak the protocol of consumers, whose bytes the coordinator can read.
    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMERS)
    }

    /// True if the members read `topic`; consumers whose topics cannot be told may read any.
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        self.topics.as_ref().map_or(self.is_of_consumers(), |topics| topics.contains(topic))
    }

    /// Whether `member_id`, perhaps under the name of a static member, is one of the group.
    pub(super) fn check_member(&self, rules: Rules, member_id: &str, instance_id: Option<&str>) -> Result<(), Failure> {
        let unknown = || Err(Failure::new(ErrorCode::UnknownMemberId, "the group has no such member"));
        if let Some(instance_id) = instance_id {
            let Some(current) = self.instances.get(instance_id) else { return unknown() };
            if **current != *member_id && rules.hold(Rule::OldInstancesAreFenced) {
                let why = "a newer member has taken the name of this static member";
                return Err(Failure::new(ErrorCode::FencedInstanceId, why));
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { unknown() }
    }

    fn check_generation(&self, rules: Rules, generation: i32) -> Result<(), Failure> {
        if generation == self.generation || !rules.hold(Rule::GenerationsAreChecked) {
            return Ok(());
        }
        let why = format!("the group is in generation {}, not {generation}", self.generation);
        Err(Failure::new(ErrorCode::IllegalGeneration, why))
    }

    /// Whether offsets of this member and generation are taken. Who is no member shows generation -1 and is heard
    /// while nobody else is there.
    pub(super) fn check_commit(
        &self,
        rules: Rules,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), Failure> {
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if rules.hold(Rule::MembersAreChecked) {
            self.check_member(rules, member_id, instance_id)?;
        }
        self.check_generation(rules, generation)?;
        if self.state == GroupState::CompletingRebalance {
            return Err(Failure::new(ErrorCode::RebalanceInProgress, "the group waits for its assignment"));
        }
        Ok(())
    }

    /// A member has committed offsets: it lives.
    pub(super) fn committed(&mut self, work: &mut Work<'_>, member_id: &str) {
        if matches!(self.state, GroupState::Stable | GroupState::PreparingRebalance) {
            self.touch(work, member_id);
        }
    }

    fn touch(&mut self, work: &mut Work<'_>, member_id: &str) {
        if let Some((id, _)) = self.members.get_key_value(member_id) {
            let id = Arc::clone(id);
            if let Some(member) = self.members.get_mut(&id) {
                member.touch(work, &self.name, &id);
            }
        }
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn become_(&mut self, work: &Work<'_>, state: GroupState) {
        self.state = state;
        self.since = work.context.time;
    }

    fn wait_until(&mut self, work: &mut Work<'_>, at: Monotonic) {
        self.wait = Some(at);
        work.timers.set(Alarm::Rebalance(Arc::clone(&self.name)), at);
    }

    /// The longest wait that a member asked for, ms.
    fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// The place of a member in the generation, as its JoinGroup is answered.
    fn joined(&self, id: &str) -> Joined {
        let member = |(id, member): (&Arc<str>, &Member)| JoinedMember {
            member_id: id.to_string(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        };
        let members = if self.is_leader(id) { self.members.iter().map(member).collect() } else { Vec::new() };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment: false,
            member_id: id.to_owned(),
            members,
        }
    }

    fn answer_joined(&self, work: &mut Work<'_>, token: Token, id: &str) {
        work.reply(token, GroupReply::Join(JoinReply::Joined(self.joined(id))));
    }

    /// Reads the topics of consumers.
    fn read_topics(&mut self) {
        self.topics = None;
        if self.is_of_consumers() && (self.members.is_empty() || self.protocol.is_some()) {
            let protocol = self.protocol.as_deref();
            let mut topics = BTreeSet::new();
            let read = |member: &Member| subscription::topics(&member.metadata(protocol), &mut topics);
            if self.members.values().map(read).all(|one| one.is_ok()) {
                self.topics = Some(topics);
            }
        }
    }

    pub(super) fn describe(&self) -> ClassicDescription {
        let stable = self.state == GroupState::Stable;
        let members = self.members.iter().map(|(id, member)| ClassicMember {
            member_id: id.to_string(),
            instance_id: member.instance_id.clone(),
            caller: member.caller.clone(),
            metadata: if stable { member.metadata(self.protocol.as_deref()) } else { Bytes::new() },
            assignment: if stable { member.assignment.clone() } else { Bytes::new() },
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
