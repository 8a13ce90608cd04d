//! What is done to the world: work for clients, changes by the administrator, faults. Each injection has a number, and all
//! that it chooses comes from the seed and that number.

use std::collections::BTreeMap;

use rafka_broker::controller::{Command, Election};
use rafka_broker::request::{Acks, Admin as Request, ConfigChange, NewTopic};
use rafka_model::{Durability, NodeId, Offset, PartitionId, TopicPartition};

use super::clients::Client;
use super::dice::Dice;
use super::event::{Address, Event, Passing};
use super::machine::Machine;
use super::network::Weather;
use super::quorum::Fate;
use super::tempo::MS;
use super::trace::say;
use super::world::{Broker, World};

/// How bad a run is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Climate {
    pub(super) weather: Weather,
    /// Of 1000 injections so many are faults …
    faults: u64,
    /// … and so many are changes by the administrator; the others are work.
    changes: u64,
    /// How often each kind of fault is chosen.
    weights: [u64; KINDS.len()],
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Kill,
    PowerCut,
    PowerCutAll,
    Halt,
    Pause,
    Cut,
    Isolate,
    Storm,
    Disk,
    Quorum,
    Clock,
    Restart,
    LoseDisk,
    Forge,
}

const KINDS: [(Kind, u64); 14] = [
    (Kind::Kill, 10),
    (Kind::PowerCut, 8),
    (Kind::PowerCutAll, 2),
    (Kind::Halt, 5),
    (Kind::Pause, 8),
    (Kind::Cut, 10),
    (Kind::Isolate, 6),
    (Kind::Storm, 5),
    (Kind::Disk, 8),
    (Kind::Quorum, 6),
    (Kind::Clock, 2),
    (Kind::Restart, 4),
    (Kind::LoseDisk, 1),
    (Kind::Forge, 3),
];

impl Climate {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let bad = dice.chance(500);
        let weather = Weather {
            loss: if bad { dice.below(60) } else { 0 },
            doubles: dice.below(40),
            late: dice.below(60),
            late_max: dice.between(20, 400) * MS,
        };
        let mut weights = KINDS.map(|(_, weight)| weight);
        weights.iter_mut().for_each(|weight| *weight = if dice.chance(350) { 0 } else { *weight });
        Self { weather, faults: dice.between(100, 350), changes: dice.between(20, 120), weights }
    }

    fn kind(&self, dice: &mut Dice) -> Option<Kind> {
        let mut at = dice.below(self.weights.iter().sum());
        KINDS.iter().zip(self.weights).find_map(|((kind, _), weight)| {
            if at < weight {
                return Some(*kind);
            }
            at -= weight;
            None
        })
    }
}

/// Who uses the cluster.
pub(super) fn clients(seed: u64, dice: &mut Dice) -> Vec<Client> {
    let producers = dice.between(3, 6) as usize;
    let consumers = dice.between(2, 4) as usize;
    let mut clients = Vec::new();
    for number in 0..producers {
        let acks = dice.pick(&[Acks::All, Acks::All, Acks::All, Acks::Leader, Acks::None]).unwrap_or_default();
        let idempotent = acks == Acks::All && dice.chance(600);
        clients.push(Client::producer(seed, number, acks, idempotent));
    }
    clients.extend((producers..producers + consumers).map(|number| Client::consumer(seed, number)));
    clients
}

/// The topics that are made first.
pub(super) fn topics(dice: &mut Dice, durability: Durability, brokers: usize) -> Vec<Command> {
    (0..dice.between(1, 3)).map(|i| topic(dice, durability, brokers, i)).collect()
}

fn topic(dice: &mut Dice, durability: Durability, brokers: usize, number: u64) -> Command {
    let factors: &[u16] = &[3, 3, 3, 3, 3, 2, 1, 5];
    let factor = dice.pick(factors).unwrap_or(3).min(brokers as u16);
    let min = if factor > 1 { dice.between(1, 3) } else { 1 };
    let mut configs = BTreeMap::from([
        ("min.insync.replicas".to_owned(), min.to_string()),
        ("segment.bytes".to_owned(), dice.between(1_024, 4_096).to_string()),
    ]);
    if dice.chance(100) {
        let strategy = if dice.chance(500) { "balanced" } else { "aggressive" };
        configs.insert("unclean.recovery.strategy".to_owned(), strategy.to_owned());
    }
    if durability == Durability::Fsync {
        configs.insert("durability".to_owned(), "fsync".to_owned());
    }
    let new = NewTopic {
        name: format!("t{number}"),
        partitions: Some(dice.between(1, 4) as u32),
        replication_factor: Some(factor),
        configs,
        ..NewTopic::default()
    };
    admin(Request::CreateTopics { topics: vec![new], validate_only: false })
}

fn admin(request: Request) -> Command {
    Command::Admin { request, seed: [0; 32] }
}

impl World {
    /// The injection of this number happens, unless it is skipped; the next one is planned.
    pub(super) fn inject(&mut self, number: u32) {
        if self.healed.is_some() {
            return;
        }
        let mut dice = Dice::of(&[self.shared.seed, 2, u64::from(number)]);
        let gap = dice.between(self.shared.tempo.injection / 4, self.shared.tempo.injection * 7 / 4);
        self.shared.queue.plan(self.shared.now + gap, Event::Inject(number + 1));
        self.injections = number + 1;
        if self.options.skip.contains(&number) {
            return;
        }
        let (faults, changes) = (self.climate.faults, self.climate.changes);
        match dice.below(1_000) {
            roll if roll < faults => self.fault(number, &mut dice),
            roll if roll < faults + changes => self.change(number, &mut dice),
            _ => self.employ(&mut dice),
        }
    }

    /// Some partition.
    pub(super) fn some_partition(&self, dice: &mut Dice) -> Option<TopicPartition> {
        let count: usize = self.shared.image.topics.values().map(|topic| topic.partitions.len()).sum();
        let mut at = dice.below(count as u64) as usize;
        self.shared.image.topics.values().find_map(|topic| {
            if at < topic.partitions.len() {
                return Some(TopicPartition { topic: topic.id, partition: PartitionId(at as u32) });
            }
            at -= topic.partitions.len();
            None
        })
    }

    /// Work for a client or two.
    fn employ(&mut self, dice: &mut Dice) {
        for _ in 0..dice.between(1, 4) {
            let i = dice.below(self.clients.len() as u64) as usize;
            let at = self.some_partition(dice);
            let moves = self.clients[i].at.is_none() || dice.chance(150);
            if let Some(at) = at.filter(|_| moves) {
                self.clients[i].turn_to(at);
            }
            let amount = dice.between(1, 6) as u32;
            self.clients[i].work(&mut self.shared, amount);
        }
    }

    /// The administrator changes something.
    fn change(&mut self, number: u32, dice: &mut Dice) {
        let image = self.shared.image.clone();
        let topic = image.topics.values().nth(dice.below(image.topics.len() as u64) as usize);
        let nodes: Vec<NodeId> = image.nodes.values().filter(|node| !node.fenced).map(|node| node.id).collect();
        let (roll, brokers) = (dice.below(100), self.shared.brokers);
        let Some(topic) = topic else { return };
        let name = topic.name.to_string();
        let command = match roll {
            0..8 if image.topics.len() < 4 => topic_of(dice, self.shared.durability, brokers, number),
            8..12 if image.topics.len() > 1 => admin(Request::DeleteTopics { names: vec![name], validate_only: false }),
            12..16 => {
                let total = topic.partitions.len() as u32 + 1;
                let request =
                    Request::AddPartitions { name, total: total.min(4), assignments: Vec::new(), validate_only: false };
                admin(request)
            }
            16..26 => {
                // More than there are replicas would refuse acks=all for good.
                let min = dice.between(1, 3).min(u64::from(topic.replication_factor)).to_string();
                let changes = BTreeMap::from([("min.insync.replicas".to_owned(), ConfigChange::Set(min))]);
                admin(Request::AlterConfigs { name, changes, replace: false, validate_only: false })
            }
            26..50 => {
                let Some(at) = self.some_partition(dice) else { return };
                let held = image.partition(at).map_or(3, |state| state.replicas.len().min(3));
                let mut target = Vec::new();
                for _ in 0..20 {
                    if let Some(node) = dice.pick(&nodes)
                        && !target.contains(&node)
                        && target.len() < held.max(1)
                    {
                        target.push(node);
                    }
                }
                // The minimum may be raised to 2.
                if target.len() < held.min(2) {
                    return;
                }
                self.shared.fault("reassignment");
                Command::Reassign(vec![(at, (!dice.chance(100)).then_some(target))])
            }
            50..60 => Command::Elect { partitions: Vec::new(), how: Election::Preferred },
            60..70 => {
                let Some(node) = dice.pick(&nodes) else { return };
                let on = dice.chance(500);
                self.shared.fault("drain");
                Command::Drain { node, on }
            }
            70..78 if self.brokers.len() < 7 => {
                let broker = self.brokers.len();
                say!(self.shared, "b{broker} is bought");
                self.shared.fault("expansion");
                self.brokers.push(Broker { machine: Machine::new(1_000, broker as u64), process: None });
                self.shared.brokers = self.brokers.len();
                self.shared.queue.plan(self.shared.now, Event::Start { broker });
                return;
            }
            78..82 => {
                self.shared.features_max = 2;
                Command::Upgrade { level: 2 }
            }
            _ => {
                let Some(at) = self.some_partition(dice) else { return };
                let end = self.shared.truths.get(at).map_or(0, |truth| truth.log.end());
                let before = Offset(dice.below(end as u64 + 1) as i64);
                let consumer = self.clients.iter_mut().find(|client| !client.is_producer() && client.is_idle());
                if let Some(consumer) = consumer {
                    consumer.turn_to(at);
                    consumer.delete_before(&mut self.shared, before);
                }
                return;
            }
        };
        self.admin.ask(&mut self.shared, command, false);
    }

    fn fault(&mut self, number: u32, dice: &mut Dice) {
        let Some(kind) = self.climate.kind(dice) else { return };
        let i = dice.below(self.brokers.len() as u64) as usize;
        let short = dice.between(30, 600) * MS;
        let long = dice.between(100, 4_000) * MS;
        match kind {
            Kind::Kill => {
                let all = dice.chance(80);
                say!(self.shared, "#{number} kills {}", if all { "everybody".to_owned() } else { format!("b{i}") });
                self.shared.fault(if all { "kill of all" } else { "kill" });
                let whom: Vec<usize> = if all { (0..self.brokers.len()).collect() } else { vec![i] };
                for broker in whom {
                    let down = if dice.chance(500) { short } else { long };
                    self.kill(broker, None, down + broker as u64);
                }
            }
            Kind::PowerCut => {
                say!(self.shared, "#{number} cuts the power of b{i}");
                self.shared.fault("power cut");
                self.kill(i, Some(dice.draw()), if dice.chance(500) { short } else { long });
            }
            Kind::PowerCutAll => {
                let some = dice.chance(500);
                say!(self.shared, "#{number} cuts the power of {}", if some { "some" } else { "all" });
                self.shared.fault(if some { "power cut of some" } else { "power cut of all" });
                for broker in 0..self.brokers.len() {
                    let (hit, seed, down) = (dice.chance(500), dice.draw(), dice.between(30, 2_000) * MS);
                    if hit || !some {
                        self.kill(broker, Some(seed), down);
                    }
                }
            }
            Kind::Halt => {
                let machine = &mut self.brokers[i].machine;
                machine.faults.halt_at(machine.faults.operations() + dice.below(12));
                machine.halts_with = Some(dice.chance(600).then(|| dice.draw()));
                say!(self.shared, "#{number} will stop b{i} in the middle of something");
                self.shared.fault("stop in the middle of a write");
            }
            Kind::Pause => {
                say!(self.shared, "#{number} pauses b{i} for {} ms", long / MS);
                self.shared.fault("pause");
                self.brokers[i].machine.paused_until = self.shared.now + long;
            }
            Kind::Cut | Kind::Isolate => self.cut(number, kind, i, long, dice),
            Kind::Storm => {
                self.shared.fault("storm");
                let weather = Weather {
                    loss: dice.below(300),
                    doubles: dice.below(200),
                    late: dice.below(400),
                    late_max: dice.between(50, 1_500) * MS,
                };
                say!(self.shared, "#{number} storm for {} ms: {weather:?}", long / MS);
                self.shared.net.storms.insert(u64::from(number), weather);
                self.shared.queue.plan(self.shared.now + long, Event::Heal(Passing::Weather(u64::from(number))));
            }
            Kind::Disk => self.disk(number, i, long, dice),
            Kind::Quorum => {
                let roll = dice.below(3);
                say!(self.shared, "#{number} troubles the quorum ({roll})");
                match roll {
                    0 => self.quorum.fate = Fate::IsLost,
                    1 => self.quorum.fate = Fate::IsInDoubt,
                    _ => {
                        self.shared.fault("transfer of the quorum");
                        self.quorum.transfer(&mut self.shared, &self.brokers);
                    }
                }
            }
            Kind::Clock => {
                self.shared.fault("jump of the wall clock");
                self.brokers[i].machine.skew += dice.below(200_000) as i64 - 100_000;
                say!(self.shared, "#{number} sets the wall clock of b{i} to {} ms off", self.brokers[i].machine.skew);
            }
            Kind::Restart => self.restart(number, i, short),
            Kind::LoseDisk => {
                let directory = self.brokers[i].machine.directory + 100;
                say!(self.shared, "#{number} takes the disk of b{i}");
                self.shared.fault("lost disk");
                self.kill(i, None, long);
                self.brokers[i].machine.lose_disk(directory);
            }
            Kind::Forge => {
                self.shared.fault("forged record");
                if let Some(at) = self.some_partition(dice) {
                    self.shared.directory.forge(at, NodeId(i as u64 + 1));
                }
            }
        }
    }

    fn cut(&mut self, number: u32, kind: Kind, i: usize, span: u64, dice: &mut Dice) {
        let mut links = Vec::new();
        let other = dice.below(self.brokers.len() as u64) as usize;
        let (ways, clients) = (dice.below(3), dice.chance(300));
        let mut add = |one: Address, another: Address| {
            if ways != 1 {
                links.push((one, another));
            }
            if ways != 0 {
                links.push((another, one));
            }
        };
        if kind == Kind::Cut {
            if other == i {
                return;
            }
            add(Address::Broker(i), Address::Broker(other));
        } else {
            (0..self.brokers.len()).filter(|j| *j != i).for_each(|j| add(Address::Broker(i), Address::Broker(j)));
            if clients {
                (0..self.clients.len()).for_each(|j| add(Address::Broker(i), Address::Client(j)));
            }
        }
        self.shared.fault(match (kind, ways) {
            (Kind::Cut, 2) => "cut of a link",
            (Kind::Cut, _) => "cut of a link, one way",
            (_, 2) => "isolation",
            _ => "isolation, one way",
        });
        say!(self.shared, "#{number} cuts {} links for {} ms, b{i} first ({ways})", links.len(), span / MS);
        self.shared.net.cuts.insert(u64::from(number), links);
        self.shared.queue.plan(self.shared.now + span, Event::Heal(Passing::Cut(u64::from(number))));
    }

    fn disk(&mut self, number: u32, i: usize, span: u64, dice: &mut Dice) {
        let machine = &mut self.brokers[i].machine;
        let until = self.shared.now + span;
        let kind = match dice.below(4) {
            0 => {
                machine.faults.fail_at(machine.faults.operations() + dice.below(10), 5);
                "an operation of a disk fails"
            }
            1 => {
                machine.faults.set_fail_syncs(true);
                self.shared.queue.plan(until, Event::Heal(Passing::FailingSyncs(i)));
                "syncs fail"
            }
            2 => {
                machine.faults.set_free_bytes(Some(dice.below(2_000)));
                self.shared.queue.plan(until, Event::Heal(Passing::DiskFull(i)));
                "a disk is full"
            }
            _ => {
                machine.slow = dice.between(50, 2_000) * MS;
                self.shared.queue.plan(until, Event::Heal(Passing::SlowSyncs(i)));
                "syncs are slow"
            }
        };
        say!(self.shared, "#{number} b{i}: {kind} for {} ms", span / MS);
        self.shared.fault(kind);
    }

    /// A stop in order, and a start.
    fn restart(&mut self, number: u32, i: usize, down: u64) {
        let Broker { machine, process } = &mut self.brokers[i];
        let Some(process) = process else { return };
        if machine.paused_until > self.shared.now {
            return;
        }
        say!(self.shared, "#{number} restarts b{i} in order");
        self.shared.fault("restart in order");
        let life = process.life;
        process.stop(&mut super::process::Cx { shared: &mut self.shared, machine, me: i });
        self.flush_outbox_from(i);
        let time = self.shared.now + 200 * MS;
        self.shared.queue.plan(time, Event::Stop { broker: i, life });
        self.shared.queue.plan(time + down, Event::Start { broker: i });
    }
}

fn topic_of(dice: &mut Dice, durability: Durability, brokers: usize, number: u32) -> Command {
    topic(dice, durability, brokers, u64::from(number))
}
