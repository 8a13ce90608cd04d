//! Commands of the seeded simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rafka_model::Durability;
use rafka_simulations::hunt::mutants::{self, Death, Fate};
use rafka_simulations::hunt::shrink::{parse_ranges, ranges, shrink};
use rafka_simulations::hunt::{self, Found, Hunt, Limit, Tally, cores, mode_name};
use rafka_simulations::seeds::{self, Mutant, Options, Profile, brief};
use serde_json::json;

/// How results are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One object.
    Json,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Modes {
    Replicated,
    Fsync,
    Both,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Mode {
    Replicated,
    Fsync,
}

impl From<Mode> for Durability {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Replicated => Self::Replicated,
            Mode::Fsync => Self::Fsync,
        }
    }
}

#[derive(Args)]
pub(crate) struct SeedsArgs {
    /// Minutes to go on.
    #[arg(long, value_name = "N", conflicts_with = "count", required_unless_present = "count")]
    minutes: Option<f64>,
    /// Seeds to run, in each mode.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Steps of each, before everything heals and has to finish.
    #[arg(long, default_value_t = 2_000)]
    steps: u64,
    /// `durability` of the topics.
    #[arg(long, value_enum, default_value = "both")]
    mode: Modes,
    /// The first seed; the others follow.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    first: u64,
    /// Threads [default: one for each core]
    #[arg(long)]
    jobs: Option<usize>,
    /// What the schedules are about: everyday, blows, splits, elections, losses.
    #[arg(long, default_value_t)]
    profile: Profile,
    /// A rule that does not hold.
    #[arg(long, value_name = "RULE")]
    without: Option<Mutant>,
    /// How results are written.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Which run of a seed.
#[derive(Args)]
pub(crate) struct OneArgs {
    /// The seed.
    seed: u64,
    /// `durability` of the topics.
    #[arg(long, value_enum, default_value = "replicated")]
    mode: Mode,
    /// Steps before everything heals and has to finish.
    #[arg(long, default_value_t = 2_000)]
    steps: u64,
    /// Injections that do nothing, such as 3,5-9.
    #[arg(long, value_parser = parse_skip, default_value = "", hide_default_value = true, value_name = "NUMBERS")]
    skip: Skip,
    /// What the schedules are about: everyday, blows, splits, elections, losses.
    #[arg(long, default_value_t)]
    profile: Profile,
    /// A rule that does not hold.
    #[arg(long, value_name = "RULE")]
    without: Option<Mutant>,
}

#[derive(Args)]
pub(crate) struct MutantsArgs {
    /// Most seeds for each, in each mode.
    #[arg(long, default_value_t = mutants::SEEDS_MAX, value_name = "MAX")]
    seeds: u64,
    /// Steps of each seed.
    #[arg(long, default_value_t = 2_000)]
    steps: u64,
    /// Only these rules, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "RULES")]
    only: Vec<Mutant>,
    /// Threads [default: one for each core]
    #[arg(long)]
    jobs: Option<usize>,
    /// How results are written.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Clone, Debug)]
struct Skip(BTreeSet<u32>);

fn parse_skip(text: &str) -> Result<Skip, String> {
    parse_ranges(text).map(Skip)
}

impl OneArgs {
    fn options(&self) -> Options {
        let (durability, skip) = (self.mode.into(), self.skip.0.clone());
        let (steps, profile) = (self.steps, self.profile);
        Options { steps, durability, profile, broken: self.without, skip, trace: false }
    }
}

/// How to run a schedule again.
fn command(verb: &str, seed: u64, options: &Options) -> String {
    let Options { steps, durability, profile, skip, broken, .. } = options;
    let mut words = format!("rafka-simulations {verb} {seed} --mode {} --steps {steps}", mode_name(*durability));
    if *profile != Profile::Everyday {
        words += &format!(" --profile {profile}");
    }
    if !skip.is_empty() {
        words += &format!(" --skip {}", ranges(skip));
    }
    if let Some(rule) = broken {
        words += &format!(" --without {rule}");
    }
    words
}

fn counts(of: &BTreeMap<&'static str, u64>) -> String {
    if of.is_empty() {
        return "none".to_owned();
    }
    of.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn broken(found: &Found) -> serde_json::Value {
    let violation = &found.violation;
    json!({ "seed": found.seed, "mode": mode_name(found.mode), "step": violation.step, "invariant": violation.invariant,
        "text": violation.text })
}

/// What to say of a broken invariant: what, why, and how to look at it.
fn complaint(found: &Found, hunt: &Hunt) -> String {
    let Found { seed, mode, violation } = found;
    let Hunt { steps, profile, broken, .. } = *hunt;
    let options = Options { steps, durability: *mode, profile, broken, ..Options::default() };
    let again = |verb| command(verb, *seed, &options);
    format!(
        "invariant {} broke in seed {seed} (durability {}) at step {}\ncause: {}\nhint: {}\nhint: {}",
        violation.invariant,
        mode_name(*mode),
        violation.step,
        violation.brief(),
        again("replay"),
        again("shrink")
    )
}

/// Says from time to time how far it is: a line that is overwritten on a terminal, else a line in ten seconds.
pub(super) struct Ticker(Mutex<Instant>, bool);

impl Ticker {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()), std::io::stderr().is_terminal())
    }

    pub(super) fn tell(&self, words: impl FnOnce() -> String) {
        let Ok(mut told) = self.0.lock() else { return };
        if self.1 {
            eprint!("\r\x1b[2K{}", words());
            let _ = std::io::stderr().flush();
        } else if told.elapsed() >= Duration::from_secs(10) {
            *told = Instant::now();
            eprintln!("{}", words());
        }
    }

    pub(super) fn end(&self) {
        if self.1 {
            eprint!("\r\x1b[2K");
        }
    }
}

fn progress(tally: &Tally) -> String {
    let Tally { runs, steps, elapsed, .. } = tally;
    let faults: u64 = tally.faults.values().sum();
    let (seconds, rate) = (elapsed.as_secs(), tally.per_minute());
    let states = tally.states.len();
    format!("{seconds} s: {runs} seeds, {rate:.0} a minute, {steps} steps, {faults} faults, {states} kinds of states")
}

pub(crate) fn seeds(args: &SeedsArgs) -> Result<Vec<String>, String> {
    let modes = match args.mode {
        Modes::Replicated => vec![Durability::Replicated],
        Modes::Fsync => vec![Durability::Fsync],
        Modes::Both => vec![Durability::Replicated, Durability::Fsync],
    };
    let limit = match (args.count, args.minutes) {
        (Some(count), _) => Limit::Seeds(count),
        (None, minutes) => {
            let minutes = Duration::try_from_secs_f64(minutes.unwrap_or_default() * 60.0);
            Limit::Time(minutes.map_err(|error| format!("--minutes: {error}"))?)
        }
    };
    let jobs = args.jobs.unwrap_or_else(cores);
    let SeedsArgs { steps, first, profile, without, .. } = *args;
    let hunt = Hunt { modes, steps, first, limit, jobs, profile, broken: without };
    let ticker = Ticker::new();
    let tally = hunt::run(&hunt, &|tally| ticker.tell(|| progress(tally)));
    ticker.end();
    let per_hour_and_core = tally.per_minute() * 60.0 / jobs.max(1) as f64;
    if args.output == Format::Json {
        let modes: Vec<_> = hunt.modes.iter().map(|mode| mode_name(*mode)).collect();
        let report = json!({ "modes": modes, "first": hunt.first, "seeds": tally.runs, "steps": tally.steps,
            "seconds": tally.elapsed.as_secs_f64(), "jobs": jobs, "seeds_per_hour_and_core": per_hour_and_core.round(),
            "faults": tally.faults, "states": tally.states, "violation": tally.found.as_ref().map(broken) });
        println!("{report}");
    } else {
        let modes: Vec<_> = hunt.modes.iter().map(|mode| mode_name(*mode)).collect();
        println!("{} seeds from {} on (durability {})", tally.runs, hunt.first, modes.join(" and "));
        println!("{} steps in {:.1} s", tally.steps, tally.elapsed.as_secs_f64());
        println!("{:.0} seeds a minute, {per_hour_and_core:.0} an hour and core, {jobs} threads", tally.per_minute());
        println!("faults: {}", counts(&tally.faults));
        println!("states: {}", counts(&tally.states));
        println!("violations: {}", u8::from(tally.found.is_some()));
    }
    tally.found.map_or(Ok(Vec::new()), |found| Err(complaint(&found, &hunt)))
}

pub(crate) fn replay(args: &OneArgs) -> Result<Vec<String>, String> {
    let options = args.options();
    let told = seeds::run(args.seed, &Options { trace: true, ..options.clone() });
    let again = seeds::run(args.seed, &options);
    told.trace.iter().for_each(|line| println!("{line}"));
    println!("{} steps, {} injections, trace {:016x}", told.steps, told.injections, told.trace_hash);
    println!("faults: {}", counts(&told.faults));
    if told.trace_hash != again.trace_hash || told.steps != again.steps {
        return Err(format!(
            "seed {} is not deterministic: a second run has trace {:016x}",
            args.seed, again.trace_hash
        ));
    }
    println!("a second run did the same");
    match told.violation {
        Some(violation) => {
            let (invariant, step, text) = (violation.invariant, violation.step, violation.brief());
            Err(format!("invariant {invariant} broke at step {step}\ncause: {text}"))
        }
        None => Ok(Vec::new()),
    }
}

pub(crate) fn shrunk(args: &OneArgs) -> Result<Vec<String>, String> {
    let options = args.options();
    let ticker = Ticker::new();
    let short = shrink(args.seed, &options, &|best| {
        let (runs, kept, steps) = (best.runs, best.kept.len(), best.steps);
        ticker.tell(|| format!("{runs} runs: {kept} injections and {steps} steps are left"));
    });
    ticker.end();
    let Some(short) = short else {
        println!("seed {} breaks nothing: there is nothing to shrink", args.seed);
        return Ok(Vec::new());
    };
    let shortened = Options { steps: short.steps, skip: short.skip.clone(), trace: true, ..options.clone() };
    let again = command("replay", args.seed, &shortened);
    let trace = seeds::run(args.seed, &shortened);
    trace.trace.iter().for_each(|line| println!("{line}"));
    println!(
        "{} injections of {} steps are left after {} runs: {}",
        short.kept.len(),
        short.steps,
        short.runs,
        ranges(&short.kept.iter().copied().collect())
    );
    println!("{again}");
    let (invariant, step) = (short.violation.invariant, short.violation.step);
    Err(format!("invariant {invariant} broke at step {step}\ncause: {}\nhint: {again}", short.violation.brief()))
}

pub(crate) fn mutants(args: &MutantsArgs) -> Result<Vec<String>, String> {
    let all: Vec<Mutant> = if args.only.is_empty() { Mutant::all().collect() } else { args.only.clone() };
    // A mutant may die of an expectation of the machines' own; that is its death, not a message to anybody.
    std::panic::set_hook(Box::new(|_| ()));
    let told = |fate: &Fate| eprintln!("{}", line(fate));
    let fates = mutants::try_all(&all, args.seeds, args.steps, args.jobs.unwrap_or_else(cores), &told);
    let _ = std::panic::take_hook();
    let survivors: Vec<_> = fates.iter().filter(|fate| fate.death.is_none()).collect();
    if args.output == Format::Json {
        let rows: Vec<_> = fates
            .iter()
            .map(|fate| json!({ "rule": fate.mutant.to_string(), "seeds": fate.seeds, "death": fate.death.as_ref().map(death) }))
            .collect();
        println!("{}", json!({ "seeds_max": args.seeds, "survivors": survivors.len(), "mutants": rows }));
    } else {
        println!("{:<46} {:>5}  {:<23} INVARIANT", "RULE", "SEEDS", "WHERE");
        fates.iter().for_each(|fate| println!("{}", line(fate)));
        println!("{} mutants, {} survived", fates.len(), survivors.len());
    }
    let names: Vec<_> = survivors.iter().map(|fate| fate.mutant.to_string()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    Err(format!(
        "rules can be dropped without anyone noticing: {}\nhint: the simulator does too little, or the rule is not needed",
        names.join(", ")
    ))
}

fn death(of: &Death) -> serde_json::Value {
    match of {
        Death::Cluster(profile, found) => json!({ "profile": profile.to_string(), "found": broken(found) }),
        Death::Alone(seed, words) => json!({ "alone": true, "seed": seed, "text": words }),
    }
}

fn line(fate: &Fate) -> String {
    let (rule, seeds) = (fate.mutant.to_string(), fate.seeds);
    match &fate.death {
        None => format!("{rule:<46} {seeds:>5}  survived"),
        Some(Death::Cluster(profile, found)) => {
            let place = format!("{profile}, {}", mode_name(found.mode));
            let (invariant, text) = (found.violation.invariant, found.violation.brief());
            format!("{rule:<46} {seeds:>5}  {place:<23} {invariant}: {text}")
        }
        Some(Death::Alone(_, words)) => format!("{rule:<46} {seeds:>5}  {:<23} {}", "its machine alone", brief(words)),
    }
}
