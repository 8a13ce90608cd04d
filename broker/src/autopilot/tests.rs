use super::*;
use crate::testing::node;

struct Bench {
    image: Image,
    pilot: Autopilot,
    voters: BTreeMap<NodeId, u64>,
    learners: BTreeMap<NodeId, u64>,
    changing: bool,
    settled: bool,
    seconds: u64,
}

fn bench(nodes: u64, voters: &[u64]) -> Bench {
    let mut image = Image::default();
    for id in 1..=nodes {
        image.nodes.insert(NodeId(id), Node { fenced: false, ..node(id) });
    }
    let voters = voters.iter().map(|id| (NodeId(*id), 1_000)).collect::<BTreeMap<_, _>>();
    let settled = voters.len() >= 3;
    let (pilot, learners) = Default::default();
    let mut bench = Bench { image, pilot, voters, learners, changing: false, settled, seconds: 0 };
    bench.decide().ok();
    bench
}

impl Bench {
    fn decide(&mut self) -> Result<Step, Idle> {
        let now = Monotonic::default().plus(Duration::from_secs(self.seconds));
        self.pilot.observe(&self.image, now);
        let Self { voters, learners, changing, settled, .. } = self;
        let (changing, settled) = (*changing, *settled);
        let quorum = Quorum { leader: NodeId(1), voters, learners, last: 1_000, changing, settled };
        self.pilot.decide(&self.image, &quorum, now)
    }

    fn learns(&mut self, id: u64, matched: u64) {
        self.learners.insert(NodeId(id), matched);
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.image.nodes.get_mut(&NodeId(id)).expect("there")
    }
}

fn voters(ids: &[u64]) -> Result<Step, Idle> {
    Ok(Step::ChangeVoters(ids.iter().copied().map(NodeId).collect()))
}

#[test]
fn one_voter_is_enough_for_two_nodes() {
    assert_eq!(bench(1, &[1]).decide(), Err(Idle::Whole));
    assert_eq!(bench(2, &[1]).decide(), Err(Idle::Whole));
}

#[test]
fn three_nodes_get_three_voters_in_one_change_as_soon_as_they_can() {
    let mut bench = bench(3, &[1]);
    assert_eq!(bench.decide(), Ok(Step::AddLearner(NodeId(2))));
    bench.learns(2, 1_000);
    assert_eq!(bench.decide(), Ok(Step::AddLearner(NodeId(3))));
    bench.learns(3, 900);
    assert_eq!(bench.decide(), Err(Idle::Waiting), "one more voter would be worse than none");
    bench.learns(3, 950);
    bench.changing = true;
    assert_eq!(bench.decide(), Err(Idle::Changing));
    bench.changing = false;
    assert_eq!(bench.decide(), voters(&[1, 2, 3]));
}

#[test]
fn seven_nodes_get_five_voters_once_the_new_ones_have_proven_themselves() {
    let mut bench = bench(7, &[1, 2, 3]);
    bench.learns(4, 1_000);
    bench.learns(5, 1_000);
    bench.seconds = 29;
    assert_eq!(bench.decide(), Err(Idle::Waiting));
    bench.seconds = 30;
    assert_eq!(bench.decide(), voters(&[1, 2, 3, 4, 5]));
}

#[test]
fn a_lost_voter_is_replaced_once_there_is_somebody_else() {
    let mut bench = bench(4, &[1, 2, 3]);
    bench.node(3).fenced = true;
    assert_eq!(bench.decide(), Err(Idle::Whole), "it may come back");
    bench.seconds = 300;
    assert_eq!(bench.decide(), Ok(Step::AddLearner(NodeId(4))));
    bench.learns(4, 10);
    assert_eq!(bench.decide(), Err(Idle::Waiting));
    bench.learns(4, 1_000);
    assert_eq!(bench.decide(), voters(&[1, 2, 4]));
    bench.node(4).fenced = true;
    assert_eq!(bench.decide(), Err(Idle::TooFewNodes));
}

#[test]
fn without_a_replacement_or_a_majority_nothing_happens() {
    let mut bench = bench(3, &[1, 2, 3]);
    bench.node(3).fenced = true;
    bench.decide().ok();
    bench.seconds = 1_000;
    assert_eq!(bench.decide(), Err(Idle::TooFewNodes));
    bench.node(2).fenced = true;
    assert_eq!(bench.decide(), Err(Idle::NoMajority));
}

#[test]
fn a_draining_voter_hands_its_vote_over() {
    let mut bench = bench(4, &[1, 2, 3]);
    bench.seconds = 100;
    bench.node(2).draining = true;
    assert_eq!(bench.decide(), Ok(Step::AddLearner(NodeId(4))));
    bench.learns(4, 1_000);
    assert_eq!(bench.decide(), voters(&[1, 3, 4]));
    bench.node(4).draining = true;
    assert_eq!(bench.decide(), voters(&[1]), "two nodes that stay need one voter");
}

#[test]
fn a_healthy_set_is_not_made_smaller() {
    let mut bench = bench(6, &[1, 2, 3, 4, 5]);
    assert_eq!(bench.decide(), Err(Idle::Whole));
    bench.node(5).fenced = true;
    bench.decide().ok();
    bench.seconds = 300;
    assert_eq!(bench.decide(), voters(&[1, 2, 3]), "three of three survive as much as four of five");
}

#[test]
fn a_new_rack_votes_first() {
    let mut bench = bench(5, &[1]);
    for (id, rack) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")] {
        bench.node(id).rack = Some(rack.to_owned());
    }
    assert_eq!(bench.decide(), Ok(Step::AddLearner(NodeId(4))));
    bench.learns(4, 1_000);
    assert_eq!(bench.decide(), Ok(Step::AddLearner(NodeId(5))));
}

#[test]
fn learners_that_nobody_needs_are_let_go() {
    let mut bench = bench(4, &[1, 2, 3]);
    bench.learns(4, 1_000);
    assert_eq!(bench.decide(), Ok(Step::RemoveLearner(NodeId(4))));
    bench.image.nodes.get_mut(&NodeId(4)).expect("there").role = Role::Gateway;
    assert_eq!(bench.decide(), Ok(Step::RemoveLearner(NodeId(4))));
}
