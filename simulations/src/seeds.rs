//! The seeded simulator of replication: brokers, their disks, the network between them, the quorum and clients, in virtual
//! time and one thread. A seed and the options fix every byte of a run.

mod admin;
mod clients;
mod dice;
mod directory;
mod event;
mod finish;
mod inject;
mod invariants;
mod machine;
mod mutant;
mod network;
mod process;
mod profile;
mod quorum;
mod shadow;
mod tempo;
mod trace;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::Durability;

/// Characters of a cause in one line.
const BRIEF_MAX: usize = 160;

pub use mutant::{Driver, Mutant, Trial};
pub use profile::Profile;

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Steps (events that happen) before everything heals and has to finish.
    pub steps: u64,
    /// `durability` of the topics.
    pub durability: Durability,
    /// What it is about.
    pub profile: Profile,
    /// The rule that does not hold.
    pub broken: Option<Mutant>,
    /// Injections (workload and faults, counted from 0) that do nothing. The others are what they are without it.
    pub skip: BTreeSet<u32>,
    /// Tell the run in lines for people.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (profile, durability) = (Profile::Everyday, Durability::Replicated);
        Self { steps: 2_000, durability, profile, broken: None, skip: BTreeSet::new(), trace: false }
    }
}

/// What became of a run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Events that happened, those of the healing included.
    pub steps: u64,
    /// The first thing that went wrong; the run ends there.
    pub violation: Option<Violation>,
    /// Injections that were drawn, also skipped ones: `0..injections` can be skipped.
    pub injections: u32,
    /// Injected faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// States that were reached, and how often.
    pub states: BTreeMap<&'static str, u64>,
    /// Virtual time that passed, ms.
    pub virtual_ms: u64,
    /// Hash of every event: equal for equal seeds and options on one commit.
    pub trace_hash: u64,
    /// The run in lines, if it was to be told.
    pub trace: Vec<String>,
}

/// Something that must never happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The step after which it was seen.
    pub step: u64,
    /// Which invariant of the cluster protocol is broken, by number.
    pub invariant: u8,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// What was seen, in one line that fits.
    #[must_use]
    pub fn brief(&self) -> String {
        brief(&self.text)
    }
}

/// The first line of `text`, cut where it is too long for one.
#[must_use]
pub fn brief(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(BRIEF_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// The words of a panic.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    format!("panicked: {words}")
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Outcome {
    world::World::new(seed, options).run()
}
