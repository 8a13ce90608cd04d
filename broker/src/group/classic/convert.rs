//! Classic groups that become groups of KIP-848, and the way back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rafka_model::{Monotonic, Timestamp};

use super::{CONSUMERS, Group, Member};
use crate::ErrorCode;
use crate::group::request::{Caller, GroupState, Protocol};
use crate::group::timers::Alarm;
use crate::group::work::Work;

impl Member {
    /// A member that waits for nothing. Timeouts: of a rebalance, of the session.
    pub(in crate::group) fn new(
        instance_id: Option<String>,
        caller: Caller,
        (rebalance_timeout_ms, session_timeout_ms): (i32, i32),
        protocols: Vec<Protocol>,
        assignment: Bytes,
    ) -> Self {
        Self {
            instance_id,
            caller,
            rebalance_timeout_ms,
            session_timeout_ms,
            protocols,
            assignment,
            joining: None,
            syncing: None,
            deadline: Monotonic::default(),
            is_new: false,
        }
    }
}

impl Group {
    /// A stable group of consumers.
    pub(in crate::group) fn of_consumers(
        name: Arc<str>,
        generation: i32,
        since: Timestamp,
        members: BTreeMap<Arc<str>, Member>,
    ) -> Self {
        let mut group = Self::new(name);
        (group.state, group.since, group.generation) = (GroupState::Stable, since, generation);
        group.protocol_type = Some(CONSUMERS.to_owned());
        members.into_iter().for_each(|(id, member)| group.insert(id, member));
        group.protocol = group.vote();
        group.read_topics();
        group
    }

    /// The group ends here: what waits is answered, its alarms are taken back.
    pub(in crate::group) fn give_up(&mut self, work: &mut Work<'_>, code: ErrorCode, why: &str) {
        for (id, member) in &mut self.members {
            for token in [member.joining.take(), member.syncing.take()].into_iter().flatten() {
                work.refuse(token, code, why);
            }
            work.timers.clear(&Alarm::Session(Arc::clone(&self.name), Arc::clone(id)));
        }
        for id in std::mem::take(&mut self.pending) {
            work.timers.clear(&Alarm::Pending(Arc::clone(&self.name), id));
        }
        work.timers.clear(&Alarm::Rebalance(Arc::clone(&self.name)));
    }
}
