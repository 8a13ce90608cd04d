//! Claim: as replicas of a partition follow each other, lose what was not committed, and start again, each record of an
//! idempotent producer that was acknowledged stays in the log once and in order, and nobody is stuck, if the caller does
//! three things. Each is needed: without it some seed fails.

use rafka_model::{BatchBuilder, Compression};

use super::*;
use crate::samples::Random;

/// What whoever drives [`States`] owes them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Duty {
    /// A follower records what it appends, as a leader does.
    FollowersRecord,
    /// After a truncation the states are built again from a snapshot that is not behind the end, and the log.
    TruncationsRebuild,
    /// A repetition is acknowledged once the high watermark has passed it, as the first time.
    RepetitionsWait,
}

impl Duty {
    /// Every duty, for mutation runs.
    pub const ALL: &'static [Self] = &[Self::FollowersRecord, Self::TruncationsRebuild, Self::RepetitionsWait];
}

#[derive(Clone, Debug, Default)]
struct Replica {
    log: Vec<BatchHeader>,
    states: States,
    snapshots: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug)]
struct Producer {
    batches: Vec<BatchHeader>,
    acknowledged: Vec<bool>,
}

struct Simulation {
    random: Random,
    neglected: Option<Duty>,
    replicas: [Replica; 2],
    leader: usize,
    /// Batches that both replicas have.
    committed: usize,
    producers: Vec<Producer>,
    /// Answers that wait for the high watermark: producer, its batch, and the place in the log.
    waiting: Vec<(usize, usize, usize)>,
}

impl Simulation {
    fn new(seed: u64, neglected: Option<Duty>) -> Self {
        let producer = |id: i64| {
            let batch = |sequence: i32| {
                let mut builder = BatchBuilder::new(Compression::None).idempotent(ProducerId(id), 0, sequence);
                builder.push(Timestamp(0), None, None, &[]);
                *builder.build().header()
            };
            Producer { batches: (0..40).map(batch).collect(), acknowledged: vec![false; 40] }
        };
        let producers = (0..3).map(producer).collect();
        let (replicas, waiting) = Default::default();
        Self { random: Random(seed), neglected, replicas, leader: 0, committed: 0, producers, waiting }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..800 {
            match self.random.below(100) {
                0..50 => self.produce(false)?,
                50..80 => self.replicate(),
                80..88 => self.fail_over(),
                88..94 => self.snapshot(),
                _ => self.restart(),
            }
            self.judge()?;
        }
        for _ in 0..400 {
            self.produce(true)?;
            self.replicate();
        }
        self.judge()?;
        match self.producers.iter().position(|producer| producer.acknowledged.contains(&false)) {
            Some(producer) => Err(format!("producer {producer} is stuck")),
            None => Ok(()),
        }
    }

    fn does(&self, duty: Duty) -> bool {
        self.neglected != Some(duty)
    }

    /// Some producer sends some of its first batches that are not acknowledged, in order once all is well.
    fn produce(&mut self, healed: bool) -> Result<(), String> {
        let who = self.random.below(3) as usize;
        let Some(first) = self.producers[who].acknowledged.iter().position(|done| !done) else { return Ok(()) };
        // Nothing of it is known yet: there is no order to keep, so it travels alone.
        let width = if first == 0 || healed { 1 } else { PRODUCER_BATCHES_KEPT as u64 };
        let number = (first + self.random.below(width) as usize).min(39);
        let batch = self.producers[who].batches[number];
        let leader = &mut self.replicas[self.leader];
        match leader.states.check(&batch) {
            Ok(Verdict::Append) => {
                let header = BatchHeader { base_offset: Offset(leader.log.len() as i64), ..batch };
                leader.states.record(&header, Timestamp(0));
                self.waiting.push((who, number, leader.log.len()));
                leader.log.push(header);
            }
            Ok(Verdict::Duplicate(found)) => {
                let place = found.base_offset.0 as usize;
                if self.does(Duty::RepetitionsWait) {
                    self.waiting.push((who, number, place));
                } else {
                    self.producers[who].acknowledged[number] = true;
                }
            }
            Err(Refusal::OutOfOrder { .. }) => {}
            Err(refusal) => return Err(refusal.to_string()),
        }
        self.answer();
        Ok(())
    }

    /// The follower copies a batch, after it has cut off what the leader does not have.
    fn replicate(&mut self) {
        let [a, b] = &mut self.replicas;
        let (leader, follower) = if self.leader == 0 { (a, b) } else { (b, a) };
        let same = leader.log.iter().zip(&follower.log).take_while(|(a, b)| a == b).count();
        if same < follower.log.len() {
            follower.log.truncate(same);
            follower.snapshots.retain(|(end, _)| *end <= same);
            if self.neglected != Some(Duty::TruncationsRebuild) {
                follower.rebuild();
            }
        }
        if let Some(batch) = leader.log.get(follower.log.len()) {
            follower.log.push(*batch);
            if self.neglected != Some(Duty::FollowersRecord) {
                follower.states.record(batch, Timestamp(0));
            }
        }
        self.committed = self.committed.max(self.replicas[1 - self.leader].log.len());
        self.answer();
    }

    fn answer(&mut self) {
        let (committed, random) = (self.committed, &mut self.random);
        for (who, number, _) in self.waiting.extract_if(.., |(_, _, place)| *place < committed) {
            // Some answers are lost.
            self.producers[who].acknowledged[number] |= !random.one_in(4);
        }
    }

    /// The follower leads: it has all that is committed. Whoever waits is told that this is not the leader any more.
    fn fail_over(&mut self) {
        self.leader = 1 - self.leader;
        self.waiting.clear();
    }

    fn snapshot(&mut self) {
        let replica = &mut self.replicas[self.random.below(2) as usize];
        replica.snapshots.push((replica.log.len(), replica.states.encode()));
    }

    fn restart(&mut self) {
        let replica = self.random.below(2) as usize;
        if replica == self.leader {
            self.waiting.clear();
        }
        self.replicas[replica].rebuild();
    }

    fn judge(&self) -> Result<(), String> {
        let log = &self.replicas[self.leader].log;
        for (id, producer) in self.producers.iter().enumerate() {
            let mine: Vec<_> = log.iter().filter(|batch| batch.producer_id.0 == id as i64).collect();
            if let Some((i, batch)) = mine.iter().enumerate().find(|(i, batch)| batch.base_sequence != *i as i32) {
                return Err(format!("batch {} of {id} is in the log as its number {i}", batch.base_sequence));
            }
            if producer.acknowledged.iter().skip(mine.len()).any(|done| *done) {
                return Err(format!("an acknowledged batch of {id} is not in the log: it has {}", mine.len()));
            }
        }
        Ok(())
    }
}

impl Replica {
    fn rebuild(&mut self) {
        let newest = self.snapshots.last().and_then(|(end, bytes)| Some((*end, States::decode(bytes)?)));
        let (from, mut states) = newest.unwrap_or_default();
        self.log[from..].iter().for_each(|batch| states.record(batch, Timestamp(0)));
        self.states = states;
    }
}

/// Runs one seed, with all duties done or one neglected.
///
/// # Errors
/// What went wrong, in words.
pub fn simulate(seed: u64, neglected: Option<Duty>) -> Result<(), String> {
    Simulation::new(seed, neglected).run()
}

#[test]
fn acknowledged_batches_survive_a_change_of_leader_once_and_in_order() {
    for seed in 0..100 {
        simulate(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn every_duty_is_needed() {
    for duty in Duty::ALL {
        assert!((0..50).any(|seed| simulate(seed, Some(*duty)).is_err()), "{duty:?} can be neglected");
    }
}
