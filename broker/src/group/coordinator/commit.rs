//! Committed offsets: stored, read and forgotten.

use rafka_model::limits::{GROUP_COMMIT_OFFSETS_MAX, GROUPS_MAX, GROUPS_OFFSETS_MAX};
use rafka_model::{PartitionId, Timestamp};

use super::{Context, Coordinator, Output, no_such_group};
use crate::group::offsets::{Offsets, Stored};
use crate::group::records::OffsetKey;
use crate::group::request::{Commit, ForgetOffsets, GroupReply, OffsetsAsked};
use crate::{ErrorCode, Failure};

impl Coordinator {
    pub(super) fn commit(
        &mut self,
        context: &Context<'_>,
        output: &mut Output,
        commit: &Commit,
    ) -> Result<GroupReply, Failure> {
        check_count(commit.offsets.len())?;
        let room = GROUPS_OFFSETS_MAX.saturating_sub(self.offsets);
        if commit.offsets.len() > room && self.new_offsets(commit) > room {
            let why = format!("the coordinator holds {GROUPS_OFFSETS_MAX} offsets, as many as it can");
            return Err(Failure::new(ErrorCode::PolicyViolation, why));
        }
        match self.step(context, output, &commit.group, |entry, work| entry.commits(work, commit)) {
            Some(checked) => checked?,
            None if commit.generation >= 0 => {
                return Err(Failure::new(ErrorCode::IllegalGeneration, "no such group"));
            }
            None if self.groups.len() >= GROUPS_MAX => {
                let why = format!("the coordinator has {GROUPS_MAX} groups, as many as it can");
                return Err(Failure::new(ErrorCode::PolicyViolation, why));
            }
            None => {}
        }
        let expires = commit
            .retention_ms
            .map(|life| Timestamp(context.time.0.saturating_add(i64::try_from(life).unwrap_or(i64::MAX))));
        let mut results = Vec::with_capacity(commit.offsets.len());
        for one in &commit.offsets {
            if one.metadata.len() > self.config.offset_metadata_max_bytes {
                results.push(Err(ErrorCode::OffsetMetadataTooLarge));
                continue;
            }
            if let Some(code) = self.groups.get(&*commit.group).and_then(|entry| entry.refuses(context, commit, one)) {
                results.push(Err(code));
                continue;
            }
            let stored = Stored {
                offset: one.offset,
                leader_epoch: if expires.is_none() { one.leader_epoch } else { -1 },
                metadata: one.metadata.as_str().into(),
                committed: context.time,
                expires,
                // What the record cannot say must not be known until the next load only.
                topic_id: one.topic_id.filter(|_| expires.is_none()),
            };
            let key = OffsetKey { group: &commit.group, topic: &one.topic, partition: one.partition };
            output.records.push(key.record(Some(&stored)));
            self.store(&commit.group, &one.topic, one.partition, stored);
            results.push(Ok(()));
        }
        Ok(GroupReply::Commit(results))
    }

    fn new_offsets(&self, commit: &Commit) -> usize {
        let Some(entry) = self.groups.get(&*commit.group) else { return commit.offsets.len() };
        commit.offsets.iter().filter(|one| entry.offsets.get(&one.topic, one.partition).is_none()).count()
    }

    pub(super) fn offsets(&self, asked: &OffsetsAsked) -> Result<GroupReply, Failure> {
        check_count(asked.topics.iter().flatten().map(|(_, partitions)| partitions.len()).sum())?;
        let topics = asked.topics.as_deref();
        let Some(entry) = self.groups.get(&*asked.group) else {
            return Ok(GroupReply::Offsets(Offsets::default().answer(topics)));
        };
        entry.may_read(asked)?;
        Ok(GroupReply::Offsets(entry.offsets.answer(topics)))
    }

    pub(super) fn forget_offsets(
        &mut self,
        output: &mut Output,
        forget: &ForgetOffsets,
    ) -> Result<GroupReply, Failure> {
        check_count(forget.partitions.len())?;
        self.groups.get(&*forget.group).ok_or_else(no_such_group)?.may_forget_offsets()?;
        let mut results = Vec::with_capacity(forget.partitions.len());
        for (topic, partition) in &forget.partitions {
            let is_read = self.groups.get(&*forget.group).is_some_and(|entry| entry.subscribes(topic));
            if !is_read {
                self.forget_and_record(output, &forget.group, topic, *partition);
            }
            results.push(if is_read { Err(ErrorCode::GroupSubscribedToTopic) } else { Ok(()) });
        }
        Ok(GroupReply::ForgetOffsets(results))
    }

    pub(super) fn store(&mut self, group: &str, topic: &str, partition: PartitionId, stored: Stored) {
        let group = self.make(group);
        let Some(entry) = self.groups.get_mut(&group) else { return };
        let is_new = entry.offsets.store(topic, partition, stored, || self.topics.note(topic, &group));
        self.offsets += usize::from(is_new);
    }

    /// Forgets an offset; false if there was none.
    pub(super) fn forget(&mut self, group: &str, topic: &str, partition: PartitionId) -> bool {
        let Some(entry) = self.groups.get_mut(group) else { return false };
        let was_there = entry.offsets.forget(topic, partition);
        if was_there && !entry.offsets.has_topic(topic) {
            self.topics.unnote(topic, group);
        }
        self.offsets -= usize::from(was_there);
        was_there
    }

    pub(super) fn forget_and_record(&mut self, output: &mut Output, group: &str, topic: &str, partition: PartitionId) {
        if self.forget(group, topic, partition) {
            output.records.push(OffsetKey { group, topic, partition }.record(None));
        }
    }
}

fn check_count(offsets: usize) -> Result<(), Failure> {
    if offsets > GROUP_COMMIT_OFFSETS_MAX {
        let why = format!("the request names {offsets} partitions, limit is {GROUP_COMMIT_OFFSETS_MAX}");
        return Err(Failure::new(ErrorCode::InvalidRequest, why));
    }
    Ok(())
}
