//! A disk that fails on demand.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

/// Wraps a disk and fails as its [`Faults`] say.
#[derive(Debug)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    faults: Arc<Faults>,
}

/// What goes wrong, changeable at any time. *Operations* are those that change the disk: create, rename, remove, write,
/// truncate, preallocate, sync.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    operations: u64,
    fail_at: Option<(u64, i32)>,
    halt_at: Option<u64>,
    halted: bool,
    free_bytes: Option<u64>,
    fail_syncs: bool,
    fail_reads: bool,
    read_only: bool,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

impl Faults {
    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// The operation number `n` (from 0) fails with this error of the operating system, once.
    pub fn fail_at(&self, n: u64, os_error: i32) {
        self.0.lock().fail_at = Some((n, os_error));
    }

    /// The machine stops at operation number `n` (from 0): half of that one happens if it is a write, nothing of it
    /// otherwise, and nothing after it.
    pub fn halt_at(&self, n: u64) {
        self.0.lock().halt_at = Some(n);
    }

    /// Did the machine stop?
    #[must_use]
    pub fn halted(&self) -> bool {
        self.0.lock().halted
    }

    /// Files cannot grow by more than this many bytes, all together; what is there can be overwritten. `None` is plenty.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.0.lock().free_bytes = bytes;
    }

    /// Every sync fails with an I/O error while set.
    pub fn set_fail_syncs(&self, fail: bool) {
        self.0.lock().fail_syncs = fail;
    }

    /// Every read fails with an I/O error while set.
    pub fn set_fail_reads(&self, fail: bool) {
        self.0.lock().fail_reads = fail;
    }

    /// Every change fails with "read-only file system" while set.
    pub fn set_read_only(&self, read_only: bool) {
        self.0.lock().read_only = read_only;
    }

    fn read(&self) -> io::Result<()> {
        let state = self.0.lock();
        if state.halted || state.fail_reads {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    /// Counts an operation; `Err` if it must not happen.
    fn operation(&self) -> io::Result<()> {
        self.write(0, 0).and_then(|allowed| allowed.map_or(Ok(()), |_| Err(io::Error::from_raw_os_error(EIO))))
    }

    fn sync(&self) -> io::Result<()> {
        self.operation()?;
        if self.0.lock().fail_syncs {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    /// Counts a write of `bytes`, `grown` of them behind the end of the file; `Ok(Some(n))` if only `n` bytes of it may
    /// happen.
    fn write(&self, bytes: u64, grown: u64) -> io::Result<Option<u64>> {
        let mut state = self.0.lock();
        if state.halted {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let number = state.operations;
        state.operations += 1;
        if state.halt_at == Some(number) {
            state.halted = true;
            return Ok(Some(bytes / 2));
        }
        if let Some((_, error)) = state.fail_at.take_if(|(n, _)| *n == number) {
            return Err(io::Error::from_raw_os_error(error));
        }
        if state.read_only {
            return Err(io::Error::from_raw_os_error(EROFS));
        }
        match &mut state.free_bytes {
            Some(free) if grown > *free => Ok(Some((bytes + std::mem::take(free)).saturating_sub(grown))),
            Some(free) => {
                *free -= grown;
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

impl FaultyDisk {
    /// Wraps `inner`; the faults are set through the second value.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> (Self, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        (Self { inner, faults: faults.clone() }, faults)
    }

    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { inner: file, faults: self.faults.clone() })
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.read()?;
        Ok(self.wrap(self.inner.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.operation()?;
        Ok(self.wrap(self.inner.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.operation()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.operation()?;
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.faults.read()?;
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.faults.operation()?;
        self.inner.create_dir_all(dir)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.faults.operation()?;
        self.inner.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.sync()?;
        self.inner.sync_dir(dir)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.faults.read()?;
        self.inner.len(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.faults.read()?;
        self.inner.exists(path)
    }

    fn free_bytes(&self) -> Option<u64> {
        let limit = self.faults.0.lock().free_bytes;
        limit.or_else(|| self.inner.free_bytes())
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    faults: Arc<Faults>,
}

impl DiskFile for FaultyFile {
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let bytes = bytes as u64;
        let grown = (offset + bytes).saturating_sub(self.inner.len()?).min(bytes);
        match self.faults.write(bytes, grown)? {
            None => self.inner.write_at(parts, offset),
            Some(allowed) => {
                let all = parts.concat();
                self.inner.write_at(&[&all[..allowed as usize]], offset)?;
                Err(io::Error::from_raw_os_error(if self.faults.halted() { EIO } else { ENOSPC }))
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.read()?;
        self.inner.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.sync()?;
        self.inner.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.faults.operation()?;
        let freed = self.inner.len()?.saturating_sub(len);
        if let Some(free) = &mut self.faults.0.lock().free_bytes {
            *free += freed;
        }
        self.inner.truncate(len)
    }

    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        let grown = to.saturating_sub(self.inner.len()?);
        if self.faults.write(grown, grown)?.is_some() {
            return Err(io::Error::from_raw_os_error(if self.faults.halted() { EIO } else { ENOSPC }));
        }
        self.inner.preallocate(from, to)
    }

    fn len(&self) -> io::Result<u64> {
        self.faults.read()?;
        self.inner.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryDisk;
    use super::*;

    #[test]
    fn faults_come_when_they_were_asked_for_and_a_full_disk_writes_what_fits() {
        let memory = Arc::new(MemoryDisk::new());
        let (disk, faults) = FaultyDisk::new(memory.clone());
        let path = Path::new("/f");
        disk.create_dir_all(Path::new("/")).expect("creates");
        let file = disk.create(path).expect("creates");
        faults.fail_at(faults.operations(), EIO);
        assert!(file.write_at(&[b"x"], 0).is_err());
        file.write_at(&[b"x"], 0).expect("only once");
        faults.set_free_bytes(Some(2));
        let full = file.write_at(&[b"abc"], 1).expect_err("full");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(memory.bytes(path).expect("there"), b"xab");
        faults.set_free_bytes(None);
        faults.halt_at(faults.operations());
        assert!(file.write_at(&[b"1234"], 3).is_err() && faults.halted());
        assert_eq!(memory.bytes(path).expect("there"), b"xab12");
        assert!(file.sync_data().is_err() && disk.list(Path::new("/")).is_err());
    }
}
