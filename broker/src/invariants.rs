//! Truths that must always hold, for `debug_assert!`, property tests, the simulator and what is read from a disk.

use std::collections::BTreeSet;

use rafka_model::limits::TOPIC_PARTITIONS_MAX;
use rafka_model::{NodeId, PartitionId, TopicPartition};

use crate::metadata::{Cluster, Image, PartitionState, Topic};

/// An invariant that does not hold, in words.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("broken invariant: {0}")]
pub struct Violation(pub String);

macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::invariants::Violation(format!($($words)+)));
        }
    };
}
pub(crate) use hold;

impl Image {
    /// Checks that this is a possible state of a cluster (invariants 7, 9 and 15 of the cluster protocol).
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        hold!(self.cluster.is_some() == (self.index.0 > 0), "founded by the first entry, at {}", self.index);
        hold!(distinct(&self.voters), "voters repeat: {:?}", self.voters);
        hold!(self.next_producer.0 >= 0, "the next producer id is {}", self.next_producer);
        for voter in &self.voters {
            hold!(self.nodes.contains_key(voter), "voter {voter} is not registered");
        }
        self.check_nodes()?;
        hold!(
            self.topics.len() == self.topic_ids.len(),
            "{} topics, {} names",
            self.topics.len(),
            self.topic_ids.len()
        );
        for (id, topic) in &self.topics {
            hold!(topic.id == *id, "topic {id} is filed as {}", topic.id);
            hold!(self.topic_ids.get(&topic.name) == Some(id), "topic {} is not filed by its name", topic.name);
            self.check_topic(topic)?;
        }
        Ok(())
    }

    fn check_nodes(&self) -> Result<(), Violation> {
        let (mut peers, mut epochs) = (BTreeSet::new(), BTreeSet::new());
        for (id, node) in &self.nodes {
            hold!(node.id == *id, "node {id} is filed as {}", node.id);
            hold!(id.0 > 0 && id.0 <= node.epoch.0, "node {id} has epoch {}", node.epoch);
            hold!(*id <= self.last_node, "node {id} is beyond the last id, {}", self.last_node);
            hold!(node.epoch.0 <= self.index.0, "node {id} registered at {}, after {}", node.epoch, self.index);
            hold!(peers.insert(&node.peer_id), "peer {} has two nodes", node.peer_id);
            hold!(epochs.insert(node.epoch), "two registrations at {}", node.epoch);
            let level = self.cluster.as_ref().map_or(0, |cluster| cluster.feature_level);
            hold!(node.fenced || node.features_max >= level, "node {id} serves without knowing feature level {level}");
        }
        Ok(())
    }

    fn check_topic(&self, topic: &Topic) -> Result<(), Violation> {
        let count = topic.partitions.len();
        hold!((1..=TOPIC_PARTITIONS_MAX as usize).contains(&count), "topic {} has {count} partitions", topic.name);
        hold!(topic.changed <= self.index, "topic {} changed at {}, after {}", topic.name, topic.changed, self.index);
        for (i, state) in topic.partitions.iter().enumerate() {
            self.check_partition(state, topic.min_insync())
                .map_err(|Violation(why)| Violation(format!("{}/{i}: {why}", topic.name)))?;
        }
        Ok(())
    }

    fn check_partition(&self, state: &PartitionState, min_insync: usize) -> Result<(), Violation> {
        let PartitionState { replicas, leader, isr, elr, adding, removing, target, last_known_elr, .. } = state;
        hold!(!replicas.is_empty() && distinct(replicas), "replicas {replicas:?}");
        hold!(distinct(isr), "isr {isr:?}");
        hold!(distinct(elr), "elr {elr:?}");
        for replica in replicas.iter().chain(target) {
            hold!(self.nodes.contains_key(replica), "replica {replica} is not registered");
        }
        for member in isr.iter().chain(elr).chain(last_known_elr) {
            hold!(replicas.contains(member), "{member} is in sync but no replica");
        }
        hold!(!isr.iter().any(|member| elr.contains(member)), "isr {isr:?} and elr {elr:?} overlap");
        hold!(
            elr.is_empty() || isr.len() < min_insync.min(replicas.len()),
            "elr {elr:?}, although {isr:?} are enough to commit"
        );
        hold!(!state.recovering || isr.len() <= 1, "isr {isr:?} while {leader:?} recovers");
        let waits = adding.is_empty() && removing.is_empty();
        hold!(distinct(target) && (waits || !target.is_empty()), "target {target:?} of {adding:?}, {removing:?}");
        hold!(adding.iter().all(|id| replicas.contains(id) && target.contains(id)), "adding {adding:?}");
        hold!(removing.iter().all(|id| replicas.contains(id) && !target.contains(id)), "removing {removing:?}");
        if let Some(leader) = leader {
            hold!(isr.contains(leader), "leader {leader} is not in the isr {isr:?}");
        }
        // Earlier versions left the last in-sync replica in the set when it was fenced.
        let left_over = leader.is_none() && isr.len() == 1;
        for member in isr.iter().filter(|_| !left_over) {
            let serves = self.nodes.get(member).is_some_and(|node| !node.fenced);
            hold!(serves, "in-sync replica {member} (leader: {leader:?}) is fenced");
        }
        Ok(())
    }

    /// Partitions without a leader although a member of their ISR, or of their ELR if nobody is in sync, is in service.
    /// None once the controller has said all that it has to say; an entry that ends in the middle of a long election may
    /// leave some.
    pub fn unled(&self) -> impl Iterator<Item = TopicPartition> {
        let serves = |id: &NodeId| self.nodes.get(id).is_some_and(|node| !node.fenced);
        self.topics.values().flat_map(move |topic| {
            let unled = move |state: &PartitionState| {
                let able = if state.isr.is_empty() { &state.elr } else { &state.isr };
                state.leader.is_none() && able.iter().any(serves)
            };
            let partition = |i| TopicPartition { topic: topic.id, partition: PartitionId(i) };
            (0..).zip(&topic.partitions).filter(move |(_, state)| unled(state)).map(move |(i, _)| partition(i))
        })
    }
}

/// Checks that `after` can follow `before`: numbers grow, an epoch has one leader, ids are not reused.
///
/// # Errors
/// The first [`Violation`] found.
pub fn transition(before: &Image, after: &Image) -> Result<(), Violation> {
    hold!(before.index <= after.index, "index went from {} back to {}", before.index, after.index);
    hold!(before.next_producer <= after.next_producer, "producer ids from {} again", after.next_producer);
    if let Some(old) = &before.cluster {
        let level = after.cluster.as_ref().map_or(0, |cluster| cluster.feature_level);
        let same = Some(Cluster { feature_level: level, ..old.clone() }) == after.cluster;
        hold!(same, "the cluster was founded again");
        hold!(old.feature_level <= level, "feature level went from {} back to {level}", old.feature_level);
    }
    hold!(before.last_node <= after.last_node, "node ids after {} again", after.last_node);
    for (id, old) in &before.nodes {
        // Removed; that it had no replicas is checked where the image is.
        let Some(new) = after.nodes.get(id) else { continue };
        hold!(old.peer_id == new.peer_id, "node {id} became another peer");
        hold!(old.epoch <= new.epoch, "epoch of node {id} went from {} to {}", old.epoch, new.epoch);
    }
    for (id, new) in &after.nodes {
        hold!(before.nodes.contains_key(id) || *id > before.last_node, "node id {id} was given out before");
        let since = before.nodes.get(id).is_some_and(|old| old.epoch == new.epoch) || new.epoch.0 > before.index.0;
        hold!(since, "epoch {} of node {id} is older than its registration", new.epoch);
    }
    for (id, old) in &before.topics {
        let Some(new) = after.topics.get(id) else { continue };
        hold!(old.name == new.name, "topic {} became {}", old.name, new.name);
        hold!(old.partitions.len() <= new.partitions.len(), "topic {} shrank", old.name);
        hold!(old == new || old.changed < new.changed, "topic {} changed without a new version", old.name);
        for (i, (old, new)) in old.partitions.iter().zip(&new.partitions).enumerate() {
            partition_transition(old, new).map_err(|Violation(why)| Violation(format!("{id}/{i}: {why}")))?;
        }
    }
    Ok(())
}

fn partition_transition(old: &PartitionState, new: &PartitionState) -> Result<(), Violation> {
    hold!(old.leader_epoch <= new.leader_epoch, "leader epoch {} → {}", old.leader_epoch, new.leader_epoch);
    hold!(
        old == new || old.partition_epoch < new.partition_epoch,
        "changed in partition epoch {} → {}",
        old.partition_epoch,
        new.partition_epoch
    );
    let stays = old.replicas.iter().all(|id| new.replicas.contains(id));
    hold!(
        stays || old.leader_epoch < new.leader_epoch,
        "replicas {:?} became {:?} in one epoch",
        old.replicas,
        new.replicas
    );
    // Also when nobody led between: an election is a new epoch, or a leader that was away could go on as if it were not.
    if old.leader_epoch == new.leader_epoch && new.leader.is_some() {
        hold!(old.leader == new.leader, "epoch {} has leaders {:?} and {:?}", old.leader_epoch, old.leader, new.leader);
    }
    Ok(())
}

fn distinct(ids: &[NodeId]) -> bool {
    ids.iter().collect::<BTreeSet<_>>().len() == ids.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::sync::Arc;

    fn broken(change: impl FnOnce(&mut Image)) -> String {
        let mut image = testing::image(3, 4);
        assert_eq!(image.check_invariants(), Ok(()));
        change(&mut image);
        image.check_invariants().expect_err("must be noticed").0
    }

    fn partition(image: &mut Image) -> &mut PartitionState {
        let topic = image.topics.values_mut().next().expect("one topic");
        &mut Arc::make_mut(topic).partitions[1]
    }

    #[test]
    fn contradictions_are_named() {
        assert!(broken(|image| partition(image).isr.clear()).contains("is not in the isr []"));
        assert!(broken(|image| partition(image).adding.push(NodeId(1))).contains("target []"));
        assert!(broken(|image| partition(image).target.push(NodeId(99))).contains("99 is not registered"));
        assert!(broken(|image| partition(image).replicas.push(NodeId(99))).contains("99 is not registered"));
        assert!(broken(|image| partition(image).leader = Some(NodeId(99))).contains("leader 99"));
        assert!(broken(|image| image.nodes.values_mut().for_each(|node| node.fenced = true)).contains("fenced"));
        assert!(broken(|image| partition(image).elr = partition(image).isr.clone()).contains("overlap"));
        assert!(
            broken(|image| {
                partition(image).replicas = vec![NodeId(2), NodeId(3)];
                partition(image).elr = vec![NodeId(3)];
            })
            .contains("enough to commit")
        );
        assert!(broken(|image| image.topic_ids.clear()).contains("names"));
        assert!(broken(|image| image.cluster = None).contains("founded"));
        assert!(broken(|image| image.voters.extend([NodeId(1), NodeId(1)])).contains("voters repeat"));
        assert!(
            broken(|image| {
                let peer = image.nodes[&NodeId(1)].peer_id.clone();
                image.nodes.values_mut().for_each(|node| node.peer_id.clone_from(&peer));
            })
            .contains("two nodes")
        );
    }

    #[test]
    fn an_epoch_has_one_leader_and_numbers_never_fall() {
        let before = testing::image(3, 4);
        let after = |change: fn(&mut PartitionState)| {
            let mut after = before.clone();
            after.topics.values_mut().for_each(|topic| Arc::make_mut(topic).changed.0 += 1);
            change(partition(&mut after));
            transition(&before, &after)
        };
        assert_eq!(after(|_| ()), Ok(()));
        assert!(after(|state| state.leader_epoch.0 -= 1).is_err());
        assert!(after(|state| state.leader = None).is_err(), "the partition epoch must grow");
        let moved = |state: &mut PartitionState| {
            state.leader = Some(NodeId(50));
            state.partition_epoch.0 += 1;
        };
        assert!(after(moved).is_err());
        let gone = |state: &mut PartitionState| {
            state.leader = None;
            state.partition_epoch.0 += 1;
        };
        assert_eq!(after(gone), Ok(()));
    }
}
