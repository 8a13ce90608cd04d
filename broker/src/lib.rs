//! What a broker and the controller decide, without I/O.
//!
//! Nothing here reads a clock, a random source or a socket: every decision is a function of state
//! and arguments, so that the simulator can drive the same code that `node` feeds and carries out.

pub mod autopilot;
pub mod controller;
mod describe;
pub mod detector;
pub mod error;
pub mod flushing;
pub mod group;
pub mod invariants;
pub mod metadata;
pub mod placement;
pub mod producer;
pub mod purgatory;
pub mod rebalance;
pub mod replication;
pub mod request;
pub mod rules;

#[cfg(any(test, feature = "mutants"))]
mod samples;
#[cfg(test)]
mod testing;

pub use describe::{describe_cluster, describe_topic, describe_topics};
pub use error::{ErrorCode, Failure, LeaderHint};
