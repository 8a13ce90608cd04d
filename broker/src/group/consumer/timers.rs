//! What time does to a group: silent members go, and so do those that give nothing back; targets wait their turn.

use std::sync::Arc;
use std::time::Duration;

use rafka_model::Monotonic;

use super::Group;
use crate::group::records::consumer::MemberState;
use crate::group::rules::Rule;
use crate::group::work::Work;

/// What an alarm of a group is for.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(super) enum Deadline {
    /// The next target.
    Target,
    /// A member's session.
    Session(Arc<str>),
    /// What a member has to give back.
    Revoke(Arc<str>),
    /// A classic member's return.
    Join(Arc<str>),
    /// A classic member's request for its assignment.
    Sync(Arc<str>),
}

pub(super) fn later(now: Monotonic, ms: i64) -> Monotonic {
    now.plus(Duration::from_millis(ms.max(0).unsigned_abs()))
}

impl Group {
    /// When [`Self::tick`] is due.
    pub(in crate::group) fn next_timeout(&self) -> Option<Monotonic> {
        self.alarms.next()
    }

    /// Time has passed.
    pub(in crate::group) fn tick(&mut self, work: &mut Work<'_>) {
        let now = work.context.now;
        let mut gone = Vec::new();
        while let Some(alarm) = self.alarms.ring(now) {
            let (id, rule) = match &alarm {
                Deadline::Target => {
                    self.assign_if_due(work);
                    continue;
                }
                Deadline::Session(id) => (id, Rule::SessionsEnd),
                Deadline::Revoke(id) | Deadline::Join(id) | Deadline::Sync(id) => (id, Rule::RevocationsEnd),
            };
            let Some(member) = self.members.get(id) else { continue };
            let due = match &alarm {
                Deadline::Revoke(_) => member.revoke,
                Deadline::Join(_) => member.join,
                Deadline::Sync(_) => member.sync,
                _ => Some(member.session),
            };
            match due {
                Some(due) if due > now => self.alarms.set(alarm, due),
                Some(_) if work.rules.hold(rule) => gone.push(Arc::clone(id)),
                _ => {}
            }
        }
        self.fence(work, &gone);
    }

    /// The log is read: sessions begin now. A target that was cut short is made.
    pub(in crate::group) fn loaded(&mut self, work: &mut Work<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            self.heard(work, id);
            self.watch_revocation(work, id);
        }
        if !ids.is_empty() {
            self.refresh(work, false);
        }
    }

    /// The member's session begins anew.
    pub(super) fn heard(&mut self, work: &Work<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let classic = member.subscription.classic.as_ref();
        let default = i64::try_from(work.config.consumer_session_timeout_ms).unwrap_or(i64::MAX);
        member.session =
            later(work.context.now, classic.map_or(default, |classic| i64::from(classic.session_timeout_ms)));
        self.alarms.set(Deadline::Session(Arc::clone(id)), member.session);
    }

    /// Begins or ends the time that a member has to give back.
    pub(super) fn watch_revocation(&mut self, work: &Work<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        if member.current.state != MemberState::Unrevoked || member.is_classic() {
            member.revoke = None;
        } else if member.revoke.is_none() {
            let due = later(work.context.now, i64::from(member.subscription.rebalance_timeout_ms));
            member.revoke = Some(due);
            self.alarms.set(Deadline::Revoke(Arc::clone(id)), due);
        }
    }
}
