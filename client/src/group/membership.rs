//! A member of a group as data: what to tell the coordinator next, and what its answers mean. No clock, no network.
//!
//! KIP-848 from the member's side. The coordinator answers each heartbeat with an epoch and, when it has changed, with
//! what the member is to own. The member first gives back what it is no longer to have, then takes what is new, and says
//! in its next heartbeat what it owns; the coordinator gives a partition to nobody before its last owner has said so.
//! A heartbeat that follows a failure says everything again, since nobody knows what the coordinator has heard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rafka_broker::ErrorCode;
use rafka_broker::group::request::{Caller, ConsumerHeartbeat, ConsumerHeartbeatReply, TopicPartitions};
use rafka_model::{Monotonic, PartitionId, TopicId};

use crate::backoff::{Backoff, Random};
use crate::config::GroupConfig;
use crate::{Error, ErrorKind};

/// A partition of a group.
pub(crate) type At = (TopicId, PartitionId);

/// Epochs with a meaning of their own.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;
const LEAVES_FOR_A_WHILE: i32 = -2;

/// Something to do.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Ask the coordinator → [`Membership::answered`].
    Heartbeat(Box<ConsumerHeartbeat>),
    /// Stop reading these and commit how far they were read → [`Membership::released`].
    Release(BTreeSet<At>),
    /// Stop reading these: somebody else may have them already.
    Lose(BTreeSet<At>),
    /// Read these from where the group stopped, as long as [`Membership::holds`] is true of the grant beside each.
    Take(Vec<(At, u64)>),
    /// The user should know, though it goes on.
    Tell(Error),
    /// It cannot go on.
    Fail(Error),
}

/// What the coordinator does not know yet.
#[derive(Debug)]
struct News {
    /// It may know nothing.
    all: bool,
    subscription: bool,
    owned: bool,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Membership {
    config: GroupConfig,
    member_id: String,
    backoff: Backoff,
    random: Random,
    stall: Duration,
    epoch: i32,
    interval: Duration,
    due: Monotonic,
    in_flight: bool,
    subscribed: BTreeSet<String>,
    news: News,
    /// What the member is to own, as far as it was told.
    target: Option<BTreeSet<At>>,
    /// What it owns, each with the number of its grant.
    owned: BTreeMap<At, u64>,
    grants: u64,
    /// What it is giving back.
    releasing: Option<BTreeSet<At>>,
    actions: Vec<Action>,
    failures: u32,
    failing_since: Option<Monotonic>,
    failed: bool,
}

impl Membership {
    pub(crate) fn new(config: GroupConfig, member_id: String, backoff: Backoff, random: Random, stall_ms: u64) -> Self {
        Self {
            config,
            member_id,
            backoff,
            random,
            stall: Duration::from_millis(stall_ms),
            epoch: JOINS,
            interval: Duration::from_secs(5),
            due: Monotonic(0),
            in_flight: false,
            subscribed: BTreeSet::new(),
            news: News { all: true, subscription: false, owned: false },
            target: None,
            owned: BTreeMap::new(),
            grants: 0,
            releasing: None,
            actions: Vec::new(),
            failures: 0,
            failing_since: None,
            failed: false,
        }
    }

    /// The member's id, and the epoch that it has reached.
    pub(crate) fn identity(&self) -> (&str, i32) {
        (&self.member_id, self.epoch)
    }

    /// The coordinator may take it in at any moment.
    pub(crate) fn is_joining(&self) -> bool {
        self.in_flight && self.epoch == JOINS
    }

    /// Whether the partition is still the member's by this grant.
    pub(crate) fn holds(&self, at: &At, grant: u64) -> bool {
        self.owned.get(at) == Some(&grant)
    }

    /// Topics that the member wants from now on.
    pub(crate) fn subscribe(&mut self, now: Monotonic, topics: BTreeSet<String>) {
        if self.subscribed != topics {
            self.subscribed = topics;
            self.news.subscription = true;
            if self.failures == 0 {
                self.due = now;
            }
        }
    }

    /// What to do now. Nothing happens before there is a subscription.
    pub(crate) fn poll(&mut self, now: Monotonic) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.actions);
        if self.may_report() && self.due <= now {
            self.in_flight = true;
            actions.push(Action::Heartbeat(Box::new(self.heartbeat())));
        }
        actions
    }

    /// When to [`Self::poll`] next if nothing else happens.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.may_report().then_some(self.due)
    }

    fn may_report(&self) -> bool {
        !self.in_flight && !self.failed && (!self.subscribed.is_empty() || self.epoch != JOINS)
    }

    fn heartbeat(&mut self) -> ConsumerHeartbeat {
        let all = std::mem::take(&mut self.news.all);
        let subscription = std::mem::take(&mut self.news.subscription) || all;
        let owned = std::mem::take(&mut self.news.owned) || all;
        ConsumerHeartbeat {
            group: self.config.id.clone(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: self.config.instance_id.clone(),
            rack_id: self.config.rack_id.clone().filter(|_| all),
            rebalance_timeout_ms: if all { self.config.rebalance_timeout_ms } else { -1 },
            subscribed_topics: subscription.then(|| self.subscribed.iter().cloned().collect()),
            subscribed_regex: None,
            server_assignor: self.config.assignor.clone().filter(|_| all),
            owned: owned.then(|| grouped(self.owned.keys().chain(self.releasing.iter().flatten()))),
            caller: Caller { client_id: self.config.client_id.clone(), client_host: String::new() },
        }
    }

    /// The heartbeat with which the member goes.
    pub(crate) fn farewell(&self) -> ConsumerHeartbeat {
        let member_epoch = if self.config.instance_id.is_some() { LEAVES_FOR_A_WHILE } else { LEAVES };
        ConsumerHeartbeat {
            group: self.config.id.clone(),
            member_id: self.member_id.clone(),
            member_epoch,
            instance_id: self.config.instance_id.clone(),
            rebalance_timeout_ms: -1,
            ..ConsumerHeartbeat::default()
        }
    }

    /// The coordinator answered, or could not be asked.
    pub(crate) fn answered(&mut self, now: Monotonic, result: Result<ConsumerHeartbeatReply, Error>) {
        self.in_flight = false;
        match result {
            Ok(reply) => {
                self.failures = 0;
                self.failing_since = None;
                self.epoch = reply.member_epoch;
                self.interval = Duration::from_millis(u64::try_from(reply.heartbeat_interval_ms).unwrap_or(0).max(1));
                self.due = now.plus(self.interval);
                if let Some(assignment) = reply.assignment {
                    self.target = Some(partitions(&assignment));
                    // Even an assignment that changes nothing is to be confirmed.
                    self.news.owned = true;
                    self.reconcile();
                }
                if self.news.all || self.news.subscription || self.news.owned {
                    self.due = now;
                }
            }
            Err(error) => self.refused(now, error),
        }
    }

    fn refused(&mut self, now: Monotonic, error: Error) {
        use ErrorCode as C;
        self.news.all = true;
        self.failures += 1;
        self.due = now.plus(self.backoff.after(self.failures, &mut self.random));
        match error.code() {
            // A group that there is not would be made: this one is of another kind, and stays so.
            Some(C::GroupIdNotFound) if self.epoch == JOINS => {
                let error = of_another_kind(&self.config.id, &error);
                return self.fail(error);
            }
            Some(C::FencedMemberEpoch | C::UnknownMemberId | C::GroupIdNotFound) => {
                // The first time at once: it is the way back after a pause or the loss of a coordinator.
                if self.failures == 1 {
                    self.due = now;
                }
                self.lose();
            }
            _ if error.is_retriable() => {}
            _ => return self.fail(error),
        }
        let since = *self.failing_since.get_or_insert(now);
        if now.since(since) >= self.stall {
            self.failing_since = Some(now);
            let what = format!("group {:?} cannot be reached for {} ms", self.config.id, now.since(since).as_millis());
            let mut told = Error::new(ErrorKind::Unreachable, what).with_cause(error.cause().cloned());
            if let Some(hint) = error.advice() {
                told = told.hint(hint);
            }
            self.actions.push(Action::Tell(told));
        }
    }

    fn fail(&mut self, error: Error) {
        self.failed = true;
        self.lose();
        self.actions.push(Action::Fail(error));
    }

    /// All is lost; join again as somebody new who has the same name.
    fn lose(&mut self) {
        self.epoch = JOINS;
        self.target = None;
        let releasing = self.releasing.take();
        let lost: BTreeSet<At> =
            std::mem::take(&mut self.owned).into_keys().chain(releasing.into_iter().flatten()).collect();
        if !lost.is_empty() {
            self.actions.push(Action::Lose(lost));
        }
    }

    /// Moves towards the target: first gives back, then takes.
    fn reconcile(&mut self) {
        let (Some(target), None) = (&self.target, &self.releasing) else { return };
        let surplus: BTreeSet<At> = self.owned.keys().filter(|at| !target.contains(*at)).copied().collect();
        if !surplus.is_empty() {
            self.owned.retain(|at, _| target.contains(at));
            self.releasing = Some(surplus.clone());
            self.news.owned = false;
            return self.actions.push(Action::Release(surplus));
        }
        let mut taken = Vec::new();
        for at in target.iter().filter(|at| !self.owned.contains_key(*at)) {
            self.grants += 1;
            taken.push((*at, self.grants));
        }
        self.owned.extend(taken.iter().copied());
        if !taken.is_empty() {
            self.actions.push(Action::Take(taken));
        }
    }

    /// What was to be given back is not read any more.
    pub(crate) fn released(&mut self, now: Monotonic, released: &BTreeSet<At>) {
        // Everything may have been lost meanwhile.
        if self.releasing.as_ref() != Some(released) {
            return;
        }
        self.releasing = None;
        self.reconcile();
        if self.releasing.is_none() {
            self.news.owned = true;
            if self.failures == 0 {
                self.due = now;
            }
        }
    }
}

/// What the coordinator's refusal to take the member in means.
fn of_another_kind(group: &str, refusal: &Error) -> Error {
    let what = format!("group {group:?} is used by clients of the classic protocol, and cannot be joined");
    let hint = "choose another group, or stop those clients first: `rafka group describe` shows them";
    Error::new(ErrorKind::Conflict, what).with_cause(refusal.cause().cloned()).hint(hint)
}

fn partitions(topics: &[TopicPartitions]) -> BTreeSet<At> {
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic, *partition))).collect()
}

fn grouped<'a>(partitions: impl Iterator<Item = &'a At>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, BTreeSet<PartitionId>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(*topic).or_default().insert(*partition);
    }
    let topic =
        |(topic, partitions): (_, BTreeSet<_>)| TopicPartitions { topic, partitions: partitions.into_iter().collect() };
    topics.into_iter().map(topic).collect()
}

#[cfg(test)]
mod tests;
