//! Writing: append, and the wait until what was appended is safe.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rafka_broker::replication::{Input, Ticket};
use rafka_broker::request::Acks;
use rafka_broker::{ErrorCode, Failure};
use rafka_log::{AppendError, Appended, PartitionLog};
use rafka_model::limits::{CACHE_UNREAD_BYTES_MAX, UNCOMMITTED_BATCHES_MAX};
use rafka_model::{Durability, LeaderEpoch, Monotonic, Offset, RecordBatch, Timestamp};
use tokio::sync::oneshot;

use super::producers::repeated;
use super::{Replica, Role, Standing, Uncommitted, Writer};
use crate::partitions::Inner;
use crate::partitions::known::Known;
use crate::partitions::produce::Author;

/// A produce that is in the log.
#[derive(Debug)]
pub(in crate::partitions) struct Accepted {
    pub(in crate::partitions) base_offset: Offset,
    pub(in crate::partitions) append_time: Option<Timestamp>,
    pub(in crate::partitions) log_start: Offset,
    /// Its producer sent it before; nothing was appended now.
    pub(in crate::partitions) repeated: bool,
    /// Tells when it is safe; `None` if it is already, or nobody wants to know.
    pub(in crate::partitions) waiting: Option<Waiting>,
}

/// A produce that is not known to be safe yet. Dropping it gives up waiting, not the records.
#[derive(Debug)]
pub(in crate::partitions) struct Waiting {
    inner: Arc<Inner>,
    replica: Arc<Replica>,
    ticket: Ticket,
    answer: oneshot::Receiver<Result<(), ErrorCode>>,
}

/// What an append is to do, beside the batches.
#[derive(Clone, Copy, Debug)]
pub(in crate::partitions) struct Terms {
    pub(in crate::partitions) author: Author,
    pub(in crate::partitions) acks: Acks,
    pub(in crate::partitions) believed: Option<LeaderEpoch>,
    pub(in crate::partitions) now: Timestamp,
    pub(in crate::partitions) began: Monotonic,
    pub(in crate::partitions) deadline: Monotonic,
    /// Bytes of the whole request: a batch that is a small part of them must be copied to be kept.
    pub(in crate::partitions) request_bytes: usize,
}

impl Waiting {
    /// Waits for the verdict. Cancel safe.
    pub(in crate::partitions) async fn verdict(&mut self) -> Result<(), ErrorCode> {
        // A replica that disappears without an answer leaves the outcome open.
        (&mut self.answer).await.unwrap_or(Err(ErrorCode::OutcomeUnknown))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Answered already in the usual case: then nobody knows the ticket any more.
        if self.answer.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            let mut writer = self.replica.lock();
            writer.waiting.remove(&self.ticket);
            self.replica.step(&self.inner, &mut writer, Input::Cancelled(self.ticket));
        }
    }
}

impl Replica {
    /// Appends all of `batches` or none of them.
    ///
    /// # Errors
    /// Why nothing was written.
    pub(in crate::partitions) fn append(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        batches: Vec<RecordBatch>,
        terms: Terms,
    ) -> Result<Accepted, Failure> {
        let mut guard = self.lock();
        let writer = &mut *guard;
        let standing = self.standing.load();
        let known = inner.known.load();
        let epoch = standing.serve(self.at, terms.believed, &known)?;
        if writer.leader.as_ref().is_some_and(|leader| !leader.is_sole()) {
            self.step(inner, writer, Input::ControllerHeard(inner.controller_heard()));
        }
        let (Some(log), Some(leader)) = (writer.log.as_mut(), writer.leader.as_ref()) else {
            return Err(known.not_leader(self.at));
        };
        leader.check_acks(terms.acks, terms.began).map_err(|code| {
            if code == ErrorCode::NotLeaderOrFollower {
                return known.not_leader(self.at);
            }
            let required = standing.config.min_insync_replicas;
            Failure::new(code, format!("{} needs {required} in-sync replicas for acks=all", known.name(self.at)))
        })?;
        if let Some(batch) =
            repeated(&writer.producers, &batches).map_err(|refusal| self.refuse_batch(&known, &refusal))?
        {
            let log_start = log.log_start();
            // As safe as it was asked to be now, which may be more than the first time.
            let waiting = self.wait(inner, writer, terms, batch.last_offset().plus(1));
            return Ok(Accepted {
                base_offset: batch.base_offset,
                append_time: standing.config.log_append_time.then_some(batch.max_timestamp),
                log_start,
                repeated: true,
                waiting: waiting.map_err(|code| failure_of(code, self, &known, terms.acks))?,
            });
        }
        let appended = match write(log, epoch, batches, terms.now) {
            Ok(appended) => appended,
            Err(error) => return Err(self.refuse(inner, writer, &known, error)),
        };
        appended.iter().for_each(|(appended, _)| writer.producers.record(&appended.header(), terms.now));
        let log_start = log.log_start();
        let (base_offset, append_time) =
            appended.first().map(|(first, _)| (first.base_offset, first.append_time)).unzip();
        let next = self.note(inner, writer, appended, terms.request_bytes);
        self.step(inner, writer, Input::Appended(next));
        let waiting = self.wait(inner, writer, terms, next);
        self.schedule_flush(inner, writer, &standing);
        drop(guard);
        Ok(Accepted {
            base_offset: base_offset.unwrap_or(next),
            append_time: append_time.flatten(),
            log_start,
            repeated: false,
            waiting: waiting.map_err(|code| failure_of(code, self, &known, terms.acks))?,
        })
    }

    /// Remembers what was appended until the high watermark passes it; returns the log's end.
    fn note(
        &self,
        inner: &Inner,
        writer: &mut Writer,
        appended: Vec<(Appended, Bytes)>,
        request_bytes: usize,
    ) -> Offset {
        let mut end = Offset::ZERO;
        for (appended, given) in appended {
            let (base, next) = (appended.base_offset, appended.last_offset.plus(1));
            end = next;
            let bytes = given.len() as u64;
            writer.unflushed_bytes += bytes;
            if writer.uncommitted.len() >= UNCOMMITTED_BATCHES_MAX
                && let Some(last) = writer.uncommitted.back_mut()
            {
                last.next = next;
                last.bytes += bytes;
                if let Some(batch) = last.batch.take() {
                    inner.release_uncommitted(batch.len());
                }
                continue;
            }
            // Memory that goes on without a reader costs more than all the rest: it is never in the processor's cache.
            let is_read = self.unread_bytes.fetch_add(bytes, Ordering::Relaxed) < CACHE_UNREAD_BYTES_MAX;
            let wanted = is_read && inner.cache.is_on() && inner.reserve_uncommitted(given.len());
            let batch = wanted.then(|| alone(appended, given, request_bytes));
            writer.uncommitted.push_back(Uncommitted { base, next, bytes, batch });
        }
        end
    }

    fn wait(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        writer: &mut Writer,
        terms: Terms,
        next: Offset,
    ) -> Result<Option<Waiting>, ErrorCode> {
        if terms.acks == Acks::None {
            return Ok(None);
        }
        let ticket = Ticket(writer.next_ticket);
        writer.next_ticket += 1;
        let input = Input::Wait { ticket, acks: terms.acks, next, deadline: terms.deadline };
        if let Some(answer) = self.step_for(inner, writer, input, Some(ticket)) {
            return answer.map(|()| None);
        }
        let (sender, answer) = oneshot::channel();
        writer.waiting.insert(ticket, sender);
        Ok(Some(Waiting { inner: inner.clone(), replica: self.clone(), ticket, answer }))
    }

    fn schedule_flush(self: &Arc<Self>, inner: &Inner, writer: &Writer, standing: &Standing) {
        let config = &standing.config;
        let records = self.reader.log_end().0.saturating_sub(writer.flush_began_at.0).unsigned_abs();
        if config.durability == Durability::Fsync
            || writer.unflushed_bytes >= inner.config.flush_bytes
            || records >= config.flush_messages
        {
            inner.flusher.ask(self);
        } else {
            inner.flusher.later(self, &*inner.clock, inner.config.flush_ms.min(config.flush_ms));
        }
    }

    fn refuse(&self, inner: &Inner, writer: &mut Writer, known: &Known, error: AppendError) -> Failure {
        let name = known.name(self.at);
        let code = match &error {
            AppendError::BatchTooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::Fenced { .. } => return known.not_leader(self.at),
            AppendError::DiskFull(_) => {
                inner.disk_is_full(&error);
                ErrorCode::DiskFull
            }
            AppendError::Poisoned { .. } => {
                self.fail(inner, writer, &error);
                ErrorCode::StorageError
            }
            AppendError::OutOfOrder { .. } | AppendError::OffsetsExhausted | AppendError::Storage(_) => {
                tracing::error!(partition = %name, %error, "append failed");
                ErrorCode::StorageError
            }
        };
        Failure::new(code, format!("partition {name}: {error}"))
    }

    /// Its disk cannot be trusted any more.
    pub(super) fn fail(&self, inner: &Inner, writer: &mut Writer, error: &dyn std::error::Error) {
        if matches!(self.standing.load().role, Role::Leader(_) | Role::Follower) {
            tracing::error!(topic = %self.topic, partition = %self.at.partition, %error, "partition is offline");
            let reason = Arc::from(error.to_string());
            self.end(inner, writer, Role::Offline(reason), ErrorCode::StorageError);
        }
    }
}

/// Appends all or none: what came before a failed batch is taken back, which nobody has seen yet. Returns each batch
/// with the producer's bytes.
fn write(
    log: &mut PartitionLog,
    epoch: LeaderEpoch,
    batches: Vec<RecordBatch>,
    now: Timestamp,
) -> Result<Vec<(Appended, Bytes)>, AppendError> {
    let before = log.log_end();
    let mut done = Vec::with_capacity(batches.len());
    for batch in batches {
        let given = batch.bytes().clone();
        match log.append(epoch, batch, now) {
            Ok(appended) => done.push((appended, given)),
            Err(error) => {
                if !done.is_empty()
                    && let Err(error) = log.truncate_to(before)
                {
                    tracing::warn!(%error, "cannot take back the first batches of a refused produce");
                }
                return Err(error);
            }
        }
    }
    Ok(done)
}

/// The batch as it is in the log, in bytes that keep little else alive.
fn alone(appended: Appended, given: Bytes, request_bytes: usize) -> Bytes {
    // A batch that makes up most of its request is stamped in place; as long as somebody holds the bytes it is copied.
    let held = (given.len() * 2 < request_bytes).then(|| given.clone());
    drop(given);
    let bytes = appended.into_batch().bytes().clone();
    drop(held);
    bytes
}

/// The words for a produce that was appended and not acknowledged.
pub(in crate::partitions) fn failure_of(code: ErrorCode, replica: &Replica, known: &Known, acks: Acks) -> Failure {
    let name = known.name(replica.at);
    let message = match code {
        ErrorCode::NotLeaderOrFollower => return known.not_leader(replica.at),
        ErrorCode::RequestTimedOut => {
            format!("{name} did not make the records safe in time (acks={acks:?}); they may become so")
        }
        ErrorCode::NotEnoughReplicasAfterAppend => {
            format!("{name} lost in-sync replicas after the records were appended")
        }
        ErrorCode::StorageError => format!("{name} went offline before the records were safe"),
        ErrorCode::UnknownTopicOrPartition => format!("{name} was removed before the records were safe"),
        _ => format!("{name} stopped before the records were known to be safe"),
    };
    Failure::new(code, message)
}
