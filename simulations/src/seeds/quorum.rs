//! The metadata quorum as a model: one linearizable log. Its leader hosts the controller; leaders change, proposals take
//! time, are lost, or commit without anybody being told.

use std::collections::{BTreeMap, VecDeque};

use rafka_broker::controller::{Command, Config, Controller};
use rafka_broker::metadata::{Delta, Entry, Image};
use rafka_model::{MetadataIndex, PartitionId, TopicId, TopicPartition};

use super::dice::Dice;
use super::event::{Address, Ask, Event, Message, Told};
use super::mutant::Driver;
use super::process::{Phase, Process};
use super::tempo::MS;
use super::trace::say;
use super::world::{Broker, Shared};

/// Between two looks of the voters at their leader, ns.
const VOTE_EVERY: u64 = 80 * MS;

#[derive(Debug)]
pub(super) struct Quorum {
    term: u64,
    leader: Option<usize>,
    /// Controllers by the broker they live on; at most one is of the present term.
    hosts: BTreeMap<usize, Host>,
    /// When the voters lose patience with a leader that is gone.
    patience: Option<u64>,
    dice: Dice,
    /// What becomes of the next proposal.
    pub(super) fate: Fate,
    config: Config,
}

/// What becomes of a proposal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Fate {
    #[default]
    Commits,
    /// It never commits; its leader steps down.
    IsLost,
    /// It commits, but its leader steps down before it knows.
    IsInDoubt,
}

#[derive(Debug)]
struct Host {
    term: u64,
    controller: Controller,
    waiting: VecDeque<(MetadataIndex, Address, u64, Told)>,
    proposing: Option<Vec<Entry>>,
    /// What it knows to be applied: by its own proposals, and what was before its term.
    applied: MetadataIndex,
}

impl Quorum {
    pub(super) fn new(seed: u64, config: Config) -> Self {
        Self {
            term: 0,
            leader: None,
            hosts: BTreeMap::new(),
            patience: None,
            dice: Dice::of(&[seed, 4]),
            fate: Fate::Commits,
            config,
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        self.leader
    }

    /// A process died, and the controller with it.
    pub(super) fn forget(&mut self, broker: usize) -> Option<Vec<Entry>> {
        self.hosts.remove(&broker).and_then(|host| host.proposing)
    }

    /// A question reached a broker.
    pub(super) fn asked(
        &mut self,
        shared: &mut Shared,
        brokers: &[Broker],
        host: usize,
        (from, id, ask): (Address, u64, Ask),
    ) {
        let now = brokers[host].machine.clock(shared.now);
        let Some(hosted) = self.hosts.get_mut(&host) else {
            let hint = self.leader.filter(|leader| *leader != host);
            shared.outbox.push((from, Message::Told(id, Box::new(Told::NotController(hint)))));
            return;
        };
        match ask {
            Ask::Heartbeat { node, epoch, applied } => {
                let heard = hosted.controller.heartbeat(node, epoch, applied, now);
                let told = heard.map_or_else(|failure| Told::Refused(failure.code), Told::Heartbeat);
                shared.outbox.push((from, Message::Told(id, Box::new(told))));
            }
            Ask::Command(mut command) => {
                if let Command::Admin { seed, .. } = &mut command {
                    // Whoever evaluates draws: a request that comes twice does not make the same topic twice.
                    seed[..8].copy_from_slice(&self.dice.draw().to_be_bytes());
                }
                let decision = hosted.controller.evaluate(command, now);
                hosted.waiting.push_back((decision.index, from, id, Told::Answer(decision.answer)));
            }
        }
        self.pump(shared, host);
    }

    /// Sends what may be said, proposes what is decided.
    fn pump(&mut self, shared: &mut Shared, host: usize) {
        self.inquire(shared, host);
        let delay = self.dice.between(MS / 2, shared.tempo.commit_max);
        let Some(hosted) = self.hosts.get_mut(&host) else { return };
        if hosted.proposing.is_none() {
            let entries = hosted.controller.take_entries();
            if !entries.is_empty() {
                hosted.proposing = Some(entries);
                let term = hosted.term;
                shared.queue.plan(shared.now + delay, Event::Commit { host, term });
            }
        }
        // Others may have committed other entries of the same indexes since this controller was deposed.
        let applied = match shared.breaks(Driver::AnswersWaitForTheirOwnEntries) {
            true => shared.image.index,
            false => hosted.applied,
        };
        while hosted.waiting.front().is_some_and(|(index, ..)| *index <= applied) {
            if let Some((_, to, id, told)) = hosted.waiting.pop_front() {
                shared.outbox.push((to, Message::Told(id, Box::new(told))));
            }
        }
    }

    /// Asks replicas what a recovery has to know.
    fn inquire(&mut self, shared: &mut Shared, host: usize) {
        let Some(hosted) = self.hosts.get_mut(&host) else { return };
        for event in hosted.controller.take_events() {
            say!(shared, "controller: {event:?}");
        }
        for question in hosted.controller.take_questions() {
            if let Some(to) = shared.broker_of(question.node) {
                let (from, to) = (Address::Broker(host), Address::Broker(to));
                shared.net.send(&mut shared.queue, shared.now, from, to, Message::Question(question));
            }
        }
    }

    /// A proposal comes to its end.
    pub(super) fn commit(&mut self, shared: &mut Shared, brokers: &[Broker], host: usize, term: u64) {
        let paused = brokers[host].machine.paused_until;
        let Some(hosted) = self.hosts.get_mut(&host).filter(|hosted| hosted.term == term) else { return };
        if paused > shared.now {
            shared.queue.plan(paused + MS, Event::Commit { host, term });
            return;
        }
        if self.term != term {
            // What became of it was decided when the next leader was elected.
            say!(shared, "b{host} learns that it leads the quorum no longer");
            self.hosts.remove(&host);
            return;
        }
        if !reaches_majority(shared, brokers, host) {
            shared.queue.plan(shared.now + 50 * MS, Event::Commit { host, term });
            return;
        }
        let Some(entries) = hosted.proposing.take() else { return };
        let fate = match std::mem::take(&mut self.fate) {
            Fate::Commits if shared.faulty && self.dice.chance(4) => Fate::IsLost,
            Fate::Commits if shared.faulty && self.dice.chance(4) => Fate::IsInDoubt,
            fate => fate,
        };
        match fate {
            Fate::Commits => {
                self.apply(shared, brokers, &entries);
                if let Some(hosted) = self.hosts.get_mut(&host) {
                    hosted.applied = shared.image.index;
                }
                self.pump(shared, host);
            }
            Fate::IsLost => {
                say!(shared, "a proposal of b{host} is lost");
                shared.fault("proposal lost");
                self.step_down(host);
            }
            Fate::IsInDoubt => {
                say!(shared, "a proposal of b{host} commits, it does not learn that");
                shared.fault("proposal in doubt");
                self.apply(shared, brokers, &entries);
                self.step_down(host);
            }
        }
    }

    fn step_down(&mut self, host: usize) {
        self.hosts.remove(&host);
        self.leader = None;
    }

    /// The voters look after their leader; controllers look at the clock.
    pub(super) fn vote(&mut self, shared: &mut Shared, brokers: &[Broker]) {
        shared.queue.plan(shared.now + VOTE_EVERY, Event::Vote);
        // Records are published again from time to time.
        let partitions: usize = shared.image.topics.values().map(|topic| topic.partitions.len()).sum();
        let mut at = self.dice.below(partitions as u64) as usize;
        let found = shared.image.topics.values().find_map(|topic| {
            if at < topic.partitions.len() {
                return Some(TopicPartition { topic: topic.id, partition: PartitionId(at as u32) });
            }
            at -= topic.partitions.len();
            None
        });
        if let Some(at) = found {
            shared.publish(at);
        }
        // Whoever hears from the present leader knows that it leads no longer.
        if let Some(leader) = self.leader {
            let (net, term) = (&shared.net, self.term);
            self.hosts.retain(|host, hosted| hosted.term == term || !net.connects(*host, leader));
        }
        let runs = |host: &usize| brokers[*host].machine.paused_until <= shared.now;
        let hosts: Vec<usize> = self.hosts.keys().copied().filter(runs).collect();
        for host in hosts {
            let now = brokers[host].machine.clock(shared.now);
            if let Some(hosted) = self.hosts.get_mut(&host)
                && hosted.controller.next_deadline().is_some_and(|deadline| deadline <= now)
            {
                hosted.controller.tick(now);
            }
            self.pump(shared, host);
        }
        let able = |broker: usize| {
            brokers[broker].process.is_some()
                && brokers[broker].machine.paused_until <= shared.now
                && reaches_majority(shared, brokers, broker)
        };
        if self.leader.is_some_and(|leader| self.hosts.contains_key(&leader) && able(leader)) {
            self.patience = None;
            return;
        }
        let patience = *self.patience.get_or_insert_with(|| shared.now + self.dice.below(shared.tempo.election_max));
        if shared.now < patience {
            return;
        }
        let candidates: Vec<_> = shared.voters.iter().copied().filter(|voter| able(*voter)).collect();
        if let Some(winner) = self.dice.pick(&candidates) {
            self.elect(shared, brokers, winner);
        }
    }

    /// Another voter than the leader, if there is one that could lead, takes over.
    pub(super) fn transfer(&mut self, shared: &mut Shared, brokers: &[Broker]) {
        let candidates: Vec<_> = shared.voters.iter().copied().filter(|voter| Some(*voter) != self.leader).collect();
        let able = |broker: &usize| {
            brokers[*broker].process.is_some()
                && brokers[*broker].machine.paused_until <= shared.now
                && reaches_majority(shared, brokers, *broker)
        };
        let candidates: Vec<_> = candidates.into_iter().filter(able).collect();
        if let Some(winner) = self.dice.pick(&candidates) {
            self.elect(shared, brokers, winner);
        }
    }

    fn elect(&mut self, shared: &mut Shared, brokers: &[Broker], winner: usize) {
        // What the last leader had proposed is with a majority, or it is not: who was elected has it, or nobody will.
        let last = self.leader.and_then(|leader| self.hosts.get_mut(&leader));
        if let Some(entries) = last.and_then(|host| host.proposing.take()) {
            if self.dice.chance(500) {
                shared.count("an old proposal committed at an election");
                self.apply(shared, brokers, &entries);
            } else {
                shared.count("an old proposal was dropped at an election");
            }
        }
        self.term += 1;
        self.leader = Some(winner);
        self.patience = None;
        shared.count("another controller");
        say!(shared, "b{winner} leads the quorum in term {}", self.term);
        let now = brokers[winner].machine.clock(shared.now);
        let controller = Controller::with_rules(shared.image.clone(), self.config, now, shared.controller_rules());
        let applied = shared.image.index;
        let host = Host { term: self.term, controller, waiting: VecDeque::new(), proposing: None, applied };
        self.hosts.insert(winner, host);
        self.pump(shared, winner);
    }

    /// Applies committed entries, and sends them on their way to everybody.
    pub(super) fn apply(&mut self, shared: &mut Shared, brokers: &[Broker], entries: &[Entry]) {
        for entry in entries {
            let before = shared.image.clone();
            if let Err(error) = shared.image.apply(entry) {
                shared.truths.violate(13, format!("entry {} cannot be applied: {error}", entry.index));
                return;
            }
            shared.truths.applied(&before, &shared.image);
            shared.metadata.push(entry.clone());
            shared.trace.mix(entry.index.0 << 8 | entry.deltas.len() as u64);
            entry.deltas.iter().for_each(|delta| note(shared, &before, delta));
            in_service(shared, brokers, entry);
        }
        let index = shared.image.index;
        for (i, broker) in brokers.iter().enumerate() {
            let voters = shared.voters.clone();
            let voter = self.dice.pick(&voters).unwrap_or(i);
            if broker.process.is_some() && brokers[voter].process.is_some() {
                let (from, to) = (Address::Broker(voter), Address::Broker(i));
                shared.net.send(&mut shared.queue, shared.now, from, to, Message::Feed(index));
            }
        }
    }
}

/// Who comes into service counts for no log that it could not open when it started (invariant 2).
fn in_service(shared: &mut Shared, brokers: &[Broker], entry: &Entry) {
    for delta in &entry.deltas {
        let Delta::NodeUnfenced { id } = delta else { continue };
        let epoch = shared.image.nodes.get(id).map(|node| node.epoch);
        let process = brokers.iter().filter_map(|broker| broker.process.as_ref());
        let current =
            |process: &&Process| process.identity.is_some_and(|me| me.node == *id && Some(me.broker_epoch) == epoch);
        let Some(process) = process.filter(|process| process.phase == Phase::Serving).find(current) else { continue };
        for at in process.not_opened() {
            let Some(state) = shared.image.partition(at) else { continue };
            // Who was elected uncleanly leads whatever it has.
            if !state.recovering && (state.isr.contains(id) || state.elr.contains(id)) {
                let text = format!("{id} is in service, in sync or eligible for {at}, whose log it could not open");
                shared.truths.violate(2, text);
            }
        }
    }
}

/// What an applied change means to those who watch; the entry that it is from was applied to `before`.
fn note(shared: &mut Shared, before: &Image, delta: &Delta) {
    say!(shared, "metadata {}: {}", shared.image.index, words(delta));
    match delta {
        Delta::PartitionChanged { partition, state }
            if state.recovering
                && !shared.asks_uncleanly
                && !was_asked_uncleanly(before, &shared.image, partition.topic) =>
        {
            let text = format!("{:?} leads {partition} uncleanly, which nobody asked for", state.leader);
            shared.truths.violate(8, text);
        }
        _ => {}
    }
    match delta {
        Delta::NodeRegistered(node) => {
            if let Some(broker) = node.peer_id.strip_prefix('d').and_then(|d| d.parse().ok()) {
                shared.registered(node.id, broker);
            }
        }
        Delta::TopicCreated(topic) => {
            for i in 0..topic.partitions.len() as u32 {
                shared.partition_changed(TopicPartition { topic: topic.id, partition: PartitionId(i) });
            }
        }
        Delta::PartitionChanged { partition, state } => {
            if !state.elr.is_empty() {
                shared.count("eligible replicas outside the isr");
            }
            if state.leader.is_none() {
                shared.count("a partition is offline");
            }
            if state.isr.len() == 1 && state.elr.is_empty() && state.recovering {
                shared.count("a partition recovers uncleanly");
            }
            if !state.adding.is_empty() {
                shared.count("a partition is being reassigned");
            }
            shared.partition_changed(*partition);
        }
        _ => {}
    }
}

/// Somebody wants leaders of a topic that may lack records, rather than none. The entry that says who leads may change the
/// topic's configs afterwards, or delete it.
fn was_asked_uncleanly(before: &Image, after: &Image, id: TopicId) -> bool {
    let strategies = ["unclean.recovery.strategy", "unclean.leader.election.enable"];
    let topics = [before, after].into_iter().filter_map(|image| image.topics.get(&id));
    topics.into_iter().any(|topic| strategies.iter().any(|key| topic.configs.contains_key(*key)))
}

fn words(delta: &Delta) -> String {
    match delta {
        Delta::NodeRegistered(node) => format!("node {} ({}) registers", node.id, node.peer_id),
        Delta::PartitionChanged { partition, state } => {
            let (leader, epoch) =
                (state.leader.map_or("nobody".to_owned(), |leader| leader.to_string()), state.leader_epoch);
            let ids = super::invariants::ids;
            format!(
                "{partition}: {leader} leads in epoch {epoch}, state {}, replicas {}, isr {}, elr {}, adding {}, removing {}{}",
                state.partition_epoch,
                ids(&state.replicas),
                ids(&state.isr),
                ids(&state.elr),
                ids(&state.adding),
                ids(&state.removing),
                if state.recovering { ", recovers" } else { "" },
            )
        }
        other => format!("{other:?}"),
    }
}

/// A majority of the voters can be talked to.
fn reaches_majority(shared: &Shared, brokers: &[Broker], from: usize) -> bool {
    let reached = |voter: &&usize| {
        let broker = &brokers[**voter];
        broker.process.is_some() && broker.machine.paused_until <= shared.now && shared.net.connects(from, **voter)
    };
    shared.voters.iter().filter(reached).count() * 2 > shared.voters.len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use rafka_broker::metadata::Topic;
    use rafka_model::TopicName;

    fn topic(configs: &[(&str, &str)]) -> Image {
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (id, name) = (TopicId([1; 16]), TopicName::new("t").expect("legal"));
        let topic =
            Topic { id, name, configs, replication_factor: 1, partitions: Vec::new(), changed: MetadataIndex(1) };
        Image { topics: [(id, Arc::new(topic))].into(), ..Image::default() }
    }

    #[test]
    fn an_unclean_election_was_asked_for_also_where_the_topic_is_deleted_in_the_same_entry() {
        let (plain, asks) = (topic(&[]), topic(&[("unclean.recovery.strategy", "balanced")]));
        let gone = Image::default();
        let asked = |before, after| was_asked_uncleanly(before, after, TopicId([1; 16]));
        assert!(asked(&asks, &gone) && asked(&asks, &plain) && asked(&plain, &asks));
        assert!(!asked(&plain, &plain) && !asked(&plain, &gone));
    }
}
