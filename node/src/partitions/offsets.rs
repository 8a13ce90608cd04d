//! Offsets by time, and moving the log start.

use std::sync::Arc;

use rafka_broker::request::{DeleteRecords, EpochEnd, EpochEnds, FoundOffset, ListOffsets, OffsetSpec, PartitionReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_log::ReadError;
use rafka_model::{CleanupPolicy, LeaderEpoch, Offset, Timestamp, TopicConfig, TopicPartition};

use super::Inner;

impl Inner {
    pub(super) async fn list_offsets(self: &Arc<Self>, request: ListOffsets) -> Vec<PartitionReply<FoundOffset>> {
        let searches = |spec: &OffsetSpec| matches!(spec, OffsetSpec::At(_) | OffsetSpec::MaxTimestamp);
        let look = |inner: &Self, request: ListOffsets| -> Vec<_> {
            let look = |(partition, believed, spec)| PartitionReply {
                partition,
                result: inner.list_one(partition, believed, spec),
            };
            request.partitions.into_iter().map(look).collect()
        };
        if !request.partitions.iter().any(|(_, _, spec)| searches(spec)) {
            return look(self, request);
        }
        let named: Vec<_> = request.partitions.iter().map(|(partition, ..)| *partition).collect();
        let inner = self.clone();
        self.blocking(named, move || look(&inner, request)).await
    }

    pub(super) async fn delete_records(self: &Arc<Self>, request: DeleteRecords) -> Vec<PartitionReply<Offset>> {
        let named: Vec<_> = request.partitions.iter().map(|(partition, _)| *partition).collect();
        let inner = self.clone();
        let delete = move || {
            let delete = |(partition, offset)| PartitionReply {
                partition,
                result: inner.find(partition).and_then(|replica| {
                    only_compacted(&replica.standing().config, &inner.known.load().name(partition))?;
                    replica.delete_records(&inner, offset)
                }),
            };
            request.partitions.into_iter().map(delete).collect()
        };
        self.blocking(named, delete).await
    }

    pub(super) fn epoch_ends(&self, request: EpochEnds) -> Vec<PartitionReply<Option<EpochEnd>>> {
        let one = |(at, believed, epoch): (TopicPartition, Option<LeaderEpoch>, LeaderEpoch)| {
            let replica = self.find(at)?;
            let current = replica.standing().serve(at, believed, &self.known.load())?;
            Ok(replica.epoch_end(current, epoch))
        };
        let reply = |part: (TopicPartition, _, _)| PartitionReply { partition: part.0, result: one(part) };
        request.partitions.into_iter().map(reply).collect()
    }

    fn list_one(
        &self,
        at: TopicPartition,
        believed: Option<LeaderEpoch>,
        spec: OffsetSpec,
    ) -> Result<FoundOffset, Failure> {
        let replica = self.find(at)?;
        let known = self.known.load();
        let leader_epoch = replica.standing().serve(at, believed, &known)?;
        let high_watermark = replica.high_watermark();
        let reader = replica.reader();
        if spec != OffsetSpec::Earliest && !replica.offsets_are_known() {
            let message = format!("the high watermark of {} is not known yet after the election", known.name(at));
            return Err(Failure::new(ErrorCode::OffsetNotAvailable, message));
        }
        let found = match spec {
            OffsetSpec::Earliest => Ok(Some((reader.log_start(), Timestamp::NONE))),
            OffsetSpec::Latest => Ok(Some((high_watermark, Timestamp::NONE))),
            OffsetSpec::At(time) => reader.offset_for_timestamp(time, high_watermark),
            OffsetSpec::MaxTimestamp => reader.max_timestamp(high_watermark),
        };
        let found = found.map_err(|error| read_failure(&known.name(at), &error))?;
        let (offset, timestamp) = found.unzip();
        Ok(FoundOffset { offset, timestamp: timestamp.unwrap_or(Timestamp::NONE), leader_epoch })
    }

    /// Runs `work` where it may block, with few others.
    async fn blocking<T: Send + 'static>(
        &self,
        named: Vec<TopicPartition>,
        work: impl FnOnce() -> Vec<PartitionReply<T>> + Send + 'static,
    ) -> Vec<PartitionReply<T>> {
        let failed = |code, message: &str| {
            let failure = Failure::new(code, message);
            named
                .iter()
                .map(|partition| PartitionReply { partition: *partition, result: Err(failure.clone()) })
                .collect()
        };
        let Ok(_permit) = self.cold.acquire().await else {
            return failed(ErrorCode::NotReady, "the node is stopping");
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(replies) => replies,
            Err(error) => {
                tracing::error!(%error, "disk task failed");
                failed(ErrorCode::Unknown, "the node failed on this request; see its log")
            }
        }
    }
}

/// Consumers of a topic that is only ever compacted expect the newest record of every key.
fn only_compacted(config: &TopicConfig, name: &str) -> Result<(), Failure> {
    match config.cleanup {
        CleanupPolicy { delete: false, compact: true } => {
            let message = format!("records of {name} cannot be deleted: its cleanup.policy is compact, without delete");
            Err(Failure::new(ErrorCode::PolicyViolation, message))
        }
        _ => Ok(()),
    }
}

/// The words for a read that failed.
pub(super) fn read_failure(name: &str, error: &ReadError) -> Failure {
    let code = match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Corrupt(_) => ErrorCode::CorruptMessage,
        ReadError::Storage(_) => ErrorCode::StorageError,
    };
    if code != ErrorCode::OffsetOutOfRange {
        tracing::error!(partition = name, %error, "read failed");
    }
    Failure::new(code, format!("partition {name}: {error}"))
}
