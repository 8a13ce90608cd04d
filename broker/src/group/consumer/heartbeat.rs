//! ConsumerGroupHeartbeat: join, stay, leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use rafka_model::limits::GROUP_TOPICS_MAX;

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
        if joins && !self.members.contains_key(&id) && self.members.len() >= work.config.consumer_max_size {
            let replaces = request.instance_id.as_ref().is_some_and(|name| self.instances.contains_key(name));
            if !replaces {
                return refuse(ErrorCode::GroupMaxSizeReached, format!("group has {} members", self.members.len()));
            }
        }
        self.admit(work, request, &id)?;

        let subscription = self.subscription(request, &id);
        let before = self.members.get(&id).map(|member| member.current.clone()).unwrap_or_default();
        self.advance(work, &id, subscription, request.owned.as_deref());
        self.heard(work, &id);

        let Some(member) = self.members.get(&id) else {
            return refuse(ErrorCode::UnknownMemberId, "no such member");
        };
        let subscribes = request.subscribed_topics.is_some() || request.subscribed_regex.is_some();
        let is_full = request.rebalance_timeout_ms >= 0 && subscribes && request.owned.is_some();
        let same = |a: &Owned, b: &Owned| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.keys().eq(b.1.keys()))
        };
        let tell = joins || is_full || !same(&before.assigned, &member.current.assigned);
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

    /// What the member reads from now on: what the request leaves out stays.
    fn subscription(&self, request: &ConsumerHeartbeat, id: &str) -> Subscription {
        let known = self.members.get(id).map(|member| member.subscription.clone()).unwrap_or_default();
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

    /// Writes down what the member reads, makes the target if it must change, and moves the member one step.
    pub(super) fn advance(
        &mut self,
        work: &mut Work<'_>,
        id: &Arc<str>,
        subscription: Subscription,
        owned: Option<&[TopicPartitions]>,
    ) {
        let known = self.members.get(id).map(|member| &member.subscription);
        let key = |known: &Subscription| (known.topics.clone(), known.regex.clone(), known.assignor.clone());
        let reason = known.is_none_or(|known| key(known) != key(&subscription));
        let first = work.output.records.len();
        if known != Some(&subscription) {
            self.write(work, ConsumerKey::Member(id), Some(ConsumerValue::Member(subscription)));
            self.resolve_new(work);
        }
        self.refresh_for(work, first, reason || self.epoch.epoch == 0);
        self.reconcile(work, id, owned);
    }

    fn reconcile(&mut self, work: &mut Work<'_>, id: &Arc<str>, owned: Option<&[TopicPartitions]>) {
        let Some(member) = self.members.get(id) else { return };
        let settled = member.has_reached(self.target_epoch.epoch) && owned.is_none();
        let reads = if settled && self.epoch.epoch == self.target_epoch.epoch {
            None
        } else {
            Some(self.read_by(id, work.context.image))
        };
        let target = self.share(id);
        let way = Way {
            epoch: self.target_epoch.epoch,
            target: &target,
            owned,
            reads: |topic| reads.as_ref().is_none_or(|reads| reads.contains(&topic)),
            free: |topic, partition| self.owners.get(&(topic, partition)).is_none_or(|owner| owner == id),
            rules: work.rules,
        };
        if let Some(current) = way.step(&member.current) {
            self.write(work, ConsumerKey::Current(id), Some(ConsumerValue::Current(current)));
            if let Some(member) = self.members.get_mut(id) {
                // What is to be given back has changed, or is given back.
                member.revoke = None;
            }
        }
        self.watch_revocation(work, id);
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
