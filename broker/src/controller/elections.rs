//! Who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rafka_model::limits::{LEADER_BALANCE_MOVES_MAX, LEADER_IMBALANCE_PERCENT_MAX};
use rafka_model::{Monotonic, NodeId, PartitionId, TopicPartition};

use super::change::{Change, Changed, Policy};
use super::command::{Election, Event, Outcomes};
use super::rules::Rule;
use super::{Controller, unknown};
use crate::metadata::{Delta, PartitionState};
use crate::{ErrorCode, Failure};

impl Controller {
    /// A change of one partition, to be made and then given to [`Self::write_change`].
    pub(super) fn change(&self, at: TopicPartition) -> Result<Change<'_>, Failure> {
        let image = self.overlay();
        let topic = image.topics.get(&at.topic).ok_or_else(|| crate::describe::unknown_topic_id(at.topic))?;
        let state = topic.partition(at.partition).ok_or_else(|| unknown(at))?;
        Ok(Change::new(image, self.rules, Policy::of(topic), state))
    }

    /// Writes what `change` makes of each partition that is `concerned`.
    pub(super) fn change_where(
        &mut self,
        concerned: impl Fn(&PartitionState) -> bool,
        change: impl Fn(&mut Change<'_>),
    ) {
        let changes = self.changes_where(concerned, change);
        changes.into_iter().for_each(|(at, changed)| self.write_change(at, changed));
    }

    /// What `change` makes of each partition that is `concerned`.
    pub(super) fn changes_where(
        &self,
        concerned: impl Fn(&PartitionState) -> bool,
        change: impl Fn(&mut Change<'_>),
    ) -> Vec<(TopicPartition, Option<Changed>)> {
        let image = self.overlay();
        let mut changes = Vec::new();
        for topic in image.topics.values() {
            let mut policy = None;
            for (partition, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                if concerned(state) {
                    let policy = *policy.get_or_insert_with(|| Policy::of(topic));
                    let mut next = Change::new(image, self.rules, policy, state);
                    change(&mut next);
                    changes.push((TopicPartition { topic: topic.id, partition }, next.finish()));
                }
            }
        }
        changes
    }

    /// Writes a finished change, if it changed anything.
    pub(super) fn write_change(&mut self, at: TopicPartition, changed: Option<Changed>) {
        let Some(Changed { state, unclean, settled }) = changed else { return };
        if let (Some(last_known), Some(leader)) = (unclean, state.leader) {
            let leader_epoch = state.leader_epoch;
            self.events.push(Event::UncleanElection { at, leader, leader_epoch, last_known });
        }
        let Some(before) = self.overlay().partition(at) else { return };
        let gone: Vec<_> = before.replicas.iter().copied().filter(|id| !state.replicas.contains(id)).collect();
        // Without a leader nothing could be planned.
        let led_again = before.leader.is_none() && state.leader.is_some();
        self.journal.write(Delta::PartitionChanged { partition: at, state });
        for id in gone {
            let draining = self.overlay().nodes.get(&id).is_some_and(|node| node.draining);
            if draining && self.journal.standing().held(id) == 0 {
                self.events.push(Event::Drained(id));
            }
        }
        self.replan |= led_again;
        if settled {
            self.automatic.remove(&at);
            self.replan = true;
        }
    }

    /// Elects a leader wherever there is none and could be one.
    pub(super) fn elect_unled(&mut self) {
        for at in self.journal.standing().leaderless.clone() {
            self.change_one(at, |change| change.elect());
        }
    }

    pub(super) fn change_one(&mut self, at: TopicPartition, change: impl FnOnce(&mut Change<'_>)) {
        let Ok(mut next) = self.change(at) else { return };
        change(&mut next);
        let changed = next.finish();
        self.write_change(at, changed);
    }

    pub(super) fn elect(&mut self, partitions: Vec<TopicPartition>, how: Election) -> Outcomes {
        if !partitions.is_empty() {
            return partitions.into_iter().map(|at| (at, self.elect_one(at, how))).collect();
        }
        let standing = self.journal.standing();
        let all = match how {
            Election::Preferred => standing.elsewhere.clone(),
            Election::Unclean => standing.leaderless.clone(),
        };
        all.into_iter().map(|at| (at, self.elect_one(at, how))).collect()
    }

    fn elect_one(&mut self, at: TopicPartition, how: Election) -> Result<(), Failure> {
        let mut change = self.change(at)?;
        let refuse = |code, text: String| Err(Failure::new(code, text));
        let preferred = change.before.goal().first().copied();
        match (how, change.before.leader) {
            (Election::Preferred, Some(leader)) if Some(leader) == preferred => {
                return refuse(ErrorCode::ElectionNotNeeded, format!("partition {at} is led by its preferred replica"));
            }
            (Election::Unclean, Some(leader)) => {
                return refuse(ErrorCode::ElectionNotNeeded, format!("partition {at} is led by node {leader}"));
            }
            (Election::Preferred, _) => {
                change.prefer();
                if change.after.leader != preferred {
                    let text = format!("the preferred replica of partition {at} is not in sync, or is being drained");
                    return refuse(ErrorCode::PreferredLeaderNotAvailable, text);
                }
            }
            (Election::Unclean, None) => {
                change.elect();
                if change.after.leader.is_none() {
                    change.elect_any();
                }
                if change.after.leader.is_none() {
                    let text = format!("no replica of partition {at} is in service");
                    return refuse(ErrorCode::EligibleLeadersNotAvailable, text);
                }
            }
        }
        let changed = change.finish();
        self.write_change(at, changed);
        Ok(())
    }

    /// Gives leaderships back to preferred replicas, of each node that misses too many of its own (Kafka's rule).
    pub(super) fn balance_leaders(&mut self, now: Monotonic) {
        if self.balance_at.is_none_or(|at| now < at) {
            return;
        }
        self.balance_at = None;
        let standing = self.journal.standing();
        let mut missing: BTreeMap<NodeId, BTreeSet<TopicPartition>> = BTreeMap::new();
        for at in &standing.elsewhere {
            let preferred = self.overlay().partition(*at).and_then(|state| state.goal().first().copied());
            if let Some(id) = preferred {
                missing.entry(id).or_default().insert(*at);
            }
        }
        let too_many = |(id, missed): &(NodeId, BTreeSet<TopicPartition>)| {
            let all = standing.preferred.get(id).copied().unwrap_or_default();
            missed.len() * 100 > all * LEADER_IMBALANCE_PERCENT_MAX
        };
        let back: Vec<_> = missing.into_iter().filter(too_many).flat_map(|(_, missed)| missed).collect();
        if self.rules.hold(Rule::PreferredLeadersReturn) {
            back.into_iter()
                .take(LEADER_BALANCE_MOVES_MAX)
                .for_each(|at| self.change_one(at, |change| change.prefer()));
        }
    }

    /// Looks for leaderships elsewhere after an interval, if there are any.
    pub(super) fn arm_balance(&mut self, now: Monotonic) {
        if self.journal.standing().elsewhere.is_empty() {
            self.balance_at = None;
        } else if self.balance_at.is_none() {
            self.balance_at = Some(now.plus(Duration::from_millis(self.config.leader_balance_ms)));
        }
    }
}
