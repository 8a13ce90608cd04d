//! The directory of a dev cluster, below the user's state directory.
//!
//! ```text
//! lock              held by the supervisor
//! control.sock      where it listens
//! keep              the data outlives the cluster
//! supervisor.log    of a supervisor in the background
//! node-1/data       data directory of node 1
//! node-1/log        what it logged
//! node-1/ready.json its ready file
//! node-1/config.yaml
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::context::project;
use crate::errors::{CliError, Exit, Result};

/// Children of a supervisor that was killed are gone by then.
const ORPHANS_GONE: Duration = Duration::from_secs(30);
/// Longest path that fits a socket's address, with its zero.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// The directory of one cluster.
#[derive(Clone, Debug)]
pub(super) struct DevDir {
    name: String,
    root: PathBuf,
}

/// Held by a supervisor as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// The files of one node.
#[derive(Clone, Debug)]
pub(super) struct NodeDir {
    root: PathBuf,
}

impl DevDir {
    /// That of this user's cluster `name`; it may not exist.
    pub(super) fn of_user(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), root: all()?.join(name) })
    }

    /// Those that exist.
    pub(super) fn all() -> Vec<Self> {
        let Ok(all) = all() else { return Vec::new() };
        let entries = fs::read_dir(&all).into_iter().flatten().filter_map(std::result::Result::ok);
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        entries.filter_map(name).map(|name| Self { root: all.join(&name), name }).collect()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn exists(&self) -> bool {
        self.root.exists()
    }

    pub(super) fn node(&self, number: u32) -> NodeDir {
        NodeDir { root: self.root.join(format!("node-{number}")) }
    }

    /// Numbers of the nodes that have files here.
    pub(super) fn nodes(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().filter_map(std::result::Result::ok);
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("node-")?.parse().ok();
        let mut numbers: Vec<u32> = entries.filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn supervisor_log(&self) -> PathBuf {
        self.root.join("supervisor.log")
    }

    pub(super) fn create(&self) -> Result {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.root).map_err(|error| CliError::file("create", &self.root, &error))
    }

    /// Becomes the supervisor; `None` if there is one.
    pub(super) fn lock(&self) -> Result<Option<Lock>> {
        let path = self.root.join("lock");
        let failed = |error: &io::Error| CliError::file("lock", &path, error);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|error| failed(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    /// Is there a supervisor?
    pub(super) fn is_running(&self) -> bool {
        self.exists() && matches!(self.lock(), Ok(None))
    }

    pub(super) fn is_kept(&self) -> bool {
        self.root.join("keep").exists()
    }

    pub(super) fn set_kept(&self) -> Result {
        let path = self.root.join("keep");
        fs::write(&path, "").map_err(|error| CliError::file("write", &path, &error))
    }

    /// Takes away what a supervisor left that did not end in peace; waits for its children, which notice by themselves.
    pub(super) async fn clear_stale(&self) -> Result {
        let _ = fs::remove_file(self.root.join("control.sock"));
        let gone = async {
            for number in self.nodes() {
                while self.node(number).is_in_use() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(ORPHANS_GONE, gone).await.map_err(|_| {
            CliError::new(Exit::Conflict, format!("a node of an earlier cluster {:?} is still running", self.name))
                .hint(format!("end it: its pid is in {}", self.root.join("node-*/data/lock").display()))
        })?;
        if self.is_kept() {
            return Ok(());
        }
        for number in self.nodes() {
            let _ = fs::remove_file(self.node(number).log());
        }
        self.remove_data()
    }

    /// Removes the data of all nodes; logs stay.
    pub(super) fn remove_data(&self) -> Result {
        for number in self.nodes() {
            let node = self.node(number);
            let _ = fs::remove_file(node.ready_file());
            match fs::remove_dir_all(node.data()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(CliError::file("remove", &node.data(), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes everything.
    pub(super) fn remove(&self) -> Result {
        fs::remove_dir_all(&self.root).map_err(|error| CliError::file("remove", &self.root, &error))
    }

    /// Calls `with` with a path of the control socket that fits a socket's address, however deep the directory lies.
    pub(super) fn with_socket<T>(&self, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let path = self.root.join("control.sock");
        if path.as_os_str().len() < SOCKET_PATH_BYTES_MAX {
            return with(&path);
        }
        let directory = File::open(&self.root)?;
        with(&PathBuf::from(format!("/proc/self/fd/{}/control.sock", directory.as_raw_fd())))
    }
}

impl NodeDir {
    pub(super) fn create(&self) -> Result {
        fs::create_dir_all(&self.root).map_err(|error| CliError::file("create", &self.root, &error))
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(super) fn ready_file(&self) -> PathBuf {
        self.root.join("ready.json")
    }

    /// The node's configuration file: with it, no other is looked for.
    pub(super) fn config(&self) -> PathBuf {
        self.root.join("config.yaml")
    }

    /// Does a process hold the data directory?
    fn is_in_use(&self) -> bool {
        let Ok(lock) = File::open(self.data().join("lock")) else { return false };
        matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
    }
}

fn all() -> Result<PathBuf> {
    let project = project()?;
    Ok(project.state_dir().unwrap_or_else(|| project.data_local_dir()).join("dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(root: &Path) -> DevDir {
        let directory = DevDir { name: "dev".to_owned(), root: root.join("dev") };
        directory.create().expect("created");
        directory
    }

    #[test]
    fn one_supervisor_at_a_time() {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = directory(temporary.path());
        assert!(!directory.is_running());
        let lock = directory.lock().expect("locks").expect("is free");
        assert!(directory.is_running() && directory.lock().expect("looks").is_none());
        drop(lock);
        assert!(!directory.is_running());
    }

    #[tokio::test]
    async fn what_a_dead_supervisor_left_is_cleared_but_kept_data_stays() {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = directory(temporary.path());
        let data = directory.node(2).data();
        let fill = || {
            fs::create_dir_all(&data).expect("created");
            fs::write(data.join("x"), "").expect("written");
            fs::write(directory.root().join("control.sock"), "").expect("written");
        };
        fill();
        directory.set_kept().expect("kept");
        directory.clear_stale().await.expect("cleared");
        assert!(data.join("x").exists() && !directory.root().join("control.sock").exists());
        fs::remove_file(directory.root().join("keep")).expect("removed");
        directory.clear_stale().await.expect("cleared");
        assert!(!data.exists());
        assert_eq!(directory.nodes(), [2]);
    }

    #[test]
    fn a_socket_fits_however_deep_the_directory_lies() {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = directory(&temporary.path().join("d".repeat(120)));
        let listener = directory.with_socket(|path| std::os::unix::net::UnixListener::bind(path)).expect("binds");
        let connected = directory.with_socket(|path| std::os::unix::net::UnixStream::connect(path));
        assert!(connected.is_ok() && listener.accept().is_ok());
    }
}
