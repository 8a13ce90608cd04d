//! One attempt to deliver batches to a leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::request::{Acks, Produce, ProducePartition, Produced};
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::Route;
use rafka_model::{Compression, Monotonic, Offset, TopicPartition};
use rafka_protocols::rpc::CallError;
use rafka_protocols::{Protocol, produce};

use super::Inner;
use super::accumulator::Outcome;
use super::batch::Batch;
use crate::mesh::Trouble;
use crate::{Error, ErrorKind};

/// Times that nobody knows a topic until its records fail.
const UNKNOWN_MAX: u32 = 6;

/// Finds the leader of a batch and sends it there.
pub(super) async fn one(inner: Arc<Inner>, batch: Batch) {
    match inner.client.routes().route(&batch.topic, batch.partition()).await {
        Ok(route) => together(inner, vec![(route, batch)]).await,
        Err(error) => {
            let gone = error.kind() == ErrorKind::NotFound && batch.failures + 1 >= UNKNOWN_MAX;
            let outcome = if gone || !error.is_retriable() {
                Outcome::Failed(error)
            } else {
                Outcome::Retry { error, at_once: false }
            };
            done(&inner, batch, outcome);
        }
    }
}

/// Sends batches to their common leader in one request.
pub(super) async fn together(inner: Arc<Inner>, group: Vec<(Arc<Route>, Batch)>) {
    let group = identify(&inner, group).await;
    let group = build(&inner, group).await;
    let (partitions, peer, expires) = {
        let mut partitions = Vec::with_capacity(group.len());
        let (mut peer, mut expires) = (None, Monotonic(u64::MAX));
        for (route, records, batch) in &group {
            partitions.push(ProducePartition {
                partition: at(route),
                leader_epoch: Some(route.leader_epoch),
                records: records.clone(),
            });
            (peer, expires) = (Some(route.peer), expires.min(batch.expires));
        }
        (partitions, peer, expires)
    };
    let Some(peer) = peer else { return };
    let attempt = Duration::from_millis(inner.config.request_timeout_ms);
    let deadline = attempt.min(expires.since(inner.client.now())).max(Duration::from_millis(1));
    let acks = inner.config.acks;
    let timeout_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
    let frame = produce::encode_request(&Produce { acks, timeout_ms, partitions });
    let mesh = inner.client.handle();
    match mesh.exchange(peer, Protocol::Produce, &frame, deadline, produce::decode_reply).await {
        Ok(replies) => {
            let mut replies: BTreeMap<_, _> =
                replies.into_iter().map(|reply| (reply.partition, reply.result)).collect();
            for (route, _, batch) in group {
                inner.accumulator.lock().learn(&route.name, route.partitions);
                let outcome = match replies.remove(&at(&route)) {
                    Some(Ok(produced)) => Outcome::Delivered(known(acks, produced)),
                    Some(Err(failure)) => refused(&inner, &route, &failure),
                    None if acks == Acks::None => Outcome::Delivered(UNKNOWN),
                    None => {
                        Outcome::Failed(Error::new(ErrorKind::Failed, what(&route)).because("the answer leaves it out"))
                    }
                };
                done(&inner, batch, outcome);
            }
        }
        Err(trouble) => {
            for (route, _, batch) in group {
                let outcome = broken(&inner, &route, &trouble);
                done(&inner, batch, outcome);
            }
        }
    }
}

/// Numbers the batches that were not sent before. Those that cannot be numbered are tried again later.
async fn identify(inner: &Inner, group: Vec<(Arc<Route>, Batch)>) -> Vec<(Arc<Route>, Batch)> {
    let mut ready = Vec::with_capacity(group.len());
    'batches: for (route, mut batch) in group {
        while !inner.accumulator.lock().identify(&mut batch) {
            if let Err(error) = inner.new_producer_id().await {
                let outcome = match error.is_retriable() {
                    true => Outcome::Retry { error, at_once: false },
                    false => Outcome::Failed(error),
                };
                done(inner, batch, outcome);
                continue 'batches;
            }
        }
        ready.push((route, batch));
    }
    ready
}

type Built = Vec<(Arc<Route>, bytes::Bytes, Batch)>;

/// Seals batches that were not sent before. Compression would hold up other tasks, so it has threads of its own.
async fn build(inner: &Inner, group: Vec<(Arc<Route>, Batch)>) -> Built {
    let seal = |group: Vec<(Arc<Route>, Batch)>| -> Built {
        group.into_iter().map(|(route, mut batch)| (route, batch.records(), batch)).collect()
    };
    if inner.config.compression == Compression::None || group.iter().all(|(_, batch)| batch.is_built()) {
        return seal(group);
    }
    // Cancelled or panicked, the batches are dropped and their waiters told.
    tokio::task::spawn_blocking(move || seal(group)).await.unwrap_or_default()
}

fn done(inner: &Inner, batch: Batch, outcome: Outcome) {
    let freed = inner.accumulator.lock().done(batch, inner.client.now(), outcome);
    inner.free(freed);
    inner.wake.notify_one();
}

fn refused(inner: &Inner, route: &Route, failure: &Failure) -> Outcome {
    inner.client.routes().refused(route, failure);
    let error = Error::refused(what(route), failure, Some(route.leader));
    if failure.code == ErrorCode::MessageTooLarge {
        Outcome::TooLarge(error)
    } else if matches!(
        failure.code,
        ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch
    ) {
        // It would know this batch if it had it: so it has not, and something before it is lost as well.
        Outcome::Renumber(error)
    } else if error.is_retriable() {
        Outcome::Retry { error, at_once: failure.leader.is_some() }
    } else {
        Outcome::Failed(error)
    }
}

/// Whether it was done or not, it is sent again: the leader knows it by its sequence numbers.
fn broken(inner: &Inner, route: &Route, trouble: &Trouble) -> Outcome {
    inner.client.routes().broken(route, trouble);
    let error = trouble.clone().into_error(what(route));
    match trouble {
        Trouble::Call(CallError::TooLarge(_)) => Outcome::Failed(error),
        Trouble::Refused(failure) if !failure.code.is_retriable() => Outcome::Failed(error),
        Trouble::Call(_) | Trouble::Refused(_) | Trouble::Malformed(_) => Outcome::Retry { error, at_once: false },
    }
}

fn what(route: &Route) -> String {
    format!("cannot publish to {}/{}", route.name, route.partition)
}

fn at(route: &Route) -> TopicPartition {
    TopicPartition { topic: route.topic, partition: route.partition }
}

/// Without acknowledgements offsets are not known.
const UNKNOWN: Produced = Produced { base_offset: Offset(-1), append_time: None, log_start: Offset(-1) };

fn known(acks: Acks, produced: Produced) -> Produced {
    if acks == Acks::None { UNKNOWN } else { produced }
}
