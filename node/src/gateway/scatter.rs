//! Requests about partitions that are taken apart by leader, asked at the same time, and put together again; and those
//! that concern one leader only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rafka_broker::request::PartitionReply;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{CONTROL_DEADLINE_MS, GATEWAY_ATTEMPTS_MAX, GATEWAY_RETRY_MS, GATEWAY_RETRY_MS_MAX};
use rafka_model::{LeaderEpoch, NodeId, TopicPartition};
use tokio::time::Instant;

use super::metrics::{Api, Metrics, Route};
use super::reach::{Ask, Reach, Told, Trouble, leads_elsewhere, read_trouble};

/// Time for one leader's answer.
const WITHIN: Duration = Duration::from_millis(CONTROL_DEADLINE_MS);

/// Asks leaders. Reads and repeatable changes only: an unanswered request is asked again.
pub(crate) struct Scatter<R> {
    pub(crate) reach: Arc<R>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Pause before attempt number `attempt`, counted from 0.
pub(crate) fn pause(attempt: u32) -> Duration {
    Duration::from_millis((GATEWAY_RETRY_MS << attempt.min(10)).min(GATEWAY_RETRY_MS_MAX))
}

/// Who leads, or why nobody can be asked.
pub(crate) fn leader_of(reach: &impl Reach, at: TopicPartition) -> Result<(NodeId, LeaderEpoch), Failure> {
    let image = reach.image();
    let Some(state) = image.partition(at) else {
        return Err(Failure::new(ErrorCode::UnknownTopicOrPartition, "there is no such partition"));
    };
    let none = || Failure::new(ErrorCode::LeaderNotAvailable, "the partition has no leader at the moment");
    state.leader.map(|leader| (leader, state.leader_epoch)).ok_or_else(none)
}

impl<R: Reach> Scatter<R> {
    /// The replies to `parts`, in their order. `ask` makes a request of some of them, `open` takes its answer apart.
    pub(crate) async fn each<P: Copy, T>(
        &self,
        parts: Vec<P>,
        at: impl Fn(&P) -> TopicPartition,
        ask: impl Fn(Vec<P>) -> Ask,
        open: impl Fn(Told) -> Option<Vec<PartitionReply<T>>>,
    ) -> Vec<PartitionReply<T>> {
        let mut results: Vec<Option<Result<T, Failure>>> = parts.iter().map(|_| None).collect();
        let began = Instant::now();
        for attempt in 0..GATEWAY_ATTEMPTS_MAX {
            let mut by_leader: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
            for (index, part) in parts.iter().enumerate() {
                if !is_open(&results[index]) {
                    continue;
                }
                match leader_of(&*self.reach, at(part)) {
                    Ok((leader, _)) => by_leader.entry(leader).or_default().push(index),
                    Err(failure) => results[index] = Some(Err(failure)),
                }
            }
            let calls = by_leader.into_iter().map(|(leader, indexes)| {
                let request = ask(indexes.iter().map(|index| parts[*index]).collect());
                async move { (indexes, self.one(leader, request).await) }
            });
            for (indexes, answer) in join_all(calls).await {
                let mut told = match answer {
                    Ok(told) => open(told).unwrap_or_default().into_iter(),
                    Err(trouble) => {
                        let trouble = read_trouble(trouble);
                        indexes.iter().for_each(|index| results[*index] = Some(Err(trouble.failure.clone())));
                        continue;
                    }
                };
                for index in indexes {
                    let reply = told.next().filter(|reply| reply.partition == at(&parts[index]));
                    results[index] = Some(reply.map_or_else(|| Err(missing()), |reply| reply.result));
                }
            }
            if !results.iter().any(is_open) || began.elapsed() > WITHIN {
                break;
            }
            self.rest(attempt).await;
        }
        let reply = |(part, result): (&P, Option<Result<T, Failure>>)| PartitionReply {
            partition: at(part),
            result: result.unwrap_or_else(|| Err(missing())),
        };
        parts.iter().zip(results).map(reply).collect()
    }

    /// Asks the leader of `at`, or who is that by then.
    pub(crate) async fn leader(&self, at: TopicPartition, ask: Ask, within: Duration) -> Result<Told, Trouble> {
        let mut hint: Option<(NodeId, LeaderEpoch)> = None;
        let mut latest = None;
        for attempt in 0..GATEWAY_ATTEMPTS_MAX {
            let known = leader_of(&*self.reach, at).map_err(Trouble::refused);
            let leader = match (known, hint) {
                (Ok((_, epoch)), Some((hinted, newer))) if newer > epoch => Ok(hinted),
                (known, _) => known.map(|(leader, _)| leader),
            };
            let answer = match leader {
                Ok(leader) if within > WITHIN => self.asked_while_it_leads(leader, at, ask.clone(), within).await,
                Ok(leader) => self.asked(leader, ask.clone(), within).await,
                Err(trouble) => Err(trouble),
            };
            match answer {
                Err(trouble) if !trouble.outcome_unknown && leads_elsewhere(trouble.failure.code) => {
                    hint = trouble.failure.leader.as_ref().and_then(|hint| Some((hint.node?, hint.epoch)));
                    latest = Some(trouble);
                    self.rest(attempt).await;
                }
                answer => return answer,
            }
        }
        Err(latest.unwrap_or_else(|| Trouble::refused(missing())))
    }

    async fn one(&self, leader: NodeId, ask: Ask) -> Result<Told, Trouble> {
        self.asked(leader, ask, WITHIN).await
    }

    /// One exchange, counted.
    pub(crate) async fn asked(&self, node: NodeId, ask: Ask, within: Duration) -> Result<Told, Trouble> {
        let (api, began) = (Api::of(&ask), Instant::now());
        let answer = self.reach.ask(node, ask, within).await;
        let route = if self.reach.me() == Some(node) { Route::Local } else { Route::Relayed };
        self.metrics.answered(api, route, 0);
        if route == Route::Relayed {
            self.metrics.took(api, began.elapsed());
        }
        answer
    }

    /// One exchange that may last, unless the image comes to name another leader of `at`.
    async fn asked_while_it_leads(
        &self,
        leader: NodeId,
        at: TopicPartition,
        ask: Ask,
        within: Duration,
    ) -> Result<Told, Trouble> {
        let known = leader_of(&*self.reach, at).map(|(_, epoch)| epoch).unwrap_or_default();
        let mut images = self.reach.images();
        // Who was found by a hint is newer than the image, which then comes to name it.
        let moved = images.wait_for(|image| {
            image.partition(at).is_none_or(|state| state.leader_epoch > known && state.leader != Some(leader))
        });
        tokio::select! {
            biased;
            answer = self.asked(leader, ask, within) => answer,
            _ = moved => {
                let text = format!("node {leader} does not lead any more and has not answered");
                Err(Trouble { failure: Failure::new(ErrorCode::OutcomeUnknown, text), outcome_unknown: true })
            }
        }
    }

    /// Waits for newer metadata, but not for long.
    async fn rest(&self, attempt: u32) {
        self.metrics.again(Api::Offsets);
        let mut images = self.reach.images();
        images.mark_unchanged();
        let _ = tokio::time::timeout(pause(attempt), images.changed()).await;
    }
}

/// Is there nothing yet, or nothing that will last?
fn is_open<T>(result: &Option<Result<T, Failure>>) -> bool {
    match result {
        None => true,
        Some(Ok(_)) => false,
        Some(Err(failure)) => leads_elsewhere(failure.code),
    }
}

fn missing() -> Failure {
    Failure::new(ErrorCode::Unknown, "the leader's answer does not tell of every partition")
}
