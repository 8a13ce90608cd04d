//! What the log needs of a disk, and four disks.
//!
//! [`FileDisk`] is the operating system's. [`MemoryDisk`] is a map: *volatile* it is the `memory` storage engine,
//! *tracked* it knows what was synced and can lose the rest, for tests and simulations. [`FaultyDisk`] wraps either and
//! fails on demand.

mod faulty;
mod file;
mod memory;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use faulty::{Faults, FaultyDisk};
pub use file::FileDisk;
pub use memory::{Crash, MemoryDisk};

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A tree of files. Calls may come from many threads.
///
/// As with POSIX, a file's bytes are durable after [`DiskFile::sync_data`], its name after [`Disk::sync_dir`] on the
/// directory that holds it.
pub trait Disk: Send + Sync + Debug {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an empty file, new or emptied.
    ///
    /// # Errors
    /// Of the disk.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name in the same directory, replacing what had it; atomic.
    ///
    /// # Errors
    /// `NotFound` if there is no `from`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names of the files and directories in `dir`, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and its parents as needed.
    ///
    /// # Errors
    /// Of the disk.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Removes a directory with all in it.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// Of the disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Length of a file, bytes.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// Is there a file or directory of this name?
    ///
    /// # Errors
    /// Of the disk.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes that can still be written, where that is known.
    fn free_bytes(&self) -> Option<u64>;
}

/// An open file. It stays readable after its name is gone.
pub trait DiskFile: Send + Sync + Debug {
    /// Writes `parts` one behind the other at `offset`, all of them or an error; after an error any prefix may have been written.
    ///
    /// # Errors
    /// `StorageFull`, or others of the disk.
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Fills `buffer` from `offset` as far as the file goes; returns the bytes read.
    ///
    /// # Errors
    /// Of the disk.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Appends to `out` up to `bytes` bytes from `offset`; returns the bytes read. Spares zeroing a buffer first.
    ///
    /// # Errors
    /// Of the disk.
    fn read_to(&self, out: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<usize> {
        let before = out.len();
        out.resize(before + bytes, 0);
        let read = self.read_at(&mut out[before..], offset);
        out.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }
    /// Makes bytes and length durable.
    ///
    /// # Errors
    /// After one, what was written since the last success is lost or not: never retry (CLUSTER.md, "Sync when").
    fn sync_data(&self) -> io::Result<()>;
    /// Sets the length; what is added reads as zeros.
    ///
    /// # Errors
    /// Of the disk.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Reserves space for `from..to`, lengthening the file with zeros. A hint: a disk may ignore it.
    ///
    /// # Errors
    /// `StorageFull`, or others of the disk.
    fn preallocate(&self, from: u64, to: u64) -> io::Result<()>;
    /// Length, bytes.
    ///
    /// # Errors
    /// Of the disk.
    fn len(&self) -> io::Result<u64>;
    /// True without bytes.
    ///
    /// # Errors
    /// Of the disk.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
