//! What the fetcher asks to be done, and what it takes back.

use std::collections::VecDeque;
use std::sync::Arc;

use libp2p::PeerId;
use rafka_broker::request::OffsetSpec;
use rafka_dht::Route;
use rafka_model::{BatchError, Offset, PartitionId, RecordBatch, TopicName};

use super::Progress;
use crate::Error;

/// A partition's place in the fetcher.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct Slot(pub(super) usize);

#[cfg(test)]
impl Slot {
    pub(crate) fn first() -> Self {
        Self(0)
    }
}

/// One partition's line of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line<T> {
    pub(crate) slot: Slot,
    /// To the leader that is asked.
    pub(crate) route: Arc<Route>,
    pub(crate) wanted: T,
}

/// Something to do; every slot named comes back through one of the inputs.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Find the leader → [`Fetcher::routed`].
    Route { slot: Slot, topic: TopicName, partition: PartitionId },
    /// Look offsets up → [`Fetcher::listed`].
    List { peer: PeerId, lines: Vec<Line<OffsetSpec>> },
    /// Read → [`Fetcher::fetched`].
    Fetch { flight: Flight, lines: Vec<Line<Offset>> },
}

/// A fetch on its way, as the fetcher counts it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Flight {
    pub(crate) peer: PeerId,
    /// Bytes to ask for.
    pub(crate) bytes: u32,
    /// For partitions that had news the last time.
    pub(super) bulk: bool,
}

/// What one partition answered to a fetch, checksums verified.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) high_watermark: Offset,
    pub(crate) batches: Result<Vec<RecordBatch>, BatchError>,
}

/// Batches for the user, or an error in their place.
#[derive(Debug)]
pub(crate) enum Item {
    Chunk(Chunk),
    Error(Error),
}

/// Batches of one partition in order.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) slot: Slot,
    pub(crate) topic: TopicName,
    pub(crate) partition: PartitionId,
    /// Records below were read before.
    pub(crate) from: Offset,
    /// The offset behind the last batch.
    pub(crate) next: Offset,
    /// Records from here on are not wanted.
    pub(crate) stop: Option<Offset>,
    pub(crate) batches: VecDeque<RecordBatch>,
    /// To give back through [`Fetcher::consumed`].
    pub(crate) bytes: usize,
    pub(crate) progress: Progress,
}
