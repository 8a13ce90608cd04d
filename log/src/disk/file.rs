//! The operating system's files. The only place of the crate that names them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the door to the operating system")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::{Disk, DiskFile};

/// Most slices that one `pwritev` is given.
const PARTS_MAX: usize = 16;

/// The file system.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
}

impl FileDisk {
    /// The file system; `root` is asked for free space. Paths are used as they are given.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl Disk for FileDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.root).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[derive(Debug)]
struct OsFile(File);

impl DiskFile for OsFile {
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if parts.len() <= PARTS_MAX {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            for (slice, part) in slices.iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
            }
            match rustix::io::pwritev(&self.0, &slices[..parts.len()], offset) {
                Ok(written) if written == total => return Ok(()),
                // A short write: the loop below writes all again, from the start.
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut at = offset;
        for part in parts {
            self.0.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_to(&self, out: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<usize> {
        let before = out.len();
        out.reserve_exact(bytes);
        while out.len() < before + bytes {
            let at = offset + (out.len() - before) as u64;
            match rustix::io::pread(&self.0, spare_capacity(out), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        out.truncate(before + bytes);
        Ok(out.len() - before)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), from, to.saturating_sub(from)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_names_go_through_the_operating_system() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let disk = FileDisk::new(root.path());
        let dir = root.path().join("a/b");
        disk.create_dir_all(&dir).expect("creates");
        let file = disk.create(&dir.join("x")).expect("creates");
        file.write_at(&[b"he", b"", b"llo"], 3).expect("writes");
        file.preallocate(8, 100).expect("reserves");
        assert_eq!(file.len().expect("len"), 100);
        file.truncate(8).expect("truncates");
        file.sync_data().expect("syncs");
        disk.rename(&dir.join("x"), &dir.join("y")).expect("renames");
        disk.sync_dir(&dir).expect("syncs");
        assert_eq!(disk.list(&dir).expect("lists"), ["y"]);
        let again = disk.open(&dir.join("y")).expect("opens");
        let mut buffer = [9; 10];
        assert_eq!(again.read_at(&mut buffer, 1).expect("reads"), 7);
        assert_eq!(&buffer[..7], b"\0\0hello");
        let mut out = vec![7];
        assert_eq!(again.read_to(&mut out, 4, 4).expect("reads"), 4);
        assert_eq!(out, b"\x07ello");
        assert!(disk.free_bytes().expect("known") > 0);
        assert_eq!(disk.open(&dir.join("x")).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }
}
