//! Values, version 0 of each kind.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rafka_model::{PartitionId, Timestamp, TopicId};

use super::{
    ClassicPart, ConsumerKey, ConsumerValue, Current, Epoch, MemberState, Owned, Resolved, Subscription, TargetEpoch,
};
use crate::group::records::RecordError;
use crate::group::records::wire::{Reader, Writer};
use crate::group::request::{Caller, Protocol};

/// Reads a value behind its version.
pub(super) fn read(key: ConsumerKey<'_>, reader: &mut Reader<'_>) -> Result<ConsumerValue, RecordError> {
    Ok(match key {
        ConsumerKey::Group => {
            let epoch = reader.i32()?;
            ConsumerValue::Group(Epoch { epoch, metadata_hash: read_tagged_i64(reader)? })
        }
        ConsumerKey::Member(_) => ConsumerValue::Member(read_subscription(reader)?),
        ConsumerKey::TargetEpoch => {
            let epoch = reader.i32()?;
            ConsumerValue::TargetEpoch(TargetEpoch { epoch, made: Timestamp(read_tagged_i64(reader)?) })
        }
        ConsumerKey::Target(_) => {
            let target = read_partitions(reader)?.into_iter();
            reader.untagged()?;
            ConsumerValue::Target(target.map(|(topic, has)| (topic, has.into_keys().collect())).collect())
        }
        ConsumerKey::Current(_) => ConsumerValue::Current(read_current(reader)?),
        ConsumerKey::Regex(_) => {
            let topics = reader.array(|reader| reader.string().map(str::to_owned))?.into_iter().collect();
            let (version, time) = (reader.i64()?, Timestamp(reader.i64()?));
            reader.untagged()?;
            ConsumerValue::Regex(Resolved { topics, version, time })
        }
    })
}

/// A tagged number, 0 if it is left out.
fn read_tagged_i64(reader: &mut Reader<'_>) -> Result<i64, RecordError> {
    let mut number = 0;
    reader.tagged(|tag, mut field| {
        if tag == 0 {
            number = field.i64()?;
        }
        Ok(())
    })?;
    Ok(number)
}

fn read_subscription(reader: &mut Reader<'_>) -> Result<Subscription, RecordError> {
    let text = |text: &str| text.to_owned();
    let instance_id = reader.nullable_string()?.map(text);
    let rack_id = reader.nullable_string()?.map(text);
    let caller = Caller { client_id: text(reader.string()?), client_host: text(reader.string()?) };
    let topics = reader.array(|reader| reader.string().map(text))?.into_iter().collect();
    let regex = reader.nullable_string()?.map(text);
    let rebalance_timeout_ms = reader.i32()?;
    let assignor = reader.nullable_string()?.map(text);
    let mut classic = None;
    reader.tagged(|tag, mut field| {
        // The struct is nullable: a byte says whether it is there.
        if tag == 0 && field.i8()? >= 0 {
            classic = Some(read_classic(&mut field)?);
        }
        Ok(())
    })?;
    Ok(Subscription { instance_id, rack_id, caller, topics, regex, rebalance_timeout_ms, assignor, classic })
}

fn read_classic(reader: &mut Reader<'_>) -> Result<ClassicPart, RecordError> {
    let session_timeout_ms = reader.i32()?;
    let protocols = reader.array(|reader| {
        let name = reader.string()?.to_owned();
        let metadata = Bytes::copy_from_slice(reader.bytes()?);
        reader.untagged()?;
        Ok(Protocol { name, metadata })
    })?;
    reader.untagged()?;
    Ok(ClassicPart { session_timeout_ms, protocols })
}

fn read_current(reader: &mut Reader<'_>) -> Result<Current, RecordError> {
    let (epoch, previous_epoch) = (reader.i32()?, reader.i32()?);
    let state = match reader.i8()? {
        0 => MemberState::Stable,
        1 => MemberState::Unrevoked,
        2 => MemberState::Unreleased,
        _ => MemberState::Unknown,
    };
    let (assigned, revoking) = (read_partitions(reader)?, read_partitions(reader)?);
    reader.untagged()?;
    Ok(Current { epoch, previous_epoch, state, assigned, revoking })
}

fn read_partitions(reader: &mut Reader<'_>) -> Result<Owned, RecordError> {
    let topics = reader.array(|reader| {
        let topic = TopicId(reader.uuid()?);
        let partitions = reader.array(|reader| u32::try_from(reader.i32()?).map_err(|_| RecordError::Length))?;
        let mut epochs = None;
        reader.tagged(|tag, mut field| {
            if tag == 0 {
                epochs = field.nullable_array(Reader::i32)?;
            }
            Ok(())
        })?;
        let mut epochs = epochs.unwrap_or_default().into_iter();
        let with_epoch = |partition| (PartitionId(partition), epochs.next().unwrap_or(0));
        Ok((topic, partitions.into_iter().map(with_epoch).collect::<BTreeMap<_, _>>()))
    })?;
    Ok(topics.into_iter().collect())
}

/// The value with its version.
pub(super) fn write(value: &ConsumerValue) -> Bytes {
    let mut writer = Writer::new(0, true);
    match value {
        ConsumerValue::Group(group) => {
            writer.i32(group.epoch);
            write_tagged_i64(&mut writer, group.metadata_hash);
        }
        ConsumerValue::Member(member) => write_subscription(&mut writer, member),
        ConsumerValue::TargetEpoch(target) => {
            writer.i32(target.epoch);
            write_tagged_i64(&mut writer, target.made.0);
        }
        ConsumerValue::Target(target) => {
            writer.array(target.iter(), |writer, (topic, partitions)| write_target(writer, *topic, partitions));
            writer.tagged(&[]);
        }
        ConsumerValue::Current(current) => {
            writer.i32(current.epoch);
            writer.i32(current.previous_epoch);
            writer.i8(match current.state {
                MemberState::Stable => 0,
                MemberState::Unrevoked => 1,
                MemberState::Unreleased => 2,
                MemberState::Unknown => 127,
            });
            write_owned(&mut writer, &current.assigned);
            write_owned(&mut writer, &current.revoking);
            writer.tagged(&[]);
        }
        ConsumerValue::Regex(regex) => {
            writer.array(regex.topics.iter(), |writer, topic| writer.string(topic));
            writer.i64(regex.version);
            writer.i64(regex.time.0);
            writer.tagged(&[]);
        }
    }
    writer.finish()
}

fn write_tagged_i64(writer: &mut Writer, number: i64) {
    match number {
        0 => writer.tagged(&[]),
        number => writer.tagged(&[(0, &number.to_be_bytes())]),
    }
}

fn write_subscription(writer: &mut Writer, member: &Subscription) {
    writer.nullable_string(member.instance_id.as_deref());
    writer.nullable_string(member.rack_id.as_deref());
    writer.string(&member.caller.client_id);
    writer.string(&member.caller.client_host);
    writer.array(member.topics.iter(), |writer, topic| writer.string(topic));
    writer.nullable_string(member.regex.as_deref());
    writer.i32(member.rebalance_timeout_ms);
    writer.nullable_string(member.assignor.as_deref());
    let Some(classic) = &member.classic else { return writer.tagged(&[]) };
    let mut field = Writer::fragment(true);
    field.i8(1);
    field.i32(classic.session_timeout_ms);
    field.array(classic.protocols.iter(), |writer, protocol| {
        writer.string(&protocol.name);
        writer.bytes(&protocol.metadata);
        writer.tagged(&[]);
    });
    field.tagged(&[]);
    writer.tagged(&[(0, &field.finish())]);
}

fn write_target(writer: &mut Writer, topic: TopicId, partitions: &BTreeSet<PartitionId>) {
    writer.raw(&topic.0);
    writer.array(partitions.iter(), |writer, partition| writer.i32(partition.0.cast_signed()));
    writer.tagged(&[]);
}

fn write_owned(writer: &mut Writer, owned: &Owned) {
    writer.array(owned.iter(), |writer, (topic, partitions)| {
        writer.raw(&topic.0);
        writer.array(partitions.keys(), |writer, partition| writer.i32(partition.0.cast_signed()));
        let mut epochs = Writer::fragment(true);
        epochs.array(partitions.values(), |writer, epoch| writer.i32(*epoch));
        writer.tagged(&[(0, &epochs.finish())]);
    });
}
