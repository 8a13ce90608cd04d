//! The snapshot file of a voter: one, replaced whole.
//!
//! ```text
//! 0 length of the metadata u32 │ 4 metadata, CBOR │ the image, CBOR      (inside an atomic file, so checksummed)
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rafka_log::atomic_file::{self, AtomicFileError};
use rafka_log::disk::Disk;
use rafka_model::cbor;
use rafka_model::limits::SNAPSHOT_BYTES_MAX;

use super::types::{Snapshot, SnapshotMeta};

const META_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
pub(super) struct SnapshotFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl SnapshotFile {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, path: dir.join("snapshot") }
    }

    /// Replaces the snapshot, durably. Blocking.
    pub(super) fn save(&self, meta: &SnapshotMeta, image: &[u8]) -> io::Result<()> {
        let meta = cbor::encode(meta, META_BYTES_MAX).map_err(io::Error::other)?;
        let mut payload = Vec::with_capacity(4 + meta.len() + image.len());
        payload.extend_from_slice(&(meta.len() as u32).to_be_bytes());
        payload.extend_from_slice(&meta);
        payload.extend_from_slice(image);
        let saved = atomic_file::write(&*self.disk, &self.path, &payload);
        saved.map_err(|error| io::Error::new(error.kind, error.to_string()))
    }

    /// The snapshot there is. Blocking.
    pub(super) fn load(&self) -> Result<Option<Snapshot>, AtomicFileError> {
        let limit = 4 + META_BYTES_MAX + SNAPSHOT_BYTES_MAX;
        let Some(payload) = atomic_file::read(&*self.disk, &self.path, limit)? else { return Ok(None) };
        let corrupt = |reason| AtomicFileError::Corrupt { path: self.path.clone(), reason };
        let payload = Bytes::from(payload);
        let length = payload.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize);
        let length = length.filter(|length| *length <= payload.len() - 4);
        let length = length.ok_or_else(|| corrupt("its parts do not add up"))?;
        let meta = cbor::decode(&payload[4..4 + length], META_BYTES_MAX);
        let meta = meta.map_err(|_| corrupt("its metadata cannot be read"))?;
        Ok(Some(Snapshot { meta, snapshot: payload.slice(4 + length..) }))
    }
}
