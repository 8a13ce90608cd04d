//! What a leader serves: produces, reads of consumers, fetches of followers.

use rafka_broker::ErrorCode;
use rafka_broker::producer::Verdict as Known;
use rafka_broker::replication::{Fetched, FetchedPartition, Input, ReplicaFetch, ReplicaFetched, Ticket, Verdict};
use rafka_broker::request::Acks;
use rafka_log::{AppendError, ReadError};
use rafka_model::{Chunks, Durability, LeaderEpoch, Monotonic, Offset, TopicPartition};

use super::replica::{History, Waiting};
use super::{Cx, Parked, Process, Replica, Role};
use crate::seeds::event::{Address, Consumed, Message, Produce, Refused};
use crate::seeds::invariants::Who;
use crate::seeds::shadow::{Piece, pieces};
use crate::seeds::trace::say;

/// Bytes of one partition in an answer.
const PARTITION_BYTES: u32 = 600;

impl Process {
    fn refusal(&self, at: TopicPartition, code: ErrorCode) -> Refused {
        let state = self.image.partition(at);
        let hint = state.and_then(|state| state.leader.map(|leader| (leader, state.leader_epoch)));
        Refused { code, hint: hint.filter(|(leader, _)| *leader != self.node()) }
    }

    pub(super) fn on_produce(&mut self, cx: &mut Cx<'_>, client: Address, produce: Produce) {
        let Produce { request, at, acks, .. } = produce;
        if let Err(code) = self.append(cx, client, produce) {
            cx.count(match code {
                ErrorCode::NotEnoughReplicas => "not enough replicas",
                ErrorCode::NotLeaderOrFollower => "not the leader",
                ErrorCode::OutOfOrderSequence => "out of order",
                ErrorCode::DiskFull => "disk is full",
                _ => "produce refused otherwise",
            });
            if acks != Acks::None {
                let refusal = self.refusal(at, code);
                cx.send(client, Message::Produced(request, Err(refusal)));
            }
        }
    }

    fn append(&mut self, cx: &mut Cx<'_>, client: Address, produce: Produce) -> Result<(), ErrorCode> {
        let Produce { request, at, acks, believed, batch } = produce;
        let (now, wall, me) = (cx.now(), cx.machine.wall(cx.shared.now), self.node());
        let unknown = || match self.image.partition(at) {
            Some(_) => ErrorCode::NotLeaderOrFollower,
            None => ErrorCode::UnknownTopicOrPartition,
        };
        let Some(replica) = self.replicas.get_mut(&at) else { return Err(unknown()) };
        let Role::Leader(leader) = &replica.role else { return Err(ErrorCode::NotLeaderOrFollower) };
        leader.check_epoch(believed)?;
        leader.check_acks(acks, now)?;
        self.holds_lease(cx, at, now);
        let Some(replica) = self.replicas.get_mut(&at) else { return Err(ErrorCode::NotLeaderOrFollower) };
        let Role::Leader(leader) = &replica.role else { return Err(ErrorCode::NotLeaderOrFollower) };
        let epoch = leader.epoch();
        let next = match replica.producers.check(batch.header()).map_err(|refusal| refusal.code())? {
            Known::Duplicate(known) => {
                cx.shared.count("repetition recognised");
                known.last_offset().plus(1)
            }
            Known::Append => {
                let appended = match replica.log.append(epoch, batch, wall) {
                    Ok(appended) => appended,
                    Err(AppendError::DiskFull(_)) => return Err(ErrorCode::DiskFull),
                    Err(AppendError::Fenced { .. }) => return Err(ErrorCode::NotLeaderOrFollower),
                    Err(error) => {
                        say!(cx.shared, "b{} cannot append to {at}: {error}", cx.me);
                        self.fail(cx, at);
                        return Err(ErrorCode::StorageError);
                    }
                };
                let header = appended.header();
                replica.producers.record(&header, wall);
                let piece = Piece::of(&header);
                replica.shadow.push(piece);
                cx.shared.trace.mix(piece.base as u64 ^ u64::from(piece.crc) << 20);
                cx.shared.truths.appends(at, me, epoch.0);
                let next = header.next_offset();
                say!(cx.shared, "b{} appends {piece} to {at} for {client} (acks {acks:?})", cx.me);
                let bytes = appended.into_batch().bytes().clone();
                replica.uncommitted.push((header.base_offset, next, bytes));
                self.step(cx, at, Input::Appended(next));
                next
            }
        };
        if let Some(replica) = self.replicas.get_mut(&at)
            && acks != Acks::None
        {
            let ticket = Ticket(replica.next_ticket);
            replica.next_ticket += 1;
            replica.waiting.insert(ticket, Waiting { client, request, acks, next });
            let deadline = now.plus(cx.shared.tempo.produce_timeout);
            self.step(cx, at, Input::Wait { ticket, acks, next, deadline });
        }
        self.flush_if_fsync(cx, at);
        Ok(())
    }

    /// Who serves has heard the controller, or a follower, within a session, unless nobody else could lead (invariant 7).
    fn holds_lease(&self, cx: &mut Cx<'_>, at: TopicPartition, now: Monotonic) {
        let Some(replica) = self.replicas.get(&at) else { return };
        let Role::Leader(leader) = &replica.role else { return };
        let silence = now.since(self.lease.max(replica.contact));
        if !leader.is_sole() && silence > cx.shared.tempo.session {
            let (me, session) = (self.node(), cx.shared.tempo.session);
            let text = format!("{me} serves {at} after {silence:?} in which it heard nobody, a session is {session:?}");
            cx.shared.truths.violate(7, text);
        }
    }

    pub(super) fn flush_if_fsync(&mut self, cx: &mut Cx<'_>, at: TopicPartition) {
        if self.replicas.get(&at).is_some_and(|replica| replica.config.durability == Durability::Fsync) {
            self.flush(cx, at);
        }
    }

    /// The high watermark of a led partition moved.
    pub(super) fn committed(&mut self, cx: &mut Cx<'_>, at: TopicPartition, now: Offset) {
        let me = self.node();
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        say!(cx.shared, "b{} commits {at} up to {now}", cx.me);
        cx.shared.trace.mix(now.0 as u64);
        let from = std::mem::replace(&mut replica.compared, now);
        let who = Who { node: me, epoch: replica.epoch().0 };
        cx.shared.truths.commits(at, who, &replica.shadow, from.0, now.0);
        let done = replica.uncommitted.iter().take_while(|(_, next, _)| *next <= now).count();
        for (base, next, bytes) in replica.uncommitted.drain(..done) {
            self.cache.insert(at, base, next, bytes);
        }
        cx.shared.truths.suspect(at);
    }

    pub(super) fn acknowledge(&mut self, cx: &mut Cx<'_>, at: TopicPartition, ticket: Ticket) {
        let me = self.node();
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        let Some(waiting) = replica.waiting.remove(&ticket) else { return };
        let who = Who { node: me, epoch: replica.epoch().0 };
        say!(cx.shared, "b{} acknowledges {at} up to {} to {}", cx.me, waiting.next, waiting.client);
        if waiting.acks == Acks::All {
            cx.shared.acknowledged += 1;
            cx.shared.truths.acknowledges(at, who, waiting.next.0);
        }
        cx.send(waiting.client, Message::Produced(waiting.request, Ok(())));
    }

    pub(super) fn refuse(&mut self, cx: &mut Cx<'_>, at: TopicPartition, ticket: Ticket, code: ErrorCode) {
        let Some(waiting) = self.replicas.get_mut(&at).and_then(|replica| replica.waiting.remove(&ticket)) else {
            return;
        };
        cx.count(match code {
            ErrorCode::NotEnoughReplicasAfterAppend => "not enough replicas after the append",
            ErrorCode::RequestTimedOut => "a produce timed out",
            _ => "a produce was given up",
        });
        let refusal = self.refusal(at, code);
        cx.send(waiting.client, Message::Produced(waiting.request, Err(refusal)));
    }

    /// Refuses everybody who waits for a produce.
    pub(super) fn drain(&mut self, cx: &mut Cx<'_>, at: TopicPartition, code: ErrorCode) {
        let tickets: Vec<_> = self.replicas.get(&at).map(|r| r.waiting.keys().copied().collect()).unwrap_or_default();
        tickets.into_iter().for_each(|ticket| self.refuse(cx, at, ticket, code));
    }

    pub(super) fn on_consume(
        &mut self,
        cx: &mut Cx<'_>,
        client: Address,
        (request, at, believed, offset): (u64, TopicPartition, Option<LeaderEpoch>, Offset),
    ) {
        let read = self.read(cx, client, at, believed, offset);
        let answer = read.map(Box::new).map_err(|code| {
            cx.count(match code {
                ErrorCode::OffsetNotAvailable => "offset not available",
                ErrorCode::OffsetOutOfRange => "offset out of range",
                _ => "a read was refused otherwise",
            });
            self.refusal(at, code)
        });
        cx.send(client, Message::Consumed(request, answer));
    }

    fn read(
        &mut self,
        cx: &mut Cx<'_>,
        client: Address,
        at: TopicPartition,
        believed: Option<LeaderEpoch>,
        offset: Offset,
    ) -> Result<Consumed, ErrorCode> {
        let (now, me) = (cx.now(), self.node());
        let replica = self.replicas.get(&at).ok_or(match self.image.partition(at) {
            Some(_) => ErrorCode::NotLeaderOrFollower,
            None => ErrorCode::UnknownTopicOrPartition,
        })?;
        let Role::Leader(leader) = &replica.role else { return Err(ErrorCode::NotLeaderOrFollower) };
        leader.check_epoch(believed)?;
        let high_watermark = leader.may_read(now)?;
        self.holds_lease(cx, at, now);
        let (epoch, log_start) = (leader.epoch(), replica.log.log_start());
        let who = Who { node: me, epoch: epoch.0 };
        cx.shared.truths.tells(at, who, high_watermark.0);
        if offset < log_start || offset > high_watermark {
            // Also beyond the high watermark: nobody can have been told of an offset there.
            return if offset < log_start {
                Ok(Consumed { log_start, records: Chunks::new() })
            } else {
                Err(ErrorCode::OffsetOutOfRange)
            };
        }
        let mut records = Chunks::new();
        let cached = self.cache.read(at, offset, high_watermark, PARTITION_BYTES as usize, true);
        match cached {
            Some(run) => {
                cx.shared.count("read from the cache");
                run.pieces.into_iter().for_each(|piece| records.push(piece));
            }
            None => {
                let read = replica.reader.read(offset, high_watermark, PARTITION_BYTES, true);
                records.push(read.map_err(|error| match error {
                    ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
                    _ => ErrorCode::StorageError,
                })?);
            }
        }
        let Address::Client(consumer) = client else { return Err(ErrorCode::InvalidRequest) };
        for chunk in records.as_slice() {
            match pieces(chunk) {
                Ok(pieces) => cx.shared.truths.consumes(at, who, consumer, &pieces),
                Err(words) => {
                    cx.shared.truths.violate(5, format!("consumer {consumer} of {at} got bad bytes: {words}"))
                }
            }
        }
        Ok(Consumed { log_start, records })
    }

    pub(super) fn on_delete_records(
        &mut self,
        cx: &mut Cx<'_>,
        client: Address,
        request: u64,
        at: TopicPartition,
        before: Offset,
    ) {
        let now = cx.now();
        let found = self.replicas.get_mut(&at).ok_or(ErrorCode::NotLeaderOrFollower).and_then(|replica| {
            let Role::Leader(leader) = &replica.role else { return Err(ErrorCode::NotLeaderOrFollower) };
            let start = before.min(leader.may_read(now)?);
            // Before it is done: a crash may happen in the middle.
            cx.shared.truths.of(at).delete(leader.epoch().0, start.0);
            let start = replica.log.advance_log_start(start).map_err(|_| ErrorCode::StorageError)?;
            replica.shadow.advance_start(start.0);
            Ok(start)
        });
        match found {
            Ok(start) => {
                say!(cx.shared, "b{} deletes {at} before {start}", cx.me);
                cx.count("records deleted");
                self.cache.drop_below(at, start);
                self.step(cx, at, Input::LogStart(start));
                cx.send(client, Message::Produced(request, Ok(())));
            }
            Err(code) => {
                let refusal = self.refusal(at, code);
                cx.send(client, Message::Produced(request, Err(refusal)));
            }
        }
    }

    /// A follower's fetch.
    pub(super) fn on_fetch(&mut self, cx: &mut Cx<'_>, from: usize, fetch: ReplicaFetch) {
        let now = cx.now();
        let mut partitions = Vec::new();
        let (mut served, mut waits) = (Vec::new(), true);
        for partition in &fetch.partitions {
            let at = partition.at;
            if let Some(replica) = self.replicas.get_mut(&at) {
                replica.contact = now;
            }
            let epoch = self.leads(at).unwrap_or(partition.leader_epoch);
            let mut out = Vec::new();
            let verdict = match self.replicas.get_mut(&at) {
                Some(Replica { role: Role::Leader(leader), reader, .. }) => {
                    leader.fetched(&fetch, partition, &History(reader), now, &mut out)
                }
                _ => Verdict::Refused(ErrorCode::NotLeaderOrFollower),
            };
            self.carry_out(cx, at, out);
            let outcome = match verdict {
                Verdict::Serve { .. } => {
                    served.push(*partition);
                    continue;
                }
                Verdict::Ignored => continue,
                Verdict::Diverging { epoch, end } => {
                    cx.count("logs diverge");
                    say!(cx.shared, "b{} says to b{from}: {at} diverges, epoch {epoch} ends at {end}", cx.me);
                    Fetched::Diverging { epoch, end }
                }
                Verdict::Behind { log_start } => {
                    cx.count("a follower is behind the log start");
                    Fetched::Behind { log_start }
                }
                Verdict::Refused(code) => Fetched::Refused(code),
            };
            waits = false;
            partitions.push(FetchedPartition { at, leader_epoch: epoch, outcome });
        }
        if served.is_empty() && partitions.is_empty() {
            return;
        }
        let has_news = served.iter().any(|partition| {
            self.replicas.get(&partition.at).is_some_and(|replica| replica.log.log_end() > partition.offset)
        });
        let fetch = ReplicaFetch { partitions: served, ..fetch };
        if waits && !has_news {
            let until = now.plus(cx.shared.tempo.fetch_wait);
            self.parked.retain(|parked| parked.from != from);
            self.parked.push(Parked { from, fetch, until });
            return;
        }
        self.answer_fetch(cx, from, &fetch, partitions);
    }

    /// Reads what was asked for and sends it.
    fn answer_fetch(
        &mut self,
        cx: &mut Cx<'_>,
        from: usize,
        fetch: &ReplicaFetch,
        mut partitions: Vec<FetchedPartition>,
    ) {
        for partition in &fetch.partitions {
            let at = partition.at;
            let Some(Replica { role: Role::Leader(leader), log, reader, .. }) = self.replicas.get(&at) else {
                continue;
            };
            if leader.epoch() != partition.leader_epoch {
                continue;
            }
            let (high_watermark, log_start) = (leader.high_watermark(), log.log_start());
            let outcome = match reader.read(partition.offset, log.log_end(), partition.max_bytes, true) {
                Ok(bytes) => {
                    let mut batches = Chunks::new();
                    batches.push(bytes);
                    Fetched::Records { high_watermark, log_start, batches }
                }
                Err(ReadError::OutOfRange { .. }) if partition.offset < log_start => Fetched::Behind { log_start },
                Err(_) => Fetched::Refused(ErrorCode::StorageError),
            };
            partitions.push(FetchedPartition { at, leader_epoch: leader.epoch(), outcome });
        }
        let fetched = ReplicaFetched { broker_epoch: fetch.broker_epoch, request: fetch.request, partitions };
        cx.send(Address::Broker(from), Message::Fetched(Box::new(fetched)));
    }

    /// Answers the fetches that found something meanwhile, or waited long enough.
    pub(super) fn answer_parked(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        let mut i = 0;
        while i < self.parked.len() {
            let parked = &self.parked[i];
            let ready = parked.until <= now
                || parked.fetch.partitions.iter().any(|partition| match self.replicas.get(&partition.at) {
                    Some(Replica { role: Role::Leader(leader), log, .. }) => {
                        log.log_end() > partition.offset || leader.epoch() != partition.leader_epoch
                    }
                    _ => true,
                });
            if ready {
                let Parked { from, fetch, .. } = self.parked.remove(i);
                self.answer_fetch(cx, from, &fetch, Vec::new());
            } else {
                i += 1;
            }
        }
    }
}
