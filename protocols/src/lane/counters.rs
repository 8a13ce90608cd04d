//! What lanes did, as plain counters; whoever exports metrics reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rpc;

/// Counters of all lanes of one swarm.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests by how they ended, together with those that went by request-response.
    pub exchanges: Arc<rpc::Counters>,
    /// Lanes opened by this side.
    pub opened: Count,
    /// Lanes opened by peers.
    pub accepted: Count,
    /// Lanes that could not be opened.
    pub failed: Count,
    /// Lanes that broke off: what was under way was lost.
    pub broken: Count,
    /// Lanes that broke off because the peer broke the rules.
    pub violated: Count,
    /// Lanes opened again after one that broke off.
    pub reconnects: Count,
    /// Calls that were not sent by the lane they were meant for, and tried another way.
    pub rerouted: Count,
    /// Calls that went by request-response because no lane was there.
    pub fallbacks: Count,
    /// Requests and replies sent.
    pub frames_sent: Count,
    /// Requests and replies received.
    pub frames_received: Count,
    /// Bytes sent, heads with them.
    pub bytes_sent: Count,
    /// Bytes received, heads with them.
    pub bytes_received: Count,
    /// Lanes that stand now.
    pub lanes: Level,
    /// Calls without an answer now.
    pub calls: Level,
    /// Requests being served now.
    pub served: Level,
    /// Bytes of answers that wait for their readers now.
    pub held_bytes: Level,
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Count {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So much so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

impl Level {
    /// As it is now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Moves by the difference of `was` and `is`, one part of what is counted.
    pub(super) fn moved(&self, was: usize, is: usize) {
        self.0.fetch_add((is as u64).wrapping_sub(was as u64), Ordering::Relaxed);
    }
}
