//! KIP-848 at the coordinator: heartbeats, and news of topics.

use std::sync::Arc;

use rafka_model::limits::{GROUP_METADATA_BYTES_MAX, GROUP_TEXT_BYTES_MAX};

use super::{Context, Coordinator, Output, no_such_member};
use crate::group::consumer;
use crate::group::entry::Group;
use crate::group::request::{ConsumerHeartbeat, GroupReply};
use crate::{ErrorCode, Failure};

impl Coordinator {
    pub(super) fn consumer_heartbeat(
        &mut self,
        context: &Context<'_>,
        output: &mut Output,
        heartbeat: &ConsumerHeartbeat,
    ) -> Result<GroupReply, Failure> {
        check_sizes(heartbeat)?;
        consumer::check(heartbeat)?;
        let name = &heartbeat.group;
        let joins = heartbeat.member_epoch == consumer::JOIN;
        if joins {
            self.has_room(name, true)?;
            self.make(name);
        }
        let reply = self.step(context, output, name, |entry, work| entry.consumer_heartbeat(work, heartbeat));
        self.drop_if_blank(name);
        reply.unwrap_or_else(|| Err(no_such_member())).map(GroupReply::ConsumerHeartbeat)
    }

    /// Groups whose members read topics that came, went or grew get another target.
    pub(super) fn refresh_consumers(&mut self, context: &Context<'_>, output: &mut Output) {
        let fingerprint = fingerprint(context);
        let names_changed = std::mem::replace(&mut self.fingerprint, fingerprint) != fingerprint;
        let consumers = self.groups.iter().filter(|(_, entry)| matches!(entry.group, Group::Consumer(_)));
        let names: Vec<_> = consumers.map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.step(context, output, &name, |entry, work| entry.image_changed(work, names_changed));
        }
    }
}

/// Another number if topics came or went.
pub(super) fn fingerprint(context: &Context<'_>) -> u64 {
    let halves = context.image.topics.keys().flat_map(|id| id.0.as_chunks::<8>().0);
    halves.fold(0, |sum, half| sum.wrapping_mul(31).wrapping_add(u64::from_be_bytes(*half)))
}

fn check_sizes(heartbeat: &ConsumerHeartbeat) -> Result<(), Failure> {
    let texts = [&heartbeat.member_id, &heartbeat.caller.client_id, &heartbeat.caller.client_host];
    let texts = texts.into_iter().chain(&heartbeat.instance_id).chain(&heartbeat.rack_id);
    let topics = heartbeat.subscribed_topics.iter().flatten();
    let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidRequest, why));
    if texts.chain(topics.clone()).any(|text| text.len() > GROUP_TEXT_BYTES_MAX) {
        return refuse(format!("a name is over {GROUP_TEXT_BYTES_MAX} bytes"));
    }
    let bytes = topics.map(String::len).sum::<usize>();
    if bytes > GROUP_METADATA_BYTES_MAX {
        return refuse(format!("names of topics are {bytes} bytes, limit is {GROUP_METADATA_BYTES_MAX}"));
    }
    Ok(())
}
