//! Clients: producers with and without idempotence, consumers.

use std::collections::VecDeque;

use bytes::Bytes;
use rafka_broker::ErrorCode;
use rafka_broker::request::Acks;
use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Offset, ProducerId, RecordBatch, Timestamp, TopicPartition};

use super::dice::Dice;
use super::event::{Address, Consumed, Event, Message, Produce, Refused};
use super::shadow::pieces;
use super::tempo::MS;
use super::trace::say;
use super::world::Shared;

/// After so long a request is sent again, ns.
const TIMEOUT: u64 = 700 * MS;

#[derive(Debug)]
pub(super) struct Client {
    number: usize,
    /// The partition that it works on; another once it is idle.
    pub(super) at: Option<TopicPartition>,
    route: Option<(usize, LeaderEpoch)>,
    work: Work,
    dice: Dice,
    token: u64,
    /// Nothing is sent before this.
    rests_until: u64,
    pub(super) hops: u64,
}

#[derive(Debug)]
enum Work {
    Produce(Producer),
    Consume(Consumer),
}

#[derive(Debug)]
struct Producer {
    acks: Acks,
    /// Batches on their way at once.
    depth: usize,
    id: ProducerId,
    idempotent: bool,
    epoch: i16,
    sequence: i32,
    queue: VecDeque<Item>,
    value: u64,
}

#[derive(Debug)]
struct Item {
    count: i32,
    sequence: i32,
    value: u64,
    batch: RecordBatch,
    sent: Option<(u64, u64)>,
    done: bool,
}

#[derive(Debug, Default)]
struct Consumer {
    position: Offset,
    polls: u32,
    sent: Option<(u64, u64)>,
    deletes: Option<(u64, u64)>,
    delete_before: Option<Offset>,
}

impl Client {
    pub(super) fn producer(seed: u64, number: usize, acks: Acks, idempotent: bool) -> Self {
        let mut dice = Dice::of(&[seed, 7, number as u64]);
        let depth = 1 + dice.below(3) as usize;
        let work = Work::Produce(Producer {
            acks,
            depth,
            id: ProducerId(number as i64 * 1_000_000),
            idempotent,
            epoch: 0,
            sequence: 0,
            queue: VecDeque::new(),
            value: 0,
        });
        Self { number, at: None, route: None, work, dice, token: 0, rests_until: 0, hops: 0 }
    }

    pub(super) fn consumer(seed: u64, number: usize) -> Self {
        let dice = Dice::of(&[seed, 7, number as u64]);
        let work = Work::Consume(Consumer::default());
        Self { number, at: None, route: None, work, dice, token: 0, rests_until: 0, hops: 0 }
    }

    pub(super) fn is_producer(&self) -> bool {
        matches!(self.work, Work::Produce(_))
    }

    /// Nothing that it asked is unanswered.
    pub(super) fn is_idle(&self) -> bool {
        match &self.work {
            Work::Produce(producer) => producer.queue.is_empty(),
            Work::Consume(consumer) => consumer.polls == 0 && consumer.delete_before.is_none(),
        }
    }

    /// Where it stands, in words.
    pub(super) fn standing(&self) -> String {
        let Self { number, at, route, .. } = self;
        let at = at.map_or_else(String::new, |at| format!(" at {at}"));
        let work = match &self.work {
            Work::Produce(producer) => {
                let Producer { acks, id, epoch, sequence, queue, .. } = producer;
                let sent = queue.iter().filter(|item| item.sent.is_some()).count();
                let waiting = queue.len();
                format!(
                    "acks={acks:?}, producer {id}/{epoch} at sequence {sequence}, {waiting} batches wait, {sent} are sent"
                )
            }
            Work::Consume(consumer) => format!("{} polls are left", consumer.polls),
        };
        format!("client {number}{at}, asking {route:?}: {work}")
    }

    /// Moves an idle client to another partition.
    pub(super) fn turn_to(&mut self, at: TopicPartition) {
        if self.at == Some(at) || !self.is_idle() {
            return;
        }
        (self.at, self.route) = (Some(at), None);
        match &mut self.work {
            Work::Produce(producer) => {
                producer.id.0 += 1;
                (producer.epoch, producer.sequence) = (0, 0);
            }
            Work::Consume(consumer) => *consumer = Consumer::default(),
        }
    }

    /// Some more to do.
    pub(super) fn work(&mut self, shared: &mut Shared, amount: u32) {
        if self.at.is_none_or(|at| shared.image.partition(at).is_none()) {
            return;
        }
        match &mut self.work {
            Work::Produce(producer) => {
                for _ in 0..amount {
                    producer.enqueue(&mut self.dice, self.number);
                }
            }
            Work::Consume(consumer) => consumer.polls = consumer.polls.saturating_add(amount).min(1_000),
        }
        self.pump(shared);
    }

    /// Asks that records be deleted.
    pub(super) fn delete_before(&mut self, shared: &mut Shared, before: Offset) {
        if let Work::Consume(consumer) = &mut self.work {
            consumer.delete_before = Some(before);
        }
        self.pump(shared);
    }

    pub(super) fn wake(&mut self, shared: &mut Shared, token: u64) -> bool {
        if token != self.token {
            return false;
        }
        self.pump(shared);
        true
    }

    /// Sends whatever may be sent, and arms the timer.
    fn pump(&mut self, shared: &mut Shared) {
        let Some(at) = self.at else { return };
        if shared.image.partition(at).is_none() {
            self.give_up();
            (self.at, self.route) = (None, None);
            return;
        }
        if self.is_idle() {
            return;
        }
        let now = shared.now;
        if self.rests_until <= now {
            self.expire(now);
            self.send(shared, at);
        }
        self.token += 1;
        let next = if self.rests_until > now { self.rests_until } else { now + TIMEOUT / 2 };
        shared.queue.plan(next, Event::Client { client: self.number, token: self.token });
    }

    /// The partition does not exist any more.
    fn give_up(&mut self) {
        match &mut self.work {
            Work::Produce(producer) => producer.queue.clear(),
            Work::Consume(consumer) => *consumer = Consumer::default(),
        }
    }

    /// Forgets requests that nobody answers; the leader may be another.
    fn expire(&mut self, now: u64) {
        let mut expired = false;
        let mut look = |sent: &mut Option<(u64, u64)>| {
            if sent.is_some_and(|(_, when)| when + TIMEOUT <= now) {
                *sent = None;
                expired = true;
            }
        };
        match &mut self.work {
            Work::Produce(producer) => producer.queue.iter_mut().for_each(|item| look(&mut item.sent)),
            Work::Consume(consumer) => {
                look(&mut consumer.sent);
                look(&mut consumer.deletes);
            }
        }
        if expired {
            self.route = None;
        }
    }

    fn send(&mut self, shared: &mut Shared, at: TopicPartition) {
        let (to, epoch) = self.route(shared, at);
        let (now, believed) = (shared.now, epoch);
        let from = Address::Client(self.number);
        match &mut self.work {
            Work::Produce(producer) => {
                let depth = producer.depth;
                for item in producer.queue.iter_mut().take(depth).filter(|item| item.sent.is_none() && !item.done) {
                    let request = shared.number();
                    item.sent = Some((request, now));
                    let (batch, acks) = (item.batch.clone(), producer.acks);
                    let produce = Produce { request, at, acks, believed, batch };
                    say!(shared, "c{} sends {} to b{to} for {at} (acks {acks:?})", self.number, item.value);
                    let message = Message::Produce(Box::new(produce));
                    shared.net.send(&mut shared.queue, now, from, Address::Broker(to), message);
                    item.done = acks == Acks::None;
                }
                producer.advance();
            }
            Work::Consume(consumer) => {
                if consumer.polls > 0 && consumer.sent.is_none() {
                    let request = shared.number();
                    consumer.sent = Some((request, now));
                    let message = Message::Consume { request, at, believed, offset: consumer.position };
                    shared.net.send(&mut shared.queue, now, from, Address::Broker(to), message);
                }
                if let Some(before) = consumer.delete_before
                    && consumer.deletes.is_none()
                {
                    let request = shared.number();
                    consumer.deletes = Some((request, now));
                    let message = Message::DeleteRecords { request, at, before };
                    shared.net.send(&mut shared.queue, now, from, Address::Broker(to), message);
                }
            }
        }
    }

    /// Whom to ask: who was known, else what the directory says, else anybody.
    fn route(&mut self, shared: &mut Shared, at: TopicPartition) -> (usize, Option<LeaderEpoch>) {
        if let Some((broker, epoch)) = self.route {
            return (broker, Some(epoch));
        }
        self.hops += 1;
        let record = shared.directory.look_up(at);
        let found = record.and_then(|record| Some((shared.broker_of(record.leader?)?, record.epoch)));
        match found {
            Some((broker, epoch)) => {
                shared.count("resolved by the directory");
                self.route = Some((broker, epoch));
                (broker, Some(epoch))
            }
            None => (self.dice.below(shared.brokers as u64) as usize, None),
        }
    }

    pub(super) fn produced(&mut self, shared: &mut Shared, request: u64, result: Result<(), Refused>) {
        let now = shared.now;
        let mut refused = None;
        match &mut self.work {
            Work::Produce(producer) => {
                let number = |item: &Item| item.sent.is_some_and(|(sent, _)| sent == request);
                let Some(i) = producer.queue.iter().position(number) else { return };
                match result {
                    Ok(()) => producer.queue[i].done = true,
                    Err(refusal) => {
                        producer.queue[i].sent = None;
                        refused = Some(refusal);
                        producer.refused(shared, i, refusal.code);
                    }
                }
                producer.advance();
            }
            Work::Consume(consumer) => {
                if consumer.deletes.is_none_or(|(sent, _)| sent != request) {
                    return;
                }
                consumer.deletes = None;
                match result {
                    Ok(()) => consumer.delete_before = None,
                    Err(refusal) => refused = Some(refusal),
                }
            }
        }
        if let Some(refusal) = refused {
            self.turned_away(shared, refusal, now);
        }
        self.pump(shared);
    }

    pub(super) fn consumed(&mut self, shared: &mut Shared, request: u64, result: Result<Consumed, Refused>) {
        let now = shared.now;
        let Work::Consume(consumer) = &mut self.work else { return };
        if consumer.sent.is_none_or(|(sent, _)| sent != request) {
            return;
        }
        consumer.sent = None;
        match result {
            Ok(consumed) => {
                consumer.polls -= 1;
                let before = consumer.position;
                for chunk in consumed.records.as_slice() {
                    let all = pieces(chunk).unwrap_or_default();
                    let next = all.last().map_or(consumer.position, |last| Offset(last.next));
                    consumer.position = consumer.position.max(next);
                }
                consumer.position = consumer.position.max(consumed.log_start);
                if consumer.position == before {
                    // Nothing is left.
                    consumer.polls = 0;
                }
                shared.consumed += (consumer.position.0 - before.0).unsigned_abs();
            }
            Err(refusal) => {
                if refusal.code == ErrorCode::OffsetOutOfRange {
                    // Of a partition that lost records by an operator's wish.
                    let end = self.at.and_then(|at| shared.truths.get(at)).map_or(0, |truth| truth.log.end());
                    consumer.position = consumer.position.min(Offset(end));
                }
                self.turned_away(shared, refusal, now);
            }
        }
        self.pump(shared);
    }

    fn turned_away(&mut self, shared: &mut Shared, refusal: Refused, now: u64) {
        let wrong_place = matches!(
            refusal.code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::StorageError
        );
        if wrong_place {
            let known = self.route.map(|(_, epoch)| epoch);
            let hint = refusal.hint.filter(|(_, epoch)| known.is_none_or(|known| *epoch > known));
            self.route = hint.and_then(|(node, epoch)| Some((shared.broker_of(node)?, epoch)));
        }
        let pause = if self.route.is_some() && wrong_place { MS } else { 20 * MS + self.dice.below(120 * MS) };
        self.rests_until = now + pause;
    }
}

impl Producer {
    fn enqueue(&mut self, dice: &mut Dice, client: usize) {
        let count = 1 + dice.below(3) as i32;
        self.value += 1;
        let value = client as u64 * 1_000_000 + self.value;
        let sequence = self.sequence;
        self.sequence += count;
        let batch = self.build(sequence, count, value);
        self.queue.push_back(Item { count, sequence, value, batch, sent: None, done: false });
    }

    fn build(&self, sequence: i32, count: i32, value: u64) -> RecordBatch {
        let mut builder = BatchBuilder::new(Compression::None);
        if self.idempotent {
            builder = builder.idempotent(self.id, self.epoch, sequence);
        }
        for i in 0..count as u64 {
            let key = Bytes::copy_from_slice(&((value * 7 + i) % 5).to_be_bytes());
            builder.push(Timestamp(1_790_000_000_000), Some(&key), Some(&(value << 8 | i).to_be_bytes()), &[]);
        }
        builder.build()
    }

    /// Removes what is done from the front.
    fn advance(&mut self) {
        while self.queue.front().is_some_and(|item| item.done) {
            self.queue.pop_front();
        }
    }

    fn refused(&mut self, shared: &mut Shared, i: usize, code: ErrorCode) {
        let fatal = matches!(code, ErrorCode::OutOfOrderSequence | ErrorCode::InvalidProducerEpoch);
        if fatal {
            // One overtook another: one at a time from here on.
            self.depth = 1;
        }
        if fatal && i == 0 {
            // What it sent before is gone, or its outcome was never known: it begins another epoch (KIP-360).
            shared.count("a producer began another epoch");
            self.queue.pop_front();
            self.epoch += 1;
            self.sequence = 0;
            let mut items = std::mem::take(&mut self.queue);
            for item in items.iter_mut().filter(|item| !item.done) {
                item.sequence = self.sequence;
                self.sequence += item.count;
                item.sent = None;
                item.batch = self.build(item.sequence, item.count, item.value);
            }
            items.retain(|item| !item.done);
            self.queue = items;
        } else if !fatal && !code.is_retriable() {
            shared.count("a produce was refused for good");
            self.queue.remove(i);
        }
    }
}
