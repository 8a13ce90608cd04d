//! The machine of one partition of [`OFFSETS_TOPIC`](super::OFFSETS_TOPIC), without I/O.
//!
//! Its driver appends the records of each [`Output`] to the partition and holds every reply until all records so far
//! are committed: state changes at once, but nobody hears of what could still be lost. If an append fails or the
//! partition gets another leader, the machine is dropped with all that waits in it, and the next one reads the log.
//! The records of an output are one batch. If they are too many for one (tombstones of a large group), they may be
//! split: what must not be torn is within one record.

mod admin;
mod commit;
mod consumer;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_model::limits::{GROUP_ID_BYTES_MAX, GROUP_LEAVING_MAX, GROUPS_BYTES_MAX, GROUPS_MAX, GROUPS_MEMBERS_MAX};
use rafka_model::{Monotonic, PartitionId, Timestamp};

use super::classic;
use super::config::Config;
use super::entry::{Entry, Group, Weight};
use super::records::{self, Key, OffsetKey, RecordError};
use super::request::{GroupReply, GroupRequest, GroupState, Join, Listed};
use super::rules::{Rule, Rules};
use super::timers::Timers;
use super::topics::Topics;
use super::work::Work;
use crate::metadata::Image;
use crate::{ErrorCode, Failure};

/// What a decision depends on besides the machine's state.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// For deadlines.
    pub now: Monotonic,
    /// For records.
    pub time: Timestamp,
    /// The cluster's metadata.
    pub image: &'a Image,
    /// Random, and another for each call: member ids are made of it.
    pub unique: u128,
}

/// Names a request until it is answered.
pub type Token = u64;

/// A record for the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupRecord {
    /// What it is about.
    pub key: Bytes,
    /// What is so from now on; `None` takes the key back.
    pub value: Option<Bytes>,
}

/// What is to be done after a step.
#[derive(Debug, Default)]
pub struct Output {
    /// For the log, as one batch.
    pub records: Vec<GroupRecord>,
    /// To be given once these records, and all before them, are committed.
    pub replies: Vec<(Token, Result<GroupReply, Failure>)>,
}

/// Sizes, for metrics.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Groups by state.
    pub groups: BTreeMap<GroupState, usize>,
    /// Members of all groups.
    pub members: usize,
    /// Offsets of all groups.
    pub offsets: usize,
    /// Generations begun by this machine.
    pub rebalances: u64,
}

/// A coordinator of the groups of one partition.
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    pub(super) rules: Rules,
    groups: BTreeMap<Arc<str>, Entry>,
    timers: Timers,
    topics: Topics,
    weight: Weight,
    offsets: usize,
    rebalances: u64,
    /// When expired offsets are looked for next, and behind which group.
    sweep: Option<(Monotonic, Option<Arc<str>>)>,
    /// Of the topics that there were when last looked at.
    fingerprint: u64,
}

impl Coordinator {
    /// A coordinator that knows no group yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            rules: Rules::default(),
            groups: BTreeMap::new(),
            timers: Timers::default(),
            topics: Topics::default(),
            weight: Weight::default(),
            offsets: 0,
            rebalances: 0,
            sweep: None,
            fingerprint: 0,
        }
    }

    /// Takes in one record of the log, in order.
    ///
    /// Kinds of records that are not known are left alone: a later program wrote them.
    ///
    /// # Errors
    /// [`RecordError`] if the record is damaged; the state is as before.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RecordError> {
        match Key::decode(key)? {
            Key::Offset(OffsetKey { group, topic, partition }) => match value {
                Some(value) => {
                    let stored = records::offset::decode(value)?;
                    self.store(group, topic, partition, stored);
                }
                None => {
                    self.forget(group, topic, partition);
                    self.drop_if_blank(group);
                }
            },
            Key::Group(name) => {
                let metadata = value.map(records::group::decode).transpose()?;
                self.change(name, |entry, name| match metadata {
                    Some(metadata) => entry.group = Group::Classic(classic::Group::from_metadata(name, metadata)),
                    None => match entry.group {
                        Group::Classic(_) => entry.group = Group::Classic(classic::Group::new(name)),
                        Group::Consumer(_) => {}
                    },
                });
                self.drop_if_blank(name);
            }
            Key::Consumer(name, key) => {
                let value = value.map(|value| key.decode(value)).transpose()?;
                self.change(name, |entry, name| entry.replay(name, key, value));
                self.drop_if_blank(name);
            }
            Key::Unknown => {}
        }
        Ok(())
    }

    /// The log is read: sessions of the members begin now.
    pub fn loaded(&mut self, context: &Context<'_>) -> Output {
        let mut output = Output::default();
        if self.rules.hold(Rule::SessionsBeginAgain) {
            let names: Vec<_> = self.groups.keys().cloned().collect();
            for name in names {
                self.step(context, &mut output, &name, |entry, work| entry.loaded(work));
            }
        }
        self.topics.gone(context.image);
        self.fingerprint = consumer::fingerprint(context);
        self.sweep = Some((self.next_sweep(context.now), None));
        output
    }

    /// Takes a request. It may be answered at once or by a later step.
    pub fn handle(&mut self, context: &Context<'_>, token: Token, request: GroupRequest) -> Output {
        let mut output = Output::default();
        let out = &mut output;
        let reply = match self.check_name(&request) {
            Err(failure) => Some(Err(failure)),
            Ok(()) => match request {
                GroupRequest::Join(join) => self.join(context, out, token, join),
                GroupRequest::Sync(sync) => {
                    let name = sync.group.clone();
                    let found = self.step(context, out, &name, |entry, work| entry.sync(work, token, sync));
                    found.is_none().then(|| Err(no_such_member()))
                }
                GroupRequest::Heartbeat(heartbeat) => {
                    let done =
                        self.step(context, out, &heartbeat.group, |entry, work| entry.heartbeat(work, &heartbeat));
                    Some(done.unwrap_or_else(|| Err(no_such_member())).map(|()| GroupReply::Heartbeat))
                }
                GroupRequest::Leave(leave) => {
                    let name = leave.group.clone();
                    let left = self.step(context, out, &name, |entry, work| entry.leave(work, leave));
                    Some(left.map(GroupReply::Leave).ok_or_else(no_such_member))
                }
                GroupRequest::ConsumerHeartbeat(heartbeat) => Some(self.consumer_heartbeat(context, out, &heartbeat)),
                GroupRequest::Commit(commit) => Some(self.commit(context, out, &commit)),
                GroupRequest::Offsets(asked) => Some(self.offsets(&asked)),
                GroupRequest::ForgetOffsets(forget) => Some(self.forget_offsets(out, &forget)),
                GroupRequest::Describe { group } => Some(self.describe(&group)),
                GroupRequest::Delete { group } => Some(self.delete(out, &group)),
            },
        };
        output.replies.extend(reply.map(|reply| (token, reply)));
        output
    }

    /// Time has passed: ends sessions and rebalances, forgets expired offsets.
    pub fn tick(&mut self, context: &Context<'_>) -> Output {
        let mut output = Output::default();
        while let Some(alarm) = self.timers.ring(context.now) {
            let group = alarm.group();
            self.step(context, &mut output, group, |entry, work| entry.ring(work, &alarm));
        }
        self.sweep(context, &mut output);
        output
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Monotonic> {
        let sweep = self.sweep.as_ref().map(|(at, _)| *at);
        self.timers.next().into_iter().chain(sweep).min()
    }

    /// Topics came, went or grew.
    pub fn image_changed(&mut self, context: &Context<'_>) -> Output {
        let mut output = Output::default();
        self.forget_gone_topics(context, &mut output);
        self.refresh_consumers(context, &mut output);
        output
    }

    /// All groups.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.groups.iter().map(|(name, entry)| entry.listed(name)).collect()
    }

    /// Sizes, for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut groups = BTreeMap::new();
        for entry in self.groups.values() {
            *groups.entry(entry.state()).or_default() += 1;
        }
        Stats { groups, members: self.weight.members, offsets: self.offsets, rebalances: self.rebalances }
    }

    /// Every committed offset: group, topic, partition, offset.
    pub fn committed(&self) -> impl Iterator<Item = (&str, &str, PartitionId, i64)> {
        self.groups.iter().flat_map(|(group, entry)| {
            let offsets = entry.offsets.iter();
            offsets.map(move |(topic, partition, stored)| (&**group, &**topic, partition, stored.offset))
        })
    }

    fn check_name(&self, request: &GroupRequest) -> Result<(), Failure> {
        let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidGroupId, why));
        // Old clients commit and read offsets of the group without a name.
        let may_be_empty = matches!(
            request,
            GroupRequest::Commit(_)
                | GroupRequest::Offsets(_)
                | GroupRequest::ForgetOffsets(_)
                | GroupRequest::Describe { .. }
                | GroupRequest::Delete { .. }
        );
        match request.group().len() {
            0 if !may_be_empty => refuse("the group's name is empty".to_owned()),
            bytes if bytes > GROUP_ID_BYTES_MAX => {
                refuse(format!("the group's name has {bytes} bytes, limit is {GROUP_ID_BYTES_MAX}"))
            }
            _ => match request {
                GroupRequest::Leave(leave) if leave.members.len() > GROUP_LEAVING_MAX => {
                    let why = format!("{} members leave, limit is {GROUP_LEAVING_MAX}", leave.members.len());
                    Err(Failure::new(ErrorCode::InvalidRequest, why))
                }
                _ => Ok(()),
            },
        }
    }

    fn join(
        &mut self,
        context: &Context<'_>,
        output: &mut Output,
        token: Token,
        join: Join,
    ) -> Option<Result<GroupReply, Failure>> {
        if let Err(failure) =
            classic::check(&self.config, &join).and_then(|()| self.has_room(&join.group, join.member_id.is_empty()))
        {
            return Some(Err(failure));
        }
        let name = join.group.clone();
        if !self.groups.contains_key(&*name) {
            if !join.member_id.is_empty() {
                return Some(Err(no_such_member()));
            }
            self.make(&name);
        }
        self.step(context, output, &name, |entry, work| entry.join(work, token, join));
        self.drop_if_blank(&name);
        None
    }

    /// Whether one more member or group fits in.
    fn has_room(&self, group: &str, is_new: bool) -> Result<(), Failure> {
        let full = |what: &str, limit: usize| {
            let why = format!("the coordinator has as many {what} as it can: {limit}");
            Err(Failure::new(ErrorCode::GroupMaxSizeReached, why))
        };
        if is_new && self.weight.members >= GROUPS_MEMBERS_MAX {
            return full("members", GROUPS_MEMBERS_MAX);
        }
        if is_new && self.weight.bytes >= GROUPS_BYTES_MAX {
            return full("bytes of members", GROUPS_BYTES_MAX);
        }
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(group) {
            return full("groups", GROUPS_MAX);
        }
        Ok(())
    }

    /// The group takes a step; `None` if there is no such group.
    fn step<R>(
        &mut self,
        context: &Context<'_>,
        output: &mut Output,
        name: &str,
        step: impl FnOnce(&mut Entry, &mut Work<'_>) -> R,
    ) -> Option<R> {
        let entry = self.groups.get_mut(name)?;
        let (config, rules, timers, rebalances) = (&self.config, self.rules, &mut self.timers, &mut self.rebalances);
        let (before, room) = (entry.weight(), GROUPS_BYTES_MAX.saturating_sub(self.weight.bytes));
        let result = step(entry, &mut Work { context, config, rules, timers, output, rebalances, room });
        let after = entry.weight();
        self.weigh(before, after);
        Some(result)
    }

    /// The group, made if there is none, is changed without consequences.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Entry, Arc<str>)) {
        let key = self.make(name);
        let Some(entry) = self.groups.get_mut(name) else { return };
        let before = entry.weight();
        change(entry, key);
        let after = entry.weight();
        self.weigh(before, after);
    }

    fn weigh(&mut self, before: Weight, after: Weight) {
        self.weight.members = self.weight.members - before.members + after.members;
        self.weight.bytes = self.weight.bytes - before.bytes + after.bytes;
    }

    /// Sees to it that there is a group of this name; gives the name to keep.
    fn make(&mut self, name: &str) -> Arc<str> {
        if let Some((name, _)) = self.groups.get_key_value(name) {
            return Arc::clone(name);
        }
        let name = Arc::<str>::from(name);
        self.groups.insert(Arc::clone(&name), Entry::new(Arc::clone(&name)));
        name
    }

    fn drop_if_blank(&mut self, name: &str) {
        if self.groups.get(name).is_some_and(Entry::is_blank) {
            self.groups.remove(name);
        }
    }

    fn next_sweep(&self, now: Monotonic) -> Monotonic {
        now.plus(Duration::from_millis(self.config.offsets_retention_check_interval_ms.max(1)))
    }

    /// The groups behind this name, by name; all if there is none.
    fn names_behind(&self, name: Option<&Arc<str>>) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = name.map_or(Unbounded, |name| Excluded(Arc::clone(name)));
        self.groups.range((from, Unbounded))
    }
}

fn no_such_member() -> Failure {
    Failure::new(ErrorCode::UnknownMemberId, "no such group")
}

fn no_such_group() -> Failure {
    Failure::new(ErrorCode::GroupIdNotFound, "no such group")
}
