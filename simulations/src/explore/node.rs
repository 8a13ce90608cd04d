//! A node: its log, and the process that drives the machines over it. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use rafka_broker::ErrorCode;
use rafka_broker::replication::{
    self, AlterPartition, Election, Epochs, FetchPartition, Fetched, FetchedPartition, Fetcher, Follower, Identity,
    Input, Leader, Output, ReplicaFetch, ReplicaFetched, Step, Ticket, Verdict,
};
use rafka_broker::request::Acks;
use rafka_model::{BrokerEpoch, Chunks, LeaderEpoch, Monotonic, NodeId, Offset, PartitionEpoch};

use super::control::{AT, Version};
use super::log::{Log, Record};

/// What all nodes have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) config: replication::Config,
    pub(super) rules: replication::Rules,
    /// Records in an answer to a fetch, at most.
    pub(super) batch: usize,
}

/// A node.
#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) log: Log,
    /// Power was lost since a process ran here, and the topic does not flush before it acknowledges.
    pub(super) unclean: bool,
    /// Processes so far.
    pub(super) starts: u8,
    /// Power cuts so far.
    pub(super) boots: u8,
    pub(super) process: Option<Process>,
}

/// A running process.
#[derive(Clone, Debug, Hash)]
pub(super) struct Process {
    pub(super) me: Identity,
    /// The version of the metadata that it has seen.
    pub(super) version: u32,
    pub(super) now: Monotonic,
    pub(super) role: Role,
    fetcher: Fetcher,
    /// What the outstanding request asked.
    asked: Option<Asked>,
    /// What the last request asked that was answered.
    told: Option<Asked>,
}

/// What a process does for the partition.
#[derive(Clone, Debug, Hash)]
pub(super) enum Role {
    Leader(Box<Leader>),
    Follower(Follower),
}

/// A fetch, as far as it differs from another.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Asked {
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) offset: Offset,
    pub(super) last_epoch: Option<LeaderEpoch>,
    pub(super) flushed: Offset,
}

/// The answer to a fetch.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Said {
    Records { high_watermark: Offset, records: Vec<Record> },
    Diverging { epoch: LeaderEpoch, end: Offset },
    Behind { log_start: Offset },
    Refused(ErrorCode),
}

/// Something on its way.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Message {
    Fetch { to: NodeId, from: Identity, request: u64, asked: Asked },
    Fetched { to: Identity, from: NodeId, request: u64, leader_epoch: LeaderEpoch, offset: Offset, said: Said },
    Alter { from: NodeId, alter: AlterPartition },
    Altered { to: NodeId, rests_on: PartitionEpoch, result: Result<PartitionEpoch, ErrorCode> },
}

impl Message {
    /// Which node it is for; `None`: the controller.
    pub(super) fn to(&self) -> Option<NodeId> {
        match self {
            Self::Fetch { to, .. } | Self::Altered { to, .. } => Some(*to),
            Self::Fetched { to, .. } => Some(to.node),
            Self::Alter { .. } => None,
        }
    }
}

/// What a node does to the world.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) sent: Vec<Message>,
    /// Values that were acknowledged, by bit.
    pub(super) acked: u32,
}

impl Asked {
    fn partition(&self) -> FetchPartition {
        FetchPartition {
            at: AT,
            leader_epoch: self.leader_epoch,
            offset: self.offset,
            last_fetched_epoch: self.last_epoch,
            flushed: self.flushed,
            max_bytes: u32::MAX,
        }
    }
}

impl Node {
    pub(super) fn new(id: NodeId) -> Self {
        Self { id, log: Log::default(), unclean: false, starts: 0, boots: 0, process: None }
    }

    /// A process starts; it has seen the metadata up to its own registration, `version`.
    pub(super) fn start(&mut self, epoch: BrokerEpoch, number: u32, version: &Version, setting: &Setting) {
        let me = Identity { node: self.id, broker_epoch: epoch };
        // What was checkpointed last is as old as can be.
        let follower = Follower::with_rules(me, AT, version.partition(), Offset::ZERO, setting.rules);
        self.process = Some(Process {
            me,
            version: number,
            now: Monotonic(0),
            role: Role::Follower(follower),
            fetcher: Fetcher::with_rules(me, 1, setting.rules),
            asked: None,
            told: None,
        });
        self.unclean = false;
        self.see(number, version, setting, &mut Effects::default());
    }

    /// The metadata has a new version.
    pub(super) fn see(&mut self, number: u32, version: &Version, setting: &Setting, effects: &mut Effects) {
        let Some(process) = &mut self.process else { return };
        process.version = number;
        let (state, log) = (version.partition(), &self.log);
        let mut out = Vec::new();
        if let Role::Leader(leader) = &mut process.role {
            leader.step(Input::Members(Arc::clone(&version.members)), &mut out);
            leader.step(Input::Changed(state.clone()), &mut out);
            if out.contains(&Output::Resign) {
                let known = leader.high_watermark();
                process.role = Role::Follower(Follower::with_rules(process.me, AT, state, known, setting.rules));
            }
        }
        if let Role::Follower(follower) = &mut process.role {
            let before = follower.leader();
            follower.change(state);
            if follower.leader() != before {
                // Another fetcher: nobody hears what the one before waits for.
                let next = process.fetcher.next_request();
                process.fetcher = Fetcher::with_rules(process.me, next, setting.rules);
                process.asked = None;
            }
            if state.leader == Some(process.me.node) {
                let members = Arc::clone(&version.members);
                let election = Election {
                    me: process.me,
                    at: AT,
                    state,
                    config: setting.config,
                    members,
                    log: log.position(),
                    high_watermark: follower.high_watermark(),
                    now: process.now,
                };
                process.role = Role::Leader(Box::new(Leader::with_rules(election, setting.rules)));
            }
        }
        self.carry_out(out, effects);
    }

    /// A process ends: killed, or without power when of what was not flushed so many records are `kept`.
    pub(super) fn stop(&mut self, cut: Option<usize>, flushes: bool) {
        self.process = None;
        self.starts += 1;
        if let Some(kept) = cut {
            self.log.cut(kept);
            self.boots += 1;
            self.unclean = !flushes;
        }
    }

    fn input(&mut self, input: Input, effects: &mut Effects) {
        let mut out = Vec::new();
        if let Some(Process { role: Role::Leader(leader), .. }) = &mut self.process {
            leader.step(input, &mut out);
        }
        self.carry_out(out, effects);
    }

    fn carry_out(&mut self, out: Vec<Output>, effects: &mut Effects) {
        for output in out {
            match output {
                Output::Propose(alter) => {
                    effects.sent.push(Message::Alter { from: self.id, alter });
                }
                Output::Acknowledge(ticket) => effects.acked |= 1 << ticket.0,
                // Nobody waits for an answer but the ledger, which hears of acknowledgements only; high watermarks are
                // read where they are; whoever lets it see the metadata makes it a follower.
                Output::AdvanceHighWatermark(_) | Output::Refuse(..) | Output::Resign => {}
            }
        }
    }

    pub(super) fn leader(&self) -> Option<&Leader> {
        match &self.process {
            Some(Process { role: Role::Leader(leader), .. }) => Some(leader),
            _ => None,
        }
    }

    pub(super) fn follower(&self) -> Option<&Follower> {
        match &self.process {
            Some(Process { role: Role::Follower(follower), .. }) => Some(follower),
            _ => None,
        }
    }

    pub(super) fn high_watermark(&self) -> Option<Offset> {
        match &self.process.as_ref()?.role {
            Role::Leader(leader) => Some(leader.high_watermark()),
            Role::Follower(follower) => Some(follower.high_watermark()),
        }
    }

    /// True if it would take a record with acks=all.
    pub(super) fn takes_records(&self) -> bool {
        let Some(process) = &self.process else { return false };
        self.leader().is_some_and(|leader| leader.check_acks(Acks::All, process.now).is_ok())
    }

    /// A record is appended, and its client waits.
    pub(super) fn produce(&mut self, value: u8, effects: &mut Effects) {
        let Some(epoch) = self.leader().map(Leader::epoch) else { return };
        self.log.append(Record { epoch, value });
        let end = self.log.log_end();
        self.input(Input::Appended(end), effects);
        let deadline = Monotonic(u64::MAX);
        self.input(Input::Wait { ticket: Ticket(value.into()), acks: Acks::All, next: end, deadline }, effects);
    }

    pub(super) fn flush(&mut self, effects: &mut Effects) {
        self.log.flush();
        self.input(Input::Flushed(self.log.position().flushed), effects);
    }

    /// So much time passes for this process.
    pub(super) fn pass(&mut self, time: Duration, effects: &mut Effects) {
        let Some(process) = &mut self.process else { return };
        process.now = process.now.plus(time);
        let now = process.now;
        self.input(Input::Time(now), effects);
    }

    /// True if it has a proposal whose outcome is open, and would send it again after so much time.
    pub(super) fn would_propose(&self, time: Duration) -> bool {
        let Some(mut leader) = self.leader().filter(|leader| leader.pending().is_some()).cloned() else { return false };
        let mut out = Vec::new();
        let now = self.process.as_ref().map(|process| process.now).unwrap_or_default();
        leader.step(Input::Time(now.plus(time)), &mut out);
        out.iter().any(|output| matches!(output, Output::Propose(_)))
    }

    /// The controller answered a heartbeat.
    pub(super) fn hear_controller(&mut self, effects: &mut Effects) {
        let now = self.process.as_ref().map(|process| process.now).unwrap_or_default();
        self.input(Input::ControllerHeard(now), effects);
    }

    /// The request that is waited for: whom it went to, and its number.
    pub(super) fn waits_for(&self) -> Option<u64> {
        let process = self.process.as_ref()?;
        process.fetcher.is_waiting().then(|| process.fetcher.next_request() - 1)
    }

    /// The outstanding request is given up.
    pub(super) fn give_up(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.fetcher.timed_out(Monotonic(u64::MAX));
        process.asked = None;
    }

    fn ask(&self) -> Option<(NodeId, Asked)> {
        let (process, follower) = (self.process.as_ref()?, self.follower()?);
        let position = self.log.position();
        let partition = follower.request(&self.log, position.flushed, u32::MAX)?;
        let FetchPartition { leader_epoch, offset, last_fetched_epoch: last_epoch, flushed, .. } = partition;
        let asked = Asked { leader_epoch, offset, last_epoch, flushed };
        (!process.fetcher.is_waiting()).then_some((follower.leader()?, asked))
    }

    /// Whom a fetch would go to now, if it would tell either side anything new.
    pub(super) fn would_fetch<'a>(&self, nodes: impl Fn(NodeId) -> &'a Node) -> bool {
        let Some((to, asked)) = self.ask() else { return false };
        let (Some(process), Some(follower), to) = (&self.process, self.follower(), nodes(to)) else { return false };
        let (Some(mut leader), Some(at)) = (to.leader().cloned(), to.process.as_ref()) else { return false };
        let request = process.fetcher.next_request();
        let partition = asked.partition();
        let fetch = ReplicaFetch {
            replica: self.id,
            broker_epoch: process.me.broker_epoch,
            request,
            partitions: vec![partition],
        };
        let mut out = Vec::new();
        match leader.fetched(&fetch, &partition, &to.log, at.now, &mut out) {
            Verdict::Serve { high_watermark, .. } => {
                let more = to.log.log_end() > asked.offset;
                let higher = high_watermark.min(asked.offset) > follower.high_watermark();
                process.told != Some(asked) || more || higher || !out.is_empty()
            }
            Verdict::Diverging { .. } | Verdict::Behind { .. } => true,
            Verdict::Refused(_) | Verdict::Ignored => false,
        }
    }

    /// Sends a fetch.
    pub(super) fn fetch(&mut self, effects: &mut Effects) {
        let Some((to, asked)) = self.ask() else { return };
        let Some(process) = &mut self.process else { return };
        let fetch = process.fetcher.begin(process.now, vec![asked.partition()]);
        process.asked = Some(asked);
        effects.sent.push(Message::Fetch { to, from: process.me, request: fetch.request, asked });
    }

    /// A fetch arrives.
    pub(super) fn serve(
        &mut self,
        from: Identity,
        request: u64,
        asked: Asked,
        setting: &Setting,
        effects: &mut Effects,
    ) {
        let Some(process) = &mut self.process else { return };
        let partition = asked.partition();
        let fetch =
            ReplicaFetch { replica: from.node, broker_epoch: from.broker_epoch, request, partitions: vec![partition] };
        let (mut out, now) = (Vec::new(), process.now);
        let (leader_epoch, verdict) = match &mut process.role {
            Role::Leader(leader) => (leader.epoch(), leader.fetched(&fetch, &partition, &self.log, now, &mut out)),
            Role::Follower(_) => (asked.leader_epoch, Verdict::Refused(ErrorCode::NotLeaderOrFollower)),
        };
        let said = match verdict {
            Verdict::Serve { high_watermark, .. } => {
                let records = self.log.read(asked.offset, setting.batch);
                Some(Said::Records { high_watermark, records })
            }
            Verdict::Diverging { epoch, end } => Some(Said::Diverging { epoch, end }),
            Verdict::Behind { log_start } => Some(Said::Behind { log_start }),
            Verdict::Refused(code) => Some(Said::Refused(code)),
            Verdict::Ignored => None,
        };
        if let Some(said) = said {
            let (to, offset) = (from, asked.offset);
            effects.sent.push(Message::Fetched { to, from: self.id, request, leader_epoch, offset, said });
        }
        self.carry_out(out, effects);
    }

    /// The answer to a fetch at `offset` arrives.
    pub(super) fn take(&mut self, to: Identity, request: u64, leader_epoch: LeaderEpoch, offset: Offset, said: Said) {
        let Some(process) = &mut self.process else { return };
        let (outcome, records) = match said {
            Said::Records { high_watermark, records } => {
                let log_start = Offset::ZERO;
                (Fetched::Records { high_watermark, log_start, batches: Chunks::new() }, records)
            }
            Said::Diverging { epoch, end } => (Fetched::Diverging { epoch, end }, Vec::new()),
            Said::Behind { log_start } => (Fetched::Behind { log_start }, Vec::new()),
            Said::Refused(code) => (Fetched::Refused(code), Vec::new()),
        };
        let partitions = vec![FetchedPartition { at: AT, leader_epoch, outcome }];
        let answer = ReplicaFetched { request, broker_epoch: to.broker_epoch, partitions };
        if !process.fetcher.answered(&answer) {
            return;
        }
        process.told = process.asked.take();
        let Role::Follower(follower) = &mut process.role else { return };
        match follower.answered(&answer.partitions[0], &self.log) {
            Step::Append { .. } => {
                if offset == self.log.log_end() {
                    records.into_iter().for_each(|record| self.log.append(record));
                }
                follower.appended(self.log.log_end());
            }
            Step::Truncate(to) | Step::Restart(to) => self.log.truncate(to),
            Step::Wait(_) | Step::Ignore => {}
        }
    }

    /// The controller answers a proposal.
    pub(super) fn altered(
        &mut self,
        rests_on: PartitionEpoch,
        result: Result<PartitionEpoch, ErrorCode>,
        effects: &mut Effects,
    ) {
        self.input(Input::AlterAnswered { partition_epoch: rests_on, result }, effects);
    }
}
