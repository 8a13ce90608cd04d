//! What is done to the world: work for clients, changes by the administrator, faults. Each injection has a number, and all
//! that it chooses comes from the seed and that number.

mod faults;

use std::collections::BTreeMap;

use rafka_broker::controller::{Command, Election};
use rafka_broker::request::{Acks, Admin as Request, ConfigChange, NewTopic};
use rafka_model::{Durability, NodeId, Offset, PartitionId, TopicPartition};

use super::Options;
use super::clients::Client;
use super::dice::Dice;
use super::event::Event;
use super::machine::Machine;
use super::profile::Profile;
use super::trace::say;
use super::world::{Broker, World};
pub(super) use faults::Climate;

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
pub(super) fn topics(dice: &mut Dice, options: &Options, brokers: usize) -> Vec<Command> {
    (0..dice.between(1, 3)).map(|i| new_topic(dice, options, brokers, i)).collect()
}

fn new_topic(dice: &mut Dice, options: &Options, brokers: usize, number: u64) -> Command {
    let Options { durability, profile, .. } = *options;
    let factors: &[u16] = &[3, 3, 3, 3, 3, 2, 1, 5];
    let factor = dice.pick(factors).unwrap_or(3).min(brokers as u16);
    let min = if factor > 1 { dice.between(1, 3) } else { 1 };
    let mut configs = BTreeMap::from([
        ("min.insync.replicas".to_owned(), min.to_string()),
        ("segment.bytes".to_owned(), dice.between(1_024, 4_096).to_string()),
    ]);
    if dice.chance(if profile == Profile::Losses { 800 } else { 100 }) {
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
        let roll = match self.options.profile {
            Profile::Elections if dice.chance(700) => dice.between(26, 70),
            Profile::Losses if dice.chance(500) => 109,
            _ => dice.below(110),
        };
        let brokers = self.shared.brokers;
        let Some(topic) = topic else { return };
        let name = topic.name.to_string();
        let command = match roll {
            0..8 if image.topics.len() < 4 => new_topic(dice, &self.options, brokers, u64::from(number)),
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
            82..86 => admin(Request::AllocateProducerIds),
            86..92 => {
                let leaving: Vec<_> = image.nodes.values().filter(|node| node.draining).map(|node| node.id).collect();
                let Some(node) = dice.pick(&leaving) else { return };
                self.shared.fault("decommission");
                Command::Decommission { node }
            }
            _ => {
                let Some(at) = self.some_partition(dice) else { return };
                let end = self.shared.truths.get(at).map_or(0, |truth| truth.log.end());
                let all = self.options.profile == Profile::Losses && dice.chance(800);
                let before = Offset(if all { end } else { dice.below(end as u64 + 1) as i64 });
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
}
