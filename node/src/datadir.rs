//! The data directory: one process at a time, an identity of its own, and what the last process left behind.
//!
//! ```text
//! lock            held by the process that uses the directory; names its pid
//! node.json       directory id, and the membership once the node has one
//! boot            boot of the machine when the directory was last in use
//! clean           written last by a clean shutdown, removed at the start
//! identity.key    see `mesh::identity`
//! metadata/       metadata log and image
//! logs/           partitions
//! ```

mod membership;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rafka_model::{BootId, DirectoryId};

pub use membership::Membership;
use membership::NodeFile;

/// What may lie in a directory that is Rafka's.
const OURS: [&str; 11] = [
    "lock",
    "node.json",
    "nominee",
    "boot",
    "clean",
    "identity.key",
    "metadata",
    "logs",
    "tmp",
    "lost+found",
    "rafka.yaml",
];

/// How the process before this one ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LastEnd {
    /// There was none: the directory is new.
    New,
    /// It shut down and flushed everything.
    Clean,
    /// It was killed, but the machine kept running: what it had written survives in the page cache.
    Killed,
    /// The machine went down under it: only what was flushed is certain.
    PowerLost,
}

/// A locked data directory. The lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    _lock: File,
    boot: BootId,
    last_end: LastEnd,
    incarnation: [u8; 16],
    node: Mutex<NodeFile>,
}

/// Why a data directory cannot be used. Displayed with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error(
        "data directory {} is in use by {}\n  hint: stop that process, or give this node a --data-dir of its own",
        root.display(), pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory.
        root: PathBuf,
        /// The process that holds the lock, if it could be told.
        pid: Option<u32>,
    },
    /// It cannot be written to.
    #[error("data directory {} cannot be written: {error}\n  hint: check its owner and permissions, and that the file system is not mounted read-only", root.display())]
    NotWritable {
        /// The directory.
        root: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// No space is left.
    #[error("no space is left for data directory {}: {error}\n  hint: free some space; nothing was lost", root.display())]
    Full {
        /// The directory.
        root: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// It is a file.
    #[error("data directory {} is not a directory\n  hint: choose another --data-dir", root.display())]
    NotADirectory {
        /// The path.
        root: PathBuf,
    },
    /// Somebody else's files lie there.
    #[error("data directory {} holds {found:?}, which is not Rafka's\n  hint: give the node an empty directory of its own with --data-dir", root.display())]
    Foreign {
        /// The directory.
        root: PathBuf,
        /// One of the foreign names.
        found: String,
    },
    /// `node.json` is damaged, or gone while there is data.
    #[error("{}: {reason}\n  hint: restore it from a backup; it says which node of which cluster the data belongs to", path.display())]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else that the operating system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

impl DataDirError {
    fn of(root: &Path, action: &'static str, path: &Path, error: io::Error) -> Self {
        let root = root.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::NotWritable { root, error },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { root, error },
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Self::NotADirectory { root },
            _ => Self::Io { action, path: path.to_owned(), error },
        }
    }
}

impl DataDir {
    /// Creates the directory if need be, locks it, and finds out how the last process ended.
    ///
    /// The clean-shutdown marker is consumed: a process that dies from here on has not shut down cleanly.
    ///
    /// # Errors
    /// [`DataDirError`]; nothing in the directory was changed then, except perhaps for the lock.
    pub fn open(root: &Path) -> Result<Self, DataDirError> {
        let failed = |action, path: &Path, error| DataDirError::of(root, action, path, error);
        fs::DirBuilder::new().recursive(true).mode(0o750).create(root).map_err(|e| failed("create", root, e))?;
        let root_buf = fs::canonicalize(root).map_err(|e| failed("find", root, e))?;
        let lock = take_lock(root)?;
        let node_path = root.join("node.json");
        let known = membership::read(&node_path)?;
        let is_new = known.is_none();
        if is_new {
            refuse_foreign(root)?;
        }
        let boot = this_boot();
        let last_end = match read_boot(&root.join("boot"))? {
            _ if is_new => LastEnd::New,
            _ if root.join("clean").exists() => LastEnd::Clean,
            Some(last) if last == boot => LastEnd::Killed,
            _ => LastEnd::PowerLost,
        };
        let dir = Self {
            root: root_buf,
            _lock: lock,
            boot,
            last_end,
            incarnation: random(),
            node: Mutex::new(known.unwrap_or_else(|| NodeFile::new(DirectoryId(random())))),
        };
        for sub in [dir.logs(), dir.metadata()] {
            fs::create_dir_all(&sub).map_err(|e| failed("create", &sub, e))?;
        }
        // The boot is noted before the marker goes: in between, a power cut must not look like a mere kill.
        dir.write_atomically("boot", boot.to_string().as_bytes())?;
        if is_new {
            let node = dir.node.lock().encode();
            dir.write_atomically("node.json", &node)?;
        }
        dir.remove_clean_marker()?;
        Ok(dir)
    }

    /// The directory itself, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where partitions lie.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Where the metadata log and image lie.
    #[must_use]
    pub fn metadata(&self) -> PathBuf {
        self.root.join("metadata")
    }

    /// The identity's key file.
    #[must_use]
    pub fn identity_key(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// Identity of the directory: lost with the disk.
    #[must_use]
    pub fn directory_id(&self) -> DirectoryId {
        self.node.lock().directory_id()
    }

    /// Boot of the machine.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        self.boot
    }

    /// How the process before this one ended.
    #[must_use]
    pub fn last_end(&self) -> LastEnd {
        self.last_end
    }

    /// Random identity of this process, to tell two processes of one node apart.
    #[must_use]
    pub fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    /// The cluster that the node belongs to, once it has founded or joined one.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.node.lock().membership()
    }

    /// Keeps `membership`, durable before this returns. A cluster id once kept is final.
    ///
    /// # Errors
    /// [`DataDirError::Corrupted`] if the node belongs to another cluster; otherwise what the disk says.
    pub fn save_membership(&self, membership: Membership) -> Result<(), DataDirError> {
        let mut node = self.node.lock();
        let next = node
            .with(membership)
            .map_err(|reason| DataDirError::Corrupted { path: self.root.join("node.json"), reason })?;
        self.write_atomically("node.json", &next.encode())?;
        *node = next;
        Ok(())
    }

    /// Whom the node nominated to found a cluster (`--bootstrap-expect`), as it was saved.
    #[must_use]
    pub fn nominee(&self) -> Option<String> {
        self.node.lock().nominee()
    }

    /// Keeps the nomination, durable before this returns, so that a restart does not nominate another.
    ///
    /// # Errors
    /// What the disk says.
    pub fn save_nominee(&self, nominee: &str) -> Result<(), DataDirError> {
        let mut node = self.node.lock();
        let next = node.with_nominee(nominee);
        self.write_atomically("node.json", &next.encode())?;
        *node = next;
        Ok(())
    }

    /// The last act of a clean shutdown: everything else is flushed already.
    ///
    /// # Errors
    /// What the disk says; the next start then recovers as after a kill, which is slower but safe.
    pub fn mark_clean(&self) -> Result<(), DataDirError> {
        self.write_atomically("clean", self.boot.to_string().as_bytes())
    }

    /// Free and total bytes of the file system.
    ///
    /// # Errors
    /// As `statvfs(2)`.
    pub fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free_bytes: bytes(stat.f_bavail), total_bytes: bytes(stat.f_blocks) })
    }

    fn remove_clean_marker(&self) -> Result<(), DataDirError> {
        let path = self.root.join("clean");
        match fs::remove_file(&path) {
            Ok(()) => self.sync_root(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(DataDirError::of(&self.root, "remove", &path, error)),
        }
    }

    fn write_atomically(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.root.join(name);
        let temporary = self.root.join(format!("{name}.tmp"));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| DataDirError::of(&self.root, "write", &path, error))?;
        self.sync_root()
    }

    fn sync_root(&self) -> Result<(), DataDirError> {
        File::open(&self.root)
            .and_then(|root| root.sync_all())
            .map_err(|error| DataDirError::of(&self.root, "flush", &self.root, error))
    }
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Space {
    /// Bytes that this process may still use.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

fn take_lock(root: &Path) -> Result<File, DataDirError> {
    let path = root.join("lock");
    let failed = |error| DataDirError::of(root, "lock", &path, error);
    let mut lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = lock.take(20).read_to_string(&mut pid);
            return Err(DataDirError::Locked { root: root.to_owned(), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    lock.set_len(0).and_then(|()| lock.rewind()).map_err(failed)?;
    writeln!(lock, "{}", std::process::id()).map_err(failed)?;
    Ok(lock)
}

/// Called only while there is no `node.json`.
fn refuse_foreign(root: &Path) -> Result<(), DataDirError> {
    let failed = |error| DataDirError::of(root, "list", root, error);
    for entry in fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = name.strip_suffix(".tmp").unwrap_or(&name);
        if !OURS.contains(&known) && !name.starts_with('.') {
            return Err(DataDirError::Foreign { root: root.to_owned(), found: name });
        }
        let holds_data =
            matches!(&*name, "logs" | "metadata") && fs::read_dir(entry.path()).map_err(failed)?.next().is_some();
        if holds_data {
            let reason = format!("missing, but {name}/ holds data");
            return Err(DataDirError::Corrupted { path: root.join("node.json"), reason });
        }
    }
    Ok(())
}

fn read_boot(path: &Path) -> Result<Option<BootId>, DataDirError> {
    match fs::read_to_string(path) {
        // An unreadable note is as good as none: recovery then trusts flushed data only.
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(DataDirError::Io { action: "read", path: path.to_owned(), error }),
    }
}

/// The kernel's boot id. Where there is none, every start counts as a new boot, which is slower but safe.
fn this_boot() -> BootId {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| text.trim().replace('-', "").parse().ok())
        .unwrap_or_else(|| BootId(random()))
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
