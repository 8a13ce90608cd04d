//! Fetch: from the cache, from this node, from the leaders; whoever has enough first answers it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rafka_broker::request::{Fetch, FetchPartition, Fetched, PartitionReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{
    GATEWAY_ATTEMPTS_MAX, GATEWAY_GRACE_MS, GATEWAY_TRAVEL_MS, LONG_POLL_MS_MAX, READ_BYTES_MAX,
};
use rafka_model::{Chunks, NodeId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cache::HotCache;
use super::metrics::{Api, Metrics, Route};
use super::polls::Polls;
use super::reach::{Ask, Reach, Told, Trouble, leads_elsewhere, read_trouble};
use super::scatter::{leader_of, pause};

/// Fetches at this node.
pub(crate) struct Reads<R> {
    pub(crate) reach: Arc<R>,
    pub(crate) polls: Polls<R>,
    pub(crate) cache: Arc<HotCache>,
    pub(crate) metrics: Arc<Metrics>,
    /// From then on fetches answer with what is there.
    pub(crate) stop: CancellationToken,
}

/// An answer in the making.
struct Gathering<'a> {
    request: &'a Fetch,
    /// What came of each partition.
    found: Vec<Option<Result<Fetched, Failure>>>,
    bytes: usize,
    /// The cache has more than there is room for.
    is_full: bool,
    /// Something was refused that only the client can set right.
    refused: bool,
}

/// What one node said of some partitions.
struct Round {
    parts: Vec<usize>,
    attempt: u32,
    /// The node had been asked before the fetch came.
    joined: bool,
    answer: Result<Vec<Result<Fetched, Failure>>, Trouble>,
}

/// How nodes are asked.
#[derive(Clone, Copy, Debug)]
struct Terms {
    attempt: u32,
    /// For how long they may wait for records.
    waits: Duration,
    /// The fetch can be answered without them.
    is_hot: bool,
}

type Asking<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Round> + Send + 'a>>>;

impl<R: Reach> Reads<R> {
    /// Cancel safe: nothing is lost but the answer.
    pub(crate) async fn fetch(&self, request: Fetch) -> Vec<PartitionReply<Fetched>> {
        let wait = Duration::from_millis(u64::from(request.max_wait_ms).min(LONG_POLL_MS_MAX));
        let deadline = Instant::now() + wait;
        let mut gathering = Gathering {
            found: request.partitions.iter().map(|_| None).collect(),
            request: &request,
            bytes: 0,
            is_full: false,
            refused: false,
        };
        self.read_cache(&mut gathering);
        let mut until = deadline + Duration::from_millis(GATEWAY_TRAVEL_MS);
        if gathering.is_enough() {
            // Others are asked what they have all the same, or they might never be; but nobody waits for what would
            // not fit.
            let grace = if gathering.is_full { 0 } else { GATEWAY_GRACE_MS };
            until = Instant::now() + Duration::from_millis(grace);
        }
        let mut asking = Asking::new();
        let is_hot = gathering.is_enough();
        let mut open = gathering.open();
        loop {
            let waits =
                if gathering.is_enough() { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            let terms = Terms { attempt: 0, waits, is_hot };
            self.ask(&request, &open, terms, &mut asking);
            open.clear();
            while !asking.is_empty() {
                let next = tokio::time::timeout_at(until, asking.next());
                let Some(Ok(Some(round))) = self.stop.run_until_cancelled(next).await else { break };
                // A leader that is late already is no reason to wait, and none to stop waiting for others.
                let is_late = is_hot && round.joined;
                self.take(&mut gathering, round, deadline, &mut asking);
                if gathering.is_enough() && request.min_bytes > 0 && !is_late {
                    break;
                }
            }
            // A leader may answer early without anything: it stops, or was asked by somebody else before.
            if !asking.is_empty() || gathering.is_enough() || Instant::now() + pause(0) >= deadline {
                break;
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(pause(0))).await.is_none() {
                break;
            }
            open.extend(gathering.reopen());
        }
        drop(asking);
        gathering.answer(&self.cache)
    }

    fn read_cache(&self, gathering: &mut Gathering<'_>) {
        let (image, me) = (self.reach.image(), self.reach.me());
        let relayed = |part: &FetchPartition| {
            let state = image.partition(part.partition);
            let elsewhere = state.filter(|state| state.leader.is_some() && state.leader != me);
            elsewhere.map(|state| state.leader_epoch)
        };
        let parts = &gathering.request.partitions;
        for (index, part) in parts.iter().enumerate() {
            let Some(epoch) = relayed(part) else { continue };
            let left = gathering.room().min(part.max_bytes as usize);
            if let Some(fetched) = self.cache.read(part, epoch, left, gathering.bytes == 0) {
                gathering.is_full |= fetched.records.is_empty();
                gathering.put(index, Ok(fetched));
            }
        }
        if !gathering.is_enough() {
            // The leaders may have all that is asked for.
            gathering.reopen_all();
            return;
        }
        self.metrics.answered(Api::Fetch, Route::Cached, gathering.bytes as u64);
        // Who reads on at the cache's pace would ask about these with each fetch, and wait.
        for index in gathering.open() {
            let part = &parts[index];
            if relayed(part).is_some_and(|epoch| self.cache.is_drained(part, epoch)) {
                gathering.put(index, Ok(self.cache.nothing(part.partition, part.offset)));
            }
        }
    }

    /// Asks the leaders of `open` at once.
    fn ask<'a>(&'a self, request: &'a Fetch, open: &[usize], terms: Terms, asking: &mut Asking<'a>) {
        let Terms { attempt, waits, is_hot } = terms;
        let mut by_leader: BTreeMap<Option<NodeId>, (Vec<usize>, Option<Failure>)> = BTreeMap::new();
        for index in open {
            let (leader, failure) = match leader_of(&*self.reach, request.partitions[*index].partition) {
                Ok((leader, _)) => (Some(leader), None),
                Err(failure) => (None, Some(failure)),
            };
            let entry = by_leader.entry(leader).or_default();
            entry.0.push(*index);
            entry.1 = failure;
        }
        let leaders = u32::try_from(by_leader.len()).unwrap_or(u32::MAX).max(1);
        for (leader, (parts, failure)) in by_leader {
            let Some(leader) = leader else {
                let failure = failure.unwrap_or_else(missing);
                let round = Round { parts, attempt, joined: false, answer: Err(Trouble::refused(failure)) };
                asking.push(Box::pin(std::future::ready(round)));
                continue;
            };
            let fetch = Fetch {
                max_wait_ms: u32::try_from(waits.as_millis()).unwrap_or(0),
                // Together they have as much as is asked for.
                min_bytes: request.min_bytes.div_ceil(leaders),
                max_bytes: request.max_bytes.min(READ_BYTES_MAX),
                partitions: parts.iter().map(|index| request.partitions[*index]).collect(),
            };
            asking.push(Box::pin(self.round(leader, fetch, parts, attempt, is_hot)));
        }
    }

    async fn round(&self, leader: NodeId, fetch: Fetch, parts: Vec<usize>, attempt: u32, is_hot: bool) -> Round {
        let results = |replies: &[PartitionReply<Fetched>]| {
            let mut replies = replies.iter();
            let mut result = |part: &FetchPartition| {
                let reply = replies.next().filter(|reply| reply.partition == part.partition);
                reply.map_or_else(|| Err(missing()), |reply| reply.result.clone())
            };
            fetch.partitions.iter().map(&mut result).collect::<Vec<_>>()
        };
        if self.reach.me() == Some(leader) {
            let within = Duration::from_millis(u64::from(fetch.max_wait_ms) + LONG_POLL_MS_MAX);
            let answer = match self.reach.ask(leader, Ask::Fetch(fetch.clone()), within).await {
                Ok(Told::Fetched(replies)) => Ok(results(&replies)),
                Ok(_) => Err(Trouble::refused(missing())),
                Err(trouble) => Err(trouble),
            };
            self.count(Route::Local, &answer);
            return Round { parts, attempt, joined: false, answer };
        }
        let mut poll = self.polls.begin(leader, fetch.clone(), is_hot);
        let joined = poll.joined;
        if is_hot && joined {
            let nothing = |part: &FetchPartition| Ok(self.cache.nothing(part.partition, part.offset));
            return Round { attempt, joined, answer: Ok(fetch.partitions.iter().map(nothing).collect()), parts };
        }
        let answer = match poll.answer().await.as_deref() {
            Some(Ok(replies)) => Ok(results(replies)),
            Some(Err(trouble)) => Err(read_trouble(trouble.clone())),
            None => Err(Trouble::refused(Failure::new(ErrorCode::NotReady, "this node is stopping"))),
        };
        self.count(Route::Relayed, &answer);
        Round { parts, attempt, joined, answer }
    }

    fn count(&self, route: Route, answer: &Result<Vec<Result<Fetched, Failure>>, Trouble>) {
        let records =
            |result: &Result<Fetched, Failure>| result.as_ref().map_or(0, |fetched| fetched.records.len() as u64);
        let bytes = answer.as_ref().map_or(0, |results| results.iter().map(records).sum());
        self.metrics.answered(Api::Fetch, route, bytes);
    }

    /// Puts what a node said into the answer; asks again, elsewhere, where it does not lead.
    fn take<'a>(&'a self, gathering: &mut Gathering<'a>, round: Round, deadline: Instant, asking: &mut Asking<'a>) {
        let Round { parts, attempt, joined, answer } = round;
        let results = match answer {
            Ok(results) => results,
            Err(trouble) => parts.iter().map(|_| Err(trouble.failure.clone())).collect(),
        };
        let mut again = Vec::new();
        for (index, result) in parts.into_iter().zip(results) {
            match result {
                // Asked before this fetch came, it does not tell where the log ends now.
                Ok(fetched) if joined && fetched.records.is_empty() => {
                    let part = &gathering.request.partitions[index];
                    gathering.put(index, Ok(self.cache.nothing(part.partition, part.offset)));
                }
                Err(failure) if passes(failure.code) => {
                    gathering.found[index] = Some(Err(failure));
                    again.push(index);
                }
                result => gathering.put(index, result),
            }
        }
        let next = attempt + 1;
        if again.is_empty() || next >= GATEWAY_ATTEMPTS_MAX || Instant::now() + pause(attempt) > deadline {
            return;
        }
        self.metrics.again(Api::Fetch);
        let request = gathering.request;
        asking.push(Box::pin(async move {
            let mut images = self.reach.images();
            images.mark_unchanged();
            let _ = tokio::time::timeout(pause(attempt), images.changed()).await;
            self.retried(request, again, next, deadline).await
        }));
    }

    /// Asks again; the parts may have several leaders by now.
    async fn retried(&self, request: &Fetch, parts: Vec<usize>, attempt: u32, deadline: Instant) -> Round {
        let mut asking = Asking::new();
        let waits = deadline.saturating_duration_since(Instant::now());
        self.ask(request, &parts, Terms { attempt, waits, is_hot: false }, &mut asking);
        let mut whole = Round { parts: Vec::new(), attempt, joined: false, answer: Ok(Vec::new()) };
        let mut results = Vec::new();
        while let Some(round) = asking.next().await {
            whole.joined |= round.joined;
            let count = round.parts.len();
            whole.parts.extend(round.parts);
            match round.answer {
                Ok(told) => results.extend(told),
                Err(trouble) => results.extend((0..count).map(|_| Err(trouble.failure.clone()))),
            }
        }
        whole.answer = Ok(results);
        whole
    }
}

impl Gathering<'_> {
    fn open(&self) -> Vec<usize> {
        (0..self.found.len()).filter(|index| self.found[*index].is_none()).collect()
    }

    /// Takes back what was told without records, to ask for it again.
    fn reopen(&mut self) -> Vec<usize> {
        let is_empty = |found: &Option<Result<Fetched, Failure>>| match found {
            Some(Ok(fetched)) => fetched.records.is_empty(),
            Some(Err(failure)) => passes(failure.code),
            None => true,
        };
        let open: Vec<_> = (0..self.found.len()).filter(|index| is_empty(&self.found[*index])).collect();
        open.iter().for_each(|index| self.found[*index] = None);
        open
    }

    fn reopen_all(&mut self) {
        self.found.iter_mut().for_each(|found| *found = None);
        (self.bytes, self.is_full) = (0, false);
    }

    fn put(&mut self, index: usize, result: Result<Fetched, Failure>) {
        match &result {
            Ok(fetched) => self.bytes += fetched.records.len(),
            Err(failure) => self.refused |= !passes(failure.code),
        }
        self.found[index] = Some(result);
    }

    /// For records of the cache: as much as a leader gives at a time, so that the client works on one answer while the
    /// next is on its way.
    fn room(&self) -> usize {
        (self.request.max_bytes.min(READ_BYTES_MAX) as usize).saturating_sub(self.bytes)
    }

    fn is_enough(&self) -> bool {
        let min_bytes = self.request.min_bytes.min(self.request.max_bytes).max(1) as usize;
        self.refused || self.bytes >= min_bytes || self.is_full && self.bytes > 0
    }

    /// The answer. Records beyond what was asked for stay in the cache.
    fn answer(self, cache: &HotCache) -> Vec<PartitionReply<Fetched>> {
        let in_time = self.is_enough();
        let (mut bytes, max_bytes) = (0, self.request.max_bytes as usize);
        let one = |(part, found): (&FetchPartition, Option<Result<Fetched, Failure>>)| {
            let nothing = || Ok(cache.nothing(part.partition, part.offset));
            let result = match found {
                None => nothing(),
                // There is something to tell meanwhile; of this the client hears if it lasts.
                Some(Err(failure)) if in_time && passes(failure.code) => nothing(),
                Some(Ok(fetched)) if bytes > 0 && bytes + fetched.records.len() > max_bytes => {
                    Ok(Fetched { records: Chunks::new(), ..fetched })
                }
                Some(result) => result,
            };
            bytes += result.as_ref().map_or(0, |fetched| fetched.records.len());
            PartitionReply { partition: part.partition, result }
        };
        self.request.partitions.iter().zip(self.found).map(one).collect()
    }
}

/// Is it a failure that mostly passes by itself?
fn passes(code: ErrorCode) -> bool {
    leads_elsewhere(code) || code == ErrorCode::OutcomeUnknown
}

fn missing() -> Failure {
    Failure::new(ErrorCode::Unknown, "the leader's answer does not tell of every partition")
}

#[cfg(test)]
mod tests;
