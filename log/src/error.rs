//! What can go wrong, as values.

use std::io;
use std::path::{Path, PathBuf};

use rafka_model::{LeaderEpoch, Offset};

/// An operation on the disk failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("cannot {operation} {}: {reason}", path.display())]
pub struct StorageError {
    /// What was tried: a verb.
    pub operation: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// Kind of the error.
    pub kind: io::ErrorKind,
    /// The operating system's words.
    pub reason: String,
}

impl StorageError {
    /// Describes `error`.
    #[must_use]
    pub fn new(operation: &'static str, path: &Path, error: &io::Error) -> Self {
        Self { operation, path: path.to_owned(), kind: error.kind(), reason: error.to_string() }
    }

    /// Is the disk full (or a quota reached)? Then the operation can succeed later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Bytes of a segment that are not what was written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{} is damaged at byte {position} (offset {offset}): {reason}", segment.display())]
pub struct Corruption {
    /// The segment's file.
    pub segment: PathBuf,
    /// Byte of the file at which the damaged batch begins.
    pub position: u64,
    /// Offset of the first record that cannot be trusted.
    pub offset: Offset,
    /// What is wrong.
    pub reason: String,
}

/// Why a log cannot be opened or changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Data that had been safe is damaged, and opening the log would have to drop what follows it. Nothing was changed.
    #[error("{0}; nothing was changed: restore the file, or salvage the log, which drops everything from there")]
    Corrupt(#[from] Corruption),
    /// An earlier sync failed: what the disk holds is unknown until the log is opened again.
    #[error("an earlier sync of {} failed; restart the node after checking the disk", dir.display())]
    Poisoned {
        /// The log's directory.
        dir: PathBuf,
    },
}

/// Why an append did not succeed. The log is as it was before.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// Over `max.message.bytes`.
    #[error("batch is {bytes} bytes, limit is {limit} bytes")]
    BatchTooLarge {
        /// Size of the batch.
        bytes: u64,
        /// The topic's limit.
        limit: u32,
    },
    /// A newer leader wrote here; the caller must become a follower.
    #[error("leader epoch {given} is older than {latest}, the latest of this log")]
    Fenced {
        /// Epoch of the append.
        given: LeaderEpoch,
        /// Latest epoch of the log.
        latest: LeaderEpoch,
    },
    /// A batch from the leader does not begin where this log ends.
    #[error("batch begins at offset {found}, the log ends at {expected}")]
    OutOfOrder {
        /// The log's end.
        expected: Offset,
        /// Base offset of the batch.
        found: Offset,
    },
    /// No offsets are left in this partition.
    #[error("offsets of this partition are used up")]
    OffsetsExhausted,
    /// No space left. A later append succeeds once there is some.
    #[error("disk is full: {0}")]
    DiskFull(StorageError),
    /// The disk failed otherwise.
    #[error(transparent)]
    Storage(StorageError),
    /// An earlier sync failed: the log takes no more until it is opened again.
    #[error("an earlier sync of {} failed; restart the node after checking the disk", dir.display())]
    Poisoned {
        /// The log's directory.
        dir: PathBuf,
    },
}

impl From<StorageError> for AppendError {
    fn from(error: StorageError) -> Self {
        if error.is_full() { Self::DiskFull(error) } else { Self::Storage(error) }
    }
}

/// Why a read did not succeed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {asked} is not in the log, which holds {start}..{end}")]
    OutOfRange {
        /// What was asked for.
        asked: Offset,
        /// Log start.
        start: Offset,
        /// Log end (exclusive).
        end: Offset,
    },
    /// The bytes on disk are damaged. Other offsets of the log are not concerned.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a compaction did not succeed. Nothing has changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CompactionError {
    /// The caller wanted no more.
    #[error("compaction was stopped")]
    Stopped,
    /// Segments were removed meanwhile, or cannot be rewritten as they are. Try again with a new plan.
    #[error("segments changed while they were compacted")]
    Overtaken,
    /// A segment is damaged, or the disk failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A new file could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
