//! Where the replicas of new partitions go: weighted rendezvous hashing with bounded loads.
//!
//! Each node has a score for each partition, −w / ln(u) with u from the hash of topic, partition and node: the best
//! score wins, so a node that joins or leaves moves only what it wins or held, and weights hold in expectation. Bounds
//! on the load cut the tail of plain hashing. Decided once by the controller and recorded, never recomputed by others.

use std::collections::BTreeMap;
use std::ops::Range;

use rafka_model::{NodeId, TopicId, TopicPartition};

/// A node that may take replicas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Which node.
    pub id: NodeId,
    /// Failure domain; nodes without one share none.
    pub rack: Option<String>,
    /// Share of the load, 1000 is normal; 0 takes nothing.
    pub weight_milli: u32,
}

/// Replicas and preferred leaders that each node has already.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loads(BTreeMap<NodeId, Load>);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Load {
    replicas: u32,
    leaders: u32,
}

impl Loads {
    /// Counts one more partition with these replicas, the first of which is the preferred leader.
    pub fn add(&mut self, replicas: &[NodeId]) {
        for (i, id) in replicas.iter().enumerate() {
            let load = self.0.entry(*id).or_default();
            load.replicas += 1;
            load.leaders += u32::from(i == 0);
        }
    }

    /// Takes back one [`Self::add`].
    pub fn remove(&mut self, replicas: &[NodeId]) {
        for (i, id) in replicas.iter().enumerate() {
            let load = self.0.entry(*id).or_default();
            load.replicas = load.replicas.saturating_sub(1);
            load.leaders = load.leaders.saturating_sub(u32::from(i == 0));
            if *load == Load::default() {
                self.0.remove(id);
            }
        }
    }

    /// Replicas on a node.
    #[must_use]
    pub fn replicas(&self, id: NodeId) -> u32 {
        self.get(id).replicas
    }

    fn get(&self, id: NodeId) -> Load {
        self.0.get(&id).copied().unwrap_or_default()
    }
}

/// Chooses `factor` nodes for each of `partitions`, the preferred leader first; fewer where there are fewer nodes.
///
/// A used rack is skipped while others remain. Among the rest the best score wins that stays below 1.1 times the mean
/// (by weight; of replicas, and of leaders for the preferred one) in this topic and in the whole cluster; where no node
/// stays below both, the topic's bound alone decides (so a newcomer does not take a whole topic), then the least load
/// for its weight.
#[must_use]
pub fn place(
    topic: TopicId,
    partitions: Range<u32>,
    factor: usize,
    nodes: &[Candidate],
    loads: &Loads,
) -> Vec<Vec<NodeId>> {
    let nodes: Vec<_> = nodes.iter().filter(|node| node.weight_milli > 0).collect();
    let mut plan = Plan::new(&nodes, factor, partitions.len(), loads);
    partitions.map(|partition| plan.place(topic, partition)).collect()
}

/// The `factor` replicas that a partition shall have, of which as few as possible are new: those of `current` that are
/// among `nodes` stay, in their order. The caller leaves out of `nodes` whoever may not hold replicas any more, and has
/// `current` counted in `loads`.
///
/// What is missing goes to unused racks first, there to the best score below 1.1 times the mean, or else to the least
/// load. What is too much leaves a rack that is used twice first, then the most loaded node, the preferred leader last.
/// Where the preferred leader goes, the one that leads least among those that stay takes its place.
#[must_use]
pub fn replace(
    at: TopicPartition,
    current: &[NodeId],
    factor: usize,
    nodes: &[Candidate],
    loads: &Loads,
) -> Vec<NodeId> {
    let find = |id: &NodeId| nodes.iter().find(|node| node.id == *id);
    let relative = |node: &Candidate, load: u32| f64::from(load) / f64::from(node.weight_milli.max(1));
    let mut chosen: Vec<&Candidate> = Vec::with_capacity(factor);
    for node in current.iter().filter_map(find) {
        if !chosen.iter().any(|other| other.id == node.id) {
            chosen.push(node);
        }
    }
    let shares = |node: &Candidate, with: &[&Candidate]| {
        with.iter().any(|other| other.id != node.id && other.rack.is_some() && other.rack == node.rack)
    };
    while chosen.len() > factor {
        let rank =
            |i: &usize| (shares(chosen[*i], &chosen), *i > 0, relative(chosen[*i], loads.replicas(chosen[*i].id)));
        let worst = (0..chosen.len()).max_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
        });
        chosen.remove(worst.unwrap_or_default());
    }
    let stay = chosen.len();
    let weights: f64 = nodes.iter().map(|node| f64::from(node.weight_milli)).sum();
    let missing = factor.saturating_sub(stay);
    let total = nodes.iter().map(|node| f64::from(loads.replicas(node.id))).sum::<f64>() + missing as f64;
    let fits = |node: &&Candidate| {
        f64::from(loads.replicas(node.id)) < (1.1 * total * f64::from(node.weight_milli) / weights).ceil()
    };
    while chosen.len() < factor {
        let free = nodes.iter().filter(|node| node.weight_milli > 0 && !chosen.iter().any(|other| other.id == node.id));
        let mut order: Vec<_> = free.collect();
        if order.iter().any(|node| !shares(node, &chosen)) {
            order.retain(|node| !shares(node, &chosen));
        }
        order.sort_by(|a, b| score(at.topic, at.partition.0, b).total_cmp(&score(at.topic, at.partition.0, a)));
        let least = |a: &&&Candidate, b: &&&Candidate| {
            relative(a, loads.replicas(a.id)).total_cmp(&relative(b, loads.replicas(b.id)))
        };
        let Some(next) = order.iter().find(|node| fits(node)).or_else(|| order.iter().min_by(least)) else { break };
        chosen.push(next);
    }
    let mut replicas: Vec<_> = chosen.iter().map(|node| node.id).collect();
    if current.first() != replicas.first() {
        let of = if stay > 0 { stay } else { replicas.len() };
        let leads = |i: &usize| relative(chosen[*i], loads.get(chosen[*i].id).leaders);
        if let Some(first) = (0..of).min_by(|a, b| leads(a).total_cmp(&leads(b))) {
            let first = replicas.remove(first);
            replicas.insert(0, first);
        }
    }
    replicas
}

/// A placement in progress.
struct Plan<'a> {
    nodes: &'a [&'a Candidate],
    factor: usize,
    /// By position in `nodes`.
    state: Vec<Bounded>,
}

struct Bounded {
    /// In this topic, as far as placed now.
    topic: Load,
    topic_max: Load,
    /// In the whole cluster.
    cluster: Load,
    cluster_max: Load,
}

impl<'a> Plan<'a> {
    fn new(nodes: &'a [&'a Candidate], factor: usize, partitions: usize, loads: &Loads) -> Self {
        let factor = factor.min(nodes.len());
        let weights: f64 = nodes.iter().map(|node| f64::from(node.weight_milli)).sum();
        let before = |of: fn(Load) -> u32| nodes.iter().map(|node| f64::from(of(loads.get(node.id)))).sum::<f64>();
        let (leaders, replicas) = (partitions as f64, (partitions * factor) as f64);
        let (leaders_then, replicas_then) = (before(|l| l.leaders) + leaders, before(|l| l.replicas) + replicas);
        let state = nodes
            .iter()
            .map(|node| {
                let share = f64::from(node.weight_milli) / weights;
                let loose = |total: f64| (1.1 * total * share).ceil() as u32;
                // A small topic spreads evenly: a tenth above a mean of 4 is 4, not 5.
                let tight = |total: f64| (total * share).ceil().max((1.1 * total * share).floor()) as u32;
                Bounded {
                    topic: Load::default(),
                    topic_max: Load { replicas: tight(replicas), leaders: tight(leaders) },
                    cluster: loads.get(node.id),
                    cluster_max: Load { replicas: loose(replicas_then), leaders: loose(leaders_then) },
                }
            })
            .collect();
        Self { nodes, factor, state }
    }

    fn place(&mut self, topic: TopicId, partition: u32) -> Vec<NodeId> {
        let scored = |node: &&Candidate| score(topic, partition, node);
        let mut order: Vec<_> = self.nodes.iter().map(scored).zip(0..self.nodes.len()).collect();
        order.sort_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
        let mut left: Vec<usize> = order.into_iter().map(|(_, i)| i).collect();
        let mut chosen: Vec<usize> = Vec::with_capacity(self.factor);
        while chosen.len() < self.factor && !left.is_empty() {
            let racks: Vec<_> = chosen.iter().filter_map(|i| self.nodes[*i].rack.as_deref()).collect();
            let fresh = |i: &usize| !self.nodes[*i].rack.as_deref().is_some_and(|rack| racks.contains(&rack));
            let allowed: Vec<usize> = match left.iter().copied().filter(fresh).collect::<Vec<_>>() {
                none if none.is_empty() => left.clone(),
                some => some,
            };
            let leads = chosen.is_empty();
            let next = self.pick(&allowed, leads);
            left.retain(|i| *i != next);
            let state = &mut self.state[next];
            for load in [&mut state.topic, &mut state.cluster] {
                load.replicas += 1;
                load.leaders += u32::from(leads);
            }
            chosen.push(next);
        }
        chosen.into_iter().map(|i| self.nodes[i].id).collect()
    }

    /// The first of `order` (not empty) within its bounds, or else the one of the least load for its weight.
    fn pick(&self, order: &[usize], leads: bool) -> usize {
        let within = |load: Load, max: Load| load.replicas < max.replicas && (!leads || load.leaders < max.leaders);
        let in_topic = |i: &&usize| within(self.state[**i].topic, self.state[**i].topic_max);
        let in_cluster = |i: &&usize| within(self.state[**i].cluster, self.state[**i].cluster_max);
        let relative = |i: &usize| {
            let Load { replicas, leaders } = self.state[*i].cluster;
            f64::from(if leads { leaders } else { replicas }) / f64::from(self.nodes[*i].weight_milli)
        };
        let found = order.iter().find(|i| in_topic(i) && in_cluster(i)).or_else(|| order.iter().find(in_topic));
        // `min_by` keeps the first of equals: the better score.
        *found.or_else(|| order.iter().min_by(|a, b| relative(a).total_cmp(&relative(b)))).unwrap_or(&order[0])
    }
}

/// How much a node is wanted for a partition; the best score wins.
pub(crate) fn score(topic: TopicId, partition: u32, node: &Candidate) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&topic.0).update(&partition.to_be_bytes()).update(&node.id.0.to_be_bytes());
    let mut word = [0; 8];
    word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // 53 bits and a half: strictly between 0 and 1.
    let u = ((u64::from_be_bytes(word) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(node.weight_milli) / u.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u64) -> Vec<Candidate> {
        (1..=count).map(|id| Candidate { id: NodeId(id), rack: None, weight_milli: 1000 }).collect()
    }

    fn topic(i: u32) -> TopicId {
        TopicId(*blake3::hash(&i.to_be_bytes()).as_bytes().first_chunk().expect("32 bytes"))
    }

    /// Busiest node over the mean, of replicas and of leaders.
    fn imbalance(placed: &[Vec<NodeId>], nodes: usize) -> (f64, f64) {
        let mut loads = Loads::default();
        placed.iter().for_each(|replicas| loads.add(replicas));
        let busiest = |of: fn(&Load) -> u32| f64::from(loads.0.values().map(of).max().unwrap_or(0));
        let replicas: usize = placed.iter().map(Vec::len).sum();
        let mean = |total: usize| total as f64 / nodes as f64;
        (busiest(|l| l.replicas) / mean(replicas), busiest(|l| l.leaders) / mean(placed.len()))
    }

    #[test]
    fn the_busiest_node_stays_near_the_mean() {
        for (count, partitions, factor) in [(30, 1000, 1), (30, 1000, 3), (100, 10_000, 1), (100, 3000, 3)] {
            let placed = place(topic(0), 0..partitions, factor, &nodes(count), &Loads::default());
            let (replicas, leaders) = imbalance(&placed, count as usize);
            assert!(replicas <= 1.12 && leaders <= 1.12, "{count} nodes: {replicas:.3}, {leaders:.3}");
            let distinct = |of: &Vec<NodeId>| of.iter().collect::<std::collections::BTreeSet<_>>().len() == factor;
            assert!(placed.iter().all(distinct));
        }
    }

    #[test]
    fn many_small_topics_balance_as_one_large_topic_does() {
        for count in [30, 100] {
            let (mut loads, mut all) = (Loads::default(), Vec::new());
            for i in 0..count as u32 * 20 {
                for replicas in place(topic(i), 0..3, 1, &nodes(count), &loads) {
                    loads.add(&replicas);
                    all.push(replicas);
                }
            }
            let (replicas, leaders) = imbalance(&all, count as usize);
            assert!(replicas <= 1.12 && leaders <= 1.12, "{count} nodes: {replicas:.3}, {leaders:.3}");
        }
    }

    #[test]
    fn a_small_topic_spreads_evenly() {
        for i in 0..50 {
            let placed = place(topic(i), 0..12, 1, &nodes(3), &Loads::default());
            assert_eq!(imbalance(&placed, 3), (1.0, 1.0));
        }
    }

    #[test]
    fn a_node_that_joins_takes_its_share_and_little_else_moves() {
        let place = |count| place(topic(1), 0..6000, 1, &nodes(count), &Loads::default());
        for count in [30, 100] {
            let (before, after) = (place(count), place(count + 1));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let fair = 6000 / (count as usize + 1);
            assert!(moved <= 3 * fair, "{count} nodes: {moved} moved, a fair share is {fair}");
        }
    }

    #[test]
    fn an_empty_newcomer_does_not_take_a_whole_topic() {
        let mut loads = Loads::default();
        (0..300).for_each(|i| loads.add(&[NodeId(1 + i % 3)]));
        let placed = place(topic(2), 0..12, 1, &nodes(4), &loads);
        let newcomer = placed.iter().filter(|replicas| replicas[0] == NodeId(4)).count();
        assert_eq!(newcomer, 3, "as many as its share of the topic");
    }

    #[test]
    fn racks_are_used_once_each_while_others_remain() {
        let racked = |id| Candidate { rack: Some(format!("r{}", id % 3)), ..nodes(id)[id as usize - 1].clone() };
        let nodes: Vec<_> = (1..=9).map(racked).collect();
        for replicas in place(topic(3), 0..200, 3, &nodes, &Loads::default()) {
            let racks: std::collections::BTreeSet<_> = replicas.iter().map(|id| id.0 % 3).collect();
            assert_eq!(racks.len(), 3);
        }
        let four = place(topic(3), 0..20, 4, &nodes, &Loads::default());
        assert!(four.iter().all(|replicas| replicas.len() == 4), "racks repeat rather than replicas be missing");
    }

    #[test]
    fn weights_share_the_load_and_zero_takes_nothing() {
        let mut nodes = nodes(4);
        (nodes[0].weight_milli, nodes[1].weight_milli) = (3000, 0);
        let mut loads = Loads::default();
        place(topic(4), 0..1000, 1, &nodes, &Loads::default()).iter().for_each(|replicas| loads.add(replicas));
        assert_eq!(loads.replicas(NodeId(2)), 0);
        assert!((540..=660).contains(&loads.replicas(NodeId(1))), "{loads:?}");
        assert!((180..=220).contains(&loads.replicas(NodeId(3))), "{loads:?}");
    }

    #[test]
    fn too_few_nodes_give_fewer_replicas() {
        assert_eq!(place(topic(5), 0..1, 3, &nodes(2), &Loads::default())[0].len(), 2);
        assert_eq!(place(topic(5), 0..2, 1, &[], &Loads::default()), [vec![], vec![]]);
    }

    fn partition(i: u32) -> TopicPartition {
        TopicPartition { topic: topic(7), partition: rafka_model::PartitionId(i) }
    }

    fn racked(id: u64, rack: u64, weight_milli: u32) -> Candidate {
        Candidate { id: NodeId(id), rack: (rack > 0).then(|| format!("r{rack}")), weight_milli }
    }

    #[test]
    fn who_stays_stays_and_the_missing_go_to_unused_racks() {
        let all: Vec<_> = (1..=6).map(|id| racked(id, 1 + id % 3, 1000)).collect();
        for i in 0..100 {
            let old = place(topic(7), i..i + 1, 3, &all, &Loads::default()).remove(0);
            assert_eq!(replace(partition(i), &old, 3, &all, &Loads::default()), old, "nothing to do, nothing moves");
            let left: Vec<_> = all.iter().filter(|node| node.id != old[0]).cloned().collect();
            let new = replace(partition(i), &old, 3, &left, &Loads::default());
            assert!(new.contains(&old[1]) && new.contains(&old[2]) && !new.contains(&old[0]));
            assert_ne!(new.iter().position(|id| !old.contains(id)), Some(0), "a newcomer does not lead");
            assert_eq!(new.iter().map(|id| id.0 % 3).collect::<std::collections::BTreeSet<_>>().len(), 3);
        }
    }

    #[test]
    fn what_is_too_much_leaves_the_rack_that_is_used_twice() {
        let all = [racked(1, 1, 1000), racked(2, 2, 1000), racked(3, 2, 1000), racked(4, 3, 1000)];
        let old = [1, 2, 3, 4].map(NodeId);
        let mut loads = Loads::default();
        loads.add(&old);
        loads.add(&[NodeId(3)]);
        assert_eq!(replace(partition(0), &old, 3, &all, &loads), [1, 2, 4].map(NodeId));
        assert_eq!(replace(partition(0), &[], 3, &all[..2], &loads).len(), 2, "no more than there are");
        assert_eq!(replace(partition(0), &old, 3, &[], &loads), []);
    }

    #[test]
    fn a_lost_node_is_replaced_evenly() {
        let nodes = nodes(10);
        let (mut loads, left) = (Loads::default(), &nodes[1..]);
        let mut placed = place(topic(7), 0..300, 3, &nodes, &loads);
        placed.iter().for_each(|replicas| loads.add(replicas));
        for (i, replicas) in (0..).zip(&mut placed) {
            let new = replace(partition(i), replicas, 3, left, &loads);
            loads.remove(replicas);
            loads.add(&new);
            *replicas = new;
        }
        let (replicas, leaders) = imbalance(&placed, 9);
        assert!(replicas <= 1.12 && leaders <= 1.25, "{replicas:.3}, {leaders:.3}");
    }

    proptest::proptest! {
        #[test]
        fn a_replacement_is_distinct_complete_and_minimal(
            kinds in proptest::collection::vec((0u64..4, 0u32..3), 1..9),
            current in proptest::collection::vec(1u64..12, 0..5),
            factor in 1usize..5,
        ) {
            let nodes: Vec<_> = (1..).zip(&kinds).map(|(id, (rack, weight))| racked(id, *rack, weight * 1000)).collect();
            let current: Vec<_> = current.into_iter().map(NodeId).collect();
            let new = replace(partition(1), &current, factor, &nodes, &Loads::default());
            let distinct: std::collections::BTreeSet<_> = new.iter().collect();
            assert_eq!(distinct.len(), new.len());
            let known = |id: &NodeId| nodes.iter().any(|node| node.id == *id);
            assert!(new.iter().all(known));
            let stay: std::collections::BTreeSet<_> = current.iter().filter(|id| known(id)).collect();
            let stayed = new.iter().filter(|id| stay.contains(id)).count();
            assert_eq!(stayed, stay.len().min(factor), "as many stay as can");
            let takers = nodes.iter().filter(|node| node.weight_milli > 0 && !stay.contains(&node.id)).count();
            assert_eq!(new.len(), factor.min(stay.len() + takers));
        }
    }

    #[test]
    fn loads_forget_what_is_taken_back() {
        let mut loads = Loads::default();
        loads.add(&[NodeId(1), NodeId(2)]);
        loads.remove(&[NodeId(1), NodeId(2)]);
        assert_eq!(loads, Loads::default());
    }
}
