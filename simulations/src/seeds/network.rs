//! The network between brokers, clients and the administrator: it delays, loses, doubles, reorders and is cut.

use std::collections::BTreeMap;

use super::dice::Dice;
use super::event::{Address, Event, Message, Queue};
use super::tempo::MS;

/// How badly messages travel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// Lost, of 1000.
    pub(super) loss: u64,
    /// Sent twice, of 1000.
    pub(super) doubles: u64,
    /// Delayed for long, of 1000.
    pub(super) late: u64,
    /// For how long at most, ns.
    pub(super) late_max: u64,
}

#[derive(Debug)]
pub(super) struct Network {
    seed: u64,
    pub(super) climate: Weather,
    /// What passes, by the number of the injection.
    pub(super) storms: BTreeMap<u64, Weather>,
    /// Directed links that carry nothing, by the number of the injection.
    pub(super) cuts: BTreeMap<u64, Vec<(Address, Address)>>,
    sent: BTreeMap<(Address, Address), u64>,
    pub(super) lost: u64,
    pub(super) doubled: u64,
}

impl Network {
    pub(super) fn new(seed: u64, climate: Weather) -> Self {
        Self {
            seed,
            climate,
            storms: BTreeMap::new(),
            cuts: BTreeMap::new(),
            sent: BTreeMap::new(),
            lost: 0,
            doubled: 0,
        }
    }

    pub(super) fn is_cut(&self, from: Address, to: Address) -> bool {
        self.cuts.values().any(|links| links.contains(&(from, to)))
    }

    /// Messages get through both ways.
    pub(super) fn connects(&self, one: usize, other: usize) -> bool {
        let (one, other) = (Address::Broker(one), Address::Broker(other));
        one == other || !self.is_cut(one, other) && !self.is_cut(other, one)
    }

    /// Sends a message; it arrives never, once or twice.
    pub(super) fn send(&mut self, queue: &mut Queue, now: u64, from: Address, to: Address, message: Message) {
        let count = self.sent.entry((from, to)).or_insert(0);
        *count += 1;
        let mut dice = Dice::of(&[self.seed, from.number(), to.number(), *count]);
        if !self.cuts.is_empty() && self.is_cut(from, to) {
            return;
        }
        if from == to {
            queue.plan(now + dice.between(10_000, 200_000), Event::Deliver { from, to, message });
            return;
        }
        let worst = |weather: Weather, other: &Weather| Weather {
            loss: weather.loss.max(other.loss),
            doubles: weather.doubles.max(other.doubles),
            late: weather.late.max(other.late),
            late_max: weather.late_max.max(other.late_max),
        };
        let weather = self.storms.values().fold(self.climate, worst);
        if dice.chance(weather.loss) {
            self.lost += 1;
            return;
        }
        let copies = 1 + u64::from(dice.chance(weather.doubles));
        self.doubled += copies - 1;
        for copy in (0..copies).rev() {
            let late = dice.chance(weather.late);
            let delay = dice.between(MS / 5, 3 * MS) + if late { dice.below(weather.late_max) } else { 0 };
            if copy == 0 {
                queue.plan(now + delay, Event::Deliver { from, to, message });
                return;
            }
            queue.plan(now + delay, Event::Deliver { from, to, message: message.clone() });
        }
    }
}
