//! A node's log directories, as the admin protocol tells them.

use rafka_broker::request::LogDir;
use rafka_model::TopicPartition;
use rafka_model::limits::{CONFIG_VALUE_BYTES_MAX, LOG_DIRS_MAX, LOGS_TOLD_MAX};

use crate::proto;
use crate::wire::{
    DecodeError, bounded, clipped, failure_from_wire, failure_to_wire, text, topic_id_to_wire, topic_partition,
};

/// Logs beyond [`LOGS_TOLD_MAX`] are left out.
pub(super) fn to_wire(dirs: &[LogDir]) -> proto::LogDirs {
    let mut left = LOGS_TOLD_MAX;
    let log = |(at, bytes): &(TopicPartition, u64)| proto::LogSize {
        topic: topic_id_to_wire(at.topic),
        partition: at.partition.0,
        bytes: *bytes,
    };
    let dir = |dir: &LogDir| {
        let logs: Vec<_> = dir.partitions.iter().take(left).map(log).collect();
        left -= logs.len();
        proto::LogDir {
            path: clipped(&dir.path, CONFIG_VALUE_BYTES_MAX),
            total_bytes: dir.total_bytes,
            usable_bytes: dir.usable_bytes,
            logs,
            failure: dir.failure.as_ref().map(failure_to_wire),
        }
    };
    proto::LogDirs { dirs: dirs.iter().take(LOG_DIRS_MAX).map(dir).collect() }
}

pub(super) fn from_wire(found: proto::LogDirs) -> Result<Vec<LogDir>, DecodeError> {
    let log = |log: proto::LogSize| Ok((topic_partition(&log.topic, log.partition)?, log.bytes));
    let dir = |dir: proto::LogDir| {
        let logs = bounded("logs", dir.logs, LOGS_TOLD_MAX)?;
        Ok(LogDir {
            path: text("path", dir.path, CONFIG_VALUE_BYTES_MAX)?,
            failure: dir.failure.map(failure_from_wire).transpose()?,
            total_bytes: dir.total_bytes,
            usable_bytes: dir.usable_bytes,
            partitions: logs.into_iter().map(log).collect::<Result<_, DecodeError>>()?,
        })
    };
    bounded("log directories", found.dirs, LOG_DIRS_MAX)?.into_iter().map(dir).collect()
}
