//! The partition log: segments of record batches on a disk, sparse indexes, leader epochs, recovery, retention,
//! compaction.
//!
//! [`PartitionLog`] is the one writer of a partition's directory; [`LogReader`]s read beside it, [`Flush`]es sync beside it.
//! Nothing here reads a clock or chooses a thread: time is an argument, and what may block for long ([`Flush::run`], cold
//! reads) can be called from wherever the caller likes.
//!
//! ```text
//! <dir>/00000000000000000000.log        batches, back to back; the newest segment may end in preallocated zeros
//!       00000000000000000000.index      offset -> position   } sparse, checksummed, built again when wrong
//!       00000000000000000000.timeindex  time -> offset       }
//!       leader-epoch-checkpoint         which leader wrote from where
//!       recovery-point                  from where to scan after a crash
//!       00000000000000000042.snapshot   what was known of producers in front of offset 42
//!       compaction-point                how far the log is compacted
//! ```

pub mod atomic_file;
mod checkpoint;
mod compaction;
mod config;
pub mod disk;
mod epochs;
mod error;
mod flush;
mod index;
mod inspect;
mod partition;
mod producers;
mod reader;
mod recovery;
mod segment;
mod shared;
mod walk;

pub use compaction::{Compacted, Compaction, CompactionLimits, CompactionReport};
pub use config::LogConfig;
pub use error::{AppendError, CompactionError, Corruption, LogError, ReadError, StorageError};
pub use flush::Flush;
pub use inspect::SegmentBatches;
pub use partition::{Appended, PartitionLog, Retained};
pub use producers::Restored;
pub use reader::LogReader;
pub use recovery::{Recovery, Shutdown};
