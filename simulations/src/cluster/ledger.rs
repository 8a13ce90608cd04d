//! What was sent and acknowledged, and whether what was read agrees with it.

use std::collections::{BTreeMap, BTreeSet};

use rafka_client::{ConsumedRecord, Offset, PartitionId};

/// Violations told of each kind.
const TOLD_MAX: usize = 3;

/// A record as it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Read {
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    pub(super) key: String,
    pub(super) sequence: u64,
}

impl Read {
    pub(super) fn of(record: &ConsumedRecord) -> Result<Self, String> {
        let at = || format!("{}/{}", record.partition, record.offset);
        let text = |bytes: Option<&[u8]>| {
            let bytes = bytes.unwrap_or_default().to_vec();
            String::from_utf8(bytes).map_err(|_| format!("the record at {} is not text", at()))
        };
        let sequence = text(record.value.as_deref())?;
        let sequence = sequence.parse().map_err(|_| format!("the record at {} was never sent: {sequence:?}", at()))?;
        let key = text(record.key.as_deref())?;
        Ok(Self { partition: record.partition, offset: record.offset, key, sequence })
    }
}

/// A record as it was sent.
#[derive(Clone, Debug)]
struct Entry {
    key: String,
    acknowledged: Option<(PartitionId, Offset)>,
}

/// Every record that was sent, by its sequence number.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(BTreeMap<u64, Entry>);

/// What a check found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) duplicates: u64,
    pub(super) violations: Vec<String>,
}

impl Ledger {
    /// Notes what became of a record.
    pub(super) fn sent(&mut self, sequence: u64, key: &str, acknowledged: Option<(PartitionId, Offset)>) {
        self.0.insert(sequence, Entry { key: key.to_owned(), acknowledged });
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.0.values().filter(|entry| entry.acknowledged.is_some()).count() as u64
    }

    pub(super) fn acknowledged_sequences(&self) -> BTreeSet<u64> {
        self.0.iter().filter(|(_, entry)| entry.acknowledged.is_some()).map(|(sequence, _)| *sequence).collect()
    }

    /// Compares with what was read, in the order of reading.
    pub(super) fn check(&self, reads: &[Read]) -> Found {
        let mut broken: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut breaks = |rule: &'static str, words: String| broken.entry(rule).or_default().push(words);
        let mut places: BTreeMap<(PartitionId, Offset), u64> = BTreeMap::new();
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
        let mut next: BTreeMap<PartitionId, Offset> = BTreeMap::new();
        let mut duplicates = 0;
        for read in reads {
            let at = format!("{}/{}", read.partition, read.offset);
            if places.insert((read.partition, read.offset), read.sequence).is_some() {
                breaks("an offset was read twice", at.clone());
            }
            let due = next.insert(read.partition, read.offset.plus(1)).unwrap_or(Offset::ZERO);
            if read.offset != due {
                breaks("offsets are not read one after the other", format!("{at} instead of {due}"));
            }
            match self.0.get(&read.sequence) {
                None => breaks("a record was read that was never sent", format!("{} at {at}", read.sequence)),
                Some(entry) if entry.key != read.key => breaks("a record was read with another key", at.clone()),
                Some(_) => {}
            }
            if !seen.insert(read.sequence) {
                duplicates += 1;
                continue;
            }
            let before = latest.entry(&read.key).or_default();
            if read.sequence < *before {
                breaks("records of one key changed places", format!("{} behind {before}", read.sequence));
            }
            *before = read.sequence;
        }
        for (sequence, entry) in &self.0 {
            let Some(place) = entry.acknowledged else { continue };
            if !seen.contains(sequence) {
                breaks("an acknowledged record was not read", format!("{sequence} at {}/{}", place.0, place.1));
            } else if places.get(&place) != Some(sequence) {
                breaks("a record is not where it was acknowledged", format!("{sequence} at {}/{}", place.0, place.1));
            }
        }
        let told = |(rule, cases): (&str, Vec<String>)| {
            format!("{rule}: {} times, as {}", cases.len(), cases[..cases.len().min(TOLD_MAX)].join(", "))
        };
        Found { duplicates, violations: broken.into_iter().map(told).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(offset: i64, sequence: u64) -> Read {
        Read { partition: PartitionId(0), offset: Offset(offset), key: "k".to_owned(), sequence }
    }

    /// Records 0 to 3 of one key, acknowledged at the offsets of the same number, and 4, which was not acknowledged.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        (0..4).for_each(|n| ledger.sent(n, "k", Some((PartitionId(0), Offset(n as i64)))));
        ledger.sent(4, "k", None);
        ledger
    }

    fn rules(reads: &[Read]) -> Vec<String> {
        let found = ledger().check(reads).violations;
        found.iter().map(|words| words.split(':').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn what_is_read_as_it_was_acknowledged_is_right_and_the_unacknowledged_may_come_or_not() {
        let reads: Vec<_> = (0..4).map(|n| read(n, n as u64)).collect();
        assert_eq!(ledger().check(&reads), Found::default());
        assert_eq!(ledger().check(&[&reads[..], &[read(4, 4)]].concat()), Found::default());
    }

    #[test]
    fn a_retry_is_counted_and_not_blamed() {
        let reads: Vec<_> = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 2), (5, 3)].map(|(at, n)| read(at, n)).to_vec();
        assert_eq!(ledger().check(&reads), Found { duplicates: 2, violations: vec![] });
    }

    #[test]
    fn every_kind_of_loss_and_disorder_is_found() {
        let all = |list: &[(i64, u64)]| list.iter().map(|(at, n)| read(*at, *n)).collect::<Vec<_>>();
        assert_eq!(rules(&all(&[(0, 0), (1, 1), (2, 2)])), ["an acknowledged record was not read"]);
        let swapped = rules(&all(&[(0, 0), (1, 2), (2, 1), (3, 3)]));
        assert_eq!(swapped, ["a record is not where it was acknowledged", "records of one key changed places"]);
        let twice = rules(&all(&[(0, 0), (1, 1), (1, 1), (2, 2), (3, 3)]));
        assert_eq!(twice, ["an offset was read twice", "offsets are not read one after the other"]);
        assert_eq!(rules(&all(&[(0, 0), (1, 1), (2, 2), (3, 3), (4, 9)])), ["a record was read that was never sent"]);
    }
}
