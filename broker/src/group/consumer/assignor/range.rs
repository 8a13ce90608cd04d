//! A range of each topic. Members stand in one order for all topics, so topics of as many partitions that the same
//! members read are cut alike: the partitions of one number have one owner. As with Kafka's, history plays no part, save
//! that static members stand first and under their names: one that comes back gets the same.

use rafka_model::PartitionId;

use super::{Assignment, Spec};

/// Shares of the members, in their order.
pub(super) fn assign(spec: &Spec<'_>) -> Vec<Assignment> {
    let place = places(spec);
    let mut shares = vec![Assignment::new(); spec.members.len()];
    for (topic, mut readers) in spec.subscribers() {
        readers.sort_by_key(|i| place[*i]);
        let (count, members) = (spec.topics[&topic], u32::try_from(readers.len()).unwrap_or(u32::MAX));
        let (quota, extra) = (count / members, count % members);
        let mut next = 0;
        for (i, reader) in (0u32..).zip(readers) {
            let end = next + quota + u32::from(i < extra);
            if end > next {
                shares[reader].insert(topic, (next..end).map(PartitionId).collect());
            }
            next = end;
        }
    }
    shares
}

/// The place of each member in their order.
fn places(spec: &Spec<'_>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    order.sort_by_key(|i| {
        let member = &spec.members[*i];
        (member.instance.is_none(), member.instance.unwrap_or(member.id), *i)
    });
    let mut places = vec![0; order.len()];
    for (place, i) in order.into_iter().enumerate() {
        places[i] = place;
    }
    places
}
