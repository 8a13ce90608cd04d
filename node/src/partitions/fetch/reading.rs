//! One pass over the partitions of a fetch. What the cache has is read on the spot; the first miss moves the rest of
//! the pass to where it may block.

use std::sync::Arc;

use rafka_broker::request::{Fetch, FetchPartition, Fetched, PartitionReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::READ_BYTES_MAX;
use rafka_model::{BatchHeader, Chunks, Offset, TopicPartition};

use crate::partitions::Inner;
use crate::partitions::offsets::read_failure;
use crate::partitions::replica::Replica;

/// The pass and what it found so far.
#[derive(Debug)]
pub(super) struct Reading {
    inner: Arc<Inner>,
    parts: Vec<Part>,
    /// Index of the part that is read next.
    at: usize,
    /// Bytes that may still be added.
    left: usize,
    bytes: usize,
    min_bytes: usize,
}

#[derive(Debug)]
struct Part {
    partition: TopicPartition,
    source: Result<Source, Failure>,
    /// Bytes that may still be added of this partition.
    left: usize,
    records: Chunks,
}

/// Where a part reads.
#[derive(Debug)]
struct Source {
    replica: Arc<Replica>,
    high_watermark: Offset,
    log_start: Offset,
    /// Read next.
    position: Offset,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// The part has what it gets.
    Done,
    /// More is wanted and is not in the cache.
    Cold,
}

impl Reading {
    pub(super) fn new(inner: &Arc<Inner>, request: &Fetch) -> Self {
        let parts = request.partitions.iter().map(|part| Part {
            partition: part.partition,
            source: inner.source(part),
            left: part.max_bytes as usize,
            records: Chunks::new(),
        });
        Self {
            inner: inner.clone(),
            parts: parts.collect(),
            at: 0,
            left: request.max_bytes.min(READ_BYTES_MAX) as usize,
            bytes: 0,
            min_bytes: request.min_bytes.min(request.max_bytes) as usize,
        }
    }

    /// Reads from the cache as far as it goes; false if the next part needs the log.
    pub(super) fn warm(&mut self) -> bool {
        while self.at < self.parts.len() {
            if self.warm_part() == Step::Cold {
                return false;
            }
            self.at += 1;
        }
        true
    }

    /// Reads the rest, where that may block.
    pub(super) fn cold(&mut self) {
        while !self.warm() {
            self.cold_part();
            self.at += 1;
        }
    }

    /// Bytes found, and partitions refused.
    pub(super) fn found(&self) -> (u64, u64) {
        let refused = self.parts.iter().filter(|part| part.source.is_err()).count();
        (self.bytes as u64, refused as u64)
    }

    /// The replicas to wait at, each with the high watermark that was seen.
    pub(super) fn into_parked(self) -> Vec<(Arc<Replica>, Offset)> {
        let sources = self.parts.into_iter().filter_map(|part| part.source.ok());
        sources.map(|source| (source.replica, source.high_watermark)).collect()
    }

    /// The answer to the fetch.
    pub(super) fn answer(self) -> Vec<PartitionReply<Fetched>> {
        let reply = |part: Part| {
            let result = part.source.map(|source| Fetched {
                high_watermark: source.high_watermark,
                last_stable_offset: source.high_watermark,
                log_start: source.log_start,
                records: part.records,
            });
            PartitionReply { partition: part.partition, result }
        };
        self.parts.into_iter().map(reply).collect()
    }

    fn warm_part(&mut self) -> Step {
        let (total, wanted, left) = (self.bytes, self.min_bytes, self.left);
        let part = &mut self.parts[self.at];
        let Ok(source) = &mut part.source else { return Step::Done };
        if source.position >= source.high_watermark {
            return Step::Done;
        }
        let room = part.left.min(left);
        if room == 0 && total > 0 {
            return Step::Done;
        }
        let (at, below) = (part.partition, source.high_watermark);
        let Some(run) = self.inner.cache.read(at, source.position, below, room, total == 0) else {
            return Step::Cold;
        };
        if run.pieces.is_empty() {
            self.nothing_fits();
            return Step::Done;
        }
        source.position = run.next;
        let bytes = run.bytes;
        let short = source.position < below && total + bytes < wanted && bytes < room;
        part.records.extend(run.pieces);
        self.took(bytes);
        // What follows the cached batches is wanted only if they are not enough to answer.
        if short { Step::Cold } else { Step::Done }
    }

    fn cold_part(&mut self) {
        loop {
            let (total, wanted, left) = (self.bytes, self.min_bytes, self.left);
            let part = &mut self.parts[self.at];
            let Ok(source) = &mut part.source else { return };
            let room = u32::try_from(part.left.min(left)).unwrap_or(u32::MAX);
            self.inner.counters.cold_read();
            let read = source.replica.reader().read(source.position, source.high_watermark, room, total == 0);
            let records = match read {
                Ok(records) => records,
                // What was found before the damage is good; the next fetch begins at it.
                Err(_) if !part.records.is_empty() => return,
                Err(error) => {
                    let name = self.inner.known.load().name(part.partition);
                    part.source = Err(read_failure(&name, &error));
                    return;
                }
            };
            let Some(next) = end_of(&records) else {
                self.nothing_fits();
                return;
            };
            self.inner.cache.fill(part.partition, &records, next, room as usize);
            source.position = next;
            let more = next < source.high_watermark && total + records.len() < wanted;
            let bytes = records.len();
            part.records.push(records);
            self.took(bytes);
            if !more || self.left == 0 || self.parts[self.at].left == 0 {
                return;
            }
        }
    }

    /// The next batch of this part is larger than what may be added. If it is the answer that is full, nothing is read
    /// of the parts that follow: of hundreds of partitions each would be read in vain. Clients ask for those they got
    /// nothing of first, next time.
    fn nothing_fits(&mut self) {
        if self.bytes > 0 && self.bytes >= self.min_bytes && self.left < self.parts[self.at].left {
            self.left = 0;
        }
    }

    fn took(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.left = self.left.saturating_sub(bytes);
        let part = &mut self.parts[self.at];
        part.left = part.left.saturating_sub(bytes);
    }
}

impl Inner {
    /// Where to read for `part`, if it may.
    fn source(&self, part: &FetchPartition) -> Result<Source, Failure> {
        let at = part.partition;
        let replica = self.find(at)?;
        let known = self.known.load();
        replica.standing().serve(at, part.leader_epoch, &known)?;
        replica.note_reader();
        let high_watermark = replica.high_watermark();
        let (log_start, log_end) = (replica.reader().log_start(), replica.reader().log_end());
        if part.offset > high_watermark && part.offset <= log_end && !replica.offsets_are_known() {
            let message = format!("the high watermark of {} is not known yet after the election", known.name(at));
            return Err(Failure::new(ErrorCode::OffsetNotAvailable, message));
        }
        if part.offset < log_start || part.offset > log_end {
            let name = known.name(at);
            let message = format!("offset {} is not in {name}, which holds {log_start} to {log_end}", part.offset);
            return Err(Failure::new(ErrorCode::OffsetOutOfRange, message));
        }
        Ok(Source { replica, high_watermark, log_start, position: part.offset })
    }
}

/// Offset behind the last of whole batches; `None` without any.
fn end_of(mut records: &[u8]) -> Option<Offset> {
    let mut end = None;
    while let Ok(header) = BatchHeader::parse(records) {
        end = Some(header.next_offset());
        records = records.get(header.total_bytes()..)?;
    }
    end
}
