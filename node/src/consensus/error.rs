//! What can go wrong with the metadata log, as values.

use std::path::PathBuf;

use rafka_log::StorageError;
use rafka_log::atomic_file::AtomicFileError;
use rafka_model::NodeId;

const HINT: &str = "acknowledged metadata would be lost by going on, so nothing was changed\n  hint: restore the metadata \
                    directory from a copy, or, if other voters hold the cluster, remove it and join again";

/// Why the metadata log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Bytes that had been safe are not what was written.
    #[error("{} is damaged at byte {position}: {reason}; {HINT}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the trouble begins, bytes.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Vote, purge mark or snapshot is damaged.
    #[error("{0}; {HINT}")]
    DamagedFile(#[from] AtomicFileError),
    /// Entries are missing between files.
    #[error("{} lacks entry {index} of the metadata log; {HINT}", dir.display())]
    Missing {
        /// The log's directory.
        dir: PathBuf,
        /// First position that is missing.
        index: u64,
    },
    /// The consensus library refused what it found, or the state could not be restored.
    #[error("the metadata log cannot be opened: {0}")]
    Consensus(String),
}

/// Why a proposal was not, or perhaps was, applied.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// This voter does not lead; nothing was proposed.
    #[error("this node does not lead the metadata log")]
    NotLeader {
        /// Who does, when known.
        leader: Option<NodeId>,
    },
    /// The entry met another image than it was made for, and changed nothing.
    #[error("the entry was refused: {0}")]
    Refused(String),
    /// Leadership was lost, or time ran out, in between: the entry may or may not be applied.
    #[error("the outcome of the proposal is unknown: {0}")]
    OutcomeUnknown(String),
    /// The metadata log has stopped, by shutdown or because its disk failed.
    #[error("the metadata log has stopped: {0}")]
    Stopped(String),
}
