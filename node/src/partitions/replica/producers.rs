//! Idempotent producers: which batches are in the log already, and how that is remembered across restarts.

use rafka_broker::producer::{Batch, Known as Producer, Refusal, States, Verdict};
use rafka_broker::{ErrorCode, Failure};
use rafka_log::{LogError, PartitionLog};
use rafka_model::{RecordBatch, Timestamp};

use super::{Replica, Writer};
use crate::partitions::Inner;
use crate::partitions::known::Known;

/// What the log says of its producers: by the newest snapshot, and the batches behind it. They count as heard `now`.
pub(super) fn restore(log: &mut PartitionLog, now: Timestamp) -> Result<States, LogError> {
    let replay = |states: &mut States, header: &_| states.record(header, now);
    let (states, restored) = log.restore_producers(States::decode, replay)?;
    if restored.batches > 0 {
        let (batches, snapshot) = (restored.batches, restored.snapshot);
        tracing::debug!(batches, ?snapshot, producers = states.len(), "producers restored");
    }
    Ok(states)
}

/// The place of a produce that is in the log already; `None` if it is to be appended. With a producer id a produce is one
/// batch, which was checked before.
pub(super) fn repeated(states: &States, batches: &[RecordBatch]) -> Result<Option<Batch>, Refusal> {
    let [batch] = batches else { return Ok(None) };
    Ok(match states.check(batch.header())? {
        Verdict::Append => None,
        Verdict::Duplicate(batch) => Some(batch),
    })
}

impl Replica {
    /// The words for a batch that its producer's history does not allow.
    pub(super) fn refuse_batch(&self, known: &Known, refusal: &Refusal) -> Failure {
        Failure::new(refusal.code(), format!("partition {}: {refusal}", known.name(self.at)))
    }

    /// Takes a snapshot of the producers when enough has happened since the last one, or, at the `end` of the replica,
    /// anything at all. Without it the next start only takes longer.
    pub(super) fn save_producers(&self, inner: &Inner, writer: &mut Writer, end: bool) {
        let Some(log) = writer.log.as_mut() else { return };
        let due = log.wants_producer_snapshot() || end && log.has_news_of_producers();
        if !due {
            return;
        }
        if let Err(error) = log.save_producers(&writer.producers.encode()) {
            inner.note_full(&error);
            tracing::warn!(topic = %self.topic, partition = %self.at.partition, %error, "no snapshot of producers");
        }
    }

    /// Forgets producers that were silent for long.
    pub(super) fn expire_producers(&self, inner: &Inner, writer: &mut Writer, now: Timestamp) {
        let expired = writer.producers.expire(now, inner.config.producer_id_expiration_ms);
        if expired > 0 {
            tracing::debug!(topic = %self.topic, partition = %self.at.partition, expired, "producers forgotten");
        }
    }

    /// What the partition knows of its producers; the leader's word.
    pub(in crate::partitions) fn producers(&self, inner: &Inner) -> Result<Vec<Producer>, Failure> {
        let writer = self.lock();
        self.standing.load().serve(self.at, None, &inner.known.load())?;
        match &writer.log {
            Some(_) => Ok(writer.producers.known().collect()),
            None => Err(Failure::new(ErrorCode::NotReady, "the partition is closing")),
        }
    }
}
