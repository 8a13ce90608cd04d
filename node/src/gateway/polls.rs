//! Relayed fetches under way. Consumers that wait for the same records share one; a fetch that was answered without them
//! leaves them to go on for a while, and what they bring goes to the cache, where the next fetch finds it: so a slow
//! leader's records arrive although nobody waits for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rafka_broker::request::{Fetch, FetchPartition, Fetched, PartitionReply};
use rafka_model::limits::{GATEWAY_ABANDONED_MS, GATEWAY_TRAVEL_MS, LONG_POLL_MS_MAX};
use rafka_model::{LeaderEpoch, NodeId, Offset, TopicPartition};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Errands;
use super::cache::HotCache;
use super::metrics::{Api, Metrics};
use super::reach::{Ask, Reach, Told, Trouble};

/// What a leader answered; shared by all who waited.
pub(crate) type Polled = Arc<Result<Vec<PartitionReply<Fetched>>, Trouble>>;

type Answers = watch::Sender<Option<Polled>>;

/// Relayed fetches of the node.
pub(crate) struct Polls<R> {
    inner: Arc<Inner<R>>,
}

struct Inner<R> {
    reach: Arc<R>,
    cache: Arc<HotCache>,
    metrics: Arc<Metrics>,
    errands: Errands,
    running: Mutex<HashMap<Key, Arc<Answers>>>,
}

/// Fetches that are alike in this have the same answer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    leader: NodeId,
    waits: bool,
    min_bytes: u32,
    max_bytes: u32,
    parts: Vec<(TopicPartition, Offset, u32, Option<LeaderEpoch>)>,
}

/// A relayed fetch, as one of those who wait for it sees it.
pub(crate) struct Poll {
    answer: watch::Receiver<Option<Polled>>,
    /// It had begun before.
    pub(crate) joined: bool,
}

impl Poll {
    /// Its answer; `None` while the node stops. Cancel safe.
    pub(crate) async fn answer(&mut self) -> Option<Polled> {
        self.answer.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<R: Reach> Polls<R> {
    pub(crate) fn new(reach: Arc<R>, cache: Arc<HotCache>, metrics: Arc<Metrics>, errands: Errands) -> Self {
        Self { inner: Arc::new(Inner { reach, cache, metrics, errands, running: Mutex::default() }) }
    }

    /// Begins to fetch from `leader`, or joins a fetch that waits for the same. One that does not wait is its own, because
    /// it must tell what is there now; unless it `is_spare`, asked for what it may bring to the cache.
    pub(crate) fn begin(&self, leader: NodeId, fetch: Fetch, is_spare: bool) -> Poll {
        let part = |part: &FetchPartition| (part.partition, part.offset, part.max_bytes, part.leader_epoch);
        let (min_bytes, max_bytes) = (fetch.min_bytes, fetch.max_bytes);
        let waits = fetch.max_wait_ms > 0;
        let key = Key { leader, waits, min_bytes, max_bytes, parts: fetch.partitions.iter().map(part).collect() };
        let shared = is_spare || fetch.max_wait_ms > 0;
        let mut running = self.inner.running.lock();
        if let Some(answers) = running.get(&key).filter(|_| shared) {
            return Poll { answer: answers.subscribe(), joined: true };
        }
        let (answers, answer) = watch::channel(None);
        let answers = Arc::new(answers);
        if shared {
            running.insert(key.clone(), answers.clone());
        }
        drop(running);
        let inner = self.inner.clone();
        self.inner.errands.spawn(async move { inner.run(key, fetch, shared, &answers).await });
        Poll { answer, joined: false }
    }
}

impl<R: Reach> Inner<R> {
    async fn run(&self, key: Key, fetch: Fetch, shared: bool, answers: &Arc<Answers>) {
        let image = self.reach.image();
        let epochs: Vec<_> =
            fetch.partitions.iter().map(|part| Some(image.partition(part.partition)?.leader_epoch)).collect();
        drop(image);
        let began = Instant::now();
        let wait = u64::from(fetch.max_wait_ms).min(LONG_POLL_MS_MAX);
        // A leader that is that late is given up; its answer would be waited for again anyway.
        let within = Duration::from_millis(wait + 20 * GATEWAY_TRAVEL_MS);
        let leader = key.leader;
        let mut call = std::pin::pin!(self.reach.ask(leader, Ask::Fetch(fetch), within));
        let answer = loop {
            tokio::select! {
                answer = &mut call => break answer,
                () = answers.closed() => {}
                () = self.errands.stop.cancelled() => return,
            }
            let left = tokio::time::timeout(Duration::from_millis(GATEWAY_ABANDONED_MS), &mut call).await;
            if let Ok(answer) = left {
                break answer;
            }
            let mut running = self.running.lock();
            if answers.receiver_count() == 0 {
                if shared {
                    running.remove(&key);
                }
                return;
            }
        };
        self.metrics.took(Api::Fetch, began.elapsed());
        let answer = match answer {
            Ok(Told::Fetched(replies)) => {
                let sizes =
                    replies.iter().map(|reply| reply.result.as_ref().map_or(0, |fetched| fetched.records.len()));
                let bytes = sizes.sum();
                for (reply, epoch) in replies.iter().zip(epochs) {
                    if let (Ok(fetched), Some(epoch)) = (&reply.result, epoch) {
                        self.cache.take_in(reply.partition, epoch, fetched, bytes);
                    }
                }
                Ok(replies)
            }
            Ok(_) => Ok(Vec::new()),
            Err(trouble) => Err(trouble),
        };
        if shared {
            self.running.lock().remove(&key);
        }
        answers.send_replace(Some(Arc::new(answer)));
    }
}
