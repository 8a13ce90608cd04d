//! Log compaction: of each key only the newest record stays.
//!
//! A round takes the closed segments of a log whose records are committed and synced, oldest first, in three passes:
//!
//! 1. *Survey*: headers only. Which batch is the last of each producer, which transactions were aborted.
//! 2. *Map*: the records that no round has seen yet (behind the first dirty offset) enter a map of bounded size, from
//!    the hash of a key to its newest offset. A full map ends the round there; the next one goes on.
//! 3. *Rewrite*: every record of which the map knows a newer one goes, all others are copied into new files. Batches that
//!    lose nothing are copied as they are; others keep codec, offsets, producer and sequence numbers.
//!
//! Then the new files take the places of the old segments under the writer's lock
//! ([`PartitionLog::apply_compaction`](crate::PartitionLog::apply_compaction)); before, nobody notices anything.
//!
//! What is more than Kafka's rules (`LogCleaner`, KIP-58, KIP-354, KIP-534): *offsets stay dense*. Where batches vanish, one
//! empty batch of 61 bytes takes the place of the whole run, so that every offset of a log still belongs to exactly one
//! batch. That chain is what finds damaged headers, lost files and misplaced index entries (a base offset is outside the
//! checksum); followers, caches and recovery need no exception for compacted logs. Consumers know empty batches: Kafka
//! itself leaves them for producers. Such a batch spans offsets of one leader epoch only.
//!
//! A tombstone (a record without a value) is kept for `delete.retention.ms` after the round that made it the only record of
//! its key. That time is noted in the batch: bit 6 of the attributes says that the base timestamp is the *delete horizon*.
//! Transaction markers are kept until no record of their transaction is left, then as long as tombstones. Of each producer
//! the last batch stays, emptied if need be, until the producer is forgotten anyway: it carries the sequence numbers.

mod filter;
mod map;
mod output;
mod raw;
mod state;
mod survey;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rafka_model::limits::{COMPACTION_BUFFER_BYTES_MAX, COMPACTION_MERGED_MAX};
use rafka_model::{BatchHeader, Offset, Timestamp};

use crate::error::{CompactionError, ReadError, StorageError};
use crate::index::NO_TIMESTAMP;
use crate::segment::Segment;
use crate::shared::{Place, Shared, check_at, header_at};
use crate::walk::Walk;
use filter::{Filter, Verdict};
use map::OffsetMap;
pub(crate) use output::Output;
pub(crate) use state::{load_first_dirty, store_first_dirty};
use survey::Survey;

/// Segments are read in steps of this.
const READ_STEP_BYTES: usize = 1 << 20;
/// Where only headers are wanted.
const HEADER_STEP_BYTES: usize = 8192;
/// The caller is asked to go on after so many bytes were read or written.
const PACE_BYTES: u64 = 256 << 10;

/// What a round may use.
#[derive(Clone, Copy, Debug)]
pub struct CompactionLimits {
    /// Bytes of the map of keys; 24 a key, of which three quarters can be used.
    pub buffer_bytes: usize,
    /// A producer that has been silent for so long (ms) is forgotten (`producer.id.expiration.ms`).
    pub producer_expiration_ms: u64,
}

/// A round that may be run: what is to be compacted, and how much there is. Made by
/// [`PartitionLog::compaction_plan`](crate::PartitionLog::compaction_plan); run it where it may block, appends and
/// reads go on meanwhile. Only one exists for a log at any time; dropping it changes nothing.
#[derive(Debug)]
#[must_use = "nothing is compacted before `run`"]
pub struct Compaction {
    pub(crate) running: Running,
    /// Oldest first.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Where the last of them ends.
    pub(crate) end: Offset,
    pub(crate) first_dirty: Offset,
    /// What lies at or behind it may change yet.
    pub(crate) below: Offset,
    pub(crate) clean_bytes: u64,
    pub(crate) dirty_bytes: u64,
    pub(crate) is_overdue: bool,
    pub(crate) now: Timestamp,
    pub(crate) delete_retention_ms: u64,
    pub(crate) segment_bytes: u32,
}

/// New files that wait to take the place of segments. Dropping it removes them.
#[derive(Debug)]
#[must_use = "nothing changes before it is applied"]
pub struct Compacted {
    pub(crate) running: Running,
    pub(crate) outputs: Vec<Output>,
    pub(crate) first_dirty: Offset,
    pub(crate) report: CompactionReport,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CompactionReport {
    /// Bytes read, those that were read twice counted twice.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes of the segments that were looked at.
    pub bytes_before: u64,
    /// Bytes of what stands in their place.
    pub bytes_after: u64,
    /// Segments that were looked at.
    pub segments_before: usize,
    /// Segments in their place.
    pub segments_after: usize,
    /// Records removed.
    pub records_removed: u64,
    /// Batches that cannot be decoded and stay as they are.
    pub batches_unreadable: u64,
    /// Different keys that the map held.
    pub keys: u64,
    /// The map was full: another round will find more.
    pub map_was_full: bool,
    /// Everything before this offset had been compacted before.
    pub clean_from: Offset,
    /// Everything before this offset is compacted now.
    pub clean_until: Offset,
}

/// The one compaction of a log.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Arc<Shared>);

impl Running {
    /// `None` if there is one already.
    pub(crate) fn begin(shared: &Arc<Shared>) -> Option<Self> {
        (!shared.compacting.swap(true, Ordering::AcqRel)).then(|| Self(shared.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.compacting.store(false, Ordering::Release);
    }
}

/// Counts bytes, and asks the caller now and then whether to go on.
pub(crate) struct Pacer<'a> {
    go_on: &'a mut dyn FnMut(u64) -> bool,
    pending: u64,
    read: u64,
    written: u64,
}

impl Pacer<'_> {
    pub(crate) fn read(&mut self, bytes: u64) -> Result<(), CompactionError> {
        self.read += bytes;
        self.moved(bytes)
    }

    pub(crate) fn wrote(&mut self, bytes: u64) -> Result<(), CompactionError> {
        self.written += bytes;
        self.moved(bytes)
    }

    fn moved(&mut self, bytes: u64) -> Result<(), CompactionError> {
        self.pending += bytes;
        if self.pending >= PACE_BYTES && !(self.go_on)(std::mem::take(&mut self.pending)) {
            return Err(CompactionError::Stopped);
        }
        Ok(())
    }
}

impl Compaction {
    /// Share of the bytes that no round has seen yet, in millionths.
    #[must_use]
    pub fn dirty_ratio_ppm(&self) -> u32 {
        ratio_ppm(self.dirty_bytes, self.clean_bytes)
    }

    /// Is `max.compaction.lag.ms` over for some record? Then it goes before all others.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.is_overdue
    }

    /// Bytes that the round looks at.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.clean_bytes + self.dirty_bytes
    }

    /// Does the work, beside the log. `go_on` is told how many bytes were read or written since it was asked last
    /// and may wait to keep a budget; when it says `false` the round ends and nothing has changed.
    ///
    /// # Errors
    /// [`CompactionError`]; nothing has changed then.
    pub fn run(
        self,
        limits: CompactionLimits,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Compacted, CompactionError> {
        let mut pacer = Pacer { go_on, pending: 0, read: 0, written: 0 };
        let survey = Survey::take(&self, &mut pacer)?;
        let buffer = limits.buffer_bytes.min(COMPACTION_BUFFER_BYTES_MAX);
        let dirty_records = survey.end.0.saturating_sub(self.first_dirty.0).max(0).unsigned_abs();
        let mut map = OffsetMap::new(buffer, dirty_records);
        let full_at = self.fill(&mut map, &survey, &mut pacer)?;
        let end = full_at.unwrap_or(survey.end);
        let mut filter = Filter::new(&self, &map, &survey, end, limits.producer_expiration_ms);
        let outputs = match end > self.first_dirty {
            true => self.rewrite(&mut filter, &mut pacer)?,
            // An open transaction begins where the last round ended.
            false => Vec::new(),
        };
        let report = CompactionReport {
            read_bytes: pacer.read,
            written_bytes: pacer.written,
            bytes_before: outputs.iter().flat_map(Output::inputs).map(|segment| segment.bytes()).sum(),
            bytes_after: outputs.iter().map(Output::bytes).sum(),
            segments_before: outputs.iter().map(|output| output.inputs().len()).sum(),
            segments_after: outputs.len(),
            records_removed: filter.records_removed,
            batches_unreadable: filter.batches_unreadable,
            keys: map.len() as u64,
            map_was_full: full_at.is_some(),
            clean_from: self.first_dirty,
            clean_until: end,
        };
        Ok(Compacted { running: self.running, outputs, first_dirty: end, report })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.running.0
    }

    /// Offset behind the segment number `i`.
    fn end_of(&self, i: usize) -> Offset {
        self.segments.get(i + 1).map_or(self.end, |next| next.base)
    }

    /// Enters the dirty records before the survey's end; `Some` is the offset from which on the map had no room.
    fn fill(
        &self,
        map: &mut OffsetMap,
        survey: &Survey,
        pacer: &mut Pacer<'_>,
    ) -> Result<Option<Offset>, CompactionError> {
        let mut full_at = None;
        for (i, segment) in self.segments.iter().enumerate() {
            if self.end_of(i) <= self.first_dirty || segment.base >= survey.end || full_at.is_some() {
                continue;
            }
            each_batch(self.shared(), segment, READ_STEP_BYTES, &mut |walk, place, header| {
                if header.base_offset >= survey.end {
                    return Ok(Step::Stop);
                }
                pacer.read(header.total_bytes() as u64)?;
                if header.next_offset() <= self.first_dirty
                    || header.record_count == 0
                    || header.is_control()
                    || survey.is_aborted(header)
                {
                    return Ok(Step::Next);
                }
                let batch = verified(walk, segment, place, header)?;
                let Some(records) = raw::Records::decode(header, batch) else { return Ok(Step::Next) };
                for record in records.iter() {
                    let offset = header.base_offset.plus(record.offset_delta);
                    let Some(key) = record.key.filter(|_| offset >= self.first_dirty && offset < survey.end) else {
                        continue;
                    };
                    if !map.put(map::hash(key), offset) {
                        full_at = Some(offset);
                        return Ok(Step::Stop);
                    }
                }
                Ok(Step::Next)
            })?;
        }
        Ok(full_at)
    }

    /// Writes what stays into new files, as few as `segment.bytes` allows.
    fn rewrite(&self, filter: &mut Filter<'_>, pacer: &mut Pacer<'_>) -> Result<Vec<Output>, CompactionError> {
        let mut outputs: Vec<Output> = Vec::new();
        let mut open: Option<Output> = None;
        for (i, segment) in self.segments.iter().enumerate() {
            let end = self.end_of(i);
            if segment.base >= filter.end() {
                break;
            }
            if let Some(full) = open.take_if(|output| !self.fits(output, segment, end)) {
                outputs.push(full.finish(pacer)?);
            }
            let output = match &mut open {
                Some(output) => output,
                none => none.insert(Output::begin(&self.running.0, segment.base)?),
            };
            output.take_in(segment, end);
            let newest = self.shared().max_timestamp(segment)?.unwrap_or(NO_TIMESTAMP);
            each_batch(self.shared(), segment, READ_STEP_BYTES, &mut |walk, place, header| {
                pacer.read(header.total_bytes() as u64)?;
                let batch = verified(walk, segment, place, header)?;
                match filter.judge(header, batch, newest) {
                    Verdict::Keep => output.keep(header, batch, pacer)?,
                    Verdict::Replace(bytes) => output.replace(&bytes, pacer)?,
                    Verdict::Drop => output.drop_batch(header, pacer)?,
                }
                Ok(Step::Next)
            })?;
        }
        if let Some(last) = open {
            outputs.push(last.finish(pacer)?);
        }
        Ok(outputs)
    }

    fn fits(&self, output: &Output, segment: &Segment, end: Offset) -> bool {
        output.bytes() + segment.bytes() <= u64::from(self.segment_bytes)
            && end.0 - output.base().0 <= i64::from(i32::MAX)
            && output.inputs().len() < COMPACTION_MERGED_MAX
    }
}

impl Compacted {
    /// What was done so far. Nothing has changed before it is applied.
    #[must_use]
    pub fn report(&self) -> &CompactionReport {
        &self.report
    }
}

/// Whether to look at the next batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Next,
    Stop,
}

type Visit<'v> = dyn FnMut(&mut Walk<'_>, Place, &BatchHeader) -> Result<Step, CompactionError> + 'v;

/// Visits the batches of a segment in order; their headers are verified as far as they can be without their records.
pub(crate) fn each_batch(
    shared: &Shared,
    segment: &Arc<Segment>,
    step_bytes: usize,
    visit: &mut Visit<'_>,
) -> Result<Step, CompactionError> {
    let opened = shared.disk.open(&segment.path);
    let file =
        opened.map_err(|error| overtaken_or(segment, StorageError::new("open", &segment.path, &error).into()))?;
    let mut walk = Walk::new(&*file, segment.bytes(), step_bytes);
    let mut place = Place { position: 0, base: segment.base, max_before: NO_TIMESTAMP };
    while place.position < walk.end() {
        let header = header_at(&mut walk, place)
            .map_err(|fault| overtaken_or(segment, CompactionError::Read(fault.of(segment))))?;
        if visit(&mut walk, place, &header)? == Step::Stop {
            return Ok(Step::Stop);
        }
        place.position += header.total_bytes() as u64;
        place.base = header.next_offset();
    }
    Ok(Step::Next)
}

/// The whole batch at `place`, its checksum verified.
pub(crate) fn verified<'w>(
    walk: &'w mut Walk<'_>,
    segment: &Arc<Segment>,
    place: Place,
    header: &BatchHeader,
) -> Result<&'w [u8], CompactionError> {
    let failed = |error: ReadError| overtaken_or(segment, CompactionError::Read(error));
    check_at(walk, place, header).map_err(|fault| failed(fault.of(segment)))?;
    let bytes = walk.window(place.position, header.total_bytes());
    bytes.map_err(|error| failed(StorageError::new("read", &segment.path, &error).into()))
}

/// Whatever is wrong with a segment that was removed meanwhile is no news.
fn overtaken_or(segment: &Segment, error: CompactionError) -> CompactionError {
    if segment.is_removed() { CompactionError::Overtaken } else { error }
}

pub(crate) fn ratio_ppm(part: u64, rest: u64) -> u32 {
    let whole = u128::from(part) + u128::from(rest);
    // At most a million.
    (u128::from(part) * 1_000_000).checked_div(whole).unwrap_or_default() as u32
}
