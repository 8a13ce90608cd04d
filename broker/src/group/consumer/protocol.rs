//! What consumers put into the opaque bytes of the classic protocol: subscriptions and assignments.

use std::collections::BTreeMap;

use bytes::Bytes;
use rafka_model::PartitionId;

use crate::group::records::RecordError;
use crate::group::records::wire::{Reader, Writer};

/// The newest version; later ones only add behind it.
const VERSION: i16 = 3;

/// Partitions by the topic's name.
pub(in crate::group) type Named = BTreeMap<String, Vec<PartitionId>>;

/// What a classic consumer reads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::group) struct ClassicSubscription {
    pub(in crate::group) version: i16,
    pub(in crate::group) topics: Vec<String>,
    /// What the member keeps while it rebalances (cooperative ones).
    pub(in crate::group) owned: Named,
    pub(in crate::group) rack_id: Option<String>,
}

/// Reads a member's metadata.
///
/// # Errors
/// [`RecordError`] if it is none of a consumer.
pub(in crate::group) fn read_subscription(bytes: &[u8]) -> Result<ClassicSubscription, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = read_version(&mut reader)?;
    let topics = reader.array(|reader| reader.string().map(str::to_owned))?;
    // User data is for the members' assignor alone: sticky ones keep a generation there.
    reader.nullable_bytes()?;
    let owned = if version >= 1 { read_partitions(&mut reader)? } else { Named::new() };
    if version >= 2 {
        reader.i32()?;
    }
    let rack_id = if version >= 3 { reader.nullable_string()?.map(str::to_owned) } else { None };
    Ok(ClassicSubscription { version, topics, owned, rack_id })
}

/// What a classic consumer was assigned.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::group) struct ClassicAssignment {
    pub(in crate::group) partitions: Named,
    /// From the members' own assignor: a group that needs it cannot be assigned by its coordinator.
    pub(in crate::group) user_data: Bytes,
}

/// Reads a member's assignment; no bytes are no partitions.
///
/// # Errors
/// [`RecordError`] if it is none of a consumer.
pub(in crate::group) fn read_assignment(bytes: &[u8]) -> Result<ClassicAssignment, RecordError> {
    if bytes.is_empty() {
        return Ok(ClassicAssignment::default());
    }
    let mut reader = Reader::new(bytes);
    read_version(&mut reader)?;
    let partitions = read_partitions(&mut reader)?;
    let user_data = Bytes::copy_from_slice(reader.nullable_bytes()?.unwrap_or_default());
    Ok(ClassicAssignment { partitions, user_data })
}

/// An assignment of the version that the member speaks.
pub(in crate::group) fn write_assignment(version: i16, assignment: &Named) -> Bytes {
    let mut writer = Writer::new(version, false);
    writer.array(assignment.iter(), |writer, (topic, partitions)| {
        writer.string(topic);
        writer.array(partitions.iter(), |writer, partition| writer.i32(partition.0.cast_signed()));
    });
    // No user data.
    writer.i32(-1);
    writer.finish()
}

fn read_version(reader: &mut Reader<'_>) -> Result<i16, RecordError> {
    match reader.i16()? {
        version if version < 0 => Err(RecordError::Version(version)),
        version => Ok(version.min(VERSION)),
    }
}

fn read_partitions(reader: &mut Reader<'_>) -> Result<Named, RecordError> {
    let topics = reader.array(|reader| {
        let topic = reader.string()?.to_owned();
        let partition = |reader: &mut Reader<'_>| u32::try_from(reader.i32()?).map_err(|_| RecordError::Length);
        Ok((topic, reader.array(|reader| partition(reader).map(PartitionId))?))
    })?;
    let mut named = Named::new();
    for (topic, partitions) in topics {
        named.entry(topic).or_default().extend(partitions);
    }
    Ok(named)
}
