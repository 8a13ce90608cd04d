//! What a coordinator keeps of a group: who is in it, and its offsets.

use std::sync::Arc;

use super::classic;
use super::offsets::Offsets;
use super::request::{GroupDescription, GroupKind, GroupState, Listed};
use crate::{ErrorCode, Failure};

/// A group's members, by the protocol that they speak.
#[derive(Debug)]
pub(super) enum Group {
    /// Its members assign.
    Classic(classic::Group),
}

/// A group and its offsets.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) group: Group,
    pub(super) offsets: Offsets,
}

impl Entry {
    /// A group without members: every group begins as one.
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { group: Group::Classic(classic::Group::new(name)), offsets: Offsets::default() }
    }

    pub(super) fn listed(&self, name: &str) -> Listed {
        match &self.group {
            Group::Classic(group) => Listed {
                group: name.to_owned(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                state: group.state,
                kind: GroupKind::Classic,
            },
        }
    }

    pub(super) fn describe(&self) -> GroupDescription {
        match &self.group {
            Group::Classic(group) => GroupDescription::Classic(group.describe()),
        }
    }

    pub(super) fn state(&self) -> GroupState {
        match &self.group {
            Group::Classic(group) => group.state,
        }
    }

    pub(super) fn members(&self) -> usize {
        match &self.group {
            Group::Classic(group) => group.members.len(),
        }
    }

    /// True if the group's members read `topic`, so that its offsets must stay.
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        match &self.group {
            Group::Classic(group) => group.subscribes(topic),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state() == GroupState::Empty
    }

    /// Whether an administrator may take the group away.
    pub(super) fn may_be_deleted(&self) -> Result<(), Failure> {
        if self.is_empty() { Ok(()) } else { Err(Failure::new(ErrorCode::NonEmptyGroup, "the group has members")) }
    }
}
