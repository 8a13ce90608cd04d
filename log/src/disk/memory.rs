//! A disk in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{Disk, DiskFile, parent};

/// A file is held in pages of this size, so that growth never moves what is there.
const PAGE_BYTES: usize = 64 << 10;

/// Files in memory: deterministic, and able to forget what was not synced.
///
/// A *volatile* one ([`MemoryDisk::volatile`]) remembers everything and no history: the `memory` storage engine.
/// A *tracked* one ([`MemoryDisk::new`]) keeps for each file the synced bytes beside the current ones, and for each
/// directory the synced names. Directories themselves are durable at once.
#[derive(Debug)]
pub struct MemoryDisk {
    tracked: bool,
    names: Mutex<Names>,
}

/// How a machine stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// The process dies; the operating system keeps every write. What was not synced can be lost by a later power loss.
    Kill,
    /// The power fails. Of each file's unsynced writes a subset chosen by `seed` survives, some of them torn; of each
    /// directory's unsynced changes a prefix (as with a journal).
    Power {
        /// Chooses what survives.
        seed: u64,
    },
}

#[derive(Debug, Default)]
struct Names {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<Inode>>,
    durable: BTreeMap<PathBuf, Arc<Inode>>,
    unsynced: BTreeMap<PathBuf, Vec<NameChange>>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, Arc<Inode>),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Arc<Inode>>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), inode.clone());
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Inode {
    tracked: bool,
    content: RwLock<Content>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Pages,
    synced: Pages,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Length(u64),
}

/// Bytes in pages; a page that was never written is empty and reads as zeros.
#[derive(Clone, Debug, Default)]
struct Pages {
    len: u64,
    pages: Vec<Vec<u8>>,
}

impl Pages {
    fn write(&mut self, mut bytes: &[u8], mut at: u64) {
        self.len = self.len.max(at + bytes.len() as u64);
        while !bytes.is_empty() {
            let (page, within) = Self::place(at);
            let step = bytes.len().min(PAGE_BYTES - within);
            if self.pages.len() <= page {
                self.pages.resize_with(page + 1, Vec::new);
            }
            let page = &mut self.pages[page];
            if page.len() < within + step {
                page.resize(within + step, 0);
            }
            page[within..within + step].copy_from_slice(&bytes[..step]);
            bytes = &bytes[step..];
            at += step as u64;
        }
    }

    fn read(&self, buffer: &mut [u8], mut at: u64) -> usize {
        let total = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        while filled < total {
            let (page, within) = Self::place(at);
            let step = (total - filled).min(PAGE_BYTES - within);
            let out = &mut buffer[filled..filled + step];
            let there = self.pages.get(page).and_then(|page| page.get(within..)).unwrap_or_default();
            let there = &there[..there.len().min(step)];
            out[..there.len()].copy_from_slice(there);
            out[there.len()..].fill(0);
            filled += step;
            at += step as u64;
        }
        total
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (page, within) = Self::place(len);
            self.pages.truncate(page + 1);
            if let Some(last) = self.pages.get_mut(page) {
                last.truncate(within);
            }
        }
        self.len = len;
    }

    fn place(at: u64) -> (usize, usize) {
        ((at / PAGE_BYTES as u64) as usize, (at % PAGE_BYTES as u64) as usize)
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { at, bytes } => self.write(bytes, *at),
            Change::Length(len) => self.set_len(*len),
        }
    }
}

impl MemoryDisk {
    /// An empty disk that tracks what is synced.
    #[must_use]
    pub fn new() -> Self {
        Self { tracked: true, names: Mutex::default() }
    }

    /// An empty disk without history: nothing it holds outlives the process anyway.
    #[must_use]
    pub fn volatile() -> Self {
        Self { tracked: false, names: Mutex::default() }
    }

    /// The disk as the next boot finds it. This one is left as it was, so that one history can end in many ways.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        match crash {
            Crash::Kill => self.copy(),
            Crash::Power { seed } => self.after_power_loss(Dice(seed)),
        }
    }

    /// What was not synced is still not.
    fn copy(&self) -> Self {
        let names = self.names.lock();
        // A file may have several names: of now, synced, in changes.
        let mut copies = BTreeMap::new();
        let mut copy = |inode: &Arc<Inode>| -> Arc<Inode> {
            let copied =
                || Arc::new(Inode { tracked: inode.tracked, content: RwLock::new(inode.content.read().clone()) });
            copies.entry(Arc::as_ptr(inode)).or_insert_with(copied).clone()
        };
        let mut copy_all = |files: &BTreeMap<PathBuf, Arc<Inode>>| -> BTreeMap<_, _> {
            files.iter().map(|(path, inode)| (path.clone(), copy(inode))).collect()
        };
        let (files, durable) = (copy_all(&names.files), copy_all(&names.durable));
        let mut copy_change = |change: &NameChange| match change {
            NameChange::Link(path, inode) => NameChange::Link(path.clone(), copy(inode)),
            other => other.clone(),
        };
        let unsynced = names.unsynced.iter();
        let unsynced = unsynced.map(|(dir, changes)| (dir.clone(), changes.iter().map(&mut copy_change).collect()));
        let names = Names { dirs: names.dirs.clone(), files, durable, unsynced: unsynced.collect() };
        Self { tracked: self.tracked, names: Mutex::new(names) }
    }

    fn after_power_loss(&self, mut dice: Dice) -> Self {
        let names = self.names.lock();
        let mut survivors = names.durable.clone();
        for changes in names.unsynced.values() {
            let kept = dice.below(changes.len() as u64 + 1) as usize;
            changes[..kept].iter().for_each(|change| change.apply(&mut survivors));
        }
        let files: BTreeMap<_, _> = survivors
            .into_iter()
            .map(|(path, inode)| {
                let pages = inode.content.read().after_power_loss(&mut dice);
                let content = Content { synced: pages.clone(), now: pages, unsynced: Vec::new() };
                (path, Arc::new(Inode { tracked: self.tracked, content: RwLock::new(content) }))
            })
            .collect();
        let names = Names { dirs: names.dirs.clone(), durable: files.clone(), files, unsynced: BTreeMap::new() };
        Self { tracked: self.tracked, names: Mutex::new(names) }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = self.inode(path)?;
        let content = content.content.read();
        let mut bytes = vec![0; usize::try_from(content.now.len).map_err(io::Error::other)?];
        content.now.read(&mut bytes, 0);
        Ok(bytes)
    }

    /// Puts a file with these bytes, durable at once: a forged or damaged one.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut pages = Pages::default();
        pages.write(bytes, 0);
        let content = Content { synced: pages.clone(), now: pages, unsynced: Vec::new() };
        let inode = Arc::new(Inode { tracked: self.tracked, content: RwLock::new(content) });
        let mut names = self.names.lock();
        names.files.insert(path.to_owned(), inode.clone());
        names.durable.insert(path.to_owned(), inode);
    }

    /// Flips the bits of `mask` in the byte at `position`, on the platter: present and future see it.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `UnexpectedEof` if it is shorter.
    pub fn flip(&self, path: &Path, position: u64, mask: u8) -> io::Result<()> {
        let inode = self.inode(path)?;
        let mut content = inode.content.write();
        let mut byte = [0];
        if content.now.read(&mut byte, position) == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content.now.write(&[byte[0] ^ mask], position);
        if content.synced.read(&mut byte, position) == 1 {
            content.synced.write(&[byte[0] ^ mask], position);
        }
        Ok(())
    }

    fn inode(&self, path: &Path) -> io::Result<Arc<Inode>> {
        self.names.lock().files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&self, names: &mut Names, dir: &Path, change: NameChange) {
        change.apply(&mut names.files);
        if self.tracked {
            names.unsynced.entry(dir.to_owned()).or_default().push(change);
        }
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.inode(path)?)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.names.lock();
        if !names.dirs.contains(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(inode) = names.files.get(path) {
            inode.truncate(0)?;
            return Ok(inode.clone());
        }
        let inode = Arc::new(Inode { tracked: self.tracked, content: RwLock::default() });
        self.change(&mut names, parent(path), NameChange::Link(path.to_owned(), inode.clone()));
        Ok(inode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        if !names.files.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(&mut names, parent(from), NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        if !names.files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(&mut names, parent(path), NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = self.names.lock();
        if !names.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = names.files.keys().chain(&names.dirs);
        let inside = all.filter(|path| path.parent() == Some(dir));
        let mut inside: Vec<String> = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
        inside.sort_unstable();
        Ok(inside)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        names.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        if !names.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        names.dirs.retain(|path| !path.starts_with(dir));
        names.files.retain(|path, _| !path.starts_with(dir));
        names.durable.retain(|path, _| !path.starts_with(dir));
        names.unsynced.retain(|path, _| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        if !names.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let changes = names.unsynced.remove(dir).unwrap_or_default();
        changes.iter().for_each(|change| change.apply(&mut names.durable));
        Ok(())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.inode(path)?.len()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let names = self.names.lock();
        Ok(names.files.contains_key(path) || names.dirs.contains(path))
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

impl DiskFile for Inode {
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut content = self.content.write();
        let mut at = offset;
        for part in parts {
            content.now.write(part, at);
            at += part.len() as u64;
        }
        if self.tracked {
            content.unsynced.push(Change::Write { at: offset, bytes: parts.concat() });
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.content.read().now.read(buffer, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.tracked {
            let mut content = self.content.write();
            let Content { synced, unsynced, .. } = &mut *content;
            unsynced.drain(..).for_each(|change| synced.apply(&change));
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.write();
        content.now.set_len(len);
        if self.tracked {
            content.unsynced.push(Change::Length(len));
        }
        Ok(())
    }

    fn preallocate(&self, _from: u64, to: u64) -> io::Result<()> {
        // Zeros cost nothing here, but the log must live with them: the tracked disk adds them as the real one does.
        match self.tracked && to > self.len()? {
            true => self.truncate(to),
            false => Ok(()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.read().now.len)
    }
}

impl Content {
    fn after_power_loss(&self, dice: &mut Dice) -> Pages {
        let mut pages = self.synced.clone();
        for change in &self.unsynced {
            match (dice.below(4), change) {
                (0, _) => {}
                (1, Change::Write { at, bytes }) => {
                    // Torn: a middle part arrived.
                    let from = dice.below(2) * dice.below(bytes.len() as u64 + 1);
                    let to = from + dice.below(bytes.len() as u64 + 1 - from);
                    pages.write(&bytes[from as usize..to as usize], at + from);
                }
                (_, change) => pages.apply(change),
            }
        }
        pages
    }
}

/// splitmix64: enough to choose what a crash keeps.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_loss_keeps_synced_bytes_and_names_and_a_kill_keeps_all() {
        let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
        let mut outcomes = BTreeSet::new();
        for seed in 0..64 {
            let disk = MemoryDisk::new();
            disk.create_dir_all(dir).expect("creates");
            let file = disk.create(path).expect("creates");
            file.write_at(&[b"safe"], 0).expect("writes");
            file.sync_data().expect("syncs");
            disk.sync_dir(dir).expect("syncs");
            file.write_at(&[b"lost"], 4).expect("writes");
            assert_eq!(disk.crash(Crash::Kill).bytes(path).expect("there"), b"safelost");
            let after = disk.crash(Crash::Power { seed }).bytes(path).expect("there");
            assert!(after.starts_with(b"safe"));
            outcomes.insert(after);
            let young = disk.create(Path::new("/d/g")).expect("creates");
            young.sync_data().expect("syncs");
            outcomes
                .insert(vec![u8::from(disk.crash(Crash::Power { seed }).exists(Path::new("/d/g")).expect("known"))]);
        }
        assert!(outcomes.contains(&b"safe"[..]) && outcomes.contains(&b"safelost"[..]), "{outcomes:?}");
        assert!(outcomes.contains(&[0][..]) && outcomes.contains(&[1][..]), "an unsynced name is there or not");
        assert!(outcomes.len() > 4, "torn writes happen: {outcomes:?}");
    }

    #[test]
    fn pages_behave_like_one_flat_file() {
        let mut pages = Pages::default();
        let far = PAGE_BYTES as u64 * 2 - 2;
        pages.write(b"abcd", far);
        assert_eq!(pages.len, far + 4);
        let mut out = [1; 8];
        assert_eq!(pages.read(&mut out, far - 2), 6);
        assert_eq!(&out[..6], b"\0\0abcd");
        pages.set_len(far + 1);
        pages.set_len(far + 3);
        assert_eq!(pages.read(&mut out, far), 3);
        assert_eq!(&out[..3], b"a\0\0", "what was cut stays cut");
    }
}
