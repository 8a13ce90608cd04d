//! What went by, as plain counters; whoever exports metrics reads them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Protocol;
use crate::protocol::PROTOCOLS;

/// Who asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The other side.
    Inbound,
    /// This side.
    Outbound,
}

/// How a request ended, seen from this side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// With an answer.
    Answered,
    /// With the words why there is none.
    Refused,
    /// Not begun: too much is going on already.
    Busy,
    /// The peer could not be reached.
    Dial,
    /// No answer in time.
    Timeout,
    /// The connection or substream ended before the answer.
    Closed,
    /// The peer does not speak the protocol.
    Unsupported,
    /// What came was not a frame.
    Frame,
    /// The caller lost interest.
    Cancelled,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// Label in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Outcome {
    /// Every outcome, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Answered,
        Self::Refused,
        Self::Busy,
        Self::Dial,
        Self::Timeout,
        Self::Closed,
        Self::Unsupported,
        Self::Frame,
        Self::Cancelled,
    ];

    /// Label in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Dial => "dial",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Unsupported => "unsupported",
            Self::Frame => "frame",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Counters of all calls of one [`Behaviour`](super::Behaviour), or of several that share them.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [[[AtomicU64; Outcome::ALL.len()]; PROTOCOLS]; 2],
    received_bytes: [AtomicU64; PROTOCOLS],
    sent_bytes: [AtomicU64; PROTOCOLS],
}

impl Counters {
    /// Requests that ended so.
    #[must_use]
    pub fn requests(&self, direction: Direction, protocol: Protocol, outcome: Outcome) -> u64 {
        self.requests[direction as usize][protocol as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// Bytes of whole frames that came, requests and answers together.
    #[must_use]
    pub fn received_bytes(&self, protocol: Protocol) -> u64 {
        self.received_bytes[protocol as usize].load(Ordering::Relaxed)
    }

    /// Bytes of whole frames that went out, requests and answers together.
    #[must_use]
    pub fn sent_bytes(&self, protocol: Protocol) -> u64 {
        self.sent_bytes[protocol as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, direction: Direction, protocol: Protocol, outcome: Outcome) {
        self.requests[direction as usize][protocol as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, protocol: Protocol, bytes: usize) {
        self.received_bytes[protocol as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, protocol: Protocol, bytes: usize) {
        self.sent_bytes[protocol as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_indexed_by_their_position() {
        for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, i);
        }
        let counters = Counters::default();
        counters.count(Direction::Outbound, Protocol::Fetch, Outcome::Cancelled);
        assert_eq!(counters.requests(Direction::Outbound, Protocol::Fetch, Outcome::Cancelled), 1);
        assert_eq!(counters.requests(Direction::Inbound, Protocol::Fetch, Outcome::Cancelled), 0);
    }
}
