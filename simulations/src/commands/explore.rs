//! The command that explores.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use rafka_simulations::explore::{Bounds, Profile, Progress, Report, explore, rules};
use rafka_simulations::hunt::{cores, mode_name};
use rafka_simulations::seeds::Mutant;
use serde_json::json;

use super::hunt::{Format, Ticker};

/// `small`, `full`, or bounds of one's own.
#[derive(Clone, Debug)]
struct Choice(Vec<Bounds>);

fn parse_choice(text: &str) -> Result<Choice, String> {
    Ok(Choice(match text {
        "small" => Profile::Small.all().to_vec(),
        "full" => Profile::Full.all().to_vec(),
        _ => vec![text.parse()?],
    }))
}

#[derive(Args)]
pub(crate) struct ExploreArgs {
    /// How much may happen: `small`, `full`, or such as `records=2,epochs=2,fences=2,fsync` (also batch, kills, cuts, lags,
    /// retries, copies, losses, delays, late, states).
    #[arg(long, value_parser = parse_choice, default_value = "small")]
    bounds: Choice,
    /// Of all rules, only those whose name contains one of these, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "WORDS")]
    rules: Vec<String>,
    /// Only explorations whose name contains this.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "WORDS")]
    only: String,
    /// A rule that does not hold, or `all`: each in turn, as a table.
    #[arg(long, value_name = "RULE")]
    without: Option<String>,
    /// Threads [default: one for each core]
    #[arg(long)]
    jobs: Option<usize>,
    /// How results are written.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) fn run(args: &ExploreArgs) -> Result<Vec<String>, String> {
    let bounds: Vec<Bounds> = args.bounds.0.iter().filter(|bounds| bounds.name.contains(&args.only)).copied().collect();
    if bounds.is_empty() {
        return Err(format!("no exploration has {:?} in its name", args.only));
    }
    let jobs = args.jobs.unwrap_or_else(cores);
    match args.without.as_deref() {
        None => all_hold(args, &bounds, jobs),
        Some("all") => {
            let chosen = |rule: &Mutant| {
                let name = rule.to_string();
                args.rules.is_empty() || args.rules.iter().any(|words| name.contains(words.as_str()))
            };
            table(args, &bounds, &rules().filter(chosen).collect::<Vec<_>>(), jobs)
        }
        Some(rule) => {
            let rule: Mutant = rule.parse()?;
            let report = first_broken(&bounds, Some(rule), &Watched::default(), jobs);
            show(args, &report);
            match report.iter().find_map(|report| report.way.as_ref()) {
                Some(way) => Err(format!("invariant {} broke\ncause: {}", way.broken.invariant, way.broken.text)),
                None => Ok(Vec::new()),
            }
        }
    }
}

/// Every exploration, with all rules.
fn all_hold(args: &ExploreArgs, bounds: &[Bounds], jobs: usize) -> Result<Vec<String>, String> {
    let watched = Watched::default();
    let reports = each(bounds, jobs, |bounds| {
        let report = explore(bounds, None, &mut |progress| watched.tell(bounds.name, progress));
        eprintln!("{}", line(&report));
        report
    });
    watched.0.end();
    show(args, &reports);
    if let Some(way) = reports.iter().find_map(|report| report.way.as_ref()) {
        return Err(format!("invariant {} broke\ncause: {}", way.broken.invariant, way.broken.text));
    }
    match reports.iter().find(|report| !report.complete) {
        Some(report) => Err(format!("{:?} has more than {} states", report.bounds.name, report.bounds.states_max)),
        None => Ok(Vec::new()),
    }
}

/// The explorations, up to the first that breaks something.
fn first_broken(bounds: &[Bounds], without: Option<Mutant>, watched: &Watched, jobs: usize) -> Vec<Report> {
    let mut reports = Vec::new();
    for bounds in bounds {
        let quiet = jobs > 1 && without.is_none();
        let report = explore(bounds, without, &mut |progress| {
            if !quiet {
                watched.tell(bounds.name, progress);
            }
        });
        let broke = report.way.is_some();
        reports.push(report);
        if broke {
            break;
        }
    }
    watched.0.end();
    reports
}

/// Which rules the bounds can tell are needed.
fn table(args: &ExploreArgs, bounds: &[Bounds], rules: &[Mutant], jobs: usize) -> Result<Vec<String>, String> {
    // A machine may notice by an expectation of its own.
    std::panic::set_hook(Box::new(|_| ()));
    let rows = each(rules, jobs, |rule| {
        let run = || first_broken(bounds, Some(*rule), &Watched::silent(), 1);
        let found = std::panic::catch_unwind(run).ok();
        let row = Row::new(*rule, found);
        eprintln!("{}", row.line());
        row
    });
    let _ = std::panic::take_hook();
    if args.output == Format::Json {
        println!("{}", json!(rows.iter().map(Row::json).collect::<Vec<_>>()));
    } else {
        println!("{:<48} {:>9}  {:>5}  INVARIANT AND EXPLORATION", "RULE", "STATES", "STEPS");
        rows.iter().for_each(|row| println!("{}", row.line()));
        let broken = rows.iter().filter(|row| row.how.is_some()).count();
        println!("{broken} of {} rules are needed within these bounds", rows.len());
    }
    Ok(Vec::new())
}

/// What became of the explorations without a rule.
struct Row {
    rule: Mutant,
    states: u64,
    steps: usize,
    how: Option<String>,
}

impl Row {
    fn new(rule: Mutant, reports: Option<Vec<Report>>) -> Self {
        let Some(reports) = reports else {
            return Self { rule, states: 0, steps: 0, how: Some("a machine's own expectation".to_owned()) };
        };
        let states = reports.iter().map(|report| report.progress.states).sum();
        let way = reports.last().and_then(|report| Some((report.way.as_ref()?, report.bounds.name)));
        let how = way.map(|(way, name)| format!("{}: {} ({name})", way.broken.invariant, way.broken.text));
        Self { rule, states, steps: way.map_or(0, |(way, _)| way.steps.len() - 1), how }
    }

    fn line(&self) -> String {
        let how = self.how.as_deref().unwrap_or("nothing breaks");
        format!("{:<48} {:>9}  {:>5}  {how}", self.rule.to_string(), self.states, self.steps)
    }

    fn json(&self) -> serde_json::Value {
        json!({ "rule": self.rule.to_string(), "states": self.states, "steps": self.steps, "broken": self.how })
    }
}

/// Does `work` for each, on several threads; results in order.
fn each<T: Sync, R: Send>(all: &[T], jobs: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = all.get(at) else { break };
            let result = work(item);
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(at, result);
        }
    };
    std::thread::scope(|scope| (0..jobs.clamp(1, all.len().max(1))).for_each(|_| _ = scope.spawn(worker)));
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}

/// Progress, said from time to time.
struct Watched(Ticker, bool);

impl Default for Watched {
    fn default() -> Self {
        Self(Ticker::new(), true)
    }
}

impl Watched {
    fn silent() -> Self {
        Self(Ticker::new(), false)
    }

    fn tell(&self, name: &str, progress: &Progress) {
        if self.1 {
            self.0.tell(|| {
                let Progress { states, depth, waiting, elapsed, .. } = progress;
                format!("{name}: {states} states, depth {depth}, {waiting} to look at, {} s", elapsed.as_secs())
            });
        }
    }
}

fn line(report: &Report) -> String {
    let Progress { states, transitions, depth, ends, elapsed, .. } = &report.progress;
    let outcome = match (&report.way, report.complete) {
        (Some(way), _) => format!("BROKEN after {} steps", way.steps.len() - 1),
        (None, true) => "complete".to_owned(),
        (None, false) => "too many states".to_owned(),
    };
    let (name, mode) = (report.bounds.name, mode_name(report.bounds.durability));
    let seconds = elapsed.as_secs_f64();
    format!("{name:<44} {mode:<10} {states:>10} {transitions:>11} {depth:>5} {ends:>9} {seconds:>7.1} s  {outcome}")
}

fn show(args: &ExploreArgs, reports: &[Report]) {
    if args.output == Format::Json {
        println!("{}", json!(reports.iter().map(object).collect::<Vec<_>>()));
        return;
    }
    println!(
        "{:<44} {:<10} {:>10} {:>11} {:>5} {:>9} {:>9}  OUTCOME",
        "EXPLORATION", "DURABILITY", "STATES", "TRANSITIONS", "DEPTH", "ENDS", "TIME"
    );
    reports.iter().for_each(|report| println!("{}", line(report)));
    let states: u64 = reports.iter().map(|report| report.progress.states).sum();
    println!("{states} states in all");
    for way in reports.iter().filter_map(|report| report.way.as_ref()) {
        way.steps.iter().enumerate().for_each(|(number, step)| println!("{number:>3}  {step}"));
        println!("invariant {} is broken: {}", way.broken.invariant, way.broken.text);
    }
}

fn object(report: &Report) -> serde_json::Value {
    let Progress { states, transitions, depth, ends, elapsed, .. } = &report.progress;
    let way = report.way.as_ref();
    let broken =
        way.map(|way| json!({ "invariant": way.broken.invariant, "text": way.broken.text, "steps": way.steps }));
    json!({ "exploration": report.bounds.name, "durability": mode_name(report.bounds.durability), "states": states,
        "transitions": transitions, "depth": depth, "ends": ends, "seconds": elapsed.as_secs_f64(),
        "without": report.without.map(|rule| rule.to_string()), "complete": report.complete, "violation": broken })
}
