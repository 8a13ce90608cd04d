//! From one generation to the next.

use std::sync::Arc;
use std::time::Duration;

use super::{Group, Initial, Member};
use crate::ErrorCode;
use crate::group::request::GroupState;
use crate::group::rules::Rule;
use crate::group::timers::Alarm;
use crate::group::work::Work;

impl Group {
    /// Begins a rebalance unless there is one.
    pub(super) fn rebalance_or_complete(&mut self, work: &mut Work<'_>) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_if_all_joined(work),
            _ => self.prepare(work),
        }
    }

    /// Begins a rebalance: members are to join again.
    pub(in crate::group) fn prepare(&mut self, work: &mut Work<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.fail_syncs(work, ErrorCode::RebalanceInProgress, "another generation begins");
        }
        self.unsynced.clear();
        self.wait = None;
        *work.rebalances += 1;
        let was_empty = self.state == GroupState::Empty;
        self.become_(work, GroupState::PreparingRebalance);
        if was_empty {
            let delay = Duration::from_millis(work.config.initial_rebalance_delay_ms);
            let quiet = work.context.now.plus(delay);
            self.initial = Some(Initial { quiet, latest: work.after(self.rebalance_timeout_ms()).max(quiet) });
            self.wait_until(work, quiet);
        } else if self.have_all_joined() {
            self.complete_join(work);
        } else {
            self.wait_until(work, work.after(self.rebalance_timeout_ms()));
        }
    }

    fn have_all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending.is_empty()
    }

    /// Begins the generation if nobody is missing. The first one of a group waits its time, for more may come.
    pub(super) fn complete_if_all_joined(&mut self, work: &mut Work<'_>) {
        let waits = self.initial.is_some() && !self.members.is_empty();
        if self.state == GroupState::PreparingRebalance && !waits && self.have_all_joined() {
            self.complete_join(work);
        }
    }

    /// Begins the generation with those who have joined. Of the others, static members keep their places.
    fn complete_join(&mut self, work: &mut Work<'_>) {
        self.wait = None;
        let is_late = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        let late = self.members.iter().filter(|(_, member)| is_late(member));
        let late: Vec<_> = late.map(|(id, _)| Arc::clone(id)).collect();
        late.iter().for_each(|id| drop(self.remove(work, id)));
        if !self.members.is_empty() && !self.elect() {
            // Static members alone, none of them back: their sessions decide.
            self.wait_until(work, work.after(self.rebalance_timeout_ms().max(1_000)));
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.initial = None;
        self.unsynced.clear();
        if self.members.is_empty() {
            (self.protocol, self.leader) = (None, None);
            self.read_topics();
            self.become_(work, GroupState::Empty);
            if work.rules.hold(Rule::EmptyGenerationsAreStored) {
                self.store(work);
            }
            return;
        }
        self.protocol = self.vote();
        self.read_topics();
        self.become_(work, GroupState::CompletingRebalance);
        let mut answers = Vec::with_capacity(self.joining);
        for (id, member) in &mut self.members {
            answers.extend(member.joining.take().map(|token| (token, Arc::clone(id))));
            member.is_new = false;
            member.touch(work, &self.name, id);
            self.unsynced.insert(Arc::clone(id));
        }
        self.joining = 0;
        for (token, id) in answers {
            self.answer_joined(work, token, &id);
        }
        self.wait_until(work, work.after(self.rebalance_timeout_ms()));
    }

    /// Sees to it that one of those who joined leads; false if nobody joined.
    fn elect(&mut self) -> bool {
        let has_joined = |id: &Arc<str>| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.joining.is_some());
        match joined.map(|(id, _)| Arc::clone(id)) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// The wait of a rebalance may be over.
    pub(in crate::group) fn wait_is_over(&mut self, work: &mut Work<'_>) {
        let Some(at) = self.wait else { return };
        if at > work.context.now {
            return self.wait_until(work, at);
        }
        self.wait = None;
        match self.state {
            GroupState::PreparingRebalance => match self.initial {
                Some(initial) if initial.quiet.min(initial.latest) > work.context.now => {
                    self.wait_until(work, initial.quiet.min(initial.latest));
                }
                _ => self.complete_join(work),
            },
            GroupState::CompletingRebalance | GroupState::Stable
                if !self.unsynced.is_empty() && work.rules.hold(Rule::LateSyncsAreLeftBehind) =>
            {
                for id in std::mem::take(&mut self.unsynced) {
                    self.remove(work, &id);
                }
                self.prepare(work);
            }
            _ => {}
        }
    }

    /// A member's session may have ended.
    pub(in crate::group) fn session_is_over(&mut self, work: &mut Work<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get(id) else { return };
        if member.deadline > work.context.now {
            let alarm = Alarm::Session(Arc::clone(&self.name), Arc::clone(id));
            return work.timers.set(alarm, member.deadline);
        }
        // A member that waits for an answer owes no heartbeat; its session begins again with the answer.
        let waits = member.joining.is_some() || member.syncing.is_some();
        if (waits && !member.is_new) || !work.rules.hold(Rule::SessionsEnd) {
            return;
        }
        self.remove(work, id);
        self.after_removal(work);
    }

    /// A member id was given out and not used in time.
    pub(in crate::group) fn pending_is_over(&mut self, work: &mut Work<'_>, id: &Arc<str>) {
        if self.pending.remove(id) {
            self.complete_if_all_joined(work);
        }
    }

    /// Takes a member out; what of it waits is answered.
    pub(super) fn remove(&mut self, work: &mut Work<'_>, id: &str) -> Option<Member> {
        let (id, mut member) = self.members.remove_entry(id)?;
        self.discount_speaker(&member);
        self.joining -= usize::from(member.joining.is_some());
        for token in [member.joining.take(), member.syncing.take()].into_iter().flatten() {
            work.refuse(token, ErrorCode::UnknownMemberId, "the member has left the group");
        }
        if let Some(instance_id) = &member.instance_id {
            self.instances.remove(instance_id);
        }
        if self.is_leader(&id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.unsynced.remove(&id);
        work.timers.clear(&Alarm::Session(Arc::clone(&self.name), id));
        Some(member)
    }

    /// Goes on after members were taken out.
    pub(super) fn after_removal(&mut self, work: &mut Work<'_>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare(work),
            _ => self.complete_if_all_joined(work),
        }
    }
}
