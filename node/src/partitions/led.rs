//! What a coordinator needs of a partition that this node leads: its epoch, its log from the start, beside the cache, and
//! word of changes.

use bytes::Bytes;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::READ_BYTES_MAX;
use rafka_model::{LeaderEpoch, MetadataIndex, Offset, TopicPartition};
use tokio::sync::watch;

use super::Partitions;
use super::offsets::read_failure;
use super::replica::Role;

/// How far a log reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// First offset that is kept.
    pub start: Offset,
    /// Offset behind the last committed record.
    pub high_watermark: Offset,
    /// Offset behind the last record.
    pub end: Offset,
}

impl Partitions {
    /// The epoch in which this node leads the partition, if it does.
    #[must_use]
    pub fn leads_in(&self, at: TopicPartition) -> Option<LeaderEpoch> {
        match self.inner.replicas.load().get(&at)?.standing().role {
            Role::Leader(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Why this node does not serve the partition, as a produce would be told; `None` if it does.
    #[must_use]
    pub fn refusal(&self, at: TopicPartition) -> Option<Failure> {
        let serve = |replica: std::sync::Arc<super::Replica>| {
            replica.standing().serve(at, None, &self.inner.known.load()).map(drop)
        };
        self.inner.find(at).and_then(serve).err()
    }

    /// How far the log of a partition reaches that this node leads in `epoch`.
    ///
    /// # Errors
    /// As for a fetch in that epoch.
    pub fn extent(&self, at: TopicPartition, epoch: LeaderEpoch) -> Result<Extent, Failure> {
        let replica = self.inner.find(at)?;
        replica.standing().serve(at, Some(epoch), &self.inner.known.load())?;
        // In this order the mark is never behind the end.
        let (start, high_watermark) = (replica.reader().log_start(), replica.high_watermark());
        Ok(Extent { start, high_watermark, end: replica.reader().log_end() })
    }

    /// Committed batches from the one that holds `from`; empty at the high watermark. Blocks, and leaves the cache alone:
    /// what is read once from end to end would only drive out what is read often.
    ///
    /// # Errors
    /// As for a fetch in that epoch.
    pub fn read_committed(&self, at: TopicPartition, epoch: LeaderEpoch, from: Offset) -> Result<Bytes, Failure> {
        let replica = self.inner.find(at)?;
        let known = self.inner.known.load();
        replica.standing().serve(at, Some(epoch), &known)?;
        if self.inner.is_stopping() {
            return Err(Failure::new(ErrorCode::NotReady, "the node is stopping"));
        }
        self.inner.counters.cold_read();
        let read = replica.reader().read(from, replica.high_watermark(), READ_BYTES_MAX, true);
        read.map_err(|error| read_failure(&known.name(at), &error))
    }

    /// Offset behind the last committed record of a partition that this node leads.
    #[must_use]
    pub fn high_watermark(&self, at: TopicPartition) -> Option<Offset> {
        let replicas = self.inner.replicas.load();
        let replica = replicas.get(&at).filter(|replica| replica.serves() && replica.offsets_are_known())?;
        Some(replica.high_watermark())
    }

    /// Told after each reconciliation: what this node leads may have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<MetadataIndex> {
        self.inner.reconciled.subscribe()
    }
}
