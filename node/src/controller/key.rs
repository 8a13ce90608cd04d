//! The cluster key: whoever holds it speaks for the cluster. It lies on voters, and nowhere else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rafka_dht::Signer;
use rafka_model::ClusterId;

/// Two lines of hex digits; more is something else.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// The secret half of the cluster key.
pub struct ClusterKey {
    signer: Signer,
}

/// Why the cluster key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Others may read the key.
    #[error("{} can be read by others (mode {mode:03o})\n  hint: chmod 600 {}", path.display(), path.display())]
    Permissions {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no cluster key, or not the one that was written.
    #[error(
        "{} holds no cluster key: {reason}\n  hint: restore it from a backup or from another voter; without it no node \
         can be admitted and no record be signed",
        path.display()
    )]
    Corrupted {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The machine gives no random numbers.
    #[error("no random numbers for a new cluster key: {0}")]
    Random(String),
}

/// A secret as text; told apart from other ids by its type only while it is parsed.
struct Hex([u8; 32]);

impl FromStr for Hex {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse::<ClusterId>().map(|id| Self(id.0)).map_err(|_| ())
    }
}

impl ClusterKey {
    /// Where the key lies in the data directory `data`.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("metadata").join("cluster-key")
    }

    /// The key of this secret.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self { signer: Signer::new(secret) }
    }

    /// Reads the key of the data directory `data`, or makes one and writes it there (mode 0600, durable, never half): for
    /// the founder, whose start may have been cut short.
    ///
    /// # Errors
    /// [`KeyError`]; an existing file is never overwritten.
    pub fn load_or_create(data: &Path) -> Result<Self, KeyError> {
        match Self::load(data) {
            Err(KeyError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Self::create(data),
            loaded => loaded,
        }
    }

    /// Reads the key of the data directory `data`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load(data: &Path) -> Result<Self, KeyError> {
        let path = Self::path(data);
        let failed = |error| KeyError::Io { action: "read", path: path.clone(), error };
        let file = File::open(&path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permissions { path, mode });
        }
        let mut text = String::new();
        file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => KeyError::Corrupted { path: path.clone(), reason: "it is not text" },
            _ => failed(error),
        })?;
        let corrupted = |reason| KeyError::Corrupted { path: path.clone(), reason };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|hex| hex.parse::<Hex>().ok()).map(|hex| hex.0)
        };
        let secret = field("secret").ok_or_else(|| corrupted("its line \"secret\" is not 64 hex digits"))?;
        let public = field("public").ok_or_else(|| corrupted("its line \"public\" is not 64 hex digits"))?;
        let key = Self::from_secret(&secret);
        if key.public_key() == public { Ok(key) } else { Err(corrupted("its two halves do not belong together")) }
    }

    fn create(data: &Path) -> Result<Self, KeyError> {
        let path = Self::path(data);
        let failed = |error| KeyError::Io { action: "create", path: path.clone(), error };
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| KeyError::Random(error.to_string()))?;
        let key = Self::from_secret(&secret);
        let directory = path.parent().unwrap_or(data);
        fs::create_dir_all(directory).map_err(failed)?;
        let temporary = path.with_extension("tmp");
        // A leftover of a start that was killed here.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let text = format!("secret {}\npublic {}\n", ClusterId(secret), ClusterId(key.public_key()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&temporary, &path).map_err(failed)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(key)
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.signer.public_key()
    }

    /// The cluster: hash of the public half.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.signer.cluster_id()
    }

    /// Signs DHT records.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Signs a message that keeps itself apart by a prefix, as certificates do.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signer.sign_bytes(message)
    }
}
