//! Groups described and taken away.

use std::sync::Arc;

use super::{Coordinator, Output, no_such_group};
use crate::Failure;
use crate::group::entry::Weight;
use crate::group::request::GroupReply;

impl Coordinator {
    pub(super) fn describe(&self, group: &str) -> Result<GroupReply, Failure> {
        self.groups.get(group).map(|entry| GroupReply::Describe(entry.describe())).ok_or_else(no_such_group)
    }

    pub(super) fn delete(&mut self, output: &mut Output, group: &str) -> Result<GroupReply, Failure> {
        self.groups.get(group).ok_or_else(no_such_group)?.may_be_deleted()?;
        self.take_away(output, group);
        Ok(GroupReply::Delete)
    }

    /// Forgets a group: first its offsets, so that a log that ends in between still has the group to forget.
    pub(super) fn take_away(&mut self, output: &mut Output, group: &str) {
        let Some(entry) = self.groups.get(group) else { return };
        let offsets: Vec<_> = entry.offsets.iter().map(|(topic, id, _)| (Arc::clone(topic), id)).collect();
        for (topic, partition) in offsets {
            self.forget_and_record(output, group, &topic, partition);
        }
        if let Some(entry) = self.groups.remove(group) {
            self.weigh(entry.weight(), Weight::default());
            output.records.extend(entry.tombstones(group));
        }
    }
}
