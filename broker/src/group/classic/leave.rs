//! LeaveGroup.

use std::sync::Arc;

use super::Group;
use crate::ErrorCode;
use crate::group::request::{Leaving, Left};
use crate::group::timers::Alarm;
use crate::group::work::Work;

impl Group {
    /// Takes members out, each as asked; administrators name static members without an id.
    pub(in crate::group) fn leave(&mut self, work: &mut Work<'_>, members: Vec<Leaving>) -> Vec<Left> {
        let left: Vec<_> = members
            .into_iter()
            .map(|Leaving { member_id, instance_id, .. }| {
                let result = self.leave_one(work, &member_id, instance_id.as_deref());
                Left { member_id, instance_id, result }
            })
            .collect();
        if left.iter().any(|one| one.result.is_ok()) {
            self.after_removal(work);
        }
        left
    }

    fn leave_one(&mut self, work: &mut Work<'_>, id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if id.is_empty() {
            let named = instance_id.and_then(|instance_id| self.instances.get(instance_id)).cloned();
            self.remove(work, &named.ok_or(ErrorCode::UnknownMemberId)?);
        } else if let Some(id) = self.pending.take(id) {
            work.timers.clear(&Alarm::Pending(Arc::clone(&self.name), id));
        } else {
            self.check_member(work.rules, id, instance_id).map_err(|failure| failure.code)?;
            self.remove(work, id);
        }
        Ok(())
    }
}
