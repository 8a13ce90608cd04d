//! What administrators do.

use std::collections::BTreeMap;

use rafka_model::{NodeId, PartitionId, TopicPartition};

use super::Simulation;
use crate::controller::{Answer, Command, Election};
use crate::group::OFFSETS_TOPIC;
use crate::request::{Admin, AdminReply, ConfigChange, NewTopic};

impl Simulation {
    pub(super) fn change_topics(&mut self) -> Result<(), String> {
        let name = match self.random.one_in(8) {
            true => OFFSETS_TOPIC.to_owned(),
            false => format!("t{}", self.random.below(3)),
        };
        let validate_only = self.random.one_in(5);
        let request = match self.random.below(8) {
            0..4 => {
                let new = self.new_topic(name);
                Admin::CreateTopics { topics: vec![new], validate_only }
            }
            4 => Admin::DeleteTopics { names: vec![name], validate_only },
            5 => {
                let (total, assignments) = (self.random.below(7) as u32, Vec::new());
                Admin::AddPartitions { name, total, assignments, validate_only }
            }
            _ => {
                let key = if self.random.one_in(3) { "retention.ms" } else { "min.insync.replicas" };
                let change = match self.random.one_in(3) {
                    true => ConfigChange::Reset,
                    false => ConfigChange::Set((1 + self.random.below(2)).to_string()),
                };
                let changes = BTreeMap::from([(key.to_owned(), change)]);
                Admin::AlterConfigs { name, changes, replace: self.random.one_in(9), validate_only }
            }
        };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let before = self.controller.overlay().clone();
        let answer = self.evaluate(Command::Admin { request, seed }, None, false)?;
        let Answer::Admin(AdminReply::Topics(replies)) = answer else { return Ok(()) };
        let done = replies.iter().any(|reply| reply.result.is_ok()) && !validate_only;
        if !done && before != *self.controller.overlay() {
            return Err("a refused or merely checked change left a trace".to_owned());
        }
        Ok(())
    }

    fn new_topic(&mut self, name: String) -> NewTopic {
        let mut configs = BTreeMap::new();
        let mut set = |key: &str, value: &str| drop(configs.insert(key.to_owned(), value.to_owned()));
        if name == OFFSETS_TOPIC {
            set("cleanup.policy", "compact");
        }
        if self.random.one_in(3) {
            set("durability", "fsync");
        }
        match self.random.below(5) {
            0 => set("unclean.recovery.strategy", "aggressive"),
            1..4 => set("unclean.recovery.strategy", "balanced"),
            _ => {}
        }
        if self.random.one_in(2) {
            set("min.insync.replicas", if self.random.one_in(2) { "1" } else { "2" });
        }
        let wanted = self.random.below(5) as u16;
        NewTopic {
            name,
            partitions: Some(self.random.below(4) as u32),
            replication_factor: (wanted > 0).then_some(wanted),
            configs,
            ..NewTopic::default()
        }
    }

    /// Some partition that the controller knows.
    pub(super) fn some_partition(&mut self) -> Option<TopicPartition> {
        let topics = &self.controller.overlay().topics;
        let count = topics.len() as u64;
        let topic = topics.values().nth(self.random.below(count.max(1)) as usize)?.clone();
        let partition = PartitionId(self.random.below(topic.partitions.len() as u64) as u32);
        Some(TopicPartition { topic: topic.id, partition })
    }

    fn some_node(&mut self) -> NodeId {
        NodeId(1 + self.random.below(IDS))
    }

    /// What an operator does to nodes and replicas.
    pub(super) fn operate(&mut self) -> Result<(), String> {
        let node = self.some_node();
        let command = match self.random.below(16) {
            0..2 => Command::Drain { node, on: true },
            2..5 => Command::Drain { node, on: false },
            5 => Command::Decommission { node },
            6..11 => {
                let Some(at) = self.some_partition() else { return Ok(()) };
                let target = (!self.random.one_in(4)).then(|| {
                    let count = 1 + self.random.below(3);
                    (0..count).map(|_| self.some_node()).collect()
                });
                Command::Reassign(vec![(at, target)])
            }
            11..14 => {
                let Some(at) = self.some_partition() else { return Ok(()) };
                Command::Elect { partitions: vec![at], how: Election::Preferred }
            }
            14 => {
                let Some(at) = self.some_partition() else { return Ok(()) };
                Command::Elect { partitions: vec![at], how: Election::Unclean }
            }
            _ => Command::Upgrade { level: 1 + self.random.below(2) as u32 },
        };
        let by_operator = matches!(command, Command::Elect { how: Election::Unclean, .. });
        let peer = self.controller.overlay().nodes.get(&node).map(|node| node.peer_id.clone());
        if let Answer::Decommissioned = self.evaluate(command, None, by_operator)? {
            let gone = |who: u8| Some(format!("peer-{who}")) == peer;
            self.processes.iter_mut().filter(|process| gone(process.who)).for_each(|process| process.heard = None);
        }
        Ok(())
    }
}

/// Node ids that may be in use.
const IDS: u64 = 8;
