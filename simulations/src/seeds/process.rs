//! A broker's process: the driver of the machines, as `node` is one. It carries out what they say and decides nothing.

mod control;
mod follow;
mod reconcile;
mod replica;
mod serve;

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_broker::controller::Command;
use rafka_broker::metadata::Image;
use rafka_broker::replication::{Fetcher, Identity, Members, ReplicaFetch};
use rafka_cache::Cache;
use rafka_model::{LeaderEpoch, Monotonic, NodeId, TopicConfig, TopicId, TopicPartition};

use super::dice::Dice;
use super::event::{Address, Ask, Event, Message};
use super::machine::Machine;
use super::mutant::Driver;
use super::world::Shared;
pub(super) use replica::{Replica, Role};

/// What a process is given with everything that it is told.
pub(super) struct Cx<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) machine: &'a mut Machine,
    pub(super) me: usize,
}

impl Cx<'_> {
    pub(super) fn now(&self) -> Monotonic {
        self.machine.clock(self.shared.now)
    }

    pub(super) fn send(&mut self, to: Address, message: Message) {
        self.shared.outbox.push((to, message));
    }

    pub(super) fn count(&mut self, state: &'static str) {
        self.shared.count(state);
    }
}

/// How far a process has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// It asks to be registered.
    Registering,
    /// It waits until its image has its registration: what it knew before may have changed hands.
    CatchingUp,
    /// Its logs are open; it tells the controller which are not, before it lets itself be taken into service.
    Reporting,
    Serving,
    /// It has asked to leave.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) life: u64,
    pub(super) phase: Phase,
    pub(super) image: Image,
    pub(super) identity: Option<Identity>,
    pub(super) replicas: BTreeMap<TopicPartition, Replica>,
    /// Replicas whose logs cannot be used, and since when.
    pub(super) failed: BTreeMap<TopicPartition, Failed>,
    unclean: bool,
    /// Every log on the disk was opened by this process.
    opened: bool,
    fetchers: BTreeMap<NodeId, Fetching>,
    last_fetch: u64,
    parked: Vec<Parked>,
    cache: Cache,
    asks: BTreeMap<u64, Asked>,
    /// Who is taken for the host of the controller.
    controller: usize,
    configs: BTreeMap<TopicId, (BTreeMap<String, String>, Arc<TopicConfig>)>,
    members: Members,
    /// When the latest heartbeat was sent that was answered.
    lease: Monotonic,
    beat_at: Monotonic,
    flush_at: Monotonic,
    token: u64,
    wakes_at: u64,
    dice: Dice,
    incarnation: u64,
}

/// A replica whose log cannot be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    /// In which epoch that was found out.
    epoch: LeaderEpoch,
    /// Before the process let itself be taken into service.
    at_start: bool,
    /// The controller knows.
    told: bool,
}

#[derive(Debug)]
struct Fetching {
    fetcher: Fetcher,
    /// No request before this.
    rests_until: Monotonic,
    gives_up_at: Monotonic,
}

/// A fetch that found nothing yet.
#[derive(Debug)]
struct Parked {
    from: usize,
    fetch: ReplicaFetch,
    until: Monotonic,
}

#[derive(Debug)]
struct Asked {
    ask: Ask,
    sent: Monotonic,
    again_at: Monotonic,
    tries: u32,
}

impl Process {
    pub(super) fn start(cx: &mut Cx<'_>, life: u64) -> Self {
        let now = cx.now();
        let unclean = cx.machine.is_unclean();
        let dice = Dice::of(&[cx.shared.seed, 5, cx.me as u64, life]);
        let mut process = Self {
            life,
            phase: Phase::Registering,
            image: Image::default(),
            identity: None,
            replicas: BTreeMap::new(),
            failed: BTreeMap::new(),
            unclean,
            opened: false,
            fetchers: BTreeMap::new(),
            last_fetch: 0,
            parked: Vec::new(),
            cache: Cache::new(4096),
            asks: BTreeMap::new(),
            controller: cx.shared.believed_host(),
            configs: BTreeMap::new(),
            members: Members::default(),
            lease: Monotonic::default(),
            beat_at: now,
            flush_at: now.plus(cx.shared.tempo.flush),
            token: 0,
            wakes_at: u64::MAX,
            dice,
            incarnation: life,
        };
        if unclean {
            cx.count("started uncleanly");
        }
        if cx.shared.breaks(Driver::BootIsKnownOnceRecovered) {
            cx.machine.known_boot = Some(cx.machine.boot);
        }
        process.register(cx);
        process.plan(cx);
        process
    }

    pub(super) fn node(&self) -> NodeId {
        self.identity.map(|identity| identity.node).unwrap_or_default()
    }

    /// Whether the controller's sets speak of this process: its registration is the latest, and its logs are open.
    pub(super) fn is_counted(&self, image: &Image) -> bool {
        let current =
            |identity: Identity| image.nodes.get(&identity.node).is_some_and(|n| n.epoch == identity.broker_epoch);
        matches!(self.phase, Phase::Reporting | Phase::Serving | Phase::Leaving) && self.identity.is_some_and(current)
    }

    /// Replicas whose logs could not be opened before the process let itself be taken into service, and nobody knows.
    pub(super) fn not_opened(&self) -> impl Iterator<Item = TopicPartition> {
        self.failed.iter().filter(|(_, failed)| failed.at_start && !failed.told).map(|(at, _)| *at)
    }

    /// For people.
    pub(super) fn state(&self) -> String {
        format!("{:?}, takes b{} for the controller, asked {:?}", self.phase, self.controller, self.asks)
    }

    /// It is told to stop in order.
    pub(super) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.leave(cx);
        self.plan(cx);
    }

    pub(super) fn deliver(&mut self, cx: &mut Cx<'_>, from: Address, message: Message) {
        // After a pause, the own lease before any answer.
        self.tick_leaders(cx);
        match (from, message) {
            (Address::Broker(from), Message::Fetch(fetch)) => self.on_fetch(cx, from, *fetch),
            (Address::Broker(from), Message::Fetched(fetched)) => self.on_fetched(cx, from, &fetched),
            (_, Message::Told(id, told)) => self.on_told(cx, id, *told),
            (_, Message::Feed(upto)) => self.on_feed(cx, upto),
            (_, Message::Question(question)) => self.on_question(cx, question),
            (client, Message::Produce(produce)) => self.on_produce(cx, client, *produce),
            (client, Message::Consume { request, at, believed, offset }) => {
                self.on_consume(cx, client, (request, at, believed, offset));
            }
            (client, Message::DeleteRecords { request, at, before }) => {
                self.on_delete_records(cx, client, request, at, before);
            }
            _ => {}
        }
        self.settle(cx);
    }

    /// A timer fired.
    pub(super) fn wake(&mut self, cx: &mut Cx<'_>, token: u64) -> bool {
        if token != self.token {
            return false;
        }
        self.wakes_at = u64::MAX;
        let now = cx.now();
        self.tick_leaders(cx);
        if self.beat_at <= now {
            self.beat(cx);
        }
        self.ask_again(cx);
        if self.flush_at <= now {
            self.flush_at = now.plus(cx.shared.tempo.flush);
            self.flush_some(cx);
        }
        for fetching in self.fetchers.values_mut() {
            if fetching.fetcher.is_waiting() && fetching.gives_up_at <= now {
                fetching.fetcher.timed_out(Monotonic(u64::MAX));
            }
        }
        self.settle(cx);
        true
    }

    /// What follows from whatever just happened.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        self.report_failures(cx);
        self.answer_parked(cx);
        self.fetch_all(cx);
        self.plan(cx);
    }

    /// Arms the timer for whatever comes next.
    fn plan(&mut self, cx: &mut Cx<'_>) {
        let mut next = self.beat_at.min(self.flush_at);
        let leaders = self.replicas.values().filter_map(Replica::next_deadline);
        let fetchers = self.fetchers.values().filter_map(|fetching| {
            let waits = fetching.fetcher.is_waiting();
            let rests = fetching.rests_until > cx.machine.clock(cx.shared.now);
            (waits || rests).then_some(if waits { fetching.gives_up_at } else { fetching.rests_until })
        });
        let parked = self.parked.iter().map(|parked| parked.until);
        let asks = self.asks.values().map(|asked| asked.again_at);
        if let Some(first) = leaders.chain(fetchers).chain(parked).chain(asks).min() {
            next = next.min(first);
        }
        let at = cx.machine.when(next).max(cx.shared.now + 1);
        if at < self.wakes_at {
            self.token += 1;
            self.wakes_at = at;
            let (broker, life, token) = (cx.me, self.life, self.token);
            cx.shared.queue.plan(at, Event::Wake { broker, life, token });
        }
    }

    /// Asks the controller something that is repeated until it is answered.
    fn ask(&mut self, cx: &mut Cx<'_>, command: Command) {
        let sent = cx.now();
        let again_at = sent.plus(cx.shared.tempo.ask_timeout);
        let id = cx.shared.number();
        let ask = Ask::Command(command);
        cx.send(Address::Broker(self.controller), Message::Ask(id, Box::new(ask.clone())));
        self.asks.insert(id, Asked { ask, sent, again_at, tries: 0 });
    }
}
