//! Care of the log: flushes, checkpoints, retention, deleted records, closing. Everything here may block.

use std::sync::Arc;

use rafka_broker::replication::Input;
use rafka_broker::{ErrorCode, Failure};
use rafka_log::{Compacted, Compaction, CompactionReport, LogError, PartitionLog};
use rafka_model::{Durability, Offset, Timestamp};

use super::{Replica, Role};
use crate::partitions::Inner;

impl Replica {
    /// Syncs what has been appended, without keeping appends waiting; acknowledges who waited for it.
    pub(in crate::partitions) fn flush(&self, inner: &Inner) {
        let flush = {
            let mut writer = self.lock();
            let end = self.reader.log_end();
            let Some(log) = writer.log.as_mut() else { return };
            let flush = log.begin_flush();
            writer.flush_began_at = end;
            writer.unflushed_bytes = 0;
            flush
        };
        let Some(flush) = flush else { return };
        let done = flush.run();
        let mut writer = self.lock();
        if writer.log.is_none() {
            // Closed or removed meanwhile, its files perhaps with it: how the sync ended means nothing any more.
            return;
        }
        inner.counters.flush(done.is_err());
        match done {
            Ok(flushed) => self.step(inner, &mut writer, Input::Flushed(flushed)),
            Err(error) => self.fail(inner, &mut writer, &error),
        }
    }

    /// After a crash the log may end in records that are not flushed: a topic with `durability=fsync` commits them
    /// only once they are, others have them flushed in due time.
    pub(super) fn flush_what_restart_found(self: &Arc<Self>, inner: &Inner) {
        if self.reader.flushed() >= self.reader.log_end() {
            return;
        }
        let config = self.standing.load().config.clone();
        match config.durability {
            Durability::Fsync => inner.flusher.ask(self),
            Durability::Replicated => inner.flusher.later(self, &*inner.clock, inner.config.flush_ms),
        }
    }

    /// Writes a recovery point, if anything changed since the last.
    pub(in crate::partitions) fn checkpoint(&self, inner: &Inner) {
        let mut writer = self.lock();
        let Some(log) = writer.log.as_mut().filter(|log| !log.is_poisoned()) else { return };
        if let Err(error) = log.checkpoint() {
            inner.note_full(&error);
            tracing::warn!(topic = %self.topic, partition = %self.at.partition, %error, "no checkpoint");
        }
        self.save_producers(inner, &mut writer, false);
    }

    /// Removes what retention allows to remove.
    pub(in crate::partitions) fn retain(&self, inner: &Inner, now: Timestamp) {
        let mut writer = self.lock();
        let Some(log) = writer.log.as_mut().filter(|log| !log.is_poisoned()) else { return };
        let before = log.log_start();
        let retained = log.retain(now, self.high_watermark());
        let start = log.log_start();
        match retained {
            Ok(removed) => inner.counters.retained(removed.segments, removed.bytes),
            Err(error) => {
                inner.note_full(&error);
                tracing::warn!(topic = %self.topic, partition = %self.at.partition, %error, "retention failed");
            }
        }
        self.expire_producers(inner, &mut writer, now);
        if start > before {
            self.step(inner, &mut writer, Input::LogStart(start));
        }
        drop(writer);
        if start > before {
            inner.cache.drop_below(self.at, start);
        }
    }

    /// A compaction round of its log, if one is due.
    pub(in crate::partitions) fn compaction_plan(&self, inner: &Inner, now: Timestamp) -> Option<Compaction> {
        let mut writer = self.lock();
        let log = writer.log.as_mut().filter(|log| !log.is_poisoned())?;
        log.compaction_plan(now, self.high_watermark()).unwrap_or_else(|error| {
            inner.note_full(&error);
            tracing::warn!(topic = %self.topic, partition = %self.at.partition, %error, "cannot plan a compaction");
            None
        })
    }

    /// Puts what a compaction round wrote in its place; `None` if that failed, or the log is closed.
    pub(in crate::partitions) fn apply_compaction(
        &self,
        inner: &Inner,
        compacted: Compacted,
        now: Timestamp,
    ) -> Option<CompactionReport> {
        let mut writer = self.lock();
        let log = writer.log.as_mut()?;
        let applied = log.apply_compaction(compacted, now);
        let poisoned = log.is_poisoned();
        match applied {
            Ok(report) => {
                drop(writer);
                // Batches that were read before the change and are cached only now hold what the next round drops again.
                inner.cache.drop_below(self.at, report.clean_until);
                Some(report)
            }
            Err(error) => {
                inner.note_full(&error);
                tracing::error!(topic = %self.topic, partition = %self.at.partition, %error, "compaction not applied");
                if poisoned {
                    self.fail(inner, &mut writer, &error);
                }
                None
            }
        }
    }

    /// Raises the log start to `wanted`, or to the high watermark; durable when it returns. Returns the log start.
    pub(in crate::partitions) fn delete_records(
        &self,
        inner: &Inner,
        wanted: Option<Offset>,
    ) -> Result<Offset, Failure> {
        let known = inner.known.load();
        let mut writer = self.lock();
        self.standing.load().serve(self.at, None, &known)?;
        let Some(log) = writer.log.as_mut() else { return Err(known.not_leader(self.at)) };
        let high_watermark = self.high_watermark();
        let wanted = wanted.unwrap_or(high_watermark);
        if wanted > high_watermark || wanted < Offset::ZERO {
            let message = format!(
                "cannot delete records of {} below offset {wanted}; its high watermark is {high_watermark}",
                known.name(self.at)
            );
            return Err(Failure::new(ErrorCode::OffsetOutOfRange, message));
        }
        let start = log.advance_log_start(wanted).map_err(|error| {
            let code = if inner.note_full(&error) { ErrorCode::DiskFull } else { ErrorCode::StorageError };
            Failure::new(code, format!("partition {}: {error}", known.name(self.at)))
        })?;
        self.step(inner, &mut writer, Input::LogStart(start));
        drop(writer);
        inner.cache.drop_below(self.at, start);
        Ok(start)
    }

    /// Ends its service, flushes, and closes the log so that the next start has nothing to repair.
    pub(in crate::partitions) fn close(&self, inner: &Inner) -> Result<(), LogError> {
        let mut writer = self.lock();
        let Some(log) = writer.log.as_mut() else { return Ok(()) };
        let flushed = log.flush();
        if flushed.is_ok() {
            self.save_producers(inner, &mut writer, true);
        }
        if let Ok(flushed) = &flushed {
            self.step(inner, &mut writer, Input::Flushed(*flushed));
        }
        self.end(inner, &mut writer, Role::Stopped, ErrorCode::OutcomeUnknown);
        let log = writer.log.take();
        drop(writer);
        flushed.and_then(|_| log.map_or(Ok(()), PartitionLog::close_clean))
    }
}
