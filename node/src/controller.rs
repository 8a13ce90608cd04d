//! The controller's driver: feeds `rafka_broker::controller` with requests, heartbeats and time, and carries its
//! decisions to the metadata log.
//!
//! Drain what is queued → evaluate on the overlay → propose the entry → wait until it is applied → answer
//! (CLUSTER.md, "Metadata log"). Whatever goes wrong on the way, the driver never guesses: callers learn that the outcome is
//! unknown, and a new controller is built from what was applied, behind a fresh barrier.

mod driver;
mod handle;
mod key;
mod records;
#[cfg(test)]
mod tests;

pub use driver::Driver;
pub use handle::{Founding, Handle, Joined, Stats};
pub use key::{ClusterKey, KeyError};
pub use records::Records;

/// Version of the cluster's behaviour that this program founds.
pub const FEATURE_LEVEL: u32 = 1;
