//! ConsumerGroupHeartbeat: join, stay, leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use rafka_model::limits::{GROUP_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_REGEXES_MAX, GROUP_TOPICS_MAX};

use super::assignor::Assignor;
use super::metadata::compile;
use super::reconcile::{Way, is_within};
use super::{Group, Member, told};
use crate::group::records::consumer::{Current, MemberState, Owned, Subscription};
use crate::group::records::{ConsumerKey, ConsumerValue};
use crate::group::request::{ConsumerHeartbeat, ConsumerHeartbeatReply, GroupState, TopicPartitions};
use crate::group::rules::Rule;
use crate::group::work::Work;
use crate::{ErrorCode, Failure};

/// Epoch of a member that joins.
pub(in crate::group) const JOIN: i32 = 0;
/// Epoch of a member that leaves.
pub(in crate::group) const LEAVE: i32 = -1;
/// Epoch of a static member that leaves for a while.
const AWAY: i32 = -2;

/// Members of a restless group come this often, ms, if there are few of them.
const RESTLESS_MS_MIN: i64 = 200;
/// Whoever joins is rarely alone: a group that has changed is restless for so long, even if everybody has its share.
const FRESH_MS: u32 = 3_000;
/// Heartbeats a second that a restless group may cause.
const RESTLESS_PER_SECOND: i64 = 2_000;

fn refuse<T>(code: ErrorCode, why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(code, why))
}

/// Checks what can be checked without the group.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`], [`ErrorCode::UnsupportedAssignor`] or [`ErrorCode::InvalidRegularExpression`].
pub(in crate::group) fn check(request: &ConsumerHeartbeat) -> Result<(), Failure> {
    let invalid = |why: &str| refuse(ErrorCode::InvalidRequest, why);
    let empty = |text: &Option<String>| text.as_deref().is_some_and(str::is_empty);
    let joins = request.member_epoch == JOIN;
    if request.member_epoch < AWAY {
        return invalid("no member has such an epoch");
    }
    if request.member_id.is_empty() && !joins {
        return invalid("member id is empty");
    }
    if empty(&request.instance_id) || empty(&request.rack_id) {
        return invalid("instance and rack are either absent or not empty");
    }
    if request.member_epoch == AWAY && request.instance_id.is_none() {
        return invalid("only static members leave for a while");
    }
    if joins && request.rebalance_timeout_ms < 0 {
        return invalid("who joins must give a rebalance timeout");
    }
    if joins && request.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return invalid("who joins must own nothing, and say so");
    }
    if joins && request.subscribed_topics.is_none() && request.subscribed_regex.is_none() {
        return invalid("who joins must subscribe to topics or to an expression");
    }
    if request.subscribed_topics.as_ref().is_some_and(|topics| topics.len() > GROUP_TOPICS_MAX) {
        return invalid("too many topics");
    }
    if request.server_assignor.as_deref().is_some_and(|name| Assignor::of(name).is_none()) {
        return refuse(ErrorCode::UnsupportedAssignor, "assignors are: uniform, range");
    }
    match request.subscribed_regex.as_deref() {
        Some(expression) if !expression.is_empty() => compile(expression).map(drop),
        _ => Ok(()),
    }
}

fn check_epoch(work: &Work<'_>, member: &Member, request: &ConsumerHeartbeat) -> Result<(), Failure> {
    let (current, epoch) = (&member.current, request.member_epoch);
    let owned = request.owned.as_deref();
    if current.state == MemberState::Unknown && owned.is_none_or(|owned| !owned.is_empty()) {
        return refuse(ErrorCode::FencedMemberEpoch, "the member's state is not known here: join again");
    }
    if epoch == JOIN || epoch == current.epoch || !work.rules.hold(Rule::OldEpochsAreFenced) {
        return Ok(());
    }
    // The answer that told of the new epoch may be lost.
    let forgiven = epoch == current.previous_epoch && is_within(owned, &current.assigned);
    if epoch < current.epoch && forgiven && work.rules.hold(Rule::LostAnswersAreForgiven) {
        return Ok(());
    }
    let why = format!("the member is in epoch {}, not {epoch}: give everything up and join again", current.epoch);
    refuse(ErrorCode::FencedMemberEpoch, why)
}

impl Group {
    /// Takes a heartbeat that [`check`] has passed.
    ///
    /// # Errors
    /// As Kafka: unknown or fenced members, a static member's name that is in use, a full group.
    pub(in crate::group) fn heartbeat(
        &mut self,
        work: &mut Work<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatReply, Failure> {
        if request.member_epoch < JOIN {
            return self.leave_by_heartbeat(work, request);
        }
        let id: Arc<str> = match &*request.member_id {
            "" => format!("{:032x}", work.context.unique).into(),
            id => id.into(),
        };
        let joins = request.member_epoch == JOIN;
        if joins && !self.members.contains_key(&id) {
            let replaces = request.instance_id.as_ref().is_some_and(|name| self.instances.contains_key(name));
            self.has_room(work, !replaces)?;
        }
        if let Some(expression) = request.subscribed_regex.as_ref().filter(|expression| !expression.is_empty())
            && !self.expressions.contains_key(expression)
            && self.expressions.len() >= GROUP_REGEXES_MAX
        {
            let why = format!("the group has {GROUP_REGEXES_MAX} different regular expressions, no more are allowed");
            return refuse(ErrorCode::InvalidRegularExpression, why);
        }
        self.admit(work, request, &id)?;

        let known = self.members.get(&id).map(|member| &member.subscription);
        let subscription = match known {
            Some(known) if says_nothing_new(known, request) => None,
            known => Some(subscription(known.cloned().unwrap_or_default(), request)),
        };
        let is_news = self.advance(work, &id, subscription, request.owned.as_deref());
        self.heard(work, &id);

        let Some(member) = self.members.get(&id) else {
            return refuse(ErrorCode::UnknownMemberId, "no such member");
        };
        let subscribes = request.subscribed_topics.is_some() || request.subscribed_regex.is_some();
        let is_full = request.rebalance_timeout_ms >= 0 && subscribes && request.owned.is_some();
        let tell = joins || is_full || is_news;
        Ok(ConsumerHeartbeatReply {
            member_id: id.to_string(),
            member_epoch: member.current.epoch,
            heartbeat_interval_ms: self.interval(work),
            assignment: tell.then(|| told(&member.current.assigned)),
        })
    }

    /// When the next heartbeat is due, ms: soon while the group moves, so that it settles in a second or two and not in
    /// as many intervals as the move has steps.
    fn interval(&self, work: &Work<'_>) -> i32 {
        let usual = work.config.consumer_heartbeat_interval_ms;
        let Some(since) = self.changed.map(|at| work.context.now.since(at).as_millis()) else { return usual };
        let restless = if self.state() == GroupState::Stable { FRESH_MS } else { 2 * usual.max(0).unsigned_abs() };
        if since >= u128::from(restless) {
            return usual;
        }
        let members = i64::try_from(self.members.len()).unwrap_or(i64::MAX);
        let soon = (members.saturating_mul(1_000) / RESTLESS_PER_SECOND).max(RESTLESS_MS_MIN);
        usual.min(i32::try_from(soon).unwrap_or(i32::MAX))
    }

    /// Lets the member in, or checks that it is in.
    fn admit(&mut self, work: &mut Work<'_>, request: &ConsumerHeartbeat, id: &Arc<str>) -> Result<(), Failure> {
        let joins = request.member_epoch == JOIN;
        if let Some(name) = &request.instance_id {
            match self.instances.get(name).cloned() {
                None if joins => {}
                None => return refuse(ErrorCode::UnknownMemberId, format!("no static member is called {name}")),
                Some(other) if other == *id => {}
                Some(other) if joins => {
                    let holder = self.members.get(&other);
                    if holder.is_some_and(|holder| !holder.is_classic() && holder.current.epoch != AWAY) {
                        let why = format!("{name} is member {other}, which has not left");
                        return refuse(ErrorCode::UnreleasedInstanceId, why);
                    }
                    self.replace(work, &other, id);
                }
                Some(other) => {
                    return refuse(ErrorCode::FencedInstanceId, format!("{name} is member {other} now"));
                }
            }
        }
        match self.members.get(id) {
            None if joins => Ok(()),
            None => refuse(ErrorCode::UnknownMemberId, "no such member"),
            Some(member) => check_epoch(work, member, request),
        }
    }

    /// Whether one more member fits in, or a known one with more to say.
    pub(super) fn has_room(&self, work: &Work<'_>, is_new: bool) -> Result<(), Failure> {
        let limit = work.config.consumer_max_size.min(GROUP_MEMBERS_MAX);
        if is_new && self.members.len() >= limit {
            let why = format!("the group has {} members, limit is {limit}", self.members.len());
            return refuse(ErrorCode::GroupMaxSizeReached, why);
        }
        if self.bytes >= GROUP_BYTES_MAX {
            let why = format!("the members of the group take more than {GROUP_BYTES_MAX} bytes");
            return refuse(ErrorCode::GroupMaxSizeReached, why);
        }
        Ok(())
    }

    /// Writes down what the member reads if that has changed, makes the target if it must change, and moves the member
    /// one step; true if other partitions are its own now.
    pub(super) fn advance(
        &mut self,
        work: &mut Work<'_>,
        id: &Arc<str>,
        subscription: Option<Subscription>,
        owned: Option<&[TopicPartitions]>,
    ) -> bool {
        let known = self.members.get(id).map(|member| &member.subscription);
        match subscription.filter(|next| known != Some(next)) {
            Some(next) => {
                let reads = |one: &Subscription| (one.topics.clone(), one.regex.clone(), one.assignor.clone());
                let reason = known.is_none_or(|known| reads(known) != reads(&next));
                let first = work.output.records.len();
                self.write(work, ConsumerKey::Member(id), Some(ConsumerValue::Member(next)));
                self.resolve_new(work);
                self.refresh_for(work, first, reason || self.epoch.epoch == 0);
            }
            None => self.assign_if_due(work),
        }
        self.reconcile(work, id, owned)
    }

    fn reconcile(&mut self, work: &mut Work<'_>, id: &Arc<str>, owned: Option<&[TopicPartitions]>) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        if member.has_reached(self.target_epoch.epoch) && self.epoch.epoch == self.target_epoch.epoch {
            return false;
        }
        let reads = self.read_by(id, work.context.image);
        let target = self.share(id);
        let way = Way {
            epoch: self.target_epoch.epoch,
            target: &target,
            owned,
            reads: |topic| reads.contains(&topic),
            free: |topic, partition| self.owners.get(&(topic, partition)).is_none_or(|owner| owner == id),
            rules: work.rules,
        };
        let Some(next) = way.step(&member.current) else {
            self.watch_revocation(work, id);
            return false;
        };
        let is_news = !same_partitions(&member.current.assigned, &next.assigned);
        self.write(work, ConsumerKey::Current(id), Some(ConsumerValue::Current(next)));
        if let Some(member) = self.members.get_mut(id) {
            // What is to be given back has changed, or is given back.
            member.revoke = None;
        }
        self.watch_revocation(work, id);
        is_news
    }

    /// A static member comes back under another id: it takes over what the old one has.
    pub(super) fn replace(&mut self, work: &mut Work<'_>, old: &Arc<str>, new: &Arc<str>) {
        let Some(member) = self.members.get(old) else { return };
        let subscription = member.subscription.clone();
        let current = Current { epoch: 0, previous_epoch: 0, ..member.current.clone() };
        let share = self.share(old);
        self.remove(work, old);
        self.write(work, ConsumerKey::Member(new), Some(ConsumerValue::Member(subscription)));
        self.write(work, ConsumerKey::Target(new), Some(ConsumerValue::Target(share)));
        self.write(work, ConsumerKey::Current(new), Some(ConsumerValue::Current(current)));
    }

    /// Takes a member out, without another epoch.
    fn remove(&mut self, work: &mut Work<'_>, id: &str) {
        self.write(work, ConsumerKey::Current(id), None);
        self.write(work, ConsumerKey::Target(id), None);
        self.write(work, ConsumerKey::Member(id), None);
    }

    /// Takes members out: what they had is free.
    pub(super) fn fence(&mut self, work: &mut Work<'_>, ids: &[Arc<str>]) {
        let first = work.output.records.len();
        let mut any = false;
        for id in ids {
            if self.members.contains_key(id) {
                self.remove(work, id);
                any = true;
            }
        }
        if any {
            self.resolve_new(work);
            self.refresh_for(work, first, true);
        }
    }

    fn leave_by_heartbeat(
        &mut self,
        work: &mut Work<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatReply, Failure> {
        let id = self
            .find(&request.member_id, request.instance_id.as_deref())
            .map_err(|code| Failure::new(code, "who leaves is not a member of the group"))?;
        if request.member_epoch == LEAVE {
            self.fence(work, &[id]);
        } else if let Some(member) = self.members.get(&id) {
            let mut current = member.current.clone();
            current.epoch = AWAY;
            current.revoking = Owned::new();
            let since = current.assigned.values_mut().flat_map(|partitions| partitions.values_mut());
            since.for_each(|since| *since = 0);
            self.write(work, ConsumerKey::Current(&id), Some(ConsumerValue::Current(current)));
        }
        Ok(ConsumerHeartbeatReply {
            member_id: request.member_id.clone(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: work.config.consumer_heartbeat_interval_ms,
            assignment: None,
        })
    }

    /// The member of this id, or of this static name; the id may be left empty then.
    pub(super) fn find(&self, member_id: &str, instance_id: Option<&str>) -> Result<Arc<str>, ErrorCode> {
        if let Some(name) = instance_id {
            let id = self.instances.get(name).ok_or(ErrorCode::UnknownMemberId)?;
            return if member_id.is_empty() || **id == *member_id {
                Ok(Arc::clone(id))
            } else {
                Err(ErrorCode::FencedInstanceId)
            };
        }
        self.members.get_key_value(member_id).map(|(id, _)| Arc::clone(id)).ok_or(ErrorCode::UnknownMemberId)
    }
}

fn same_partitions(one: &Owned, other: &Owned) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.0 == other.0 && one.1.keys().eq(other.1.keys()))
}

/// True if the request leaves the member's subscription as it is.
fn says_nothing_new(known: &Subscription, request: &ConsumerHeartbeat) -> bool {
    let same = |said: &Option<String>, known: &Option<String>| said.is_none() || said == known;
    request.subscribed_topics.is_none()
        && request.subscribed_regex.is_none()
        && (request.rebalance_timeout_ms < 0 || request.rebalance_timeout_ms == known.rebalance_timeout_ms)
        && same(&request.instance_id, &known.instance_id)
        && same(&request.rack_id, &known.rack_id)
        && same(&request.server_assignor, &known.assignor)
        && request.caller == known.caller
        && known.classic.is_none()
}

/// What the member reads from now on: what the request leaves out stays.
fn subscription(known: Subscription, request: &ConsumerHeartbeat) -> Subscription {
    let regex = match &request.subscribed_regex {
        Some(regex) => Some(regex.clone()).filter(|regex| !regex.is_empty()),
        None => known.regex,
    };
    let topics = request.subscribed_topics.as_ref().map(|topics| topics.iter().cloned().collect::<BTreeSet<_>>());
    let timeout = Some(request.rebalance_timeout_ms).filter(|ms| *ms >= 0);
    Subscription {
        instance_id: request.instance_id.clone().or(known.instance_id),
        rack_id: request.rack_id.clone().or(known.rack_id),
        caller: request.caller.clone(),
        topics: topics.unwrap_or(known.topics),
        regex,
        rebalance_timeout_ms: timeout.unwrap_or(known.rebalance_timeout_ms),
        assignor: request.server_assignor.clone().or(known.assignor),
        classic: None,
    }
}
