//! Figures of the coordinators, for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use rafka_broker::group::request::GroupState;
use rafka_broker::group::{Coordinator, Stats};
use rafka_model::PartitionId;

use super::Inner;
use super::ends::place;
use crate::metrics::LATENCY_SECONDS;

/// Counted where it happens.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) commit_latency: Histogram,
    loads: AtomicU64,
    load_last_ms: AtomicU64,
    damaged: AtomicU64,
    lost: AtomicU64,
    /// Rebalances of coordinators that are gone.
    rebalances_past: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            commit_latency: Histogram::new(LATENCY_SECONDS),
            loads: zero(),
            load_last_ms: zero(),
            damaged: zero(),
            lost: zero(),
            rebalances_past: zero(),
        }
    }
}

/// The coordinators of a node at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Coordinators that answer.
    pub ready: u64,
    /// Coordinators that load, or cannot.
    pub not_ready: u64,
    /// Groups by state.
    pub groups: BTreeMap<GroupState, u64>,
    /// Members of all groups.
    pub members: u64,
    /// Committed offsets of all groups.
    pub offsets: u64,
    /// Generations begun since the start.
    pub rebalances: u64,
    /// Logs that coordinators have read since the start.
    pub loads: u64,
    /// Time (ms) that the last of them took.
    pub load_last_ms: u64,
    /// Records found on the way that are not understood.
    pub damaged: u64,
    /// Coordinators that failed and began again.
    pub lost: u64,
    /// Committed offsets, as many as are to have series of their own.
    pub shown: Vec<GroupOffset>,
}

/// A committed offset at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupOffset {
    /// The group.
    pub group: String,
    /// Name of the topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The record to be read next.
    pub offset: i64,
    /// Records behind it, as far as known; `None` if another node leads the partition and has not said where it ends.
    pub lag: Option<u64>,
}

impl Figures {
    pub(super) fn committed(&self, elapsed: Duration) {
        self.commit_latency.observe(elapsed.as_secs_f64());
    }

    pub(super) fn loaded(&self, elapsed: Duration, damaged: u64) {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.load_last_ms.store(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.damaged.fetch_add(damaged, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// A machine is dropped; what it counted stays counted.
    pub(super) fn dropped(&self, machine: &Coordinator) {
        self.rebalances_past.fetch_add(machine.stats().rebalances, Ordering::Relaxed);
    }
}

pub(super) fn sample(inner: &Inner, offsets_max: usize) -> Sample {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let figures = &inner.figures;
    let mut sample = Sample {
        rebalances: read(&figures.rebalances_past),
        loads: read(&figures.loads),
        load_last_ms: read(&figures.load_last_ms),
        damaged: read(&figures.damaged),
        lost: read(&figures.lost),
        ..Sample::default()
    };
    let (image, ends) = (inner.images.current(), inner.ends.known());
    let lag = |topic: &str, partition, offset: i64| {
        let at = place(&image, topic, partition)?;
        let end = inner.partitions.high_watermark(at).or_else(|| ends.get(&at).copied())?;
        Some(u64::try_from(end.0.saturating_sub(offset)).unwrap_or(0))
    };
    for shard in inner.shards.load().values() {
        let machine = shard.machine.lock();
        let Some(machine) = machine.as_ref() else {
            sample.not_ready += 1;
            continue;
        };
        sample.ready += 1;
        let Stats { groups, members, offsets, rebalances } = machine.stats();
        for (state, count) in groups {
            *sample.groups.entry(state).or_default() += count as u64;
        }
        sample.members += members as u64;
        sample.offsets += offsets as u64;
        sample.rebalances += rebalances;
        let room = offsets_max.saturating_sub(sample.shown.len());
        sample.shown.extend(machine.committed().take(room).map(|(group, topic, partition, offset)| GroupOffset {
            group: group.to_owned(),
            topic: topic.to_owned(),
            partition,
            offset,
            lag: lag(topic, partition, offset),
        }));
    }
    sample
}
