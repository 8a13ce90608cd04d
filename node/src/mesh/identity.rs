//! The node's identity: an Ed25519 key in its data directory. Who holds the file is the node.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use libp2p::PeerId;
use libp2p::identity::{KeyType, Keypair};

/// A key file is a few dozen bytes; more is something else.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// Who this node is on the mesh.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The key; the transport and signatures need it.
    pub keypair: Keypair,
    /// Its public face.
    pub peer_id: PeerId,
}

/// Why an identity could not be taken from its file.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Others may read the key.
    #[error("{} can be read by others (mode {mode:03o})\n  hint: chmod 600 {}", path.display(), path.display())]
    Permissions {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no Ed25519 key.
    #[error(
        "{} holds no Ed25519 key: {reason}\n  hint: restore it from a backup; without it the node is a stranger to its \
         cluster (to begin anew as another node, move the whole data directory away)",
        path.display()
    )]
    Corrupted {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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
}

impl Identity {
    fn new(keypair: Keypair) -> Self {
        let peer_id = keypair.public().to_peer_id();
        Self { keypair, peer_id }
    }

    /// Reads the identity at `path`, or makes one and writes it there (mode 0600, durable, never half).
    ///
    /// # Errors
    /// [`IdentityError`]; an existing file is never overwritten.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            loaded => loaded,
        }
    }

    /// Reads the identity at `path`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::Io { action: "read", path: path.to_owned(), error };
        let corrupted = |reason: String| IdentityError::Corrupted { path: path.to_owned(), reason };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Permissions { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let keypair = Keypair::from_protobuf_encoding(&bytes).map_err(|error| corrupted(error.to_string()))?;
        match keypair.key_type() {
            KeyType::Ed25519 => Ok(Self::new(keypair)),
            other => Err(corrupted(format!("it is a {other} key"))),
        }
    }

    fn create(path: &Path) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::Io { action: "create", path: path.to_owned(), error };
        let keypair = Keypair::generate_ed25519();
        let bytes = keypair.to_protobuf_encoding().map_err(|error| failed(io::Error::other(error)))?;
        let temporary = path.with_extension("key.tmp");
        // A leftover of a start that was killed here.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&temporary, path).map_err(failed)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(Self::new(keypair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key_file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("identity.key");
        (directory, path)
    }

    #[test]
    fn an_identity_is_made_once_and_only_its_owner_may_read_it() {
        let (_directory, path) = key_file();
        fs::write(path.with_extension("key.tmp"), "left by a crash").expect("writes");
        let made = Identity::load_or_create(&path).expect("created");
        assert_eq!(fs::metadata(&path).expect("exists").mode() & 0o777, 0o600);
        assert_eq!(Identity::load_or_create(&path).expect("loaded").peer_id, made.peer_id);
        assert!(!path.with_extension("key.tmp").exists());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let (_directory, path) = key_file();
        Identity::load_or_create(&path).expect("created");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changes");
        let error = Identity::load_or_create(&path).expect_err("too open").to_string();
        assert!(error.contains("mode 640") && error.contains("hint: chmod 600"), "{error}");
    }

    #[test]
    fn a_corrupted_key_is_refused_and_kept() {
        let (_directory, path) = key_file();
        Identity::load_or_create(&path).expect("created");
        let good = fs::read(&path).expect("reads");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).expect("writes");
            let refused = matches!(Identity::load_or_create(&path), Err(IdentityError::Corrupted { .. }));
            assert!(refused, "a flipped bit of byte {at} went unnoticed");
            assert_eq!(fs::read(&path).expect("reads"), bad, "kept for the operator");
        }
        for cut in 0..good.len() {
            fs::write(&path, &good[..cut]).expect("writes");
            assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Corrupted { .. })), "cut at {cut}");
        }
    }
}
