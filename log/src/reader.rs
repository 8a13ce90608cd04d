//! Reading, beside the writer and without its lock.

use std::sync::Arc;

use bytes::Bytes;
use rafka_model::limits::{BATCH_HEADER_BYTES, INDEX_INTERVAL_BYTES, READ_BYTES_MAX};
use rafka_model::{BatchError, BatchHeader, LeaderEpoch, Offset, RecordBatch, Timestamp};

use crate::disk::DiskFile;
use crate::error::ReadError;
use crate::segment::Segment;
use crate::shared::{Fault, Place, Shared, Until, check_at, header_at};
use crate::walk::Walk;

/// Headers are read in steps of this while looking for a time.
const SEARCH_STEP_BYTES: usize = 8192;
/// A read that met truncation or removal is tried again this often.
const ATTEMPTS_MAX: u32 = 4;

/// A handle to read a log. Cheap to clone; many may read at once, none waits for the writer.
///
/// Every batch that is returned was verified: its header, its place behind the batch before, its leader epoch, its CRC.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Whole batches from the one that holds `from`, up to `max_bytes` bytes, all of them before `below` (the high
    /// watermark, or the log's end for a replica). A first batch larger than `max_bytes` is returned nevertheless
    /// if `at_least_one`. Empty at the end. May return less than is there: never beyond one segment, except that with
    /// `at_least_one` batches without records, which compaction leaves, do not come alone if more follows.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] before the log's start or behind its end; [`ReadError::Corrupt`] when the batch at
    /// `from` is damaged (batches in front of a damaged one are returned without it).
    pub fn read(&self, from: Offset, below: Offset, max_bytes: u32, at_least_one: bool) -> Result<Bytes, ReadError> {
        let max_bytes = max_bytes.min(READ_BYTES_MAX) as usize;
        let read = self.attempt(|| self.try_read(from, below, max_bytes, at_least_one))?;
        if at_least_one && is_without_records(&read) {
            return Ok(self.read_on(read, below, max_bytes));
        }
        Ok(read)
    }

    /// Adds batches to `read`, which compaction emptied all, until one holds a record: consumers that see none take
    /// it for a batch that was too large, or for the end.
    fn read_on(&self, mut read: Bytes, below: Offset, max_bytes: usize) -> Bytes {
        while read.len() < READ_BYTES_MAX as usize && is_without_records(&read) {
            let Some(next) = last_header(&read).map(|last| last.next_offset()).filter(|next| *next < below) else {
                break;
            };
            let room = max_bytes.saturating_sub(read.len());
            match self.attempt(|| self.try_read(next, below, room, true)) {
                Ok(more) if !more.is_empty() => read = [read, more].concat().into(),
                // What was read is good; the next read begins at the trouble.
                _ => break,
            }
        }
        read
    }

    /// The first record before `below` whose timestamp is `time` or later, and its timestamp. `None` if all are older.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`], [`ReadError::Storage`].
    pub fn offset_for_timestamp(
        &self,
        time: Timestamp,
        below: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        self.attempt(|| {
            for segment in self.shared.segments() {
                if segment.base >= below {
                    break;
                }
                let max = self.shared.max_timestamp(&segment)?;
                if max.is_none_or(|max| max < time.0) {
                    continue;
                }
                if let Some(found) = self.search(&segment, time, below).map_err(|fault| fault.of(&segment))? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    /// The first record before `below` of the largest timestamp there is, and that timestamp (KIP-734).
    ///
    /// # Errors
    /// [`ReadError::Corrupt`], [`ReadError::Storage`].
    pub fn max_timestamp(&self, below: Offset) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        self.attempt(|| {
            let mut best: Option<(Offset, Timestamp)> = None;
            for segment in self.shared.segments() {
                if segment.base >= below {
                    break;
                }
                let Some(max) = self.shared.max_timestamp(&segment)? else { continue };
                if best.is_some_and(|(_, time)| time.0 >= max) {
                    continue;
                }
                let found = self.search(&segment, Timestamp(max), below).map_err(|fault| fault.of(&segment))?;
                let found = match found {
                    // The newest record lies at or behind `below`, or before the log's start: look at every batch.
                    None => self.newest(&segment, below).map_err(|fault| fault.of(&segment))?,
                    found => found,
                };
                best = match (best, found) {
                    (Some(old), Some(new)) if new.1 <= old.1 => Some(old),
                    (old, new) => new.or(old),
                };
            }
            Ok(best)
        })
    }

    /// Offset of the first record.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.shared.start()
    }

    /// Offset behind the last record (LEO).
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.shared.end()
    }

    /// Everything before this offset survives a power loss.
    #[must_use]
    pub fn flushed(&self) -> Offset {
        self.shared.flush.lock().flushed.offset
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    /// Epoch of the latest leader that wrote here.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.epochs.read().latest()
    }

    /// Epoch of the leader that wrote the record at `offset`.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.epochs.read().at(offset).map(|(epoch, _)| epoch)
    }

    /// The largest epoch of this log that is at most `epoch`, and the offset at which it ends (KIP-101, KIP-279).
    /// `None` if `epoch` is newer than the log knows. Older than everything: where the oldest epoch begins.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let epochs = self.shared.epochs.read();
        epochs.end_offset_for(epoch, self.shared.end())
    }

    /// Tries again what truncation or removal of segments disturbed.
    fn attempt<T>(&self, read: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        let mut attempts = 1;
        loop {
            let generation = self.shared.generation();
            match read() {
                Err(_) if self.shared.generation() != generation && attempts < ATTEMPTS_MAX => attempts += 1,
                answer => return answer,
            }
        }
    }

    fn try_read(&self, from: Offset, below: Offset, max_bytes: usize, at_least_one: bool) -> Result<Bytes, ReadError> {
        let (start, end) = (self.shared.start(), self.shared.end());
        let out_of_range = ReadError::OutOfRange { asked: from, start, end };
        if from < start || from > end {
            return Err(out_of_range);
        }
        let below = below.min(end);
        if from >= below {
            return Ok(Bytes::new());
        }
        let segment = self.shared.segment_of(from).ok_or(out_of_range)?;
        let file = self.shared.file(&segment)?;
        let limits = Limits { below, max_bytes, at_least_one };
        let (walk, place, next) = self
            .resume(&segment, &*file, from, limits)
            .map_or_else(|| self.begin(&segment, &*file, from, limits), Ok)
            .map_err(|fault| fault.of(&segment))?;
        let taken = (next.position - place.position) as usize;
        if taken == 0 {
            return Ok(Bytes::new());
        }
        self.shared.pause(&segment, next);
        let (buffer, at) = walk.into_buffer();
        let first = (place.position - at) as usize;
        Ok(Bytes::from(buffer).slice(first..first + taken))
    }

    /// Goes on where an earlier read ended. `None` if none ended there, or if anything is not as it seemed.
    fn resume<'a>(
        &self,
        segment: &Segment,
        file: &'a dyn DiskFile,
        from: Offset,
        limits: Limits,
    ) -> Option<(Walk<'a>, Place, Place)> {
        let place = self.shared.resume(segment, from)?;
        let mut walk = Walk::new(file, segment.bytes(), limits.max_bytes.max(BATCH_HEADER_BYTES));
        let next = self.take(&mut walk, place, limits).ok().filter(|_| place.position < walk.end())?;
        Some((walk, place, next))
    }

    /// Finds the batch of `from` by the index.
    fn begin<'a>(
        &self,
        segment: &Arc<Segment>,
        file: &'a dyn DiskFile,
        from: Offset,
        limits: Limits,
    ) -> Result<(Walk<'a>, Place, Place), Fault> {
        // Room for the batches between the index entry and `from`.
        let step = limits.max_bytes.saturating_add(INDEX_INTERVAL_BYTES as usize).max(BATCH_HEADER_BYTES);
        let mut walk = Walk::new(file, segment.bytes(), step);
        let place = self.shared.locate(&mut walk, segment, file, Until::Offset(from))?;
        let next = self.take(&mut walk, place, limits)?;
        Ok((walk, place, next))
    }

    /// Verifies batches from `first` on, as many as the limits allow, all in the walk's buffer; returns the place behind
    /// the last.
    fn take(&self, walk: &mut Walk<'_>, first: Place, limits: Limits) -> Result<Place, Fault> {
        let (mut place, mut taken) = (first, 0);
        while place.position < walk.end() {
            let is_first = taken == 0;
            if !is_first && !walk.holds(place.position, BATCH_HEADER_BYTES) {
                break;
            }
            let header = match header_at(walk, place) {
                Err(Fault::Bad { .. }) if !is_first => break,
                header => header?,
            };
            let total = header.total_bytes();
            if is_first && header.next_offset() > limits.below {
                // Rightly so, or its header is damaged.
                self.verify(walk, place, &header)?;
            }
            let fits = taken + total <= limits.max_bytes || (is_first && limits.at_least_one);
            if header.next_offset() > limits.below || !fits || (!is_first && !walk.holds(place.position, total)) {
                break;
            }
            match self.verify(walk, place, &header) {
                Err(Fault::Bad { .. }) if !is_first => break,
                verified => verified?,
            }
            taken += total;
            place = next(place, &header);
        }
        Ok(place)
    }

    fn verify(&self, walk: &mut Walk<'_>, place: Place, header: &BatchHeader) -> Result<(), Fault> {
        let bad = |reason| Fault::Bad { position: place.position, offset: place.base, reason };
        check_at(walk, place, header)?;
        // The epoch is outside the CRC; the cache knows what it was.
        let epoch = self.shared.epochs.read().at(header.base_offset);
        if epoch.is_some_and(|(epoch, _)| epoch != header.leader_epoch) {
            return Err(bad(BatchError::Malformed("leader epoch is not the one of this offset")));
        }
        Ok(())
    }

    /// The first record of `segment` of `time` or later, in `log start..below`.
    fn search(
        &self,
        segment: &Arc<Segment>,
        time: Timestamp,
        below: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, Fault> {
        let file = self.shared.file(segment).map_err(Fault::from)?;
        let mut walk = Walk::new(&*file, segment.bytes(), SEARCH_STEP_BYTES);
        let mut place = self.shared.locate(&mut walk, segment, &*file, Until::Time(time.0))?;
        while place.position < walk.end() && place.base < below {
            let header = header_at(&mut walk, place)?;
            if header.max_timestamp >= time && header.next_offset() > self.shared.start() {
                let found = self.record_at(&mut walk, place, &header, time)?;
                if let Some(found) = found {
                    return Ok(Some(found).filter(|(offset, _)| *offset < below));
                }
            }
            place = next(place, &header);
        }
        Ok(None)
    }

    /// The first record of the largest timestamp in `log start..below`, by looking at every batch.
    fn newest(&self, segment: &Arc<Segment>, below: Offset) -> Result<Option<(Offset, Timestamp)>, Fault> {
        let file = self.shared.file(segment).map_err(Fault::from)?;
        let start = self.shared.start();
        let mut walk = Walk::new(&*file, segment.bytes(), SEARCH_STEP_BYTES);
        let mut place = Place { position: 0, base: segment.base, max_before: 0 };
        let mut first: Option<(Offset, Timestamp)> = None;
        let mut best: Option<(Place, BatchHeader)> = None;
        while place.position < walk.end() {
            let header = header_at(&mut walk, place)?;
            if header.next_offset() > below {
                break;
            }
            if header.base_offset < start && header.next_offset() > start {
                first = self.newest_of(&mut walk, place, &header)?;
            } else if header.base_offset >= start
                && header.record_count > 0
                && best.is_none_or(|(_, best)| header.max_timestamp > best.max_timestamp)
            {
                best = Some((place, header));
            }
            place = next(place, &header);
        }
        match best {
            Some((place, header)) if first.is_none_or(|(_, time)| time < header.max_timestamp) => {
                self.record_at(&mut walk, place, &header, header.max_timestamp)
            }
            _ => Ok(first),
        }
    }

    /// The same of the batch in which the log starts.
    fn newest_of(
        &self,
        walk: &mut Walk<'_>,
        place: Place,
        header: &BatchHeader,
    ) -> Result<Option<(Offset, Timestamp)>, Fault> {
        let bytes = Bytes::copy_from_slice(walk.window(place.position, header.total_bytes())?);
        let Ok(records) = RecordBatch::parse(bytes).and_then(|batch| batch.records()) else { return Ok(None) };
        let mut best: Option<(Offset, Timestamp)> = None;
        for record in records.map_while(Result::ok).filter(|record| record.offset >= self.shared.start()) {
            if best.is_none_or(|(_, time)| record.timestamp > time) {
                best = Some((record.offset, record.timestamp));
            }
        }
        Ok(best)
    }

    /// The first record of a batch of `time` or later. Records that cannot be decoded (the producer's bytes are kept as
    /// they came) are represented by their batch.
    fn record_at(
        &self,
        walk: &mut Walk<'_>,
        place: Place,
        header: &BatchHeader,
        time: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, Fault> {
        self.verify(walk, place, header)?;
        let bytes = Bytes::copy_from_slice(walk.window(place.position, header.total_bytes())?);
        let start = self.shared.start();
        let whole = Some((header.base_offset.max(start), header.max_timestamp));
        let Ok(records) = RecordBatch::parse(bytes).and_then(|batch| batch.records()) else { return Ok(whole) };
        for record in records {
            match record {
                Ok(record) if record.timestamp >= time && record.offset >= start => {
                    return Ok(Some((record.offset, record.timestamp)));
                }
                Ok(_) => {}
                Err(_) => return Ok(whole),
            }
        }
        Ok(None)
    }
}

#[derive(Clone, Copy)]
struct Limits {
    below: Offset,
    max_bytes: usize,
    at_least_one: bool,
}

fn next(place: Place, header: &BatchHeader) -> Place {
    Place { position: place.position + header.total_bytes() as u64, base: header.next_offset(), ..place }
}

/// Are there batches, and all of them empty?
fn is_without_records(batches: &[u8]) -> bool {
    !batches.is_empty() && headers(batches).all(|header| header.record_count == 0)
}

fn last_header(batches: &[u8]) -> Option<BatchHeader> {
    headers(batches).last()
}

fn headers(mut batches: &[u8]) -> impl Iterator<Item = BatchHeader> {
    std::iter::from_fn(move || {
        let header = BatchHeader::parse(batches).ok()?;
        batches = batches.get(header.total_bytes()..)?;
        Some(header)
    })
}
