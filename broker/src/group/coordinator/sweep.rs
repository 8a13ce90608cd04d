//! What nobody needs any more is forgotten: offsets that are too old or of topics that are gone, groups without any.

use std::sync::Arc;

use rafka_model::limits::GROUP_SWEEP_OFFSETS;

use super::{Context, Coordinator, Output};

impl Coordinator {
    /// Looks at some groups, if it is time; the rest follows at once in further steps.
    pub(super) fn sweep(&mut self, context: &Context<'_>, output: &mut Output) {
        let Some((at, cursor)) = self.sweep.take() else { return };
        if at > context.now {
            self.sweep = Some((at, cursor));
            return;
        }
        let (mut looked_at, mut last, mut expired, mut over) = (0, None, Vec::new(), Vec::new());
        for (name, entry) in self.names_behind(cursor.as_ref()) {
            let old = entry.expired(&self.config, context.time);
            looked_at += entry.offsets.len() + 1;
            if entry.is_over_without(old.len()) {
                over.push(Arc::clone(name));
            } else if !old.is_empty() {
                expired.push((Arc::clone(name), old));
            }
            if looked_at >= GROUP_SWEEP_OFFSETS {
                last = Some(Arc::clone(name));
                break;
            }
        }
        for (group, offsets) in expired {
            for (topic, partition) in offsets {
                self.forget_and_record(output, &group, &topic, partition);
            }
        }
        over.iter().for_each(|group| self.take_away(output, group));
        let next = if last.is_some() { context.now } else { self.next_sweep(context.now) };
        self.sweep = Some((next, last));
    }

    /// Forgets the offsets of topics that were deleted, save those that were committed to a newer topic of the name.
    pub(super) fn forget_gone_topics(&mut self, context: &Context<'_>, output: &mut Output) {
        for gone in self.topics.gone(context.image) {
            for group in gone.groups {
                let Some(entry) = self.groups.get(&group) else { continue };
                let of_it = entry.offsets.of_topic(&gone.topic);
                let of_it = of_it.filter(|(_, stored)| stored.topic_id.is_none_or(|id| id == gone.id));
                let partitions: Vec<_> = of_it.map(|(partition, _)| partition).collect();
                for partition in partitions {
                    self.forget_and_record(output, &group, &gone.topic, partition);
                }
            }
        }
    }
}
