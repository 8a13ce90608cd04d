//! Produce: check, append, wait until it is safe.

use std::sync::Arc;
use std::time::Duration;

use rafka_broker::request::{Acks, PartitionReply, Produce, ProducePartition, Produced};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{APPEND_INLINE_BYTES_MAX, LONG_POLL_MS_MAX};
use rafka_model::{RecordBatch, Timestamp, TopicPartition};
use tokio::time::Instant;

use super::Inner;
use super::check::accept;
use super::replica::{Accepted, Replica, Terms, failure_of};

/// Who produces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Author {
    /// Somebody at a door: internal topics are not for them.
    Client,
    /// This node.
    Node,
}

/// A produce that is in the log, as far as it was not refused. Dropping it gives up waiting, not the records.
pub struct Unsettled {
    inner: Arc<Inner>,
    done: Vec<Done>,
    acks: Acks,
    deadline: Instant,
}

/// One partition's produce, appended or refused.
struct Done {
    partition: TopicPartition,
    result: Result<(Arc<Replica>, Accepted), Failure>,
}

impl Inner {
    /// Cancel safe in the sense that records appended before the cancellation stay.
    pub(super) async fn append(self: &Arc<Self>, request: Produce, author: Author) -> Unsettled {
        let timeout = Duration::from_millis(u64::from(request.timeout_ms).min(LONG_POLL_MS_MAX));
        let deadline = Instant::now() + timeout;
        let (acks, partitions) = (request.acks, request.partitions);
        let bytes: usize = partitions.iter().map(|part| part.records.len()).sum();
        let began = self.clock.monotonic();
        let terms = Terms {
            author,
            acks,
            believed: None,
            now: self.clock.wall(),
            began,
            deadline: began.plus(timeout),
            request_bytes: bytes,
        };
        let done = if bytes <= APPEND_INLINE_BYTES_MAX {
            self.append_all(partitions, terms)
        } else {
            // Milliseconds of checksums and writes: not on a thread that others' short requests wait for.
            let named: Vec<_> = partitions.iter().map(|part| part.partition).collect();
            let inner = self.clone();
            let appended = tokio::task::spawn_blocking(move || inner.append_all(partitions, terms)).await;
            appended.unwrap_or_else(|error| {
                tracing::error!(%error, "append task failed");
                let failure = Failure::new(ErrorCode::OutcomeUnknown, "the append did not finish; see the node's log");
                named.into_iter().map(|partition| Done { partition, result: Err(failure.clone()) }).collect()
            })
        };
        Unsettled { inner: self.clone(), done, acks, deadline }
    }

    fn append_all(self: &Arc<Self>, partitions: Vec<ProducePartition>, terms: Terms) -> Vec<Done> {
        let append = |part: ProducePartition| Done { partition: part.partition, result: self.append_one(part, terms) };
        partitions.into_iter().map(append).collect()
    }

    fn append_one(self: &Arc<Self>, part: ProducePartition, terms: Terms) -> Result<(Arc<Replica>, Accepted), Failure> {
        let replica = self.find(part.partition)?;
        if replica.is_internal && terms.author == Author::Client {
            let message = format!("topic {} is internal: only nodes write to it", replica.topic);
            return Err(Failure::new(ErrorCode::InvalidTopic, message));
        }
        let standing = replica.standing();
        // Refused again under the lock if it changes meanwhile; here it saves the checksum.
        standing.serve(part.partition, part.leader_epoch, &self.known.load())?;
        let batches = accept(part.records, &standing.config, terms.now)?;
        drop(standing);
        let count = |size: fn(&RecordBatch) -> u64| batches.iter().map(size).sum::<u64>();
        let (records, bytes) =
            (count(|batch| u64::from(batch.header().record_count)), count(|batch| batch.len() as u64));
        let number = batches.len() as u64;
        let accepted = replica.append(self, batches, Terms { believed: part.leader_epoch, ..terms })?;
        if !accepted.repeated {
            self.counters.produced(number, records, bytes);
        }
        Ok((replica, accepted))
    }

    /// Waits until what was appended is safe, as far as `acks` asks for it.
    async fn settle(
        &self,
        replica: &Replica,
        accepted: Accepted,
        acks: Acks,
        deadline: Instant,
    ) -> Result<Produced, Failure> {
        let Accepted { base_offset, append_time, log_start, waiting, repeated: _ } = accepted;
        if let Some(mut waiting) = waiting {
            let verdict = tokio::time::timeout_at(deadline, waiting.verdict()).await;
            let verdict = verdict.unwrap_or(Err(ErrorCode::RequestTimedOut));
            verdict.map_err(|code| failure_of(code, replica, &self.known.load(), acks))?;
        }
        Ok(Produced { base_offset, append_time: append_time.filter(|time| *time != Timestamp::NONE), log_start })
    }
}

impl Unsettled {
    /// Is there nothing to wait for?
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let waits = |done: &Done| matches!(&done.result, Ok((_, accepted)) if accepted.waiting.is_some());
        !self.done.iter().any(waits)
    }

    /// Waits until what was appended is as safe as the request asks. Cancel safe.
    pub async fn settle(self) -> Vec<PartitionReply<Produced>> {
        let Self { inner, done, acks, deadline } = self;
        let mut replies = Vec::with_capacity(done.len());
        for Done { partition, result } in done {
            let result = match result {
                Ok((replica, accepted)) => inner.settle(&replica, accepted, acks, deadline).await,
                Err(failure) => Err(failure),
            };
            if result.is_err() {
                inner.counters.refused_produce();
            }
            replies.push(PartitionReply { partition, result });
        }
        replies
    }
}
