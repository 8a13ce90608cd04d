//! Consumer groups: finding coordinators, and the task that keeps a consumer's membership.
//!
//! [`Membership`] decides, and what it asks for is done here: heartbeats, giving partitions back (their progress is
//! committed first), and taking new ones from where the group stopped.

mod admin;
mod assignment;
mod coordinator;
mod membership;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rafka_broker::ErrorCode;
use rafka_broker::group::request::{Commit, CommittedOffset, GroupReply, GroupRequest, OffsetToCommit, OffsetsAsked};
use rafka_model::{Offset, PartitionId, TopicId, TopicName};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::coordinator::{ask, ask_once, strange};
use self::membership::{Action, At, Membership};
use crate::backoff::Random;
use crate::config::{GroupConfig, Subscription};
use crate::consumer::Inner;
use crate::consumer::fetcher::Progress;
use crate::{Client, Error};

pub use admin::{GroupListing, PartitionLag};

/// A member that goes waits no longer than this for the coordinator to take note.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// A consumer's membership.
pub(crate) struct Group {
    client: Client,
    config: GroupConfig,
    stall_ms: u64,
    membership: Mutex<Membership>,
    held: Mutex<BTreeMap<At, Held>>,
    /// Names of topics that the coordinator calls by their ids.
    names: Mutex<BTreeMap<TopicId, TopicName>>,
    /// One commit at a time: offsets must not go back because an older commit was slower.
    committing: tokio::sync::Mutex<()>,
    wake: Notify,
}

/// A partition that is being read for the group.
struct Held {
    topic: TopicName,
    progress: Progress,
    committed: Option<Offset>,
}

impl Group {
    pub(crate) fn new(client: Client, config: GroupConfig, stall_ms: u64) -> Self {
        let mut random = Random::from_system();
        let member_id = format!("{}-{:016x}{:016x}", config.client_id, random.next(), getrandom::u64().unwrap_or(0));
        let membership = Membership::new(config.clone(), member_id, client.backoff(), random, stall_ms);
        Self {
            client,
            config,
            stall_ms,
            membership: Mutex::new(membership),
            held: Mutex::default(),
            names: Mutex::default(),
            committing: tokio::sync::Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Tells the membership which topics there are to want. At the `first` time everything that was named must be there.
    pub(crate) async fn discover(&self, subscription: &Subscription, first: bool) -> Result<(), Error> {
        let names = match subscription {
            Subscription::Topics(names) => {
                if first {
                    for found in futures::future::join_all(names.iter().map(|name| self.client.find_topic(name))).await
                    {
                        let topic = found?;
                        self.names.lock().insert(topic.id, topic.name);
                    }
                }
                names.iter().map(ToString::to_string).collect()
            }
            Subscription::Matching(wanted) => {
                let topics = self.client.admin().topics().await?;
                let mut names = self.names.lock();
                let wanted = topics.into_iter().filter(|topic| wanted(&topic.name));
                wanted.map(|topic| (names.insert(topic.id, topic.name.clone()), topic.name.to_string()).1).collect()
            }
        };
        self.membership.lock().subscribe(self.client.now(), names);
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn assignment(&self) -> Vec<(TopicName, PartitionId)> {
        let held = self.held.lock();
        let mut all: Vec<_> = held.iter().map(|((_, partition), held)| (held.topic.clone(), *partition)).collect();
        all.sort();
        all
    }

    /// Commits how far every partition was read.
    pub(crate) async fn commit(&self) -> Result<(), Error> {
        let held: BTreeSet<At> = self.held.lock().keys().copied().collect();
        self.commit_of(&held, self.client.deadline()).await
    }

    /// Commits how far these were read; what stands as it was committed is left out.
    async fn commit_of(&self, wanted: &BTreeSet<At>, deadline: Duration) -> Result<(), Error> {
        let _turn = self.committing.lock().await;
        let news: Vec<(At, OffsetToCommit)> = {
            let held = self.held.lock();
            let moved = |at: &At| {
                let found = held.get(at)?;
                let offset = found.progress.get().filter(|offset| found.committed != Some(*offset))?;
                let topic = found.topic.to_string();
                let (topic_id, partition) = (Some(at.0), at.1);
                let metadata = String::new();
                Some((*at, OffsetToCommit { topic, topic_id, partition, offset: offset.0, leader_epoch: -1, metadata }))
            };
            wanted.iter().filter_map(moved).collect()
        };
        if news.is_empty() {
            return Ok(());
        }
        // The epoch may move between the question and its arrival; then it is asked again.
        let request = || {
            let membership = self.membership.lock();
            let (member_id, generation) = membership.identity();
            GroupRequest::Commit(Commit {
                group: self.config.id.clone(),
                generation,
                member_id: member_id.to_owned(),
                instance_id: self.config.instance_id.clone(),
                retention_ms: None,
                offsets: news.iter().map(|(_, offset)| offset.clone()).collect(),
            })
        };
        let GroupReply::Commit(results) = ask(&self.client, request, deadline).await? else {
            return Err(strange("commit"));
        };
        let mut failed = Ok(());
        let mut held = self.held.lock();
        for ((at, offset), result) in news.iter().zip(results) {
            match (result, held.get_mut(at)) {
                (Ok(()), Some(held)) => held.committed = Some(Offset(offset.offset)),
                (Ok(()), None) => {}
                (Err(code), _) => {
                    let what = format!("offset of {}/{} not committed", offset.topic, offset.partition);
                    failed = Err(Error::refused(what, &rafka_broker::Failure::new(code, ""), None));
                }
            }
        }
        failed
    }

    /// The coordinator's word on one heartbeat.
    async fn beat(self: Arc<Self>, inner: Arc<Inner>, request: GroupRequest) {
        let answer = ask_once(&self.client, &request, self.client.deadline()).await.and_then(|reply| match reply {
            GroupReply::ConsumerHeartbeat(reply) => Ok(reply),
            _ => Err(strange("heartbeat")),
        });
        if let Err(error) = &answer {
            debug!(group = self.config.id, %error, "heartbeat failed");
        }
        self.membership.lock().answered(self.client.now(), answer);
        drop(inner);
    }

    /// Stops reading, commits what was read if that is wanted, and says that it is done.
    async fn release(self: Arc<Self>, inner: Arc<Inner>, parts: BTreeSet<At>) {
        self.stop_reading(&inner, &parts);
        if self.config.auto_commit_ms.is_some() {
            // Whoever takes over waits for this; what is not committed is read twice, no more.
            let within = Duration::from_millis(u64::try_from(self.config.rebalance_timeout_ms / 2).unwrap_or(0));
            if let Err(error) = self.commit_of(&parts, within.min(self.client.deadline())).await {
                warn!(group = self.config.id, %error, "partitions go without their last commit");
            }
        }
        self.held.lock().retain(|at, _| !parts.contains(at));
        self.membership.lock().released(self.client.now(), &parts);
    }

    fn stop_reading(&self, inner: &Inner, parts: &BTreeSet<At>) {
        let mut fetcher = inner.fetcher.lock();
        for (topic, partition) in parts {
            fetcher.revoke(*topic, *partition);
        }
        drop(fetcher);
        inner.revoked();
        inner.changed();
    }

    /// Begins to read partitions where the group stopped, as long as they are still the member's.
    async fn take(self: Arc<Self>, inner: Arc<Inner>, mut parts: Vec<(At, u64)>) {
        let (mut rounds, mut random) = (0, Random::from_system());
        let (mut since, stall) = (Instant::now(), Duration::from_millis(self.stall_ms));
        loop {
            parts.retain(|(at, grant)| self.membership.lock().holds(at, *grant));
            if parts.is_empty() {
                return;
            }
            match self.begin(&inner, &mut parts).await {
                Ok(()) if parts.is_empty() => return,
                Ok(()) => {}
                Err(error) if error.is_retriable() || is_of_epoch(&error) => {
                    debug!(group = self.config.id, %error, "committed offsets not read");
                    if since.elapsed() >= stall {
                        since = Instant::now();
                        inner.fetcher.lock().tell(error);
                        inner.changed();
                    }
                }
                Err(error) => {
                    inner.fetcher.lock().fail(error);
                    return inner.changed();
                }
            }
            rounds += 1;
            sleep(self.client.backoff().after(rounds, &mut random)).await;
        }
    }

    /// One attempt at [`Self::take`]; what was begun is taken out of `parts`.
    async fn begin(&self, inner: &Inner, parts: &mut Vec<(At, u64)>) -> Result<(), Error> {
        let mut topics: BTreeMap<TopicName, Vec<PartitionId>> = BTreeMap::new();
        let mut named: BTreeMap<(TopicName, PartitionId), (At, u64)> = BTreeMap::new();
        for (at, grant) in parts.iter() {
            let name = self.name(at.0).await?;
            topics.entry(name.clone()).or_default().push(at.1);
            named.insert((name, at.1), (*at, *grant));
        }
        let request = || {
            let membership = self.membership.lock();
            let (member_id, member_epoch) = membership.identity();
            GroupRequest::Offsets(OffsetsAsked {
                group: self.config.id.clone(),
                member_id: Some(member_id.to_owned()),
                member_epoch,
                require_stable: true,
                topics: Some(topics.iter().map(|(name, parts)| (name.to_string(), parts.clone())).collect()),
            })
        };
        let GroupReply::Offsets(found) = ask(&self.client, request, self.client.deadline()).await? else {
            return Err(strange("offsets"));
        };
        for found in found {
            let CommittedOffset { topic, partition, offset, error, .. } = found;
            let Some((at, grant)) = TopicName::new(&topic).ok().and_then(|name| named.get(&(name, partition))) else {
                continue;
            };
            match error {
                None => {}
                // A transaction is not decided yet, and the like.
                Some(code) if code.is_retriable() => continue,
                Some(code) => {
                    let what = format!("committed offset of {topic}/{partition} cannot be read");
                    return Err(Error::refused(what, &rafka_broker::Failure::new(code, ""), None));
                }
            }
            let committed = (offset >= 0).then_some(Offset(offset));
            // Under the lock of the membership, so that nothing is begun behind the back of a release.
            let membership = self.membership.lock();
            if membership.holds(at, *grant) {
                let topic = named_topic(&topic)?;
                let progress = inner.fetcher.lock().assign(&topic, at.0, at.1, committed);
                self.held.lock().insert(*at, Held { topic, progress, committed });
            }
            drop(membership);
            parts.retain(|(other, _)| other != at);
        }
        inner.changed();
        Ok(())
    }

    async fn name(&self, id: TopicId) -> Result<TopicName, Error> {
        let known = self.names.lock().get(&id).cloned();
        match known {
            Some(name) => Ok(name),
            None => {
                let name = self.client.routes().name(id).await?;
                self.names.lock().insert(id, name.clone());
                Ok(name)
            }
        }
    }

    /// Commits and leaves.
    async fn leave(&self) -> Result<(), Error> {
        let committed = match self.config.auto_commit_ms {
            Some(_) => timeout(FAREWELL_MAX, self.commit()).await.unwrap_or(Ok(())),
            None => Ok(()),
        };
        let farewell = GroupRequest::ConsumerHeartbeat(self.membership.lock().farewell());
        match ask(&self.client, || farewell.clone(), FAREWELL_MAX).await {
            // Nobody knows the member any more: that is what was wanted.
            Err(error) if is_of_epoch(&error) || error.code() == Some(ErrorCode::GroupIdNotFound) => committed,
            left => committed.and(left.map(drop)),
        }
    }
}

fn named_topic(name: &str) -> Result<TopicName, Error> {
    TopicName::new(name).map_err(|error| strange("offsets").because(error.to_string()))
}

/// The coordinator and the member do not agree on the epoch (yet): the next heartbeat brings them together.
fn is_of_epoch(error: &Error) -> bool {
    use ErrorCode as C;
    matches!(error.code(), Some(C::StaleMemberEpoch | C::FencedMemberEpoch | C::UnknownMemberId | C::IllegalGeneration))
}

/// Keeps the membership until `stop`, and leaves.
pub(crate) async fn run(group: Arc<Group>, inner: Arc<Inner>, stop: CancellationToken) -> Result<(), Error> {
    let mut work = JoinSet::new();
    let every = |ms: u64| {
        let every = Duration::from_millis(ms.max(1));
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let auto_commit = group.config.auto_commit_ms;
    let mut commits = every(auto_commit.unwrap_or(u64::from(u32::MAX)));
    let mut refresh = every(inner.config.refresh_ms);
    let grows = matches!(inner.config.subscription, Subscription::Matching(_));
    loop {
        let (actions, next) = {
            let now = group.client.now();
            let mut membership = group.membership.lock();
            let actions = membership.poll(now);
            let next = membership.next_deadline();
            (actions, next.map(|next| Instant::now() + next.since(now)))
        };
        for action in actions {
            let (group, inner) = (Arc::clone(&group), Arc::clone(&inner));
            match action {
                Action::Heartbeat(heartbeat) => {
                    work.spawn(group.beat(inner, GroupRequest::ConsumerHeartbeat(*heartbeat)));
                }
                Action::Release(parts) => {
                    work.spawn(group.release(inner, parts));
                }
                Action::Take(parts) => {
                    work.spawn(group.take(inner, parts));
                }
                Action::Lose(parts) => {
                    warn!(group = group.config.id, partitions = parts.len(), "the group went on without this member");
                    group.stop_reading(&inner, &parts);
                    group.held.lock().retain(|at, _| !parts.contains(at));
                }
                Action::Tell(error) => {
                    inner.fetcher.lock().tell(error);
                    inner.changed();
                }
                Action::Fail(error) => {
                    inner.fetcher.lock().fail(error);
                    inner.changed();
                }
            }
        }
        tokio::select! {
            () = group.wake.notified() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            Some(_) = work.join_next(), if !work.is_empty() => {}
            _ = commits.tick(), if auto_commit.is_some() => {
                let group = Arc::clone(&group);
                work.spawn(async move {
                    if let Err(error) = group.commit().await {
                        debug!(group = group.config.id, %error, "not committed");
                    }
                });
            }
            _ = refresh.tick(), if grows => {
                let (group, inner) = (Arc::clone(&group), Arc::clone(&inner));
                work.spawn(async move {
                    if let Err(error) = group.discover(&inner.config.subscription, false).await {
                        debug!(%error, "topics not refreshed");
                    }
                });
            }
            () = stop.cancelled() => break,
        }
    }
    // A farewell must not overtake the heartbeat that joins: nobody would ever take that member out again.
    let joined = async { while group.membership.lock().is_joining() && work.join_next().await.is_some() {} };
    let _ = timeout(FAREWELL_MAX, joined).await;
    work.shutdown().await;
    group.leave().await
}
