//! Faults: which, how often, and what each does.

use rafka_model::NodeId;

use super::super::dice::Dice;
use super::super::event::{Address, Event, Passing};
use super::super::network::Weather;
use super::super::process::Cx;
use super::super::profile::Profile;
use super::super::quorum::Fate;
use super::super::tempo::MS;
use super::super::trace::say;
use super::super::world::{Broker, World};

/// How bad a run is.
#[derive(Clone, Copy, Debug)]
pub(in crate::seeds) struct Climate {
    pub(in crate::seeds) weather: Weather,
    /// Of 1000 answers to who asks for metadata so many are short: a voter has, or sends, less than there is.
    pub(in crate::seeds) short: u64,
    /// Of 1000 injections so many are faults …
    pub(super) faults: u64,
    /// … and so many are changes by the administrator; the others are work.
    pub(super) changes: u64,
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
    /// The brokers fall apart into two groups.
    Split,
    /// One machine is hit several times.
    Blows,
    /// One broker is away, comes back, and then is alone for long.
    Widow,
}

const KINDS: [(Kind, u64); 17] = [
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
    (Kind::Split, 3),
    (Kind::Blows, 3),
    (Kind::Widow, 1),
];

impl Climate {
    pub(in crate::seeds) fn draw(dice: &mut Dice, profile: Profile) -> Self {
        let bad = dice.chance(500);
        let weather = Weather {
            loss: if bad { dice.below(60) } else { 0 },
            doubles: dice.below(40),
            late: dice.below(60),
            late_max: dice.between(20, 400) * MS,
        };
        let mut weights = KINDS.map(|(_, weight)| weight);
        weights.iter_mut().for_each(|weight| *weight = if dice.chance(350) { 0 } else { *weight });
        let (faults, changes, short) = (dice.between(100, 350), dice.between(20, 120), dice.below(300));
        let mut climate = Self { weather, short, faults, changes, weights };
        match profile {
            Profile::Everyday => {}
            Profile::Blows => climate.prefer(&[(Kind::Blows, 60), (Kind::PowerCut, 8)]),
            Profile::Splits => climate.prefer(&[(Kind::Split, 40), (Kind::PowerCut, 12), (Kind::Isolate, 12)]),
            Profile::Elections => {
                climate.prefer(&[(Kind::Kill, 10), (Kind::PowerCut, 5), (Kind::Cut, 10)]);
                (climate.faults, climate.changes) = (100, 350);
                climate.weather = Weather { loss: 10, doubles: 50, late: 200, late_max: 1_000 * MS };
            }
            Profile::Losses => {
                climate.prefer(&[(Kind::PowerCut, 20), (Kind::PowerCutAll, 20), (Kind::Kill, 10), (Kind::Widow, 60)]);
                (climate.faults, climate.changes) = (120, 300);
            }
        }
        climate
    }

    /// These are what happens mostly.
    fn prefer(&mut self, kinds: &[(Kind, u64)]) {
        self.faults = 350;
        for ((kind, _), weight) in KINDS.iter().zip(&mut self.weights) {
            let preferred = kinds.iter().find(|(preferred, _)| preferred == kind);
            *weight = preferred.map_or(*weight / 4, |(_, weight)| *weight);
        }
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

impl World {
    pub(super) fn fault(&mut self, number: u32, dice: &mut Dice) {
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
            Kind::Split => self.split(number, long, dice),
            Kind::Blows => self.plan_blows(number, i, dice),
            Kind::Widow => self.widow(number, i, dice),
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
            Kind::Restart => self.restart(i, short),
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

    /// The brokers, and the clients with them, fall apart into two groups.
    fn split(&mut self, number: u32, span: u64, dice: &mut Dice) {
        let brokers = (0..self.brokers.len()).map(Address::Broker);
        let all: Vec<_> = brokers.chain((0..self.clients.len()).map(Address::Client)).collect();
        let sides: Vec<bool> = all.iter().map(|_| dice.chance(500)).collect();
        let mut links = Vec::new();
        for (one, left) in all.iter().zip(&sides) {
            links.extend(all.iter().zip(&sides).filter(|(_, other)| *other != left).map(|(other, _)| (*one, *other)));
        }
        say!(self.shared, "#{number} splits the network for {} ms: {sides:?}", span / MS);
        self.shared.fault("split of the network");
        self.shared.net.cuts.insert(u64::from(number), links);
        self.shared.queue.plan(self.shared.now + span, Event::Heal(Passing::Cut(u64::from(number))));
    }

    /// A broker is away for a while; when it is back, all others go for longer.
    fn widow(&mut self, number: u32, broker: usize, dice: &mut Dice) {
        let away = dice.between(500, 3_000) * MS;
        say!(self.shared, "#{number} takes b{broker} away for {} ms, and leaves it alone then", away / MS);
        self.shared.fault("left alone");
        self.kill(broker, None, away);
        for other in (0..self.brokers.len()).filter(|other| *other != broker) {
            let down = dice.between(2_000, 6_000) * MS;
            self.shared.queue.plan(self.shared.now + away - 20 * MS, Event::Die { broker: other, down });
        }
    }

    /// Several things happen to one machine, shortly one after the other.
    fn plan_blows(&mut self, number: u32, broker: usize, dice: &mut Dice) {
        say!(self.shared, "#{number} hits b{broker} several times");
        let mut at = self.shared.now;
        for _ in 0..dice.between(2, 5) {
            self.shared.queue.plan(at, Event::Blow { broker, choice: dice.draw() });
            at += dice.between(1, 400) * MS;
        }
    }

    /// A process dies for long.
    pub(in crate::seeds) fn die(&mut self, broker: usize, down: u64) {
        if self.healed.is_none() {
            say!(self.shared, "b{broker} dies");
            self.kill(broker, None, down);
        }
    }

    /// One of several blows; all that is random about it is in `choice`.
    pub(in crate::seeds) fn blow(&mut self, broker: usize, choice: u64) {
        if self.healed.is_some() {
            return;
        }
        let mut dice = Dice::of(&[choice]);
        let down = dice.between(1, 60) * MS;
        match dice.below(8) {
            0..2 => {
                say!(self.shared, "b{broker} is killed");
                self.shared.fault("kill");
                self.kill(broker, None, down);
            }
            2..4 => {
                say!(self.shared, "b{broker} loses its power");
                self.shared.fault("power cut");
                self.kill(broker, Some(dice.draw()), down);
            }
            4..6 => self.restart(broker, down),
            _ => {
                let power = dice.chance(500).then(|| dice.draw());
                self.kill(broker, power, down);
                // Of what the next process does with its disk.
                self.brokers[broker].machine.faults.fail_at(dice.below(60), 5);
                say!(self.shared, "b{broker} starts with a disk that fails");
                self.shared.fault("a disk fails at the start");
            }
        }
    }

    /// A stop in order, and a start.
    fn restart(&mut self, i: usize, down: u64) {
        let Broker { machine, process } = &mut self.brokers[i];
        let Some(process) = process else { return };
        if machine.paused_until > self.shared.now {
            return;
        }
        say!(self.shared, "b{i} is restarted in order");
        self.shared.fault("restart in order");
        let life = process.life;
        process.stop(&mut Cx { shared: &mut self.shared, machine, me: i });
        self.flush_outbox_from(i);
        let time = self.shared.now + 200 * MS;
        self.shared.queue.plan(time, Event::Stop { broker: i, life });
        self.shared.queue.plan(time + down, Event::Start { broker: i });
    }
}
