//! Sparse indexes of a segment: by offset and by time.
//!
//! Entry *i* of both files describes one batch in the middle of the segment:
//!
//! ```text
//! .index      offset − base u32 │ position u32 │ CRC-32C u32                          where it is
//! .timeindex  largest timestamp of everything before it i64 │ offset − base u32 │ CRC  what is older
//! ```
//! A closed segment's last entry stands for its end: it carries the segment's length and its largest timestamp, and shows
//! that the files are whole. Each checksum covers the segment's base offset and *i* too, so that a stale or misplaced entry
//! is not taken for another. Indexes are hints: entries are verified, a reader verifies the batch an entry leads to, and
//! what is missing or wrong is built again from the segment.
//!
//! The newest entries are kept in memory (at most [`RECENT_MAX`]); older ones are searched in the files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_model::Offset;
use rafka_model::limits::INDEX_ENTRIES_MAX;

use crate::disk::{Disk, DiskFile};
use crate::walk::Walk;

const OFFSET_ENTRY_BYTES: usize = 12;
const TIME_ENTRY_BYTES: usize = 16;
const RECENT_MAX: usize = 512;
/// Headers are read in steps of this when an index is built again.
const REBUILD_STEP_BYTES: usize = 4096;

/// No timestamp at all: below every real one.
pub(crate) const NO_TIMESTAMP: i64 = i64::MIN;

/// One batch that can be found without walking to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// Base offset of the batch minus that of the segment.
    pub(crate) relative: u32,
    /// Byte of the segment at which the batch begins.
    pub(crate) position: u32,
    /// Largest timestamp of the batches before it.
    pub(crate) max_before: i64,
}

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// The last entry at or before this offset (relative).
    Offset(u32),
    /// The last entry before which everything is older than this.
    Time(i64),
}

/// The index cannot be used as it is: build it again.
#[derive(Debug)]
pub(crate) struct Damaged;

#[derive(Debug)]
pub(crate) struct Index {
    base: Offset,
    offsets: PathBuf,
    times: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    health: Health,
    sealed: bool,
    /// Entries in the files.
    saved: u32,
    /// Number of the first of `recent`; at most `saved`.
    first_recent: u32,
    recent: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Health {
    /// Not looked at since the log was opened.
    Unknown,
    Good,
    Damaged,
}

struct Files {
    base: Offset,
    offsets: Arc<dyn DiskFile>,
    times: Arc<dyn DiskFile>,
}

impl Index {
    /// Of a segment to which more is appended; its files hold `saved` entries.
    pub(crate) fn active(dir: &Path, base: Offset, saved: u32) -> Self {
        let health = if saved == 0 { Health::Good } else { Health::Unknown };
        Self::new(dir, base, "", State { health, sealed: false, saved, first_recent: saved, recent: Vec::new() })
    }

    /// Of a segment that is being written to take others' place; its files' names end in `ending`.
    pub(crate) fn aside(dir: &Path, base: Offset, ending: &str) -> Self {
        let health = Health::Good;
        Self::new(dir, base, ending, State { health, sealed: false, saved: 0, first_recent: 0, recent: Vec::new() })
    }

    /// Of a closed segment.
    pub(crate) fn sealed(dir: &Path, base: Offset) -> Self {
        let health = Health::Unknown;
        Self::new(dir, base, "", State { health, sealed: true, saved: 0, first_recent: 0, recent: Vec::new() })
    }

    fn new(dir: &Path, base: Offset, behind: &str, state: State) -> Self {
        let name = |ending: &str| dir.join(format!("{:020}.{ending}{behind}", base.0));
        Self { base, offsets: name("index"), times: name("timeindex"), state: Mutex::new(state) }
    }

    pub(crate) fn paths(&self) -> [&Path; 2] {
        [&self.offsets, &self.times]
    }

    /// Entries, saved or not.
    pub(crate) fn count(&self) -> u32 {
        self.state.lock().count()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count() >= INDEX_ENTRIES_MAX
    }

    /// Adds an entry behind the others. Never fails: an index that cannot be written gets sparser.
    pub(crate) fn push(&self, disk: &dyn Disk, entry: Entry) {
        let mut state = self.state.lock();
        self.check(disk, &mut state, None);
        if state.health == Health::Damaged {
            return;
        }
        state.recent.push(entry);
        if state.recent.len() >= RECENT_MAX {
            let saved = self.save_locked(disk, &mut state).is_ok();
            state.make_room(saved);
        }
    }

    /// Writes what is only in memory; returns the number of entries in the files.
    pub(crate) fn save(&self, disk: &dyn Disk) -> io::Result<u32> {
        let mut state = self.state.lock();
        if state.health != Health::Damaged {
            self.save_locked(disk, &mut state)?;
        }
        Ok(state.saved)
    }

    fn save_locked(&self, disk: &dyn Disk, state: &mut State) -> io::Result<()> {
        let unsaved = &state.recent[(state.saved - state.first_recent) as usize..];
        if unsaved.is_empty() {
            return Ok(());
        }
        let (offsets, times) = encode(self.base, state.saved, unsaved);
        open_or_create(disk, &self.offsets)?
            .write_at(&[&offsets], u64::from(state.saved) * OFFSET_ENTRY_BYTES as u64)?;
        open_or_create(disk, &self.times)?.write_at(&[&times], u64::from(state.saved) * TIME_ENTRY_BYTES as u64)?;
        state.saved = state.count();
        Ok(())
    }

    /// Closes the index: `end` describes the segment's end. Whatever fails here is repaired when the index is used.
    pub(crate) fn seal(&self, disk: &dyn Disk, end: Entry) {
        let mut state = self.state.lock();
        state.sealed = true;
        self.check_open(disk, &mut state);
        if state.health == Health::Damaged {
            return;
        }
        state.recent.push(end);
        let written = self.save_locked(disk, &mut state).and_then(|()| self.cut_files(disk, state.saved));
        state.health = if written.is_ok() { Health::Good } else { Health::Damaged };
        state.recent = Vec::new();
        state.first_recent = state.saved;
    }

    /// Cuts the files to `entries` entries, durably. Where batches are dropped this must come before others are
    /// appended: later, an entry of the one could be taken for an entry of the other.
    pub(crate) fn forget_behind(&self, disk: &dyn Disk, entries: u32) -> io::Result<()> {
        for (path, entry_bytes) in [(&self.offsets, OFFSET_ENTRY_BYTES), (&self.times, TIME_ENTRY_BYTES)] {
            let kept = u64::from(entries) * entry_bytes as u64;
            match disk.open(path) {
                Ok(file) if file.len()? > kept => {
                    file.truncate(kept)?;
                    file.sync_data()?;
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn cut_files(&self, disk: &dyn Disk, entries: u32) -> io::Result<()> {
        disk.open(&self.offsets)?.truncate(u64::from(entries) * OFFSET_ENTRY_BYTES as u64)?;
        disk.open(&self.times)?.truncate(u64::from(entries) * TIME_ENTRY_BYTES as u64)
    }

    /// Finds an entry. `len` is the segment's length (of a closed one). `Ok(None)`: begin at the segment's start.
    pub(crate) fn floor(&self, disk: &dyn Disk, key: Key, len: u64) -> Result<Option<Entry>, Damaged> {
        let stored = {
            let mut state = self.state.lock();
            self.check(disk, &mut state, Some(len));
            if state.health == Health::Damaged {
                return Err(Damaged);
            }
            let recent = state.recent.partition_point(|entry| key.reaches(entry.relative, entry.max_before));
            if recent > 0 {
                return Ok(Some(state.recent[recent - 1]));
            }
            state.first_recent - u32::from(state.sealed && state.first_recent > 0)
        };
        if stored == 0 {
            return Ok(None);
        }
        // Without the lock: the writer must not wait for reads. A truncation in between yields a wrong entry at
        // worst, which the batch it leads to gives away.
        let files = self.open(disk).map_err(|_| Damaged)?;
        let (mut low, mut high) = (0, stored);
        while low < high {
            let middle = low + (high - low) / 2;
            let reached = match key {
                Key::Offset(target) => files.offset(middle)?.0 <= target,
                Key::Time(target) => files.time(middle)?.0 < target,
            };
            if reached { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1).map(|i| files.entry(i)).transpose()
    }

    /// The entry that describes the end of a closed segment of `len` bytes.
    pub(crate) fn end(&self, disk: &dyn Disk, len: u64) -> Result<Entry, Damaged> {
        let mut state = self.state.lock();
        self.check(disk, &mut state, Some(len));
        if !state.sealed || state.health == Health::Damaged {
            return Err(Damaged);
        }
        self.open(disk).map_err(|_| Damaged)?.entry(state.saved - 1)
    }

    /// Builds the index again from the segment, as far as its batches follow one another.
    pub(crate) fn rebuild(&self, disk: &dyn Disk, file: &dyn DiskFile, len: u64, interval: u32) -> io::Result<()> {
        let mut state = self.state.lock();
        state.health = Health::Damaged;
        let mut entries = Vec::new();
        let mut walk = Walk::new(file, len, REBUILD_STEP_BYTES);
        let (mut at, mut expected, mut since, mut max) = (0, self.base, 0, NO_TIMESTAMP);
        while at < len {
            let Ok(header) = walk.header(at)? else { break };
            if header.base_offset != expected {
                break;
            }
            if since > u64::from(interval)
                && let Some(entry) = entry(self.base, expected, at, max)
            {
                entries.push(entry);
                since = 0;
            }
            let total = header.total_bytes() as u64;
            (at, expected, since) = (at + total, header.next_offset(), since + total);
            max = max.max(header.max_timestamp.0);
        }
        if state.sealed {
            let end = entry(self.base, expected, at, max).filter(|_| at == len);
            entries.push(end.ok_or(io::ErrorKind::InvalidData)?);
        }
        let (offsets, times) = encode(self.base, 0, &entries);
        for (path, bytes) in [(&self.offsets, offsets), (&self.times, times)] {
            let file = disk.create(path)?;
            file.write_at(&[&bytes], 0)?;
            file.sync_data()?;
        }
        state.saved = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        (state.first_recent, state.recent) = (state.saved, Vec::new());
        state.health = Health::Good;
        Ok(())
    }

    /// Forgets the entries of batches that begin at `position` or behind it; the segment is open for appends again.
    pub(crate) fn truncate(&self, disk: &dyn Disk, position: u64, len: u64) {
        let mut state = self.state.lock();
        self.check(disk, &mut state, Some(len));
        state.sealed = false;
        if state.health == Health::Damaged {
            return;
        }
        let kept = state.recent.partition_point(|entry| u64::from(entry.position) < position);
        state.recent.truncate(kept);
        if kept == 0 && state.first_recent > 0 {
            match self.stored_before(disk, state.first_recent, position) {
                Ok(stored) => state.first_recent = stored,
                Err(Damaged) => {
                    state.health = Health::Damaged;
                    return;
                }
            }
        }
        state.saved = state.saved.min(state.count());
    }

    fn stored_before(&self, disk: &dyn Disk, stored: u32, position: u64) -> Result<u32, Damaged> {
        let files = self.open(disk).map_err(|_| Damaged)?;
        let (mut low, mut high) = (0, stored);
        while low < high {
            let middle = low + (high - low) / 2;
            if u64::from(files.offset(middle)?.1) < position { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Forgets everything: the next lookup builds the index again.
    pub(crate) fn distrust(&self) {
        self.state.lock().health = Health::Damaged;
    }

    fn check(&self, disk: &dyn Disk, state: &mut State, len: Option<u64>) {
        if state.health != Health::Unknown {
            return;
        }
        match (state.sealed, len) {
            (true, Some(len)) => self.check_sealed(disk, state, len),
            (true, None) => state.health = Health::Damaged,
            (false, _) => self.check_open(disk, state),
        }
    }

    fn check_open(&self, disk: &dyn Disk, state: &mut State) {
        if state.health == Health::Unknown {
            let last = self.open(disk).map_err(|_| Damaged).and_then(|files| files.entry(state.saved - 1));
            state.health = if last.is_ok() { Health::Good } else { Health::Damaged };
        }
    }

    fn check_sealed(&self, disk: &dyn Disk, state: &mut State, len: u64) {
        state.health = Health::Damaged;
        let Ok(files) = self.open(disk) else { return };
        let (Ok(offset_bytes), Ok(time_bytes)) = (files.offsets.len(), files.times.len()) else { return };
        let entries = offset_bytes / OFFSET_ENTRY_BYTES as u64;
        let whole =
            entries * OFFSET_ENTRY_BYTES as u64 == offset_bytes && entries * TIME_ENTRY_BYTES as u64 == time_bytes;
        // One more than the limit: the segment's end.
        let Some(entries) = u32::try_from(entries).ok().filter(|n| whole && (1..=INDEX_ENTRIES_MAX + 1).contains(n))
        else {
            return;
        };
        if files.entry(entries - 1).is_ok_and(|end| u64::from(end.position) == len) {
            (state.saved, state.first_recent, state.health) = (entries, entries, Health::Good);
        }
    }

    fn open(&self, disk: &dyn Disk) -> io::Result<Files> {
        Ok(Files { base: self.base, offsets: disk.open(&self.offsets)?, times: disk.open(&self.times)? })
    }
}

impl State {
    fn count(&self) -> u32 {
        self.first_recent + u32::try_from(self.recent.len()).unwrap_or(u32::MAX)
    }

    /// Halves what is in memory: the older half when it is on disk too, else every second entry that is not.
    fn make_room(&mut self, saved: bool) {
        if saved {
            self.recent.drain(..RECENT_MAX / 2);
            self.first_recent += (RECENT_MAX / 2) as u32;
        } else {
            self.recent.drain(..(self.saved - self.first_recent) as usize);
            self.first_recent = self.saved;
            let mut keep = false;
            self.recent.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }
}

impl Key {
    fn reaches(self, relative: u32, max_before: i64) -> bool {
        match self {
            Self::Offset(target) => relative <= target,
            Self::Time(target) => max_before < target,
        }
    }
}

/// The entry of a batch, if its numbers fit.
pub(crate) fn entry(base: Offset, offset: Offset, position: u64, max_before: i64) -> Option<Entry> {
    let relative = u32::try_from(offset.0.checked_sub(base.0)?).ok()?;
    Some(Entry { relative, position: u32::try_from(position).ok()?, max_before })
}

fn open_or_create(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path),
        opened => opened,
    }
}

fn checksum(base: Offset, number: u32, fields: &[u8]) -> [u8; 4] {
    let place = crc32c::crc32c_append(crc32c::crc32c(&base.0.to_be_bytes()), &number.to_be_bytes());
    crc32c::crc32c_append(place, fields).to_be_bytes()
}

fn encode(base: Offset, first: u32, entries: &[Entry]) -> (Vec<u8>, Vec<u8>) {
    let mut offsets = Vec::with_capacity(entries.len() * OFFSET_ENTRY_BYTES);
    let mut times = Vec::with_capacity(entries.len() * TIME_ENTRY_BYTES);
    for (number, entry) in (first..).zip(entries) {
        let (offset_at, time_at) = (offsets.len(), times.len());
        offsets.extend_from_slice(&entry.relative.to_be_bytes());
        offsets.extend_from_slice(&entry.position.to_be_bytes());
        offsets.extend_from_slice(&checksum(base, number, &offsets[offset_at..]));
        times.extend_from_slice(&entry.max_before.to_be_bytes());
        times.extend_from_slice(&entry.relative.to_be_bytes());
        times.extend_from_slice(&checksum(base, number, &times[time_at..]));
    }
    (offsets, times)
}

impl Files {
    /// Relative offset and position of entry `number`.
    fn offset(&self, number: u32) -> Result<(u32, u32), Damaged> {
        let fields = self.fields::<OFFSET_ENTRY_BYTES>(&*self.offsets, number)?;
        let [a, b, c, d, e, f, g, h, ..] = fields;
        Ok((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
    }

    /// Largest timestamp before entry `number`, and its relative offset.
    fn time(&self, number: u32) -> Result<(i64, u32), Damaged> {
        let fields = self.fields::<TIME_ENTRY_BYTES>(&*self.times, number)?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = fields;
        Ok((i64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l])))
    }

    fn entry(&self, number: u32) -> Result<Entry, Damaged> {
        let (relative, position) = self.offset(number)?;
        let (max_before, same) = self.time(number)?;
        if same != relative {
            return Err(Damaged);
        }
        Ok(Entry { relative, position, max_before })
    }

    fn fields<const N: usize>(&self, file: &dyn DiskFile, number: u32) -> Result<[u8; N], Damaged> {
        let mut bytes = [0; N];
        match file.read_at(&mut bytes, u64::from(number) * N as u64) {
            Ok(read) if read == N && bytes[N - 4..] == checksum(self.base, number, &bytes[..N - 4]) => Ok(bytes),
            _ => Err(Damaged),
        }
    }
}

#[cfg(test)]
mod tests;
