//! The DHT as a model: a few holders of records that may be old, missing, or were offered forged ones.

use std::collections::BTreeMap;

use rafka_model::{LeaderEpoch, MetadataIndex, NodeId, TopicPartition};

use super::dice::Dice;

const HOLDERS: usize = 3;

/// Who leads a partition, as the controller signed it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Record {
    pub(super) version: MetadataIndex,
    pub(super) leader: Option<NodeId>,
    pub(super) epoch: LeaderEpoch,
    /// The signature is the cluster's.
    pub(super) genuine: bool,
}

#[derive(Debug)]
pub(super) struct Directory {
    holders: [BTreeMap<TopicPartition, Record>; HOLDERS],
    dice: Dice,
}

impl Directory {
    pub(super) fn new(seed: u64) -> Self {
        Self { holders: Default::default(), dice: Dice::of(&[seed, 6]) }
    }

    /// A record is published; some holders are not reached.
    pub(super) fn publish(&mut self, at: TopicPartition, record: Record) {
        for holder in 0..HOLDERS {
            if self.dice.chance(600) {
                self.put(holder, at, record);
            }
        }
    }

    /// A holder validates what it is given: genuine and not older than what it has.
    fn put(&mut self, holder: usize, at: TopicPartition, record: Record) {
        let held = self.holders[holder].get(&at);
        if record.genuine && held.is_none_or(|held| held.version <= record.version) {
            self.holders[holder].insert(at, record);
        }
    }

    /// Somebody offers holders a record of its own making, or an old one again.
    pub(super) fn forge(&mut self, at: TopicPartition, leader: NodeId) {
        let holder = self.dice.below(HOLDERS as u64) as usize;
        let held = self.holders[holder].get(&at).copied();
        let version = MetadataIndex(self.dice.below(1_000));
        let lie = Record { version, leader: Some(leader), epoch: LeaderEpoch(9_999), genuine: false };
        self.put(holder, at, lie);
        if let Some(old) = held {
            self.put(holder, at, Record { version: MetadataIndex(old.version.0.saturating_sub(1)), ..old });
        }
    }

    /// One holder's answer; `None`: it has nothing, or does not answer.
    pub(super) fn look_up(&mut self, at: TopicPartition) -> Option<Record> {
        let holder = self.dice.below(HOLDERS as u64) as usize;
        if self.dice.chance(150) {
            return None;
        }
        self.holders[holder].get(&at).copied()
    }

    /// A record that is not what it should be (invariant 14).
    pub(super) fn wrong(&self) -> Option<String> {
        let mut records = self.holders.iter().flatten();
        records.find(|(_, record)| !record.genuine).map(|(at, record)| format!("a holder has {record:?} for {at}"))
    }
}
