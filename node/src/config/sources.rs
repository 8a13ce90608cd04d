//! Where values come from. Everything is an argument, so that a test needs no process environment.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use rafka_model::limits::CONFIG_FILE_BYTES_MAX;

use super::value::Value;

/// Where a value was said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Nowhere: the built-in default.
    Default,
    /// In the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: u64,
    },
    /// In this environment variable.
    Variable(String),
    /// In the file that this environment variable names.
    VariableFile {
        /// The variable, with its `_FILE`.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// By this flag.
    Flag(&'static str),
}

impl Origin {
    /// Larger wins.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable(_) | Self::VariableFile { .. } => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::VariableFile { variable, path } => write!(f, "{} (${variable})", path.display()),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A flag that sets a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flag {
    /// The flag as it is written, with its dashes.
    pub flag: &'static str,
    /// The key as `section.name`.
    pub key: String,
    /// What it sets.
    pub value: Value,
}

/// Reads files; the host's, or a test's.
pub trait Files {
    /// The text of `path`, of at most [`CONFIG_FILE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// As [`std::fs::read_to_string`]; `FileTooLarge` beyond the limit.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug)]
pub struct HostFiles;

impl Files for HostFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        let limit = CONFIG_FILE_BYTES_MAX as u64;
        std::fs::File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
        if text.len() > CONFIG_FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("over {CONFIG_FILE_BYTES_MAX} bytes")));
        }
        Ok(text)
    }
}

/// Directories that are known before any configuration is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Directories {
    /// The data directory if none is configured.
    pub data: PathBuf,
    /// Configuration files that are looked for, in this order; the first hit is taken alone.
    pub search: Vec<PathBuf>,
}

impl Directories {
    /// Those of this machine and user. `environment` is asked for `STATE_DIRECTORY` (systemd).
    #[must_use]
    pub fn of_host(environment: &[(String, String)]) -> Self {
        let user = ProjectDirs::from("", "", "rafka");
        let state = environment.iter().find(|(name, value)| name == "STATE_DIRECTORY" && !value.is_empty());
        let data = match (state, &user) {
            // systemd separates several directories by colons; the first is ours.
            (Some((_, directories)), _) => directories.split(':').next().unwrap_or(directories).into(),
            (None, Some(user)) if !owns_the_machine() => user.data_local_dir().to_owned(),
            _ => "/var/lib/rafka".into(),
        };
        let mut search = vec!["./rafka.yaml".into(), "./config/config.yaml".into()];
        search.extend(user.map(|user| user.config_dir().join("config.yaml")));
        search.push("/etc/rafka/config.yaml".into());
        Self { data, search }
    }
}

/// True for root, and in a container, which has a machine for itself.
fn owns_the_machine() -> bool {
    let markers = ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"];
    rustix::process::geteuid().is_root() || markers.iter().any(|marker| Path::new(marker).exists())
}

/// Everything that a configuration is made from.
pub struct Sources<'a> {
    /// Flags of their own, such as `--listen`; they win over everything.
    pub flags: Vec<Flag>,
    /// `--set section.key=value`, in the order given.
    pub set: Vec<String>,
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Where to look when nobody says.
    pub directories: Directories,
    /// How to read.
    pub files: &'a dyn Files,
}

impl Sources<'static> {
    /// Those of this process, with what the command line said.
    #[must_use]
    pub fn of_process(flags: Vec<Flag>, set: Vec<String>, file: Option<PathBuf>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment: Vec<_> = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        let directories = Directories::of_host(&environment);
        Self { flags, set, file, environment, directories, files: &HostFiles }
    }
}
