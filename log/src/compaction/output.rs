//! A new segment, being written beside the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rafka_model::{BatchHeader, LeaderEpoch, Offset, Timestamp};

use super::{Pacer, raw};
use crate::disk::DiskFile;
use crate::error::{CompactionError, StorageError};
use crate::index::{Index, NO_TIMESTAMP, entry};
use crate::segment::{CLEANED, Segment};
use crate::shared::Shared;

/// Bytes are written in steps of this, unless one batch is larger.
const WRITE_STEP_BYTES: usize = 1 << 20;

/// A file that shall take the place of some segments. Its files are removed with it unless it was [`Self::release`]d.
#[derive(Debug)]
pub(crate) struct Output {
    shared: Arc<Shared>,
    base: Offset,
    /// Where the last of `inputs` ends.
    end: Offset,
    inputs: Vec<Arc<Segment>>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    index: Index,
    /// Bytes so far, with those in the buffer.
    bytes: u64,
    buffer: Vec<u8>,
    since_index: u64,
    max_timestamp: i64,
    gap: Option<Gap>,
    changed: bool,
    released: bool,
}

/// Offsets whose batches are gone, of one leader epoch.
#[derive(Clone, Copy, Debug)]
struct Gap {
    base: Offset,
    next: Offset,
    epoch: LeaderEpoch,
    max_timestamp: Timestamp,
    batches: u32,
}

impl Output {
    pub(super) fn begin(shared: &Arc<Shared>, base: Offset) -> Result<Self, CompactionError> {
        let path = shared.dir.join(format!("{:020}{CLEANED}", base.0));
        let created = shared.disk.create(&path);
        let file = created.map_err(|error| StorageError::new("create", &path, &error))?;
        let index = Index::aside(&shared.dir, base, CLEANED);
        // Left by a round that failed and could not clean up.
        index.paths().into_iter().for_each(|path| drop(shared.disk.remove(path)));
        Ok(Self {
            shared: shared.clone(),
            base,
            end: base,
            inputs: Vec::new(),
            file,
            path,
            index,
            bytes: 0,
            buffer: Vec::new(),
            since_index: 0,
            max_timestamp: NO_TIMESTAMP,
            gap: None,
            changed: false,
            released: false,
        })
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn inputs(&self) -> &[Arc<Segment>] {
        &self.inputs
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Is it anything but a copy of one segment?
    pub(crate) fn is_changed(&self) -> bool {
        self.changed || self.inputs.len() > 1
    }

    /// Its files belong to the log now.
    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    /// What follows comes from `segment`, which ends at `end`.
    pub(super) fn take_in(&mut self, segment: &Arc<Segment>, end: Offset) {
        self.inputs.push(segment.clone());
        self.end = end;
    }

    pub(super) fn keep(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        pacer: &mut Pacer<'_>,
    ) -> Result<(), CompactionError> {
        self.close_gap(pacer)?;
        self.append(header, batch, pacer)
    }

    pub(super) fn replace(&mut self, batch: &[u8], pacer: &mut Pacer<'_>) -> Result<(), CompactionError> {
        self.close_gap(pacer)?;
        self.changed = true;
        let header = BatchHeader::parse(batch).expect("what was built parses");
        self.append(&header, batch, pacer)
    }

    pub(super) fn drop_batch(&mut self, header: &BatchHeader, pacer: &mut Pacer<'_>) -> Result<(), CompactionError> {
        // An empty batch of nobody is such a gap already.
        self.changed |= header.record_count > 0 || header.producer_id.0 >= 0;
        match &mut self.gap {
            Some(gap) if gap.epoch == header.leader_epoch => {
                gap.next = header.next_offset();
                gap.max_timestamp = gap.max_timestamp.max(header.max_timestamp);
                gap.batches += 1;
                self.changed = true;
            }
            _ => {
                self.close_gap(pacer)?;
                self.gap = Some(Gap {
                    base: header.base_offset,
                    next: header.next_offset(),
                    epoch: header.leader_epoch,
                    max_timestamp: header.max_timestamp,
                    batches: 1,
                });
            }
        }
        Ok(())
    }

    /// Writes the batch that stands for what was dropped.
    fn close_gap(&mut self, pacer: &mut Pacer<'_>) -> Result<(), CompactionError> {
        let Some(gap) = self.gap.take() else { return Ok(()) };
        // No output spans more offsets than an i32 counts.
        let delta = i32::try_from(gap.next.0 - gap.base.0 - 1).unwrap_or(i32::MAX);
        let bytes = raw::placeholder(gap.base, delta, gap.epoch, gap.max_timestamp);
        let header = BatchHeader::parse(&bytes).expect("what was built parses");
        self.append(&header, &bytes, pacer)
    }

    fn append(&mut self, header: &BatchHeader, batch: &[u8], pacer: &mut Pacer<'_>) -> Result<(), CompactionError> {
        if self.since_index > u64::from(self.shared.interval())
            && !self.index.is_full()
            && let Some(entry) = entry(self.base, header.base_offset, self.bytes, self.max_timestamp)
        {
            self.index.push(&*self.shared.disk, entry);
            self.since_index = 0;
        }
        self.buffer.extend_from_slice(batch);
        self.bytes += batch.len() as u64;
        self.since_index += batch.len() as u64;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp.0);
        if self.buffer.len() >= WRITE_STEP_BYTES {
            self.write_out(pacer)?;
        }
        Ok(())
    }

    fn write_out(&mut self, pacer: &mut Pacer<'_>) -> Result<(), CompactionError> {
        let bytes = self.buffer.len() as u64;
        let written = self.file.write_at(&[&self.buffer], self.bytes - bytes);
        written.map_err(|error| StorageError::new("write", &self.path, &error))?;
        self.buffer.clear();
        pacer.wrote(bytes)
    }

    /// Writes and syncs what is left.
    pub(super) fn finish(mut self, pacer: &mut Pacer<'_>) -> Result<Self, CompactionError> {
        self.close_gap(pacer)?;
        if !self.buffer.is_empty() {
            self.write_out(pacer)?;
        }
        self.buffer = Vec::new();
        self.file.sync_data().map_err(|error| StorageError::new("sync", &self.path, &error))?;
        // Positions are u32; what grew beyond (recompressed by a weaker encoder) cannot be a segment.
        let end = entry(self.base, self.end, self.bytes, self.max_timestamp).ok_or(CompactionError::Overtaken)?;
        self.index.seal(&*self.shared.disk, end);
        Ok(self)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.released {
            let paths = [&*self.path].into_iter().chain(self.index.paths());
            // What stays is removed at the next start.
            paths.for_each(|path| drop(self.shared.disk.remove(path)));
        }
    }
}
