//! How far a log is compacted, across restarts.

use std::path::{Path, PathBuf};

use rafka_model::Offset;

use crate::atomic_file::{self, AtomicFileError};
use crate::disk::Disk;
use crate::error::StorageError;

const FILE: &str = "compaction-point";
const BYTES_MAX: usize = 64;

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Reads the first dirty offset; 0 if the file is missing or damaged: the next round then looks at everything.
pub(crate) fn load_first_dirty(disk: &dyn Disk, dir: &Path) -> Result<Offset, StorageError> {
    let bytes = match atomic_file::read(disk, &path(dir), BYTES_MAX) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(AtomicFileError::Corrupt { .. }) => Vec::new(),
        Err(AtomicFileError::Storage(error)) => return Err(error),
    };
    let offset = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
    Ok(Offset(offset.unwrap_or(0)).max(Offset::ZERO))
}

/// Notes the first dirty offset, durably, and with it all names in the directory.
pub(crate) fn store_first_dirty(disk: &dyn Disk, dir: &Path, first_dirty: Offset) -> Result<(), StorageError> {
    atomic_file::write(disk, &path(dir), format!("{first_dirty}\n").as_bytes())
}
