//! Where the replicas of new partitions go: weighted rendezvous hashing with bounded loads.
//!
//! Each node has a score for each partition, −w / ln(u) with u from the hash of topic, partition and node: the best
//! score wins, so a node that joins or leaves moves only what it wins or held, and weights hold in expectation. Bounds
//! on the load cut the tail of plain hashing. Decided once by the controller and recorded, never recomputed by others.

use std::collections::BTreeMap;
use std::ops::Range;

use rafka_model::{NodeId, TopicId};

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

fn score(topic: TopicId, partition: u32, node: &Candidate) -> f64 {
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

    #[test]
    fn loads_forget_what_is_taken_back() {
        let mut loads = Loads::default();
        loads.add(&[NodeId(1), NodeId(2)]);
        loads.remove(&[NodeId(1), NodeId(2)]);
        assert_eq!(loads, Loads::default());
    }
}
