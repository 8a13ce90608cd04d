//! Claim: three replicas of a partition keep what they acknowledged, whatever is lost, repeated or late on the way, whoever
//! dies, and (by the words of the topic's durability) whatever a power cut takes. Each rule is needed: without it some seed
//! fails. The whole node is simulated elsewhere; here are only the machines, a controller of a few lines, and logs of
//! epochs and values.

mod controller;
mod world;

use super::rules::{Rule, Rules};
use rafka_model::Durability;
use world::World;

const STEPS: u32 = 1_000;

fn run(seed: u64, durability: Durability, rules: Rules) -> Result<World, String> {
    let mut world = World::new(seed, durability, rules);
    let r = (0..STEPS).try_for_each(|_| world.step()).and_then(|()| world.heal());
    if std::env::var("SEED").ok() == Some(seed.to_string()) && rules.broken.is_none() {
        for line in &world.trace {
            println!("{line}");
        }
        println!("{r:?}");
    }
    r?;
    Ok(world)
}

/// The first of so many seeds that fails without `rule`, and how.
fn killer(rule: Rule, durability: Durability, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| run(seed, durability, Rules::without(rule)).err().map(|why| (seed, why)))
}

#[test]
fn what_is_acknowledged_survives() {
    for durability in [Durability::Replicated, Durability::Fsync] {
        let mut acknowledged = 0;
        for seed in std::env::var("SEED").ok().map_or(0..150, |s| {
            let s: u64 = s.parse().unwrap();
            s..s + 1
        }) {
            match run(seed, durability, Rules::default()) {
                Ok(world) => acknowledged += world.acknowledged,
                Err(why) => panic!("{durability:?}, seed {seed}: {why}"),
            }
        }
        println!("{durability:?}: {acknowledged} acknowledged");
        assert!(acknowledged > 500, "{acknowledged} acknowledged: nothing happens here");
    }
}

#[test]
fn a_seed_fixes_everything() {
    let trace = || run(7, Durability::Fsync, Rules::default()).map(|world| world.trace);
    assert_eq!(trace(), trace());
}

#[test]
fn without_a_rule_some_seed_fails() {
    let mut survivors = Vec::new();
    for rule in Rule::ALL {
        let durability = match rule {
            Rule::FlushedCounts => Durability::Fsync,
            _ => Durability::Replicated,
        };
        match killer(*rule, durability, 3000) {
            Some((seed, why)) => println!("{rule:?}: seed {seed}: {why}"),
            None => survivors.push(*rule),
        }
    }
    assert_eq!(survivors, [], "nobody notices their absence");
}
