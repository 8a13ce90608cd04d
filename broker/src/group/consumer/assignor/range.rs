//! A range of each topic. Members stand in one order for all topics, so topics of as many partitions that the same
//! members read are cut alike: the partitions of one number have one owner.

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

/// The members' order: who has ranges keeps its place among the others, new members stand behind; so ranges move little.
fn places(spec: &Spec<'_>) -> Vec<usize> {
    let mut order: Vec<_> = (0..spec.members.len())
        .map(|i| {
            let member = &spec.members[i];
            let first = spec.kept(i).map(|(_, partition)| partition).min();
            (first.map_or(u32::MAX, |partition| partition.0), member.instance.unwrap_or(member.id), i)
        })
        .collect();
    order.sort();
    let mut places = vec![0; order.len()];
    for (place, (_, _, i)) in order.into_iter().enumerate() {
        places[i] = place;
    }
    places
}
