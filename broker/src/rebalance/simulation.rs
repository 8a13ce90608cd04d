//! Claim: while nodes crash, come back, drain and join, plans followed step by step never put two replicas on one node,
//! never copy to or from nobody, respect racks, rations and what is under way; and once the cluster is left alone, every
//! plan ends. Each rule of [`Rule`] is needed: without it some seed fails.

use std::time::Duration;

use rafka_model::Monotonic;
use rafka_model::limits::{MOVES_PER_NODE_MAX, NODE_LOST_MS};

use super::samples::{add_node, change, cluster, create, states};
use super::*;
use crate::samples::Random;

struct Simulation {
    random: Random,
    rules: Rules,
    image: Image,
    absences: Absences,
    bytes: BTreeMap<TopicPartition, u64>,
    fenced_at: BTreeMap<NodeId, u64>,
    /// Seconds.
    now: u64,
    started: usize,
    plain: bool,
}

impl Simulation {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let (mut random, rules) = (Random(seed), Rules { broken });
        let racks = random.below(4);
        let plain = racks == 0 && random.one_in(2);
        let count = 4 + random.below(6) as usize;
        let kinds: Vec<_> = (0..count as u64)
            .map(|i| {
                (
                    if racks > 1 { 1 + i % racks } else { 0 },
                    if plain { 1000 } else { [1000, 1000, 2000][random.below(3) as usize] },
                )
            })
            .collect();
        let mut image = cluster(&kinds);
        for topic in 1..=1 + random.below(5) as u8 {
            create(&mut image, topic, 1 + random.below(16) as u32, 1 + random.below(3) as u16);
        }
        let mut bytes = BTreeMap::new();
        if !plain && random.one_in(2) {
            bytes = states(&image).map(|(at, _)| at).map(|at| (at, random.below(1_000))).collect();
        }
        let absences = Absences::with_rules(Duration::from_millis(NODE_LOST_MS), rules);
        Self { random, rules, image, absences, bytes, fenced_at: BTreeMap::new(), now: 0, started: 0, plain }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..250 {
            self.now += 1 + self.random.below(120);
            if self.random.one_in(6) {
                self.happen();
            }
            self.follow()?;
            self.finish_some(3);
        }
        // Left alone: everybody comes back, who drains goes on draining.
        let fenced: Vec<_> = self.fenced_at.keys().copied().collect();
        fenced.into_iter().for_each(|id| self.unfence(id));
        self.started = 0;
        let replicas: usize = states(&self.image).map(|(_, state)| state.replicas.len()).sum();
        for _ in 0..400 {
            self.now += 10;
            self.follow()?;
            self.finish_some(1);
            if self.started > 2 * replicas + 20 {
                return Err(format!("{} moves of {replicas} replicas, and no end", self.started));
            }
        }
        self.judge()
    }

    fn happen(&mut self) {
        let ids: Vec<_> = self.image.nodes.keys().copied().collect();
        let id = ids[self.random.below(ids.len() as u64) as usize];
        let fenced = self.image.nodes[&id].fenced;
        match self.random.below(10) {
            0..3 if !fenced => self.fence(id),
            0..6 if fenced => self.unfence(id),
            6 => self.image.nodes.get_mut(&id).expect("there").draining ^= true,
            7 if ids.len() < 11 => add_node(&mut self.image, ids.len() as u64 + 1, ids.len() as u64 % 4, 1000),
            _ => {}
        }
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        states(&self.image).map(|(at, _)| at).collect()
    }

    fn fence(&mut self, id: NodeId) {
        self.image.nodes.get_mut(&id).expect("there").fenced = true;
        self.fenced_at.insert(id, self.now);
        self.elect();
    }

    fn unfence(&mut self, id: NodeId) {
        self.image.nodes.get_mut(&id).expect("there").fenced = false;
        self.fenced_at.remove(&id);
        self.elect();
    }

    /// Everybody in service is in sync at once, as long as there is somebody to copy from.
    fn elect(&mut self) {
        for at in self.partitions() {
            let fenced: BTreeSet<_> = self.fenced_at.keys().copied().collect();
            let state = change(&mut self.image, at);
            let live: Vec<_> = state.isr.iter().copied().filter(|id| !fenced.contains(id)).collect();
            if !live.is_empty() {
                let copies = |id: &NodeId| !fenced.contains(id) && !state.adding.contains(id);
                state.isr = state.replicas.iter().copied().filter(copies).collect();
            }
            let leads = |id: &NodeId| state.isr.contains(id) && !fenced.contains(id);
            if !state.leader.is_some_and(|leader| leads(&leader)) {
                state.leader = state.replicas.iter().copied().find(leads);
            }
        }
    }

    fn follow(&mut self) -> Result<(), String> {
        let now = Monotonic::default().plus(Duration::from_secs(self.now));
        self.absences.observe(&self.image, now);
        let lost = self.absences.lost(now);
        let situation = Situation { image: &self.image, lost: &lost, bytes: &self.bytes };
        let plan = plan_with(&situation, self.rules);
        self.judge_plan(&plan)?;
        for Start { at, replicas, steps } in start_with(&plan.moves, &self.image, self.rules) {
            let moves: Vec<Move> = steps.iter().map(|step| plan.moves[*step]).collect();
            self.judge_start(&moves, &replicas)?;
            let state = change(&mut self.image, at);
            let old: Vec<_> = state.replicas.iter().copied().filter(|id| !state.adding.contains(id)).collect();
            state.adding = replicas.iter().copied().filter(|id| !old.contains(id)).collect();
            state.removing = old.iter().copied().filter(|id| !replicas.contains(id)).collect();
            state.replicas = replicas.iter().chain(&state.removing).copied().collect();
            self.started += 1;
            moves.iter().try_for_each(|it| self.judge_ration(it))?;
        }
        Ok(())
    }

    /// Some of what is under way is done.
    fn finish_some(&mut self, odds: u64) {
        for at in self.partitions() {
            let state = self.image.partition(at).expect("there");
            let live = |id: &NodeId| !self.fenced_at.contains_key(id);
            let ready = state.leader.is_some() && state.adding.iter().all(live);
            let idle = state.adding.is_empty() && state.removing.is_empty();
            if idle || !ready || !self.random.one_in(odds) {
                continue;
            }
            let state = change(&mut self.image, at);
            let removing = std::mem::take(&mut state.removing);
            let adding = std::mem::take(&mut state.adding);
            state.replicas.retain(|id| !removing.contains(id));
            state.isr.retain(|id| !removing.contains(id));
            state.isr.extend(adding);
            if state.leader.is_some_and(|leader| removing.contains(&leader)) {
                state.leader = None;
            }
        }
        self.elect();
    }

    fn racks(&self, replicas: &[NodeId]) -> usize {
        let rack = |id: &NodeId| self.image.nodes[id].rack.clone().unwrap_or_else(|| id.to_string());
        replicas.iter().map(rack).collect::<BTreeSet<_>>().len()
    }

    fn judge_start(&self, moves: &[Move], replicas: &[NodeId]) -> Result<(), String> {
        let state = self.image.partition(moves[0].at).ok_or("an unknown partition moves")?;
        let distinct: BTreeSet<_> = replicas.iter().collect();
        let newcomers = replicas.iter().filter(|id| !state.replicas.contains(id));
        let taker = |id: &NodeId| !self.image.nodes[id].fenced && !self.image.nodes[id].draining;
        let under_way = !state.adding.is_empty() || !state.removing.is_empty();
        let redirects = |it: &Move| it.from.is_some_and(|from| state.adding.contains(&from));
        let redirected = moves.iter().any(redirects);
        let gone_for = |it: &Move| it.from.and_then(|from| self.fenced_at.get(&from)).map(|since| self.now - since);
        let early =
            |it: &Move| it.why == Why::Lost && gone_for(it).is_none_or(|seconds| seconds * 1_000 < NODE_LOST_MS);
        let before = settled(state);
        let wrong = if distinct.len() != replicas.len() {
            "two replicas on one node"
        } else if newcomers.into_iter().any(|id| !taker(id)) {
            "a replica goes to a node out of service"
        } else if under_way && !redirected {
            "what is under way moves again"
        } else if state.leader.is_none() {
            "there is nobody to copy from"
        } else if moves.iter().all(|it| it.why >= Why::Rack) && self.racks(replicas) < self.racks(&before) {
            "fewer racks"
        } else if moves.iter().any(early) {
            "a node that may come back counts as lost"
        } else {
            return Ok(());
        };
        Err(format!("{wrong}: {moves:?} of {state:?}"))
    }

    /// Of the moves that this one is among, no node has too many.
    fn judge_ration(&self, it: &Move) -> Result<(), String> {
        let leader = self.image.partition(it.at).and_then(|state| state.leader);
        for id in leader.into_iter().chain([it.to]).filter(|_| it.why != Why::Leaders) {
            let takes_part = |state: &PartitionState| {
                !state.adding.is_empty() && (state.adding.contains(&id) || state.leader == Some(id))
            };
            let moves = states(&self.image).filter(|(_, state)| takes_part(state)).count();
            if moves > MOVES_PER_NODE_MAX as usize {
                return Err(format!("node {id} takes part in {moves} moves"));
            }
        }
        Ok(())
    }

    /// Moves for balance are no more than what nodes have too much and too little.
    fn judge_plan(&self, plan: &Plan) -> Result<(), String> {
        if !self.plain {
            return Ok(());
        }
        let mut loads = super::samples::loads(&self.image);
        loads.values_mut().for_each(|load| load.0 = 0);
        for (at, state) in states(&self.image) {
            let mut replicas = settled(state);
            for it in plan.moves.iter().filter(|it| it.at == at && it.why < Why::Replicas) {
                match replicas.iter_mut().find(|id| Some(**id) == it.from) {
                    Some(place) => *place = it.to,
                    None => replicas.push(it.to),
                }
            }
            for id in &replicas {
                loads.entry(*id).and_modify(|load| load.0 += 1);
            }
        }
        let share = loads.values().map(|load| load.0).sum::<usize>() as f64 / loads.len().max(1) as f64;
        let (min, max) = ((0.9 * share).floor() as usize, (1.1 * share).ceil() as usize);
        let wrong: usize = loads.values().map(|load| load.0.saturating_sub(max) + min.saturating_sub(load.0)).sum();
        let moves = plan.moves.iter().filter(|it| it.why == Why::Replicas).count();
        match moves > wrong {
            true => Err(format!("{moves} moves for {wrong} replicas that are wrong: {loads:?}")),
            false => Ok(()),
        }
    }

    fn judge(&self) -> Result<(), String> {
        let lost = BTreeSet::new();
        let situation = Situation { image: &self.image, lost: &lost, bytes: &self.bytes };
        let rest = plan(&situation);
        if !rest.moves.is_empty() {
            return Err(format!("still to be moved: {:?}", rest.moves));
        }
        let serving = self.image.nodes.values().filter(|node| !node.draining).count();
        for (at, state) in states(&self.image) {
            let draining = state.replicas.iter().any(|id| self.image.nodes[id].draining);
            let wanted = usize::from(self.image.topics[&at.topic].replication_factor);
            if !state.adding.is_empty() || draining && serving >= wanted || state.replicas.len() < wanted.min(serving) {
                return Err(format!("{at} is not whole: {state:?}"));
            }
        }
        Ok(())
    }
}

/// Runs one seed, with all rules or without one.
///
/// # Errors
/// What went wrong, in words.
pub fn simulate(seed: u64, broken: Option<Rule>) -> Result<(), String> {
    Simulation::new(seed, broken).run()
}

#[test]
fn plans_followed_step_by_step_keep_the_rules_and_end() {
    for seed in 0..60 {
        simulate(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn every_rule_is_needed() {
    for rule in Rule::ALL {
        assert!(
            (0..40).any(|seed| simulate(seed, Some(*rule)).is_err()),
            "{rule:?} can be dropped without anyone noticing"
        );
    }
}
