//! What a partition knows of its idempotent producers, so that a batch that is sent again is not appended again (KIP-98).
//!
//! A producer numbers its records. For each producer id the partition keeps the epoch and the last
//! [`PRODUCER_BATCHES_KEPT`] batches; from them follows whether the next batch is new, a repetition, or does not fit.
//! The rules are those of Kafka's brokers, the lenient one with them: of a producer that is not known (any more), every
//! sequence number is taken (KIP-360), because its state may have expired while its records live on.
//!
//! The log is the truth: [`States`] can be built again from the headers of its batches, by [`States::record`] in their
//! order. Snapshots ([`States::encode`]) only shorten that.
//!
//! Every replica keeps them, so that whoever is elected knows all that its log holds. Whoever drives them records what a
//! follower appends, too; builds them again after each truncation, before anything else is appended or answered; and has
//! a repetition wait for the high watermark as its first time did: the first may be lost yet. A log that starts anew at
//! an offset starts with no producers.

mod rules;
mod snapshot;

use std::collections::BTreeMap;

use rafka_model::limits::{PRODUCER_BATCHES_KEPT, PRODUCERS_MAX};
use rafka_model::{BatchHeader, Offset, ProducerId, Timestamp};

use crate::ErrorCode;
pub use rules::Rule;
use rules::Rules;

/// The producers that one partition knows.
#[derive(Clone, Debug)]
pub struct States {
    producers: BTreeMap<ProducerId, Producer>,
    /// At most so many.
    limit: usize,
    rules: Rules,
}

/// A batch of a producer that is in the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    /// Sequence number of its first record.
    pub first_sequence: i32,
    /// Its last record's sequence number and offset are so many further.
    pub last_delta: i32,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Its largest timestamp, as it is in the log.
    pub max_timestamp: Timestamp,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is the producer's next: append it.
    Append,
    /// It is in the log already, here.
    Duplicate(Batch),
}

/// Why a batch must not be appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Something between the producer's last batch and this one is missing, or this one is a repetition too old to know.
    #[error("producer {id} (epoch {epoch}) sends sequence number {found}, {expected} is next")]
    OutOfOrder {
        /// The producer.
        id: ProducerId,
        /// Epoch of the batch.
        epoch: i16,
        /// First sequence number of the batch.
        found: i32,
        /// The sequence number that would have been taken.
        expected: i32,
    },
    /// A newer incarnation of the producer has written here.
    #[error("producer {id} is in epoch {current}, the batch is of epoch {found}")]
    OldEpoch {
        /// The producer.
        id: ProducerId,
        /// Epoch of the batch.
        found: i16,
        /// Epoch of the newest batch in the log.
        current: i16,
    },
}

/// What is known of one producer, for people and tools.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Known {
    /// The producer.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: i16,
    /// Its latest batch, unless only a transaction marker is known.
    pub last: Option<Batch>,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
    /// When it last wrote, by the broker's clock.
    pub heard: Timestamp,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Producer {
    epoch: i16,
    heard: Timestamp,
    transaction_start: Option<Offset>,
    /// The latest ones, oldest first; `count` of them.
    batches: [Batch; PRODUCER_BATCHES_KEPT],
    count: usize,
}

impl Refusal {
    /// The error that producers are told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequence,
            Self::OldEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        }
    }
}

impl Batch {
    fn of(header: &BatchHeader) -> Self {
        Self {
            first_sequence: header.base_sequence,
            last_delta: header.last_offset_delta,
            base_offset: header.base_offset,
            max_timestamp: header.max_timestamp,
        }
    }

    /// Sequence number of its last record.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        advance(self.first_sequence, self.last_delta)
    }

    /// Offset of its last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_delta))
    }
}

impl Default for States {
    fn default() -> Self {
        Self { producers: BTreeMap::new(), limit: PRODUCERS_MAX, rules: Rules::default() }
    }
}

impl States {
    /// Says whether a produced batch, whose offset is not known yet, shall be appended. Batches without a producer id
    /// always are.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, header: &BatchHeader) -> Result<Verdict, Refusal> {
        let (id, epoch, found) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let Some(known) = self.producers.get(&id).filter(|_| id != ProducerId::NONE) else {
            return Ok(Verdict::Append);
        };
        let last = advance(found, header.last_offset_delta);
        let same = |batch: &&Batch| batch.first_sequence == found && batch.last_sequence() == last;
        let repeated = known.batches().iter().find(same).filter(|_| known.epoch == epoch);
        if let Some(batch) = repeated.filter(|_| self.rules.hold(Rule::RepetitionsAreRecognised)) {
            return Ok(Verdict::Duplicate(*batch));
        }
        if epoch < known.epoch && self.rules.hold(Rule::OldEpochsAreFenced) {
            return Err(Refusal::OldEpoch { id, found: epoch, current: known.epoch });
        }
        let (expected, rule) = match (epoch == known.epoch, known.batches().last()) {
            (true, Some(last)) => (self.following(last), Rule::SequencesFollow),
            // Nothing of this epoch is known.
            _ => (0, Rule::EpochsBeginAtZero),
        };
        if found != expected && self.rules.hold(rule) {
            return Err(Refusal::OutOfOrder { id, epoch, found, expected });
        }
        Ok(Verdict::Append)
    }

    /// Takes note of a batch that is in the log, with its offsets; `now` by the broker's clock. Nothing is checked: what
    /// is in the log was.
    pub fn record(&mut self, header: &BatchHeader, now: Timestamp) {
        if header.producer_id == ProducerId::NONE {
            return;
        }
        let kept = if self.rules.hold(Rule::SeveralBatchesAreKept) { PRODUCER_BATCHES_KEPT } else { 1 };
        let producer = self.producers.entry(header.producer_id).or_insert(Producer::new(header.producer_epoch, now));
        if header.producer_epoch < producer.epoch {
            return;
        }
        if header.producer_epoch > producer.epoch {
            (producer.epoch, producer.batches, producer.count) = (header.producer_epoch, Default::default(), 0);
        }
        producer.heard = producer.heard.max(now);
        if header.is_control() {
            // A marker: it ends the transaction, whichever way.
            producer.transaction_start = None;
        } else {
            if header.base_sequence >= 0 {
                producer.push(Batch::of(header), kept);
            }
            if header.is_transactional() {
                producer.transaction_start.get_or_insert(header.base_offset);
            }
        }
        if self.producers.len() > self.limit {
            self.evict();
        }
    }

    /// Forgets producers that have been silent for `expiration_ms`; returns how many. One with an open transaction stays.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: u64) -> usize {
        let before = self.producers.len();
        let silent = |producer: &Producer| {
            let ms = u64::try_from(now.0.saturating_sub(producer.heard.0)).unwrap_or(0);
            ms >= expiration_ms && producer.transaction_start.is_none()
        };
        self.producers.retain(|_, producer| !silent(producer));
        before - self.producers.len()
    }

    /// Everything known, by producer id.
    pub fn known(&self) -> impl Iterator<Item = Known> {
        self.producers.iter().map(|(id, producer)| {
            let Producer { epoch, heard, transaction_start, .. } = *producer;
            Known { id: *id, epoch, last: producer.batches().last().copied(), transaction_start, heard }
        })
    }

    /// Number of producers known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// True if no producer is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// The sequence number behind a batch.
    fn following(&self, last: &Batch) -> i32 {
        match last.last_sequence().checked_add(1) {
            Some(next) => next,
            None if self.rules.hold(Rule::SequencesWrap) => 0,
            None => i32::MIN,
        }
    }

    /// Makes room: forgets an eighth of the producers, those silent longest.
    fn evict(&mut self) {
        let closed = self.producers.iter().filter(|(_, producer)| producer.transaction_start.is_none());
        let last = |producer: &Producer| producer.batches().last().map(|batch| batch.base_offset);
        let mut oldest: Vec<_> = closed.map(|(id, producer)| (producer.heard, last(producer), *id)).collect();
        oldest.sort_unstable();
        for (_, _, id) in oldest.into_iter().take((self.limit / 8).max(1)) {
            self.producers.remove(&id);
        }
    }
}

impl Producer {
    fn new(epoch: i16, heard: Timestamp) -> Self {
        Self { epoch, heard, transaction_start: None, batches: Default::default(), count: 0 }
    }

    fn batches(&self) -> &[Batch] {
        &self.batches[..self.count]
    }

    fn push(&mut self, batch: Batch, kept: usize) {
        if self.count >= kept {
            self.batches.copy_within(1..self.count, 0);
            self.count -= 1;
        }
        self.batches[self.count] = batch;
        self.count += 1;
    }
}

/// The sequence number `delta` behind `sequence`: 0 follows `i32::MAX` (KIP-98).
fn advance(sequence: i32, delta: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(delta);
    i32::try_from(sum & i64::from(i32::MAX)).unwrap_or_default()
}

#[cfg(any(test, feature = "mutants"))]
pub mod failover;
#[cfg(any(test, feature = "mutants"))]
pub mod simulation;
#[cfg(test)]
mod tests;
