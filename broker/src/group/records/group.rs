//! A classic group: `GroupMetadataKey` and `GroupMetadataValue`.

use bytes::Bytes;
use rafka_model::Timestamp;

use super::RecordError;
use super::wire::{Reader, Writer};
use crate::group::coordinator::GroupRecord;

/// Type of the key.
pub(super) const KEY: i16 = 2;

/// A classic group as it is stored: what its members need to go on elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::group) struct GroupMetadata {
    pub(in crate::group) protocol_type: String,
    pub(in crate::group) generation: i32,
    pub(in crate::group) protocol: Option<String>,
    pub(in crate::group) leader: Option<String>,
    /// Since when the group is in its state; [`Timestamp::NONE`] if an old program wrote it.
    pub(in crate::group) since: Timestamp,
    pub(in crate::group) members: Vec<MemberMetadata>,
}

/// A member of a [`GroupMetadata`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::group) struct MemberMetadata {
    pub(in crate::group) member_id: String,
    pub(in crate::group) instance_id: Option<String>,
    pub(in crate::group) client_id: String,
    pub(in crate::group) client_host: String,
    pub(in crate::group) rebalance_timeout_ms: i32,
    pub(in crate::group) session_timeout_ms: i32,
    /// For the group's protocol.
    pub(in crate::group) subscription: Bytes,
    pub(in crate::group) assignment: Bytes,
}

/// The record that stores `value`, or the tombstone of the group.
pub(in crate::group) fn record(group: &str, value: Option<&GroupMetadata>) -> GroupRecord {
    let mut key = Writer::new(KEY, false);
    key.string(group);
    GroupRecord { key: key.finish(), value: value.map(encode) }
}

fn encode(group: &GroupMetadata) -> Bytes {
    let mut writer = Writer::new(3, false);
    writer.string(&group.protocol_type);
    writer.i32(group.generation);
    writer.nullable_string(group.protocol.as_deref());
    writer.nullable_string(group.leader.as_deref());
    writer.i64(group.since.0);
    writer.array(group.members.iter(), |writer, member| {
        writer.string(&member.member_id);
        writer.nullable_string(member.instance_id.as_deref());
        writer.string(&member.client_id);
        writer.string(&member.client_host);
        writer.i32(member.rebalance_timeout_ms);
        writer.i32(member.session_timeout_ms);
        writer.bytes(&member.subscription);
        writer.bytes(&member.assignment);
    });
    writer.finish()
}

pub(in crate::group) fn decode(value: &[u8]) -> Result<GroupMetadata, RecordError> {
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    if !(0..=4).contains(&version) {
        return Err(RecordError::Version(version));
    }
    let mut reader = reader.flexible(version >= 4);
    let text = |text: &str| text.to_owned();
    let protocol_type = text(reader.string()?);
    let generation = reader.i32()?;
    let protocol = reader.nullable_string()?.map(text);
    let leader = reader.nullable_string()?.map(text);
    let since = if version >= 2 { Timestamp(reader.i64()?) } else { Timestamp::NONE };
    let members = reader.array(|reader| {
        let member_id = text(reader.string()?);
        let instance_id = if version >= 3 { reader.nullable_string()?.map(text) } else { None };
        let (client_id, client_host) = (text(reader.string()?), text(reader.string()?));
        let rebalance = if version >= 1 { Some(reader.i32()?) } else { None };
        let session_timeout_ms = reader.i32()?;
        let subscription = Bytes::copy_from_slice(reader.bytes()?);
        let assignment = Bytes::copy_from_slice(reader.bytes()?);
        reader.untagged()?;
        let rebalance_timeout_ms = rebalance.unwrap_or(session_timeout_ms);
        Ok(MemberMetadata {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms,
            session_timeout_ms,
            subscription,
            assignment,
        })
    })?;
    reader.untagged()?;
    Ok(GroupMetadata { protocol_type, generation, protocol, leader, since, members })
}
