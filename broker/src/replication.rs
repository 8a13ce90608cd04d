//! What the replicas of a partition decide: what is committed, who may be told so, and what a log is to be cut off.
//!
//! One machine for each partition and role, fed by a driver that keeps logs, connections and timers and decides nothing:
//! ```text
//!  follower side                                       leader side
//!  Follower::request ─▶ Fetcher::begin ── fetch ──────▶ Leader::fetched ─▶ Verdict (read the log, answer)
//!  Follower::answered ◀─ Fetcher::answered ◀── answer ──┘     │ Output::Propose ─▶ controller ─▶ metadata ─▶ Input::Changed
//!        └─▶ Step (append, truncate, restart)                 └ Output::AdvanceHighWatermark, Acknowledge, Refuse
//! ```
//! A fetch tells that the follower has what lies before its offset, so the follower does what a [`Step`] says before it
//! fetches again. The leader counts what it was told; the controller alone changes who is in sync.

mod epochs;
mod exchange;
mod fetcher;
mod follower;
mod leader;
mod rules;
#[cfg(any(test, feature = "mutants"))]
mod samples;
#[cfg(any(test, feature = "mutants"))]
pub mod simulation;
#[cfg(test)]
mod testing;

pub use epochs::Epochs;
pub use exchange::{AlterPartition, FetchPartition, Fetched, FetchedPartition, Identity, ReplicaFetch, ReplicaFetched};
pub use fetcher::Fetcher;
pub use follower::{Follower, Step};
pub use leader::{Config, Election, Input, Leader, Members, Output, Position, Ticket, Verdict};
pub use rules::{Rule, Rules};
