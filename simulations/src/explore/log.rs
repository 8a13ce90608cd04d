//! A log as a list.

use rafka_broker::replication::{Epochs, Position};
use rafka_model::{LeaderEpoch, Offset};

/// A record: the epoch in which it was appended, and which one it is of those that were ever produced.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Record {
    pub(super) epoch: LeaderEpoch,
    pub(super) value: u8,
}

/// A replica's log.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Log {
    records: Vec<Record>,
    /// How many of them a power cut leaves.
    flushed: usize,
}

impl Log {
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn position(&self) -> Position {
        Position { end: self.log_end(), flushed: Offset(self.flushed as i64) }
    }

    pub(super) fn append(&mut self, record: Record) {
        self.records.push(record);
    }

    /// True if that changed anything.
    pub(super) fn flush(&mut self) -> bool {
        let before = std::mem::replace(&mut self.flushed, self.records.len());
        before < self.flushed
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.flushed == self.records.len()
    }

    pub(super) fn truncate(&mut self, to: Offset) {
        self.records.truncate(usize::try_from(to.0).unwrap_or_default());
        self.flushed = self.flushed.min(self.records.len());
    }

    /// Power is lost: of what is not flushed, `kept` records are on the disk by chance.
    pub(super) fn cut(&mut self, kept: usize) {
        self.records.truncate(self.flushed + kept);
        self.flushed = self.records.len();
    }

    /// How many records a power cut may take.
    pub(super) fn unflushed(&self) -> usize {
        self.records.len() - self.flushed
    }

    /// The records from `offset` on, at most `count`.
    pub(super) fn read(&self, offset: Offset, count: usize) -> Vec<Record> {
        let from = usize::try_from(offset.0).unwrap_or_default();
        self.records.iter().skip(from).take(count).copied().collect()
    }

    /// The records before `offset`, as far as they are there.
    pub(super) fn before(&self, offset: Offset) -> &[Record] {
        &self.records[..usize::try_from(offset.0).unwrap_or_default().min(self.records.len())]
    }

    pub(super) fn holds(&self, value: u8) -> bool {
        self.records.iter().any(|record| record.value == value)
    }
}

impl Epochs for Log {
    fn log_start(&self) -> Offset {
        Offset::ZERO
    }

    fn log_end(&self) -> Offset {
        Offset(self.records.len() as i64)
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let next = self.records.partition_point(|record| record.epoch <= epoch);
        let largest = next.checked_sub(1).map(|last| self.records[last].epoch);
        match next == self.records.len() {
            true if largest == Some(epoch) => Some((epoch, self.log_end())),
            true => None,
            false => Some((largest.unwrap_or(epoch), Offset(next as i64))),
        }
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.records.last().map(|record| record.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_where_the_next_begins() {
        let mut log = Log::default();
        [1, 1, 3]
            .into_iter()
            .zip(0..)
            .for_each(|(epoch, value)| log.append(Record { epoch: LeaderEpoch(epoch), value }));
        let end = |epoch| log.end_offset_for_epoch(LeaderEpoch(epoch)).map(|(epoch, end)| (epoch.0, end.0));
        assert_eq!(
            [end(0), end(1), end(2), end(3), end(4)],
            [Some((0, 0)), Some((1, 2)), Some((1, 2)), Some((3, 3)), None]
        );
        assert_eq!(Log::default().end_offset_for_epoch(LeaderEpoch(0)), None);
    }

    #[test]
    fn a_power_cut_takes_what_is_not_flushed() {
        let mut log = Log::default();
        let record = |value| Record { epoch: LeaderEpoch(0), value };
        log.append(record(0));
        assert!(log.flush() && !log.flush());
        [1, 2].into_iter().for_each(|value| log.append(record(value)));
        let mut lucky = log.clone();
        lucky.cut(1);
        log.cut(0);
        assert_eq!((log.records().len(), lucky.records().len(), lucky.is_flushed()), (1, 2, true));
    }
}
