//! One batch on its way, and the promise that its records share.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{FutureExt, Shared};
use parking_lot::Mutex;
use rafka_broker::request::Produced;
use rafka_model::{
    BatchBuilder, Compression, Monotonic, Offset, PartitionId, ProducerId, RecordBatch, Timestamp, TopicName,
};
use tokio::sync::oneshot;

use super::accumulator::{QueueId, advance};
use crate::{Delivery, Error};

/// Of every producer id: nobody but its producer ever has it, so there is nobody to fence.
const EPOCH: i16 = 0;

/// Resolves when every record of a batch was delivered or has failed; an error if the producer was dropped before.
pub(crate) type Finished = Shared<oneshot::Receiver<Arc<Fate>>>;

/// What became of the records of one batch as it was first sealed. A batch that had to be split has several parts.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    topic: TopicName,
    partition: PartitionId,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    first: u32,
    count: u32,
    result: Result<Produced, Error>,
}

impl Fate {
    /// The fate of the record with this index, whose own time was `timestamp`.
    pub(crate) fn of(&self, index: u32, timestamp: Timestamp) -> Result<Delivery, Error> {
        let part = self.parts.iter().find(|part| (part.first..part.first + part.count).contains(&index));
        let part = part.ok_or_else(|| Error::closed("the producer"))?;
        let produced = part.result.as_ref().map_err(Clone::clone)?;
        let known = produced.base_offset >= Offset::ZERO;
        Ok(Delivery {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: known.then(|| produced.base_offset.plus(i64::from(index - part.first))),
            timestamp: produced.append_time.unwrap_or(timestamp),
        })
    }
}

/// Shared by the parts of a batch; tells all waiters at once when the last part is done.
#[derive(Clone, Debug)]
pub(super) struct Completion {
    state: Arc<Mutex<State>>,
    finished: Finished,
}

#[derive(Debug)]
struct State {
    fate: Option<Fate>,
    remaining: u32,
    sender: Option<oneshot::Sender<Arc<Fate>>>,
}

impl Completion {
    pub(super) fn new() -> Self {
        let (sender, receiver) = oneshot::channel();
        let state = State { fate: None, remaining: 0, sender: Some(sender) };
        Self { state: Arc::new(Mutex::new(state)), finished: receiver.shared() }
    }

    pub(super) fn finished(&self) -> Finished {
        self.finished.clone()
    }

    /// The batch is sealed with this many records.
    pub(super) fn began(&self, topic: TopicName, partition: PartitionId, records: u32) {
        let mut state = self.state.lock();
        state.fate = Some(Fate { topic, partition, parts: Vec::with_capacity(1) });
        state.remaining = records;
    }

    fn part(&self, part: Part) {
        let mut state = self.state.lock();
        state.remaining = state.remaining.saturating_sub(part.count);
        if let Some(fate) = &mut state.fate {
            fate.parts.push(part);
        }
        if state.remaining == 0
            && let (Some(fate), Some(sender)) = (state.fate.take(), state.sender.take())
        {
            // Nobody may be waiting: the user dropped the promise.
            let _ = sender.send(Arc::new(fate));
        }
    }
}

/// A sealed batch. Dropped without [`Self::finish`], its waiters learn that the producer is gone.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) queue: QueueId,
    pub(crate) topic: TopicName,
    /// Not sent before; moved by backoff.
    pub(super) not_before: Monotonic,
    /// Failed from then on.
    pub(crate) expires: Monotonic,
    /// Attempts that failed.
    pub(crate) failures: u32,
    pub(super) last_error: Option<Error>,
    pub(super) bytes_reserved: usize,
    /// Producer id and sequence number of the first record, once it is on its way with them.
    identity: Option<(ProducerId, i32)>,
    contents: Contents,
    /// Index of the first record in the batch as it was first sealed.
    first: u32,
    count: u32,
    completion: Completion,
}

#[derive(Debug)]
enum Contents {
    /// Not sent yet: compressing and summing up is work for whoever sends it, outside the accumulator's lock.
    Open(Option<BatchBuilder>),
    Built(RecordBatch),
}

impl Batch {
    pub(super) fn new(
        queue: QueueId,
        topic: TopicName,
        builder: BatchBuilder,
        expires: Monotonic,
        completion: Completion,
        bytes_reserved: usize,
    ) -> Self {
        let count = builder.count();
        let (not_before, contents) = (Monotonic(0), Contents::Open(Some(builder)));
        let (failures, last_error, first) = (0, None, 0);
        Self {
            queue,
            topic,
            not_before,
            expires,
            failures,
            last_error,
            bytes_reserved,
            identity: None,
            contents,
            first,
            count,
            completion,
        }
    }

    pub(crate) fn partition(&self) -> PartitionId {
        PartitionId(self.queue.partition)
    }

    /// Bytes before compression, or as built.
    pub(crate) fn bytes(&self) -> usize {
        match &self.contents {
            Contents::Open(builder) => builder.as_ref().map_or(0, BatchBuilder::bytes),
            Contents::Built(batch) => batch.len(),
        }
    }

    /// True if [`Self::records`] only hands out what was made before.
    pub(crate) fn is_built(&self) -> bool {
        matches!(self.contents, Contents::Built(_))
    }

    /// The batch as it travels; compressed and summed up at the first call.
    pub(crate) fn records(&mut self) -> Bytes {
        self.built().bytes().clone()
    }

    fn built(&mut self) -> &RecordBatch {
        if let Contents::Open(builder) = &mut self.contents {
            let mut builder = builder.take().expect("an unbuilt batch has its builder");
            if let Some((id, sequence)) = self.identity {
                builder = builder.idempotent(id, EPOCH, sequence);
            }
            self.contents = Contents::Built(builder.build());
        }
        match &self.contents {
            Contents::Built(batch) => batch,
            Contents::Open(_) => unreachable!("was built above"),
        }
    }

    /// Records in it.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn is_identified(&self) -> bool {
        self.identity.is_some()
    }

    /// Numbers its records from `sequence` on, as those of the producer `id`.
    pub(super) fn identify(&mut self, id: ProducerId, sequence: i32) {
        self.identity = Some((id, sequence));
    }

    /// It will be numbered anew, and built anew.
    pub(super) fn forget_identity(&mut self) {
        self.identity = None;
        if let Contents::Built(batch) = &self.contents
            && let Some((codec, records)) = records_of(batch)
        {
            self.contents = Contents::Open(Some(unpacked(codec, &records)));
        }
    }

    pub(super) fn finished(&self) -> Finished {
        self.completion.finished()
    }

    pub(super) fn finish(&mut self, result: Result<Produced, Error>) {
        self.completion.part(Part { first: self.first, count: self.count, result });
    }

    /// Two batches of half the records each, in order; `None` for a single record.
    pub(super) fn split(&mut self) -> Option<(Self, Self)> {
        if self.count < 2 {
            return None;
        }
        let (codec, records) = records_of(self.built())?;
        let half = records.len() / 2;
        let rebuild = |records: &[rafka_model::Record], first: u32, bytes_reserved: usize| {
            let builder = unpacked(codec, records);
            let (topic, completion) = (self.topic.clone(), self.completion.clone());
            let mut batch = Self::new(self.queue, topic, builder, self.expires, completion, bytes_reserved);
            batch.first = self.first + first;
            batch.identity = self.identity.map(|(id, sequence)| (id, advance(sequence, first)));
            batch
        };
        let reserved = self.bytes_reserved / 2;
        let first = rebuild(&records[..half], 0, reserved);
        let second = rebuild(&records[half..], half as u32, self.bytes_reserved - reserved);
        Some((first, second))
    }
}

/// The records of a batch that was built here.
fn records_of(batch: &RecordBatch) -> Option<(Compression, Vec<rafka_model::Record>)> {
    Some((batch.header().compression(), batch.records().ok()?.collect::<Result<_, _>>().ok()?))
}

/// Records that were built into a batch before, to be built anew.
fn unpacked(codec: Compression, records: &[rafka_model::Record]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
    }
    builder
}
