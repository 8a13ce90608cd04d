use proptest::prelude::*;
use rafka_model::{PartitionId, TopicId};

use super::samples::*;
use super::*;

fn at(topic: u8, partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition: PartitionId(partition) }
}

fn racks(image: &Image, replicas: &[NodeId]) -> usize {
    let rack = |id: &NodeId| image.nodes[id].rack.clone().unwrap_or_else(|| id.to_string());
    replicas.iter().map(rack).collect::<BTreeSet<_>>().len()
}

#[derive(Default)]
struct Bench {
    image: Image,
    lost: BTreeSet<NodeId>,
    bytes: BTreeMap<TopicPartition, u64>,
}

impl Bench {
    fn plan(&self) -> Plan {
        plan(&Situation { image: &self.image, lost: &self.lost, bytes: &self.bytes })
    }

    /// Carries everything out, one move after the other.
    fn follow(&mut self, plan: &Plan) {
        for step in &plan.moves {
            let state = change(&mut self.image, step.at);
            let replicas = step.target(state).unwrap_or_else(|| panic!("{step:?} does not fit {state:?}"));
            let distinct: BTreeSet<_> = replicas.iter().collect();
            assert_eq!(distinct.len(), replicas.len(), "{step:?}");
            *state = super::samples::state(&replicas);
        }
    }

    fn settle(&mut self) -> Plan {
        let plan = self.plan();
        self.follow(&plan);
        assert_eq!(self.plan(), Plan { moves: vec![], stuck: plan.stuck.clone() }, "a second plan is empty");
        plan
    }

    fn assert_balanced(&self) {
        let loads = loads(&self.image);
        let mean = |of: fn(&(usize, usize)) -> usize| loads.values().map(of).sum::<usize>() as f64 / loads.len() as f64;
        let (replicas, leaders) = (mean(|load| load.0), mean(|load| load.1));
        for (id, load) in &loads {
            let replicas = (0.9 * replicas).floor() as usize..=(1.1 * replicas).ceil() as usize;
            assert!(replicas.contains(&load.0) && load.1 <= (1.1 * leaders).ceil() as usize, "{id}: {load:?}");
        }
    }
}

fn bench(nodes: u64, topics: &[(u32, u16)]) -> Bench {
    let mut image = cluster(&vec![(0, 1000); nodes as usize]);
    (1..).zip(topics).for_each(|(id, (partitions, factor))| create(&mut image, id, *partitions, *factor));
    Bench { image, ..Bench::default() }
}

#[test]
fn what_is_balanced_stays() {
    assert_eq!(bench(3, &[(12, 3), (7, 2)]).plan(), Plan::default());
    assert_eq!(Bench::default().plan(), Plan::default());
}

#[test]
fn two_more_nodes_take_their_share_and_no_more() {
    let mut bench = bench(3, &[(40, 3), (40, 3), (20, 3)]);
    add_node(&mut bench.image, 4, 0, 1000);
    add_node(&mut bench.image, 5, 0, 1000);
    let plan = bench.settle();
    bench.assert_balanced();
    let moved = plan.moves.iter().filter(|step| step.why == Why::Replicas).count();
    // 300 replicas: 100 on each of three nodes must become 66 at most, and those two at least 54.
    assert_eq!(moved, 108);
    let of_first = |id: u64| {
        states(&bench.image).filter(|(at, state)| at.topic.0 == [1; 16] && state.replicas.contains(&NodeId(id))).count()
    };
    assert!((15..=30).contains(&of_first(4)) && (15..=30).contains(&of_first(5)), "every topic gives its part");
}

#[test]
fn one_node_among_many_gets_something_although_nobody_has_too_much() {
    let mut bench = bench(30, &[(300, 3)]);
    bench.settle();
    add_node(&mut bench.image, 31, 0, 1000);
    let plan = bench.settle();
    bench.assert_balanced();
    let (newcomer, moved) = (loads(&bench.image)[&NodeId(31)].0, plan.moves.len());
    assert!(newcomer >= 26 && moved <= 2 * newcomer, "{newcomer} of {moved} moves");
}

#[test]
fn a_draining_node_is_emptied_and_nothing_else_moves() {
    let mut bench = bench(5, &[(40, 3)]);
    bench.settle();
    bench.image.nodes.get_mut(&NodeId(2)).expect("there").draining = true;
    let held = states(&bench.image).filter(|(_, state)| state.replicas.contains(&NodeId(2))).count();
    let plan = bench.settle();
    assert!(states(&bench.image).all(|(_, state)| !state.replicas.contains(&NodeId(2))));
    assert_eq!(plan.moves.iter().filter(|step| step.why != Why::Leaders).count(), held);
    assert!(plan.moves.iter().all(|step| step.from == Some(NodeId(2)) || step.why == Why::Leaders));
    bench.assert_balanced();
}

#[test]
fn a_lost_node_is_replaced_where_somebody_has_the_data() {
    let mut bench = bench(4, &[(20, 3), (4, 1)]);
    bench.image.nodes.get_mut(&NodeId(1)).expect("there").fenced = true;
    for at in states(&bench.image).map(|(at, _)| at).collect::<Vec<_>>() {
        let state = change(&mut bench.image, at);
        state.isr.retain(|id| *id != NodeId(1));
        state.leader = state.isr.first().copied();
    }
    assert_eq!(bench.plan().moves, [], "it may come back");
    bench.lost = BTreeSet::from([NodeId(1)]);
    let plan = bench.plan();
    assert!(plan.moves.iter().all(|step| matches!(step.why, Why::Lost | Why::Leaders)));
    assert!(
        !plan.stuck.is_empty() && plan.stuck.iter().all(|it| it.obstacle == Obstacle::NoLeader && it.why == Why::Lost)
    );
    let expected =
        states(&bench.image).filter(|(_, state)| state.replicas.contains(&NodeId(1)) && state.leader.is_some());
    assert_eq!(plan.moves.iter().filter(|step| step.why == Why::Lost).count(), expected.count());
}

#[test]
fn three_nodes_have_nowhere_to_move_to() {
    let mut bench = bench(3, &[(4, 3)]);
    bench.image.nodes.get_mut(&NodeId(3)).expect("there").draining = true;
    let plan = bench.plan();
    assert_eq!((plan.moves.len(), plan.stuck.len()), (0, 4));
    assert_eq!(plan.stuck[0].obstacle, Obstacle::NoNode);
}

#[test]
fn a_rack_used_twice_is_given_up_for_a_free_one() {
    let mut image = cluster(&[(1, 1000), (1, 1000), (2, 1000), (2, 1000), (3, 1000), (3, 1000)]);
    add_topic(&mut image, 1, &vec![[1, 2, 3].map(NodeId).to_vec(); 6], 3);
    let mut bench = Bench { image, ..Bench::default() };
    let plan = bench.settle();
    assert_eq!(plan.moves.iter().filter(|step| step.why == Why::Rack).count(), 6);
    assert!(states(&bench.image).all(|(_, state)| racks(&bench.image, &state.replicas) == 3));
    bench.assert_balanced();
}

#[test]
fn missing_replicas_are_added() {
    let mut bench = bench(3, &[]);
    add_topic(&mut bench.image, 1, &vec![vec![NodeId(1)]; 5], 3);
    let plan = bench.settle();
    assert_eq!(plan.moves.iter().filter(|step| step.why == Why::Missing && step.from.is_none()).count(), 10);
    bench.assert_balanced();
}

#[test]
fn leaderships_go_round_without_data() {
    let mut bench = bench(3, &[]);
    add_topic(&mut bench.image, 1, &vec![[1, 2, 3].map(NodeId).to_vec(); 30], 3);
    let plan = bench.settle();
    assert!(plan.moves.iter().all(|step| step.why == Why::Leaders && step.bytes == 0));
    assert_eq!(plan.moves.len(), 30 - 11, "just enough");
    bench.assert_balanced();
    // Over a chain: 1 can give to 2 only, which has to give to 3.
    let mut image = cluster(&[(0, 1000); 3]);
    let chain: Vec<_> = [[1, 2]; 4].into_iter().chain([[2, 3]; 2]).chain([[3, 2]; 0]).collect();
    let chain: Vec<_> = chain.into_iter().map(|pair| pair.map(NodeId).to_vec()).collect();
    add_topic(&mut image, 1, &chain, 2);
    let mut bench = Bench { image, ..Bench::default() };
    let situation = Situation { image: &bench.image, lost: &bench.lost, bytes: &bench.bytes };
    let mut cluster = Cluster::new(&situation, Rules::default());
    cluster.balance_leaders();
    let moves = cluster.moves();
    bench.follow(&Plan { moves, stuck: vec![] });
    assert!(loads(&bench.image).values().all(|(_, leaders)| *leaders <= 3), "{:?}", loads(&bench.image));
}

#[test]
fn bytes_are_balanced_where_they_are_known() {
    let mut bench = bench(4, &[(80, 1)]);
    let heavy = |state: &PartitionState| state.replicas[0] == NodeId(1);
    let bytes = |(at, state): (TopicPartition, &PartitionState)| (at, if heavy(state) { 300 } else { 100 });
    bench.bytes = states(&bench.image).map(bytes).collect();
    let plan = bench.settle();
    assert!(plan.moves.iter().any(|step| step.why == Why::Bytes && step.from == Some(NodeId(1)) && step.bytes == 300));
    let mut held = BTreeMap::<NodeId, u64>::new();
    states(&bench.image).for_each(|(at, state)| *held.entry(state.replicas[0]).or_default() += bench.bytes[&at]);
    let worst_before = 20 * 300;
    assert!(held.values().all(|held| *held < worst_before), "{held:?}");
    bench.assert_balanced();
}

#[test]
fn a_plan_is_followed_a_few_moves_at_a_time() {
    let mut bench = bench(3, &[(60, 3)]);
    add_node(&mut bench.image, 4, 0, 1000);
    let mut plan = bench.plan();
    plan.moves.retain(|step| step.why == Why::Replicas);
    let first = start(&plan.moves, &bench.image);
    assert_eq!(first.len(), 5, "the newcomer takes part in five");
    for Start { at, replicas, steps } in &first {
        let state = change(&mut bench.image, *at);
        let from = plan.moves[steps[0]].from.expect("a replica moves");
        let mut all = replicas.clone();
        all.push(from);
        (state.adding, state.removing, state.replicas) = (vec![NodeId(4)], vec![from], all);
    }
    assert_eq!(start(&plan.moves, &bench.image), []);
    let running = Progress { waiting: plan.moves.len() - 5, running: 5, ..Progress::default() };
    assert_eq!(progress(&plan.moves, &bench.image), running);
    assert_eq!(
        cancel(&plan.moves, &bench.image),
        first.iter().map(|start| start.at).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    assert!(bench.plan().moves.iter().all(|step| !first.iter().any(|start| start.at == step.at)), "they are under way");
    let at = first[0].at;
    *change(&mut bench.image, at) = state(&first[0].replicas);
    assert_eq!(progress(&plan.moves, &bench.image).done, 1);
    assert_eq!(start(&plan.moves, &bench.image).len(), 1);
}

#[test]
fn a_move_to_a_node_that_is_given_up_is_redirected() {
    let mut bench = bench(4, &[]);
    add_topic(&mut bench.image, 1, &[[1, 2].map(NodeId).to_vec()], 2);
    let it = change(&mut bench.image, at(1, 0));
    (it.replicas, it.adding, it.removing) = ([3, 2, 1].map(NodeId).to_vec(), vec![NodeId(3)], vec![NodeId(1)]);
    assert_eq!(bench.plan().moves, []);
    bench.image.nodes.get_mut(&NodeId(3)).expect("there").fenced = true;
    bench.lost = BTreeSet::from([NodeId(3)]);
    let plan = bench.plan();
    assert_eq!((plan.moves[0].from, plan.moves[0].why), (Some(NodeId(3)), Why::Lost));
    let started = start(&plan.moves, &bench.image);
    assert_eq!((started.len(), started[0].replicas.len()), (1, 2));
    assert!(!started[0].replicas.contains(&NodeId(3)));
}

#[test]
fn a_node_is_lost_after_a_while_and_not_when_it_was_back() {
    let mut image = cluster(&[(0, 1000); 2]);
    let seconds = |s: u64| rafka_model::Monotonic::default().plus(std::time::Duration::from_secs(s));
    let mut absences = Absences::default();
    image.nodes.get_mut(&NodeId(2)).expect("there").fenced = true;
    absences.observe(&image, seconds(0));
    assert_eq!((absences.lost(seconds(899)).len(), absences.lost(seconds(900)).len()), (0, 1));
    assert_eq!(absences.next_deadline(seconds(1)), Some(seconds(900)));
    image.nodes.get_mut(&NodeId(2)).expect("there").fenced = false;
    absences.observe(&image, seconds(890));
    image.nodes.get_mut(&NodeId(2)).expect("there").fenced = true;
    absences.observe(&image, seconds(895));
    assert!(absences.lost(seconds(1_700)).is_empty());
}

#[test]
fn ten_thousand_partitions_are_planned_within_seconds() {
    let mut bench = bench(3, &[(5_000, 3), (4_000, 3), (1_000, 3)]);
    add_node(&mut bench.image, 4, 0, 1000);
    add_node(&mut bench.image, 5, 0, 1000);
    let plan = bench.plan();
    bench.follow(&plan);
    bench.assert_balanced();
    assert_eq!(plan.moves.iter().filter(|step| step.why == Why::Replicas).count(), 10_800, "as few as can be");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Claim: from any placement, a plan fits, ends where another one is empty, moves each replica once, uses no fewer
    /// racks, and leaves nothing where it must not be.
    #[test]
    fn a_plan_leads_to_a_cluster_that_needs_none(
        kinds in proptest::collection::vec((0u64..4, 1u32..4, 0u8..8), 1..10),
        topics in proptest::collection::vec((1u16..4, proptest::collection::vec((any::<u64>(), 0u64..1000), 1..20)), 0..4),
        bytes_known in any::<bool>(),
    ) {
        let nodes: Vec<_> = kinds.iter().map(|(rack, weight, _)| (*rack, weight * 1000)).collect();
        let mut bench = Bench { image: cluster(&nodes), ..Bench::default() };
        for (node, (_, _, kind)) in bench.image.nodes.values_mut().zip(&kinds) {
            (node.fenced, node.draining) = (*kind <= 1, *kind == 2);
            if *kind == 0 {
                bench.lost.insert(node.id);
            }
        }
        for (id, (factor, partitions)) in (1..).zip(&topics) {
            let choose = |(seed, _): &(u64, u64)| {
                let mut random = crate::testing::Random(*seed);
                let mut all: Vec<_> = bench.image.nodes.keys().copied().collect();
                let count = (1 + random.below(3) as usize).min(all.len());
                (0..count).map(|_| all.swap_remove(random.below(all.len() as u64) as usize)).collect()
            };
            let replicas: Vec<Vec<NodeId>> = partitions.iter().map(choose).collect();
            add_topic(&mut bench.image, id, &replicas, *factor);
            for (i, (_, size)) in (0..).zip(partitions).filter(|_| bytes_known) {
                bench.bytes.insert(at(id, i), *size);
            }
        }
        let before: BTreeMap<_, _> = states(&bench.image).map(|(at, state)| (at, state.replicas.clone())).collect();
        let plan = bench.settle();
        let mut once = BTreeSet::new();
        for step in plan.moves.iter().filter(|step| step.why != Why::Leaders) {
            prop_assert!(once.insert((step.at, step.to)), "{step:?} twice");
            prop_assert!(step.from.is_none_or(|from| once.insert((step.at, from))), "{step:?} twice");
            let taker = &bench.image.nodes[&step.to];
            prop_assert!(!taker.fenced && !taker.draining);
        }
        for (at, state) in states(&bench.image) {
            let leaves = |id: &NodeId| bench.lost.contains(id) || bench.image.nodes[id].draining;
            let staying = before[&at].iter().copied().filter(|id| !leaves(id)).collect::<Vec<_>>();
            prop_assert!(racks(&bench.image, &state.replicas) >= racks(&bench.image, &staying));
            let excused = plan.stuck.iter().any(|stuck| stuck.at == at);
            prop_assert!(excused || !state.replicas.iter().any(leaves));
        }
    }
}
