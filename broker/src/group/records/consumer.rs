//! A group of KIP-848, in seven kinds of records: group epoch, members, target (epoch, and by member), what members
//! have, and resolved regular expressions.

mod codec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::{PartitionId, Timestamp, TopicId};

use super::RecordError;
use super::wire::{Reader, Writer};
use crate::group::coordinator::GroupRecord;
use crate::group::request::{Caller, Protocol};

/// Partitions that a member has or gives back, with the epoch in which it got each (KIP-1251).
pub(in crate::group) type Owned = BTreeMap<TopicId, BTreeMap<PartitionId, i32>>;

/// Type of the key of each kind.
pub(super) mod key {
    pub(in crate::group::records) const GROUP: i16 = 3;
    pub(in crate::group::records) const MEMBER: i16 = 5;
    pub(in crate::group::records) const TARGET_EPOCH: i16 = 6;
    pub(in crate::group::records) const TARGET: i16 = 7;
    pub(in crate::group::records) const CURRENT: i16 = 8;
    pub(in crate::group::records) const REGEX: i16 = 16;
}

/// What a record is about, within its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::group) enum ConsumerKey<'a> {
    /// The group's epoch.
    Group,
    /// A member and what it reads.
    Member(&'a str),
    /// Epoch of the target.
    TargetEpoch,
    /// A member's share of the target.
    Target(&'a str),
    /// What a member has.
    Current(&'a str),
    /// A regular expression, resolved.
    Regex(&'a str),
}

/// What is so from now on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::group) enum ConsumerValue {
    Group(Epoch),
    Member(Subscription),
    TargetEpoch(TargetEpoch),
    Target(BTreeMap<TopicId, BTreeSet<PartitionId>>),
    Current(Current),
    Regex(Resolved),
}

/// A group's epoch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::group) struct Epoch {
    pub(in crate::group) epoch: i32,
    /// Of the topics that the members read; another one is reason for another epoch. Opaque.
    pub(in crate::group) metadata_hash: i64,
}

/// A member and what it reads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::group) struct Subscription {
    pub(in crate::group) instance_id: Option<String>,
    pub(in crate::group) rack_id: Option<String>,
    pub(in crate::group) caller: Caller,
    pub(in crate::group) topics: BTreeSet<String>,
    pub(in crate::group) regex: Option<String>,
    pub(in crate::group) rebalance_timeout_ms: i32,
    pub(in crate::group) assignor: Option<String>,
    /// Only of members that speak the classic protocol.
    pub(in crate::group) classic: Option<ClassicPart>,
}

/// What the classic protocol needs of a member.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::group) struct ClassicPart {
    pub(in crate::group) session_timeout_ms: i32,
    pub(in crate::group) protocols: Vec<Protocol>,
}

/// Epoch of the target, and when it was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::group) struct TargetEpoch {
    pub(in crate::group) epoch: i32,
    pub(in crate::group) made: Timestamp,
}

/// Where a member is on its way to the target.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::group) enum MemberState {
    /// It has what it shall have in its epoch.
    #[default]
    Stable,
    /// It has been told to give partitions back.
    Unrevoked,
    /// Partitions that it shall have are still others'.
    Unreleased,
    /// A later program's: the member must begin anew.
    Unknown,
}

/// What a member has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::group) struct Current {
    pub(in crate::group) epoch: i32,
    pub(in crate::group) previous_epoch: i32,
    pub(in crate::group) state: MemberState,
    pub(in crate::group) assigned: Owned,
    /// To be given back: nobody else's until the member says that it has them no more.
    pub(in crate::group) revoking: Owned,
}

/// Topics that a regular expression stands for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::group) struct Resolved {
    pub(in crate::group) topics: BTreeSet<String>,
    /// Index of the metadata that it was resolved against.
    pub(in crate::group) version: i64,
    pub(in crate::group) time: Timestamp,
}

impl<'a> ConsumerKey<'a> {
    /// Reads the key behind its type: the group, and what of it; `None` for other types.
    pub(super) fn read(kind: i16, reader: &mut Reader<'a>) -> Result<Option<(&'a str, Self)>, RecordError> {
        if !matches!(kind, key::GROUP | key::MEMBER..=key::CURRENT | key::REGEX) {
            return Ok(None);
        }
        let group = reader.string()?;
        let what = match kind {
            key::GROUP => Self::Group,
            key::MEMBER => Self::Member(reader.string()?),
            key::TARGET_EPOCH => Self::TargetEpoch,
            key::TARGET => Self::Target(reader.string()?),
            key::CURRENT => Self::Current(reader.string()?),
            _ => Self::Regex(reader.string()?),
        };
        Ok(Some((group, what)))
    }

    /// Reads the value of this key.
    ///
    /// # Errors
    /// [`RecordError`] if it is damaged or of a later version.
    pub(in crate::group) fn decode(self, value: &[u8]) -> Result<ConsumerValue, RecordError> {
        let mut reader = Reader::new(value);
        match reader.i16()? {
            0 => {}
            version => return Err(RecordError::Version(version)),
        }
        codec::read(self, &mut reader.flexible(true))
    }

    /// The record that stores `value`, or the tombstone.
    pub(in crate::group) fn record(self, group: &str, value: Option<&ConsumerValue>) -> GroupRecord {
        let (kind, name) = match self {
            Self::Group => (key::GROUP, None),
            Self::Member(id) => (key::MEMBER, Some(id)),
            Self::TargetEpoch => (key::TARGET_EPOCH, None),
            Self::Target(id) => (key::TARGET, Some(id)),
            Self::Current(id) => (key::CURRENT, Some(id)),
            Self::Regex(expression) => (key::REGEX, Some(expression)),
        };
        let mut writer = Writer::new(kind, false);
        writer.string(group);
        if let Some(name) = name {
            writer.string(name);
        }
        GroupRecord { key: writer.finish(), value: value.map(codec::write) }
    }
}
