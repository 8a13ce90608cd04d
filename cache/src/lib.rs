//! Byte-bounded LRU of committed batches, the sidecar of every node.
//!
//! A committed batch never changes, so there is nothing to keep coherent: an entry is keyed by
//! partition and base offset, and dies only by eviction or when its log start, log end or topic
//! moves past it. At an owner the cache saves the disk, at a gateway the network.

mod cache;
mod stats;

pub use cache::{Cache, ENTRY_OVERHEAD_BYTES, Run};
pub use stats::Stats;
