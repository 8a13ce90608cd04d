//! One partition as the fetcher sees it, and all of them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rafka_broker::request::OffsetSpec;
use rafka_dht::Route;
use rafka_model::{Monotonic, Offset, PartitionId, TopicId, TopicName};

use super::Slot;
use crate::config::Start;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Want {
    /// The high watermark, to end there.
    Stop,
    /// Where to begin.
    Start(OffsetSpec),
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) topic: TopicName,
    pub(super) partition: PartitionId,
    /// A group gave it to this consumer: the topic of then.
    pub(super) assigned: Option<TopicId>,
    pub(super) route: Option<Arc<Route>>,
    /// The topic that `position` belongs to.
    pub(super) topic_id: Option<TopicId>,
    pub(super) wants: VecDeque<Want>,
    pub(super) position: Offset,
    pub(super) progress: Progress,
    pub(super) stop: Option<Offset>,
    /// In an action that has not come back.
    pub(super) busy: bool,
    pub(super) done: bool,
    /// Had nothing new the last time.
    pub(super) quiet: bool,
    pub(super) not_before: Monotonic,
    pub(super) failures: u32,
    pub(super) unknown: u32,
    pub(super) failing_since: Option<Monotonic>,
    /// Order among the ready: who waited longest goes first.
    pub(super) turn: u64,
}

impl Part {
    pub(super) fn new(topic: TopicName, partition: PartitionId, start: Start, exit_at_end: bool) -> Self {
        let mut wants: VecDeque<_> = exit_at_end.then_some(Want::Stop).into_iter().collect();
        let progress = Progress::default();
        let mut position = Offset::ZERO;
        match start {
            Start::Earliest => wants.push_back(Want::Start(OffsetSpec::Earliest)),
            Start::Latest => wants.push_back(Want::Start(OffsetSpec::Latest)),
            Start::Time(time) => wants.push_back(Want::Start(OffsetSpec::At(time))),
            Start::Offset(offset) => {
                position = offset;
                progress.begin(offset);
            }
        }
        Self {
            topic,
            partition,
            assigned: None,
            route: None,
            topic_id: None,
            wants,
            position,
            progress,
            stop: None,
            busy: false,
            done: false,
            quiet: false,
            not_before: Monotonic(0),
            failures: 0,
            unknown: 0,
            failing_since: None,
            turn: 0,
        }
    }
}

/// The record of a partition that the user needs next: below, everything was taken and done with.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<AtomicI64>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(-1)))
    }
}

impl Progress {
    /// `None` until it is known where to begin.
    pub(crate) fn get(&self) -> Option<Offset> {
        let offset = self.0.load(Ordering::Acquire);
        (offset >= 0).then_some(Offset(offset))
    }

    pub(crate) fn set(&self, offset: Offset) {
        self.0.store(offset.0, Ordering::Release);
    }

    /// Where reading begins; without effect once it has.
    pub(super) fn begin(&self, offset: Offset) {
        let _ = self.0.compare_exchange(-1, offset.0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Partitions by their slots. A slot is never given twice: what comes late for one that is gone is known by that.
#[derive(Debug, Default)]
pub(super) struct Parts {
    next: usize,
    parts: BTreeMap<usize, Part>,
}

impl Parts {
    pub(super) fn push(&mut self, part: Part) -> Slot {
        let slot = self.next;
        self.next += 1;
        self.parts.insert(slot, part);
        Slot(slot)
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.parts.remove(&slot.0);
    }

    pub(super) fn has(&self, slot: Slot) -> bool {
        self.parts.contains_key(&slot.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Part)> {
        self.parts.iter().map(|(slot, part)| (Slot(*slot), part))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Part> {
        self.parts.values()
    }
}

impl Index<Slot> for Parts {
    type Output = Part;

    fn index(&self, slot: Slot) -> &Part {
        &self.parts[&slot.0]
    }
}

impl IndexMut<Slot> for Parts {
    fn index_mut(&mut self, slot: Slot) -> &mut Part {
        self.parts.get_mut(&slot.0).expect("callers look first whether the slot is there")
    }
}
