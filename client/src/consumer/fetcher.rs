//! Which partition to ask whom for what next, as data. No clock, no network.
//!
//! A partition is part of one request at a time, so its records come in order. Requests for
//! partitions that had news the last time carry many bytes and go out in two halves, so that one
//! is on the wire while the other is prepared; quiet partitions share long polls. A long poll that
//! was answered splits into one of each kind, up to a number of requests; then they stay together.

mod action;
mod part;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use rafka_broker::request::{FoundOffset, OffsetSpec};
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::Route;
use rafka_model::{Monotonic, NodeId, Offset, PartitionId, RecordBatch, TopicId, TopicName};

pub(crate) use self::action::{Action, Answer, Chunk, Flight, Item, Line, Slot};
pub(crate) use self::part::Progress;
use self::part::{Part, Parts, Want};
use crate::backoff::{Backoff, Random};
use crate::config::{ConsumerConfig, OffsetReset, Start, Subscription};
use crate::{Error, ErrorKind};

/// Fetches to one leader at once; what becomes ready beyond that waits for one of them.
const FETCHES_MAX: usize = 32;
/// Fetches to one leader from which on busy and quiet partitions are asked together.
const FETCHES_APART: usize = 4;
/// Halves in which busy partitions of one leader are asked.
const HALVES: usize = 2;
/// Times in a row that nobody knows a topic until it counts as gone.
const UNKNOWN_MAX: u32 = 6;

#[derive(Debug, Default)]
struct Flights {
    bulk: usize,
    all: usize,
}

/// All partitions of one consumer.
#[derive(Debug)]
pub(crate) struct Fetcher {
    config: ConsumerConfig,
    backoff: Backoff,
    random: Random,
    parts: Parts,
    slots: HashMap<(TopicName, PartitionId), Slot>,
    items: VecDeque<Item>,
    /// Bytes in `items` or taken from there and not consumed yet.
    buffered: usize,
    /// Bytes that fetches on their way may bring.
    reserved: usize,
    flights: BTreeMap<PeerId, Flights>,
    turn: u64,
    /// The topics of the subscription were found once; of a member of a group: it was given partitions once.
    discovered: bool,
    /// Nothing more will be read.
    closed: bool,
}

impl Fetcher {
    pub(crate) fn new(config: ConsumerConfig, backoff: Backoff, random: Random) -> Self {
        let (parts, slots, items, flights) = Default::default();
        let (buffered, reserved, turn, discovered, closed) = (0, 0, 0, false, false);
        Self { config, backoff, random, parts, slots, items, buffered, reserved, flights, turn, discovered, closed }
    }

    /// A topic has this many partitions. New ones are read from the configured start at the first discovery, and from
    /// their first record later: they were made after the consumer.
    pub(crate) fn learn(&mut self, topic: &TopicName, partitions: u32) {
        let start = if self.discovered { Start::Earliest } else { self.config.start };
        for partition in (0..partitions).map(PartitionId) {
            let wanted = self.config.partitions.as_ref().is_none_or(|only| only.contains(&partition));
            let key = (topic.clone(), partition);
            if !wanted || self.slots.contains_key(&key) {
                continue;
            }
            let part = Part::new(topic.clone(), partition, start, self.config.exit_at_end);
            let slot = self.parts.push(part);
            self.slots.insert(key, slot);
        }
    }

    /// Reads a partition that a group gave to this consumer, from `position`, or from the configured start if nothing
    /// is committed. How far the user got can be read from what is returned.
    pub(crate) fn assign(
        &mut self,
        topic: &TopicName,
        id: TopicId,
        partition: PartitionId,
        position: Option<Offset>,
    ) -> Progress {
        self.discovered = true;
        let start = position.map_or(self.config.start, Start::Offset);
        let mut part = Part::new(topic.clone(), partition, start, self.config.exit_at_end);
        (part.assigned, part.topic_id) = (Some(id), Some(id));
        let progress = part.progress.clone();
        let slot = self.parts.push(part);
        if let Some(before) = self.slots.insert((topic.clone(), partition), slot) {
            self.drop_slot(before);
        }
        progress
    }

    /// Stops reading a partition that a group took back; what was fetched of it and not taken yet is dropped.
    pub(crate) fn revoke(&mut self, id: TopicId, partition: PartitionId) {
        let assigned = |(_, part): &(Slot, &Part)| part.assigned == Some(id) && part.partition == partition;
        let Some((slot, part)) = self.parts.iter().find(assigned) else { return };
        let key = (part.topic.clone(), partition);
        if self.slots.get(&key) == Some(&slot) {
            self.slots.remove(&key);
        }
        self.drop_slot(slot);
    }

    fn drop_slot(&mut self, slot: Slot) {
        self.parts.remove(slot);
        let mut dropped = 0;
        self.items.retain(|item| match item {
            Item::Chunk(chunk) if chunk.slot == slot => {
                dropped += chunk.bytes;
                false
            }
            _ => true,
        });
        self.buffered = self.buffered.saturating_sub(dropped);
    }

    /// False once a group has taken the partition back.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.parts.has(slot)
    }

    /// An error for the user that is not of a partition.
    pub(crate) fn tell(&mut self, error: Error) {
        self.items.push_back(Item::Error(error));
    }

    /// The last item: nothing more is read.
    pub(crate) fn fail(&mut self, error: Error) {
        self.closed = true;
        self.parts = Parts::default();
        self.slots.clear();
        self.tell(error);
    }

    /// All topics of the subscription that exist now were told.
    pub(crate) fn discovered(&mut self) {
        self.discovered = true;
    }

    /// Topics that are being read.
    pub(crate) fn topics(&self) -> Vec<TopicName> {
        let reading: BTreeSet<_> = self.parts.values().filter(|part| !part.done).map(|part| &part.topic).collect();
        reading.into_iter().cloned().collect()
    }

    /// What to do now.
    pub(crate) fn poll(&mut self, now: Monotonic) -> Vec<Action> {
        let is_ready = |part: &Part| !part.busy && !part.done && part.not_before <= now;
        let mut ready: Vec<_> = self.parts.iter().filter(|(_, part)| is_ready(part)).map(|(slot, _)| slot).collect();
        ready.sort_by_key(|slot| self.parts[*slot].turn);
        let mut actions = Vec::new();
        let mut lists: BTreeMap<PeerId, Vec<Line<OffsetSpec>>> = BTreeMap::new();
        let mut fetches: BTreeMap<PeerId, Vec<Line<Offset>>> = BTreeMap::new();
        for slot in ready {
            let part = &mut self.parts[slot];
            let Some(route) = part.route.clone() else {
                part.busy = true;
                actions.push(Action::Route { slot, topic: part.topic.clone(), partition: part.partition });
                continue;
            };
            let peer = route.peer;
            match part.wants.front() {
                Some(want) => {
                    part.busy = true;
                    let wanted = match want {
                        Want::Stop => OffsetSpec::Latest,
                        Want::Start(spec) => *spec,
                    };
                    lists.entry(peer).or_default().push(Line { slot, route, wanted });
                }
                None => {
                    let line = Line { slot, route, wanted: part.position };
                    fetches.entry(peer).or_default().push(line);
                }
            }
        }
        actions.extend(lists.into_iter().map(|(peer, lines)| Action::List { peer, lines }));
        for (peer, lines) in fetches {
            self.plan(peer, lines, &mut actions);
        }
        actions
    }

    /// Fetches for ready partitions of one leader, as far as limits allow; the others stay ready.
    fn plan(&mut self, peer: PeerId, lines: Vec<Line<Offset>>, out: &mut Vec<Action>) {
        let Flights { bulk, all } = *self.flights.entry(peer).or_default();
        if all >= FETCHES_MAX {
            return;
        }
        if all >= FETCHES_APART {
            let any_busy = lines.iter().any(|line| !self.parts[line.slot].quiet);
            self.take_off(peer, any_busy, lines, out);
            return;
        }
        let (quiet, busy): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| self.parts[line.slot].quiet);
        // With one half in flight already, what is ready is the other half.
        let each = busy.len().div_ceil(HALVES.saturating_sub(bulk).max(1)).max(1);
        for half in busy.chunks(each) {
            self.take_off(peer, true, half.to_vec(), out);
        }
        if !quiet.is_empty() {
            self.take_off(peer, false, quiet, out);
        }
    }

    fn take_off(&mut self, peer: PeerId, bulk: bool, lines: Vec<Line<Offset>>, out: &mut Vec<Action>) {
        let used = self.buffered + self.reserved;
        let left = self.config.prefetch_bytes.saturating_sub(used);
        let least = self.config.partition_bytes_max.min(self.config.fetch_bytes_max);
        if used > 0 && left < least as usize {
            return;
        }
        let most = if bulk { self.config.fetch_bytes_max } else { least };
        let bytes = most.min(u32::try_from(left).unwrap_or(u32::MAX)).max(least);
        self.reserved += bytes as usize;
        let flights = self.flights.entry(peer).or_default();
        flights.all += 1;
        flights.bulk += usize::from(bulk);
        for line in &lines {
            self.parts[line.slot].busy = true;
        }
        out.push(Action::Fetch { flight: Flight { peer, bytes, bulk }, lines });
    }

    /// When to [`Self::poll`] next if nothing else happens.
    pub(crate) fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let waiting = self.parts.values().filter(|part| !part.busy && !part.done && part.not_before > now);
        waiting.map(|part| part.not_before).min()
    }

    /// The leader of a partition was found, or not.
    pub(crate) fn routed(&mut self, now: Monotonic, slot: Slot, result: Result<Arc<Route>, Error>) {
        match result {
            _ if !self.is_read(slot) => {}
            Ok(route) => {
                let exit_at_end = self.config.exit_at_end;
                let part = &mut self.parts[slot];
                part.busy = false;
                part.unknown = 0;
                let topic = route.topic;
                part.route = Some(route);
                if part.topic_id.replace(topic).is_some_and(|before| before != topic) {
                    // Deleted and made again: offsets of the old topic mean nothing in the new one.
                    (part.position, part.stop) = (Offset::ZERO, None);
                    part.wants = exit_at_end.then_some(Want::Stop).into_iter().collect();
                    part.wants.push_back(Want::Start(OffsetSpec::Earliest));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.parts[slot].unknown += 1;
                if self.parts[slot].unknown < UNKNOWN_MAX {
                    return self.retry(now, slot, error, false);
                }
                // Topics that a pattern found, or a group gave, may go as they came.
                let named = matches!(self.config.subscription, Subscription::Topics(_)) && self.config.group.is_none();
                let told = named.then_some(error);
                self.gone(slot, told);
            }
            Err(error) => self.retry(now, slot, error, false),
        }
    }

    /// A topic does not exist any more. Told once, not for each of its partitions.
    fn gone(&mut self, slot: Slot, told: Option<Error>) {
        let topic = self.parts[slot].topic.clone();
        self.end(slot, told);
        let others = self.parts.iter().filter(|(_, part)| part.topic == topic && !part.done && part.unknown > 0);
        for other in others.map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.end(other, None);
        }
        // A topic made again under the same name is found again.
        self.slots.retain(|_, slot| self.parts[*slot].topic != topic || !self.parts[*slot].done);
    }

    /// An offset was looked up, or not.
    pub(crate) fn listed(&mut self, now: Monotonic, slot: Slot, node: NodeId, result: Result<FoundOffset, Failure>) {
        if !self.is_read(slot) {
            return;
        }
        let found = match result {
            Ok(found) => found,
            Err(failure) => return self.refused(now, slot, node, &failure),
        };
        let part = &mut self.parts[slot];
        part.busy = false;
        match (part.wants.pop_front(), found.offset) {
            (Some(Want::Stop), offset) => part.stop = Some(offset.unwrap_or(Offset::ZERO)),
            (Some(Want::Start(_)), Some(offset)) => part.position = offset,
            // No record is that late: begin with the next one to come.
            (Some(Want::Start(OffsetSpec::At(_))), None) => {
                part.wants.push_front(Want::Start(OffsetSpec::Latest));
            }
            (Some(Want::Start(_)) | None, _) => {}
        }
        if part.wants.is_empty() {
            part.progress.begin(part.position);
        }
        self.finish_if_at_end(slot);
    }

    /// A fetch was answered.
    pub(crate) fn fetched(
        &mut self,
        now: Monotonic,
        flight: Flight,
        lines: Vec<(Line<Offset>, Result<Answer, Failure>)>,
    ) {
        self.landed(flight);
        for (line, result) in lines {
            match result {
                // Ended, or taken back, meanwhile.
                _ if !self.is_read(line.slot) => {}
                Ok(answer) => self.answered(now, line, answer),
                Err(failure) => self.refused(now, line.slot, line.route.leader, &failure),
            }
        }
    }

    fn landed(&mut self, flight: Flight) {
        self.reserved = self.reserved.saturating_sub(flight.bytes as usize);
        if let Some(flights) = self.flights.get_mut(&flight.peer) {
            flights.all = flights.all.saturating_sub(1);
            flights.bulk = flights.bulk.saturating_sub(usize::from(flight.bulk));
            if flights.all == 0 {
                self.flights.remove(&flight.peer);
            }
        }
    }

    fn answered(&mut self, now: Monotonic, line: Line<Offset>, answer: Answer) {
        self.turn += 1;
        let part = &mut self.parts[line.slot];
        let (topic, partition, from) = (part.topic.clone(), part.partition, line.wanted);
        let batches = match answer.batches {
            Ok(batches) => batches,
            Err(error) => {
                let what = format!("{topic}/{partition} cannot be read at offset {from}");
                let error = Error::new(ErrorKind::Failed, what).because(error.to_string());
                return self.end(line.slot, Some(error));
            }
        };
        part.turn = self.turn;
        part.busy = false;
        part.quiet = batches.is_empty() && answer.high_watermark <= from;
        let next = batches.last().map(|batch| batch.header().next_offset());
        if next.is_some_and(|next| next <= from) {
            let error = Error::new(ErrorKind::Failed, format!("{topic}/{partition} answers with older records"));
            return self.retry(now, line.slot, error, false);
        }
        part.failures = 0;
        part.failing_since = None;
        if let Some(next) = next {
            part.position = next;
            let (stop, bytes) = (part.stop, batches.iter().map(RecordBatch::len).sum());
            self.buffered += bytes;
            let (slot, batches, progress) = (line.slot, batches.into(), part.progress.clone());
            self.items.push_back(Item::Chunk(Chunk {
                slot,
                topic,
                partition,
                from,
                next,
                stop,
                batches,
                bytes,
                progress,
            }));
        }
        self.finish_if_at_end(line.slot);
    }

    fn finish_if_at_end(&mut self, slot: Slot) {
        let part = &mut self.parts[slot];
        part.done |= part.wants.is_empty() && part.stop.is_some_and(|stop| part.position >= stop);
    }

    /// A node refused one partition's line.
    fn refused(&mut self, now: Monotonic, slot: Slot, node: NodeId, failure: &Failure) {
        use ErrorCode as C;
        let part = &mut self.parts[slot];
        let what = format!("reading {}/{}", part.topic, part.partition);
        let error = Error::refused(what, failure, Some(node));
        match failure.code {
            C::OffsetOutOfRange => {
                let spec = match self.config.reset {
                    OffsetReset::Earliest => OffsetSpec::Earliest,
                    OffsetReset::Latest => OffsetSpec::Latest,
                    OffsetReset::Error => {
                        let what =
                            format!("offset {} of {}/{} does not exist", part.position, part.topic, part.partition);
                        let error = Error::refused(what, failure, Some(node));
                        return self.end(slot, Some(error));
                    }
                };
                part.wants.push_back(Want::Start(spec));
                // The leader may answer so again and again; then it is asked with pauses.
                self.retry(now, slot, error, true);
            }
            C::NotLeaderOrFollower
            | C::LeaderNotAvailable
            | C::FencedLeaderEpoch
            | C::UnknownLeaderEpoch
            | C::UnknownTopicOrPartition
            | C::UnknownTopicId
            | C::NotReady => {
                part.route = None;
                self.retry(now, slot, error, failure.leader.is_some());
            }
            _ if error.is_retriable() => self.retry(now, slot, error, false),
            _ => self.end(slot, Some(error)),
        }
    }

    /// An exchange broke: no line of it was answered. `flight` is what a fetch had reserved.
    pub(crate) fn broken(&mut self, now: Monotonic, flight: Option<Flight>, slots: &[Slot], error: &Error) {
        if let Some(flight) = flight {
            self.landed(flight);
        }
        for slot in slots.iter().filter(|slot| self.parts.has(**slot)).copied().collect::<Vec<_>>() {
            self.parts[slot].route = None;
            self.retry(now, slot, error.clone(), false);
        }
    }

    fn retry(&mut self, now: Monotonic, slot: Slot, error: Error, at_once: bool) {
        let stall = Duration::from_millis(self.config.stall_ms);
        let part = &mut self.parts[slot];
        if part.done {
            return;
        }
        part.busy = false;
        part.failures += 1;
        part.not_before = match at_once && part.failures == 1 {
            true => now,
            false => now.plus(self.backoff.after(part.failures, &mut self.random)),
        };
        let since = *part.failing_since.get_or_insert(now);
        if now.since(since) >= stall {
            part.failing_since = Some(now);
            let what =
                format!("{}/{} cannot be read for {} ms", part.topic, part.partition, now.since(since).as_millis());
            let mut told = Error::new(ErrorKind::Unreachable, what).with_cause(error.cause().cloned());
            if error.cause().is_none() {
                told = told.because(error.what());
            }
            if let Some(hint) = error.advice() {
                told = told.hint(hint);
            }
            self.items.push_back(Item::Error(told));
        }
    }

    /// Stops reading a partition.
    pub(crate) fn end(&mut self, slot: Slot, error: Option<Error>) {
        if !self.parts.has(slot) {
            return;
        }
        let part = &mut self.parts[slot];
        part.done = true;
        part.busy = false;
        self.items.extend(error.map(Item::Error));
    }

    /// The next item for the user.
    pub(crate) fn take(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    /// The user took all records of a chunk of this many bytes. True if that lets a fetch go.
    pub(crate) fn consumed(&mut self, bytes: usize) -> bool {
        let least = self.config.partition_bytes_max.min(self.config.fetch_bytes_max) as usize;
        let full = |used: usize| self.config.prefetch_bytes.saturating_sub(used) < least;
        let before = full(self.buffered + self.reserved);
        self.buffered = self.buffered.saturating_sub(bytes);
        before && !full(self.buffered + self.reserved)
    }

    /// True once nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        let grows = matches!(self.config.subscription, Subscription::Matching(_)) || self.config.group.is_some();
        let ended = self.discovered && (self.config.exit_at_end || !grows) && self.parts.values().all(|part| part.done);
        self.items.is_empty() && (ended || self.closed)
    }

    fn is_read(&self, slot: Slot) -> bool {
        self.parts.has(slot) && !self.parts[slot].done
    }
}

#[cfg(test)]
mod tests;
