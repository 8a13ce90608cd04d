//! The first pass: headers only.

use std::collections::BTreeMap;

use rafka_model::limits::{COMPACTION_PRODUCERS_MAX, COMPACTION_TRANSACTIONS_MAX};
use rafka_model::{BatchHeader, Offset, ProducerId};

use super::raw::{Marker, marker};
use super::{Compaction, HEADER_STEP_BYTES, Pacer, Step, each_batch, verified};
use crate::error::CompactionError;

/// What the headers tell.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The round ends here: at the plan's end, or at the first transaction whose outcome is not known.
    pub(super) end: Offset,
    producers: BTreeMap<ProducerId, Last>,
    /// Aborted transactions of each producer: offset of the first batch, and of the marker; ascending.
    aborted: BTreeMap<ProducerId, Vec<(Offset, Offset)>>,
    transactions: usize,
    /// Transactions without a marker so far, and where they begin.
    open: BTreeMap<ProducerId, Offset>,
}

/// The last batches of a producer.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    data: Option<Offset>,
    marker: Option<Offset>,
}

impl Survey {
    pub(super) fn take(plan: &Compaction, pacer: &mut Pacer<'_>) -> Result<Self, CompactionError> {
        let mut survey = Self { end: plan.end, ..Self::default() };
        for segment in &plan.segments {
            each_batch(plan.shared(), segment, HEADER_STEP_BYTES, &mut |walk, place, header| {
                pacer.read(header.total_bytes().min(HEADER_STEP_BYTES) as u64)?;
                if header.producer_id == ProducerId::NONE {
                    return Ok(Step::Next);
                }
                survey.note_producer(header);
                if header.is_control() && header.record_count > 0 {
                    let found = marker(header, verified(walk, segment, place, header)?);
                    survey.note_marker(header, found);
                } else if header.is_transactional() && !survey.note_transaction(header) {
                    survey.end = survey.end.min(header.base_offset);
                    return Ok(Step::Stop);
                }
                Ok(Step::Next)
            })?;
        }
        survey.look_ahead(plan, pacer)?;
        let undecided = survey.open.values().min().copied();
        survey.end = survey.end.min(undecided.unwrap_or(survey.end));
        Ok(survey)
    }

    /// Looks for the markers of transactions that began in the round and end behind it.
    fn look_ahead(&mut self, plan: &Compaction, pacer: &mut Pacer<'_>) -> Result<(), CompactionError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let segments = plan.shared().segments();
        for segment in segments.iter().filter(|segment| (plan.end..plan.below).contains(&segment.base)) {
            let done = each_batch(plan.shared(), segment, HEADER_STEP_BYTES, &mut |walk, place, header| {
                pacer.read(header.total_bytes().min(HEADER_STEP_BYTES) as u64)?;
                if self.open.is_empty() || header.next_offset() > plan.below {
                    return Ok(Step::Stop);
                }
                if header.is_control() && header.record_count > 0 && self.open.contains_key(&header.producer_id) {
                    let found = marker(header, verified(walk, segment, place, header)?);
                    self.note_marker(header, found);
                }
                Ok(Step::Next)
            })?;
            if done == Step::Stop {
                break;
            }
        }
        Ok(())
    }

    fn note_producer(&mut self, header: &BatchHeader) {
        if self.producers.len() >= COMPACTION_PRODUCERS_MAX && !self.producers.contains_key(&header.producer_id) {
            return;
        }
        let last = self.producers.entry(header.producer_id).or_default();
        let kind = if header.is_control() { &mut last.marker } else { &mut last.data };
        *kind = Some(header.last_offset());
    }

    fn note_marker(&mut self, header: &BatchHeader, found: Option<Marker>) {
        let Some(found) = found else { return };
        if let Some(first) = self.open.remove(&header.producer_id)
            && found == Marker::Abort
        {
            self.aborted.entry(header.producer_id).or_default().push((first, header.base_offset));
            self.transactions += 1;
        }
    }

    /// Notes a batch of a transaction; false if there is no room for more of them.
    fn note_transaction(&mut self, header: &BatchHeader) -> bool {
        if header.record_count == 0 {
            // Emptied: its transaction was decided long ago.
            return true;
        }
        let room = self.transactions + self.open.len() < COMPACTION_TRANSACTIONS_MAX;
        if room || self.open.contains_key(&header.producer_id) {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
            return true;
        }
        false
    }

    /// Does the batch belong to an aborted transaction?
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        if !header.is_transactional() || header.is_control() {
            return false;
        }
        let Some(aborted) = self.aborted.get(&header.producer_id) else { return false };
        let after = aborted.partition_point(|(first, _)| *first <= header.base_offset);
        after.checked_sub(1).is_some_and(|i| header.base_offset < aborted[i].1)
    }

    /// Is it the batch that tells the state of its producer? The last with records of users, or else the last marker.
    pub(super) fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        if header.producer_id == ProducerId::NONE {
            return false;
        }
        match self.producers.get(&header.producer_id) {
            Some(Last { data: Some(data), .. }) => *data == header.last_offset(),
            Some(Last { data: None, marker }) => *marker == Some(header.last_offset()),
            // Not looked at, or not known: perhaps.
            None => true,
        }
    }
}
