//! The recovery point: from where a log must be scanned after a crash.
//!
//! Two points are kept. Everything before *flushed* survives a power loss; everything before *written* had been handed to
//! the operating system, which survives the death of the process. So after `kill -9` only what follows the last checkpoint
//! is scanned, however long ago the last sync was.
//!
//! The file has two slots, a page apart. The *rolling* one is rewritten every few seconds without a sync: it only claims
//! what was done before, so it is true whenever it is whole. The *anchor* is written only while the other is known to be
//! synced, so that one of them is always whole. Where a claim must be taken back (truncation), or made for good (the log's
//! start), both are rewritten and synced before anything else happens.

use std::io;
use std::path::{Path, PathBuf};

use rafka_model::{Offset, Timestamp};

use crate::disk::Disk;
use crate::error::StorageError;

const FILE: &str = "recovery-point";
const MAGIC: [u8; 8] = *b"RFKPNT01";
const SLOT_BYTES: usize = 8 + 8 + 8 + 8 + 8 + 2 * POINT_BYTES + 4;
const POINT_BYTES: usize = 8 + 8 + 8 + 4 + 8;
const ANCHOR_AT: u64 = 0;
const ROLLING_AT: u64 = 4096;

/// A place between two batches.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Point {
    /// Offset of the next record.
    pub(crate) offset: Offset,
    /// Base offset of the segment.
    pub(crate) segment: Offset,
    /// Byte of the segment.
    pub(crate) position: u64,
    /// Entries of the segment's index that describe batches before the point.
    pub(crate) index_entries: u32,
    /// Largest timestamp of the segment before the point.
    pub(crate) max_timestamp: i64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Checkpoint {
    /// Counts the writes of the file.
    pub(crate) sequence: u64,
    pub(crate) log_start: Offset,
    /// All segments are being removed, to begin anew at `log_start`.
    pub(crate) restarting: bool,
    /// When the segment of `written` was begun.
    pub(crate) segment_created: Timestamp,
    pub(crate) written: Point,
    pub(crate) flushed: Point,
}

/// What the file says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Loaded {
    /// There is none: nothing was ever synced.
    Missing,
    /// Both slots are unreadable: nothing is known.
    Damaged,
    Known {
        checkpoint: Checkpoint,
        /// The anchor knows the log's start too, so that no crash brings another one back.
        settled: bool,
    },
}

impl Checkpoint {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Loaded, StorageError> {
        let path = Self::path(dir);
        let mut bytes = [0; ROLLING_AT as usize + SLOT_BYTES];
        let read = match disk.open(&path).and_then(|file| file.read_at(&mut bytes, 0)) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Missing),
            Err(error) => return Err(StorageError::new("read", &path, &error)),
        };
        let (anchor, rolling) = bytes[..read].split_at(read.min(ROLLING_AT as usize));
        let (anchor, rolling) = (Self::decode(anchor), Self::decode(rolling));
        let newest = [anchor, rolling].into_iter().flatten().max_by_key(|slot| slot.sequence);
        Ok(newest.map_or(Loaded::Damaged, |checkpoint| Loaded::Known {
            settled: !checkpoint.restarting && anchor.is_some_and(|anchor| anchor.log_start == checkpoint.log_start),
            checkpoint,
        }))
    }

    /// Writes the rolling slot, without a sync.
    pub(crate) fn store(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        let path = Self::path(dir);
        self.sequence += 1;
        let slot = self.encode();
        let written = disk.open(&path).and_then(|file| file.write_at(&[&slot], ROLLING_AT));
        written.map_err(|error| StorageError::new("write", &path, &error))
    }

    /// Writes both slots (the file too, if there is none) and syncs them if asked.
    pub(crate) fn store_both(&mut self, disk: &dyn Disk, dir: &Path, sync: bool) -> Result<(), StorageError> {
        let path = Self::path(dir);
        let mut write = || {
            let file = match disk.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&path)?,
                opened => opened?,
            };
            for slot in [ROLLING_AT, ANCHOR_AT] {
                self.sequence += 1;
                file.write_at(&[&self.encode()], slot)?;
                if sync {
                    file.sync_data()?;
                }
            }
            Ok(())
        };
        write().map_err(|error| StorageError::new("write", &path, &error))
    }

    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            slot[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&self.sequence.to_be_bytes());
        put(&self.log_start.0.to_be_bytes());
        put(&u64::from(self.restarting).to_be_bytes());
        put(&self.segment_created.0.to_be_bytes());
        for point in [&self.written, &self.flushed] {
            put(&point.offset.0.to_be_bytes());
            put(&point.segment.0.to_be_bytes());
            put(&point.position.to_be_bytes());
            put(&point.index_entries.to_be_bytes());
            put(&point.max_timestamp.to_be_bytes());
        }
        let checksum = crc32c::crc32c(&slot[..SLOT_BYTES - 4]);
        slot[SLOT_BYTES - 4..].copy_from_slice(&checksum.to_be_bytes());
        slot
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let slot = bytes.first_chunk::<SLOT_BYTES>()?;
        let (fields, checksum) = slot.split_at(SLOT_BYTES - 4);
        if crc32c::crc32c(fields).to_be_bytes() != checksum || !fields.starts_with(&MAGIC) {
            return None;
        }
        let mut rest = &fields[MAGIC.len()..];
        let mut word = || {
            let (word, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(u64::from_be_bytes(*word))
        };
        let (sequence, log_start, restarting, created) = (word()?, word()?, word()?, word()?);
        let point = |bytes: &[u8]| {
            let (offset, bytes) = bytes.split_first_chunk::<8>()?;
            let (segment, bytes) = bytes.split_first_chunk::<8>()?;
            let (position, bytes) = bytes.split_first_chunk::<8>()?;
            let (entries, bytes) = bytes.split_first_chunk::<4>()?;
            Some(Point {
                offset: Offset(i64::from_be_bytes(*offset)),
                segment: Offset(i64::from_be_bytes(*segment)),
                position: u64::from_be_bytes(*position),
                index_entries: u32::from_be_bytes(*entries),
                max_timestamp: i64::from_be_bytes(*bytes.first_chunk::<8>()?),
            })
        };
        Some(Self {
            sequence,
            log_start: Offset(log_start.cast_signed()),
            restarting: restarting != 0,
            segment_created: Timestamp(created.cast_signed()),
            written: point(rest)?,
            flushed: point(rest.get(POINT_BYTES..)?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn the_newest_whole_slot_counts() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/log"));
        disk.create_dir_all(dir).expect("creates");
        assert_eq!(Checkpoint::load(&disk, dir), Ok(Loaded::Missing));
        let mut checkpoint = Checkpoint { log_start: Offset(3), ..Checkpoint::default() };
        checkpoint.store_both(&disk, dir, true).expect("stores");
        let known = |checkpoint| Ok(Loaded::Known { checkpoint, settled: true });
        let anchor = checkpoint;
        for end in 10..14 {
            checkpoint.written =
                Point { offset: Offset(end), segment: Offset(2), position: 99, index_entries: 7, max_timestamp: -5 };
            checkpoint.store(&disk, dir).expect("stores");
            assert_eq!(Checkpoint::load(&disk, dir), known(checkpoint));
            let at = ROLLING_AT + 40;
            disk.flip(&Checkpoint::path(dir), at, 4).expect("flips");
            assert_eq!(Checkpoint::load(&disk, dir), known(anchor), "a torn slot leaves the other");
            disk.flip(&Checkpoint::path(dir), at, 4).expect("flips");
        }
        checkpoint.log_start = Offset(4);
        checkpoint.store(&disk, dir).expect("stores");
        assert_eq!(Checkpoint::load(&disk, dir), Ok(Loaded::Known { checkpoint, settled: false }));
        disk.put(&Checkpoint::path(dir), &[7; 5000]);
        assert_eq!(Checkpoint::load(&disk, dir), Ok(Loaded::Damaged));
    }
}
