//! JoinGroup.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use rafka_model::Monotonic;
use rafka_model::limits::{
    GROUP_BYTES_MAX, GROUP_MEMBER_ID_PREFIX_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX,
    GROUP_NEW_MEMBER_MS_MAX, GROUP_PENDING_MAX, GROUP_PROTOCOLS_MAX, GROUP_TEXT_BYTES_MAX,
};

use super::{Group, Member};
use crate::group::config::Config;
use crate::group::coordinator::{Context, Token};
use crate::group::request::{GroupReply, GroupState, Join, JoinReply};
use crate::group::rules::Rule;
use crate::group::timers::Alarm;
use crate::group::work::Work;
use crate::{ErrorCode, Failure};

/// Whether a request is one that some group could take.
pub(in crate::group) fn check(config: &Config, join: &Join) -> Result<(), Failure> {
    let refuse = |code, why: String| Err(Failure::new(code, why));
    let (min, max) = (config.min_session_timeout_ms, config.max_session_timeout_ms);
    if !(min..=max).contains(&join.session_timeout_ms) {
        let why = format!("session timeout is {} ms, allowed are {min} to {max}", join.session_timeout_ms);
        return refuse(ErrorCode::InvalidSessionTimeout, why);
    }
    if join.protocols.len() > GROUP_PROTOCOLS_MAX {
        let why = format!("{} protocols, limit is {GROUP_PROTOCOLS_MAX}", join.protocols.len());
        return refuse(ErrorCode::InvalidRequest, why);
    }
    let names = join.protocols.iter().map(|one| &one.name);
    let texts = [&join.member_id, &join.protocol_type, &join.caller.client_id, &join.caller.client_host];
    if names.chain(texts).chain(&join.instance_id).any(|text| text.len() > GROUP_TEXT_BYTES_MAX) {
        return refuse(ErrorCode::InvalidRequest, format!("a name is over {GROUP_TEXT_BYTES_MAX} bytes"));
    }
    let metadata = join.protocols.iter().map(|one| one.metadata.len()).sum::<usize>();
    if metadata > GROUP_METADATA_BYTES_MAX {
        let why = format!("metadata is {metadata} bytes, limit is {GROUP_METADATA_BYTES_MAX}");
        return refuse(ErrorCode::InvalidRequest, why);
    }
    Ok(())
}

/// A member id: the name of the client or static member, and what makes it unlike any other (a UUID, as Kafka's).
pub(in crate::group) fn new_member_id(context: &Context<'_>, name: &str) -> Arc<str> {
    let name = &name[..name.floor_char_boundary(GROUP_MEMBER_ID_PREFIX_BYTES_MAX)];
    let mut id = format!("{name}-");
    let hex = format!("{:032x}", context.unique);
    for (from, to) in [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)] {
        let dash = if from == 0 { "" } else { "-" };
        write!(id, "{dash}{}", &hex[from..to]).expect("a string takes all");
    }
    id.into()
}

impl Group {
    /// Takes a JoinGroup that [`check`] let pass.
    pub(in crate::group) fn join(&mut self, work: &mut Work<'_>, token: Token, mut join: Join) {
        let mut names = std::collections::BTreeSet::new();
        join.protocols.retain(|one| names.insert(one.name.clone()));
        if let Err(failure) = self.try_join(work, token, join) {
            work.output.replies.push((token, Err(failure)));
        }
    }

    fn try_join(&mut self, work: &mut Work<'_>, token: Token, join: Join) -> Result<(), Failure> {
        if let Err(failure) = self.has_room(work, &join) {
            if self.remove(work, &join.member_id).is_some() {
                self.after_removal(work);
            }
            return Err(failure);
        }
        if !self.speaks(&join.protocol_type, &join.protocols) {
            let why = "the member shares no protocol with the group";
            return Err(Failure::new(ErrorCode::InconsistentGroupProtocol, why));
        }
        if join.member_id.is_empty() { self.join_new(work, token, join) } else { self.join_again(work, token, join) }
    }

    /// Members of a generation that is being prepared count once they have joined: of too many the last stay out.
    fn has_room(&self, work: &Work<'_>, join: &Join) -> Result<(), Failure> {
        let known = self.members.get(&*join.member_id);
        let (is_in, members) = match self.state {
            GroupState::PreparingRebalance => (known.is_some_and(|member| member.joining.is_some()), self.joining),
            _ => (known.is_some(), self.members.len()),
        };
        let limit = work.config.max_size.min(GROUP_MEMBERS_MAX);
        if !is_in && members >= limit {
            let why = format!("the group has {members} members, limit is {limit}");
            return Err(Failure::new(ErrorCode::GroupMaxSizeReached, why));
        }
        let metadata = join.protocols.iter().map(|one| one.metadata.len()).sum::<usize>();
        let more = metadata.saturating_sub(known.map_or(0, Member::bytes));
        if self.bytes + more > GROUP_BYTES_MAX || more > work.room {
            let why = format!("the members of a group may take {GROUP_BYTES_MAX} bytes, those of all what they leave");
            return Err(Failure::new(ErrorCode::GroupMaxSizeReached, why));
        }
        Ok(())
    }

    fn join_new(&mut self, work: &mut Work<'_>, token: Token, join: Join) -> Result<(), Failure> {
        let id = new_member_id(work.context, join.instance_id.as_ref().unwrap_or(&join.caller.client_id));
        if let Some(instance_id) = &join.instance_id {
            match self.instances.get(instance_id).cloned() {
                Some(old) => self.replace(work, token, &old, id, join),
                None => self.add(work, token, id, join),
            }
        } else if join.requires_member_id {
            if self.pending.len() >= GROUP_PENDING_MAX {
                let why = format!("{GROUP_PENDING_MAX} members are about to join");
                return Err(Failure::new(ErrorCode::Busy, why));
            }
            let until = work.after(join.session_timeout_ms);
            work.timers.set(Alarm::Pending(Arc::clone(&self.name), Arc::clone(&id)), until);
            work.reply(token, GroupReply::Join(JoinReply::TakeMemberId(id.to_string())));
            self.pending.insert(id);
        } else {
            self.add(work, token, id, join);
        }
        Ok(())
    }

    fn join_again(&mut self, work: &mut Work<'_>, token: Token, join: Join) -> Result<(), Failure> {
        if join.instance_id.is_none()
            && let Some(id) = self.pending.take(&*join.member_id)
        {
            work.timers.clear(&Alarm::Pending(Arc::clone(&self.name), Arc::clone(&id)));
            self.add(work, token, id, join);
            return Ok(());
        }
        self.check_member(work.rules, &join.member_id, join.instance_id.as_deref())?;
        let Some((id, member)) = self.members.get_key_value(&*join.member_id) else { return Ok(()) };
        let id = Arc::clone(id);
        let is_same = member.protocols == join.protocols;
        let rebalances = match self.state {
            GroupState::Stable => !is_same || self.is_leader(&id) && work.rules.hold(Rule::LeadersBeginGenerations),
            GroupState::CompletingRebalance => !is_same,
            _ => true,
        };
        if !rebalances {
            // Its answer was lost, or it comes for no reason: the generation stands.
            self.touch(work, &id);
            self.answer_joined(work, token, &id);
            return Ok(());
        }
        self.update(work, token, &id, join);
        self.rebalance_or_complete(work);
        Ok(())
    }

    fn add(&mut self, work: &mut Work<'_>, token: Token, id: Arc<str>, join: Join) {
        if let Some(initial) = &mut self.initial {
            initial.quiet =
                work.context.now.plus(std::time::Duration::from_millis(work.config.initial_rebalance_delay_ms));
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        let mut member = Member {
            instance_id: join.instance_id,
            caller: join.caller,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: Some(token),
            syncing: None,
            deadline: Monotonic::default(),
            is_new: true,
        };
        // It does not know its id yet, so it cannot send heartbeats; and whether it is still there nobody can tell.
        let until = work.context.now.plus(std::time::Duration::from_millis(GROUP_NEW_MEMBER_MS_MAX));
        member.lives_until(work, &self.name, &id, until);
        self.joining += 1;
        self.insert(id, member);
        self.rebalance_or_complete(work);
    }

    /// Puts a member in its place; the first one leads.
    pub(super) fn insert(&mut self, id: Arc<str>, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.instances.insert(instance_id.clone(), Arc::clone(&id));
        }
        self.leader.get_or_insert_with(|| Arc::clone(&id));
        self.count_speaker(&member);
        self.members.insert(id, member);
    }

    /// A known member joins, perhaps with other metadata.
    fn update(&mut self, work: &mut Work<'_>, token: Token, id: &Arc<str>, join: Join) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.discount_speaker(&member);
        member.protocols = join.protocols;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        member.caller = join.caller;
        match member.joining.replace(token) {
            Some(older) => work.refuse(older, ErrorCode::RebalanceInProgress, "the member has joined again since"),
            None => self.joining += 1,
        }
        self.count_speaker(&member);
        self.members.insert(Arc::clone(id), member);
    }

    /// A static member comes back without its id: it takes its own place under a new one (KIP-345).
    fn replace(&mut self, work: &mut Work<'_>, token: Token, old: &Arc<str>, id: Arc<str>, join: Join) {
        let Some(mut member) = self.members.remove(old) else { return };
        let fenced = "a newer member has taken the name of this static member";
        self.joining -= usize::from(member.joining.is_some());
        for waiting in [member.joining.take(), member.syncing.take()].into_iter().flatten() {
            work.refuse(waiting, ErrorCode::FencedInstanceId, fenced);
        }
        work.timers.clear(&Alarm::Session(Arc::clone(&self.name), Arc::clone(old)));
        let led = self.is_leader(old);
        if led {
            self.leader = Some(Arc::clone(&id));
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(Arc::clone(&id));
        }
        self.discount_speaker(&member);
        member.is_new = false;
        member.touch(work, &self.name, &id);
        self.insert(Arc::clone(&id), member);
        let can_skip = join.can_skip_assignment;
        self.update(work, token, &id, join);
        match self.state {
            GroupState::Stable if self.vote() == self.protocol => {
                self.stop_joining(&id);
                self.read_topics();
                self.store(work);
                let mut joined = self.joined(&id);
                if can_skip {
                    joined.skip_assignment = led;
                } else if led {
                    // A client that would assign again must not think that it leads: there is nothing to assign.
                    joined.leader = old.to_string();
                    joined.members.clear();
                }
                work.reply(token, GroupReply::Join(JoinReply::Joined(joined)));
            }
            // The leader may have been told of the old id: let it assign again.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare(work),
            _ => self.complete_if_all_joined(work),
        }
    }

    fn stop_joining(&mut self, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            self.joining -= usize::from(member.joining.take().is_some());
        }
    }
}
