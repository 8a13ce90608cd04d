//! What the replicas of a partition decide: what is committed, and who may be told so.
//!
//! Today a partition has one replica, so there is only a [`Leader`]; it counts followers all the same, because the
//! high watermark is theirs as much as its own.

mod exchange;
mod leader;
mod rules;

pub use exchange::{AlterPartition, FetchPartition, Fetched, FetchedPartition, ReplicaFetch, ReplicaFetched};
pub use leader::{Config, Input, Leader, Output, Position, Ticket};
pub use rules::{Rule, Rules};
