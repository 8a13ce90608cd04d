//! A committed offset: `OffsetCommitKey` and `OffsetCommitValue`.

use bytes::Bytes;
use rafka_model::{PartitionId, Timestamp, TopicId};

use super::RecordError;
use super::wire::{Reader, Writer};
use crate::group::coordinator::GroupRecord;
use crate::group::offsets::Stored;

/// Type of the key (0 is an older program's).
pub(super) const KEY: i16 = 1;
/// Version of the value that says when the offset is to be forgotten.
const EXPIRES_IN: i16 = 1;

/// Whose offset, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::group) struct OffsetKey<'a> {
    pub(in crate::group) group: &'a str,
    pub(in crate::group) topic: &'a str,
    pub(in crate::group) partition: PartitionId,
}

impl<'a> OffsetKey<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, RecordError> {
        let (group, topic) = (reader.string()?, reader.string()?);
        let partition = u32::try_from(reader.i32()?).map_err(|_| RecordError::Length)?;
        Ok(Self { group, topic, partition: PartitionId(partition) })
    }

    fn encode(self) -> Bytes {
        let mut writer = Writer::new(KEY, false);
        writer.string(self.group);
        writer.string(self.topic);
        writer.i32(self.partition.0.cast_signed());
        writer.finish()
    }

    /// The record that stores `value`, or the tombstone that forgets it.
    pub(in crate::group) fn record(self, value: Option<&Stored>) -> GroupRecord {
        GroupRecord { key: self.encode(), value: value.map(encode) }
    }
}

/// An offset with a life of its own is written in the last version that has a field for it, and nothing of what came
/// later: as Kafka does.
fn encode(stored: &Stored) -> Bytes {
    if let Some(expires) = stored.expires {
        let mut writer = Writer::new(EXPIRES_IN, false);
        writer.i64(stored.offset);
        writer.string(&stored.metadata);
        writer.i64(stored.committed.0);
        writer.i64(expires.0);
        return writer.finish();
    }
    let mut writer = Writer::new(4, true);
    writer.i64(stored.offset);
    writer.i32(stored.leader_epoch);
    writer.string(&stored.metadata);
    writer.i64(stored.committed.0);
    match &stored.topic_id {
        Some(id) => writer.tagged(&[(0, &id.0)]),
        None => writer.tagged(&[]),
    }
    writer.finish()
}

pub(in crate::group) fn decode(value: &[u8]) -> Result<Stored, RecordError> {
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    if !(0..=4).contains(&version) {
        return Err(RecordError::Version(version));
    }
    let mut reader = reader.flexible(version >= 4);
    let offset = reader.i64()?;
    let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = reader.string()?.into();
    let committed = Timestamp(reader.i64()?);
    let expires = if version == EXPIRES_IN { Some(reader.i64()?).filter(|at| *at >= 0).map(Timestamp) } else { None };
    let mut topic_id = None;
    reader.tagged(|tag, mut field| {
        if tag == 0 {
            topic_id = Some(field.uuid()?).filter(|id| *id != [0; 16]).map(TopicId);
        }
        Ok(())
    })?;
    Ok(Stored { offset, leader_epoch, metadata, committed, expires, topic_id })
}
