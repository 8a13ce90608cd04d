//! Three nodes, and what is under way between them.

mod checks;
mod faults;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rafka_model::{Chunks, Durability, LeaderEpoch, Monotonic, NodeId, Offset, PartitionEpoch};

use super::controller::{Controller, MIN_INSYNC, REPLICAS};
use crate::ErrorCode;
use crate::replication::samples::{AT, History};
use crate::replication::{
    AlterPartition, Config, Election, Epochs, Fetched, FetchedPartition, Fetcher, Follower, Identity, Input, Leader,
    Output, Position, ReplicaFetch, ReplicaFetched, Rules, Step, Ticket, Verdict,
};
use crate::request::Acks;
use crate::samples::Random;

/// A process, and what it has on disk.
#[derive(Clone, Debug)]
struct Broker {
    me: Identity,
    is_up: bool,
    /// Entries of the metadata that it has seen.
    seen: usize,
    log: History,
    values: Vec<u64>,
    flushed: usize,
    /// High watermark on disk.
    checkpoint: Offset,
    leader: Option<Leader>,
    follower: Follower,
    /// By whom they ask.
    fetchers: BTreeMap<NodeId, Fetcher>,
    /// Produces that wait: their offset and value.
    waiting: BTreeMap<Ticket, (i64, u64)>,
    /// A power cut took its records, and it has not been in sync since.
    unclean: bool,
}

/// On its way.
#[derive(Clone, Debug)]
enum Message {
    Fetch {
        to: NodeId,
        fetch: ReplicaFetch,
    },
    Fetched {
        to: NodeId,
        from: NodeId,
        fetched: ReplicaFetched,
    },
    Alter(AlterPartition),
    Altered {
        to: NodeId,
        epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        result: Result<PartitionEpoch, ErrorCode>,
    },
}

pub(super) struct World {
    random: Random,
    /// How rarely something bad happens.
    calm: u64,
    rules: Rules,
    config: Config,
    now: Monotonic,
    controller: Controller,
    brokers: BTreeMap<NodeId, Broker>,
    net: Vec<Message>,
    late: Vec<Message>,
    next_value: u64,
    /// By offset.
    acked: BTreeMap<i64, u64>,
    pub(super) acknowledged: usize,
    /// What consumers have read, by offset.
    consumed: BTreeMap<i64, u64>,
    /// The latest epoch in which a consumer was told the last offset, and which.
    told: (LeaderEpoch, Offset),
    /// Epoch of the last unclean election: what earlier leaders say is not held against anybody.
    since: LeaderEpoch,
    /// High watermarks of leaders, by epoch.
    marks: BTreeMap<LeaderEpoch, Offset>,
    /// Whose high watermark moved: consumers read there.
    readers: Vec<NodeId>,
    /// When a leader last heard the controller or a follower.
    contacts: BTreeMap<NodeId, Monotonic>,
    pub(super) trace: Vec<String>,
}

type Outcome = Result<(), String>;

impl World {
    pub(super) fn new(seed: u64, durability: Durability, rules: Rules) -> Self {
        let controller = Controller::new();
        let state = &controller.last().state;
        let broker = |id: NodeId| {
            let me = Identity { node: id, broker_epoch: controller.last().registrations[&id] };
            Broker {
                me,
                is_up: true,
                seen: 0,
                log: History::default(),
                values: Vec::new(),
                flushed: 0,
                checkpoint: Offset::ZERO,
                leader: None,
                follower: Follower::with_rules(me, AT, state, Offset::ZERO, rules),
                fetchers: BTreeMap::new(),
                waiting: BTreeMap::new(),
                unclean: false,
            }
        };
        let brokers = REPLICAS.iter().map(|id| (*id, broker(*id))).collect();
        let (lag_max, session) = (Duration::from_secs(10), Duration::from_secs(6));
        Self {
            random: Random(seed),
            calm: 1 << (seed % 5),
            rules,
            config: Config { durability, min_insync: MIN_INSYNC, lag_max, session },
            now: Monotonic::default(),
            controller,
            brokers,
            net: Vec::new(),
            late: Vec::new(),
            next_value: 0,
            acked: BTreeMap::new(),
            acknowledged: 0,
            consumed: BTreeMap::new(),
            told: (LeaderEpoch(0), Offset::ZERO),
            since: LeaderEpoch(0),
            marks: BTreeMap::new(),
            readers: Vec::new(),
            contacts: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    /// One thing happens.
    pub(super) fn step(&mut self) -> Outcome {
        let id = REPLICAS[self.random.below(3) as usize];
        self.now = self.now.plus(Duration::from_millis(self.random.below(30)));
        match self.random.below(100) {
            0..48 => self.deliver(),
            48..53 => self.deliver_again(),
            53..60 => self.fetch(id),
            60..68 => self.produce(id)?,
            68..71 => self.flush(id),
            71..80 => (0..=self.random.below(4)).for_each(|_| self.learn(id)),
            80..84 => self.tick(id),
            84..88 => self.consume(id)?,
            88..95 => self.serve_again(id),
            95 if self.random.one_in(self.calm) => {
                let leader = self.controller.last().state.leader.unwrap_or(id);
                let id = if self.random.one_in(2) { leader } else { id };
                self.fence(id);
            }
            96 if self.random.one_in(self.calm) => self.crash(id),
            97 if self.random.one_in(4) => self.elect_uncleanly(),
            98 if self.random.one_in(2) => self.now = self.now.plus(Duration::from_secs(self.random.below(6))),
            99 if self.random.one_in(8) => self.relapse()?,
            _ => self.tick(id),
        }
        for id in std::mem::take(&mut self.readers) {
            self.consume(id)?;
        }
        self.check()
    }

    /// Everything works again: in the end all is as it should be.
    pub(super) fn heal(&mut self) -> Outcome {
        for _ in 0..60 {
            for id in REPLICAS {
                self.serve_again(id);
            }
            // Offline, not wrong: a lone member may have lost its records, and nobody else be certain to have them.
            self.elect_uncleanly();
            for id in REPLICAS {
                (0..40).for_each(|_| self.learn(id));
                self.tick(id);
                self.fetch(id);
                self.flush(id);
                self.fetch(id);
            }
            let messages = std::mem::take(&mut self.net);
            for message in messages {
                self.arrives(message);
                self.check()?;
            }
            self.now = self.now.plus(Duration::from_millis(700));
        }
        let state = &self.controller.last().state;
        let leader = state.leader.ok_or("no leader in the end")?;
        if state.isr.len() < 3 {
            return Err(format!("in the end in sync: {:?}", state.isr));
        }
        let values = &self.brokers[&leader].values;
        match self.brokers.values().all(|broker| broker.values == *values) {
            true => Ok(()),
            false => Err("in the end the logs differ".to_owned()),
        }
    }

    fn note(&mut self, words: impl FnOnce() -> String) {
        self.trace.push(words());
    }

    fn arrives(&mut self, message: Message) {
        self.note(|| format!("{message:?}"));
        match message {
            Message::Fetch { to, fetch } => self.answer(to, &fetch),
            Message::Fetched { to, from, fetched } => self.take(to, from, &fetched),
            Message::Alter(proposal) => {
                let result = self.controller.alter(&proposal);
                if result.is_ok() {
                    proposal.isr.iter().for_each(|(member, _)| self.catches_up(*member));
                }
                let (to, epoch) = (proposal.leader, proposal.leader_epoch);
                self.net.push(Message::Altered { to, epoch, partition_epoch: proposal.partition_epoch, result });
            }
            Message::Altered { to, epoch, partition_epoch, result } => {
                if self.brokers[&to].leader.as_ref().is_some_and(|leader| leader.epoch() == epoch) {
                    self.input(to, Input::AlterAnswered { partition_epoch, result });
                }
            }
        }
    }

    fn broker(&mut self, id: NodeId) -> &mut Broker {
        self.brokers.get_mut(&id).expect("one of three")
    }

    fn input(&mut self, id: NodeId, input: Input) {
        let mut out = Vec::new();
        if let Some(leader) = &mut self.broker(id).leader {
            leader.step(input, &mut out);
        }
        self.carry_out(id, out);
    }

    fn carry_out(&mut self, id: NodeId, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Acknowledge(ticket) => {
                    let since = self.since;
                    let broker = self.broker(id);
                    let waited = broker.waiting.remove(&ticket);
                    let counts = broker.leader.as_ref().is_some_and(|leader| leader.epoch() >= since);
                    let Some((offset, value)) = waited.filter(|_| counts) else { continue };
                    self.note(|| format!("{id} acknowledges {value} at {offset}"));
                    self.acked.insert(offset, value);
                    self.acknowledged += 1;
                }
                Output::Refuse(ticket, _) => drop(self.broker(id).waiting.remove(&ticket)),
                Output::Propose(proposal) => self.net.push(Message::Alter(proposal)),
                Output::Resign => self.broker(id).leader = None,
                Output::AdvanceHighWatermark(_) => self.readers.push(id),
            }
        }
    }

    fn fetch(&mut self, id: NodeId) {
        let (now, rules) = (self.now, self.rules);
        let broker = self.broker(id);
        let Some(to) = broker.follower.leader().filter(|_| broker.is_up && broker.leader.is_none()) else { return };
        let me = broker.me;
        let fetcher = broker.fetchers.entry(to).or_insert_with(|| Fetcher::with_rules(me, 1, rules));
        fetcher.timed_out(now);
        if fetcher.is_waiting() {
            return;
        }
        let partition = broker.follower.request(&broker.log, Offset(broker.flushed as i64), 1 << 20);
        let fetch = fetcher.begin(now, partition.into_iter().collect());
        self.net.push(Message::Fetch { to, fetch });
    }

    fn answer(&mut self, id: NodeId, fetch: &ReplicaFetch) {
        let (now, most) = (self.now, 1 + self.random.below(4) as usize);
        let broker = self.broker(id);
        let Some(leader) = broker.leader.as_mut().filter(|_| broker.is_up) else { return };
        let (mut out, partition) = (Vec::new(), fetch.partitions[0]);
        let verdict = leader.fetched(fetch, &partition, &broker.log, now, &mut out);
        let outcome = match verdict {
            Verdict::Serve { high_watermark, log_start } => {
                let from = (partition.offset.0 as usize).min(broker.values.len());
                let to = (from + most).min(broker.values.len());
                let records = broker.log.epochs[from..to].iter().zip(&broker.values[from..to]);
                let mut batches = BytesMut::new();
                batches.put_u64(from as u64);
                for (epoch, value) in records {
                    batches.put_i32(*epoch);
                    batches.put_u64(*value);
                }
                Some(Fetched::Records { high_watermark, log_start, batches: Chunks::from(batches.freeze()) })
            }
            Verdict::Diverging { epoch, end } => Some(Fetched::Diverging { epoch, end }),
            Verdict::Behind { log_start } => Some(Fetched::Behind { log_start }),
            Verdict::Refused(code) => Some(Fetched::Refused(code)),
            Verdict::Ignored => None,
        };
        let leader_epoch = leader.epoch();
        if !matches!(verdict, Verdict::Refused(_) | Verdict::Ignored) {
            self.contacts.insert(id, now);
        }
        let partition = |outcome| FetchedPartition { at: AT, leader_epoch, outcome };
        let partitions = outcome.map(partition).into_iter().collect();
        let fetched = ReplicaFetched { broker_epoch: fetch.broker_epoch, request: fetch.request, partitions };
        self.carry_out(id, out);
        self.net.push(Message::Fetched { to: fetch.replica, from: id, fetched });
    }

    fn take(&mut self, id: NodeId, from: NodeId, fetched: &ReplicaFetched) {
        let broker = self.broker(id);
        let heard = broker.fetchers.get_mut(&from).is_some_and(|fetcher| fetcher.answered(fetched));
        if !broker.is_up || !heard {
            return;
        }
        for partition in &fetched.partitions {
            match broker.follower.answered(partition, &broker.log) {
                Step::Append { .. } => {
                    let Fetched::Records { batches, .. } = &partition.outcome else { continue };
                    broker.append(batches.clone().into_bytes());
                    broker.follower.appended(broker.log.log_end());
                }
                Step::Truncate(to) | Step::Restart(to) => broker.truncate(to.0 as usize),
                Step::Wait(_) | Step::Ignore => {}
            }
        }
        if !self.random.one_in(4) {
            self.fetch(id);
        }
    }

    fn produce(&mut self, id: NodeId) -> Outcome {
        let (now, ticket, value) = (self.now, Ticket(self.next_value), self.next_value);
        let acks = if self.random.one_in(4) { Acks::Leader } else { Acks::All };
        let (contact, session) = (self.contacts.get(&id).copied().unwrap_or_default(), self.config.session);
        let broker = self.broker(id);
        let Some(leader) = broker.leader.as_ref().filter(|_| broker.is_up) else { return Ok(()) };
        if leader.check_acks(acks, now).is_err() {
            return Ok(());
        }
        if now.since(contact) >= session {
            return Err(format!("lease: {id} takes a produce, and has heard nobody since {contact:?}"));
        }
        broker.log.epochs.push(leader.epoch().0);
        broker.values.push(value);
        let next = broker.log.log_end();
        if acks == Acks::All {
            broker.waiting.insert(ticket, (next.0 - 1, value));
        }
        self.next_value += 1;
        self.note(|| format!("{id} appends {value} at {}", next.0 - 1));
        self.input(id, Input::Appended(next));
        if acks == Acks::All {
            self.input(id, Input::Wait { ticket, acks, next, deadline: now.plus(Duration::from_secs(30)) });
        }
        Ok(())
    }

    fn flush(&mut self, id: NodeId) {
        let broker = self.broker(id);
        if broker.is_up {
            broker.flushed = broker.values.len();
            let end = broker.log.log_end();
            broker.checkpoint = broker.high_watermark();
            self.input(id, Input::Flushed(end));
        }
    }

    /// The next entry of the metadata arrives.
    fn learn(&mut self, id: NodeId) {
        let (now, config, rules) = (self.now, self.config, self.rules);
        let broker = &self.brokers[&id];
        if !broker.is_up || broker.seen >= self.controller.log.len() {
            return;
        }
        let entry = self.controller.log[broker.seen].clone();
        self.broker(id).seen += 1;
        self.input(id, Input::Members(entry.members.clone()));
        self.input(id, Input::Changed(entry.state.clone()));
        let broker = self.broker(id);
        broker.follower.change(&entry.state);
        // What was committed before this process registered is not about it.
        let is_current = entry.registrations[&id] == broker.me.broker_epoch;
        if entry.state.leader == Some(id) && broker.leader.is_none() && is_current {
            let log = Position { end: broker.log.log_end(), flushed: Offset(broker.flushed as i64) };
            let (me, state, members) = (broker.me, &entry.state, entry.members.clone());
            let high_watermark = broker.follower.high_watermark();
            let election = Election { me, at: AT, state, config, members, log, high_watermark, now };
            broker.leader = Some(Leader::with_rules(election, rules));
            self.contacts.insert(id, now);
            self.note(|| format!("{id} leads in {}", entry.state.leader_epoch));
        }
    }

    fn tick(&mut self, id: NodeId) {
        let now = self.now;
        if self.brokers[&id].is_up {
            if self.controller.serves(id) {
                self.contacts.insert(id, now);
                self.input(id, Input::ControllerHeard(now));
            }
            self.input(id, Input::Time(now));
        }
    }
}

impl Broker {
    fn high_watermark(&self) -> Offset {
        let led = self.leader.as_ref().map(Leader::high_watermark);
        led.unwrap_or_default().max(self.follower.high_watermark())
    }

    fn append(&mut self, mut records: Bytes) {
        // As the log does: only at its end.
        if records.get_u64() != self.values.len() as u64 {
            return;
        }
        while records.has_remaining() {
            let (epoch, value) = (records.get_i32(), records.get_u64());
            // And not in an earlier epoch than its last.
            if self.log.epochs.last().is_some_and(|last| *last > epoch) {
                return;
            }
            self.log.epochs.push(epoch);
            self.values.push(value);
        }
    }

    fn truncate(&mut self, to: usize) {
        self.log.epochs.truncate(to);
        self.values.truncate(to);
        self.flushed = self.flushed.min(to);
    }
}
