//! The steps of planning.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use super::cluster::{Cluster, Slot, Standing};
use super::{Obstacle, Rule, Stuck, Why};

/// What a node should hold at least and at most.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    min: u64,
    max: u64,
}

impl Cluster {
    /// Moves everything off nodes that are lost or draining.
    pub(super) fn evacuate(&mut self, stuck: &mut Vec<Stuck>) {
        for partition in 0..self.partitions.len() {
            for slot in 0..self.partitions[partition].slots.len() {
                let it = &self.partitions[partition];
                let host = it.slots[slot].host;
                let Standing::Leaves(why) = self.hosts[host].standing else { continue };
                // What is under way ends by itself, unless it waits for this node.
                let waits = it.under_way && !it.adding.contains(&host);
                if waits && self.rules.hold(Rule::MovesUnderWayStay) {
                    continue;
                }
                let obstacle = match self.destination(partition, Some(slot)) {
                    _ if !it.led && self.rules.hold(Rule::LeaderlessPartitionsStay) => Obstacle::NoLeader,
                    None => Obstacle::NoNode,
                    Some(to) => {
                        self.shift(partition, slot, to, why);
                        continue;
                    }
                };
                stuck.push(Stuck { at: it.at, node: Some(self.hosts[host].candidate.id), why, obstacle });
            }
        }
    }

    /// Adds replicas where there are too few.
    pub(super) fn fill(&mut self, stuck: &mut Vec<Stuck>) {
        for partition in 0..self.partitions.len() {
            while self.is_free(partition) && self.partitions[partition].slots.len() < self.partitions[partition].wanted
            {
                let Some(to) = self.destination(partition, None) else {
                    let (at, why) = (self.partitions[partition].at, Why::Missing);
                    stuck.push(Stuck { at, node: None, why, obstacle: Obstacle::NoNode });
                    break;
                };
                self.push(partition, Slot { host: to, origin: None, why: Some(Why::Missing) });
            }
        }
    }

    /// Moves replicas off racks that a partition uses twice, as long as a rack is free. True if something moved.
    pub(super) fn spread_racks(&mut self) -> bool {
        let mut moved = false;
        for partition in 0..self.partitions.len() {
            while let Some((slot, to)) = self.rack_move(partition) {
                self.shift(partition, slot, to, Why::Rack);
                moved = true;
            }
        }
        moved
    }

    fn rack_move(&self, partition: usize) -> Option<(usize, usize)> {
        let used = self.racks(partition, None);
        let slots = &self.partitions[partition].slots;
        if !self.is_free(partition) || used.len() == slots.len() {
            return None;
        }
        let shares = |slot: &usize| self.racks(partition, Some(*slot)).contains(&self.hosts[slots[*slot].host].rack);
        let twice = (0..slots.len()).filter(|slot| shares(slot) && !self.leaves(slots[*slot].host));
        // The most loaded one goes, the preferred leader stays if it can.
        let slot = twice.max_by(|a, b| {
            let fuller = self.hosts[slots[*a].host].fuller(&self.hosts[slots[*b].host], 0, 0);
            (*a > 0).cmp(&(*b > 0)).then(fuller)
        })?;
        let to = self.destination(partition, Some(slot))?;
        (!used.contains(&self.hosts[to].rack)).then_some((slot, to))
    }

    /// Moves replicas until each node is within its bounds or nothing helps. True if something moved.
    pub(super) fn balance_replicas(&mut self) -> bool {
        let bounds = self.replica_bounds();
        let mut moved = false;
        while let Some((from, to, partitions)) = self.replica_moves(&bounds) {
            for partition in partitions {
                if let Some(slot) = self.slot_of(partition, from).filter(|_| self.should_trade(from, to, &bounds)) {
                    self.shift(partition, slot, to, Why::Replicas);
                    moved = true;
                }
            }
        }
        moved
    }

    /// Does a replica less here and one more there bring a node within its bounds, and none out of them?
    fn should_trade(&self, from: usize, to: usize, bounds: &BTreeMap<usize, Bounds>) -> bool {
        let (has, gets) = (self.hosts[from].replicas(), self.hosts[to].replicas());
        let (over, under) = (has > bounds[&from].max, gets < bounds[&to].min);
        (over || under && has > bounds[&from].min) && gets < bounds[&to].max
    }

    /// The next replicas to move, from the fullest node to the emptiest that can trade: an eighth of what is too much or
    /// too little at once, so that ten thousand partitions are not looked at for each single one.
    fn replica_moves(&self, bounds: &BTreeMap<usize, Bounds>) -> Option<(usize, usize, Vec<usize>)> {
        let mut order: Vec<usize> = bounds.keys().copied().collect();
        order.sort_by(|a, b| self.hosts[*b].fuller(&self.hosts[*a], 0, 0).then(a.cmp(b)));
        for from in order.iter().copied() {
            for to in order.iter().rev().copied().filter(|to| *to != from && self.should_trade(from, *to, bounds)) {
                let (giver, taker) = (&self.hosts[from], &self.hosts[to]);
                let movable = giver.holds.iter().copied().filter(|it| self.may_move(*it, from, to));
                let key = |it: &usize| {
                    let spread = self.of_topic(to, *it).cast_signed() - self.of_topic(from, *it).cast_signed();
                    (spread, self.partitions[*it].bytes, *it)
                };
                let mut movable: Vec<usize> = movable.collect();
                if movable.is_empty() {
                    continue;
                }
                let wrong = giver.replicas().saturating_sub(bounds[&from].max);
                let wrong = wrong.max(bounds[&to].min.saturating_sub(taker.replicas()));
                movable.sort_by_cached_key(key);
                movable.truncate((wrong / 8).max(1) as usize);
                return Some((from, to, movable));
            }
        }
        None
    }

    /// Moves replicas off nodes with too many bytes, as far as numbers stay within bounds. True if something moved.
    pub(super) fn balance_bytes(&mut self) -> bool {
        if !self.bytes_known {
            return false;
        }
        let bounds = self.replica_bounds();
        let hosts: Vec<usize> = bounds.keys().copied().collect();
        let shares = self.shares(&hosts, |host| self.hosts[host].bytes, u64::MAX);
        let max: BTreeMap<_, _> = hosts.iter().copied().zip(shares.iter().map(|share| (1.1 * share) as u64)).collect();
        let mut moved = false;
        while let Some((partition, slot, to)) = self.bytes_move(&bounds, &max) {
            self.shift(partition, slot, to, Why::Bytes);
            moved = true;
        }
        moved
    }

    fn bytes_move(
        &self,
        bounds: &BTreeMap<usize, Bounds>,
        max: &BTreeMap<usize, u64>,
    ) -> Option<(usize, usize, usize)> {
        let heavier = |a: &usize, b: &usize| {
            let scaled =
                |one: &usize, by: &usize| u128::from(self.hosts[*one].bytes) * u128::from(self.hosts[*by].weight());
            scaled(a, b).cmp(&scaled(b, a)).then(b.cmp(a))
        };
        let mut order: Vec<usize> = max.keys().copied().collect();
        order.sort_by(|a, b| heavier(b, a));
        for from in order.iter().filter(|from| self.hosts[**from].bytes > max[*from]) {
            let excess = self.hosts[*from].bytes - max[from];
            for to in order.iter().rev().filter(|to| *to != from) {
                let (giver, taker) = (&self.hosts[*from], &self.hosts[*to]);
                if giver.replicas() <= bounds[from].min || taker.replicas() >= bounds[to].max {
                    continue;
                }
                let room = max[to].saturating_sub(taker.bytes);
                let helps = |it: &usize| {
                    let size = self.partitions[*it].bytes;
                    let wide = |n: u64| u128::from(n);
                    let after = (2 * wide(taker.bytes) + wide(size)) * wide(giver.weight());
                    let before = (2 * wide(giver.bytes) - wide(size)) * wide(taker.weight());
                    size > 0 && size <= room && after < before
                };
                let movable = giver.holds.iter().copied();
                let movable = movable.filter(|it| helps(it) && self.may_move(*it, *from, *to));
                // The smallest one that is enough, or else the largest.
                let key = |it: &usize| match self.partitions[*it].bytes {
                    enough if enough >= excess => (0, enough, *it),
                    less => (1, u64::MAX - less, *it),
                };
                if let Some(partition) = movable.min_by_key(key) {
                    return Some((partition, self.slot_of(partition, *from)?, *to));
                }
            }
        }
        None
    }

    /// Changes who is preferred as leader until nobody is too often, or nothing helps.
    pub(super) fn balance_leaders(&mut self) {
        let hosts: Vec<usize> = (0..self.hosts.len()).filter(|host| self.serves(*host)).collect();
        let shares = self.shares(&hosts, |host| self.hosts[host].leaders, u64::MAX);
        let max: BTreeMap<_, _> =
            hosts.iter().copied().zip(shares.iter().map(|share| (1.1 * share).ceil() as u64)).collect();
        for from in hosts {
            while self.hosts[from].leaders > max[&from] {
                let Some(path) = self.leader_path(from, &max) else { break };
                // From the end: each takes over what the one before it gives.
                path.into_iter().rev().for_each(|(partition, slot)| self.prefer(partition, slot));
            }
        }
    }

    /// The shortest chain of partitions over which a leadership goes from a node to one that has room: who takes one may
    /// have to give another.
    fn leader_path(&self, from: usize, max: &BTreeMap<usize, u64>) -> Option<Vec<(usize, usize)>> {
        let mut came: BTreeMap<usize, (usize, (usize, usize))> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(host) = queue.pop_front() {
            let led =
                self.hosts[host].holds.iter().filter(|it| self.is_free(**it) && self.slot_of(**it, host) == Some(0));
            for partition in led {
                for (slot, other) in self.partitions[*partition].slots.iter().enumerate().skip(1) {
                    let other = other.host;
                    if other == from || came.contains_key(&other) || !max.contains_key(&other) {
                        continue;
                    }
                    came.insert(other, (host, (*partition, slot)));
                    if self.hosts[other].leaders < max[&other] {
                        return Some(path_to(other, from, &came));
                    }
                    queue.push_back(other);
                }
            }
        }
        None
    }

    /// May `partition` move between these nodes for balance?
    fn may_move(&self, partition: usize, from: usize, to: usize) -> bool {
        let uses = |host: usize| {
            let mut others = self.partitions[partition].slots.iter().filter(|slot| slot.host != from);
            others.any(|slot| self.hosts[slot.host].rack == self.hosts[host].rack)
        };
        let racks = || uses(from) || !uses(to);
        self.is_free(partition) && self.may_take(to, partition) && (!self.rules.hold(Rule::RacksAreKept) || racks())
    }

    fn replica_bounds(&self) -> BTreeMap<usize, Bounds> {
        let hosts: Vec<usize> = (0..self.hosts.len()).filter(|host| self.serves(*host)).collect();
        // Of one partition a node can have one replica.
        let shares = self.shares(&hosts, |host| self.hosts[host].replicas(), self.partitions.len() as u64);
        let slack = if self.rules.hold(Rule::BalancedNodesStay) { 0.1 } else { 0.0 };
        let bounds = |share: &f64| Bounds {
            min: ((1.0 - slack) * share).floor() as u64,
            max: ((1.0 + slack) * share).ceil() as u64,
        };
        hosts.iter().copied().zip(shares.iter().map(bounds)).collect()
    }

    /// What each of `hosts` should have of all that they have, by weight; no more than `most`, which others get then.
    fn shares(&self, hosts: &[usize], of: impl Fn(usize) -> u64, most: u64) -> Vec<f64> {
        let mut rest = hosts.iter().map(|host| of(*host)).sum::<u64>() as f64;
        let mut shares = vec![0.0; hosts.len()];
        let mut order: Vec<usize> = (0..hosts.len()).collect();
        order.sort_by_key(|i| (Reverse(self.hosts[hosts[*i]].weight()), *i));
        let mut weights = hosts.iter().map(|host| self.hosts[*host].weight()).sum::<u64>() as f64;
        for i in order {
            let weight = self.hosts[hosts[i]].weight() as f64;
            shares[i] = (rest * weight / weights.max(1.0)).min(most as f64);
            rest -= shares[i];
            weights -= weight;
        }
        shares
    }

    fn slot_of(&self, partition: usize, host: usize) -> Option<usize> {
        self.partitions[partition].slots.iter().position(|slot| slot.host == host)
    }

    fn serves(&self, host: usize) -> bool {
        self.hosts[host].standing == Standing::Serves
    }

    fn leaves(&self, host: usize) -> bool {
        matches!(self.hosts[host].standing, Standing::Leaves(_))
    }
}

fn path_to(mut host: usize, from: usize, came: &BTreeMap<usize, (usize, (usize, usize))>) -> Vec<(usize, usize)> {
    let mut path = Vec::new();
    while host != from {
        let (before, step) = came[&host];
        path.push(step);
        host = before;
    }
    path.reverse();
    path
}
