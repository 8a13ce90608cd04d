//! Segment files: appends, truncation, purging, recovery. Blocking, and used by one thread.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rafka_log::StorageError;
use rafka_log::atomic_file;
use rafka_log::disk::{Disk, DiskFile};
use rafka_model::cbor;
use rafka_model::limits::METADATA_GROUP_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::error::OpenError;
use super::super::types::{LogId, RaftEntry, Vote};
use super::frame::{self, FRAME_HEADER_BYTES, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, Tail};

const VOTE: &str = "vote";
const PURGED: &str = "purged";
const SEGMENT: &str = ".log";
const MARK_BYTES_MAX: usize = 4096;

/// Where the payload of an entry lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) position: u32,
    pub(super) length: u32,
}

/// Why the disk did not take a write.
#[derive(Clone, Debug)]
pub(super) enum WriteError {
    /// No space; the same write may be tried again.
    Full(StorageError),
    /// Never to be tried again.
    Fatal(StorageError),
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> Self {
        // After a failed sync no one knows what the disk holds, whatever the reason was.
        let retry = error.is_full() && !error.operation.starts_with("sync");
        if retry { Self::Full(error) } else { Self::Fatal(error) }
    }
}

/// What a log directory held.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
}

pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    group: u32,
    segment_bytes: u64,
    /// Older segments: first and last position in the log.
    sealed: VecDeque<(u64, u64)>,
    active: Option<Active>,
    /// Last known commit, and whether a segment on disk says so.
    committed: Option<LogId>,
    committed_written: bool,
}

struct Active {
    base: u64,
    file: Arc<dyn DiskFile>,
    end: u32,
    synced: u32,
    /// Position in the log that the next entry has.
    next: u64,
}

impl Writer {
    /// Opens or creates the log in `dir`, cuts a torn tail and hands every entry to `keep`, oldest first.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        group: u32,
        segment_bytes: u64,
        mut keep: impl FnMut(RaftEntry, Place),
    ) -> Result<(Self, Recovered), OpenError> {
        disk.create_dir_all(dir).map_err(|error| StorageError::new("create", dir, &error))?;
        // A log whose directory vanishes with the power is lost as a whole.
        for parent in dir.ancestors().skip(1).take(2).filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(|error| StorageError::new("sync", parent, &error))?;
        }
        let mut recovered = Recovered {
            vote: read_mark(&*disk, &dir.join(VOTE))?,
            purged: read_mark(&*disk, &dir.join(PURGED))?,
            ..Recovered::default()
        };
        let mut writer = Self {
            disk,
            dir: dir.to_owned(),
            group,
            segment_bytes,
            sealed: VecDeque::new(),
            active: None,
            committed: None,
            committed_written: true,
        };
        let bases = writer.segments()?;
        let mut last: Option<LogId> = None;
        for (nth, base) in bases.iter().enumerate() {
            let newest = nth + 1 == bases.len();
            writer.recover_segment(*base, newest, &mut recovered, &mut last, &mut keep)?;
        }
        // So may names that a killed process had made or removed: what is shown from here on stays.
        writer.disk.sync_dir(dir).map_err(|error| StorageError::new("sync the directory of", dir, &error))?;
        recovered.committed = recovered.committed.max(recovered.purged);
        writer.committed = recovered.committed;
        Ok((writer, recovered))
    }

    /// Bases of the segments there are, ascending; unfinished files are removed.
    fn segments(&self) -> Result<Vec<u64>, StorageError> {
        let names = self.disk.list(&self.dir).map_err(|error| StorageError::new("list", &self.dir, &error))?;
        let mut bases = Vec::new();
        for name in names {
            if name.ends_with(atomic_file::UNFINISHED) {
                let path = self.dir.join(&name);
                self.disk.remove(&path).map_err(|error| StorageError::new("remove", &path, &error))?;
            } else if let Some(digits) = name.strip_suffix(SEGMENT)
                && let Ok(base) = digits.parse()
                && digits.len() == 20
            {
                bases.push(base);
            }
        }
        bases.sort_unstable();
        Ok(bases)
    }

    fn recover_segment(
        &mut self,
        base: u64,
        newest: bool,
        recovered: &mut Recovered,
        last: &mut Option<LogId>,
        keep: &mut impl FnMut(RaftEntry, Place),
    ) -> Result<(), OpenError> {
        let path = self.path(base);
        let damaged = |position: u64, reason: String| OpenError::Damaged { file: path.clone(), position, reason };
        let file = self.disk.open(&path).map_err(|error| StorageError::new("open", &path, &error))?;
        let length = file.len().map_err(|error| StorageError::new("read", &path, &error))?;
        if length > SEGMENT_BYTES_MAX {
            return Err(damaged(SEGMENT_BYTES_MAX, format!("{length} bytes are more than a segment holds")));
        }
        let mut bytes = Vec::new();
        file.read_to(&mut bytes, length as usize, 0).map_err(|error| StorageError::new("read", &path, &error))?;
        let scan = frame::scan(&bytes, base, self.group);
        match scan.tail {
            Tail::Whole => {}
            Tail::Torn(_) if newest => {}
            // A segment is synced to its end before the next one is begun.
            Tail::Torn(reason) | Tail::Damaged(reason) => return Err(damaged(scan.end.into(), reason)),
        }
        for (header, position) in &scan.entries {
            if recovered.purged.is_some_and(|purged| header.id.index <= purged.index) {
                continue;
            }
            let expected = last.or(recovered.purged).map(|before: LogId| before.index + 1);
            if expected.is_some_and(|index| index < header.id.index) {
                return Err(OpenError::Missing { dir: self.dir.clone(), index: expected.unwrap_or(0) });
            }
            if last.is_some_and(|last| header.id.index <= last.index || header.id.leader_id < last.leader_id) {
                let reason = format!("entry {} is also in an older file", header.id.index);
                return Err(damaged(u64::from(*position) - FRAME_HEADER_BYTES as u64, reason));
            }
            let (from, length) = (*position as usize, header.length as usize);
            // A copy: a slice would keep the whole segment in memory for one entry.
            let entry = frame::entry(header, Bytes::copy_from_slice(&bytes[from..from + length]))
                .map_err(|reason| damaged(u64::from(*position), reason))?;
            *last = Some(header.id);
            keep(entry, Place { segment: base, position: *position, length: header.length });
        }
        recovered.committed = recovered.committed.max(scan.committed);
        self.adopt(base, newest, file, &scan, length)?;
        Ok(())
    }

    /// Takes a scanned segment over: the newest for appending, cut to its good part, others as sealed.
    fn adopt(
        &mut self,
        base: u64,
        newest: bool,
        file: Arc<dyn DiskFile>,
        scan: &frame::Scan,
        length: u64,
    ) -> Result<(), StorageError> {
        let path = self.path(base);
        let next = scan.entries.last().map_or(base, |(header, _)| header.id.index + 1);
        if !newest {
            self.sealed.push_back((base, next.saturating_sub(1)));
            return Ok(());
        }
        if (scan.end as usize) < SEGMENT_HEADER_BYTES {
            // The crash came while the file was being made.
            return self.remove_segments(&[base]);
        }
        if u64::from(scan.end) < length {
            file.truncate(scan.end.into()).map_err(|error| StorageError::new("truncate", &path, &error))?;
        }
        // What a killed process had not synced may still be lost, and would count as synced.
        file.sync_data().map_err(|error| StorageError::new("sync", &path, &error))?;
        self.active = Some(Active { base, file, end: scan.end, synced: scan.end, next });
        Ok(())
    }

    /// Writes and syncs as many of `entries` as belong into one segment, and takes those off. After an error that is
    /// [`WriteError::Full`] the same call can be made again.
    pub(super) fn append(&mut self, entries: &mut VecDeque<RaftEntry>) -> Result<Vec<(u64, Place)>, WriteError> {
        let Some(first) = entries.front() else { return Ok(Vec::new()) };
        let fits = |active: &Active| active.next == first.log_id.index && u64::from(active.end) < self.segment_bytes;
        if !self.active.as_ref().is_some_and(fits) {
            self.roll(first.log_id.index)?;
        }
        let path = self.path(self.active.as_ref().map_or(0, |active| active.base));
        let Some(active) = &mut self.active else { return Ok(Vec::new()) };
        let mut buffer = Vec::new();
        let mut places: Vec<(u64, Place)> = Vec::new();
        for entry in entries.iter() {
            let at = u64::from(active.end) + buffer.len() as u64;
            if !places.is_empty() && (at >= self.segment_bytes || buffer.len() >= METADATA_GROUP_BYTES_MAX) {
                break;
            }
            let payload = frame::payload(entry).map_err(|error| unencodable(&path, &error))?;
            frame::put_entry(&mut buffer, entry, &payload, active.synced);
            let position = at as u32 + FRAME_HEADER_BYTES as u32;
            places.push((entry.log_id.index, Place { segment: active.base, position, length: payload.len() as u32 }));
        }
        let mark = self.committed.filter(|committed| !self.committed_written && committed.index < active.next);
        if let Some(committed) = mark {
            frame::put_committed(&mut buffer, committed, active.synced);
        }
        let written = active.file.write_at(&[&buffer], active.end.into());
        written.map_err(|error| StorageError::new("write", &path, &error))?;
        active.file.sync_data().map_err(|error| StorageError::new("sync", &path, &error))?;
        active.end += buffer.len() as u32;
        active.synced = active.end;
        active.next += places.len() as u64;
        self.committed_written |= mark.is_some();
        entries.drain(..places.len());
        Ok(places)
    }

    /// Notes what is committed; written with the next append, or by [`Self::write_committed`].
    pub(super) fn set_committed(&mut self, committed: Option<LogId>) {
        if self.committed != committed {
            self.committed = committed;
            self.committed_written = committed.is_none();
        }
    }

    /// Writes the commit mark without syncing. It also tells a later recovery that everything before was synced.
    pub(super) fn write_committed(&mut self) -> Result<(), WriteError> {
        let (Some(active), Some(committed)) = (&mut self.active, self.committed) else { return Ok(()) };
        if self.committed_written || committed.index >= active.next || u64::from(active.end) >= self.segment_bytes {
            return Ok(());
        }
        let mut buffer = Vec::with_capacity(FRAME_HEADER_BYTES);
        frame::put_committed(&mut buffer, committed, active.synced);
        let (file, end) = (active.file.clone(), active.end);
        active.end += buffer.len() as u32;
        self.committed_written = true;
        file.write_at(&[&buffer], end.into()).map_err(|error| {
            if let Some(active) = &mut self.active {
                active.end = end;
            }
            self.committed_written = false;
            StorageError::new("write", &self.dir, &error).into()
        })
    }

    /// Saves the vote, durably.
    pub(super) fn save_vote(&self, vote: &Vote) -> Result<(), WriteError> {
        Ok(write_mark(&*self.disk, &self.dir.join(VOTE), vote)?)
    }

    /// Drops every entry behind `last`, durably; all of them if there is no `last`.
    pub(super) fn truncate_after(&mut self, last: Option<(u64, Place)>) -> Result<(), WriteError> {
        let keep = last.map(|(_, place)| place.segment);
        let active = self.active.take();
        let mut bases: Vec<u64> = self.sealed.iter().map(|(base, _)| *base).collect();
        bases.extend(active.as_ref().map(|active| active.base));
        // From the end backwards, so that a crash in between leaves no hole.
        let gone: Vec<u64> = bases.into_iter().rev().filter(|base| keep.is_none_or(|keep| *base > keep)).collect();
        self.remove_segments(&gone).map_err(WriteError::Fatal)?;
        self.sealed.retain(|(base, _)| !gone.contains(base));
        if let Some((index, place)) = last {
            let path = self.path(place.segment);
            let end = place.position + place.length;
            let failed = |operation| {
                let path = path.clone();
                move |error: std::io::Error| WriteError::Fatal(StorageError::new(operation, &path, &error))
            };
            let file = self.disk.open(&path).map_err(failed("open"))?;
            file.truncate(end.into()).map_err(failed("truncate"))?;
            file.sync_data().map_err(failed("sync"))?;
            self.sealed.retain(|(base, _)| *base != place.segment);
            self.active = Some(Active { base: place.segment, file, end, synced: end, next: index + 1 });
        }
        self.committed_written = self.committed.is_none();
        Ok(())
    }

    /// Forgets the entries up to `upto`: from now on the log begins behind it. Frees whole segments.
    pub(super) fn purge(&mut self, upto: LogId) -> Result<(), WriteError> {
        write_mark(&*self.disk, &self.dir.join(PURGED), &upto)?;
        let mut gone: Vec<u64> = Vec::new();
        gone.extend(self.sealed.iter().take_while(|(_, last)| *last <= upto.index).map(|(base, _)| *base));
        if self.active.as_ref().is_some_and(|active| active.next <= upto.index + 1) {
            gone.extend(self.active.take().map(|active| active.base));
            self.committed_written = self.committed.is_none();
        }
        self.remove_segments(&gone).map_err(WriteError::Fatal)?;
        self.sealed.retain(|(base, _)| !gone.contains(base));
        Ok(())
    }

    /// Seals the active segment, which is synced already, and begins one whose first entry is `base`.
    fn roll(&mut self, base: u64) -> Result<(), WriteError> {
        let path = self.path(base);
        let failed = |operation| {
            let path = path.clone();
            move |error: std::io::Error| StorageError::new(operation, &path, &error)
        };
        if let Some(active) = &mut self.active
            && active.synced < active.end
        {
            // A commit mark: the rule that only the newest segment may be torn holds for it too.
            active.file.sync_data().map_err(failed("sync the segment before"))?;
            active.synced = active.end;
        }
        let file = self.disk.create(&path).map_err(failed("create"))?;
        file.write_at(&[&frame::segment_header(base, self.group)], 0).map_err(failed("write"))?;
        file.sync_data().map_err(failed("sync"))?;
        self.disk.sync_dir(&self.dir).map_err(failed("sync the directory of"))?;
        if let Some(active) = self.active.take() {
            self.sealed.push_back((active.base, active.next.saturating_sub(1)));
        }
        let end = SEGMENT_HEADER_BYTES as u32;
        self.active = Some(Active { base, file, end, synced: end, next: base });
        Ok(())
    }

    fn remove_segments(&self, bases: &[u64]) -> Result<(), StorageError> {
        for base in bases {
            let path = self.path(*base);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::new("remove", &path, &error));
                }
                _ => {}
            }
        }
        if bases.is_empty() {
            return Ok(());
        }
        self.disk.sync_dir(&self.dir).map_err(|error| StorageError::new("sync the directory of", &self.dir, &error))
    }

    fn path(&self, base: u64) -> PathBuf {
        segment_path(&self.dir, base)
    }
}

pub(super) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}{SEGMENT}"))
}

fn unencodable(path: &Path, error: &cbor::CborError) -> StorageError {
    StorageError::new("encode an entry of", path, &std::io::Error::other(error.to_string()))
}

fn write_mark<T: Serialize>(disk: &dyn Disk, path: &Path, mark: &T) -> Result<(), StorageError> {
    let bytes = cbor::encode(mark, MARK_BYTES_MAX).map_err(|error| unencodable(path, &error))?;
    atomic_file::write(disk, path, &bytes)
}

fn read_mark<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Result<Option<T>, OpenError> {
    let Some(bytes) = atomic_file::read(disk, path, MARK_BYTES_MAX)? else { return Ok(None) };
    let mark = cbor::decode(&bytes, MARK_BYTES_MAX);
    mark.map(Some).map_err(|error| OpenError::Damaged { file: path.to_owned(), position: 0, reason: error.to_string() })
}
