//! The consumer: a stream of records, fetched ahead from the leaders of their partitions.

mod ask;
mod current;
pub(crate) mod fetcher;

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use rafka_model::{Offset, PartitionId, TopicName};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use self::current::Current;
use self::fetcher::{Fetcher, Item, Progress, Slot};
use crate::backoff::Random;
use crate::config::{ConsumerConfig, Subscription};
use crate::group::{self, Group};
use crate::{Client, ConsumedRecord, Error, ErrorKind};

/// A stream of records: `Stream<Item = Result<ConsumedRecord, Error>>`.
///
/// Records of one partition come in the order of their offsets; partitions are mixed. Without `exit_at_end` the stream
/// goes on for ever. An error is an item, not the end: after a retriable one (a partition cannot be reached for
/// [`ConsumerConfig::stall_ms`]) the consumer keeps trying; after another one the partition that it names is given up,
/// and the stream ends with the last partition.
///
/// With [`ConsumerConfig::group`] the coordinator of the group says which partitions are read, and may take them back
/// for another member at any time. Delivery is *at least once*: a record counts as done with when the next one is asked
/// for, or at [`Consumer::commit`] and [`Consumer::close`]; what was not committed when a member went comes again to
/// another one. See [`crate::GroupConfig::confirm`] for programs that gather records.
///
/// `next()` is cancel safe. Dropping the consumer ends its fetches; a member then leaves its group in the background, if
/// the runtime lives that long. [`Consumer::close`] waits for it.
pub struct Consumer {
    inner: Arc<Inner>,
    current: Option<Current>,
    /// Given to the user in chunks before `current`, and not confirmed.
    unconfirmed: BTreeMap<Slot, (Progress, Offset)>,
    /// Records are done with only when the user says so.
    confirms: bool,
    /// Of [`Inner::revocations`], those that `current` is known to have survived.
    revocations: u64,
    member: Option<JoinHandle<Result<(), Error>>>,
    stop: DropGuard,
}

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) config: ConsumerConfig,
    pub(crate) fetcher: Mutex<Fetcher>,
    group: Option<Arc<Group>>,
    /// Counts how often partitions were taken back.
    revocations: AtomicU64,
    /// For the task that fetches.
    wake: Notify,
    /// For the stream.
    readable: AtomicWaker,
}

impl Consumer {
    pub(crate) async fn start(client: Client, config: ConsumerConfig) -> Result<Self, Error> {
        if config.group.is_some() && config.partitions.is_some() {
            let what = "a member of a group cannot choose its partitions";
            return Err(Error::new(ErrorKind::Invalid, what).hint("leave out the partitions, or the group"));
        }
        let group = config.group.clone().map(|group| Arc::new(Group::new(client.clone(), group, config.stall_ms)));
        let fetcher = Fetcher::new(config.clone(), client.backoff(), Random::from_system());
        let (fetcher, wake, readable) = (Mutex::new(fetcher), Notify::new(), AtomicWaker::new());
        let revocations = AtomicU64::new(0);
        let inner = Arc::new(Inner { client, config, fetcher, group, revocations, wake, readable });
        inner.discover(true).await?;
        let stop = CancellationToken::new();
        let member = match &inner.group {
            Some(group) => Some(tokio::spawn(group::run(Arc::clone(group), Arc::clone(&inner), stop.clone()))),
            None => {
                inner.fetcher.lock().discovered();
                None
            }
        };
        tokio::spawn(run(Arc::clone(&inner), stop.clone()));
        let confirms = inner.config.group.as_ref().is_some_and(|group| group.confirm);
        let (unconfirmed, stop) = (BTreeMap::new(), stop.drop_guard());
        Ok(Self { inner, current: None, unconfirmed, confirms, revocations: 0, member, stop })
    }

    /// Every record that the stream gave is done with.
    pub fn confirm(&mut self) {
        for (progress, offset) in std::mem::take(&mut self.unconfirmed).into_values() {
            progress.set(offset);
        }
        if let Some(current) = &mut self.current {
            current.confirm();
        }
    }

    /// Commits every record that the stream gave, the last one with it.
    ///
    /// Cancel safe: a dropped future leaves open whether it happened.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] without a group; [`ErrorKind::Unreachable`] while the group has no coordinator. Committing
    /// again later covers what this one did not.
    pub async fn commit(&mut self) -> Result<(), Error> {
        self.confirm();
        match &self.inner.group {
            Some(group) => group.commit().await,
            None => Err(Error::new(ErrorKind::Invalid, "a consumer without a group has nothing to commit to")),
        }
    }

    /// Ends the consumer. A member of a group commits every record that the stream gave (with
    /// [`crate::GroupConfig::confirm`] those that were confirmed; without [`crate::GroupConfig::auto_commit_ms`] none) and
    /// leaves, so that others take over at once.
    ///
    /// # Errors
    /// The coordinator could not be told: it finds out when the member's session ends.
    pub async fn close(mut self) -> Result<(), Error> {
        if !self.confirms {
            self.confirm();
        }
        let Self { member, stop, .. } = self;
        drop(stop);
        match member {
            Some(member) => member.await.unwrap_or_else(|_| Err(Error::closed("the runtime"))),
            None => Ok(()),
        }
    }

    /// The partitions that the group has given to this consumer; none without a group.
    #[must_use]
    pub fn assignment(&self) -> Vec<(TopicName, PartitionId)> {
        self.inner.group.as_ref().map(|group| group.assignment()).unwrap_or_default()
    }

    /// The topics that are being read at the moment.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicName> {
        self.inner.fetcher.lock().topics()
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ConsumedRecord, Error>>> {
        if let (Some(current), false) = (&mut self.current, self.confirms) {
            current.confirm();
        }
        let revocations = self.inner.revocations.load(Ordering::Acquire);
        if revocations != self.revocations {
            self.revocations = revocations;
            self.forget_revoked();
        }
        loop {
            if let Some(current) = &mut self.current {
                match current.next() {
                    Some(Ok(record)) => return Poll::Ready(Some(Ok(record))),
                    Some(Err(error)) => {
                        self.inner.fetcher.lock().end(current.slot, None);
                        self.finish_chunk();
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        current.finish();
                        if !self.confirms {
                            current.confirm();
                        }
                        self.finish_chunk();
                    }
                }
            }
            // First register, then look: what comes in between wakes this task.
            self.inner.readable.register(cx.waker());
            let mut fetcher = self.inner.fetcher.lock();
            match fetcher.take() {
                Some(Item::Chunk(chunk)) => self.current = Some(Current::new(chunk)),
                Some(Item::Error(error)) => return Poll::Ready(Some(Err(error))),
                None if fetcher.is_over() => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    }

    /// What was taken back is neither given nor confirmed any more.
    fn forget_revoked(&mut self) {
        let inner = Arc::clone(&self.inner);
        let mut fetcher = inner.fetcher.lock();
        self.unconfirmed.retain(|slot, _| fetcher.has(*slot));
        if let Some(current) = self.current.take_if(|current| !fetcher.has(current.slot))
            && fetcher.consumed(current.bytes)
        {
            inner.wake.notify_one();
        }
    }

    fn finish_chunk(&mut self) {
        let Some(current) = self.current.take() else { return };
        if self.inner.fetcher.lock().consumed(current.bytes) {
            self.inner.wake.notify_one();
        }
        if current.given {
            self.unconfirmed.insert(current.slot, (current.progress, current.from));
        }
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumedRecord, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}

impl Inner {
    /// Looks for topics and partitions. At the `first` time everything that was named must be there.
    pub(crate) async fn discover(&self, first: bool) -> Result<(), Error> {
        if let Some(group) = &self.group {
            return group.discover(&self.config.subscription, first).await;
        }
        match &self.config.subscription {
            Subscription::Topics(names) => {
                let found = futures::future::join_all(names.iter().map(|name| self.client.find_topic(name))).await;
                for (name, found) in names.iter().zip(found) {
                    match found {
                        Ok(topic) => self.fetcher.lock().learn(name, topic.partitions),
                        // The partitions notice by themselves that their topic is gone.
                        Err(error) if first => return Err(error),
                        Err(error) => debug!(topic = %name, %error, "not refreshed"),
                    }
                }
            }
            Subscription::Matching(wanted) => match self.client.admin().topics().await {
                Ok(topics) => {
                    for topic in topics.iter().filter(|topic| wanted(&topic.name)) {
                        let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
                        self.fetcher.lock().learn(&topic.name, partitions);
                    }
                }
                Err(error) if first => return Err(error),
                Err(error) => debug!(%error, "topics not refreshed"),
            },
        }
        Ok(())
    }

    /// Partitions were taken back: the stream must look whether the one that it is in was among them.
    pub(crate) fn revoked(&self) {
        self.revocations.fetch_add(1, Ordering::Release);
    }

    /// Something came in for both ends.
    pub(crate) fn changed(&self) {
        self.wake.notify_one();
        self.readable.wake();
    }
}

/// Fetches until `stop`.
async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let mut asked = JoinSet::new();
    let mut stopped = pin!(stop.cancelled());
    let every = Duration::from_millis(inner.config.refresh_ms.max(1));
    let mut refresh = interval_at(Instant::now() + every, every);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = inner.client.now();
        let (actions, next, over) = {
            let mut fetcher = inner.fetcher.lock();
            let actions = fetcher.poll(now);
            (actions, fetcher.next_deadline(now), fetcher.is_over())
        };
        if over {
            inner.readable.wake();
        }
        for action in actions {
            asked.spawn(ask::carry_out(Arc::clone(&inner), action));
        }
        let next = next.map(|next| Instant::now() + next.since(now));
        tokio::select! {
            () = inner.wake.notified() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            // Each wakes this task through `wake` as well; here they are only reaped.
            Some(_) = asked.join_next(), if !asked.is_empty() => {}
            _ = refresh.tick(), if !over && !inner.config.exit_at_end && inner.group.is_none() => {
                let inner = Arc::clone(&inner);
                asked.spawn(async move {
                    // Only the first discovery fails.
                    let _ = inner.discover(false).await;
                    inner.changed();
                });
            }
            () = &mut stopped => break,
        }
    }
    debug!("the consumer has stopped");
}
