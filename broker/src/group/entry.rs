//! What a coordinator keeps of a group: who is in it, and its offsets.

use std::sync::Arc;

use rafka_model::{PartitionId, Timestamp};

use super::config::Config;
use super::coordinator::{Context, GroupRecord, Token};
use super::offsets::{Offsets, Stored};
use super::records::{self, ConsumerKey, ConsumerValue};
use super::request::{
    Commit, ConsumerHeartbeat, ConsumerHeartbeatReply, GroupDescription, GroupKind, GroupReply, GroupState, Heartbeat,
    Join, Leave, Left, Listed, OffsetToCommit, OffsetsAsked, Sync,
};
use super::timers::Alarm;
use super::work::Work;
use super::{classic, consumer};
use crate::{ErrorCode, Failure};

/// A group's members, by the protocol that they speak.
#[derive(Debug)]
pub(super) enum Group {
    /// Its members assign.
    Classic(classic::Group),
    /// Its coordinator assigns (KIP-848).
    Consumer(consumer::Group),
}

/// A group and its offsets.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) group: Group,
    pub(super) offsets: Offsets,
}

/// What a group weighs in its coordinator.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Weight {
    pub(super) members: usize,
    pub(super) bytes: usize,
}

impl Entry {
    /// A group without members: every group begins as one.
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { group: Group::Classic(classic::Group::new(name)), offsets: Offsets::default() }
    }

    /// Nothing is known of the group that would be missed.
    pub(super) fn is_blank(&self) -> bool {
        match &self.group {
            Group::Classic(group) => self.offsets.is_empty() && group.is_blank(),
            Group::Consumer(group) => self.offsets.is_empty() && group.is_blank(),
        }
    }

    pub(super) fn weight(&self) -> Weight {
        match &self.group {
            Group::Classic(group) => Weight { members: group.members.len(), bytes: group.bytes() },
            Group::Consumer(group) => Weight { members: group.members(), bytes: group.bytes() },
        }
    }

    pub(super) fn state(&self) -> GroupState {
        match &self.group {
            Group::Classic(group) => group.state,
            Group::Consumer(group) => group.state(),
        }
    }

    pub(super) fn listed(&self, name: &str) -> Listed {
        match &self.group {
            Group::Classic(group) => Listed {
                group: name.to_owned(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                state: group.state,
                kind: GroupKind::Classic,
            },
            Group::Consumer(group) => Listed {
                group: name.to_owned(),
                protocol_type: consumer::PROTOCOL_TYPE.to_owned(),
                state: group.state(),
                kind: GroupKind::Consumer,
            },
        }
    }

    pub(super) fn describe(&self) -> GroupDescription {
        match &self.group {
            Group::Classic(group) => GroupDescription::Classic(group.describe()),
            Group::Consumer(group) => GroupDescription::Consumer(group.describe()),
        }
    }

    pub(super) fn join(&mut self, work: &mut Work<'_>, token: Token, join: Join) {
        if let Group::Consumer(group) = &self.group
            && group.members() == 0
        {
            // A group without members may become one of the other kind.
            work.output.records.extend(group.tombstones());
            self.group = Group::Classic(classic::Group::new(Arc::clone(&group.name)));
        }
        match &mut self.group {
            Group::Classic(group) => group.join(work, token, join),
            Group::Consumer(group) => {
                let reply = group.join(work, &join).map(GroupReply::Join);
                work.output.replies.push((token, reply));
                self.settle(work);
            }
        }
    }

    /// Takes a heartbeat of KIP-848; a classic group becomes one of that kind when such a member joins.
    pub(super) fn consumer_heartbeat(
        &mut self,
        work: &mut Work<'_>,
        heartbeat: &ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatReply, Failure> {
        if let Group::Classic(group) = &mut self.group {
            if heartbeat.member_epoch != consumer::JOIN {
                return Err(Failure::new(ErrorCode::UnknownMemberId, "the group has no such member"));
            }
            self.group = Group::Consumer(consumer::Group::from_classic(work, group)?);
        }
        let Group::Consumer(group) = &mut self.group else { return Err(has_members()) };
        let reply = group.heartbeat(work, heartbeat);
        self.settle(work);
        reply
    }

    /// After a step of a group of KIP-848: its alarm is set, or it goes on as a classic group.
    fn settle(&mut self, work: &mut Work<'_>) {
        let Group::Consumer(group) = &self.group else { return };
        if group.is_to_be_classic(work) {
            self.group = Group::Classic(group.to_classic(work));
        } else if let Some(at) = group.next_timeout() {
            work.timers.set(Alarm::Consumer(Arc::clone(&group.name)), at);
        }
    }

    /// Takes in a record of a group of KIP-848.
    pub(super) fn replay(&mut self, name: Arc<str>, key: ConsumerKey<'_>, value: Option<ConsumerValue>) {
        let is_end = key == ConsumerKey::Group && value.is_none();
        if value.is_some() && !matches!(self.group, Group::Consumer(_)) {
            self.group = Group::Consumer(consumer::Group::new(Arc::clone(&name)));
        }
        match &mut self.group {
            Group::Consumer(_) if is_end => self.group = Group::Classic(classic::Group::new(name)),
            Group::Consumer(group) => group.apply(key, value),
            Group::Classic(_) => {}
        }
    }

    /// Topics came, went or grew.
    pub(super) fn image_changed(&mut self, work: &mut Work<'_>, names_changed: bool) {
        if let Group::Consumer(group) = &mut self.group {
            group.image_changed(work, names_changed);
            self.settle(work);
        }
    }

    pub(super) fn sync(&mut self, work: &mut Work<'_>, token: Token, sync: Sync) {
        match &mut self.group {
            Group::Classic(group) => group.sync(work, token, sync),
            Group::Consumer(group) => {
                let reply = group.sync(work, &sync).map(GroupReply::Sync);
                work.output.replies.push((token, reply));
                self.settle(work);
            }
        }
    }

    pub(super) fn heartbeat(&mut self, work: &mut Work<'_>, heartbeat: &Heartbeat) -> Result<(), Failure> {
        match &mut self.group {
            Group::Classic(group) => group.heartbeat(work, heartbeat),
            Group::Consumer(group) => {
                let result = group.classic_heartbeat(work, heartbeat);
                self.settle(work);
                result
            }
        }
    }

    pub(super) fn leave(&mut self, work: &mut Work<'_>, leave: Leave) -> Vec<Left> {
        match &mut self.group {
            Group::Classic(group) => group.leave(work, leave.members),
            Group::Consumer(group) => {
                let left = group.leave(work, &leave);
                self.settle(work);
                left
            }
        }
    }

    /// Whether the offsets of who commits are taken; if so it lives.
    pub(super) fn commits(&mut self, work: &mut Work<'_>, commit: &Commit) -> Result<(), Failure> {
        match &mut self.group {
            Group::Classic(group) => {
                let instance_id = commit.instance_id.as_deref();
                group.check_commit(work.rules, commit.generation, &commit.member_id, instance_id)?;
                group.committed(work, &commit.member_id);
                Ok(())
            }
            Group::Consumer(group) => {
                group.check_commit(commit.generation, &commit.member_id, commit.instance_id.as_deref()).map(drop)
            }
        }
    }

    /// Why an offset of a commit that [`Self::commits`] took is not to be stored.
    pub(super) fn refuses(&self, context: &Context<'_>, commit: &Commit, one: &OffsetToCommit) -> Option<ErrorCode> {
        let Group::Consumer(group) = &self.group else { return None };
        let instance_id = commit.instance_id.as_deref();
        let commits = match group.check_commit(commit.generation, &commit.member_id, instance_id) {
            Ok(commits) => commits,
            Err(failure) => return Some(failure.code),
        };
        commits.check(context.image, one).err()
    }

    /// Whether who asks may read the group's offsets.
    pub(super) fn may_read(&self, asked: &OffsetsAsked) -> Result<(), Failure> {
        match &self.group {
            Group::Classic(_) => Ok(()),
            Group::Consumer(group) => group.check_fetch(asked.member_id.as_deref(), asked.member_epoch),
        }
    }

    pub(super) fn ring(&mut self, work: &mut Work<'_>, alarm: &Alarm) {
        match (&mut self.group, alarm) {
            (Group::Classic(group), Alarm::Session(_, member)) => group.session_is_over(work, member),
            (Group::Classic(group), Alarm::Pending(_, member)) => group.pending_is_over(work, member),
            (Group::Classic(group), Alarm::Rebalance(_)) => group.wait_is_over(work),
            (Group::Consumer(group), Alarm::Consumer(_)) => {
                group.tick(work);
                self.settle(work);
            }
            // Set for a group of the other kind, which this one was.
            (Group::Classic(_), Alarm::Consumer(_)) | (Group::Consumer(_), _) => {}
        }
    }

    pub(super) fn loaded(&mut self, work: &mut Work<'_>) {
        match &mut self.group {
            Group::Classic(group) => group.loaded(work),
            Group::Consumer(group) => {
                group.loaded(work);
                self.settle(work);
            }
        }
    }

    /// Whether an administrator may take the group away.
    pub(super) fn may_be_deleted(&self) -> Result<(), Failure> {
        if self.state() == GroupState::Empty { Ok(()) } else { Err(has_members()) }
    }

    /// Whether an administrator may forget offsets: while there are members, only if it can be told what they read.
    pub(super) fn may_forget_offsets(&self) -> Result<(), Failure> {
        match &self.group {
            Group::Classic(group) if group.state == GroupState::Empty || group.is_of_consumers() => Ok(()),
            Group::Classic(_) => Err(has_members()),
            Group::Consumer(_) => Ok(()),
        }
    }

    /// True if the group's members read `topic`, so that its offsets must stay.
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        match &self.group {
            Group::Classic(group) => group.subscribes(topic),
            Group::Consumer(group) => group.subscribes(topic),
        }
    }

    /// Since when an offset's life is counted; `None` while it does not age.
    ///
    /// The offsets of a group live as long as it has members, and of a stable group of consumers those of topics that
    /// it does not read any more age; without members they age from when the last left (KIP-211); of a group that
    /// never had any, from their commit.
    fn ages_since(&self, stored: &Stored) -> Option<Timestamp> {
        match &self.group {
            Group::Classic(group) => match (group.protocol_type.is_some(), group.state) {
                (false, _) => Some(stored.committed),
                // A commit after the last member left keeps its offset for as long as any other.
                (true, GroupState::Empty) => Some(group.since.max(stored.committed)),
                (true, GroupState::Stable) if group.topics.is_some() => Some(stored.committed),
                (true, _) => None,
            },
            Group::Consumer(_) => Some(stored.committed),
        }
    }

    /// Offsets whose life is over.
    pub(super) fn expired(&self, config: &Config, now: Timestamp) -> Vec<(Arc<str>, PartitionId)> {
        let life = i64::try_from(config.offsets_retention_ms).unwrap_or(i64::MAX);
        let is_over = |stored: &Stored| {
            self.ages_since(stored).is_some_and(|since| match stored.expires {
                Some(at) => now >= at,
                None => now.0.saturating_sub(since.0) >= life,
            })
        };
        let mut expired = Vec::new();
        for topic in self.offsets.topics().filter(|topic| !self.subscribes(topic)) {
            let old = self.offsets.of_topic(topic).filter(|(_, stored)| is_over(stored));
            expired.extend(old.map(|(partition, _)| (Arc::clone(topic), partition)));
        }
        expired
    }

    /// Nobody would miss the group without so many of its offsets: no members, none about to come, no offsets.
    pub(super) fn is_over_without(&self, offsets: usize) -> bool {
        match &self.group {
            Group::Classic(group) => {
                self.offsets.len() == offsets && group.state == GroupState::Empty && group.pending.is_empty()
            }
            Group::Consumer(group) => self.offsets.len() == offsets && group.members() == 0,
        }
    }

    /// Records that take the group, but not its offsets, back.
    pub(super) fn tombstones(&self, name: &str) -> Vec<GroupRecord> {
        match &self.group {
            Group::Classic(_) => vec![records::group::record(name, None)],
            Group::Consumer(group) => group.tombstones(),
        }
    }
}

fn has_members() -> Failure {
    Failure::new(ErrorCode::NonEmptyGroup, "the group has members")
}
