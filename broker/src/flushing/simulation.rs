//! Claim: every log is clean in time as long as the budget can do it, whoever waits waits for no stranger, the budget is
//! kept, and no append is forgotten. Each rule of [`Rule`] is needed: without it some seed fails.

use super::*;
use crate::samples::Random;

const LOGS: usize = 60;
const DELAY_MS: u64 = 500;
const PER_SECOND: u32 = 100;
/// A sync takes this long, at most.
const SYNC_MS: u64 = 8;
const ASKED_THREADS: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Log {
    appended: u64,
    flushed: u64,
    /// When the oldest dirty record was appended, and the oldest that somebody waits for.
    dirty_since: Option<u64>,
    waiting_since: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    log: usize,
    covers: u64,
    began: u64,
    ends: u64,
}

struct Simulation {
    random: Random,
    flushing: Flushing<usize, usize>,
    logs: Vec<Log>,
    asked: Vec<Running>,
    due: Option<Running>,
    begun_due: VecDeque<u64>,
    now: u64,
    /// More is written than the budget can sync.
    overload: bool,
}

impl Simulation {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let mut random = Random(seed);
        let config = Config { flushes_per_second: PER_SECOND, linger: Duration::ZERO };
        let overload = random.one_in(3);
        let logs = vec![Log::default(); if overload { 4 * LOGS } else { LOGS / 2 }];
        let flushing = Flushing::with_rules(config, Rules { broken });
        let (asked, due, begun_due) = Default::default();
        Self { random, flushing, logs, asked, due, begun_due, now: 0, overload }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_millis(ms))
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..4_000 {
            for _ in 0..self.random.below(4) {
                self.append();
            }
            self.tick()?;
        }
        for _ in 0..6_000 {
            self.tick()?;
        }
        match self.logs.iter().position(|log| log.flushed < log.appended) {
            Some(log) => Err(format!("log {log} stays dirty: {:?}", self.logs[log])),
            None => Ok(()),
        }
    }

    fn append(&mut self) {
        let id = self.random.below(self.logs.len() as u64) as usize;
        let log = &mut self.logs[id];
        log.appended += 1;
        log.dirty_since.get_or_insert(self.now);
        if id.is_multiple_of(8) {
            log.waiting_since.get_or_insert(self.now);
            self.flushing.ask(id, id, Self::at(self.now));
        } else {
            self.flushing.later(id, id, Self::at(self.now + DELAY_MS));
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        let (ended, running) = self.asked.iter().partition(|running: &&Running| running.ends <= self.now);
        self.asked = running;
        let ended: Vec<Running> = ended;
        ended.into_iter().for_each(|running| self.end(running));
        if let Some(running) = self.due.take_if(|running| running.ends <= self.now) {
            self.end(running);
        }
        while self.asked.len() < ASKED_THREADS {
            let Next::Flush(log) = self.flushing.next_asked(Self::at(self.now)) else { break };
            let running = self.begin(log);
            self.asked.push(running);
        }
        while self.due.is_none() {
            let Next::Flush(log) = self.flushing.next_due(Self::at(self.now)) else { break };
            self.begun_due.push_back(self.now);
            // Some disks are faster than the clock of this simulation.
            let running = self.begin(log);
            if self.random.one_in(2) {
                self.end(running);
            } else {
                self.due = Some(running);
            }
        }
        self.judge()?;
        self.now += 1;
        Ok(())
    }

    fn begin(&mut self, log: usize) -> Running {
        let ends = self.now + 1 + self.random.below(SYNC_MS);
        let covers = self.logs[log].appended;
        Running { log, covers, began: self.now, ends }
    }

    fn end(&mut self, Running { log, covers, began, .. }: Running) {
        let log = &mut self.logs[log];
        log.flushed = log.flushed.max(covers);
        // What came since it began may still be dirty: as old as that at most.
        let rest = (log.flushed < log.appended).then_some(began);
        log.dirty_since = log.dirty_since.and(rest.max(log.dirty_since.filter(|_| rest.is_some())));
        log.waiting_since = log.waiting_since.and(rest.max(log.waiting_since.filter(|_| rest.is_some())));
    }

    fn judge(&mut self) -> Result<(), String> {
        while self.begun_due.front().is_some_and(|begun| begun + 1_000 <= self.now) {
            self.begun_due.pop_front();
        }
        if self.begun_due.len() > PER_SECOND as usize + 1 {
            return Err(format!("{} syncs began within a second", self.begun_due.len()));
        }
        // Logs that all are dirty all the time have a turn each.
        let turn = self.logs.len() as u64 * 1_000 / u64::from(PER_SECOND) + self.logs.len() as u64 * SYNC_MS;
        let late_ms = DELAY_MS + if self.overload { turn } else { 250 };
        let fsync_logs = self.logs.len() as u64 / 8 + 1;
        let wait_ms = (fsync_logs / ASKED_THREADS as u64 + 3) * SYNC_MS;
        for (id, log) in self.logs.iter().enumerate() {
            if let Some(since) = log.dirty_since.filter(|since| since + late_ms < self.now) {
                return Err(format!("log {id} has been dirty since {since}, now {}", self.now));
            }
            if let Some(since) = log.waiting_since.filter(|since| since + wait_ms < self.now) {
                return Err(format!("somebody waits for log {id} since {since}, now {}", self.now));
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
fn logs_are_clean_in_time() {
    for seed in 0..40 {
        simulate(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn every_rule_is_needed() {
    for rule in Rule::ALL {
        assert!(
            (0..20).any(|seed| simulate(seed, Some(*rule)).is_err()),
            "{rule:?} can be dropped without anyone noticing"
        );
    }
}
