//! Claim: whatever is lost, repeated, delayed or restarted between members and coordinators, a partition has at most
//! one owner in a generation, what was committed is neither lost nor set back by who is out of the group, and once the
//! network heals, everybody who lives has its share. Each rule of [`Rule`] is needed: without it some seed fails.
//!
//! `world` is the log, the driver and the network, `classic` a consumer that assigns and commits as clients do.

mod classic;
mod world;

use super::rules::Rule;
use classic::{Consumer, Zombie};
use world::World;

const TURNS: usize = 500;
const CONSUMERS_MAX: usize = 7;

struct Simulation {
    world: World,
    consumers: Vec<Consumer>,
    zombies: Vec<Zombie>,
}

impl Simulation {
    fn new(seed: u64, broken: Option<Rule>, replies_wait: bool) -> Self {
        let mut world = World::new(seed, broken, replies_wait);
        let consumers = (0..4).map(|id| Consumer::new(&mut world, id)).collect();
        Self { world, consumers, zombies: Vec::new() }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..TURNS {
            self.turn()?;
        }
        self.heal()?;
        self.judge()
    }

    fn turn(&mut self) -> Result<(), String> {
        let pass = self.world.random.below(500);
        self.world.pass(pass)?;
        for one in 0..self.consumers.len() {
            if !self.consumers[one].lives() && self.world.random.one_in(30) {
                self.consumers[one] = Consumer::new(&mut self.world, one);
            }
            if self.world.random.one_in(2) {
                self.consumers[one].act(&mut self.world);
            }
            self.hear(one, 12);
        }
        self.world.deliver_requests(4)?;
        let one = self.world.random.below(self.consumers.len() as u64) as usize;
        match self.world.random.below(400) {
            0..4 => self.world.crash()?,
            4..10 => self.zombies.extend(self.consumers[one].crash(&mut self.world)),
            10..12 => self.zombies.extend(self.consumers[one].leave(&mut self.world)),
            12..16 if self.consumers.len() < CONSUMERS_MAX && !self.twin(one) => {
                let id = self.consumers.len();
                self.consumers.push(Consumer::new(&mut self.world, id));
            }
            16..18 => self.world.partitions = (self.world.partitions + 1).min(8),
            18..70 if !self.zombies.is_empty() => {
                let latest = self.world.random.below(self.zombies.len().min(3) as u64) as usize;
                self.zombies[self.zombies.len() - 1 - latest].commit(&mut self.world)?;
            }
            70..76 => self.everybody_leaves()?,
            76..240 => self.world.commit_some()?,
            240..340 => self.world.look()?,
            _ => {}
        }
        Ok(())
    }

    /// Starts a second process of a static member from `from` on; false if there is none.
    fn twin(&mut self, from: usize) -> bool {
        let id = self.consumers.len();
        let twin = self.consumers[from..].iter().find_map(|one| one.twin(id));
        self.world.connect(id);
        self.consumers.extend(twin);
        self.consumers.len() > id
    }

    /// Everybody goes, and an administrator uses the occasion.
    fn everybody_leaves(&mut self) -> Result<(), String> {
        for one in &mut self.consumers {
            self.zombies.extend(one.leave(&mut self.world));
        }
        self.world.deliver_requests(0)?;
        self.world.set_forward()?;
        if self.world.random.one_in(2) {
            self.world.commit_all()?;
            self.world.crash()?;
        }
        self.zombies.last().map_or(Ok(()), |zombie| zombie.commit(&mut self.world))
    }

    fn hear(&mut self, one: usize, losses: u64) {
        while let Some((call, reply)) = self.world.inboxes[one].pop_front() {
            if losses == 0 || !self.world.random.one_in(losses) {
                self.consumers[one].hear(&mut self.world, call, reply);
            }
        }
    }

    /// Nothing is lost any more; whoever can, comes back. Then somebody dies, or comes twice, or another generation is
    /// to begin, perhaps with somebody in its way.
    fn heal(&mut self) -> Result<(), String> {
        self.world.healed = true;
        self.settle(100)?;
        let one = self.consumers.iter().position(Consumer::leads).unwrap_or(0);
        match self.world.random.below(4) {
            0 => {
                self.consumers[one].die(&mut self.world);
                self.world.crash()?;
            }
            1 => drop(self.twin(0)),
            more => {
                self.world.partitions += 1;
                self.consumers[one].gets_stuck = more == 2;
            }
        }
        self.settle(200)
    }

    fn settle(&mut self, turns: usize) -> Result<(), String> {
        for _ in 0..turns {
            self.world.pass(300)?;
            for one in 0..self.consumers.len() {
                self.consumers[one].act(&mut self.world);
                self.world.deliver_requests(0)?;
                self.world.commit_all()?;
                self.hear(one, 0);
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), String> {
        let living: Vec<_> = self.consumers.iter().filter(|one| one.lives()).collect();
        let generation = living.iter().map(|one| one.generation).max().unwrap_or(0);
        if let Some(one) = living.iter().find(|one| !one.is_stable() || one.generation != generation) {
            return Err(format!("a member is stuck: {one:?}, the others are in generation {generation}"));
        }
        // One that is stuck may be in a stable group, and have a share that it does not ask for.
        let is_held = self.consumers.iter().any(Consumer::is_stuck);
        for partition in 0..self.world.partitions {
            let owners = living.iter().filter(|one| one.owned.contains(&partition)).count();
            if owners > 1 || (owners == 0 && !is_held && !living.is_empty()) {
                return Err(format!("partition {partition} has {owners} owners"));
            }
        }
        self.world.judge()
    }
}

fn simulate(seed: u64, broken: Option<Rule>, replies_wait: bool) -> Result<Simulation, String> {
    let mut simulation = Simulation::new(seed, broken, replies_wait);
    simulation.run()?;
    Ok(simulation)
}

#[test]
fn partitions_have_one_owner_and_offsets_do_not_go_back() {
    let (mut generations, mut commits, mut crashes) = (0, 0, 0);
    for seed in 0..100 {
        let simulation = simulate(seed, None, true).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        generations += simulation.consumers.iter().map(|one| one.generation).max().unwrap_or(0);
        commits += simulation.world.acknowledged.values().sum::<i64>();
        crashes += simulation.world.crashes;
    }
    assert!(generations > 1_000 && commits > 5_000 && crashes > 500, "{generations} {commits} {crashes}: too little");
}

#[test]
fn a_seed_fixes_every_byte() {
    for seed in 0..3 {
        let [once, again] = [0, 1].map(|_| simulate(seed, None, true).unwrap_or_else(|why| panic!("{why}")).world.log);
        assert_eq!(once, again, "seed {seed}");
    }
}

#[test]
fn every_rule_is_needed() {
    for rule in [
        Rule::GenerationsAreChecked,
        Rule::MembersAreChecked,
        Rule::OldInstancesAreFenced,
        Rule::EmptyGenerationsAreStored,
        Rule::AssignmentsAreStored,
        Rule::SessionsEnd,
        Rule::LateSyncsAreLeftBehind,
        Rule::LeadersBeginGenerations,
        Rule::SessionsBeginAgain,
    ] {
        let found = (0..300).find_map(|seed| simulate(seed, Some(rule), true).err());
        assert!(found.is_some(), "{rule:?} can be dropped without anyone noticing");
    }
    assert!((0..50).any(|seed| simulate(seed, None, false).is_err()), "replies need not wait for the log");
}
