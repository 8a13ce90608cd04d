//! SyncGroup and Heartbeat.

use std::collections::BTreeMap;

use bytes::Bytes;
use rafka_model::limits::{GROUP_ASSIGNMENT_BYTES_MAX, GROUP_BYTES_MAX};

use super::Group;
use crate::group::coordinator::Token;
use crate::group::request::{GroupReply, GroupState, Heartbeat, Sync, SyncReply};
use crate::group::rules::Rule;
use crate::group::work::Work;
use crate::{ErrorCode, Failure};

impl Group {
    /// Takes a SyncGroup.
    pub(in crate::group) fn sync(&mut self, work: &mut Work<'_>, token: Token, sync: Sync) {
        if let Err(failure) = self.try_sync(work, token, sync) {
            work.output.replies.push((token, Err(failure)));
        }
    }

    fn try_sync(&mut self, work: &mut Work<'_>, token: Token, sync: Sync) -> Result<(), Failure> {
        self.check_member(work.rules, &sync.member_id, sync.instance_id.as_deref())?;
        self.check_generation(work.rules, sync.generation)?;
        let differ = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differ(&sync.protocol_type, &self.protocol_type) || differ(&sync.protocol, &self.protocol) {
            let why = "the generation uses another protocol";
            return Err(Failure::new(ErrorCode::InconsistentGroupProtocol, why));
        }
        match self.state {
            GroupState::CompletingRebalance => {
                self.has_synced(&sync.member_id);
                let leads = self.is_leader(&sync.member_id);
                if let Some(member) = self.members.get_mut(&*sync.member_id)
                    && let Some(older) = member.syncing.replace(token)
                {
                    work.refuse(older, ErrorCode::RebalanceInProgress, "the member has asked again since");
                }
                if leads {
                    self.assign(work, sync.assignments);
                }
            }
            GroupState::Stable => {
                self.has_synced(&sync.member_id);
                self.touch(work, &sync.member_id);
                work.reply(token, self.assignment(&sync.member_id));
            }
            _ => return Err(Failure::new(ErrorCode::RebalanceInProgress, "another generation begins")),
        }
        Ok(())
    }

    fn has_synced(&mut self, id: &str) {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.wait = None;
        }
    }

    fn assignment(&self, id: &str) -> GroupReply {
        GroupReply::Sync(SyncReply {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        })
    }

    /// The leader has spoken: everybody who waits gets its part, nothing if the leader gave it none.
    fn assign(&mut self, work: &mut Work<'_>, assignments: Vec<(String, Bytes)>) {
        let mut assignments: BTreeMap<_, _> = assignments.into_iter().collect();
        let bytes = assignments.values().map(Bytes::len).sum::<usize>();
        let largest = assignments.values().map(Bytes::len).max().unwrap_or(0);
        if largest > GROUP_ASSIGNMENT_BYTES_MAX || self.bytes + bytes > GROUP_BYTES_MAX || bytes > work.room {
            self.fail_syncs(work, ErrorCode::Unknown, "the assignment is too large to be stored");
            return self.prepare(work);
        }
        for (id, member) in &mut self.members {
            let assignment = assignments.remove(&**id).unwrap_or_default();
            self.bytes = self.bytes - member.assignment.len() + assignment.len();
            member.assignment = assignment;
        }
        if work.rules.hold(Rule::AssignmentsAreStored) {
            self.store(work);
        }
        self.become_(work, GroupState::Stable);
        let mut answers = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(token) = member.syncing.take() {
                member.touch(work, &self.name, id);
                answers.push((token, id.clone()));
            }
        }
        for (token, id) in answers {
            work.reply(token, self.assignment(&id));
        }
    }

    /// Nobody who waits for its assignment gets one.
    pub(super) fn fail_syncs(&mut self, work: &mut Work<'_>, code: ErrorCode, why: &str) {
        for (id, member) in &mut self.members {
            self.bytes -= member.assignment.len();
            member.assignment = Bytes::new();
            if let Some(token) = member.syncing.take() {
                member.touch(work, &self.name, id);
                work.refuse(token, code, why);
            }
        }
    }

    /// Takes a Heartbeat.
    ///
    /// # Errors
    /// Failure if the member must join again.
    pub(in crate::group) fn heartbeat(&mut self, work: &mut Work<'_>, heartbeat: &Heartbeat) -> Result<(), Failure> {
        self.check_member(work.rules, &heartbeat.member_id, heartbeat.instance_id.as_deref())?;
        self.check_generation(work.rules, heartbeat.generation)?;
        self.touch(work, &heartbeat.member_id);
        if self.state == GroupState::PreparingRebalance {
            return Err(Failure::new(ErrorCode::RebalanceInProgress, "another generation begins"));
        }
        Ok(())
    }
}
