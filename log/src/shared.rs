//! What the writer, its readers and its flushes share.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rafka_model::limits::SEALED_FILES_MAX;
use rafka_model::{BatchError, BatchHeader, Offset};

use crate::checkpoint::Point;
use crate::disk::{Disk, DiskFile};
use crate::epochs::EpochCache;
use crate::error::{Corruption, ReadError, StorageError};
use crate::flush::FlushState;
use crate::index::{Entry, Key, NO_TIMESTAMP};
use crate::segment::Segment;
use crate::walk::Walk;

/// Ends of reads that a log remembers.
const CURSORS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) index_interval: AtomicU32,
    segments: RwLock<Vec<Arc<Segment>>>,
    start: AtomicI64,
    end: AtomicI64,
    /// Counts truncations and removals: a read that overlapped one may have seen bytes of two histories.
    generation: AtomicU64,
    pub(crate) epochs: RwLock<EpochCache>,
    pub(crate) flush: Mutex<FlushState>,
    pub(crate) poisoned: AtomicBool,
    /// Bytes appended since the log was opened, with those that were unflushed then.
    pub(crate) appended_bytes: AtomicU64,
    /// Counts changes of names in the directory.
    pub(crate) dir_changes: AtomicU64,
    /// A compaction of this log is planned, running or waiting to be applied.
    pub(crate) compacting: AtomicBool,
    handles: Mutex<VecDeque<Arc<Segment>>>,
    /// Where the last few reads ended, newest last: sequential readers need no index.
    cursors: Mutex<VecDeque<Cursor>>,
}

/// The batch at `offset` begins at byte `position` of `segment`: a hint, as the index is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Cursor {
    offset: Offset,
    segment: Offset,
    position: u64,
}

/// Why a batch is not where it should be.
pub(crate) enum Fault {
    Io(io::Error),
    Storage(StorageError),
    Bad { position: u64, offset: Offset, reason: BatchError },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// A batch of a segment, or its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) position: u64,
    pub(crate) base: Offset,
    /// Largest timestamp of the segment before it.
    pub(crate) max_before: i64,
}

/// When to stop a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// At the batch that holds this offset.
    Offset(Offset),
    /// At the first batch with a record of this time or later.
    Time(i64),
}

impl Until {
    fn reached(self, header: &BatchHeader) -> bool {
        match self {
            Self::Offset(offset) => header.next_offset() > offset,
            Self::Time(time) => header.max_timestamp.0 >= time,
        }
    }
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, index_interval: u32) -> Self {
        Self {
            disk,
            dir,
            index_interval: AtomicU32::new(index_interval),
            segments: RwLock::default(),
            start: AtomicI64::new(0),
            end: AtomicI64::new(0),
            generation: AtomicU64::new(0),
            epochs: RwLock::default(),
            flush: Mutex::default(),
            poisoned: AtomicBool::new(false),
            appended_bytes: AtomicU64::new(0),
            dir_changes: AtomicU64::new(1),
            compacting: AtomicBool::new(false),
            handles: Mutex::default(),
            cursors: Mutex::default(),
        }
    }

    pub(crate) fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::Acquire))
    }

    pub(crate) fn set_start(&self, start: Offset) {
        self.start.store(start.0, Ordering::Release);
    }

    pub(crate) fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    pub(crate) fn set_end(&self, end: Offset) {
        self.end.store(end.0, Ordering::Release);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn interval(&self) -> u32 {
        self.index_interval.load(Ordering::Relaxed)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.bytes()).sum()
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().clone()
    }

    pub(crate) fn edit_segments(&self, edit: impl FnOnce(&mut Vec<Arc<Segment>>)) {
        edit(&mut self.segments.write());
    }

    /// The segment in which `offset` is or would be.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let next = segments.partition_point(|segment| segment.base <= offset);
        segments.get(next.checked_sub(1)?).cloned()
    }

    /// The open file of a segment. Of closed segments only the last few used stay open.
    pub(crate) fn file(&self, segment: &Arc<Segment>) -> Result<Arc<dyn DiskFile>, StorageError> {
        let mut slot = segment.file().lock();
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let opened = self.disk.open(&segment.path);
        let file = opened.map_err(|error| StorageError::new("open", &segment.path, &error))?;
        *slot = Some(file.clone());
        drop(slot);
        self.keep_open(segment);
        Ok(file)
    }

    /// Counts a closed segment among those whose file is open, and closes the one that was opened longest ago.
    pub(crate) fn keep_open(&self, segment: &Arc<Segment>) {
        let oldest = {
            let mut handles = self.handles.lock();
            handles.push_back(segment.clone());
            (handles.len() > SEALED_FILES_MAX).then(|| handles.pop_front()).flatten()
        };
        if let Some(oldest) = oldest.filter(|oldest| oldest.is_sealed()) {
            oldest.file().lock().take();
        }
    }

    pub(crate) fn forget_file(&self, segment: &Arc<Segment>) {
        self.handles.lock().retain(|kept| !Arc::ptr_eq(kept, segment));
        segment.file().lock().take();
    }

    /// Keeps the file of a segment open as long as anybody holds the segment: its name is about to mean another.
    pub(crate) fn pin(&self, segment: &Arc<Segment>) -> Result<(), StorageError> {
        self.handles.lock().retain(|kept| !Arc::ptr_eq(kept, segment));
        let mut slot = segment.file().lock();
        if slot.is_none() {
            let opened = self.disk.open(&segment.path);
            *slot = Some(opened.map_err(|error| StorageError::new("open", &segment.path, &error))?);
        }
        Ok(())
    }

    /// Forgets where reads ended.
    pub(crate) fn forget_cursors(&self) {
        self.cursors.lock().clear();
    }

    /// The place of the batch that begins at `offset`, if it is known without looking. Still to be verified.
    pub(crate) fn resume(&self, segment: &Segment, offset: Offset) -> Option<Place> {
        let place = |position| Place { position, base: offset, max_before: NO_TIMESTAMP };
        if offset == segment.base {
            return Some(place(0));
        }
        let cursors = self.cursors.lock();
        let cursor = cursors.iter().rfind(|cursor| cursor.offset == offset && cursor.segment == segment.base)?;
        Some(place(cursor.position))
    }

    /// Remembers where a read ended.
    pub(crate) fn pause(&self, segment: &Segment, next: Place) {
        let cursor = Cursor { offset: next.base, segment: segment.base, position: next.position };
        let mut cursors = self.cursors.lock();
        if cursors.contains(&cursor) {
            return;
        }
        if cursors.len() >= CURSORS_MAX {
            cursors.pop_front();
        }
        cursors.push_back(cursor);
    }

    /// The index entry from which to walk towards `key`; built again if it is damaged. Without one, the segment's start.
    fn floor(&self, segment: &Arc<Segment>, file: &dyn DiskFile, key: Key) -> Option<Entry> {
        let len = segment.bytes();
        if let Ok(found) = segment.index.floor(&*self.disk, key, len) {
            return found;
        }
        self.rebuild(segment, file);
        segment.index.floor(&*self.disk, key, len).unwrap_or_default()
    }

    pub(crate) fn rebuild(&self, segment: &Arc<Segment>, file: &dyn DiskFile) {
        if segment.is_removed() {
            return;
        }
        match segment.index.rebuild(&*self.disk, file, segment.bytes(), self.interval()) {
            Ok(()) => tracing::info!(segment = %segment.path.display(), "index built again"),
            // Reads still work, slowly.
            Err(error) => tracing::warn!(segment = %segment.path.display(), %error, "cannot build index again"),
        }
    }

    /// Finds the batch at which `until` is reached, by the index and a short walk.
    pub(crate) fn locate(
        &self,
        walk: &mut Walk<'_>,
        segment: &Arc<Segment>,
        file: &dyn DiskFile,
        until: Until,
    ) -> Result<Place, Fault> {
        let key = match until {
            // Too large for the index means behind everything in it.
            Until::Offset(offset) => Key::Offset(u32::try_from(offset.0 - segment.base.0).unwrap_or(u32::MAX)),
            Until::Time(time) => Key::Time(time),
        };
        let front = Place { position: 0, base: segment.base, max_before: NO_TIMESTAMP };
        let Some(entry) = self.floor(segment, file, key) else {
            return step_until(walk, front, until);
        };
        let place = Place {
            position: u64::from(entry.position),
            base: segment.base.plus(i64::from(entry.relative)),
            max_before: entry.max_before,
        };
        if place.position >= walk.end() {
            return self.locate_slowly(walk, segment, file, until);
        }
        match step_until(walk, place, until) {
            // The index points at something else. If the segment is whole, the index is wrong.
            Err(fault @ Fault::Bad { position, .. }) if position == place.position => {
                self.locate_slowly(walk, segment, file, until).map_err(|_| fault)
            }
            found => found,
        }
    }

    /// Finds the batch from the segment's start, and builds the index again if that works.
    fn locate_slowly(
        &self,
        walk: &mut Walk<'_>,
        segment: &Arc<Segment>,
        file: &dyn DiskFile,
        until: Until,
    ) -> Result<Place, Fault> {
        let front = Place { position: 0, base: segment.base, max_before: NO_TIMESTAMP };
        let found = step_until(walk, front, until)?;
        self.rebuild(segment, file);
        Ok(found)
    }

    /// Largest timestamp of a segment; `None` without records.
    pub(crate) fn max_timestamp(&self, segment: &Arc<Segment>) -> Result<Option<i64>, StorageError> {
        let real = |max: i64| Some(max).filter(|max| *max != NO_TIMESTAMP);
        if let Some(max) = segment.known_max_timestamp() {
            return Ok(real(max));
        }
        let len = segment.bytes();
        let mut end = segment.index.end(&*self.disk, len);
        if end.is_err() {
            self.rebuild(segment, &*self.file(segment)?);
            end = segment.index.end(&*self.disk, len);
        }
        let max = match end {
            Ok(end) => end.max_before,
            Err(_) => self.walk_max_timestamp(segment)?,
        };
        segment.learn_max_timestamp(max);
        Ok(real(max))
    }

    /// By reading every header, as far as they follow one another.
    fn walk_max_timestamp(&self, segment: &Arc<Segment>) -> Result<i64, StorageError> {
        let file = self.file(segment)?;
        let mut walk = Walk::new(&*file, segment.bytes(), 4096);
        let (mut at, mut max) = (0, NO_TIMESTAMP);
        while at < walk.end() {
            let found = walk.header(at).map_err(|error| StorageError::new("read", &segment.path, &error))?;
            let Ok(header) = found else { break };
            max = max.max(header.max_timestamp.0);
            at += header.total_bytes() as u64;
        }
        Ok(max)
    }

    /// The place behind the last batch of `segment`, which holds `max_timestamp`.
    pub(crate) fn point(&self, segment: &Segment, index_entries: u32) -> Point {
        Point {
            offset: self.end(),
            segment: segment.base,
            position: segment.bytes(),
            index_entries,
            max_timestamp: segment.known_max_timestamp().unwrap_or(NO_TIMESTAMP),
        }
    }
}

/// Steps from batch to batch until `until` is reached or the segment ends.
pub(crate) fn step_until(walk: &mut Walk<'_>, from: Place, until: Until) -> Result<Place, Fault> {
    let mut place = from;
    let mut before: Option<(Place, BatchHeader)> = None;
    while place.position < walk.end() {
        let header = match (header_at(walk, place), before) {
            (Ok(header), _) => header,
            // Perhaps it is the batch before whose header led astray.
            (Err(fault), Some((place, header))) => {
                check_at(walk, place, &header)?;
                return Err(fault);
            }
            (Err(fault), None) => return Err(fault),
        };
        if until.reached(&header) {
            break;
        }
        if let Until::Time(_) = until {
            // Whether it was reached is only as true as the header.
            check_at(walk, place, &header)?;
        }
        before = Some((place, header));
        place = Place {
            position: place.position + header.total_bytes() as u64,
            base: header.next_offset(),
            max_before: place.max_before.max(header.max_timestamp.0),
        };
    }
    match until {
        Until::Offset(_) if place.position >= walk.end() => {
            let reason = BatchError::Malformed("the segment ends before this offset");
            Err(Fault::Bad { position: place.position, offset: place.base, reason })
        }
        _ => Ok(place),
    }
}

/// Checks the CRC of the batch at `place`.
pub(crate) fn check_at(walk: &mut Walk<'_>, place: Place, header: &BatchHeader) -> Result<(), Fault> {
    let bad = |reason| Fault::Bad { position: place.position, offset: place.base, reason };
    walk.check(place.position, header)?.map_err(bad)
}

/// The header at `place`, which must be that of the batch expected there.
pub(crate) fn header_at(walk: &mut Walk<'_>, place: Place) -> Result<BatchHeader, Fault> {
    let bad = |reason| Fault::Bad { position: place.position, offset: place.base, reason };
    let header = walk.header(place.position)?.map_err(bad)?;
    if header.base_offset != place.base {
        return Err(bad(BatchError::Malformed("base offset does not follow the batch before")));
    }
    Ok(header)
}

impl Fault {
    pub(crate) fn of(self, segment: &Segment) -> ReadError {
        match self {
            Self::Io(error) => ReadError::Storage(StorageError::new("read", &segment.path, &error)),
            Self::Storage(error) => ReadError::Storage(error),
            Self::Bad { position, offset, reason } => ReadError::Corrupt(Corruption {
                segment: segment.path.clone(),
                position,
                offset,
                reason: reason.to_string(),
            }),
        }
    }
}
