//! What stays of a batch.

use std::collections::BTreeSet;

use rafka_model::{BatchHeader, Offset, ProducerId, Timestamp};

use super::Compaction;
use super::map::{OffsetMap, hash};
use super::raw::{self, Marker, RawRecord, Records};
use super::survey::Survey;

/// What becomes of a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It stays as it is.
    Keep,
    /// This takes its place, of the same offsets.
    Replace(Vec<u8>),
    /// Nothing of it stays.
    Drop,
}

/// Judges batch after batch, in the order of their offsets.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    map: &'a OffsetMap,
    survey: &'a Survey,
    /// The map knows of nothing from here on.
    end: Offset,
    log_start: Offset,
    now: Timestamp,
    /// Tombstones that are seen for the first time may go then.
    horizon: Timestamp,
    producer_expiration_ms: u64,
    /// Producers of whose running transaction batches were seen, by how it ends.
    aborted_seen: BTreeSet<ProducerId>,
    committed_seen: BTreeSet<ProducerId>,
    /// Which records of the present batch stay; kept for its allocation.
    kept: Vec<bool>,
    pub(super) records_removed: u64,
    pub(super) batches_unreadable: u64,
}

impl<'a> Filter<'a> {
    pub(super) fn new(
        plan: &Compaction,
        map: &'a OffsetMap,
        survey: &'a Survey,
        end: Offset,
        producer_expiration_ms: u64,
    ) -> Self {
        Self {
            map,
            survey,
            end,
            log_start: plan.shared().start(),
            now: plan.now,
            horizon: Timestamp(plan.now.0.saturating_add_unsigned(plan.delete_retention_ms)),
            producer_expiration_ms,
            aborted_seen: BTreeSet::new(),
            committed_seen: BTreeSet::new(),
            kept: Vec::new(),
            records_removed: 0,
            batches_unreadable: 0,
        }
    }

    /// Offset from which on everything stays.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    /// `newest` is the largest timestamp of the batch's segment.
    pub(super) fn judge(&mut self, header: &BatchHeader, batch: &[u8], newest: i64) -> Verdict {
        if header.base_offset >= self.end {
            return Verdict::Keep;
        }
        if header.next_offset() <= self.log_start {
            // Deleted by somebody already.
            return self.without_records(header, batch, newest);
        }
        match header.is_control() {
            true => self.judge_marker(header, batch, newest),
            false => self.judge_data(header, batch, newest),
        }
    }

    fn judge_marker(&mut self, header: &BatchHeader, batch: &[u8], newest: i64) -> Verdict {
        let producer = header.producer_id;
        let is_needed = match raw::marker(header, batch) {
            _ if header.record_count == 0 => false,
            Some(Marker::Abort) => self.aborted_seen.remove(&producer),
            Some(Marker::Commit) => self.committed_seen.remove(&producer),
            None => true,
        };
        if is_needed {
            return Verdict::Keep;
        }
        match raw::delete_horizon(header) {
            _ if header.record_count == 0 => self.without_records(header, batch, newest),
            Some(horizon) if horizon <= self.now => self.without_records(header, batch, newest),
            Some(_) => Verdict::Keep,
            None => match Records::decode(header, batch) {
                Some(records) => self.rebuilt(header, batch, &records, vec![true; header.record_count as usize], true),
                None => Verdict::Keep,
            },
        }
    }

    fn judge_data(&mut self, header: &BatchHeader, batch: &[u8], newest: i64) -> Verdict {
        if self.survey.is_aborted(header) {
            self.aborted_seen.insert(header.producer_id);
            return self.without_records(header, batch, newest);
        }
        if header.is_transactional() {
            self.committed_seen.insert(header.producer_id);
        }
        if header.record_count == 0 {
            return self.without_records(header, batch, newest);
        }
        let Some(records) = Records::decode(header, batch) else {
            self.batches_unreadable += 1;
            return Verdict::Keep;
        };
        let horizon = raw::delete_horizon(header);
        let tombstones_go = horizon.is_some_and(|horizon| horizon <= self.now);
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let mut tombstones_stay = false;
        for record in records.iter() {
            let stays = self.stays(header, &record, tombstones_go);
            tombstones_stay |= stays && record.is_tombstone;
            kept.push(stays);
        }
        if !kept.contains(&true) {
            self.kept = kept;
            return self.without_records(header, batch, newest);
        }
        // A batch that the map knows in part only is not clean yet: its time begins with the next round.
        let sets_horizon = tombstones_stay && horizon.is_none() && header.next_offset() <= self.end;
        if kept.contains(&false) || sets_horizon {
            return self.rebuilt(header, batch, &records, kept, sets_horizon);
        }
        self.kept = kept;
        Verdict::Keep
    }

    fn stays(&self, header: &BatchHeader, record: &RawRecord<'_>, tombstones_go: bool) -> bool {
        let offset = header.base_offset.plus(record.offset_delta);
        if offset >= self.end {
            return true;
        }
        let Some(key) = record.key else { return false };
        if record.is_tombstone && tombstones_go {
            return false;
        }
        self.map.get(hash(key)).is_none_or(|newest| newest <= offset)
    }

    fn rebuilt(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        records: &Records<'_>,
        kept: Vec<bool>,
        sets_horizon: bool,
    ) -> Verdict {
        let horizon = sets_horizon.then_some(self.horizon);
        let rebuilt = raw::rebuild(header, batch, records, &kept, horizon);
        let removed = kept.iter().filter(|kept| !**kept).count() as u64;
        self.kept = kept;
        match rebuilt {
            Some(bytes) => {
                self.records_removed += removed;
                Verdict::Replace(bytes)
            }
            // Compressed by a better encoder than ours.
            None => Verdict::Keep,
        }
    }

    /// No record of the batch stays; perhaps its header must.
    fn without_records(&mut self, header: &BatchHeader, batch: &[u8], newest: i64) -> Verdict {
        self.records_removed += u64::from(header.record_count);
        if !self.survey.is_last_of_producer(header) || self.is_forgotten(header, newest) {
            return Verdict::Drop;
        }
        match header.record_count {
            0 => Verdict::Keep,
            _ => Verdict::Replace(raw::emptied(header, batch)),
        }
    }

    /// Has the producer been silent for so long that nobody remembers it?
    fn is_forgotten(&self, header: &BatchHeader, newest: i64) -> bool {
        // Producers make timestamps up; the segment's newest is nearer to when the batch was written.
        let last = header.max_timestamp.0.max(newest);
        last.saturating_add_unsigned(self.producer_expiration_ms) <= self.now.0
    }
}
