//! The world: brokers on machines, the quorum, clients and what connects them; and the loop in which it all happens.

use std::collections::BTreeMap;

use rafka_broker::controller::{self, Answer, Command, Controller, Registration};
use rafka_broker::metadata::{Delta, Entry, Image, PartitionState, Role as Part};
use rafka_broker::replication::{self, Identity};
use rafka_model::{BootId, DirectoryId, Durability, MetadataIndex, Monotonic, NodeId, TopicPartition};

use super::admin::Admin;
use super::clients::Client;
use super::dice::Dice;
use super::directory::{Directory, Record};
use super::event::{Address, Event, Message, Passing, Queue};
use super::inject::Climate;
use super::invariants::Truths;
use super::machine::Machine;
use super::mutant::{Driver, Mutant};
use super::network::Network;
use super::process::{Cx, Process};
use super::quorum::Quorum;
use super::tempo::{MS, Tempo};
use super::trace::{Trace, say};
use super::{Options, Outcome};

/// A machine and what runs on it.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) machine: Machine,
    pub(super) process: Option<Process>,
}

/// What everybody may use.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) seed: u64,
    pub(super) now: u64,
    pub(super) queue: Queue,
    pub(super) net: Network,
    pub(super) tempo: Tempo,
    pub(super) trace: Trace,
    pub(super) truths: Truths,
    pub(super) directory: Directory,
    /// What the quorum has committed, and what that leads to.
    pub(super) metadata: Vec<Entry>,
    pub(super) image: Image,
    pub(super) voters: Vec<usize>,
    /// Machines that have joined.
    pub(super) brokers: usize,
    /// Said during an event, sent when it is over.
    pub(super) outbox: Vec<(Address, Message)>,
    pub(super) durability: Durability,
    /// Faults happen.
    pub(super) faulty: bool,
    /// An operator has decided to keep what can be read of damaged logs.
    pub(super) salvages: bool,
    /// An operator has asked for unclean elections.
    pub(super) asks_uncleanly: bool,
    pub(super) features_max: u32,
    pub(super) acknowledged: u64,
    pub(super) consumed: u64,
    broken: Option<Mutant>,
    numbers: u64,
    lives: u64,
    nodes: BTreeMap<NodeId, usize>,
    states: BTreeMap<&'static str, u64>,
    pub(super) faults: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) shared: Shared,
    pub(super) brokers: Vec<Broker>,
    pub(super) quorum: Quorum,
    pub(super) clients: Vec<Client>,
    pub(super) admin: Admin,
    pub(super) climate: Climate,
    pub(super) options: Options,
    pub(super) injections: u32,
    pub(super) steps: u64,
    /// When everything was healed.
    pub(super) healed: Option<u64>,
    /// Rounds of the operator since then.
    pub(super) mended: u32,
    /// The last work was given out.
    pub(super) last: bool,
}

impl Shared {
    /// A number that nobody else has.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn count(&mut self, state: &'static str) {
        *self.states.entry(state).or_default() += 1;
    }

    pub(super) fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub(super) fn breaks(&self, rule: Driver) -> bool {
        self.broken == Some(Mutant::Driver(rule))
    }

    pub(super) fn replication_rules(&self) -> replication::Rules {
        match self.broken {
            Some(Mutant::Replication(rule)) => replication::Rules::without(rule),
            _ => replication::Rules::default(),
        }
    }

    pub(super) fn controller_rules(&self) -> controller::Rules {
        match self.broken {
            Some(Mutant::Controller(rule)) => controller::Rules::without(rule),
            _ => controller::Rules::default(),
        }
    }

    pub(super) fn broker_of(&self, node: NodeId) -> Option<usize> {
        self.nodes.get(&node).copied()
    }

    pub(super) fn registered(&mut self, node: NodeId, directory: usize) {
        self.nodes.insert(node, directory % 100);
    }

    /// The metadata log has this registration, under this name.
    pub(super) fn was_registered(&self, identity: Identity, name: &str) -> bool {
        let entry = self.metadata.get((identity.broker_epoch.0 as usize).wrapping_sub(1));
        let is = |delta: &Delta| {
            matches!(delta, Delta::NodeRegistered(node)
            if node.id == identity.node && node.epoch == identity.broker_epoch && node.peer_id == name)
        };
        entry.is_some_and(|entry| entry.deltas.iter().any(is))
    }

    /// Whom a starting process takes for the controller's host.
    pub(super) fn believed_host(&self) -> usize {
        self.voters.first().copied().unwrap_or(0)
    }

    /// The quorum changed a partition.
    pub(super) fn partition_changed(&mut self, at: TopicPartition) {
        self.truths.suspect(at);
        self.publish(at);
    }

    /// The record of a partition goes to the directory.
    pub(super) fn publish(&mut self, at: TopicPartition) {
        if let Some(state) = self.image.partition(at) {
            let record =
                Record { version: self.image.index, leader: state.leader, epoch: state.leader_epoch, genuine: true };
            self.directory.publish(at, record);
        }
    }
}

impl World {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::of(&[seed, 1]);
        let tempo = Tempo::draw(&mut dice);
        let climate = Climate::draw(&mut dice, options.profile);
        let count = dice.between(3, 6) as usize;
        let voters = if count >= 5 && dice.chance(300) { 5 } else { 3 };
        let config = controller::Config {
            session_ms: tempo.session.as_millis() as u64,
            replication_factor_max: 5,
            dead_node_ms: 8_000,
            leader_balance_ms: 2_000,
            ..controller::Config::default()
        };
        let shared = Shared {
            seed,
            now: 0,
            queue: Queue::default(),
            net: Network::new(dice.draw(), climate.weather),
            tempo,
            trace: Trace::new(options.trace),
            truths: Truths::default(),
            directory: Directory::new(seed),
            metadata: Vec::new(),
            image: Image::default(),
            voters: (0..voters).collect(),
            brokers: count,
            outbox: Vec::new(),
            durability: options.durability,
            faulty: true,
            salvages: false,
            asks_uncleanly: false,
            features_max: 1,
            acknowledged: 0,
            consumed: 0,
            broken: options.broken,
            numbers: 0,
            lives: 0,
            nodes: BTreeMap::new(),
            states: BTreeMap::new(),
            faults: BTreeMap::new(),
        };
        let drifts = dice.chance(500);
        let machine = |i: usize, dice: &mut Dice| {
            let rate = if drifts { dice.between(900, 1_101) } else { 1_000 };
            Broker { machine: Machine::new(rate, i as u64), process: None }
        };
        let mut world = Self {
            shared,
            brokers: (0..count).map(|i| machine(i, &mut dice)).collect(),
            quorum: Quorum::new(seed, config),
            clients: super::inject::clients(seed, &mut dice),
            admin: Admin::new(seed),
            climate,
            options: options.clone(),
            injections: 0,
            steps: 0,
            healed: None,
            mended: 0,
            last: false,
        };
        world.found(config);
        let topics = super::inject::topics(&mut dice, options, count);
        let World { admin, shared, .. } = &mut world;
        topics.into_iter().for_each(|topic| admin.ask(shared, topic, true));
        for broker in 0..count {
            world.shared.queue.plan(dice.below(50 * MS), Event::Start { broker });
        }
        world.shared.queue.plan(0, Event::Vote);
        world.shared.queue.plan(1_500 * MS, Event::Inject(0));
        world
    }

    /// The first broker founds the cluster.
    fn found(&mut self, config: controller::Config) {
        let founder = Registration {
            peer_id: "d0".to_owned(),
            directory: DirectoryId([0; 16]),
            boot: BootId([0; 16]),
            incarnation: [0; 16],
            addresses: Vec::new(),
            lanes: Vec::new(),
            kafka: BTreeMap::new(),
            ops: None,
            rack: None,
            weight_milli: 1000,
            role: Part::Broker,
            version: String::new(),
            unclean: false,
            features_max: 1,
        };
        let mut controller = Controller::new(Image::default(), config, Monotonic(0));
        let command = Command::Found { public_key: [7; 32], join_token_hash: None, feature_level: 1, founder };
        let decision = controller.evaluate(command, Monotonic(0));
        debug_assert!(matches!(decision.answer, Answer::Registered(_)));
        let entries = controller.take_entries();
        self.quorum.apply(&mut self.shared, &self.brokers, &entries);
    }

    pub(super) fn run(mut self) -> Outcome {
        while self.shared.truths.violation.is_none() {
            let Some((time, event)) = self.shared.queue.next() else { break };
            self.shared.now = self.shared.now.max(time);
            self.shared.truths.step = self.steps;
            if self.happen(event) {
                self.steps += 1;
            }
            self.flush_outbox();
            self.check();
            if self.healed.is_none() && self.steps >= self.options.steps {
                self.heal();
            }
            if self.healed.is_some() && self.finished() {
                break;
            }
        }
        self.outcome()
    }

    fn outcome(mut self) -> Outcome {
        if let Some(violation) = &self.shared.truths.violation {
            let text = format!("VIOLATION of invariant {}: {}", violation.invariant, violation.text);
            say!(self.shared, "{text}");
        }
        let Shared { net, mut states, mut faults, acknowledged, consumed, .. } = self.shared;
        faults.insert("message lost", net.lost);
        faults.insert("message doubled", net.doubled);
        states.insert("acknowledged (acks=all)", acknowledged);
        states.insert("records consumed", consumed);
        states.insert("metadata entries", self.shared.metadata.len() as u64);
        states.insert("hops of clients", self.clients.iter().map(|client| client.hops).sum());
        Outcome {
            steps: self.steps,
            violation: self.shared.truths.violation,
            injections: self.injections,
            faults,
            states,
            virtual_ms: self.shared.now / MS,
            trace_hash: self.shared.trace.hash(),
            trace: named(self.shared.trace.lines, &self.shared.metadata),
        }
    }

    /// Lets one event happen; false if it was void.
    fn happen(&mut self, event: Event) -> bool {
        match event {
            Event::Deliver { from, to, message } => return self.deliver(from, to, message),
            Event::Wake { broker, life, token } => {
                return self.with_process(broker, Some(life), Event::Wake { broker, life, token }, |process, cx| {
                    process.wake(cx, token)
                });
            }
            Event::Synced { broker, life, at, flush } => {
                if self.defer(broker) {
                    let time = self.brokers[broker].machine.paused_until;
                    self.shared.queue.plan(time, Event::Synced { broker, life, at, flush });
                    return false;
                }
                return self.enter(broker, Some(life), |process, cx| {
                    process.synced(cx, at, *flush);
                    true
                });
            }
            Event::Start { broker } => return self.start(broker),
            Event::Stop { broker, life } => self.stop(broker, life),
            Event::Die { broker, down } => self.die(broker, down),
            Event::Blow { broker, choice } => self.blow(broker, choice),
            Event::Client { client, token } => return self.clients[client].wake(&mut self.shared, token),
            Event::Admin => self.admin.pump(&mut self.shared),
            Event::Commit { host, term } => self.quorum.commit(&mut self.shared, &self.brokers, host, term),
            Event::Vote => {
                self.quorum.vote(&mut self.shared, &self.brokers);
                return false;
            }
            Event::Inject(number) => self.inject(number),
            Event::Heal(passing) => self.pass(passing),
        }
        true
    }

    fn deliver(&mut self, from: Address, to: Address, message: Message) -> bool {
        self.shared.trace.mix(self.shared.now ^ message.kind() << 3 ^ from.number() << 50 ^ to.number() << 40);
        match to {
            Address::Client(i) => match message {
                Message::Produced(request, result) => self.clients[i].produced(&mut self.shared, request, result),
                Message::Consumed(request, result) => {
                    self.clients[i].consumed(&mut self.shared, request, result.map(|consumed| *consumed));
                }
                _ => {}
            },
            Address::Admin => {
                if let Message::Told(id, told) = message {
                    self.admin.told(&mut self.shared, id, *told);
                    self.admin.pump(&mut self.shared);
                }
            }
            Address::Broker(i) => {
                if self.brokers[i].process.is_none() {
                    return false;
                }
                if self.defer(i) {
                    let time = self.brokers[i].machine.paused_until;
                    self.shared.queue.plan(time, Event::Deliver { from, to, message });
                    return false;
                }
                match message {
                    Message::Ask(id, ask) => {
                        self.quorum.asked(&mut self.shared, &self.brokers, i, (from, id, *ask));
                        self.flush_outbox_from(i);
                    }
                    Message::Pull(has) => {
                        let index = self.offered(has);
                        self.shared.outbox.push((from, Message::Feed(index)));
                        self.flush_outbox_from(i);
                    }
                    message => {
                        return self.enter(i, None, |process, cx| {
                            process.deliver(cx, from, message);
                            true
                        });
                    }
                }
            }
        }
        true
    }

    /// Up to where a voter sends the metadata log to somebody who has it up to `has`: it may be behind itself, and sends a
    /// long log in pieces.
    fn offered(&mut self, has: MetadataIndex) -> MetadataIndex {
        let latest = self.shared.image.index;
        let mut dice = Dice::of(&[self.shared.seed, 11, self.shared.number()]);
        if !self.shared.faulty || has >= latest || !dice.chance(self.climate.short) {
            return latest;
        }
        self.shared.count("metadata in pieces");
        MetadataIndex(has.0 + dice.below(latest.0 - has.0 + 1))
    }

    fn defer(&self, broker: usize) -> bool {
        self.brokers[broker].machine.paused_until > self.shared.now
    }

    fn with_process(
        &mut self,
        broker: usize,
        life: Option<u64>,
        again: Event,
        act: impl FnOnce(&mut Process, &mut Cx<'_>) -> bool,
    ) -> bool {
        if self.defer(broker) {
            let time = self.brokers[broker].machine.paused_until;
            self.shared.queue.plan(time, again);
            return false;
        }
        self.enter(broker, life, act)
    }

    /// Lets a process act; what it says is sent if its machine is still running then.
    fn enter(&mut self, broker: usize, life: Option<u64>, act: impl FnOnce(&mut Process, &mut Cx<'_>) -> bool) -> bool {
        let Broker { machine, process } = &mut self.brokers[broker];
        let Some(process) = process.as_mut().filter(|process| life.is_none_or(|life| life == process.life)) else {
            return false;
        };
        let acted = act(process, &mut Cx { shared: &mut self.shared, machine, me: broker });
        if machine.halts_with.is_some() && machine.faults.halted() {
            self.shared.outbox.clear();
            let power = machine.halts_with.take().flatten();
            say!(self.shared, "b{broker} stops in the middle of something");
            self.kill(broker, power, 300 * MS);
            return true;
        }
        self.flush_outbox_from(broker);
        acted
    }

    pub(super) fn flush_outbox_from(&mut self, broker: usize) {
        let Shared { net, queue, now, outbox, .. } = &mut self.shared;
        for (to, message) in outbox.drain(..) {
            net.send(queue, *now, Address::Broker(broker), to, message);
        }
    }

    /// What was said outside of a process: by controllers on their own.
    fn flush_outbox(&mut self) {
        if !self.shared.outbox.is_empty() {
            let from = self.quorum.leader().unwrap_or(0);
            self.flush_outbox_from(from);
        }
    }

    fn start(&mut self, broker: usize) -> bool {
        if self.brokers[broker].process.is_some() {
            return false;
        }
        self.shared.lives += 1;
        let life = self.shared.lives;
        say!(self.shared, "b{broker} starts (boot {})", self.brokers[broker].machine.boot);
        let machine = &mut self.brokers[broker].machine;
        let process = Process::start(&mut Cx { shared: &mut self.shared, machine, me: broker }, life);
        self.brokers[broker].process = Some(process);
        self.flush_outbox_from(broker);
        true
    }

    /// A process that asked to leave closes its logs.
    fn stop(&mut self, broker: usize, life: u64) {
        let Broker { machine, process } = &mut self.brokers[broker];
        let Some(leaving) = process.take_if(|process| process.life == life) else { return };
        let clean = leaving.close(&mut Cx { shared: &mut self.shared, machine, me: broker });
        let halted = machine.faults.halted();
        machine.clean = clean && !halted;
        say!(self.shared, "b{broker} stopped {}", if clean { "in order" } else { "without having synced everything" });
        self.flush_outbox_from(broker);
        self.gone(broker);
        self.brokers[broker].machine.kill();
    }

    /// A process dies; with its machine, if a seed for what survives is given. It starts again after `down`.
    pub(super) fn kill(&mut self, broker: usize, power: Option<u64>, down: u64) {
        let had = self.brokers[broker].process.take().is_some();
        let machine = &mut self.brokers[broker].machine;
        match power {
            Some(seed) => machine.lose_power(seed),
            None => machine.kill(),
        }
        machine.paused_until = machine.paused_until.min(self.shared.now);
        if had {
            self.gone(broker);
        }
        self.shared.queue.plan(self.shared.now + down, Event::Start { broker });
    }

    fn gone(&mut self, broker: usize) {
        // A proposal on its way: with a majority already, or nowhere.
        if let Some(entries) = self.quorum.forget(broker)
            && self.quorum.leader() == Some(broker)
            && self.shared.now & 1 == 0
        {
            self.quorum.apply(&mut self.shared, &self.brokers, &entries);
        }
    }

    fn pass(&mut self, passing: Passing) {
        match passing {
            Passing::Cut(number) => {
                say!(self.shared, "cut {number} heals");
                self.shared.net.cuts.remove(&number);
            }
            Passing::Weather(number) => {
                self.shared.net.storms.remove(&number);
            }
            Passing::DiskFull(broker) => self.brokers[broker].machine.faults.set_free_bytes(None),
            Passing::FailingSyncs(broker) => self.brokers[broker].machine.faults.set_fail_syncs(false),
            Passing::SlowSyncs(broker) => self.brokers[broker].machine.slow = 0,
        }
    }

    /// Looks at what was touched: members of ISR and ELR, and leaders (invariants 2 and 3).
    fn check(&mut self) {
        for at in std::mem::take(&mut self.shared.truths.suspects) {
            let Some(state) = self.shared.image.partition(at).cloned() else { continue };
            let min = self.shared.image.topics.get(&at.topic).map_or(1, |topic| topic.min_insync());
            let min = min.min(state.replicas.len());
            for (broker, Broker { process, .. }) in self.brokers.iter().enumerate() {
                let Some(process) = process else { continue };
                let me = process.node();
                let Some(replica) = process.replicas.get(&at) else { continue };
                let counts = state.isr.contains(&me) || state.elr.contains(&me);
                // One copy in memory: what a power loss takes is gone, as its first leader finds out.
                let alone = is_alone(&state) && self.shared.durability == Durability::Replicated;
                // So it is with an unclean election.
                let excused = alone || state.recovering;
                if counts && !excused && process.is_counted(&self.shared.image) {
                    self.shared.truths.member(at, me, &replica.shadow, &state);
                }
                let Some(leader) = replica.leader() else { continue };
                let enough = state.isr.len() >= min && leader.epoch() == state.leader_epoch;
                let outside = state.isr.iter().chain(&state.elr).find(|id| !leader.maximal_isr().contains(id));
                if let Some(outside) = outside.filter(|_| enough && state.leader == Some(me)) {
                    let maximal = super::invariants::ids(leader.maximal_isr());
                    let text = format!("leader b{broker} of {at} counts {maximal}, {outside} is in the isr or elr");
                    self.shared.truths.violate(3, text);
                }
            }
        }
    }
}

/// Nobody else was asked to keep the records: those that join do not count yet.
pub(super) fn is_alone(state: &PartitionState) -> bool {
    state.replicas.iter().filter(|id| !state.adding.contains(id)).count() == 1
}

/// Topics by their names: for people.
fn named(mut lines: Vec<String>, metadata: &[Entry]) -> Vec<String> {
    for delta in metadata.iter().flat_map(|entry| &entry.deltas) {
        if let Delta::TopicCreated(topic) = delta {
            let (id, name) = (topic.id.to_string(), topic.name.to_string());
            lines.iter_mut().filter(|line| line.contains(&id)).for_each(|line| *line = line.replace(&id, &name));
        }
    }
    lines
}
