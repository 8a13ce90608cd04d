//! Healing: once nothing fails any more, everything comes into order.

use std::collections::BTreeSet;

use rafka_model::limits::LEADER_IMBALANCE_PERCENT_MAX;
use rafka_model::{NodeId, PartitionId, TopicId, TopicPartition};

use super::Simulation;
use crate::controller::standing::Standing;
use crate::controller::{Command, Election};
use crate::group::OFFSETS_TOPIC;
use crate::metadata::{PartitionState, Role};

impl Simulation {
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.restart_all()?;
        self.settle(12)?;
        self.check_leaders()?;
        let command = Command::Elect { partitions: Vec::new(), how: Election::Unclean };
        self.evaluate(command, None, true)?;
        self.settle(40)?;
        self.check_order(&BTreeSet::new())?;
        self.bury_one()
    }

    /// Every node comes back, with a program that knows everything.
    fn restart_all(&mut self) -> Result<(), String> {
        self.processes.iter_mut().for_each(|process| process.retired = true);
        self.pending.clear();
        let sessions = 3 * self.config.session_ms;
        self.advance(sessions)?;
        for node in self.committed.nodes.clone().into_values() {
            let who = node.peer_id.bytes().last().unwrap_or_default() - b'0';
            self.add_process(who);
            let process = self.processes.last_mut().expect("just added");
            (process.unclean, process.features_max) = (self.torn.contains(&who), 2);
            process.directory = self.directories.get(&who).copied().unwrap_or_default();
            self.register_process(self.processes.len() - 1)?;
        }
        self.commit(false)
    }

    /// Lets time pass in which everybody is heard, fetches and proposes.
    fn settle(&mut self, seconds: u64) -> Result<(), String> {
        for _ in 0..seconds {
            self.beat(None)?;
            self.report_failures()?;
            self.replicate_all()?;
            self.deliver_all()?;
            for _ in 0..4 {
                self.answer_questions()?;
            }
            self.commit(false)?;
            self.advance(1_000)?;
            self.commit(false)?;
        }
        Ok(())
    }

    /// Every node but one says that it lives.
    fn beat(&mut self, but: Option<NodeId>) -> Result<(), String> {
        for node in self.controller.overlay().nodes.clone().into_values().filter(|node| Some(node.id) != but) {
            let (index, now) = (self.committed.index, self.now);
            let heard = self.controller.heartbeat(node.id, node.epoch, index, now);
            heard.map_err(|failure| format!("node {}: {failure}", node.id))?;
            self.heard.insert(node.id, now);
        }
        self.note_events(false)
    }

    /// Whatever lost no records is led.
    fn check_leaders(&self) -> Result<(), String> {
        for topic in self.committed.topics.values() {
            for (at, state) in self.partitions_of(topic.id) {
                if state.leader.is_none() && !self.replicas.spoiled.contains(&at) {
                    return Err(format!("{at} has no leader after all nodes came back: {state:?}"));
                }
            }
        }
        Ok(())
    }

    fn partitions_of(&self, id: TopicId) -> impl Iterator<Item = (TopicPartition, &PartitionState)> {
        let topic = &self.committed.topics[&id];
        (0..)
            .zip(&topic.partitions)
            .map(move |(partition, state)| (TopicPartition { topic: id, partition: PartitionId(partition) }, state))
    }

    /// All replicas are in sync, nothing moves or waits, nodes that leave are empty, and leaders are where they should be.
    fn check_order(&self, dead: &BTreeSet<NodeId>) -> Result<(), String> {
        let leaves = |id: &NodeId| dead.contains(id) || self.committed.nodes[id].draining;
        let brokers = self.committed.nodes.values().filter(|node| node.role == Role::Broker && !leaves(&node.id));
        let brokers: BTreeSet<NodeId> = brokers.map(|node| node.id).collect();
        let replicates = self.config.replication_factor_max > 1;
        for topic in self.committed.topics.values() {
            for (at, state) in self.partitions_of(topic.id) {
                let wrong = |why: &str| Err(format!("{at} {why}: {state:?}"));
                if state.leader.is_none() && state.replicas.iter().all(|id| dead.contains(id)) {
                    continue;
                }
                let in_sync = |id: &&NodeId| state.isr.contains(id) || dead.contains(id);
                if state.leader.is_none() || !state.replicas.iter().all(|id| in_sync(&id)) {
                    return wrong("is not in sync");
                }
                if !state.target.is_empty() || state.recovering {
                    return wrong("has not settled");
                }
                let room = brokers.iter().any(|id| !state.replicas.contains(id));
                if replicates && room && state.replicas.iter().any(leaves) {
                    return wrong("stays on a node that leaves");
                }
                let internal = replicates && topic.name.as_str() == OFFSETS_TOPIC;
                if internal && state.replicas.len() < brokers.len().min(3) {
                    return wrong("has not grown");
                }
            }
        }
        if Standing::new(&self.committed) != *self.controller.journal.standing() {
            return Err("counts do not match the image".to_owned());
        }
        self.check_balance()
    }

    fn check_balance(&self) -> Result<(), String> {
        let standing = self.controller.journal.standing();
        for (id, all) in &standing.preferred {
            let node = &self.committed.nodes[id];
            let able = |state: &&PartitionState| state.isr.contains(id) && state.goal().first() == Some(id);
            let elsewhere = standing.elsewhere.iter().filter_map(|at| self.committed.partition(*at));
            let missed = elsewhere.filter(able).count();
            if !node.draining && !node.fenced && missed * 100 > all * LEADER_IMBALANCE_PERCENT_MAX {
                return Err(format!("node {id} leads {missed} of {all} partitions less than it should"));
            }
        }
        Ok(())
    }

    /// One node stays away for good.
    fn bury_one(&mut self) -> Result<(), String> {
        let ids: Vec<_> = self.committed.nodes.keys().copied().collect();
        if ids.is_empty() || self.config.replication_factor_max == 1 {
            return Ok(());
        }
        let dead = ids[self.random.below(ids.len() as u64) as usize];
        self.replicas.running.remove(&dead);
        let seconds = (self.config.session_ms + self.config.dead_node_ms) / 1_000 + 40;
        for _ in 0..seconds {
            self.beat(Some(dead))?;
            self.replicate_all()?;
            self.deliver_all()?;
            self.commit(false)?;
            self.advance(1_000)?;
            self.commit(false)?;
        }
        self.check_order(&BTreeSet::from([dead]))
    }
}
