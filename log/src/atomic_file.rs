//! Small files that are replaced whole: either the old content is there after a crash or the new, never a mixture.
//!
//! ```text
//! 0 "RFKA" │ 4 payload length u32 │ 8 CRC-32C of payload u32 │ 12 payload
//! ```
//! Written to `<name>.tmp`, synced, renamed, the directory synced. Used for the epoch cache, and by other crates for
//! whatever must survive a crash.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, parent};
use crate::error::StorageError;

const MAGIC: [u8; 4] = *b"RFKA";
const HEADER_BYTES: usize = 12;

/// Ending of a file that was being written when the process stopped; safe to remove.
pub const UNFINISHED: &str = ".tmp";

/// Why an atomic file cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AtomicFileError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file is not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Replaces the file `path` by `payload`, durably.
///
/// # Errors
/// [`StorageError`]; the old content is still there, unless the very last step (syncing the directory) failed, when
/// either may be.
pub fn write(disk: &dyn Disk, path: &Path, payload: &[u8]) -> Result<(), StorageError> {
    write_temporary(disk, path, payload, true)?;
    let failed = |operation| move |error| StorageError::new(operation, path, &error);
    disk.sync_dir(parent(path)).map_err(failed("sync the directory of"))
}

/// As [`write`], but nothing is synced: a power loss may leave neither content, or a part of the new one, which
/// [`read`] tells by its checksum. For what can be had elsewhere, with more work.
///
/// # Errors
/// [`StorageError`]; the old content is still there.
pub(crate) fn write_unsynced(disk: &dyn Disk, path: &Path, payload: &[u8]) -> Result<(), StorageError> {
    write_temporary(disk, path, payload, false)
}

/// Writes beside `path` and renames.
fn write_temporary(disk: &dyn Disk, path: &Path, payload: &[u8], sync: bool) -> Result<(), StorageError> {
    let mut temporary: OsString = path.as_os_str().to_owned();
    temporary.push(UNFINISHED);
    let temporary = PathBuf::from(temporary);
    let failed = |operation| move |error| StorageError::new(operation, path, &error);
    let length = u32::try_from(payload.len()).map_err(|_| {
        StorageError::new("write", path, &std::io::Error::new(std::io::ErrorKind::FileTooLarge, "over 4 GiB"))
    })?;
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&length.to_be_bytes());
    header[8..].copy_from_slice(&crc32c::crc32c(payload).to_be_bytes());
    let file = disk.create(&temporary).map_err(failed("create"))?;
    file.write_at(&[&header, payload], 0).map_err(failed("write"))?;
    if sync {
        file.sync_data().map_err(failed("sync"))?;
    }
    disk.rename(&temporary, path).map_err(failed("rename"))
}

/// Reads the payload of the file `path`; `None` if there is no such file. At most `bytes_max` bytes are read.
///
/// # Errors
/// [`AtomicFileError`].
pub fn read(disk: &dyn Disk, path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, AtomicFileError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::new("open", path, &error).into()),
    };
    let corrupt = |reason| AtomicFileError::Corrupt { path: path.to_owned(), reason };
    let failed = |error: std::io::Error| StorageError::new("read", path, &error);
    let length = file.len().map_err(failed)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max.saturating_add(HEADER_BYTES));
    let length = length.ok_or_else(|| corrupt("longer than allowed"))?;
    let mut bytes = Vec::new();
    file.read_to(&mut bytes, length, 0).map_err(failed)?;
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(corrupt("shorter than its header"));
    };
    if header[..4] != MAGIC {
        return Err(corrupt("not a file of this kind"));
    }
    if header[4..8] != u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes() {
        return Err(corrupt("its length differs from what was written"));
    }
    if header[8..] != crc32c::crc32c(payload).to_be_bytes() {
        return Err(corrupt("its checksum differs"));
    }
    bytes.drain(..HEADER_BYTES);
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::{Crash, FaultyDisk, MemoryDisk};

    const PATH: &str = "/d/f";

    fn disk_with_old() -> Arc<MemoryDisk> {
        let disk = Arc::new(MemoryDisk::new());
        disk.create_dir_all(Path::new("/d")).expect("creates");
        write(&*disk, Path::new(PATH), b"old").expect("writes");
        disk
    }

    #[test]
    fn a_crash_at_any_operation_leaves_the_old_or_the_new_content() {
        let mut finished = false;
        for n in 0.. {
            let memory = disk_with_old();
            let (disk, faults) = FaultyDisk::new(memory.clone());
            faults.halt_at(n);
            finished = finished || write(&disk, Path::new(PATH), b"new content").is_ok();
            for seed in 0..20 {
                let after = memory.crash(Crash::Power { seed });
                let content = read(&after, Path::new(PATH), 100).expect("intact").expect("there");
                assert!(content == b"new content" || (!finished && content == b"old"), "{n} {seed}");
            }
            if finished {
                break;
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let disk = disk_with_old();
        let whole = disk.bytes(Path::new(PATH)).expect("there");
        for bit in 0..whole.len() * 8 {
            disk.flip(Path::new(PATH), bit as u64 / 8, 1 << (bit % 8)).expect("flips");
            assert!(matches!(read(&*disk, Path::new(PATH), 100), Err(AtomicFileError::Corrupt { .. })), "bit {bit}");
            disk.put(Path::new(PATH), &whole);
        }
        for length in 0..whole.len() {
            disk.put(Path::new(PATH), &whole[..length]);
            assert!(read(&*disk, Path::new(PATH), 100).is_err());
        }
        assert_eq!(read(&*disk, Path::new("/d/none"), 100), Ok(None));
    }
}
