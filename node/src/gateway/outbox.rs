//! Produces on their way to the leaders of their partitions.
//!
//! ```text
//! submit ─▶ line of the partition (one part under way, the others behind it) ─▶ its leader's heap ─▶ relayed produce
//! ```
//! A partition has at most one part under way, whoever leads it and however often it is sent again: so parts arrive in
//! the order in which they were submitted, also while the leader changes. Parts of different partitions that wait for
//! the same leader travel together. What waits for one leader holds up nobody who waits for another.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rafka_broker::request::{Acks, PartitionReply, Produce, ProducePartition, Produced};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{
    GATEWAY_CALL_BYTES_MAX, GATEWAY_CALL_PARTS_MAX, GATEWAY_CALLS_MAX, GATEWAY_PEER_BYTES_MAX, GATEWAY_RELAY_MS_MIN,
    GATEWAY_TRAVEL_MS, LONG_POLL_MS_MAX,
};
use rafka_model::{BatchHeader, LeaderEpoch, NodeId, ProducerId, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::Errands;
use super::metrics::{Api, Metrics, Route};
use super::reach::{Ask, Reach, Told, Trouble, leads_elsewhere};
use super::scatter::pause;

/// The end of a part: where it is in the log, or why it is not.
pub(crate) type Ending = oneshot::Receiver<Result<Produced, Failure>>;

/// All parts of the node. Cheap to clone.
pub(crate) struct Outbox<R> {
    inner: Arc<Inner<R>>,
}

struct Inner<R> {
    reach: Arc<R>,
    metrics: Arc<Metrics>,
    errands: Errands,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By partition that has a part under way: the parts behind it.
    lines: HashMap<TopicPartition, VecDeque<Part>>,
    leaders: HashMap<NodeId, Leader>,
}

struct Leader {
    /// Parts that may go, each of another partition.
    ready: VecDeque<Part>,
    /// Relayed produces under way.
    calls: usize,
    /// Room for records on their way to it.
    room: Arc<Semaphore>,
}

impl Default for Leader {
    fn default() -> Self {
        Self { ready: VecDeque::new(), calls: 0, room: Arc::new(Semaphore::new(GATEWAY_PEER_BYTES_MAX)) }
    }
}

/// One partition's records of one produce.
struct Part {
    partition: TopicPartition,
    records: Bytes,
    acks: Acks,
    deadline: Instant,
    /// Sent twice it is appended once: its leader knows it again by the producer's numbers.
    repeatable: bool,
    attempts: u32,
    /// An attempt may have succeeded.
    outcome_unknown: bool,
    /// Whom a refusal named.
    hint: Option<(NodeId, LeaderEpoch)>,
    reply: oneshot::Sender<Result<Produced, Failure>>,
    _room: OwnedSemaphorePermit,
}

impl<R> Clone for Outbox<R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

/// Until when a produce that allows its leader `timeout_ms` must be answered.
pub(crate) fn deadline(timeout_ms: u32) -> Instant {
    let allowed = u64::from(timeout_ms).clamp(GATEWAY_RELAY_MS_MIN, LONG_POLL_MS_MAX);
    Instant::now() + Duration::from_millis(allowed)
}

impl<R: Reach> Outbox<R> {
    pub(crate) fn new(reach: Arc<R>, metrics: Arc<Metrics>, errands: Errands) -> Self {
        Self { inner: Arc::new(Inner { reach, metrics, errands, state: Mutex::default() }) }
    }

    /// Are parts of this partition under way? Then what comes next belongs behind them, whoever leads.
    pub(crate) fn is_busy(&self, at: TopicPartition) -> bool {
        self.inner.state.lock().lines.contains_key(&at)
    }

    /// Takes a part in, once there is room for it: from then on its place in the partition's order is certain. Waits for
    /// room until `deadline`.
    pub(crate) async fn submit(&self, part: ProducePartition, acks: Acks, deadline: Instant) -> Ending {
        let (reply, ending) = oneshot::channel();
        let ProducePartition { partition, records, .. } = part;
        let leader = self.inner.leader_of(partition, None).unwrap_or_default();
        let room = self.inner.state.lock().leaders.entry(leader).or_default().room.clone();
        let bytes = u32::try_from(records.len().min(GATEWAY_PEER_BYTES_MAX)).unwrap_or(u32::MAX);
        let Ok(Ok(room)) = tokio::time::timeout_at(deadline, room.acquire_many_owned(bytes)).await else {
            let text = format!("too many records are on their way to node {leader}");
            let _ = reply.send(Err(Failure::new(ErrorCode::Busy, text)));
            return ending;
        };
        let repeatable = BatchHeader::parse(&records).is_ok_and(|header| header.producer_id != ProducerId::NONE);
        let (attempts, outcome_unknown, hint) = (0, false, None);
        let part = Part {
            partition,
            records,
            acks,
            deadline,
            repeatable,
            attempts,
            outcome_unknown,
            hint,
            reply,
            _room: room,
        };
        let mut state = self.inner.state.lock();
        match state.lines.get_mut(&partition) {
            Some(line) => line.push_back(part),
            None => {
                state.lines.insert(partition, VecDeque::new());
                Inner::dispatch(&self.inner, &mut state, part);
            }
        }
        ending
    }
}

impl<R: Reach> Inner<R> {
    /// Who leads, by the image or by a newer `hint`.
    fn leader_of(&self, at: TopicPartition, hint: Option<(NodeId, LeaderEpoch)>) -> Option<NodeId> {
        let image = self.reach.image();
        let state = image.partition(at)?;
        match hint {
            Some((node, epoch)) if epoch > state.leader_epoch => Some(node),
            _ => state.leader,
        }
    }

    /// Sends a part to its leader's heap; without a leader it waits for one.
    fn dispatch(self: &Arc<Self>, state: &mut State, part: Part) {
        let mut next = Some(part);
        while let Some(part) = next.take() {
            if Instant::now() >= part.deadline {
                let text = "the produce waited too long for those before it";
                let refused = Err(Failure::new(ErrorCode::RequestTimedOut, text));
                next = self.finish(state, part, refused);
                continue;
            }
            if part.attempts > 0 && self.errands.stop.is_cancelled() {
                let code = if part.outcome_unknown { ErrorCode::OutcomeUnknown } else { ErrorCode::NotReady };
                next = self.finish(state, part, Err(Failure::new(code, "this node is stopping")));
                continue;
            }
            if self.reach.image().partition(part.partition).is_none() {
                let gone = Failure::new(ErrorCode::UnknownTopicOrPartition, "there is no such partition any more");
                next = self.finish(state, part, Err(gone));
                continue;
            }
            match self.leader_of(part.partition, part.hint) {
                Some(leader) => {
                    state.leaders.entry(leader).or_default().ready.push_back(part);
                    self.pump(state, leader);
                }
                None => self.later(part),
            }
        }
    }

    /// Answers a part; returns the next one of its partition.
    fn finish(&self, state: &mut State, part: Part, result: Result<Produced, Failure>) -> Option<Part> {
        let route = if self.reach.me().is_some() && self.leader_of(part.partition, part.hint) == self.reach.me() {
            Route::Local
        } else {
            Route::Relayed
        };
        self.metrics.answered(Api::Produce, route, part.records.len() as u64);
        // Whoever asked may be gone.
        let _ = part.reply.send(result);
        let next = state.lines.get_mut(&part.partition)?.pop_front();
        if next.is_none() {
            state.lines.remove(&part.partition);
        }
        next
    }

    /// Begins as many relayed produces to `leader` as may be.
    fn pump(self: &Arc<Self>, state: &mut State, leader: NodeId) {
        let Some(heap) = state.leaders.get_mut(&leader) else { return };
        while heap.calls < GATEWAY_CALLS_MAX && !heap.ready.is_empty() {
            heap.calls += 1;
            let parts = load(&mut heap.ready);
            self.errands.spawn(self.clone().carry(leader, parts));
        }
    }

    /// One relayed produce.
    async fn carry(self: Arc<Self>, leader: NodeId, parts: Vec<Part>) {
        let began = Instant::now();
        let until = parts.iter().map(|part| part.deadline).max().unwrap_or(began);
        let allowed = until.saturating_duration_since(began);
        let records = |part: &Part| ProducePartition {
            partition: part.partition,
            leader_epoch: None,
            records: part.records.clone(),
        };
        let request = Produce {
            acks: parts.first().map_or(Acks::All, |part| part.acks),
            timeout_ms: u32::try_from(allowed.as_millis()).unwrap_or(u32::MAX),
            partitions: parts.iter().map(records).collect(),
        };
        let within = allowed + Duration::from_millis(GATEWAY_TRAVEL_MS);
        let answer = self.reach.ask(leader, Ask::Produce(request), within).await;
        self.metrics.took(Api::Produce, began.elapsed());
        let mut state = self.state.lock();
        let mut results = answers(answer, &parts).into_iter();
        for part in parts {
            let result = results.next().unwrap_or_else(|| Err(missing()));
            self.settle(&mut state, part, result);
        }
        if let Some(heap) = state.leaders.get_mut(&leader) {
            heap.calls -= 1;
        }
        self.pump(&mut state, leader);
    }

    /// What becomes of a part that was sent.
    fn settle(self: &Arc<Self>, state: &mut State, mut part: Part, result: Result<Produced, Trouble>) {
        let trouble = match result {
            Ok(produced) => {
                let next = self.finish(state, part, Ok(produced));
                return next.into_iter().for_each(|next| self.dispatch(state, next));
            }
            Err(trouble) => trouble,
        };
        part.outcome_unknown |= trouble.outcome_unknown;
        let Trouble { failure, outcome_unknown } = trouble;
        // A leader that lost its place while it waited for replicas says so with the same words as one that never led.
        let undone =
            leads_elsewhere(failure.code) && (failure.code != ErrorCode::NotLeaderOrFollower || part.acks != Acks::All);
        let again = part.repeatable && (outcome_unknown || leads_elsewhere(failure.code)) || undone;
        if again && Instant::now() + pause(part.attempts) < part.deadline {
            part.hint = failure.leader.as_ref().and_then(|hint| Some((hint.node?, hint.epoch)));
            self.metrics.again(Api::Produce);
            return self.later(part);
        }
        let failure = match part.outcome_unknown && leads_elsewhere(failure.code) {
            true => Failure::new(ErrorCode::OutcomeUnknown, failure.message),
            false => failure,
        };
        let next = self.finish(state, part, Err(failure));
        next.into_iter().for_each(|next| self.dispatch(state, next));
    }

    /// Tries again after a pause, or once metadata has changed.
    fn later(self: &Arc<Self>, mut part: Part) {
        let wait = pause(part.attempts);
        let is_first = part.attempts == 0 && part.hint.is_some();
        part.attempts += 1;
        let inner = self.clone();
        let mut images = self.reach.images();
        self.errands.spawn(async move {
            images.mark_unchanged();
            // A refusal that names another leader is followed at once.
            if !is_first {
                let news = inner.errands.stop.run_until_cancelled(images.changed());
                let _ = tokio::time::timeout(wait, news).await;
            }
            let mut state = inner.state.lock();
            inner.dispatch(&mut state, part);
        });
    }
}

/// Parts that travel together: all want the same acknowledgement.
fn load(ready: &mut VecDeque<Part>) -> Vec<Part> {
    let mut taken: Vec<Part> = Vec::new();
    let mut bytes = 0;
    for _ in 0..ready.len() {
        let Some(part) = ready.pop_front() else { break };
        let fits = taken.is_empty() || bytes + part.records.len() <= GATEWAY_CALL_BYTES_MAX;
        let alike = taken.first().is_none_or(|first| first.acks == part.acks);
        if fits && alike && taken.len() < GATEWAY_CALL_PARTS_MAX {
            bytes += part.records.len();
            taken.push(part);
        } else {
            ready.push_back(part);
        }
    }
    taken
}

/// What was told of each part.
fn answers(answer: Result<Told, Trouble>, parts: &[Part]) -> Vec<Result<Produced, Trouble>> {
    match answer {
        Ok(Told::Produced(replies)) => {
            let mut told: HashMap<_, _> =
                replies.into_iter().map(|PartitionReply { partition, result }| (partition, result)).collect();
            let of = |part: &Part| match told.remove(&part.partition) {
                Some(result) => result.map_err(Trouble::refused),
                None => Err(missing()),
            };
            parts.iter().map(of).collect()
        }
        Ok(_) => parts.iter().map(|_| Err(missing())).collect(),
        Err(trouble) => parts.iter().map(|_| Err(trouble.clone())).collect(),
    }
}

fn missing() -> Trouble {
    let text = "the leader's answer does not tell of every partition";
    Trouble { failure: Failure::new(ErrorCode::OutcomeUnknown, text), outcome_unknown: true }
}

#[cfg(test)]
mod tests;
