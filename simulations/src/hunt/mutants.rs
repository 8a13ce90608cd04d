//! Rules that do not hold, one at a time: each has to be noticed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rafka_model::Durability;

use super::{Found, Hunt, Limit, run, run_one};
use crate::seeds::{Mutant, Options, Profile, Trial};

/// Seeds of the cluster within which a mutant has to die, in each mode.
pub const SEEDS_MAX: u64 = 1_500;
/// Seeds of a machine alone within which a mutant has to die.
pub const ALONE_MAX: u64 = 3_000;

/// How a mutant fared.
#[derive(Clone, Debug)]
pub struct Fate {
    /// Which rule did not hold.
    pub mutant: Mutant,
    /// Seeds that were tried; of a cluster, each in every mode.
    pub seeds: u64,
    /// What noticed it; `None` if it survived.
    pub death: Option<Death>,
}

/// What noticed that a rule did not hold.
#[derive(Clone, Debug)]
pub enum Death {
    /// An invariant broke in a cluster.
    Cluster(Profile, Found),
    /// Its machine went wrong alone: the seed, and the words.
    Alone(u64, String),
}

/// Runs each of `mutants` with up to `seeds_max` seeds of `steps` in both modes, `jobs` mutants at a time; `told` hears
/// of each as it ends. In the order of `mutants`.
pub fn try_all(
    mutants: &[Mutant],
    seeds_max: u64,
    steps: u64,
    jobs: usize,
    told: &(dyn Fn(&Fate) + Sync),
) -> Vec<Fate> {
    let next = AtomicUsize::new(0);
    let fates: Mutex<Vec<(usize, Fate)>> = Mutex::default();
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(mutant) = mutants.get(at) else { break };
            let fate = try_one(*mutant, seeds_max, steps);
            told(&fate);
            fates.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, fate));
        }
    };
    std::thread::scope(|scope| (0..jobs.max(1)).for_each(|_| _ = scope.spawn(work)));
    let mut fates = fates.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    fates.sort_by_key(|(at, _)| *at);
    fates.into_iter().map(|(_, fate)| fate).collect()
}

/// A seed that breaks with all rules, too, tells nothing of this one.
fn try_one(mutant: Mutant, seeds_max: u64, steps: u64) -> Fate {
    match mutant.trial() {
        Trial::Cluster(profile) => try_cluster(mutant, profile, seeds_max, steps),
        Trial::Alone => try_alone(mutant),
    }
}

fn try_cluster(mutant: Mutant, profile: Profile, seeds_max: u64, steps: u64) -> Fate {
    let modes = vec![Durability::Replicated, Durability::Fsync];
    let mut first = 1;
    while first <= seeds_max {
        let limit = Limit::Seeds(seeds_max + 1 - first);
        let hunt = Hunt { modes: modes.clone(), steps, first, limit, jobs: 1, profile, broken: Some(mutant) };
        let Some(found) = run(&hunt, &|_| ()).found else { break };
        let options = Options { steps, durability: found.mode, profile, ..Options::default() };
        if run_one(found.seed, &options).violation.is_none() {
            return Fate { mutant, seeds: found.seed, death: Some(Death::Cluster(profile, found)) };
        }
        first = found.seed + 1;
    }
    Fate { mutant, seeds: seeds_max, death: None }
}

fn try_alone(mutant: Mutant) -> Fate {
    let death = (0..ALONE_MAX).find_map(|seed| {
        let words = mutant.alone(seed, true)?.err()?;
        let holds = mutant.alone(seed, false)?.is_ok();
        holds.then_some(Death::Alone(seed, words))
    });
    let seeds = match death {
        Some(Death::Alone(seed, _)) => seed + 1,
        _ => ALONE_MAX,
    };
    Fate { mutant, seeds, death }
}
