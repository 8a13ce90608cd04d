//! Making what the process hosts agree with its image.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_broker::metadata::{PartitionState, Topic};
use rafka_broker::producer::States;
use rafka_broker::replication::{self, Election, Follower, Input, Leader, Output, Position};
use rafka_log::{LogConfig, PartitionLog, Shutdown};
use rafka_model::{Durability, LeaderEpoch, Offset, PartitionId, TopicConfig, TopicPartition};

use super::{Cx, Failed, Process, Replica, Role};
use crate::seeds::invariants::Who;
use crate::seeds::machine::Machine;
use crate::seeds::mutant::Driver;
use crate::seeds::shadow::Shadow;
use crate::seeds::trace::say;
use crate::seeds::world::is_alone;

impl Process {
    /// Opens, changes and removes replicas as the image says.
    pub(super) fn reconcile(&mut self, cx: &mut Cx<'_>) {
        let me = self.node();
        // Also one that is told to leave meanwhile.
        let behind = self.identity.is_some_and(|identity| self.image.index.0 < identity.broker_epoch.0);
        if behind && !cx.shared.breaks(Driver::OwnRegistrationComesFirst) {
            return;
        }
        self.meet(cx);
        let topics: Vec<Arc<Topic>> = self.image.topics.values().cloned().collect();
        for topic in &topics {
            let config = self.config(topic);
            for (i, state) in (0..).zip(&topic.partitions) {
                let at = TopicPartition { topic: topic.id, partition: PartitionId(i) };
                if state.replicas.contains(&me) {
                    self.reconcile_partition(cx, at, state, &config);
                }
            }
        }
        let hosted: Vec<_> = self.replicas.keys().chain(self.failed.keys()).copied().collect();
        for at in hosted {
            if self.image.partition(at).is_none_or(|state| !state.replicas.contains(&me)) {
                self.remove(cx, at);
            }
        }
    }

    fn reconcile_partition(
        &mut self,
        cx: &mut Cx<'_>,
        at: TopicPartition,
        state: &PartitionState,
        config: &Arc<TopicConfig>,
    ) {
        if let Some(Failed { epoch, told, .. }) = self.failed.get(&at).copied() {
            // Somebody else leads, in an epoch that began with this failure: beginning anew does no harm. A later epoch
            // alone says little: it may have begun with the failure of another replica.
            let me = self.node();
            let known = told && !state.isr.contains(&me) && !state.elr.contains(&me);
            let known = known || cx.shared.breaks(Driver::FailuresBeginAnewOnceKnown);
            if !known || state.leader_epoch <= epoch || state.leader.is_none_or(|leader| leader == me) {
                return;
            }
            self.failed.remove(&at);
            cx.machine.remove(at);
            cx.machine.checkpoint.remove(&at);
            cx.machine.old_checkpoint.remove(&at);
            cx.count("a failed replica began anew");
        }
        if !self.replicas.contains_key(&at) {
            self.open(cx, at, state, config);
            return;
        }
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        if !Arc::ptr_eq(&replica.config, config) {
            replica.config = config.clone();
            replica.log.set_config(config);
            let safety = safety(cx, config);
            self.step(cx, at, Input::Configured(safety));
        }
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        if replica.partition_epoch < state.partition_epoch {
            replica.partition_epoch = state.partition_epoch;
            self.change(cx, at, state);
        }
    }

    fn config(&mut self, topic: &Topic) -> Arc<TopicConfig> {
        match self.configs.get(&topic.id) {
            Some((configs, resolved)) if *configs == topic.configs => resolved.clone(),
            _ => {
                let resolved = Arc::new(TopicConfig::resolve(&topic.configs).unwrap_or_default());
                self.configs.insert(topic.id, (topic.configs.clone(), resolved.clone()));
                resolved
            }
        }
    }

    /// Notes who is in service, and tells the leaders.
    fn meet(&mut self, cx: &mut Cx<'_>) {
        let serving = self.image.nodes.values().filter(|node| !node.fenced);
        let members: BTreeMap<_, _> = serving.map(|node| (node.id, node.epoch)).collect();
        if members == *self.members {
            return;
        }
        self.members = Arc::new(members);
        let led: Vec<_> = self.replicas.iter().filter(|(_, r)| r.leader().is_some()).map(|(at, _)| *at).collect();
        for at in led {
            self.step(cx, at, Input::Members(self.members.clone()));
        }
    }

    fn open(&mut self, cx: &mut Cx<'_>, at: TopicPartition, state: &PartitionState, config: &Arc<TopicConfig>) {
        let shutdown = match cx.shared.salvages {
            true => Shutdown::Salvage,
            false if self.phase == super::Phase::Serving => Shutdown::MemoryKept,
            false => cx.machine.shutdown(),
        };
        let (disk, wall) = (cx.machine.disk.clone(), cx.machine.wall(cx.shared.now));
        let opened = PartitionLog::open(disk, &Machine::dir(at), &LogConfig::from(&**config), wall, shutdown);
        let opened = opened.and_then(|(mut log, recovery)| {
            let replay = |states: &mut States, header: &_| states.record(header, wall);
            let (producers, _) = log.restore_producers(States::decode, replay)?;
            Ok((log, producers, recovery))
        });
        let (log, producers) = match opened {
            Ok((log, producers, recovery)) => {
                if recovery.cut_bytes > 0 {
                    cx.count("a log was cut when it was opened");
                }
                (log, producers)
            }
            Err(error) => {
                say!(cx.shared, "b{} cannot open {at}: {error}", cx.me);
                cx.count("a log did not open");
                self.note_failed(at, state.leader_epoch);
                return;
            }
        };
        let reader = log.reader();
        let shadow = match Shadow::read(&reader) {
            Ok(shadow) => shadow,
            Err(words) => {
                say!(cx.shared, "b{} cannot read {at}: {words}", cx.me);
                cx.count("a log cannot be read");
                self.note_failed(at, state.leader_epoch);
                return;
            }
        };
        let known = cx.machine.checkpoint.get(&at).copied().unwrap_or_default();
        let high_watermark = known.min(log.log_end()).max(log.log_start());
        let (start, end) = (log.log_start(), log.log_end());
        say!(cx.shared, "b{} opens {at}: {start}..{end}, high watermark {high_watermark} ({shutdown:?})", cx.me);
        let follower = self.follower(cx, at, state, high_watermark);
        let replica = Replica {
            log,
            reader,
            shadow,
            role: Role::Follower(Box::new(follower)),
            producers,
            config: config.clone(),
            partition_epoch: state.partition_epoch,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            flushing: false,
            compared: high_watermark,
            contact: cx.now(),
            uncommitted: Vec::new(),
        };
        self.replicas.insert(at, replica);
        cx.shared.truths.of(at).compacts |= config.cleanup.compact;
        if state.leader == Some(self.node()) {
            self.lead(cx, at, state);
        }
    }

    fn follower(&self, cx: &Cx<'_>, at: TopicPartition, state: &PartitionState, high_watermark: Offset) -> Follower {
        let me = self.identity.expect("only registered nodes have replicas");
        Follower::with_rules(me, at, state, high_watermark, cx.shared.replication_rules())
    }

    /// The state of a partition that is open has changed.
    fn change(&mut self, cx: &mut Cx<'_>, at: TopicPartition, state: &PartitionState) {
        let leads = state.leader == Some(self.node());
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        match &mut replica.role {
            Role::Leader(leader) => {
                let same = leads && leader.epoch() == state.leader_epoch;
                // Those that are new are given time.
                replica.contact = cx.now();
                self.step(cx, at, Input::Changed(state.clone()));
                if same || !self.replicas.contains_key(&at) {
                    return;
                }
            }
            Role::Follower(follower) => follower.change(state),
        }
        if leads {
            self.lead(cx, at, state);
        } else if self.replicas.get(&at).is_some_and(|replica| replica.leader().is_some()) {
            self.follow(cx, at, state);
        }
    }

    fn follow(&mut self, cx: &mut Cx<'_>, at: TopicPartition, state: &PartitionState) {
        let Some(high_watermark) = self.replicas.get(&at).map(Replica::high_watermark) else { return };
        let follower = self.follower(cx, at, state, high_watermark);
        if let Some(replica) = self.replicas.get_mut(&at) {
            replica.role = Role::Follower(Box::new(follower));
            replica.uncommitted.clear();
        }
    }

    /// Begins to lead in the epoch of `state`.
    fn lead(&mut self, cx: &mut Cx<'_>, at: TopicPartition, state: &PartitionState) {
        let me = self.identity.expect("only registered nodes lead");
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        if replica.log.begin_epoch(state.leader_epoch).is_err() {
            self.fail(cx, at);
            return;
        }
        let log = Position { end: replica.log.log_end(), flushed: replica.log.flushed() };
        let before = replica.high_watermark();
        let config = safety(cx, &replica.config);
        let (members, now) = (self.members.clone(), cx.now());
        let election = Election { me, at, state, config, members, log, high_watermark: before, now };
        let leader = Leader::with_rules(election, cx.shared.replication_rules());
        let epoch = state.leader_epoch;
        say!(cx.shared, "b{} leads {at} in epoch {epoch}: log end {}, high watermark {before}", cx.me, log.end);
        cx.count("elected");
        // A sole replica that lost its power is all there is (the guarantee of one copy in memory).
        let alone = is_alone(state) && cx.machine.boot > 1 && replica.config.durability == Durability::Replicated;
        if cx.shared.truths.is_latest(at, epoch.0) && (alone || state.recovering) {
            cx.count(if alone { "a sole replica lost its power" } else { "elected uncleanly" });
            let fsync = replica.config.durability == Durability::Fsync;
            let sure = if fsync { log.flushed } else { log.end };
            cx.shared.truths.forgive(at, epoch.0, &replica.shadow, before.0, sure.0);
        }
        cx.shared.truths.leads(at, Who { node: me.node, epoch: epoch.0 }, &replica.shadow);
        let after = leader.high_watermark();
        let who = Who { node: me.node, epoch: epoch.0 };
        // It need not have flushed all that it heard to be committed: what clients are told counts (invariant 6).
        let known = cx.shared.truths.known(at, before.min(after).0);
        cx.shared.truths.commits(at, who, &replica.shadow, known, after.0);
        replica.compared = after;
        replica.contact = now;
        replica.role = Role::Leader(Box::new(leader));
        cx.shared.truths.suspect(at);
        self.step(cx, at, Input::Time(now));
        let fsync = self.replicas.get(&at).is_some_and(|replica| replica.config.durability == Durability::Fsync);
        if fsync {
            self.flush(cx, at);
        }
    }

    fn remove(&mut self, cx: &mut Cx<'_>, at: TopicPartition) {
        say!(cx.shared, "b{} has {at} no longer", cx.me);
        if self.replicas.contains_key(&at) {
            self.drain(cx, at, rafka_broker::ErrorCode::UnknownTopicOrPartition);
        }
        self.failed.remove(&at);
        if let Some(replica) = self.replicas.remove(&at) {
            let _ = replica.log.delete();
        }
        cx.machine.remove(at);
        cx.machine.checkpoint.remove(&at);
        cx.machine.old_checkpoint.remove(&at);
        self.cache.drop_partition(at);
    }

    /// The log cannot be trusted any more.
    pub(super) fn fail(&mut self, cx: &mut Cx<'_>, at: TopicPartition) {
        let Some(replica) = self.replicas.get(&at) else { return };
        let epoch = replica.epoch();
        say!(cx.shared, "b{} gives up {at} in epoch {epoch}", cx.me);
        cx.count("a replica failed while it ran");
        self.drain(cx, at, rafka_broker::ErrorCode::StorageError);
        self.replicas.remove(&at);
        self.note_failed(at, epoch);
        self.cache.drop_partition(at);
    }

    fn note_failed(&mut self, at: TopicPartition, epoch: LeaderEpoch) {
        let at_start = self.phase != super::Phase::Serving;
        self.failed.insert(at, Failed { epoch, at_start, told: false });
    }

    /// Gives an input to a leader and carries out what it says.
    pub(super) fn step(&mut self, cx: &mut Cx<'_>, at: TopicPartition, input: Input) {
        let mut out = Vec::new();
        if let Some(Replica { role: Role::Leader(leader), .. }) = self.replicas.get_mut(&at) {
            leader.step(input, &mut out);
        }
        self.carry_out(cx, at, out);
    }

    pub(super) fn carry_out(&mut self, cx: &mut Cx<'_>, at: TopicPartition, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::AdvanceHighWatermark(now) => self.committed(cx, at, now),
                Output::Acknowledge(ticket) => self.acknowledge(cx, at, ticket),
                Output::Refuse(ticket, code) => self.refuse(cx, at, ticket, code),
                Output::Propose(proposal) => {
                    say!(cx.shared, "b{} proposes for {at}: isr {:?}", cx.me, proposal.isr);
                    cx.count(if proposal.isr.len() < self.isr(at) { "shrink proposed" } else { "expansion proposed" });
                    self.ask(cx, rafka_broker::controller::Command::AlterPartition(proposal));
                }
                Output::Resign => say!(cx.shared, "b{} resigns from {at}", cx.me),
            }
        }
    }

    fn isr(&self, at: TopicPartition) -> usize {
        self.replicas.get(&at).and_then(Replica::leader).map_or(0, |leader| leader.isr().len())
    }

    /// The epoch in which this process leads a partition.
    pub(in crate::seeds) fn leads(&self, at: TopicPartition) -> Option<LeaderEpoch> {
        self.replicas.get(&at).and_then(Replica::leader).map(Leader::epoch)
    }
}

fn safety(cx: &Cx<'_>, config: &TopicConfig) -> replication::Config {
    replication::Config {
        durability: config.durability,
        min_insync: config.min_insync_replicas,
        lag_max: cx.shared.tempo.lag_max,
        session: cx.shared.tempo.session,
    }
}
