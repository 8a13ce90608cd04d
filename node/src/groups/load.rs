//! Loading: a new coordinator reads its log from the start to what was there when it took over.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rafka_broker::group::Coordinator;
use rafka_broker::request::{Fetch, FetchPartition};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::LONG_POLL_MS_MAX;
use rafka_model::{LeaderEpoch, Offset, RecordBatch, TopicPartition};

use super::Inner;

/// A machine that is being fed its log.
struct Replay {
    machine: Coordinator,
    position: Offset,
    records: u64,
    bytes: u64,
    damaged: u64,
}

/// Reads the log of `at` into a new machine. Ends once everything is read that was in the log at the beginning, and
/// that is once it is committed: what an earlier leader appended may count or not, but it must be known which.
///
/// # Errors
/// The partition cannot be read, or this node does not lead it in `epoch` any more.
pub(super) async fn load(inner: &Arc<Inner>, at: TopicPartition, epoch: LeaderEpoch) -> Result<Coordinator, Failure> {
    let began = Instant::now();
    let extent = inner.partitions.extent(at, epoch)?;
    let machine = Coordinator::new(inner.config.coordinator);
    let mut replay = Replay { machine, position: extent.start, records: 0, bytes: 0, damaged: 0 };
    loop {
        let Ok(permit) = inner.loads.acquire().await else {
            return Err(Failure::new(ErrorCode::NotReady, "the node is stopping"));
        };
        let owned = inner.clone();
        let read = tokio::task::spawn_blocking(move || replay.read_on(&owned, at, epoch)).await;
        replay = read.unwrap_or_else(|error| {
            tracing::error!(%error, "loading a coordinator failed");
            Err(Failure::new(ErrorCode::Unknown, "loading the coordinator failed; see the node's log"))
        })?;
        if replay.position >= extent.end {
            break;
        }
        // Others may read meanwhile: this may take as long as a replica is away.
        drop(permit);
        wait_for_more(inner, at, epoch, replay.position).await?;
    }
    let Replay { machine, records, bytes, damaged, .. } = replay;
    inner.figures.loaded(began.elapsed(), damaged);
    let took_ms = began.elapsed().as_millis();
    match records {
        0 => tracing::debug!(partition = %at.partition, "coordinates the groups of this partition, none so far"),
        _ => {
            tracing::info!(partition = %at.partition, records, bytes, took_ms, "coordinates the groups of this partition")
        }
    }
    Ok(machine)
}

/// Waits until the high watermark passes `position`, or for a while.
async fn wait_for_more(inner: &Inner, at: TopicPartition, epoch: LeaderEpoch, position: Offset) -> Result<(), Failure> {
    let part = FetchPartition { partition: at, leader_epoch: Some(epoch), offset: position, max_bytes: 1 };
    let max_wait_ms = u32::try_from(LONG_POLL_MS_MAX).unwrap_or(u32::MAX);
    let fetch = Fetch { max_wait_ms, min_bytes: 1, max_bytes: 1, partitions: vec![part] };
    inner.partitions.fetch(fetch).await.into_iter().try_for_each(|reply| reply.result.map(drop))
}

impl Replay {
    /// Reads to the high watermark. Blocks.
    fn read_on(mut self, inner: &Inner, at: TopicPartition, epoch: LeaderEpoch) -> Result<Self, Failure> {
        loop {
            let until = inner.partitions.extent(at, epoch)?.high_watermark;
            if self.position >= until {
                return Ok(self);
            }
            let read = inner.partitions.read_committed(at, epoch, self.position)?;
            if read.is_empty() {
                // Compaction left nothing between here and there.
                self.position = until;
                continue;
            }
            self.bytes += read.len() as u64;
            self.take(at, read)?;
        }
    }

    fn take(&mut self, at: TopicPartition, read: Bytes) -> Result<(), Failure> {
        let broken = |error| {
            let text = format!("partition {} of the offsets topic cannot be read: {error}", at.partition);
            Failure::new(ErrorCode::CorruptMessage, text)
        };
        for batch in RecordBatch::split(read) {
            let batch = batch.map_err(broken)?;
            let next = batch.header().next_offset();
            // Markers of transactions.
            if !batch.header().is_control() {
                for record in batch.records().map_err(broken)? {
                    let record = record.map_err(broken)?;
                    // What this node already knows: the batch may begin before the place to read from.
                    if record.offset >= self.position {
                        self.one(at, record.offset, record.key.as_deref(), record.value.as_deref());
                    }
                }
            }
            self.position = self.position.max(next);
        }
        Ok(())
    }

    fn one(&mut self, at: TopicPartition, offset: Offset, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.records += 1;
        let Some(key) = key else { return };
        if let Err(error) = self.machine.replay(key, value) {
            // One group, or one offset, is less than all groups of the partition.
            self.damaged += 1;
            tracing::error!(partition = %at.partition, %offset, %error, "a record of the offsets topic is not understood");
        }
    }
}
