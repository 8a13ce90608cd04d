//! As even as can be, then as few moves as that allows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use rafka_model::{PartitionId, TopicId};

use super::{Assignment, Spec};

/// Rounds of levelling over all topics. Each move makes shares more even, so rounds end by themselves; the bound is for
/// subscriptions that were made to be slow.
const ROUNDS_MAX: usize = 32;

/// Shares of the members, in their order.
pub(super) fn assign(spec: &Spec<'_>) -> Vec<Assignment> {
    if spec.members.is_empty() {
        return Vec::new();
    }
    if spec.is_homogeneous() { homogeneous(spec) } else { Heterogeneous::new(spec).assign() }
}

fn insert(share: &mut Assignment, topic: TopicId, partition: PartitionId) {
    share.entry(topic).or_default().insert(partition);
}

/// All members read the same: everybody gets the quotient, and the first that have it already the remainder.
fn homogeneous(spec: &Spec<'_>) -> Vec<Assignment> {
    let members = spec.members.len();
    let read = spec.members[0].topics.iter().filter_map(|topic| Some((*topic, *spec.topics.get(topic)?)));
    let read: Vec<(TopicId, u32)> = read.collect();
    let partitions: usize = read.iter().map(|(_, count)| *count as usize).sum();
    let (quota, mut extra) = (partitions / members, partitions % members);

    let mut shares = vec![Assignment::new(); members];
    let mut taken = BTreeSet::new();
    let mut sizes = vec![0usize; members];
    for (i, share) in shares.iter_mut().enumerate() {
        for (topic, partition) in spec.kept(i) {
            if sizes[i] == quota + usize::from(extra > 0) {
                break;
            }
            if taken.insert((topic, partition)) {
                insert(share, topic, partition);
                sizes[i] += 1;
            }
        }
        extra -= usize::from(sizes[i] > quota);
    }

    let free =
        read.iter().flat_map(|(topic, count)| (0..*count).map(move |partition| (*topic, PartitionId(partition))));
    let mut free = free.filter(|partition| !taken.contains(partition));
    let mut hungry: VecDeque<usize> = (0..members).filter(|i| sizes[*i] < quota).collect();
    while let Some(i) = hungry.pop_front() {
        let Some((topic, partition)) = free.next() else { break };
        insert(&mut shares[i], topic, partition);
        sizes[i] += 1;
        if sizes[i] < quota {
            hungry.push_back(i);
        }
    }
    let full = (0..members).filter(|i| sizes[*i] == quota).collect::<Vec<_>>();
    for (i, (topic, partition)) in full.into_iter().zip(free) {
        insert(&mut shares[i], topic, partition);
    }
    shares
}

/// Members read different topics.
struct Heterogeneous<'a> {
    spec: &'a Spec<'a>,
    subscribers: BTreeMap<TopicId, Vec<usize>>,
    /// Owner of each partition, by topic.
    owners: BTreeMap<TopicId, Vec<Option<usize>>>,
    load: Vec<usize>,
}

impl<'a> Heterogeneous<'a> {
    fn new(spec: &'a Spec<'a>) -> Self {
        let subscribers = spec.subscribers();
        let owners = subscribers.keys().map(|topic| (*topic, vec![None; spec.topics[topic] as usize])).collect();
        Self { spec, subscribers, owners, load: vec![0; spec.members.len()] }
    }

    fn assign(mut self) -> Vec<Assignment> {
        self.keep();
        let mut topics: Vec<TopicId> = self.subscribers.keys().copied().collect();
        topics.sort_by_key(|topic| self.subscribers[topic].len());
        topics.iter().for_each(|topic| self.fill(*topic));
        for _ in 0..ROUNDS_MAX {
            let moved: usize = topics.iter().map(|topic| self.level(*topic)).sum();
            if moved == 0 {
                break;
            }
        }
        let mut shares = vec![Assignment::new(); self.spec.members.len()];
        for (topic, owners) in &self.owners {
            for (partition, owner) in (0u32..).zip(owners) {
                if let Some(owner) = owner {
                    insert(&mut shares[*owner], *topic, PartitionId(partition));
                }
            }
        }
        shares
    }

    fn keep(&mut self) {
        for i in 0..self.spec.members.len() {
            for (topic, partition) in self.spec.kept(i) {
                let owner = self.owners.get_mut(&topic).and_then(|owners| owners.get_mut(partition.0 as usize));
                if let Some(owner) = owner.filter(|owner| owner.is_none()) {
                    *owner = Some(i);
                    self.load[i] += 1;
                }
            }
        }
    }

    /// Partitions without an owner go to whoever reads the topic and has least.
    fn fill(&mut self, topic: TopicId) {
        let (Some(owners), Some(readers)) = (self.owners.get_mut(&topic), self.subscribers.get(&topic)) else { return };
        if owners.iter().all(Option::is_some) {
            return;
        }
        let mut least: BinaryHeap<_> = readers.iter().map(|i| Reverse((self.load[*i], *i))).collect();
        for owner in owners.iter_mut().filter(|owner| owner.is_none()) {
            let Some(Reverse((load, i))) = least.pop() else { return };
            *owner = Some(i);
            self.load[i] = load + 1;
            least.push(Reverse((load + 1, i)));
        }
    }

    /// Moves partitions of one topic from who has most to who has least; says how many.
    fn level(&mut self, topic: TopicId) -> usize {
        let (Some(owners), Some(readers)) = (self.owners.get_mut(&topic), self.subscribers.get(&topic)) else {
            return 0;
        };
        let fewest = readers.iter().map(|i| self.load[*i]).min().unwrap_or(0);
        if !owners.iter().flatten().any(|owner| self.load[*owner] > fewest + 1) {
            return 0;
        }
        let mut has = BTreeMap::<usize, Vec<usize>>::new();
        for (partition, owner) in owners.iter().enumerate() {
            has.entry(owner.unwrap_or_default()).or_default().push(partition);
        }
        let mut most: BinaryHeap<_> = has.keys().map(|i| (self.load[*i], *i)).collect();
        let mut least: BinaryHeap<_> = readers.iter().map(|i| Reverse((self.load[*i], *i))).collect();
        let mut moved = 0;
        while let (Some((heavy, from)), Some(Reverse((light, to)))) = (most.pop(), least.pop()) {
            // Loads in the heaps may be old: who was moved to or from comes again with what it has.
            if heavy != self.load[from] {
                most.push((self.load[from], from));
                least.push(Reverse((light, to)));
                continue;
            }
            if light != self.load[to] {
                least.push(Reverse((self.load[to], to)));
                most.push((heavy, from));
                continue;
            }
            if heavy <= light + 1 {
                break;
            }
            least.push(Reverse((light, to)));
            let Some(partition) = has.get_mut(&from).and_then(Vec::pop) else { continue };
            owners[partition] = Some(to);
            self.load[from] -= 1;
            self.load[to] += 1;
            moved += 1;
            most.push((heavy - 1, from));
        }
        moved
    }
}
