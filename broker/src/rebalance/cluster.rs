//! The cluster while a plan is made: who holds what, if everything planned so far were done.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use rafka_model::{NodeId, PartitionId, TopicPartition};

use super::{Move, Rule, Rules, Situation, Why, settled};
use crate::metadata::{PartitionState, Role};
use crate::placement::{Candidate, score};

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) rules: Rules,
    pub(super) hosts: Vec<Host>,
    pub(super) partitions: Vec<Partition>,
    pub(super) bytes_known: bool,
}

/// A node.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) candidate: Candidate,
    /// Equal for nodes that share a rack.
    pub(super) rack: usize,
    pub(super) standing: Standing,
    /// Partitions of which it holds a replica.
    pub(super) holds: BTreeSet<usize>,
    pub(super) leaders: u64,
    pub(super) bytes: u64,
    /// Replicas by topic.
    topics: BTreeMap<usize, u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Holds replicas and may get more.
    Serves,
    /// Holds what it has.
    Stays,
    /// Is to hold nothing.
    Leaves(Why),
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) at: TopicPartition,
    pub(super) bytes: u64,
    pub(super) wanted: usize,
    /// The preferred leader first.
    pub(super) slots: Vec<Slot>,
    /// Where the replicas were when planning began.
    origin: Vec<usize>,
    /// There is somebody to copy from.
    pub(super) led: bool,
    /// Nodes that are getting a replica now.
    pub(super) adding: BTreeSet<usize>,
    /// Its replicas change now.
    pub(super) under_way: bool,
    topic: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) host: usize,
    /// Where it was when planning began, if it existed.
    pub(super) origin: Option<usize>,
    /// Why it is not where it was.
    pub(super) why: Option<Why>,
}

impl Cluster {
    pub(super) fn new(situation: &Situation<'_>, rules: Rules) -> Self {
        let Situation { image, lost, bytes } = *situation;
        let (mut hosts, mut index, mut racks) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for node in image.nodes.values() {
            let standing = if lost.contains(&node.id) {
                Standing::Leaves(Why::Lost)
            } else if node.draining || node.role == Role::Gateway {
                Standing::Leaves(Why::Draining)
            } else if node.fenced || node.weight_milli == 0 {
                Standing::Stays
            } else {
                Standing::Serves
            };
            let rack = match &node.rack {
                Some(rack) => *racks.entry(rack.clone()).or_insert(hosts.len()),
                None => hosts.len(),
            };
            let candidate = Candidate { id: node.id, rack: node.rack.clone(), weight_milli: node.weight_milli };
            index.insert(node.id, hosts.len());
            hosts.push(Host::new(candidate, rack, standing));
        }
        let mut cluster = Self { rules, hosts, partitions: Vec::new(), bytes_known: !bytes.is_empty() };
        for (number, topic) in image.topics.values().enumerate() {
            for (i, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                let at = TopicPartition { topic: topic.id, partition: i };
                let wanted = usize::from(topic.replication_factor);
                let size = bytes.get(&at).copied().unwrap_or(0);
                cluster.add(at, state, wanted, size, number, &mut index);
            }
        }
        cluster
    }

    fn add(
        &mut self,
        at: TopicPartition,
        state: &PartitionState,
        wanted: usize,
        bytes: u64,
        topic: usize,
        index: &mut BTreeMap<NodeId, usize>,
    ) {
        let mut find = |id: &NodeId| {
            *index.entry(*id).or_insert_with(|| {
                // Not registered (any more).
                let candidate = Candidate { id: *id, rack: None, weight_milli: 0 };
                self.hosts.push(Host::new(candidate, self.hosts.len(), Standing::Leaves(Why::Lost)));
                self.hosts.len() - 1
            })
        };
        let origin: Vec<usize> = settled(state).iter().map(&mut find).collect();
        let adding = state.adding.iter().map(&mut find).collect();
        let number = self.partitions.len();
        let under_way = !state.adding.is_empty() || !state.removing.is_empty();
        let slots: Vec<_> = origin.iter().map(|host| Slot { host: *host, origin: Some(*host), why: None }).collect();
        let led = state.leader.is_some();
        let partition = Partition { at, bytes, wanted, slots: Vec::new(), origin, led, adding, under_way, topic };
        self.partitions.push(partition);
        slots.into_iter().for_each(|slot| self.push(number, slot));
    }

    /// Gives a partition one more replica.
    pub(super) fn push(&mut self, partition: usize, slot: Slot) {
        let it = &mut self.partitions[partition];
        let host = &mut self.hosts[slot.host];
        host.leaders += u64::from(it.slots.is_empty());
        host.take(partition, it);
        it.slots.push(slot);
    }

    /// Moves a replica. The first reason stays: it is why the replica cannot stay where it was.
    pub(super) fn shift(&mut self, partition: usize, slot: usize, to: usize, why: Why) {
        let it = &mut self.partitions[partition];
        let from = it.slots[slot].host;
        self.hosts[from].give(partition, it);
        self.hosts[to].take(partition, it);
        if slot == 0 {
            self.hosts[from].leaders -= 1;
            self.hosts[to].leaders += 1;
        }
        it.slots[slot] = Slot { host: to, why: it.slots[slot].why.or(Some(why)), ..it.slots[slot] };
    }

    /// Prefers another replica as leader.
    pub(super) fn prefer(&mut self, partition: usize, slot: usize) {
        let it = &mut self.partitions[partition];
        self.hosts[it.slots[0].host].leaders -= 1;
        self.hosts[it.slots[slot].host].leaders += 1;
        it.slots.swap(0, slot);
    }

    /// Is `partition` one whose replicas may be moved for balance?
    pub(super) fn is_free(&self, partition: usize) -> bool {
        let it = &self.partitions[partition];
        (it.led || !self.rules.hold(Rule::LeaderlessPartitionsStay))
            && (!it.under_way || !self.rules.hold(Rule::MovesUnderWayStay))
    }

    pub(super) fn may_take(&self, host: usize, partition: usize) -> bool {
        let open = match self.hosts[host].standing {
            Standing::Serves => true,
            Standing::Stays => !self.rules.hold(Rule::FencedNodesGetNothing),
            Standing::Leaves(Why::Draining) => !self.rules.hold(Rule::DrainingNodesGetNothing),
            Standing::Leaves(_) => false,
        };
        let distinct =
            !self.hosts[host].holds.contains(&partition) || !self.rules.hold(Rule::ReplicasAreOnDistinctNodes);
        open && distinct && self.hosts[host].candidate.weight_milli > 0
    }

    /// Racks of a partition's replicas but for that in `slot`.
    pub(super) fn racks(&self, partition: usize, slot: Option<usize>) -> BTreeSet<usize> {
        let slots = self.partitions[partition].slots.iter().enumerate();
        slots.filter(|(i, _)| Some(*i) != slot).map(|(_, slot)| self.hosts[slot.host].rack).collect()
    }

    /// The best node for another replica: on an unused rack, with the least load, and what the hash prefers.
    pub(super) fn destination(&self, partition: usize, slot: Option<usize>) -> Option<usize> {
        let racks = self.racks(partition, slot);
        let mut open: Vec<usize> = (0..self.hosts.len()).filter(|host| self.may_take(*host, partition)).collect();
        if open.iter().any(|host| !racks.contains(&self.hosts[*host].rack)) {
            open.retain(|host| !racks.contains(&self.hosts[*host].rack));
        }
        let at = self.partitions[partition].at;
        let liking = |host: &usize| score(at.topic, at.partition.0, &self.hosts[*host].candidate);
        open.into_iter().min_by(|a, b| {
            let (one, other) = (&self.hosts[*a], &self.hosts[*b]);
            one.fuller(other, 1, 1).then_with(|| liking(b).total_cmp(&liking(a)))
        })
    }

    /// Replicas of the partition's topic on a node.
    pub(super) fn of_topic(&self, host: usize, partition: usize) -> u64 {
        self.hosts[host].topics.get(&self.partitions[partition].topic).copied().unwrap_or(0)
    }

    /// The difference between where replicas were and where they are, as moves in their order.
    pub(super) fn moves(&self) -> Vec<Move> {
        let id = |host: usize| self.hosts[host].candidate.id;
        let mut moves = Vec::new();
        for Partition { at, bytes, slots, origin, .. } in &self.partitions {
            let mut order = origin.clone();
            let mut gone: Vec<usize> =
                origin.iter().copied().filter(|host| !slots.iter().any(|slot| slot.host == *host)).collect();
            let (at, bytes) = (*at, *bytes);
            // First those who took a replica over from somebody who has none now, then all others.
            let mut new: Vec<&Slot> = slots.iter().filter(|slot| !origin.contains(&slot.host)).collect();
            new.sort_by_key(|slot| !slot.origin.is_some_and(|origin| gone.contains(&origin)));
            for slot in new {
                let own = gone.iter().position(|host| Some(*host) == slot.origin);
                let any = (!gone.is_empty() && slot.origin.is_some()).then_some(0);
                let from = own.or(any).map(|i| gone.remove(i));
                match order.iter_mut().find(|host| Some(**host) == from) {
                    Some(place) => *place = slot.host,
                    None => order.push(slot.host),
                }
                let why = slot.why.unwrap_or(Why::Replicas);
                moves.push(Move { at, from: from.map(id), to: id(slot.host), why, bytes });
            }
            if let (Some(before), Some(after)) = (order.first(), slots.first())
                && *before != after.host
            {
                moves.push(Move { at, from: Some(id(*before)), to: id(after.host), why: Why::Leaders, bytes: 0 });
            }
        }
        moves.sort_by_key(|step| (step.why, step.at));
        moves
    }
}

impl Host {
    fn new(candidate: Candidate, rack: usize, standing: Standing) -> Self {
        let (holds, leaders, bytes, topics) = Default::default();
        Self { candidate, rack, standing, holds, leaders, bytes, topics }
    }

    pub(super) fn replicas(&self) -> u64 {
        self.holds.len() as u64
    }

    pub(super) fn weight(&self) -> u64 {
        u64::from(self.candidate.weight_milli)
    }

    /// Compares loads for their weights, with so many replicas more.
    pub(super) fn fuller(&self, other: &Self, mine: u64, others: u64) -> Ordering {
        let scaled = |host: &Self, more: u64, by: u64| u128::from(host.replicas() + more) * u128::from(by);
        scaled(self, mine, other.weight()).cmp(&scaled(other, others, self.weight()))
    }

    fn take(&mut self, number: usize, partition: &Partition) {
        self.holds.insert(number);
        self.bytes += partition.bytes;
        *self.topics.entry(partition.topic).or_default() += 1;
    }

    fn give(&mut self, number: usize, partition: &Partition) {
        self.holds.remove(&number);
        self.bytes = self.bytes.saturating_sub(partition.bytes);
        if let Some(count) = self.topics.get_mut(&partition.topic) {
            *count = count.saturating_sub(1);
        }
    }
}
