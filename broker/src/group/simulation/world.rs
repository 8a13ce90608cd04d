//! The log, the driver of the coordinator, and a network that loses and repeats.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rafka_model::{Monotonic, PartitionId, Timestamp};

use crate::group::request::{Commit, GroupReply, GroupRequest, OffsetToCommit, OffsetsAsked, SyncReply};
use crate::group::rules::{Rule, Rules};
use crate::group::testing::{Reply, commit};
use crate::group::{Config, Context, Coordinator, GroupRecord, Output, Token};
use crate::metadata::Image;
use crate::testing::Random;
use crate::{ErrorCode, Failure};

/// Counts the requests of a client; a repeated request keeps its number.
pub(super) type Call = u64;

/// Who asked what, until it is answered.
#[derive(Clone, Debug)]
struct Waiting {
    /// `None` for whoever does not listen.
    client: Option<(usize, Call)>,
    request: GroupRequest,
    /// Offsets acknowledged when the request was handled: an answer below is a loss.
    floor: BTreeMap<u8, i64>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) healed: bool,
    pub(super) now: u64,
    /// Partitions of the topic that everybody reads.
    pub(super) partitions: u8,
    pub(super) log: Vec<GroupRecord>,
    pub(super) inboxes: Vec<VecDeque<(Call, Reply)>>,
    /// The furthest offset that somebody was told is stored.
    pub(super) acknowledged: BTreeMap<u8, i64>,
    /// How many partitions were dealt out in a generation.
    pub(super) dealt: BTreeMap<i32, u8>,
    pub(super) crashes: usize,
    outboxes: Vec<VecDeque<(Call, GroupRequest)>>,
    coordinator: Coordinator,
    rules: Rules,
    image: Image,
    /// Records before this are never lost.
    committed: usize,
    /// Replies, and how much of the log must be committed before they are given.
    held: VecDeque<(usize, Token, Reply)>,
    waiting: BTreeMap<Token, Waiting>,
    next: u64,
    /// Owner by generation and partition, as members were told.
    told: BTreeMap<(i32, u8), String>,
    replies_wait: bool,
}

const CONFIG: fn() -> Config = || Config { initial_rebalance_delay_ms: 1_000, ..Config::default() };

impl World {
    pub(super) fn new(seed: u64, broken: Option<Rule>, replies_wait: bool) -> Self {
        let (log, inboxes, outboxes, acknowledged, held, waiting, told) = Default::default();
        let mut world = Self {
            random: Random(seed),
            healed: false,
            now: 1,
            partitions: 4,
            log,
            inboxes,
            acknowledged,
            dealt: BTreeMap::new(),
            crashes: 0,
            outboxes,
            coordinator: Coordinator::new(CONFIG()),
            rules: Rules { broken },
            image: Image::default(),
            committed: 0,
            held,
            waiting,
            next: 0,
            told,
            replies_wait,
        };
        world.begin().expect("nothing is promised yet");
        world
    }

    pub(super) fn connect(&mut self, client: usize) {
        let clients = self.inboxes.len().max(client + 1);
        self.inboxes.resize_with(clients, VecDeque::new);
        self.outboxes.resize_with(clients, VecDeque::new);
    }

    /// Sends a request. The requests of a client arrive in order, if they do.
    pub(super) fn send(&mut self, client: usize, request: GroupRequest) -> Call {
        self.next += 1;
        self.outboxes[client].push_back((self.next, request));
        self.next
    }

    /// Whatever the client has under way is lost.
    pub(super) fn disconnect(&mut self, client: usize) {
        self.outboxes[client].clear();
        self.inboxes[client].clear();
    }

    /// Lets requests arrive; one of `losses` is lost, some come twice.
    pub(super) fn deliver_requests(&mut self, losses: u64) -> Result<(), String> {
        for client in 0..self.outboxes.len() {
            if !self.healed && self.random.one_in(3) {
                continue;
            }
            while let Some((call, request)) = self.outboxes[client].pop_front() {
                if losses > 0 && self.random.one_in(losses * 4) {
                    continue;
                }
                if !self.healed && self.random.one_in(15) {
                    self.ask(Some((client, call)), request.clone())?;
                }
                self.ask(Some((client, call)), request)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, step: impl FnOnce(&mut Coordinator, &Context<'_>) -> Output) -> Result<(), String> {
        self.next += 1;
        let context = Context {
            now: Monotonic(self.now * 1_000_000),
            time: Timestamp(self.now.cast_signed()),
            image: &self.image,
            unique: u128::from(self.next),
        };
        let output = step(&mut self.coordinator, &context);
        self.log.extend(output.records);
        for (token, reply) in output.replies {
            self.check_commit(token, &reply)?;
            let needs = if self.replies_wait { self.log.len() } else { 0 };
            self.held.push_back((needs, token, reply));
        }
        self.release()
    }

    /// A request arrives.
    pub(super) fn ask(&mut self, client: Option<(usize, Call)>, request: GroupRequest) -> Result<(), String> {
        self.next += 1;
        let token = self.next;
        let floor = self.acknowledged.clone();
        self.waiting.insert(token, Waiting { client, request: request.clone(), floor });
        self.step(|coordinator, context| coordinator.handle(context, token, request))
    }

    /// Once members of a generation know their shares, nobody of an earlier one commits.
    fn check_commit(&self, token: Token, reply: &Reply) -> Result<(), String> {
        let Some(Waiting { request: GroupRequest::Commit(commit), .. }) = self.waiting.get(&token) else {
            return Ok(());
        };
        let newest = self.told.keys().map(|(generation, _)| *generation).max().unwrap_or(0);
        if reply.is_ok() && (0..newest).contains(&commit.generation) {
            return Err(format!("{commit:?} was taken in generation {newest}"));
        }
        Ok(())
    }

    /// Gives the replies that wait for nothing any more.
    fn release(&mut self) -> Result<(), String> {
        while self.held.front().is_some_and(|(needs, ..)| *needs <= self.committed) {
            let Some((_, token, reply)) = self.held.pop_front() else { break };
            let waiting = self.waiting.remove(&token).ok_or("a reply to nobody")?;
            self.note(&waiting, &reply)?;
            if let Some((client, call)) = waiting.client {
                self.inboxes[client].push_back((call, reply));
            }
        }
        Ok(())
    }

    /// Holds what somebody is told against what somebody was told before.
    fn note(&mut self, waiting: &Waiting, reply: &Reply) -> Result<(), String> {
        match (&waiting.request, reply) {
            (GroupRequest::Commit(commit), Ok(GroupReply::Commit(_))) => {
                for one in &commit.offsets {
                    let acknowledged = self.acknowledged.entry(one.partition.0 as u8).or_default();
                    *acknowledged = one.offset.max(*acknowledged);
                }
            }
            (_, Ok(GroupReply::Offsets(offsets))) => {
                for one in offsets {
                    let floor = waiting.floor.get(&(one.partition.0 as u8)).copied().unwrap_or(-1);
                    if one.offset < floor {
                        return Err(format!("{floor} of {:?} was acknowledged, {} is told", one.partition, one.offset));
                    }
                }
            }
            (GroupRequest::Sync(sync), Ok(GroupReply::Sync(SyncReply { assignment, .. }))) => {
                let owner = sync.instance_id.as_ref().unwrap_or(&sync.member_id);
                for partition in assignment {
                    let told = self.told.entry((sync.generation, *partition)).or_insert_with(|| owner.clone());
                    if told != owner {
                        let generation = sync.generation;
                        return Err(format!("{owner} and {told} own {partition} in generation {generation}"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn pass(&mut self, ms: u64) -> Result<(), String> {
        let end = self.now + ms;
        while let Some(at) = self.coordinator.next_timeout().filter(|at| at.0 <= end * 1_000_000) {
            self.now = self.now.max(at.0.div_ceil(1_000_000));
            self.step(|coordinator, context| coordinator.tick(context))?;
        }
        self.now = end;
        Ok(())
    }

    /// Some more of the log is safe.
    pub(super) fn commit_some(&mut self) -> Result<(), String> {
        let open = (self.log.len() - self.committed) as u64;
        self.committed += self.random.below(open + 1) as usize;
        self.release()
    }

    pub(super) fn commit_all(&mut self) -> Result<(), String> {
        self.committed = self.log.len();
        self.release()
    }

    /// The coordinator dies with what waits in it; the next one reads what is left of the log.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        self.crashes += 1;
        let open = (self.log.len() - self.committed) as u64;
        self.log.truncate(self.committed + self.random.below(open + 1) as usize);
        if self.random.one_in(3) {
            self.compact();
        }
        self.committed = self.log.len();
        self.held.clear();
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            if let Some((client, call)) = waiting.client.filter(|_| self.random.one_in(2)) {
                let refusal = Failure::new(ErrorCode::NotCoordinator, "the coordinator has moved");
                self.inboxes[client].push_back((call, Err(refusal)));
            }
        }
        self.begin()
    }

    /// Of each key the last record is left, and not even that of a tombstone that is old.
    fn compact(&mut self) {
        let (mut later, mut kept) = (BTreeSet::new(), Vec::new());
        for record in self.log.drain(..).rev() {
            let is_last = later.insert(record.key.clone());
            if is_last && (record.value.is_some() || self.random.one_in(2)) {
                kept.push(record);
            }
        }
        self.log.extend(kept.into_iter().rev());
    }

    fn begin(&mut self) -> Result<(), String> {
        self.coordinator = Coordinator::new(CONFIG());
        self.coordinator.rules = self.rules;
        for record in &self.log {
            self.coordinator.replay(&record.key, record.value.as_deref()).map_err(|error| error.to_string())?;
        }
        self.step(|coordinator, context| coordinator.loaded(context))
    }

    /// An administrator sets the offset of an empty group forward.
    pub(super) fn set_forward(&mut self) -> Result<(), String> {
        let partition = self.random.below(u64::from(self.partitions)) as u8;
        let offset = self.acknowledged.get(&partition).copied().unwrap_or(0) + 10;
        self.ask(None, GroupRequest::Commit(commit("g", "orders", u32::from(partition), offset)))
    }

    /// Somebody looks at the offsets.
    pub(super) fn look(&mut self) -> Result<(), String> {
        self.ask(None, Self::offsets_of(0..self.partitions))
    }

    /// A commit by who was a member of `generation`.
    pub(super) fn commit_of(
        member_id: &str,
        instance_id: Option<&String>,
        generation: i32,
        at: (u8, i64),
    ) -> GroupRequest {
        let (partition, offset) = at;
        let offsets = vec![OffsetToCommit {
            topic: "orders".to_owned(),
            partition: PartitionId(u32::from(partition)),
            offset,
            ..OffsetToCommit::default()
        }];
        let (member_id, instance_id) = (member_id.to_owned(), instance_id.cloned());
        let group = "g".to_owned();
        GroupRequest::Commit(Commit { group, generation, member_id, instance_id, retention_ms: None, offsets })
    }

    /// What was acknowledged is there, here and elsewhere.
    pub(super) fn judge(&self) -> Result<(), String> {
        let mut elsewhere = Coordinator::new(CONFIG());
        for record in &self.log {
            elsewhere.replay(&record.key, record.value.as_deref()).map_err(|error| error.to_string())?;
        }
        for coordinator in [&self.coordinator, &elsewhere] {
            for (partition, acknowledged) in &self.acknowledged {
                let stored = coordinator.committed().find(|(_, _, id, _)| id.0 == u32::from(*partition));
                if stored.is_none_or(|(.., offset)| offset < *acknowledged) {
                    return Err(format!(
                        "{acknowledged} of partition {partition} was acknowledged, {stored:?} is there"
                    ));
                }
            }
        }
        Ok(())
    }

    /// A read of the offsets of partitions.
    pub(super) fn offsets_of(partitions: impl Iterator<Item = u8>) -> GroupRequest {
        let partitions = partitions.map(|id| PartitionId(u32::from(id))).collect();
        let topics = Some(vec![("orders".to_owned(), partitions)]);
        GroupRequest::Offsets(OffsetsAsked {
            group: "g".to_owned(),
            member_epoch: -1,
            topics,
            ..OffsetsAsked::default()
        })
    }
}
