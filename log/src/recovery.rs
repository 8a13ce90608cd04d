//! Opening a log after whatever happened to it.
//!
//! From the recovery point on every batch is verified: structure, CRC, offsets that follow one another, epochs that do not
//! go back. What an interrupted append leaves behind the last whole batch (part of a batch, preallocated zeros) is cut off.
//! Anything else that is wrong is damage, and what to do depends on what may have been lost:
//!
//! * After a *power loss* nothing behind the flushed point was promised: everything from the first bad batch on goes.
//! * When memory was kept, nothing may be wrong but the very end. A batch whose records are damaged stays where it is
//!   (reading it fails, its neighbours are served); if the log cannot be followed past it, opening fails and nothing is changed.

mod scan;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rafka_model::{Offset, Timestamp};

use crate::atomic_file::UNFINISHED;
use crate::checkpoint::{Checkpoint, Loaded, Point};
use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile};
use crate::epochs::EpochCache;
use crate::error::{Corruption, LogError, StorageError};
use crate::index::{Entry, NO_TIMESTAMP};
use crate::partition::{Active, PartitionLog};
use crate::segment::{CLEANED, REMOVED, Segment};
use crate::shared::Shared;
use scan::Scan;

/// Damaged batches that a report names.
pub(crate) const DAMAGED_MAX: usize = 16;

/// How the node stopped last time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shutdown {
    /// In order, or by the death of the process only: what had been written was kept by the operating system.
    MemoryKept,
    /// With the machine: what had not been synced may be lost.
    PowerLost,
    /// Does not matter: somebody decided to keep whatever can be read and to drop what cannot.
    Salvage,
}

impl Shutdown {
    /// From the clean-shutdown marker and the boot id.
    #[must_use]
    pub fn new(clean: bool, same_boot: bool) -> Self {
        if clean || same_boot { Self::MemoryKept } else { Self::PowerLost }
    }
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recovery {
    /// Bytes that were scanned.
    pub scanned_bytes: u64,
    /// Batches that were verified.
    pub batches: u64,
    /// Preallocated zeros that were cut off.
    pub zero_bytes: u64,
    /// Other bytes that were cut off: of appends that were never finished, or never synced before a power loss.
    pub cut_bytes: u64,
    /// Segments that were removed whole, for the same reason.
    pub segments_dropped: usize,
    /// Batches that are damaged and were kept: reads of them fail. At most 16 are named.
    pub damaged: Vec<Corruption>,
    /// The recovery point was missing or unusable: the whole log was scanned.
    pub scanned_all: bool,
    /// The leader-epoch cache was missing or damaged and was built again from the batches.
    pub epochs_rebuilt: bool,
}

/// One segment file, as it was found or as it shall be.
struct Piece {
    base: Offset,
    file: Option<Arc<dyn DiskFile>>,
    /// Bytes of the file.
    len: u64,
    /// Bytes of whole batches.
    valid: u64,
    /// Bytes to cut that are not zeros.
    torn: bool,
    max_timestamp: i64,
    index_entries: u32,
    entries: Vec<Entry>,
}

/// What a look at the files told.
struct Found {
    pieces: Vec<Piece>,
    /// Segments behind the end.
    dropped: Vec<Offset>,
    end: Offset,
    epochs: EpochCache,
    stored_epochs: Option<EpochCache>,
    /// What was bad may be dropped.
    lenient: bool,
    /// The log begins with a new, empty segment.
    anew: bool,
}

struct Opener<'a> {
    disk: Arc<dyn Disk>,
    dir: &'a Path,
    config: &'a LogConfig,
    report: Recovery,
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    config: &LogConfig,
    now: Timestamp,
    shutdown: Shutdown,
) -> Result<(PartitionLog, Recovery), LogError> {
    let mut opener = Opener { disk, dir, config, report: Recovery::default() };
    let (log, changed) = opener.open(now, shutdown)?;
    let report = opener.report;
    if changed {
        tracing::info!(dir = %dir.display(), ?report, "log recovered");
    }
    Ok((log, report))
}

impl Opener<'_> {
    fn open(&mut self, now: Timestamp, shutdown: Shutdown) -> Result<(PartitionLog, bool), LogError> {
        let mut bases = self.survey()?;
        let loaded = Checkpoint::load(&*self.disk, self.dir)?;
        let known = match loaded {
            Loaded::Known { checkpoint, .. } => Some(checkpoint),
            Loaded::Missing | Loaded::Damaged => None,
        };
        let mut checkpoint = known.unwrap_or_default();
        self.settle(&loaded, &mut checkpoint, &mut bases)?;
        let mut found = self.look(&bases, &loaded, shutdown)?;
        self.nothing_safe_is_missing(&found, known, shutdown)?;
        // From here on things are changed.
        let start = checkpoint.log_start.max(bases.first().copied().unwrap_or_default());
        let repaired = self.repair(&mut found, start)?;

        let shared = Arc::new(Shared::new(self.disk.clone(), self.dir.to_owned(), self.config.index_interval_bytes));
        shared.set_start(start);
        shared.set_end(found.end);
        let mut epochs_unsaved = found.stored_epochs.take().unwrap_or_default() != found.epochs;
        *shared.epochs.write() = std::mem::take(&mut found.epochs);
        let same_segment = found.pieces.last().is_some_and(|last| last.base == checkpoint.written.segment);
        let created = if known.is_some() && same_segment { checkpoint.segment_created } else { now };
        let (end, lenient, anew) = (found.end, found.lenient, found.anew);
        let (active, unflushed) = self.install(&shared, found.pieces, checkpoint.flushed, created)?;
        let saved = active.segment.index.save(&*self.disk).unwrap_or_default();
        if lenient {
            // Entries of batches that the crash took.
            let forgotten = active.segment.index.forget_behind(&*self.disk, saved);
            forgotten.map_err(|error| self.failed("cut the index of", &active.segment.path, &error))?;
        }
        let mut flushed = checkpoint.flushed;
        if known.is_none() || flushed.offset > end || anew {
            // Nothing is known to be synced; the next flush will know.
            flushed = restart_point(shared.segments().first().map_or(start, |first| first.base));
        }
        shared.appended_bytes.store(unflushed_bytes(&shared, flushed), Ordering::Release);
        shared.flush.lock().flushed = flushed;
        let claims_too_much = checkpoint.written.offset > end;
        if known.is_none() || claims_too_much || repaired || checkpoint.log_start != start {
            if std::mem::take(&mut epochs_unsaved) {
                // A checkpoint vouches for the epochs of what lies before it.
                shared.epochs.read().store(&*self.disk, self.dir)?;
            }
            let written = shared.point(&active.segment, saved);
            let sequence = checkpoint.sequence;
            checkpoint = Checkpoint {
                sequence,
                log_start: start,
                restarting: false,
                segment_created: created,
                written,
                flushed,
            };
            checkpoint.store_both(&*self.disk, self.dir, !matches!(loaded, Loaded::Missing))?;
        }
        let changed = repaired && known.is_some() || self.report.scanned_all || !self.report.damaged.is_empty();
        let mut log =
            PartitionLog::assemble(shared, self.config.clone(), active, unflushed, checkpoint, epochs_unsaved);
        log.find_snapshots()?;
        Ok((log, changed))
    }

    /// Finishes what the checkpoint says had been decided: a restart, removals before the log's start.
    fn settle(
        &mut self,
        loaded: &Loaded,
        checkpoint: &mut Checkpoint,
        bases: &mut Vec<Offset>,
    ) -> Result<(), LogError> {
        if matches!(loaded, Loaded::Known { settled: false, .. }) {
            // Before anything is done because of it.
            checkpoint.store_both(&*self.disk, self.dir, true)?;
            self.sync_dir()?;
        }
        if checkpoint.restarting {
            self.drop_segments(&std::mem::take(bases))?;
        }
        let kept = bases.partition_point(|base| *base <= checkpoint.log_start).saturating_sub(1);
        bases.drain(..kept).try_for_each(|base| self.remove_segment(base))
    }

    /// Scans what has to be scanned. Changes nothing.
    fn look(&mut self, bases: &[Offset], loaded: &Loaded, shutdown: Shutdown) -> Result<Found, LogError> {
        let (from, lenient) = self.begin_at(bases, loaded, shutdown)?;
        let stored_epochs = EpochCache::load(&*self.disk, self.dir)?;
        let epochs = self.epochs_before(bases, from, stored_epochs.as_ref())?;
        let interval = self.config.index_interval_bytes;
        let mut scan = Scan::new(&*self.disk, self.dir, lenient, interval, from.offset, epochs);
        let (mut pieces, mut dropped) = (Vec::new(), Vec::new());
        for (i, base) in bases.iter().enumerate() {
            let mut piece = self.piece(*base)?;
            if *base >= from.segment {
                let next = bases.get(i + 1).copied();
                scan.segment(&mut piece, if *base == from.segment { from } else { restart_point(*base) }, next)?;
                if next.is_some_and(|next| next != scan.expected) {
                    scan.gap(&piece)?;
                    dropped = bases[i + 1..].to_vec();
                }
            }
            pieces.push(piece);
            if !dropped.is_empty() {
                break;
            }
        }
        let end = scan.expected;
        let epochs = scan.finish(&mut self.report);
        Ok(Found { pieces, dropped, end, epochs, stored_epochs, lenient, anew: false })
    }

    /// Drops and cuts what does not belong to the log, and begins it if nothing is left; true if more than zeros went.
    fn repair(&mut self, found: &mut Found, start: Offset) -> Result<bool, LogError> {
        self.drop_segments(&found.dropped)?;
        let torn = self.cut(&mut found.pieces)?;
        found.epochs.truncate_end(found.end);
        if let Some((epoch, begin)) = found.stored_epochs.as_ref().and_then(EpochCache::last)
            && begin == found.end
        {
            // An epoch that had begun and written nothing.
            found.epochs.assign(epoch, begin);
        }
        found.anew = found.pieces.is_empty() || found.end < start;
        if found.anew {
            // Nothing is there, or nothing that counts.
            self.drop_segments(&found.pieces.iter().map(|piece| piece.base).collect::<Vec<_>>())?;
            found.epochs.clear();
            let path = self.dir.join(Segment::file_name(start));
            let file = self.disk.create(&path).map_err(|error| self.failed("create", &path, &error))?;
            found.pieces = vec![Piece { file: Some(file), ..self.piece(start)? }];
            found.end = start;
        }
        Ok(torn || found.anew || !found.dropped.is_empty())
    }

    /// Base offsets of the segments in the directory, ascending. Makes the directory if there is none; removes what
    /// an interrupted change left.
    fn survey(&self) -> Result<Vec<Offset>, LogError> {
        let mut names = match self.disk.list(self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.create_dir_all(self.dir).map_err(|error| self.failed("create", self.dir, &error))?;
                Vec::new()
            }
            Err(error) => return Err(self.failed("list", self.dir, &error)),
        };
        if self.finish_swaps(&names)? {
            names = self.disk.list(self.dir).map_err(|error| self.failed("list", self.dir, &error))?;
        }
        let mut bases: Vec<Offset> = names.iter().filter_map(|name| Segment::parse_name(name)).collect();
        bases.sort_unstable();
        for name in &names {
            let orphan = |base: &str| {
                Segment::parse_name(&format!("{base}.log")).is_some_and(|base| bases.binary_search(&base).is_err())
            };
            let index = name.strip_suffix(".index").or_else(|| name.strip_suffix(".timeindex"));
            if name.ends_with(REMOVED)
                || name.ends_with(CLEANED)
                || name.ends_with(UNFINISHED)
                || index.is_some_and(orphan)
            {
                let path = self.dir.join(name);
                self.disk.remove(&path).map_err(|error| self.failed("remove", &path, &error))?;
            }
        }
        Ok(bases)
    }

    /// Gives compacted files the place of the segments they were made of, as had been decided; true if there were any.
    fn finish_swaps(&self, names: &[String]) -> Result<bool, LogError> {
        let mut any = false;
        for name in names {
            let Some((base, end)) = Segment::parse_swap_name(name) else { continue };
            let old = names.iter().filter_map(|name| Segment::parse_name(name));
            old.filter(|old| (base..end).contains(old)).try_for_each(|old| self.remove_segment(old))?;
            let from = self.dir.join(name);
            let renamed = self.disk.rename(&from, &self.dir.join(Segment::file_name(base)));
            renamed.map_err(|error| self.failed("rename", &from, &error))?;
            any = true;
        }
        if any {
            self.sync_dir()?;
        }
        Ok(any)
    }

    /// From where to scan, and whether what is bad may be dropped.
    fn begin_at(&mut self, bases: &[Offset], loaded: &Loaded, shutdown: Shutdown) -> Result<(Point, bool), LogError> {
        let front = restart_point(bases.first().copied().unwrap_or_default());
        let lenient = shutdown != Shutdown::MemoryKept;
        let checkpoint = match loaded {
            Loaded::Known { checkpoint, .. } => checkpoint,
            // Nothing was ever synced: with the first sync, the recovery point is synced too.
            Loaded::Missing => return Ok((front, lenient)),
            // The same after a power loss; otherwise a rotten disk.
            Loaded::Damaged => {
                self.report.scanned_all = true;
                return Ok((front, lenient));
            }
        };
        let point = if lenient { checkpoint.flushed } else { checkpoint.written };
        if bases.is_empty() || point.offset <= front.offset && point.segment != front.segment {
            return Ok((front, lenient));
        }
        if bases.binary_search(&point.segment).is_ok() {
            let path = self.dir.join(Segment::file_name(point.segment));
            let len = self.disk.len(&path).map_err(|error| self.failed("look at", &path, &error))?;
            if point.position <= len && point.offset >= point.segment {
                return Ok((point, lenient));
            }
        }
        self.report.scanned_all = true;
        Ok((front, shutdown == Shutdown::Salvage))
    }

    /// The epochs of what lies before the scan.
    fn epochs_before(
        &mut self,
        bases: &[Offset],
        from: Point,
        stored: Option<&EpochCache>,
    ) -> Result<EpochCache, LogError> {
        if let Some(stored) = stored {
            let mut epochs = stored.clone();
            epochs.truncate_end(from.offset);
            return Ok(epochs);
        }
        let mut epochs = EpochCache::default();
        for base in bases.iter().filter(|base| **base <= from.segment && from.offset > **base) {
            self.report.epochs_rebuilt = true;
            let piece = self.piece(*base)?;
            let end = if *base == from.segment { from.position } else { piece.len };
            scan::collect_epochs(self.dir, &piece, &*self.disk, end, &mut epochs)?;
        }
        Ok(epochs)
    }

    fn nothing_safe_is_missing(
        &self,
        found: &Found,
        known: Option<Checkpoint>,
        shutdown: Shutdown,
    ) -> Result<(), LogError> {
        let end = found.end;
        let safe = match (known, shutdown) {
            (Some(checkpoint), Shutdown::MemoryKept) => checkpoint.written.offset,
            (Some(checkpoint), Shutdown::PowerLost) => checkpoint.flushed.offset,
            (None, _) | (_, Shutdown::Salvage) => return Ok(()),
        };
        if end >= safe || known.is_some_and(|checkpoint| safe <= checkpoint.log_start) {
            return Ok(());
        }
        let (base, position) = found.pieces.last().map_or((safe, 0), |piece| (piece.base, piece.valid));
        Err(Corruption {
            segment: self.dir.join(Segment::file_name(base)),
            position,
            offset: end,
            reason: format!("the log had been written up to offset {safe} and is missing from here"),
        }
        .into())
    }

    fn piece(&self, base: Offset) -> Result<Piece, LogError> {
        let path = self.dir.join(Segment::file_name(base));
        let len = self.disk.len(&path).map_err(|error| self.failed("look at", &path, &error))?;
        Ok(Piece {
            base,
            file: None,
            len,
            valid: len,
            torn: false,
            max_timestamp: NO_TIMESTAMP,
            index_entries: 0,
            entries: Vec::new(),
        })
    }

    /// Cuts files to their whole batches; true if any held more than zeros behind them.
    fn cut(&mut self, pieces: &mut [Piece]) -> Result<bool, LogError> {
        let mut torn = false;
        for piece in pieces.iter_mut().filter(|piece| piece.valid < piece.len) {
            let path = self.dir.join(Segment::file_name(piece.base));
            let file = piece.open(&*self.disk, &path)?;
            file.truncate(piece.valid).map_err(|error| self.failed("cut", &path, &error))?;
            if piece.torn {
                // Or a later power loss could bring old bytes back behind new ones.
                file.sync_data().map_err(|error| self.failed("sync", &path, &error))?;
                torn = true;
            }
            piece.len = piece.valid;
        }
        Ok(torn)
    }

    /// Makes segments of the pieces, and finds the closed ones that are not known to be synced.
    #[allow(clippy::type_complexity, reason = "said once")]
    fn install(
        &self,
        shared: &Arc<Shared>,
        mut pieces: Vec<Piece>,
        flushed: Point,
        created: Timestamp,
    ) -> Result<(Active, Vec<(Arc<Segment>, Arc<dyn DiskFile>)>), LogError> {
        let mut last = pieces.pop().expect("a log has a segment");
        let mut segments = Vec::new();
        let mut unflushed = Vec::new();
        for piece in &pieces {
            let segment = Arc::new(Segment::new_sealed(self.dir, piece.base, piece.valid));
            // The one of the recovery point too, even if the point is at its end: the cut that closed it may not be synced.
            if piece.base >= flushed.segment {
                unflushed.push((segment.clone(), shared.file(&segment)?));
            }
            segments.push(segment);
        }
        let path = self.dir.join(Segment::file_name(last.base));
        let file = last.open(&*self.disk, &path)?;
        let active =
            Segment::new_active(self.dir, last.base, file.clone(), last.valid, last.max_timestamp, last.index_entries);
        if last.index_entries == 0
            && last.entries.is_empty()
            && last.valid > u64::from(self.config.index_interval_bytes)
        {
            active.index.distrust();
        }
        for entry in last.entries.drain(..) {
            active.index.push(&*self.disk, entry);
        }
        let segment = Arc::new(active);
        segments.push(segment.clone());
        shared.edit_segments(|all| *all = segments);
        Ok((Active { segment, file, created }, unflushed))
    }

    fn drop_segments(&mut self, bases: &[Offset]) -> Result<(), LogError> {
        for base in bases.iter().rev() {
            self.remove_segment(*base)?;
            self.report.segments_dropped += 1;
        }
        if bases.is_empty() { Ok(()) } else { self.sync_dir() }
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        self.disk.sync_dir(self.dir).map_err(|error| self.failed("sync", self.dir, &error))
    }

    fn remove_segment(&self, base: Offset) -> Result<(), LogError> {
        for ending in ["index", "timeindex"] {
            // Not every segment has them.
            let _ = self.disk.remove(&self.dir.join(format!("{:020}.{ending}", base.0)));
        }
        let path = self.dir.join(Segment::file_name(base));
        self.disk.remove(&path).map_err(|error| self.failed("remove", &path, &error))
    }

    fn failed(&self, operation: &'static str, path: &Path, error: &io::Error) -> LogError {
        StorageError::new(operation, path, error).into()
    }
}

impl Piece {
    fn open(&mut self, disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, LogError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = disk.open(path).map_err(|error| StorageError::new("open", path, &error))?;
        self.file = Some(file.clone());
        Ok(file)
    }
}

/// Bytes of the log behind `flushed`.
fn unflushed_bytes(shared: &Shared, flushed: Point) -> u64 {
    let behind = |segment: &Segment| match segment.base {
        base if base < flushed.segment => 0,
        base if base == flushed.segment => segment.bytes().saturating_sub(flushed.position),
        _ => segment.bytes(),
    };
    shared.segments().iter().map(|segment| behind(segment)).sum()
}

/// The beginning of the segment that begins at `base`.
fn restart_point(base: Offset) -> Point {
    Point { offset: base, segment: base, position: 0, index_entries: 0, max_timestamp: NO_TIMESTAMP }
}
