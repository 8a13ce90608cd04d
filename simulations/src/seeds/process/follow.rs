//! What a follower fetches, and flushing.

use rafka_broker::producer::States;
use rafka_broker::replication::{Fetched, FetchedPartition, Fetcher, Input, ReplicaFetched, Step};
use rafka_log::{AppendError, Flush};
use rafka_model::{Chunks, Durability, NodeId, Offset, RecordBatch, TopicPartition};

use super::replica::History;
use super::{Cx, Fetching, Process, Replica, Role};
use crate::seeds::event::{Address, Event, Message};
use crate::seeds::invariants::Who;
use crate::seeds::mutant::Driver;
use crate::seeds::shadow::Piece;
use crate::seeds::trace::say;

/// Bytes of one partition in an answer.
const PARTITION_BYTES: u32 = 600;

impl Process {
    /// Sends a fetch to every leader that has none outstanding.
    pub(super) fn fetch_all(&mut self, cx: &mut Cx<'_>) {
        let Some(me) = self.identity else { return };
        let now = cx.now();
        let mut leaders: Vec<_> = Vec::new();
        for replica in self.replicas.values() {
            if let Role::Follower(follower) = &replica.role
                && let Some(leader) = follower.leader()
                && !leaders.contains(&leader)
            {
                leaders.push(leader);
            }
        }
        for leader in leaders {
            let Some(to) = cx.shared.broker_of(leader) else { continue };
            let rules = cx.shared.replication_rules();
            let fetching = self.fetchers.entry(leader).or_insert_with(|| Fetching {
                fetcher: Fetcher::with_rules(me, 1, rules),
                rests_until: now,
                gives_up_at: now,
            });
            if fetching.fetcher.is_waiting() || fetching.rests_until > now {
                continue;
            }
            let mut partitions = Vec::new();
            let mut syncs = false;
            for replica in self.replicas.values() {
                let Role::Follower(follower) = &replica.role else { continue };
                if follower.leader() != Some(leader) {
                    continue;
                }
                // A fetch is what tells the leader that something is flushed: it waits for that.
                syncs |= replica.flushing && replica.config.durability == Durability::Fsync;
                partitions.extend(follower.request(&History(&replica.reader), replica.log.flushed(), PARTITION_BYTES));
            }
            if syncs || partitions.is_empty() {
                continue;
            }
            fetching.fetcher.continue_after(self.last_fetch);
            let fetch = fetching.fetcher.begin(now, partitions);
            self.last_fetch = fetch.request;
            fetching.gives_up_at = now.plus(cx.shared.tempo.fetch_timeout);
            cx.send(Address::Broker(to), Message::Fetch(Box::new(fetch)));
        }
    }

    pub(super) fn on_fetched(&mut self, cx: &mut Cx<'_>, from: usize, fetched: &ReplicaFetched) {
        let now = cx.now();
        // A machine whose disk was replaced had other names before.
        let asked = |node: &NodeId| cx.shared.broker_of(*node) == Some(from);
        let mut fetchers = self.fetchers.iter_mut().filter(|(node, _)| asked(node));
        let awaited = fetchers.find_map(|(node, fetching)| fetching.fetcher.answered(fetched).then_some(*node));
        let Some(leader) = awaited else {
            cx.count("a late answer to a fetch was dropped");
            return;
        };
        let mut refused = fetched.partitions.is_empty();
        for partition in &fetched.partitions {
            refused |= self.take(cx, partition);
        }
        if refused && let Some(fetching) = self.fetchers.get_mut(&leader) {
            fetching.rests_until = now.plus(cx.shared.tempo.backoff);
        }
    }

    /// Does what the leader's answer means for one partition; true if it is to be asked later.
    fn take(&mut self, cx: &mut Cx<'_>, answer: &FetchedPartition) -> bool {
        let at = answer.at;
        let Some(replica) = self.replicas.get_mut(&at) else { return false };
        let Role::Follower(follower) = &mut replica.role else { return false };
        let before = follower.high_watermark();
        match follower.answered(answer, &History(&replica.reader)) {
            Step::Append { log_start, .. } => {
                let Fetched::Records { batches, .. } = &answer.outcome else { return false };
                let slow = match append(cx, replica, at, batches) {
                    Ok(slow) => slow,
                    Err(()) => {
                        self.fail(cx, at);
                        return false;
                    }
                };
                self.appended(cx, at, before, log_start);
                slow
            }
            Step::Truncate(to) => {
                cx.count("truncated");
                say!(cx.shared, "b{} cuts {at} at {to} (log end {})", cx.me, replica.log.log_end());
                let cut = replica.log.truncate_to(to);
                self.cut(cx, at, cut.is_ok());
                false
            }
            Step::Restart(start) => {
                cx.count("restarted behind its end");
                say!(cx.shared, "b{} begins {at} anew at {start}", cx.me);
                let cut = replica.log.restart_at(start);
                replica.shadow.restart(start.0);
                self.cut(cx, at, cut.is_ok());
                false
            }
            Step::Wait(_) => true,
            Step::Ignore => false,
        }
    }

    fn appended(&mut self, cx: &mut Cx<'_>, at: TopicPartition, before: Offset, log_start: Offset) {
        let me = self.node();
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        let Role::Follower(follower) = &mut replica.role else { return };
        let after = follower.appended(replica.log.log_end());
        if after > before {
            let who = Who { node: me, epoch: follower.epoch().0 };
            cx.shared.truths.follows(at, who, &replica.shadow, before.0, after.0);
        }
        if log_start > replica.log.log_start() {
            if replica.log.advance_log_start(log_start.min(replica.log.log_end())).is_err() {
                self.fail(cx, at);
                return;
            }
            let start = replica.log.log_start();
            replica.shadow.advance_start(start.0);
            self.cache.drop_below(at, start);
        }
        self.flush_if_fsync(cx, at);
    }

    /// The log was cut: what stands beside it follows.
    fn cut(&mut self, cx: &mut Cx<'_>, at: TopicPartition, succeeded: bool) {
        let wall = cx.machine.wall(cx.shared.now);
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        let replay = |states: &mut States, header: &_| states.record(header, wall);
        let restored = match succeeded {
            true => replica.log.restore_producers(States::decode, replay).ok(),
            false => None,
        };
        let Some((producers, _)) = restored else {
            self.fail(cx, at);
            return;
        };
        replica.producers = producers;
        let end = replica.log.log_end();
        replica.shadow.truncate(end.0);
        self.cache.truncate(at, end);
        cx.shared.truths.suspect(at);
    }

    /// Begins a sync of one log, unless one runs.
    pub(super) fn flush(&mut self, cx: &mut Cx<'_>, at: TopicPartition) {
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        if replica.flushing {
            return;
        }
        let Some(flush) = replica.log.begin_flush() else { return };
        replica.flushing = true;
        let wait = self.dice.between(100_000, cx.shared.tempo.sync_max) + cx.machine.slow;
        let (broker, life, time) = (cx.me, self.life, cx.shared.now + wait);
        cx.shared.queue.plan(time, Event::Synced { broker, life, at, flush: Box::new(flush) });
    }

    pub(in crate::seeds) fn synced(&mut self, cx: &mut Cx<'_>, at: TopicPartition, flush: Flush) {
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        replica.flushing = false;
        match flush.run() {
            Ok(_) if replica.log.is_poisoned() => self.fail(cx, at),
            Ok(_) => {
                // Of this log as it is now: what was truncated meanwhile does not count.
                let flushed = replica.log.flushed();
                self.step(cx, at, Input::Flushed(flushed));
                self.flush_if_fsync(cx, at);
            }
            Err(error) => {
                say!(cx.shared, "b{} cannot sync {at}: {error}", cx.me);
                cx.count("a sync failed");
                self.fail(cx, at);
            }
        }
        self.settle(cx);
    }

    /// The flusher's round: some of the dirty logs, and the high watermarks.
    pub(super) fn flush_some(&mut self, cx: &mut Cx<'_>) {
        let mut dirty: Vec<_> = self
            .replicas
            .iter()
            .filter_map(|(at, replica)| replica.log.dirty_since().map(|since| (since, *at)))
            .collect();
        dirty.sort_unstable();
        for (_, at) in dirty.into_iter().take(2) {
            self.flush(cx, at);
        }
        let marks = self.replicas.iter().map(|(at, replica)| (*at, replica.high_watermark())).collect();
        cx.machine.save_checkpoint(marks);
    }

    /// Stops in order: everything is on the disk, and that is noted last. False if something went wrong.
    pub(in crate::seeds) fn close(mut self, cx: &mut Cx<'_>) -> bool {
        let marks = self.replicas.iter().map(|(at, replica)| (*at, replica.high_watermark())).collect();
        cx.machine.save_checkpoint(marks);
        let ats: Vec<_> = self.replicas.keys().copied().collect();
        ats.iter().for_each(|at| self.drain(cx, *at, rafka_broker::ErrorCode::NotLeaderOrFollower));
        // What this process never opened, it cannot vouch for.
        let opened = self.opened || cx.shared.breaks(Driver::CleanMeansEverythingWasOpen);
        let mut clean = opened && self.failed.is_empty() && cx.machine.known_boot == Some(cx.machine.boot);
        for Replica { log, .. } in std::mem::take(&mut self.replicas).into_values() {
            clean &= log.close_clean().is_ok();
        }
        clean
    }
}

/// Appends what the leader sent as far as it is good; true if the disk takes no more now.
fn append(cx: &mut Cx<'_>, replica: &mut Replica, at: TopicPartition, batches: &Chunks) -> Result<bool, ()> {
    let wall = cx.machine.wall(cx.shared.now);
    for chunk in batches.as_slice() {
        for batch in RecordBatch::split(chunk.clone()) {
            let Ok(batch) = batch else { return Ok(true) };
            let (base, end) = (batch.header().base_offset, replica.log.log_end());
            if base < end && end < batch.header().next_offset() && replica.log.log_start() == end {
                // The leader's log begins inside this batch, and this log is empty: it begins with the batch.
                replica.log.restart_at(base).map_err(|_| ())?;
                replica.shadow.restart(base.0);
            }
            if batch.header().base_offset != replica.log.log_end() {
                return Ok(false);
            }
            match replica.log.append_as_is(&batch, wall) {
                Ok(_) => {
                    let piece = Piece::of(batch.header());
                    replica.producers.record(batch.header(), wall);
                    replica.shadow.push(piece);
                    cx.shared.trace.mix(piece.base as u64 ^ u64::from(piece.crc) << 20 ^ cx.me as u64);
                }
                Err(AppendError::DiskFull(_) | AppendError::OutOfOrder { .. }) => {
                    cx.shared.count("a follower's disk is full");
                    return Ok(true);
                }
                Err(error) => {
                    say!(cx.shared, "b{} cannot append to {at}: {error}", cx.me);
                    return Err(());
                }
            }
        }
    }
    Ok(false)
}
