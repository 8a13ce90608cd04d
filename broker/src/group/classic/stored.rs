//! A classic group in the log.

use std::sync::Arc;

use rafka_model::Monotonic;

use super::{Group, Member};
use crate::group::records::group::{self, GroupMetadata, MemberMetadata};
use crate::group::request::{Caller, GroupState, Protocol};
use crate::group::work::Work;

impl Group {
    /// Writes the generation down.
    pub(super) fn store(&self, work: &mut Work<'_>) {
        work.output.records.push(group::record(&self.name, Some(&self.metadata())));
    }

    pub(in crate::group) fn metadata(&self) -> GroupMetadata {
        let members = self.members.iter().map(|(id, member)| MemberMetadata {
            member_id: id.to_string(),
            instance_id: member.instance_id.clone(),
            client_id: member.caller.client_id.clone(),
            client_host: member.caller.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: member.assignment.clone(),
        });
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.as_ref().map(ToString::to_string),
            since: self.since,
            members: members.collect(),
        }
    }

    /// The group as another coordinator left it: what a member said for other protocols than the chosen one is lost.
    pub(in crate::group) fn from_metadata(name: Arc<str>, stored: GroupMetadata) -> Self {
        let mut group = Self::new(name);
        group.state = if stored.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        group.since = stored.since;
        group.protocol_type = Some(stored.protocol_type).filter(|one| !one.is_empty());
        group.generation = stored.generation;
        for one in stored.members {
            let metadata = one.subscription;
            let protocols = stored.protocol.clone().map(|name| Protocol { name, metadata });
            let member = Member {
                instance_id: one.instance_id,
                caller: Caller { client_id: one.client_id, client_host: one.client_host },
                rebalance_timeout_ms: one.rebalance_timeout_ms,
                session_timeout_ms: one.session_timeout_ms,
                protocols: protocols.into_iter().collect(),
                assignment: one.assignment,
                joining: None,
                syncing: None,
                deadline: Monotonic::default(),
                is_new: false,
            };
            let id = Arc::<str>::from(one.member_id);
            if let Some(twice) = group.members.remove(&id) {
                group.discount_speaker(&twice);
            }
            group.insert(id, member);
        }
        let leads = |leader: &Arc<str>| group.members.contains_key(leader);
        group.leader = stored.leader.map(Arc::<str>::from).filter(leads).or(group.leader);
        group.protocol = stored.protocol;
        group.read_topics();
        group
    }

    /// The log is read: members have their sessions from now on.
    pub(in crate::group) fn loaded(&mut self, work: &mut Work<'_>) {
        for (id, member) in &mut self.members {
            member.touch(work, &self.name, id);
        }
        if self.members.len() > work.config.max_size {
            self.prepare(work);
        }
    }
}
