//! The end of a run: every fault ends, and then everything that was asked must be answered, and every replica be whole.

use rafka_broker::controller::{Command, Election};
use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_broker::metadata::{PartitionState, Topic};
use rafka_broker::request::{Admin as Request, ConfigChange};

use rafka_model::{NodeId, PartitionId, TopicPartition};

use super::event::Event;
use super::process::{Process, Role};
use super::shadow::Shadow;
use super::tempo::MS;
use super::trace::say;
use super::world::{Broker, World};

/// Virtual time after which something will never happen, ns.
const PATIENCE: u64 = 120_000 * MS;
/// Steps between two looks whether all is well.
const LOOK_EVERY: u64 = 40;

impl World {
    /// All faults end.
    pub(super) fn heal(&mut self) {
        say!(self.shared, "all faults end after {} steps", self.steps);
        self.healed = Some(self.shared.now);
        self.shared.faulty = false;
        self.shared.net.cuts.clear();
        self.shared.net.storms.clear();
        self.shared.net.climate = super::network::Weather::default();
        for (broker, Broker { machine, .. }) in self.brokers.iter_mut().enumerate() {
            machine.faults.set_free_bytes(None);
            machine.faults.set_fail_syncs(false);
            machine.slow = 0;
            machine.paused_until = 0;
            // What was to come does not.
            machine.faults.fail_at(u64::MAX, 5);
            machine.faults.halt_at(u64::MAX);
            machine.halts_with = None;
            self.shared.queue.plan(self.shared.now + MS, Event::Start { broker });
        }
        self.admin.give_up();
    }

    /// True if all is well, or it is clear that it will never be.
    pub(super) fn finished(&mut self) -> bool {
        if !self.steps.is_multiple_of(LOOK_EVERY) {
            return false;
        }
        let since = self.shared.now - self.healed.unwrap_or_default();
        let trouble = self.trouble();
        let session = self.shared.tempo.session.as_nanos() as u64;
        match trouble {
            None => {
                if !self.last {
                    // Everybody produces once more, and reads to the end.
                    self.last = true;
                    self.last_work();
                    return false;
                }
                self.compare();
                true
            }
            Some(words) if since > PATIENCE => {
                self.shared.truths.violate(16, format!("{} s after healing {words}", since / 1_000 / MS));
                true
            }
            Some(_) => {
                // What an operator would do, again and again.
                let round = (since / (6 * session)) as u32;
                if round > self.mended {
                    self.mended = round;
                    self.operate(round);
                }
                false
            }
        }
    }

    fn operate(&mut self, round: u32) {
        say!(self.shared, "an operator looks after the cluster for the {round}. time");
        let World { admin, shared, .. } = self;
        for node in shared.image.nodes.values().filter(|node| node.draining).map(|node| node.id).collect::<Vec<_>>() {
            admin.ask(shared, Command::Drain { node, on: false }, false);
        }
        // More replicas in sync than there are is more than anybody can have.
        let short =
            |topic: &&Arc<Topic>| topic.partitions.iter().any(|state| state.replicas.len() < topic.min_insync());
        let topics: Vec<_> = shared.image.topics.values().filter(short).map(|topic| topic.name.to_string()).collect();
        for name in topics {
            let changes = BTreeMap::from([("min.insync.replicas".to_owned(), ConfigChange::Set("1".to_owned()))]);
            let request = Request::AlterConfigs { name, changes, replace: false, validate_only: false };
            admin.ask(shared, Command::Admin { request, seed: [0; 32] }, false);
        }
        self.call_off(round);
        self.salvage();
        if round > 1 {
            self.elect_uncleanly();
            self.delete_lost();
        }
    }

    /// Topics of which a partition was on disks only that are gone.
    fn delete_lost(&mut self) {
        let image = &self.shared.image;
        let gone = |id: &NodeId| image.nodes.get(id).is_none_or(|node| node.fenced);
        let lost = |state: &PartitionState| state.leader.is_none() && state.replicas.iter().all(gone);
        let topics = image.topics.values().filter(|topic| topic.partitions.iter().any(lost));
        let names: Vec<_> = topics.map(|topic| topic.name.to_string()).collect();
        if !names.is_empty() {
            self.shared.count("a lost topic was deleted by an operator");
            let request = Request::DeleteTopics { names, validate_only: false };
            self.admin.ask(&mut self.shared, Command::Admin { request, seed: [0; 32] }, false);
        }
    }

    /// An operator starts brokers again whose logs cannot be used, and keeps what is there.
    fn salvage(&mut self) {
        self.shared.salvages = true;
        for broker in 0..self.brokers.len() {
            let failed = self.brokers[broker].process.as_ref().is_some_and(|process| !process.failed.is_empty());
            if failed {
                self.shared.count("logs salvaged by an operator");
                self.kill(broker, None, MS);
            }
        }
    }

    /// An operator calls off what waits for nodes that will never come back, and later makes do with those that are there.
    fn call_off(&mut self, round: u32) {
        let image = &self.shared.image;
        let dead = |node: &NodeId| image.nodes.get(node).is_none_or(|node| node.fenced);
        let mut moves = Vec::new();
        for (id, topic) in &image.topics {
            for (i, state) in (0..).zip(&topic.partitions) {
                let at = TopicPartition { topic: *id, partition: PartitionId(i) };
                if round > 2 && state.goal().iter().any(dead) && state.leader.is_some() {
                    // Whoever is left.
                    let live = image.nodes.values().filter(|node| !node.fenced).map(|node| node.id);
                    let stay = state.goal().iter().copied().filter(|id| !dead(id));
                    let mut target: Vec<NodeId> = stay.collect();
                    target.extend(live.filter(|id| !state.goal().contains(id)));
                    target.truncate(state.goal().len());
                    moves.push((at, Some(target)));
                } else if state.target.iter().any(dead) {
                    moves.push((at, None));
                }
            }
        }
        if !moves.is_empty() {
            self.shared.count("a reassignment called off by an operator");
            self.admin.ask(&mut self.shared, Command::Reassign(moves), false);
        }
    }

    /// An operator has partitions led by whoever is there.
    fn elect_uncleanly(&mut self) {
        let offline =
            self.shared.image.topics.values().any(|topic| topic.partitions.iter().any(|p| p.leader.is_none()));
        if offline {
            self.shared.count("unclean election by an operator");
            self.shared.asks_uncleanly = true;
            let command = Command::Elect { partitions: Vec::new(), how: Election::Unclean };
            self.admin.ask(&mut self.shared, command, false);
        }
    }

    fn last_work(&mut self) {
        for client in &mut self.clients {
            client.work(&mut self.shared, if client.is_producer() { 1 } else { 500 });
        }
    }

    /// Something that is not as it should be in the end (invariant 16).
    fn trouble(&self) -> Option<String> {
        let image = &self.shared.image;
        for (i, Broker { process, .. }) in self.brokers.iter().enumerate() {
            let Some(process) = process else { return Some(format!("b{i} does not run")) };
            let node = image.nodes.get(&process.node());
            if node.is_none_or(|node| node.fenced) {
                return Some(format!("b{i} (node {}) is not in service: {}", process.node(), process.state()));
            }
            if process.image.index != image.index {
                return Some(format!("b{i} has metadata up to {}, not {}", process.image.index, image.index));
            }
            if !process.failed.is_empty() {
                return Some(format!("b{i} has failed replicas: {:?}", process.failed));
            }
        }
        if !self.admin.is_idle() {
            return Some("a request of the administrator has no answer".to_owned());
        }
        for (id, topic) in &image.topics {
            for (i, state) in topic.partitions.iter().enumerate() {
                // All of its replicas were on disks that are gone.
                let gone = |id: &NodeId| image.nodes.get(id).is_none_or(|node| node.fenced);
                let lost = state.leader.is_none() && state.replicas.iter().all(gone);
                let whole = lost
                    || state.leader.is_some()
                        && state.replicas.iter().all(|replica| state.isr.contains(replica))
                        && state.adding.is_empty()
                        && state.removing.is_empty()
                        && !state.recovering;
                if !whole {
                    let at = TopicPartition { topic: *id, partition: PartitionId(i as u32) };
                    return Some(format!("partition {at} is {state:?}; {}", self.standing(at)));
                }
            }
        }
        if let Some(words) = self.behind() {
            return Some(words);
        }
        let busy = self.clients.iter().find(|client| !client.is_idle());
        busy.map(|client| format!("a client has no answer: {}", client.standing()))
    }

    /// Where the replicas of a partition stand, in words.
    fn standing(&self, at: TopicPartition) -> String {
        let processes = self.brokers.iter().filter_map(|broker| broker.process.as_ref());
        let standing = |process: &Process| {
            let replica = process.replicas.get(&at)?;
            let (start, end, flushed) = (replica.log.log_start(), replica.log.log_end(), replica.log.flushed());
            let role = match &replica.role {
                Role::Leader(leader) => format!(
                    "leads in epoch {}, counts {:?}, proposes {:?}",
                    leader.epoch(),
                    leader.maximal_isr(),
                    leader.pending()
                ),
                Role::Follower(follower) => format!("follows {:?} in epoch {}", follower.leader(), follower.epoch()),
            };
            let mark = replica.high_watermark();
            Some(format!("{}: {start}..{end}, flushed {flushed}, high watermark {mark}, {role}", process.node()))
        };
        processes.filter_map(standing).collect::<Vec<_>>().join("; ")
    }

    /// A replica that is not where its leader is.
    fn behind(&self) -> Option<String> {
        for broker in &self.brokers {
            let Some(process) = &broker.process else { continue };
            for (at, replica) in &process.replicas {
                let truth = self.shared.truths.get(*at).map_or(0, |truth| truth.log.end());
                let (end, high_watermark) = (replica.log.log_end().0, replica.high_watermark().0);
                if end != high_watermark || truth > end {
                    let node = process.node();
                    let all = self.standing(*at);
                    return Some(format!("{at} on node {node} ends at {end}, high watermark {high_watermark}: {all}"));
                }
            }
        }
        None
    }

    /// The logs themselves, byte by byte, against what was kept in mind of them; and images and directories.
    fn compare(&mut self) {
        let mut wrong = Vec::new();
        for (i, broker) in self.brokers.iter().enumerate() {
            let Some(process) = &broker.process else { continue };
            if process.image != self.shared.image {
                wrong.push((13, format!("the image of b{i} is not what the metadata log leads to")));
            }
            for (at, replica) in &process.replicas {
                let Some(state) = self.shared.image.partition(*at) else { continue };
                let read = Shadow::read(&replica.reader);
                let same = read.as_ref().is_ok_and(|read| read.from(read.start) == replica.shadow.from(read.start));
                if !same {
                    wrong.push((4, format!("the log of {at} on b{i} does not hold what was written: {read:?}")));
                }
                self.shared.truths.member(*at, process.node(), &replica.shadow, state);
            }
        }
        if let Some(words) = self.shared.directory.wrong() {
            wrong.push((14, words));
        }
        wrong.into_iter().for_each(|(invariant, words)| self.shared.truths.violate(invariant, words));
    }
}
