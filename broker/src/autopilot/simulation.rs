//! Claim: while nodes crash, come back, drain, lose their disks and join, no step costs the voters a failure that they
//! would survive, or is one that cannot be carried out; and once the cluster is left alone, the voters become what they
//! should be. Each rule of [`Rule`] is needed: without it some seed fails.

use super::*;
use crate::samples::{Random, node};

#[derive(Clone, Debug)]
struct Pending {
    step: Step,
    /// Members of the new set, while it is joined with the old one.
    joint: BTreeSet<NodeId>,
}

struct Simulation {
    random: Random,
    rules: Rules,
    image: Image,
    pilot: Autopilot,
    leader: Option<NodeId>,
    /// Of every member, what it has.
    matched: BTreeMap<NodeId, u64>,
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    last: u64,
    pending: Option<Pending>,
    settled: bool,
    /// Nodes that never come back: their disk is lost.
    gone: BTreeSet<NodeId>,
    /// Since when a node is in or out of service, and the seconds now.
    since: BTreeMap<NodeId, u64>,
    now: u64,
    changes: usize,
    /// A majority is in service.
    works: bool,
}

impl Simulation {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let rules = Rules { broken };
        let mut simulation = Self {
            random: Random(seed),
            rules,
            image: Image::default(),
            pilot: Autopilot::with_rules(rules),
            leader: Some(NodeId(1)),
            matched: BTreeMap::from([(NodeId(1), 0)]),
            voters: BTreeSet::from([NodeId(1)]),
            learners: BTreeSet::new(),
            last: 0,
            pending: None,
            settled: false,
            gone: BTreeSet::new(),
            since: BTreeMap::new(),
            now: 0,
            changes: 0,
            works: true,
        };
        simulation.join();
        simulation
    }

    fn join(&mut self) {
        let id = self.image.last_node.0 + 1;
        let rack = self.random.below(4);
        let rack = (rack > 0).then(|| format!("r{rack}"));
        let role = if id > 1 && self.random.one_in(8) { Role::Gateway } else { Role::Broker };
        self.image.nodes.insert(NodeId(id), Node { fenced: false, rack, role, ..node(id) });
        self.image.last_node = NodeId(id);
        self.since.insert(NodeId(id), self.now);
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..600 {
            self.now += 1 + self.random.below(30);
            if self.random.one_in(3) {
                self.happen();
            }
            self.step(true)?;
        }
        let fenced: Vec<_> = self.image.nodes.values().filter(|node| node.fenced).map(|node| node.id).collect();
        for id in fenced.into_iter().filter(|id| !self.gone.contains(id)).collect::<Vec<_>>() {
            self.set_fenced(id, false);
        }
        let before = self.changes;
        for _ in 0..400 {
            self.now += 5;
            self.step(false)?;
        }
        if self.changes > before + 30 {
            return Err(format!("{} steps in a cluster that is left alone", self.changes - before));
        }
        self.judge()
    }

    fn happen(&mut self) {
        let ids: Vec<_> = self.image.nodes.keys().copied().collect();
        let id = ids[self.random.below(ids.len() as u64) as usize];
        let fenced = self.image.nodes[&id].fenced;
        match self.random.below(20) {
            0..6 if !fenced => self.set_fenced(id, true),
            0..12 if fenced && !self.gone.contains(&id) => self.set_fenced(id, false),
            12 => self.image.nodes.get_mut(&id).expect("there").draining ^= true,
            13 | 14 if self.image.nodes.len() < 11 => self.join(),
            15 if self.may_lose(id) => {
                if !fenced {
                    self.set_fenced(id, true);
                }
                self.gone.insert(id);
                if self.random.one_in(2) {
                    self.image.nodes.remove(&id);
                }
                self.join();
            }
            _ => {}
        }
    }

    fn set_fenced(&mut self, id: NodeId, fenced: bool) {
        self.image.nodes.get_mut(&id).expect("there").fenced = fenced;
        self.since.insert(id, self.now);
    }

    /// Losing more disks than a majority of voters allows is beyond any protocol.
    fn may_lose(&self, id: NodeId) -> bool {
        let sets = [Some(&self.voters), self.pending.as_ref().map(|pending| &pending.joint)];
        sets.into_iter().flatten().filter(|set| !set.is_empty()).all(|set| {
            let left = set.iter().filter(|other| **other != id && !self.gone.contains(other)).count();
            left * 2 > set.len()
        })
    }

    fn live(&self, id: NodeId) -> bool {
        self.image.nodes.get(&id).is_some_and(|node| !node.fenced)
    }

    fn has_majority(&self, of: &BTreeSet<NodeId>) -> bool {
        of.iter().filter(|id| self.live(**id)).count() * 2 > of.len()
    }

    /// Consensus, as far as it matters here.
    fn elect(&mut self) {
        let works = self.has_majority(&self.voters)
            && self
                .pending
                .as_ref()
                .is_none_or(|pending| pending.joint.is_empty() || self.has_majority(&pending.joint));
        self.works = works;
        let leads = self.leader.is_some_and(|id| self.live(id) && self.voters.contains(&id));
        // A leader without a majority may take a while to notice.
        let unaware = !works && leads && self.random.one_in(2);
        if !unaware && (!works || !leads) {
            // The one with the longest log, and with it all that is committed.
            let live = self.voters.iter().copied().filter(|id| works && self.live(*id));
            let next = live.max_by_key(|id| self.matched[id]);
            (self.leader, self.pilot) = (next, Autopilot::with_rules(self.rules));
            if let Some(leader) = next {
                self.last = self.matched[&leader];
                // What was under way is lost or done.
                if let Some(pending) = self.pending.take().filter(|_| self.random.one_in(2)) {
                    self.finish(pending.step);
                }
            }
        }
    }

    fn step(&mut self, busy: bool) -> Result<(), String> {
        self.elect();
        let Some(leader) = self.leader else { return Ok(()) };
        self.last += self.random.below(if busy { 40 } else { 2 });
        for id in self.voters.union(&self.learners) {
            let lag = self.last - self.matched.get(id).copied().unwrap_or(0).min(self.last);
            if *id == leader || self.live(*id) && (!busy || !self.random.one_in(3)) {
                let step = if *id == leader { lag } else { lag.min(200) };
                self.matched.insert(*id, self.last - lag + step);
            }
        }
        if self.pending.is_some() && self.works && self.random.one_in(2) {
            let pending = self.pending.take().expect("there");
            self.finish(pending.step);
            self.elect();
        }
        let Some(leader) = self.leader else { return Ok(()) };
        let now = Monotonic::default().plus(Duration::from_secs(self.now));
        self.pilot.observe(&self.image, now);
        let known =
            |ids: &BTreeSet<NodeId>| ids.iter().map(|id| (*id, self.matched.get(id).copied().unwrap_or(0))).collect();
        let (voters, learners): (BTreeMap<_, _>, BTreeMap<_, _>) = (known(&self.voters), known(&self.learners));
        let (last, settled, changing) = (self.last, self.settled, self.pending.is_some());
        let quorum = Quorum { leader, voters: &voters, learners: &learners, last, changing, settled };
        let Ok(step) = self.pilot.decide(&self.image, &quorum, now) else { return Ok(()) };
        self.judge_step(&step)
            .map_err(|why| format!("{why}: {step:?} from {:?} and {:?}", self.voters, self.learners))?;
        self.changes += 1;
        let joint = if let Step::ChangeVoters(next) = &step { next.clone() } else { BTreeSet::new() };
        self.pending = Some(Pending { step, joint });
        Ok(())
    }

    fn finish(&mut self, step: Step) {
        match step {
            Step::AddLearner(id) => drop((self.learners.insert(id), self.matched.insert(id, 0))),
            Step::RemoveLearner(id) => drop(self.learners.remove(&id)),
            Step::ChangeVoters(next) => {
                self.learners.retain(|id| !next.contains(id));
                self.settled |= next.len() >= 3;
                self.voters = next;
            }
        }
    }

    fn serves(&self, id: NodeId) -> bool {
        let fits = |node: &Node| !node.fenced && !node.draining && node.role == Role::Broker;
        self.image.nodes.get(&id).is_some_and(fits)
    }

    fn spare(&self, of: &BTreeSet<NodeId>) -> isize {
        of.iter().filter(|id| self.serves(**id)).count().cast_signed() - (of.len() / 2 + 1).cast_signed()
    }

    fn judge_step(&self, step: &Step) -> Result<(), &'static str> {
        if self.pending.is_some() {
            return Err("two changes at a time");
        }
        let next = match step {
            Step::AddLearner(id) if !self.serves(*id) => return Err("a learner out of service"),
            Step::AddLearner(id) => return self.judge_rack(*id),
            Step::RemoveLearner(_) => return Ok(()),
            Step::ChangeVoters(next) => next,
        };
        let served = |id: &NodeId| self.now - self.since.get(id).copied().unwrap_or(0);
        let new: Vec<_> = next.difference(&self.voters).collect();
        let excused = |id: &NodeId| {
            let node = self.image.nodes.get(id);
            node.is_none_or(|node| node.draining)
                || !self.live(*id) && served(id) >= 300
                || next.len() < self.voters.len()
        };
        if !self.has_majority(&self.voters) || !self.has_majority(next) {
            return Err("a change that cannot be committed");
        }
        if self.spare(next) < self.spare(&self.voters) {
            return Err("a failure less is survived");
        }
        if next.len().is_multiple_of(2) {
            return Err("an even set");
        }
        if new.iter().any(|id| !self.serves(**id) || self.gone.contains(id)) {
            return Err("a vote for a node out of service");
        }
        if new.iter().any(|id| self.matched[id] + VOTER_LAG_ENTRIES_MAX < self.last) {
            return Err("a vote for one that lags");
        }
        if self.settled && new.iter().any(|id| served(id) < 30) {
            return Err("a vote for one that has just come");
        }
        if !self.voters.difference(next).all(excused) {
            return Err("a vote taken from one that may come back");
        }
        Ok(())
    }

    fn judge_rack(&self, id: NodeId) -> Result<(), &'static str> {
        let rack = |id: &NodeId| self.image.nodes.get(id).and_then(|node| node.rack.clone());
        let stays = |id: &&NodeId| self.image.nodes.get(id).is_some_and(|node| !node.draining);
        let members: Vec<_> = self.voters.iter().filter(stays).chain(&self.learners).copied().collect();
        // Whoever is lost counts for the autopilot no more; it is not known here who that is.
        let used: Vec<_> = members.iter().filter(|id| self.live(**id)).filter_map(rack).collect();
        let all: Vec<_> = members.iter().filter_map(rack).collect();
        let open = self.image.nodes.keys().filter(|other| self.serves(**other) && !members.contains(other));
        let better =
            |other: &NodeId| rack(other).is_none_or(|rack| !all.contains(&rack)) && !self.voters.contains(other);
        let worse = rack(&id).is_some_and(|rack| used.contains(&rack));
        if worse && open.into_iter().any(better) { Err("another one would bring a new rack") } else { Ok(()) }
    }

    fn judge(&self) -> Result<(), String> {
        let registered = self.image.nodes.values().filter(|node| !node.draining && node.role == Role::Broker).count();
        let serving = self.image.nodes.keys().filter(|id| self.serves(**id)).count();
        let target = match registered {
            0..3 => 1,
            3..7 => 3,
            _ => 5,
        };
        let reachable = target.min(serving - usize::from(serving.is_multiple_of(2) && serving > 0));
        let unsound = self.voters.iter().filter(|id| !self.serves(**id)).count();
        let serve = self.voters.len() - unsound;
        if self.leader.is_none() || serve < reachable || unsound > 0 && serving >= target && serving > 0 {
            return Err(format!(
                "{:?} vote, {serving} nodes serve, {reachable} should: {:?}",
                self.voters, self.learners
            ));
        }
        Ok(())
    }
}

/// Runs one seed, with all rules or without one.
///
/// # Errors
/// What went wrong, in words.
pub fn simulate(seed: u64, broken: Option<Rule>) -> Result<(), String> {
    trial(seed, broken).map(drop)
}

/// How many there were: changes.
fn trial(seed: u64, broken: Option<Rule>) -> Result<usize, String> {
    let mut simulation = Simulation::new(seed, broken);
    simulation.run()?;
    Ok(simulation.changes)
}

#[test]
fn voters_survive_whatever_happens_to_nodes() {
    let mut changes = 0;
    for seed in 0..150 {
        changes += trial(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(changes > 150 * 10, "only {changes} steps: the simulation does too little");
}

#[test]
fn every_rule_is_needed() {
    for rule in Rule::ALL {
        assert!(
            (0..200).any(|seed| simulate(seed, Some(*rule)).is_err()),
            "{rule:?} can be dropped without anyone noticing"
        );
    }
}
