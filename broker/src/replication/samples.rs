//! Histories of logs, for simulations and unit tests.

use rafka_model::{LeaderEpoch, NodeId, Offset, PartitionId, TopicId, TopicPartition};

use super::Epochs;

pub(crate) const AT: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(0) };
pub(crate) const ME: NodeId = NodeId(1);
pub(crate) const A: NodeId = NodeId(2);
pub(crate) const B: NodeId = NodeId(3);

/// A log by the leader epochs of its records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct History {
    pub(crate) start: i64,
    pub(crate) epochs: Vec<i32>,
}

impl History {
    /// The epochs, each with the offset of its first record.
    fn entries(&self) -> Vec<(LeaderEpoch, Offset)> {
        let mut entries: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for (offset, epoch) in (self.start..).zip(&self.epochs) {
            if entries.last().is_none_or(|(last, _)| last.0 != *epoch) {
                entries.push((LeaderEpoch(*epoch), Offset(offset)));
            }
        }
        entries
    }
}

impl Epochs for History {
    fn log_start(&self) -> Offset {
        Offset(self.start)
    }

    fn log_end(&self) -> Offset {
        Offset(self.start + self.epochs.len() as i64)
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let entries = self.entries();
        let next = entries.partition_point(|(other, _)| *other <= epoch);
        let floor = next.checked_sub(1).map(|i| entries[i].0);
        match entries.get(next) {
            Some((_, start)) => Some((floor.unwrap_or(epoch), *start)),
            None => floor.filter(|floor| *floor == epoch).map(|_| (epoch, self.log_end())),
        }
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.last().map(|epoch| LeaderEpoch(*epoch))
    }
}
