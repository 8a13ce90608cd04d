//! Groups change their kind while they have members: a classic group of consumers becomes one of KIP-848 when the first
//! such member joins, and a classic one again when the last has left. Offsets are not touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_model::PartitionId;

use super::Group;
use super::metadata::topic;
use super::protocol::{Named, read_assignment, read_subscription, write_assignment};
use crate::group::classic;
use crate::group::coordinator::GroupRecord;
use crate::group::records::consumer::{ClassicPart, Current, Epoch, Owned, Subscription, TargetEpoch};
use crate::group::records::{self, ConsumerKey, ConsumerValue};
use crate::group::work::Work;
use crate::metadata::Image;
use crate::{ErrorCode, Failure};

/// A classic member, as this kind of group has it.
struct Converted {
    id: Arc<str>,
    subscription: Subscription,
    assigned: Named,
}

fn convert(id: &Arc<str>, member: &classic::Member, protocol: Option<&str>) -> Result<Converted, Failure> {
    let refuse = |why: &str| Failure::new(ErrorCode::GroupIdNotFound, why.to_owned());
    let unreadable = |_| refuse("a classic member's bytes cannot be read: the group stays classic");
    let chosen = member.protocols.iter().find(|one| Some(&*one.name) == protocol).or(member.protocols.first());
    let metadata = chosen.map(|one| &*one.metadata).unwrap_or_default();
    let read = read_subscription(metadata).map_err(unreadable)?;
    let assigned = read_assignment(&member.assignment).map_err(unreadable)?;
    if !assigned.user_data.is_empty() {
        return Err(refuse("the classic members have an assignor of their own: the group stays classic"));
    }
    let assigned = assigned.partitions;
    let subscription = Subscription {
        instance_id: member.instance_id.clone(),
        rack_id: read.rack_id,
        caller: member.caller.clone(),
        topics: read.topics.into_iter().collect(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        classic: Some(ClassicPart {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
        ..Subscription::default()
    };
    Ok(Converted { id: Arc::clone(id), subscription, assigned })
}

fn owned(
    named: &Named,
    image: &Image,
    taken: &mut std::collections::BTreeSet<(rafka_model::TopicId, PartitionId)>,
) -> Owned {
    let mut owned = Owned::new();
    for (name, partitions) in named {
        let Some(topic) = topic(image, name) else { continue };
        // An assignor of the members may have given a partition twice: the coordinator knows one owner.
        let mine = partitions.iter().filter(|partition| taken.insert((topic.id, **partition)));
        let mine: BTreeMap<PartitionId, i32> = mine.map(|partition| (*partition, 0)).collect();
        owned.extend((!mine.is_empty()).then_some((topic.id, mine)));
    }
    owned
}

impl Group {
    /// The classic group as one of KIP-848, with its members in the epoch of its generation; writes it down.
    ///
    /// # Errors
    /// [`ErrorCode::GroupIdNotFound`], as Kafka has it, if that cannot be done; nothing has changed.
    pub(in crate::group) fn from_classic(work: &mut Work<'_>, classic: &mut classic::Group) -> Result<Self, Failure> {
        let refuse = |why: String| Err(Failure::new(ErrorCode::GroupIdNotFound, why));
        if !classic.members.is_empty() {
            if !work.config.consumer_migration_policy.upgrades() {
                return refuse("groups.consumer_migration_policy keeps groups with classic members classic".to_owned());
            }
            if !classic.is_of_consumers() {
                return refuse(format!(
                    "its members are of type {:?}, not consumers",
                    classic.protocol_type.as_deref().unwrap_or_default()
                ));
            }
            if classic.members.len() > work.config.consumer_max_size {
                return refuse("it has more members than groups.consumer_max_size allows".to_owned());
            }
        }
        let protocol = classic.protocol.as_deref();
        let members = classic.members.iter().map(|(id, member)| convert(id, member, protocol));
        let members = members.collect::<Result<Vec<_>, _>>()?;

        let mut group = Self::new(Arc::clone(&classic.name));
        if !classic.is_blank() {
            work.output.records.push(records::group::record(&classic.name, None));
        }
        classic.give_up(work, ErrorCode::RebalanceInProgress, "the group changes its kind: join again");
        let epoch = classic.generation.max(0);
        let mut taken = std::collections::BTreeSet::new();
        for Converted { id, subscription, assigned } in members {
            let assigned = owned(&assigned, work.context.image, &mut taken);
            let share = assigned.iter().map(|(topic, has)| (*topic, has.keys().copied().collect())).collect();
            let current = Current { epoch, previous_epoch: epoch, assigned, ..Current::default() };
            group.write(work, ConsumerKey::Member(&id), Some(ConsumerValue::Member(subscription)));
            group.write(work, ConsumerKey::Target(&id), Some(ConsumerValue::Target(share)));
            group.write(work, ConsumerKey::Current(&id), Some(ConsumerValue::Current(current)));
            group.heard(work, &id);
        }
        if epoch > 0 {
            let target = TargetEpoch { epoch, made: work.context.time };
            group.write(work, ConsumerKey::TargetEpoch, Some(ConsumerValue::TargetEpoch(target)));
            group.write(work, ConsumerKey::Group, Some(ConsumerValue::Group(Epoch { epoch, metadata_hash: 0 })));
        }
        Ok(group)
    }

    /// Only classic members are left, and the group may become a classic one.
    pub(in crate::group) fn is_to_be_classic(&self, work: &Work<'_>) -> bool {
        let members = self.members.len();
        let fits = members == self.classic && members <= work.config.max_size;
        members > 0 && fits && work.config.consumer_migration_policy.downgrades()
    }

    /// The group as a classic one; writes it down. Its members are called to join again.
    pub(in crate::group) fn to_classic(&self, work: &mut Work<'_>) -> classic::Group {
        let mut members = BTreeMap::new();
        for (id, member) in &self.members {
            let Some(part) = &member.subscription.classic else { continue };
            let best = part.protocols.first().map(|one| &*one.metadata).unwrap_or_default();
            let version = read_subscription(best).map(|read| read.version).unwrap_or_default();
            let stored = classic::Member::new(
                member.subscription.instance_id.clone(),
                member.subscription.caller.clone(),
                (member.subscription.rebalance_timeout_ms, part.session_timeout_ms),
                part.protocols.clone(),
                write_assignment(version, &self.named(id, work.context.image)),
            );
            members.insert(Arc::clone(id), stored);
        }
        work.output.records.extend(self.tombstones());
        let mut group =
            classic::Group::of_consumers(Arc::clone(&self.name), self.epoch.epoch, work.context.time, members);
        work.output.records.push(records::group::record(&self.name, Some(&group.metadata())));
        group.loaded(work);
        group.prepare(work);
        group
    }

    /// Records that take all of the group back; the group last.
    pub(in crate::group) fn tombstones(&self) -> Vec<GroupRecord> {
        let mut keys = Vec::new();
        for id in self.members.keys() {
            keys.extend([ConsumerKey::Current(id), ConsumerKey::Target(id), ConsumerKey::Member(id)]);
        }
        keys.extend(self.regexes.keys().map(|expression| ConsumerKey::Regex(expression)));
        if self.target_epoch.epoch > 0 {
            keys.push(ConsumerKey::TargetEpoch);
        }
        if self.epoch.epoch > 0 {
            keys.push(ConsumerKey::Group);
        }
        keys.into_iter().map(|key| key.record(&self.name, None)).collect()
    }
}
