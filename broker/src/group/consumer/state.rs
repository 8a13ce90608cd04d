//! State from records: the one place where what survives is changed, now and at a replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_model::Timestamp;

use super::{Group, Member};
use crate::group::records::consumer::{Current, Epoch, Subscription, TargetEpoch};
use crate::group::records::{ConsumerKey, ConsumerValue};
use crate::group::work::Work;

impl Group {
    /// Writes a record, or a tombstone, and applies it.
    pub(super) fn write(&mut self, work: &mut Work<'_>, key: ConsumerKey<'_>, value: Option<ConsumerValue>) {
        work.output.records.push(key.record(&self.name, value.as_ref()));
        self.apply(key, value);
    }

    /// Takes in a record.
    pub(in crate::group) fn apply(&mut self, key: ConsumerKey<'_>, value: Option<ConsumerValue>) {
        match (key, value) {
            (_, Some(ConsumerValue::Group(epoch))) => self.epoch = epoch,
            (ConsumerKey::Group, _) => self.epoch = Epoch::default(),
            (_, Some(ConsumerValue::TargetEpoch(epoch))) => self.set_target_epoch(epoch),
            (ConsumerKey::TargetEpoch, _) => self.set_target_epoch(TargetEpoch { epoch: 0, made: Timestamp(0) }),
            (ConsumerKey::Target(id), Some(ConsumerValue::Target(target))) => {
                let id = self.shared(id);
                self.target.insert(id, target);
            }
            (ConsumerKey::Target(id), _) => drop(self.target.remove(id)),
            (ConsumerKey::Member(id), Some(ConsumerValue::Member(subscription))) => self.subscribe(id, subscription),
            (ConsumerKey::Member(id), _) => self.forget(id),
            (ConsumerKey::Current(id), Some(ConsumerValue::Current(current))) => self.set_current(id, current),
            (ConsumerKey::Current(id), _) if self.members.contains_key(id) => self.set_current(id, Current::default()),
            (ConsumerKey::Regex(expression), Some(ConsumerValue::Regex(resolved))) => {
                self.regexes.insert(expression.to_owned(), resolved);
            }
            (ConsumerKey::Regex(expression), _) => drop(self.regexes.remove(expression)),
            (ConsumerKey::Current(_), _) => {}
        }
    }

    /// The member's id, kept once.
    fn shared(&self, id: &str) -> Arc<str> {
        self.members.get_key_value(id).map_or_else(|| id.into(), |(id, _)| Arc::clone(id))
    }

    fn member(&mut self, id: &str) -> (Arc<str>, &mut Member) {
        let id = self.shared(id);
        let target_epoch = self.target_epoch.epoch;
        let (settled, size) = (&mut self.settled, &mut self.bytes);
        let member = self.members.entry(Arc::clone(&id)).or_insert_with(|| {
            let member = Member::default();
            *settled += usize::from(member.has_reached(target_epoch));
            *size += bytes(&id, &member.subscription);
            member
        });
        (id, member)
    }

    fn subscribe(&mut self, id: &str, subscription: Subscription) {
        let (id, member) = self.member(id);
        let (next, size) = (subscription.clone(), bytes(&id, &subscription));
        let last = std::mem::replace(&mut member.subscription, subscription);
        self.uncount(&last, &id);
        if let Some(name) = next.instance_id {
            self.instances.insert(name, id);
        }
        for topic in next.topics {
            *self.topics.entry(topic).or_default() += 1;
        }
        if let Some(expression) = next.regex {
            *self.expressions.entry(expression).or_default() += 1;
        }
        self.classic += usize::from(next.classic.is_some());
        self.bytes += size;
    }

    fn uncount(&mut self, last: &Subscription, id: &Arc<str>) {
        if let Some(name) = last.instance_id.as_deref().filter(|name| self.instances.get(*name) == Some(id)) {
            self.instances.remove(name);
        }
        last.topics.iter().for_each(|topic| lower(&mut self.topics, topic));
        last.regex.iter().for_each(|expression| lower(&mut self.expressions, expression));
        self.classic -= usize::from(last.classic.is_some());
        self.bytes -= bytes(id, last);
    }

    fn forget(&mut self, id: &str) {
        let Some((id, member)) = self.members.remove_entry(id) else { return };
        self.uncount(&member.subscription, &id);
        self.settled -= usize::from(member.has_reached(self.target_epoch.epoch));
        self.release(&id, &member.current);
    }

    fn set_current(&mut self, id: &str, current: Current) {
        let target_epoch = self.target_epoch.epoch;
        let (id, member) = self.member(id);
        let had_reached = member.has_reached(target_epoch);
        let last = std::mem::replace(&mut member.current, current.clone());
        let has_reached = member.has_reached(target_epoch);
        self.settled = self.settled + usize::from(has_reached) - usize::from(had_reached);
        if last.assigned != current.assigned || last.revoking != current.revoking {
            self.release(&id, &last);
            for (topic, partitions) in current.assigned.into_iter().chain(current.revoking) {
                for partition in partitions.into_keys() {
                    self.owners.insert((topic, partition), Arc::clone(&id));
                }
            }
        }
    }

    fn release(&mut self, id: &Arc<str>, current: &Current) {
        for (topic, partitions) in current.assigned.iter().chain(&current.revoking) {
            for at in partitions.keys().map(|partition| (*topic, *partition)) {
                if self.owners.get(&at) == Some(id) {
                    self.owners.remove(&at);
                }
            }
        }
    }

    fn set_target_epoch(&mut self, epoch: TargetEpoch) {
        self.target_epoch = epoch;
        self.settled = self.members.values().filter(|member| member.has_reached(epoch.epoch)).count();
    }
}

/// What a member weighs.
pub(super) fn bytes(id: &str, subscription: &Subscription) -> usize {
    let topics = subscription.topics.iter().map(|topic| topic.len() + 32).sum::<usize>();
    let protocols = subscription.classic.iter().flat_map(|classic| &classic.protocols);
    let protocols = protocols.map(|one| one.name.len() + one.metadata.len()).sum::<usize>();
    let texts = [&subscription.instance_id, &subscription.rack_id, &subscription.regex];
    let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
    let caller = subscription.caller.client_id.len() + subscription.caller.client_host.len();
    id.len() + topics + protocols + texts + caller + 256
}

fn lower(counts: &mut BTreeMap<String, usize>, of: &str) {
    match counts.get_mut(of) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(of)),
    }
}
