//! Makes a failing schedule short: fewer injections, fewer steps, the same broken invariant.

use std::collections::BTreeSet;

use super::run_one;
use crate::seeds::{Options, Violation};

/// A schedule that still fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shrunk {
    /// Steps to run.
    pub steps: u64,
    /// Injections that matter.
    pub kept: Vec<u32>,
    /// Those that do not: what to skip.
    pub skip: BTreeSet<u32>,
    /// What breaks.
    pub violation: Violation,
    /// Runs that it took.
    pub runs: u64,
}

/// Most runs of one attempt.
pub const RUNS_MAX: u64 = 3_000;

/// Shrinks the schedule of `seed` under `options` by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating
/// Failure-Inducing Input", 2002); `None` if it does not fail.
#[must_use]
pub fn shrink(seed: u64, options: &Options, told: &dyn Fn(&Shrunk)) -> Option<Shrunk> {
    shrink_by(
        &|steps, skip| {
            let outcome = run_one(seed, &Options { steps, skip: skip.clone(), trace: false, ..options.clone() });
            outcome.violation.map(|violation| (violation, outcome.injections))
        },
        options,
        told,
    )
}

/// Runs a schedule: what broke, and how many injections there were.
type Try<'a> = &'a dyn Fn(u64, &BTreeSet<u32>) -> Option<(Violation, u32)>;

fn shrink_by(run: Try<'_>, options: &Options, told: &dyn Fn(&Shrunk)) -> Option<Shrunk> {
    let (violation, injections) = run(options.steps, &options.skip)?;
    let kept: Vec<u32> = (0..injections).filter(|number| !options.skip.contains(number)).collect();
    // A shortened schedule may get further than this one did, to injections that it never drew.
    let horizon = injections.saturating_mul(2).saturating_add(64);
    let best = Shrunk { steps: options.steps, kept, skip: options.skip.clone(), violation, runs: 1 };
    let mut search = Search { run, horizon, best };
    search.shorten();
    let mut parts = 2;
    while !search.best.kept.is_empty() && search.best.runs < RUNS_MAX {
        let size = search.best.kept.len().div_ceil(parts);
        if search.without_a_chunk(size) {
            search.shorten();
            told(&search.best);
            parts = parts.saturating_sub(1).max(2);
        } else if size <= 1 {
            break;
        } else {
            parts = (parts * 2).min(search.best.kept.len());
        }
    }
    Some(search.best)
}

struct Search<'a> {
    run: Try<'a>,
    horizon: u32,
    best: Shrunk,
}

impl Search<'_> {
    /// Tries a schedule; it is the best so far if it fails like the first.
    fn attempt(&mut self, steps: u64, kept: Vec<u32>) -> bool {
        self.best.runs += 1;
        let skip: BTreeSet<u32> = (0..self.horizon).filter(|number| kept.binary_search(number).is_err()).collect();
        match (self.run)(steps, &skip) {
            Some((violation, injections)) if violation.invariant == self.best.violation.invariant => {
                let kept = kept.into_iter().filter(|number| *number < injections).collect();
                self.best = Shrunk { steps, kept, skip, violation, runs: self.best.runs };
                true
            }
            _ => false,
        }
    }

    /// Fewer steps: up to the violation if it comes before the healing, else by halves.
    fn shorten(&mut self) {
        let broke = self.best.violation.step;
        if (1..self.best.steps).contains(&broke) && self.attempt(broke, self.best.kept.clone()) {
            return;
        }
        let mut cut = self.best.steps / 2;
        while cut > 0 && broke > self.best.steps && self.best.runs < RUNS_MAX {
            if !self.attempt(self.best.steps - cut, self.best.kept.clone()) {
                cut /= 2;
            }
            cut = cut.min(self.best.steps / 2);
        }
    }

    /// True if some chunk of `size` injections is not needed.
    fn without_a_chunk(&mut self, size: usize) -> bool {
        let kept = self.best.kept.clone();
        // From the end: what comes late is the most likely to be superfluous.
        (0..kept.len().div_ceil(size)).rev().any(|chunk| {
            let (from, to) = (chunk * size, ((chunk + 1) * size).min(kept.len()));
            let rest = [&kept[..from], &kept[to..]].concat();
            self.best.runs < RUNS_MAX && self.attempt(self.best.steps, rest)
        })
    }
}

/// Writes numbers as `3,5-9`.
#[must_use]
pub fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let words = runs.iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") });
    words.collect::<Vec<_>>().join(",")
}

/// Reads numbers as [`ranges`] writes them.
///
/// # Errors
/// Says which part is none.
pub fn parse_ranges(text: &str) -> Result<BTreeSet<u32>, String> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number =
            |text: &str| text.parse::<u32>().map_err(|_| format!("{part:?} is no number and no range of them"));
        let (from, to) = (number(from)?, number(to)?);
        if to < from || to - from > 1_000_000 {
            return Err(format!("the range {part:?} is empty or too long"));
        }
        numbers.extend(from..=to);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails (invariant 1, at step 40) if injections 3 and 17 happen and the run is long enough for both.
    fn fake(steps: u64, skip: &BTreeSet<u32>) -> Option<(Violation, u32)> {
        let injections = (steps / 2).min(50) as u32;
        let happens = |number: u32| number < injections && !skip.contains(&number);
        let violation = Violation { step: 40, invariant: 1, text: String::new() };
        (happens(3) && happens(17)).then_some((violation, injections))
    }

    #[test]
    fn only_what_matters_is_left() {
        let shrunk = shrink_by(&fake, &Options::default(), &|_| ()).expect("fails");
        assert_eq!((shrunk.kept, shrunk.steps), (vec![3, 17], 40));
        assert!(shrunk.runs < 100, "{} runs", shrunk.runs);
        assert_eq!(shrink_by(&|_, _| None, &Options::default(), &|_| ()), None);
    }

    #[test]
    fn ranges_are_read_as_they_are_written() {
        let numbers: BTreeSet<u32> = [3, 5, 6, 7, 9, 11, 12].into();
        assert_eq!(ranges(&numbers), "3,5-7,9,11-12");
        assert_eq!(parse_ranges("3,5-7,9,11-12"), Ok(numbers));
        assert_eq!(parse_ranges(""), Ok(BTreeSet::new()));
        assert!(parse_ranges("3,x").is_err() && parse_ranges("9-3").is_err());
    }
}
