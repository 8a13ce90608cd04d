//! A member's way to its share of the target, one step at a time.

use std::collections::BTreeMap;

use rafka_model::{PartitionId, TopicId};

use super::assignor::Assignment;
use crate::group::records::consumer::{Current, MemberState, Owned};
use crate::group::request::TopicPartitions;
use crate::group::rules::{Rule, Rules};

/// What a step depends on.
pub(super) struct Way<'a, Reads, Free> {
    /// Epoch of the target.
    pub(super) epoch: i32,
    /// The member's share of it.
    pub(super) target: &'a Assignment,
    /// What the member says that it has; `None` if it does not say.
    pub(super) owned: Option<&'a [TopicPartitions]>,
    /// The member reads the topic. The target may be of a time when it did.
    pub(super) reads: Reads,
    /// Nobody else has the partition.
    pub(super) free: Free,
    pub(super) rules: Rules,
}

impl<Reads: Fn(TopicId) -> bool, Free: Fn(TopicId, PartitionId) -> bool> Way<'_, Reads, Free> {
    /// What the member has after this step; `None` if that is what it has already.
    pub(super) fn step(&self, member: &Current) -> Option<Current> {
        let next = match member.state {
            MemberState::Stable
                if member.epoch == self.epoch && member.assigned.keys().all(|topic| (self.reads)(*topic)) =>
            {
                return None;
            }
            MemberState::Unrevoked if self.still_has(&member.revoking) => self.give_up_unread(member)?,
            _ => self.next(member),
        };
        (next != *member).then_some(next)
    }

    fn still_has(&self, revoking: &Owned) -> bool {
        if !self.rules.hold(Rule::RevocationsAreConfirmed) {
            return false;
        }
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|has| {
            let revoking = revoking.get(&has.topic);
            revoking.is_some_and(|revoking| has.partitions.iter().any(|partition| revoking.contains_key(partition)))
        })
    }

    /// While the member gives back, it may stop reading more: that is to be given back as well.
    fn give_up_unread(&self, member: &Current) -> Option<Current> {
        let mut next = member.clone();
        let unread: Vec<TopicId> = next.assigned.keys().copied().filter(|topic| !(self.reads)(*topic)).collect();
        for topic in &unread {
            let partitions = next.assigned.remove(topic).unwrap_or_default();
            next.revoking.entry(*topic).or_default().extend(partitions);
        }
        (!unread.is_empty()).then_some(next)
    }

    fn next(&self, member: &Current) -> Current {
        let mut next = Current { previous_epoch: member.previous_epoch, ..Current::default() };
        for (topic, partitions) in &member.assigned {
            let wanted = self.target.get(topic).filter(|_| (self.reads)(*topic));
            let (stay, go): (BTreeMap<_, _>, BTreeMap<_, _>) = partitions
                .iter()
                .map(|(partition, since)| (*partition, *since))
                .partition(|(partition, _)| wanted.is_some_and(|wanted| wanted.contains(partition)));
            next.assigned.extend((!stay.is_empty()).then_some((*topic, stay)));
            next.revoking.extend((!go.is_empty()).then_some((*topic, go)));
        }
        if !next.revoking.is_empty() && self.still_has(&next.revoking) {
            return Current { epoch: member.epoch, state: MemberState::Unrevoked, ..next };
        }
        next.revoking.clear();
        let mut waits = false;
        for (topic, partitions) in self.target.iter().filter(|(topic, _)| (self.reads)(**topic)) {
            for partition in partitions {
                if next.assigned.get(topic).is_some_and(|has| has.contains_key(partition)) {
                    continue;
                }
                if (self.free)(*topic, *partition) || !self.rules.hold(Rule::PartitionsAreReleasedFirst) {
                    next.assigned.entry(*topic).or_default().insert(*partition, self.epoch);
                } else {
                    waits = true;
                }
            }
        }
        if self.epoch != member.epoch {
            next.previous_epoch = member.epoch;
        }
        let state = if waits { MemberState::Unreleased } else { MemberState::Stable };
        Current { epoch: self.epoch, state, ..next }
    }
}

/// True if all of `owned` is in `assigned`; not if the member does not say.
pub(super) fn is_within(owned: Option<&[TopicPartitions]>, assigned: &Owned) -> bool {
    owned.is_some_and(|owned| {
        owned.iter().all(|has| {
            let assigned = assigned.get(&has.topic);
            has.partitions.iter().all(|partition| assigned.is_some_and(|assigned| assigned.contains_key(partition)))
        })
    })
}
