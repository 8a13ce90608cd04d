//! Batches per partition, as data: who may be sent when, what a result means. No clock, no network.
//!
//! One batch of a partition is in flight at a time, and a batch that failed is sent again before its
//! successors, so that records of a partition keep their order.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rafka_broker::request::{Acks, Produced};
use rafka_model::limits::BATCH_BYTES_MAX;
use rafka_model::{BatchBuilder, Monotonic, PartitionId, ProducerId, Timestamp, TopicName, partition_for_key};

use super::batch::{Batch, Completion, Finished};
use crate::backoff::{Backoff, Random};
use crate::config::ProducerConfig;
use crate::{Error, ErrorKind, Record};

/// Index of a partition's queue: topic by order of appearance, partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct QueueId {
    topic: u32,
    pub(crate) partition: u32,
}

/// What became of an attempt to send a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in the log.
    Delivered(Produced),
    /// Try again; `at_once` when the failure told where to go instead.
    Retry {
        error: Error,
        at_once: bool,
    },
    /// The partition does not know the batch before this one: begin again under another producer id.
    Renumber(Error),
    /// The topic takes only smaller batches.
    TooLarge(Error),
    Failed(Error),
}

/// What a record was pushed to.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) finished: Finished,
    /// Which record of the batch.
    pub(crate) index: u32,
    /// Something is due earlier than before: poll again.
    pub(crate) wake: bool,
}

#[derive(Debug)]
struct Topic {
    name: TopicName,
    partitions: u32,
    /// Where keyless records go until its batch is sealed.
    sticky: Option<u32>,
    queues: Vec<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    open: Option<Open>,
    sealed: VecDeque<Batch>,
    in_flight: Option<Finished>,
    /// Of the batches that were sent.
    numbering: Option<Numbering>,
    /// Entry of this queue in `Accumulator::due`.
    due: Option<Monotonic>,
    bytes: usize,
}

/// A producer id at a partition.
#[derive(Clone, Copy, Debug)]
struct Numbering {
    id: ProducerId,
    /// Sequence number of the next record: wraps to 0.
    next: i32,
}

#[derive(Debug)]
struct Open {
    builder: BatchBuilder,
    opened: Monotonic,
    completion: Completion,
    bytes_reserved: usize,
}

/// All batches of one producer.
#[derive(Debug)]
pub(crate) struct Accumulator {
    config: ProducerConfig,
    backoff: Backoff,
    random: Random,
    names: HashMap<TopicName, u32>,
    topics: Vec<Topic>,
    due: BTreeSet<(Monotonic, QueueId)>,
    /// Batches are numbered.
    idempotent: bool,
    /// For partitions that have no producer id yet, or had to give theirs up.
    producer_id: Option<ProducerId>,
    /// First failure that [`Self::take_failure`] has not told yet.
    failure: Option<Error>,
    closed: bool,
}

impl Accumulator {
    pub(crate) fn new(config: ProducerConfig, random: Random) -> Self {
        let backoff = Backoff::new(config.retry_backoff_ms, config.retry_backoff_ms_max);
        let idempotent = config.idempotent && config.acks != Acks::None;
        let (names, topics, due, producer_id) = Default::default();
        Self { config, backoff, random, names, topics, due, idempotent, producer_id, failure: None, closed: false }
    }

    /// Bytes to reserve for `record` before it is pushed.
    pub(crate) fn cost(record: &Record) -> usize {
        BatchBuilder::record_bytes(record.key.as_deref(), record.value.as_deref(), &record.headers)
    }

    /// Partitions of a topic, once they were told.
    pub(crate) fn partitions(&self, topic: &TopicName) -> Option<u32> {
        self.names.get(topic).map(|index| self.topics[*index as usize].partitions)
    }

    /// A topic has this many partitions.
    pub(crate) fn learn(&mut self, topic: &TopicName, partitions: u32) {
        let index = *self.names.entry(topic.clone()).or_insert_with(|| {
            let name = topic.clone();
            self.topics.push(Topic { name, partitions, sticky: None, queues: Vec::new() });
            // Topics of one producer are far fewer than 2^32: each was named by a record in memory.
            (self.topics.len() - 1) as u32
        });
        let topic = &mut self.topics[index as usize];
        topic.partitions = partitions;
        topic.sticky = topic.sticky.filter(|sticky| *sticky < partitions);
    }

    /// Adds a record of a known topic; `bytes` is its [`Self::cost`], given back when its batch is done.
    ///
    /// # Errors
    /// Closed; a topic whose partitions were not told; a partition that does not exist; a record over every limit.
    pub(crate) fn push(
        &mut self,
        now: Monotonic,
        timestamp: Timestamp,
        record: &Record,
        bytes: usize,
    ) -> Result<Pushed, Error> {
        if self.closed {
            return Err(Error::closed("the producer"));
        }
        let limit = BATCH_BYTES_MAX as usize - rafka_model::limits::BATCH_HEADER_BYTES;
        if bytes > limit {
            return Err(Error::new(ErrorKind::Invalid, format!("record of {bytes} bytes for {}", record.topic))
                .because(format!("a record has at most {limit} bytes")));
        }
        let Some(&topic) = self.names.get(&record.topic) else {
            return Err(Error::new(ErrorKind::NotFound, format!("topic {:?} is not known yet", record.topic.as_str())));
        };
        let id = QueueId { topic, partition: self.choose(topic, record, bytes)? };
        let (compression, batch_bytes) = (self.config.compression, self.config.batch_bytes);
        let queue = self.queue(id);
        if queue.open.as_ref().is_some_and(|open| open.builder.bytes() + bytes > batch_bytes) {
            self.seal(id);
        }
        let queue = self.queue(id);
        queue.bytes += bytes;
        let open = queue.open.get_or_insert_with(|| Open {
            builder: BatchBuilder::new(compression),
            opened: now,
            completion: Completion::new(),
            bytes_reserved: 0,
        });
        let index = open.builder.count();
        open.bytes_reserved += bytes;
        open.builder.push(timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
        let finished = open.completion.finished();
        if open.builder.bytes() >= batch_bytes {
            self.seal(id);
        }
        Ok(Pushed { finished, index, wake: self.schedule(id) })
    }

    fn choose(&mut self, topic: u32, record: &Record, bytes: usize) -> Result<u32, Error> {
        let state = &mut self.topics[topic as usize];
        if let Some(partition) = record.partition {
            if partition.0 >= state.partitions {
                let what = format!("partition {partition} of topic {:?} does not exist", record.topic.as_str());
                return Err(Error::new(ErrorKind::NotFound, what).because(format!("it has {}", state.partitions)));
            }
            return Ok(partition.0);
        }
        if let Some(key) = &record.key {
            return Ok(partition_for_key(key, state.partitions.max(1)).0);
        }
        if let Some(sticky) = state.sticky
            && let Some(open) = state.queues.get(sticky as usize).and_then(|queue| queue.open.as_ref())
            && open.builder.bytes() + bytes <= self.config.batch_bytes
        {
            return Ok(sticky);
        }
        // The shortest queue of all, so that slow or leaderless partitions get less (KIP-794); ties by chance.
        let queued = |partition: &u32| state.queues.get(*partition as usize).map_or(0, |queue| queue.bytes);
        let start = self.random.below(state.partitions as usize) as u32;
        let chosen = (start..state.partitions).chain(0..start).min_by_key(queued).unwrap_or(0);
        state.sticky = Some(chosen);
        Ok(chosen)
    }

    fn queue(&mut self, id: QueueId) -> &mut Queue {
        let queues = &mut self.topics[id.topic as usize].queues;
        if queues.len() <= id.partition as usize {
            queues.resize_with(id.partition as usize + 1, Queue::default);
        }
        &mut queues[id.partition as usize]
    }

    /// Ends the open batch of a queue.
    fn seal(&mut self, id: QueueId) {
        let timeout = Duration::from_millis(self.config.delivery_timeout_ms);
        let topic = self.topics[id.topic as usize].name.clone();
        let queue = self.queue(id);
        let Some(open) = queue.open.take() else { return };
        let builder = open.builder;
        let expires = open.opened.plus(timeout);
        open.completion.began(topic.clone(), PartitionId(id.partition), builder.count());
        queue.sealed.push_back(Batch::new(id, topic, builder, expires, open.completion, open.bytes_reserved));
    }

    /// Numbers a batch that is about to be sent, unless it was sent before. False if there is no producer id for it:
    /// get one and [`Self::adopt`] it.
    pub(crate) fn identify(&mut self, batch: &mut Batch) -> bool {
        if !self.idempotent || batch.is_identified() {
            return true;
        }
        let fresh = self.producer_id.map(|id| Numbering { id, next: 0 });
        let queue = self.queue(batch.queue);
        let Some(numbering) = queue.numbering.or(fresh) else { return false };
        batch.identify(numbering.id, numbering.next);
        queue.numbering = Some(Numbering { next: advance(numbering.next, batch.count()), ..numbering });
        true
    }

    /// Takes a producer id that the cluster gave; nobody else has it.
    pub(crate) fn adopt(&mut self, id: ProducerId) {
        self.producer_id = Some(id);
    }

    /// Is there a producer id for partitions that have none?
    pub(crate) fn has_producer_id(&self) -> bool {
        self.producer_id.is_some()
    }

    /// Nobody can say any more which sequence number a partition takes next: it begins again at 0, under another
    /// producer id.
    fn renumber(&mut self, id: QueueId) {
        let queue = self.queue(id);
        let given_up = queue.numbering.take();
        queue.sealed.iter_mut().for_each(Batch::forget_identity);
        self.producer_id = self.producer_id.filter(|id| given_up.is_none_or(|given_up| given_up.id != *id));
    }

    /// Puts a queue at its place in the order of deadlines. True if it moved forward.
    fn schedule(&mut self, id: QueueId) -> bool {
        let linger = Duration::from_millis(self.config.linger_ms);
        let queue = self.queue(id);
        let due = match (&queue.sealed.front(), &queue.open) {
            _ if queue.in_flight.is_some() => None,
            (Some(first), _) => Some(first.not_before),
            (None, Some(open)) => Some(open.opened.plus(linger)),
            (None, None) => None,
        };
        let before = std::mem::replace(&mut queue.due, due);
        if before == due {
            return false;
        }
        if let Some(before) = before {
            self.due.remove(&(before, id));
        }
        match due {
            Some(due) => {
                self.due.insert((due, id));
                before.is_none_or(|before| due < before)
            }
            None => false,
        }
    }

    /// Batches to send now; each comes back through [`Self::done`]. Those past their delivery timeout are failed
    /// here; the number says how many bytes that frees.
    pub(crate) fn poll(&mut self, now: Monotonic) -> (Vec<Batch>, usize) {
        let (mut ready, mut freed) = (Vec::new(), 0);
        while let Some(&(due, id)) = self.due.first()
            && due <= now
        {
            if self.queue(id).sealed.is_empty() {
                self.seal(id);
            }
            let Some(batch) = self.queue(id).sealed.pop_front() else { break };
            self.queue(id).in_flight = Some(batch.finished());
            if batch.expires <= now {
                freed += self.fail_late(batch, now);
            } else {
                ready.push(batch);
            }
            self.schedule(id);
        }
        (ready, freed)
    }

    /// When to [`Self::poll`] next.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.due.first().map(|(due, _)| *due)
    }

    /// An attempt has ended. Returns the bytes that are free again.
    pub(crate) fn done(&mut self, mut batch: Batch, now: Monotonic, outcome: Outcome) -> usize {
        let id = batch.queue;
        let freed = match outcome {
            Outcome::Delivered(produced) => {
                batch.finish(Ok(produced));
                self.close_batch(&batch)
            }
            Outcome::Failed(error) => self.fail(batch, error),
            Outcome::TooLarge(error) => match batch.split() {
                Some((first, second)) => {
                    let queue = self.queue(id);
                    queue.sealed.push_front(second);
                    queue.sealed.push_front(first);
                    0
                }
                None => self.fail(batch, error),
            },
            Outcome::Renumber(error) => {
                self.renumber(id);
                batch.forget_identity();
                self.retry(batch, now, error, false)
            }
            Outcome::Retry { error, at_once } => self.retry(batch, now, error, at_once),
        };
        self.queue(id).in_flight = None;
        self.schedule(id);
        freed
    }

    fn retry(&mut self, mut batch: Batch, now: Monotonic, error: Error, at_once: bool) -> usize {
        batch.failures += 1;
        batch.last_error = Some(error);
        // A hint is followed at once, but two wrong ones in a row are a storm.
        batch.not_before = match at_once && batch.failures == 1 {
            true => now,
            false => now.plus(self.backoff.after(batch.failures, &mut self.random)),
        };
        if batch.not_before >= batch.expires {
            return self.fail_late(batch, now);
        }
        self.queue(batch.queue).sealed.push_front(batch);
        0
    }

    fn fail_late(&mut self, batch: Batch, now: Monotonic) -> usize {
        let waited = self.config.delivery_timeout_ms.saturating_sub(batch.expires.since(now).as_millis() as u64);
        let what = format!("not delivered to {}/{} within {waited} ms", batch.topic, batch.queue.partition);
        let cause = batch.last_error.as_ref();
        let mut error = Error::new(ErrorKind::Timeout, what);
        if let Some(last) = cause {
            error = match last.cause() {
                Some(cause) => error.with_cause(Some(cause.clone())),
                None => error.because(last.what()),
            };
            if let Some(hint) = last.advice() {
                error = error.hint(hint);
            }
        }
        let id = batch.queue;
        let freed = self.fail(batch, error);
        self.queue(id).in_flight = None;
        freed
    }

    fn fail(&mut self, mut batch: Batch, error: Error) -> usize {
        self.failure.get_or_insert_with(|| error.clone());
        if batch.is_identified() {
            // Its numbers may be taken or not.
            self.renumber(batch.queue);
        }
        batch.finish(Err(error));
        self.close_batch(&batch)
    }

    fn close_batch(&mut self, batch: &Batch) -> usize {
        let queue = self.queue(batch.queue);
        queue.bytes = queue.bytes.saturating_sub(batch.bytes_reserved);
        batch.bytes_reserved
    }

    /// Makes every batch due now, whatever its linger. Returns what to wait for until all of them are done.
    pub(crate) fn flush(&mut self) -> Vec<Finished> {
        let mut waiting = Vec::new();
        for topic in 0..self.topics.len() {
            for partition in 0..self.topics[topic].queues.len() {
                let id = QueueId { topic: topic as u32, partition: partition as u32 };
                self.seal(id);
                self.schedule(id);
                let queue = self.queue(id);
                waiting.extend(queue.in_flight.iter().cloned().chain(queue.sealed.iter().map(Batch::finished)));
            }
        }
        waiting
    }

    /// The buffer is full: what could be sent already is due now, whatever its linger. Queues with full batches in
    /// front are left alone, or memory pressure would make small batches of everything.
    pub(crate) fn press(&mut self) {
        for topic in 0..self.topics.len() {
            for partition in 0..self.topics[topic].queues.len() {
                let id = QueueId { topic: topic as u32, partition: partition as u32 };
                let queue = self.queue(id);
                if queue.sealed.is_empty() && queue.in_flight.is_none() {
                    self.seal(id);
                    self.schedule(id);
                }
            }
        }
    }

    /// The first failure since the last call.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Takes no more records.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Fails everything that waits here.
    pub(crate) fn abandon(&mut self, error: &Error) {
        self.close();
        self.flush();
        for queue in self.topics.iter_mut().flat_map(|topic| &mut topic.queues) {
            queue.sealed.drain(..).for_each(|mut batch| batch.finish(Err(error.clone())));
        }
        self.due.clear();
    }
}

/// The sequence number `records` after `sequence`: 0 follows `i32::MAX` (KIP-98).
pub(super) fn advance(sequence: i32, records: u32) -> i32 {
    ((i64::from(sequence) + i64::from(records)) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests;
