//! Many seeds on all cores: until one breaks an invariant, the time is over, or enough of them passed.

pub mod mutants;
pub mod shrink;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rafka_model::Durability;

use crate::seeds::{self, Mutant, Options, Outcome, Profile, Violation};

/// Which seeds to run.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Each seed runs in each of these.
    pub modes: Vec<Durability>,
    /// Steps of a seed before it heals.
    pub steps: u64,
    /// The first seed; the others follow.
    pub first: u64,
    /// When to stop.
    pub limit: Limit,
    /// Threads.
    pub jobs: usize,
    /// What the schedules are about.
    pub profile: Profile,
    /// The rule that does not hold.
    pub broken: Option<Mutant>,
}

/// When a hunt ends, if nothing breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// After this many seeds (in each mode).
    Seeds(u64),
    /// No seed begins after this long.
    Time(Duration),
}

/// What a hunt saw so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs that ended: seeds times modes.
    pub runs: u64,
    /// Events in them.
    pub steps: u64,
    /// Injected faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// States that were reached, and how often.
    pub states: BTreeMap<&'static str, u64>,
    /// Since the hunt began.
    pub elapsed: Duration,
    /// The earliest run that broke an invariant.
    pub found: Option<Found>,
}

/// A run that broke an invariant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its seed.
    pub seed: u64,
    /// Its mode.
    pub mode: Durability,
    /// What broke.
    pub violation: Violation,
}

impl Tally {
    /// Runs per minute, over all threads.
    #[must_use]
    pub fn per_minute(&self) -> f64 {
        self.runs as f64 * 60.0 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.steps += outcome.steps;
        outcome.faults.iter().for_each(|(kind, count)| *self.faults.entry(kind).or_default() += count);
        outcome.states.iter().for_each(|(state, count)| *self.states.entry(state).or_default() += count);
    }
}

/// Runs a seed; a panic is a violation like any other (of no invariant by number).
#[must_use]
pub fn run_one(seed: u64, options: &Options) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| seeds::run(seed, options))).unwrap_or_else(|panic| {
        let violation = Violation { step: 0, invariant: 0, text: seeds::panicked(&*panic) };
        Outcome { violation: Some(violation), ..Outcome::default() }
    })
}

/// Hunts; `progress` is called from time to time (at most four times a second) by one of the threads.
pub fn run(hunt: &Hunt, progress: &(dyn Fn(&Tally) + Sync)) -> Tally {
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let shared = Mutex::new((Tally::default(), u64::MAX, Instant::now()));
    let modes = hunt.modes.len().max(1) as u64;
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let over = match hunt.limit {
                Limit::Seeds(seeds) => number >= seeds.saturating_mul(modes),
                Limit::Time(time) => began.elapsed() >= time,
            };
            let Some(mode) = hunt.modes.get((number % modes) as usize).filter(|_| !over) else { break };
            let seed = hunt.first.wrapping_add(number / modes);
            let Hunt { steps, profile, broken, .. } = *hunt;
            let options = Options { steps, durability: *mode, profile, broken, ..Options::default() };
            let outcome = run_one(seed, &options);
            let mut shared = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (tally, found_at, told) = &mut *shared;
            tally.add(&outcome);
            tally.elapsed = began.elapsed();
            if let Some(violation) = outcome.violation.filter(|_| number < *found_at) {
                stop.store(true, Ordering::Relaxed);
                *found_at = number;
                tally.found = Some(Found { seed, mode: *mode, violation });
            }
            if told.elapsed() >= Duration::from_millis(250) {
                *told = Instant::now();
                progress(tally);
            }
        }
    };
    std::thread::scope(|scope| (0..hunt.jobs.max(1)).for_each(|_| _ = scope.spawn(work)));
    let (mut tally, ..) = shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    tally.elapsed = began.elapsed();
    tally
}

/// The name of a mode, as it is written in configurations.
#[must_use]
pub fn mode_name(mode: Durability) -> &'static str {
    match mode {
        Durability::Replicated => "replicated",
        Durability::Fsync => "fsync",
    }
}

/// Threads to use, when nobody says: one for each core.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hunt_runs_each_seed_once_in_each_mode_and_adds_up_the_same_with_any_number_of_threads() {
        let modes = vec![Durability::Replicated, Durability::Fsync];
        let hunt = |jobs| {
            let (modes, limit, profile) = (modes.clone(), Limit::Seeds(4), Profile::Everyday);
            Hunt { modes, steps: 200, first: 1, limit, jobs, profile, broken: None }
        };
        let (one, two) = (run(&hunt(1), &|_| ()), run(&hunt(2), &|_| ()));
        assert_eq!((one.runs, one.found.clone()), (8, None));
        assert_eq!((one.runs, one.steps, &one.faults, &one.states), (two.runs, two.steps, &two.faults, &two.states));
    }
}
