//! Claim: whatever is lost, repeated, delayed, swapped or restarted between producers and a partition, each record is
//! in the log once, in its producer's order, acknowledged at its place; and once the network heals, nobody is stuck.
//! Each rule of [`Rule`] is needed: without it some seed fails.

use rafka_model::{BatchBuilder, Compression};

use super::*;
use crate::samples::Random;

/// As many as Kafka's producers have under way at once.
const IN_FLIGHT: usize = PRODUCER_BATCHES_KEPT;
const BATCHES: usize = 30;

/// A batch of one incarnation of a producer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Sent {
    producer: usize,
    /// Which batch of the producer.
    number: usize,
    header: BatchHeader,
}

/// One incarnation: a producer id in one epoch.
#[derive(Debug)]
struct Incarnation {
    id: i64,
    epoch: i16,
    batches: Vec<Sent>,
    /// Offset at which each batch was acknowledged.
    acknowledged: Vec<Option<Offset>>,
    fenced: bool,
    /// The partition knew the producer id when this incarnation began.
    known: bool,
}

impl Incarnation {
    fn new(random: &mut Random, producer: usize, (id, epoch): (i64, i16), known: bool) -> Self {
        // Only a producer that is not known may begin elsewhere than at 0.
        let near_the_end = epoch == 0 && random.one_in(2);
        let mut sequence = if near_the_end { i32::MAX - random.below(40) as i32 } else { 0 };
        let mut batches = Vec::new();
        for number in 0..BATCHES {
            let records = 1 + random.below(3) as i32;
            let mut builder = BatchBuilder::new(Compression::None).idempotent(ProducerId(id), epoch, sequence);
            (0..records).for_each(|_| builder.push(Timestamp(0), None, None, &[]));
            batches.push(Sent { producer, number, header: *builder.build().header() });
            sequence = advance(sequence, records);
        }
        Self { id, epoch, acknowledged: vec![None; batches.len()], batches, fenced: false, known }
    }

    /// What it would send now, or again: the first batches that are not acknowledged. Before anything of it is known to
    /// the partition there is no order to keep, so a first batch travels alone.
    fn window(&self) -> &[Sent] {
        let Some(first) = self.acknowledged.iter().position(Option::is_none).filter(|_| !self.fenced) else {
            return &[];
        };
        let width = if first == 0 && !self.known { 1 } else { IN_FLIGHT };
        &self.batches[first..(first + width).min(self.batches.len())]
    }
}

struct Simulation {
    random: Random,
    rules: Rules,
    states: States,
    log: Vec<Sent>,
    end: i64,
    snapshots: Vec<(usize, Vec<u8>)>,
    producers: Vec<Incarnation>,
    network: Vec<Sent>,
}

impl Simulation {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let (mut random, rules) = (Random(seed), Rules { broken });
        let producers = (0..3).map(|id| Incarnation::new(&mut random, id, (id as i64, 0), false)).collect();
        let states = States { rules, ..States::default() };
        let (log, snapshots, network) = Default::default();
        Self { random, rules, states, log, end: 0, snapshots, producers, network }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..1_500 {
            match self.random.below(100) {
                0..40 => self.send(),
                40..85 => self.deliver(8)?,
                85..91 => self.snapshots.push((self.log.len(), self.states.encode())),
                91..96 => self.restart()?,
                96..97 if self.producers.len() < 6 => self.begin_an_epoch(),
                _ => drop((!self.network.is_empty()).then(|| self.network.swap_remove(0))),
            }
        }
        // Healed: nothing is lost any more.
        for _ in 0..2_000 {
            self.send();
            self.deliver(0)?;
        }
        self.judge()
    }

    fn send(&mut self) {
        let producer = self.random.below(self.producers.len() as u64) as usize;
        let window = self.producers[producer].window().to_vec();
        self.network.extend(window);
    }

    /// Some message arrives; one in `losses` answers is lost, and some messages arrive again later.
    fn deliver(&mut self, losses: u64) -> Result<(), String> {
        if self.network.is_empty() {
            return Ok(());
        }
        let sent = self.network.swap_remove(self.random.below(self.network.len() as u64) as usize);
        if losses > 0 && self.random.one_in(4) {
            self.network.push(sent);
        }
        let answer = match self.states.check(&sent.header) {
            Ok(Verdict::Append) => Some(self.append(sent)),
            Ok(Verdict::Duplicate(batch)) => Some(batch.base_offset),
            Err(Refusal::OldEpoch { .. }) => {
                self.producers[sent.producer].fenced = true;
                None
            }
            Err(Refusal::OutOfOrder { .. }) => None,
        };
        let Some(offset) = answer.filter(|_| losses == 0 || !self.random.one_in(losses)) else { return Ok(()) };
        let known = &mut self.producers[sent.producer].acknowledged[sent.number];
        if known.is_some_and(|known| known != offset) {
            return Err(format!("{sent:?} was acknowledged at {known:?} and at {offset}"));
        }
        *known = Some(offset);
        Ok(())
    }

    fn append(&mut self, mut sent: Sent) -> Offset {
        sent.header.base_offset = Offset(self.end);
        self.end += i64::from(sent.header.last_offset_delta) + 1;
        self.states.record(&sent.header, Timestamp(0));
        self.log.push(sent);
        sent.header.base_offset
    }

    /// The process dies: the newest snapshots may be lost with it, the log is not.
    fn restart(&mut self) -> Result<(), String> {
        let kept = self.random.below(self.snapshots.len() as u64 + 1) as usize;
        self.snapshots.truncate(kept.max(self.snapshots.len().saturating_sub(2)));
        let (from, decoded) = match self.snapshots.last() {
            Some((from, bytes)) => (*from, States::decode(bytes).ok_or("a snapshot does not decode")?),
            None => (0, States::default()),
        };
        self.states = States { rules: self.rules, ..decoded };
        self.log[from..].iter().for_each(|sent| self.states.record(&sent.header, Timestamp(0)));
        Ok(())
    }

    /// A new incarnation takes a producer id over; the old one goes on until it is told.
    fn begin_an_epoch(&mut self) {
        let id = self.random.below(3) as i64;
        let epoch = self.producers.iter().filter(|other| other.id == id).map(|other| other.epoch).max();
        let (epoch, known) = (epoch.unwrap_or(0) + 1, self.states.known().any(|known| known.id.0 == id));
        let next = Incarnation::new(&mut self.random, self.producers.len(), (id, epoch), known);
        self.producers.push(next);
    }

    fn judge(&self) -> Result<(), String> {
        for (i, producer) in self.producers.iter().enumerate() {
            let mine: Vec<_> = self.log.iter().filter(|sent| sent.producer == i).collect();
            if let Some((place, sent)) = mine.iter().enumerate().find(|(place, sent)| *place != sent.number) {
                return Err(format!("batch {} of {i} is in the log as its number {place}", sent.number));
            }
            for (number, offset) in producer.acknowledged.iter().enumerate() {
                let there = mine.get(number).map(|sent| sent.header.base_offset);
                if offset.is_some_and(|offset| Some(offset) != there) {
                    return Err(format!("batch {number} of {i} was acknowledged at {offset:?}, it is at {there:?}"));
                }
            }
            let newest = !self.producers.iter().any(|other| other.id == producer.id && other.epoch > producer.epoch);
            if newest && producer.acknowledged.iter().any(Option::is_none) {
                return Err(format!("producer {i} is stuck"));
            }
        }
        for id in 0..3 {
            let epochs = self.log.iter().filter(|sent| sent.header.producer_id == ProducerId(id));
            if !epochs.map(|sent| sent.header.producer_epoch).is_sorted() {
                return Err(format!("an old epoch of producer id {id} wrote after a new one"));
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
    batches(seed, broken).map(drop)
}

/// How many batches are in the log in the end.
fn batches(seed: u64, broken: Option<Rule>) -> Result<usize, String> {
    let mut simulation = Simulation::new(seed, broken);
    simulation.run()?;
    Ok(simulation.log.len())
}

#[test]
fn every_record_is_in_the_log_once_and_in_order() {
    let mut total = 0;
    for seed in 0..150 {
        total += batches(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(total > 150 * 3 * BATCHES, "only {total} batches: the simulation does too little");
}

#[test]
fn every_rule_is_needed() {
    for rule in Rule::ALL {
        assert!(
            (0..50).any(|seed| simulate(seed, Some(*rule)).is_err()),
            "{rule:?} can be dropped without anyone noticing"
        );
    }
}
