//! The machine of one partition of [`OFFSETS_TOPIC`](super::OFFSETS_TOPIC), without I/O.
//!
//! Its driver appends the records of each [`Output`] to the partition and holds every reply until all records so far
//! are committed: state changes at once, but nobody hears of what could still be lost. If an append fails or the
//! partition gets another leader, the machine is dropped with all that waits in it, and the next one reads the log.
//! The records of an output are one batch; if they are too many for one, they may be split, as those of one group's
//! change of state are a single record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rafka_model::{Monotonic, PartitionId, Timestamp};

use super::Config;
use super::entry::{Entry, Group};
use super::offsets::Stored;
use super::records::{self, Key, OffsetKey, RecordError};
use super::request::{Commit, ForgetOffsets, GroupReply, GroupRequest, GroupState, Listed, OffsetsAsked};
use super::timers::Timers;
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
    groups: BTreeMap<Arc<str>, Entry>,
    timers: Timers,
    /// Names of topics with offsets, each kept once.
    topics: BTreeMap<Arc<str>, ()>,
    offsets: usize,
    rebalances: u64,
}

impl Coordinator {
    /// A coordinator that knows no group yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (groups, timers, topics) = Default::default();
        Self { config, groups, timers, topics, offsets: 0, rebalances: 0 }
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
                None => self.forget(group, topic, partition),
            },
            Key::Group(_) | Key::Consumer(..) | Key::Unknown => {}
        }
        Ok(())
    }

    /// The log is read: sessions of the members begin now.
    pub fn loaded(&mut self, _context: &Context<'_>) -> Output {
        Output::default()
    }

    /// Takes a request. It may be answered at once or by a later step.
    pub fn handle(&mut self, context: &Context<'_>, token: Token, request: GroupRequest) -> Output {
        let mut output = Output::default();
        let out = &mut output;
        let reply = match request {
            GroupRequest::Commit(commit) => Some(self.commit(context, &commit, out).map(GroupReply::Commit)),
            GroupRequest::Offsets(asked) => Some(self.offsets(&asked).map(GroupReply::Offsets)),
            GroupRequest::ForgetOffsets(forget) => {
                Some(self.forget_offsets(&forget, out).map(GroupReply::ForgetOffsets))
            }
            GroupRequest::Describe { group } => Some(self.describe(&group)),
            GroupRequest::Delete { group } => Some(self.delete(&group, out)),
            GroupRequest::Join(_)
            | GroupRequest::Sync(_)
            | GroupRequest::Heartbeat(_)
            | GroupRequest::Leave(_)
            | GroupRequest::ConsumerHeartbeat(_) => {
                Some(Err(Failure::new(ErrorCode::UnsupportedVersion, "not served")))
            }
        };
        output.replies.extend(reply.map(|reply| (token, reply)));
        output
    }

    /// Time has passed: ends sessions and rebalances, forgets expired offsets.
    pub fn tick(&mut self, context: &Context<'_>) -> Output {
        while self.timers.ring(context.now).is_some() {}
        Output::default()
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Monotonic> {
        self.timers.next()
    }

    /// Topics came, went or grew.
    pub fn image_changed(&mut self, _context: &Context<'_>) -> Output {
        Output::default()
    }

    /// All groups.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.groups.iter().map(|(name, entry)| entry.listed(name)).collect()
    }

    /// Sizes, for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { offsets: self.offsets, rebalances: self.rebalances, ..Stats::default() };
        for entry in self.groups.values() {
            *stats.groups.entry(entry.state()).or_default() += 1;
            stats.members += entry.members();
        }
        stats
    }

    /// Every committed offset: group, topic, partition, offset.
    pub fn committed(&self) -> impl Iterator<Item = (&str, &str, PartitionId, i64)> {
        self.groups.iter().flat_map(|(group, entry)| {
            let offsets = entry.offsets.iter();
            offsets.map(move |(topic, partition, stored)| (&**group, &**topic, partition, stored.offset))
        })
    }

    fn store(&mut self, group: &str, topic: &str, partition: PartitionId, stored: Stored) {
        let topic = match self.topics.get_key_value(topic) {
            Some((topic, ())) => Arc::clone(topic),
            None => {
                let topic = Arc::<str>::from(topic);
                self.topics.insert(Arc::clone(&topic), ());
                topic
            }
        };
        let is_new = self.entry(group).offsets.store(&topic, partition, stored);
        self.offsets += usize::from(is_new);
    }

    fn forget(&mut self, group: &str, topic: &str, partition: PartitionId) {
        let was_there = self.groups.get_mut(group).is_some_and(|entry| entry.offsets.forget(topic, partition));
        self.offsets -= usize::from(was_there);
    }

    /// The group, made if there is none.
    fn entry(&mut self, group: &str) -> &mut Entry {
        if !self.groups.contains_key(group) {
            let name = Arc::<str>::from(group);
            self.groups.insert(Arc::clone(&name), Entry::new(name));
        }
        self.groups.get_mut(group).expect("made above")
    }

    fn commit(
        &mut self,
        context: &Context<'_>,
        commit: &Commit,
        output: &mut Output,
    ) -> Result<Vec<Result<(), ErrorCode>>, Failure> {
        let instance = commit.instance_id.as_deref();
        match self.groups.get(&*commit.group).map(|entry| &entry.group) {
            Some(Group::Classic(group)) => group.check_commit(commit.generation, &commit.member_id, instance)?,
            None if commit.generation < 0 => {}
            None => return Err(Failure::new(ErrorCode::IllegalGeneration, "no such group")),
        }
        let mut results = Vec::with_capacity(commit.offsets.len());
        for one in &commit.offsets {
            if one.metadata.len() > self.config.offset_metadata_max_bytes {
                results.push(Err(ErrorCode::OffsetMetadataTooLarge));
                continue;
            }
            let stored = Stored {
                offset: one.offset,
                leader_epoch: one.leader_epoch,
                metadata: one.metadata.as_str().into(),
                committed: context.time,
                expires: None,
                topic_id: one.topic_id,
            };
            let key = OffsetKey { group: &commit.group, topic: &one.topic, partition: one.partition };
            output.records.push(key.record(Some(&stored)));
            self.store(&commit.group, &one.topic, one.partition, stored);
            results.push(Ok(()));
        }
        Ok(results)
    }

    fn offsets(&self, asked: &OffsetsAsked) -> Result<Vec<super::request::CommittedOffset>, Failure> {
        let none = super::offsets::Offsets::default();
        let offsets = self.groups.get(&*asked.group).map_or(&none, |entry| &entry.offsets);
        Ok(offsets.answer(asked.topics.as_deref()))
    }

    fn forget_offsets(
        &mut self,
        forget: &ForgetOffsets,
        output: &mut Output,
    ) -> Result<Vec<Result<(), ErrorCode>>, Failure> {
        let Some(entry) = self.groups.get(&*forget.group) else { return Err(no_such_group()) };
        let Group::Classic(group) = &entry.group;
        if !entry.is_empty() && !group.is_of_consumers() {
            return Err(Failure::new(ErrorCode::NonEmptyGroup, "the group has members"));
        }
        let mut results = Vec::with_capacity(forget.partitions.len());
        for (topic, partition) in &forget.partitions {
            let Some(entry) = self.groups.get(&*forget.group) else { break };
            if entry.subscribes(topic) {
                results.push(Err(ErrorCode::GroupSubscribedToTopic));
                continue;
            }
            if entry.offsets.get(topic, *partition).is_some() {
                output.records.push(OffsetKey { group: &forget.group, topic, partition: *partition }.record(None));
                self.forget(&forget.group, topic, *partition);
            }
            results.push(Ok(()));
        }
        Ok(results)
    }

    fn describe(&self, group: &str) -> Result<GroupReply, Failure> {
        self.groups.get(group).map(|entry| GroupReply::Describe(entry.describe())).ok_or_else(no_such_group)
    }

    fn delete(&mut self, group: &str, output: &mut Output) -> Result<GroupReply, Failure> {
        let entry = self.groups.get(group).ok_or_else(no_such_group)?;
        entry.may_be_deleted()?;
        let Some(entry) = self.groups.remove(group) else { return Err(no_such_group()) };
        for (topic, partition, _) in entry.offsets.iter() {
            output.records.push(OffsetKey { group, topic, partition }.record(None));
            self.offsets -= 1;
        }
        output.records.push(records::group::record(group, None));
        Ok(GroupReply::Delete)
    }
}

fn no_such_group() -> Failure {
    Failure::new(ErrorCode::GroupIdNotFound, "no such group")
}
