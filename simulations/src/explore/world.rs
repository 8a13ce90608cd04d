//! A state of everything, and what can happen next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::{controller, replication};
use rafka_model::{Durability, NodeId};

use super::bounds::Bounds;
use super::check;
use super::control::{Ask, Control, MIN_INSYNC, NODES, Reply, Version};
use super::fingerprint::{self, PlainKeys};
use super::node::{Effects, Message, Node, Setting};
use super::search::{Broken, System};
use super::settle;
use crate::seeds::Mutant;

/// A follower that is behind for so long lags.
const LAG: Duration = Duration::from_secs(3_600);

/// A proposal without an answer is sent again after this long, or less.
const RESENDS: Duration = Duration::from_secs(5);

/// A lease so long that it never ends: that makes it harder, as an old leader serves on.
const SESSION: Duration = Duration::from_secs(100 * 3_600);

/// Fetches of a process, at most; never reached unless something goes round in circles.
const FETCHES_MAX: u64 = 64;

/// A node with its fingerprint.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) node: Node,
    fingerprint: u128,
}

/// A state.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) nodes: [Arc<Known>; 3],
    /// Versions of the metadata, by number: from the oldest that a process has seen to the latest.
    pub(super) versions: Vec<u32>,
    /// Messages on their way, by number, sorted.
    pub(super) flying: Vec<u32>,
    pub(super) ledger: Ledger,
    spent: Spent,
}

/// What clients know.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Ledger {
    /// Values that were acknowledged, by bit.
    pub(super) acked: u32,
    /// What consumers have read: as much as they could, at any time.
    pub(super) consumed: Vec<u8>,
    /// The latest leader epoch that they read from.
    pub(super) read_epoch: i32,
}

/// How much of the bounds is used.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Spent {
    records: u8,
    kills: u8,
    cuts: u8,
    fences: u8,
    lags: u8,
    retries: u8,
    copies: u8,
    losses: u8,
    delays: u8,
    late: u8,
}

/// Something that can happen. Nodes by their place, from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// A client sends a record with acks=all to who it believes leads.
    Produce(usize),
    /// What was written is flushed.
    Flush(usize),
    /// A fetch is sent, answered, and its answer carried out.
    Exchange(usize),
    /// A fetch is sent; the rest takes its time.
    Fetch(usize),
    /// A message arrives.
    Deliver(u32),
    /// A message arrives, and will again.
    Copy(u32),
    /// A message is lost.
    Lose(u32),
    /// A process sees the next version of the metadata.
    Watch(usize),
    /// A process that is fenced says that it lives.
    Heartbeat(usize),
    /// A process starts and registers.
    Start(usize),
    Kill(usize),
    /// Power is lost; of what was not flushed, so many records are kept.
    Cut(usize, usize),
    /// The controller has not heard a node for a session.
    Fence(usize),
    /// A leader finds that followers lag.
    Lag(usize),
    /// A fetch is not waited for any longer.
    GiveUp(usize),
    /// A proposal is not waited for any longer.
    Resend(usize),
}

/// All that was ever met, by number.
pub(super) struct Universe {
    pub(super) bounds: Bounds,
    pub(super) setting: Setting,
    pub(super) control: Control,
    messages: Vec<Message>,
    numbers: HashMap<Message, u32>,
    nodes: HashMap<u128, Arc<Known>, PlainKeys>,
}

impl Universe {
    pub(super) fn new(bounds: Bounds, without: Option<Mutant>) -> Self {
        let (mut rules, mut controllers) = (replication::Rules::default(), controller::Rules::default());
        match without {
            Some(Mutant::Replication(rule)) => rules = replication::Rules::without(rule),
            Some(Mutant::Controller(rule)) => controllers = controller::Rules::without(rule),
            // Others are not of the machines.
            #[allow(unreachable_patterns, reason = "the seeded simulator has more rules than machines")]
            _ => {}
        }
        let (durability, min_insync) = (bounds.durability, MIN_INSYNC);
        let config = replication::Config { durability, min_insync, lag_max: LAG, session: SESSION };
        Self {
            bounds,
            setting: Setting { config, rules, batch: bounds.batch.into() },
            control: Control::new(controllers),
            messages: Vec::new(),
            numbers: HashMap::new(),
            nodes: HashMap::default(),
        }
    }

    pub(super) fn flushes(&self) -> bool {
        self.bounds.durability == Durability::Fsync
    }

    pub(super) fn message(&self, number: u32) -> &Message {
        &self.messages[number as usize]
    }

    /// The latest metadata.
    pub(super) fn latest(&self, world: &World) -> (u32, Arc<Version>) {
        let number = world.versions.last().copied().unwrap_or_default();
        (number, Arc::clone(self.control.version(number)))
    }

    fn known(&mut self, node: Node) -> Arc<Known> {
        let fingerprint = fingerprint::of(&node);
        let known = self.nodes.entry(fingerprint).or_insert_with(|| Arc::new(Known { node, fingerprint }));
        Arc::clone(known)
    }

    /// Lets a node do something, and its messages fly.
    pub(super) fn drive(&mut self, world: &mut World, at: usize, act: impl FnOnce(&mut Node, &Self, &mut Effects)) {
        let (mut node, mut effects) = (world.nodes[at].node.clone(), Effects::default());
        act(&mut node, self, &mut effects);
        world.nodes[at] = self.known(node);
        world.ledger.acked |= effects.acked;
        effects.sent.into_iter().for_each(|message| self.send(world, message));
    }

    fn send(&mut self, world: &mut World, message: Message) {
        if message.to().is_some_and(|to| world.node(to).process.is_none()) {
            return;
        }
        let next = self.messages.len() as u32;
        let number = *self.numbers.entry(message).or_insert_with_key(|message| {
            self.messages.push(message.clone());
            next
        });
        if let Err(place) = world.flying.binary_search(&number) {
            world.flying.insert(place, number);
        }
    }

    /// The controller decides; `false` if that is beyond the bounds.
    pub(super) fn decide(&mut self, world: &mut World, ask: Ask, bounded: bool) -> Result<Option<Reply>, Broken> {
        let (number, _) = self.latest(world);
        let decided = self.control.decide(number, ask)?;
        let epoch = decided.versions.last().map(|last| self.control.version(*last).partition().leader_epoch.0);
        if bounded && epoch.is_some_and(|epoch| epoch > i32::from(self.bounds.epochs)) {
            return Ok(None);
        }
        world.versions.extend(&decided.versions);
        Ok(Some(decided.reply))
    }

    /// Lets a message arrive; it was taken from those that fly.
    pub(super) fn deliver(&mut self, world: &mut World, number: u32, bounded: bool) -> Result<bool, Broken> {
        match self.message(number).clone() {
            Message::Alter { from, alter } => {
                let rests_on = alter.partition_epoch;
                let Some(reply) = self.decide(world, Ask::Alter(alter), bounded)? else { return Ok(false) };
                if let Reply::Altered(result) = reply {
                    self.send(world, Message::Altered { to: from, rests_on, result });
                }
            }
            Message::Altered { to, rests_on, result } => {
                self.drive(world, place(to), |node, _, effects| node.altered(rests_on, result, effects));
            }
            Message::Fetch { to, from, request, asked } => self.drive(world, place(to), |node, universe, effects| {
                node.serve(from, request, asked, &universe.setting, effects);
            }),
            Message::Fetched { to, request, leader_epoch, offset, said, .. } => {
                self.drive(world, place(to.node), |node, _, _| node.take(to, request, leader_epoch, offset, said));
            }
        }
        Ok(true)
    }

    /// A process starts: it registers, and sees the metadata up to that.
    pub(super) fn start(&mut self, world: &mut World, at: usize, bounded: bool) -> Result<bool, Broken> {
        let Node { id: node, starts: start, boots: boot, unclean, .. } = world.nodes[at].node;
        let Some(reply) = self.decide(world, Ask::Register { node, start, boot, unclean }, bounded)? else {
            return Ok(false);
        };
        let Reply::Registered(epoch) = reply else { return Ok(false) };
        let (number, version) = self.latest(world);
        self.drive(world, at, |node, universe, _| node.start(epoch, number, &version, &universe.setting));
        Ok(true)
    }

    /// A process ends; what is on its way to it ends, too, but for answers to fetches: the next process has to know that
    /// they are not for it.
    fn stop(&mut self, world: &mut World, at: usize, cut: Option<usize>) {
        self.drive(world, at, |node, universe, _| node.stop(cut, universe.flushes()));
        let arrives = |message: &Message| message.to() != Some(NODES[at]) || matches!(message, Message::Fetched { .. });
        world.flying.retain(|number| arrives(self.message(*number)));
    }

    /// A process sees the next version of the metadata; `false` if there is none.
    pub(super) fn watch(&mut self, world: &mut World, at: usize) -> bool {
        let seen = world.nodes[at].node.process.as_ref().map(|process| process.version);
        let found = world.versions.iter().position(|number| Some(*number) == seen);
        let Some(number) = found.and_then(|found| world.versions.get(found + 1)).copied() else { return false };
        let version = Arc::clone(self.control.version(number));
        self.drive(world, at, |node, universe, effects| node.see(number, &version, &universe.setting, effects));
        true
    }

    /// True if a message flies that would end the waiting of this node's fetch.
    fn fetch_flies(&self, world: &World, at: usize, awaited: u64) -> bool {
        world.flying.iter().any(|number| self.is_of_fetch(*number, at, awaited))
    }

    /// A fetch, from its beginning to its end.
    fn exchange(&mut self, world: &mut World, at: usize) -> Result<bool, Broken> {
        self.drive(world, at, |node, _, effects| node.fetch(effects));
        let Some(awaited) = world.nodes[at].node.waits_for() else { return Ok(false) };
        // First the request, then its answer, if there is one.
        for _ in 0..2 {
            let of_it = |number: &u32| self.is_of_fetch(*number, at, awaited);
            let Some(place) = world.flying.iter().position(of_it) else { break };
            let number = world.flying.remove(place);
            self.deliver(world, number, true)?;
        }
        Ok(true)
    }

    fn is_of_fetch(&self, number: u32, at: usize, awaited: u64) -> bool {
        match self.message(number) {
            Message::Fetch { from, request, .. } => from.node == NODES[at] && *request == awaited,
            Message::Fetched { to, request, .. } => to.node == NODES[at] && *request == awaited,
            _ => false,
        }
    }

    /// True if news of its proposal is on the way to this node.
    fn waits_for_proposal(&self, world: &World, at: usize) -> bool {
        let flies = world.flying.iter().any(|number| match self.message(*number) {
            Message::Alter { from, .. } => *from == NODES[at],
            Message::Altered { to, .. } => *to == NODES[at],
            _ => false,
        });
        flies || world.is_behind(at)
    }

    fn actions_of(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let (node, spent, bounds) = (&world.nodes[at].node, &world.spent, &self.bounds);
        let (_, latest) = self.latest(world);
        let fenced = latest.is_fenced(NODES[at]);
        let Some(process) = &node.process else {
            actions.push(Action::Start(at));
            actions.extend((!fenced).then_some(Action::Fence(at)));
            return;
        };
        let mut when = |possible: bool, action: Action| actions.extend(possible.then_some(action));
        let leads = node.leader().is_some();
        when(spent.records < bounds.records && node.takes_records(), Action::Produce(at));
        when(self.flushes() && !node.log.is_flushed(), Action::Flush(at));
        when(world.is_behind(at), Action::Watch(at));
        let fetches = node.would_fetch(|id| world.node(id)) && node.waits_for().is_none_or(|last| last < FETCHES_MAX);
        when(fetches, Action::Exchange(at));
        when(fetches && spent.delays < bounds.delays, Action::Fetch(at));
        if let Some(awaited) = node.waits_for() {
            let flies = self.fetch_flies(world, at, awaited);
            when(!flies || spent.retries < bounds.retries, Action::GiveUp(at));
        }
        if node.would_propose(RESENDS) {
            let waits = self.waits_for_proposal(world, at);
            when(!waits || spent.retries < bounds.retries, Action::Resend(at));
        }
        when(fenced && latest.epoch(NODES[at]) == process.me.broker_epoch, Action::Heartbeat(at));
        when(!fenced && spent.fences < bounds.fences, Action::Fence(at));
        when(leads && spent.lags < bounds.lags, Action::Lag(at));
        when(spent.kills < bounds.kills, Action::Kill(at));
        if spent.cuts < bounds.cuts {
            (0..=node.log.unflushed()).for_each(|kept| when(true, Action::Cut(at, kept)));
        }
    }

    fn act(&mut self, world: &mut World, action: Action) -> Result<bool, Broken> {
        let land = |world: &mut World, number: u32| world.flying.retain(|flying| *flying != number);
        match action {
            Action::Produce(at) => {
                let value = world.spent.records;
                world.spent.records += 1;
                self.drive(world, at, |node, _, effects| node.produce(value, effects));
            }
            Action::Flush(at) => self.drive(world, at, |node, _, effects| node.flush(effects)),
            Action::Exchange(at) => return self.exchange(world, at),
            Action::Fetch(at) => {
                world.spent.delays += 1;
                self.drive(world, at, |node, _, effects| node.fetch(effects));
            }
            Action::Deliver(number) => {
                land(world, number);
                return self.deliver(world, number, true);
            }
            Action::Copy(number) => {
                world.spent.copies += 1;
                return self.deliver(world, number, true);
            }
            Action::Lose(number) => {
                world.spent.losses += 1;
                land(world, number);
            }
            Action::Watch(at) => return Ok(self.watch(world, at)),
            Action::Heartbeat(at) => {
                let Some(process) = &world.nodes[at].node.process else { return Ok(false) };
                let ask = Ask::Heartbeat { node: process.me.node, epoch: process.me.broker_epoch };
                return Ok(self.decide(world, ask, true)?.is_some());
            }
            Action::Start(at) => return self.start(world, at, true),
            Action::Kill(at) => {
                world.spent.kills += 1;
                self.stop(world, at, None);
            }
            Action::Cut(at, kept) => {
                world.spent.cuts += 1;
                self.stop(world, at, Some(kept));
            }
            Action::Fence(at) => {
                world.spent.fences += u8::from(world.nodes[at].node.process.is_some());
                return Ok(self.decide(world, Ask::Fence(NODES[at]), true)?.is_some());
            }
            Action::Lag(at) => {
                world.spent.lags += 1;
                let late = LAG + Duration::from_secs(1);
                self.drive(world, at, |node, _, effects| node.pass(late, effects));
            }
            Action::GiveUp(at) => {
                let flies =
                    world.nodes[at].node.waits_for().is_some_and(|request| self.fetch_flies(world, at, request));
                world.spent.retries += u8::from(flies);
                self.drive(world, at, |node, _, _| node.give_up());
            }
            Action::Resend(at) => {
                world.spent.retries += u8::from(self.waits_for_proposal(world, at));
                self.drive(world, at, |node, _, effects| node.pass(RESENDS, effects));
            }
        }
        Ok(true)
    }
}

/// Where a node is among the three.
pub(super) fn place(node: NodeId) -> usize {
    (node.0 - 1) as usize
}

impl World {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[place(id)].node
    }

    /// A process that has not seen the latest metadata.
    fn is_behind(&self, at: usize) -> bool {
        let process = self.nodes[at].node.process.as_ref();
        process.is_some_and(|process| self.versions.last() != Some(&process.version))
    }

    fn is_late(&self) -> bool {
        (0..NODES.len()).any(|at| self.is_behind(at))
    }

    /// Forgets the versions that every process has seen.
    fn forget(&mut self) {
        let seen = self.nodes.iter().filter_map(|known| known.node.process.as_ref()).map(|process| process.version);
        let place = |seen| self.versions.iter().position(|number| *number == seen);
        let oldest = seen.filter_map(place).min().unwrap_or(self.versions.len() - 1);
        self.versions.drain(..oldest);
    }
}

impl System for Universe {
    type State = World;
    type Action = Action;

    fn initial(&mut self) -> World {
        let number = self.control.found(self.bounds.durability);
        let version = Arc::clone(self.control.version(number));
        let nodes = NODES.map(|id| {
            let mut node = Node::new(id);
            node.start(version.epoch(id), number, &version, &self.setting);
            self.known(node)
        });
        let (versions, spent) = (vec![number], Spent::default());
        World { nodes, versions, flying: Vec::new(), ledger: Ledger::default(), spent }
    }

    fn actions(&mut self, world: &World) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.bounds.late != Bounds::ANY && world.spent.late >= self.bounds.late && world.is_late() {
            let late = (0..NODES.len()).filter(|at| world.is_behind(*at));
            return late.map(Action::Watch).collect();
        }
        for number in &world.flying {
            actions.push(Action::Deliver(*number));
            actions.extend((world.spent.copies < self.bounds.copies).then_some(Action::Copy(*number)));
            actions.extend((world.spent.losses < self.bounds.losses).then_some(Action::Lose(*number)));
        }
        (0..NODES.len()).for_each(|at| self.actions_of(world, at, &mut actions));
        actions
    }

    fn apply(&mut self, world: &mut World, action: &Action) -> Result<bool, Broken> {
        let counts = self.bounds.late != Bounds::ANY && !matches!(action, Action::Watch(_));
        world.spent.late += u8::from(counts && world.is_late());
        if !self.act(world, *action)? {
            return Ok(false);
        }
        world.forget();
        check::check(self, world)?;
        Ok(true)
    }

    fn ended(&mut self, world: &World, beyond: bool) -> Result<(), Broken> {
        if beyond { Ok(()) } else { settle::settle(self, world) }
    }

    fn fingerprint(&self, world: &World) -> u128 {
        let nodes = world.nodes.each_ref().map(|known| known.fingerprint);
        fingerprint::of(&(nodes, &world.versions, &world.flying, &world.ledger, &world.spent))
    }
}
