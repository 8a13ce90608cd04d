//! The leader of a partition, from its election to the loss of its epoch.

mod in_sync;
mod invariants;
mod progress;
mod serve;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rafka_model::{BrokerEpoch, Durability, LeaderEpoch, Monotonic, NodeId, Offset, PartitionEpoch, TopicPartition};

use super::exchange::{AlterPartition, Identity};
use super::rules::{Rule, Rules};
use crate::ErrorCode;
use crate::metadata::PartitionState;
use crate::purgatory::Purgatory;
use crate::request::Acks;
use in_sync::InSync;
use progress::Progress;

/// What the configuration of topic and node says about safety.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// `durability`: which position of a replica counts.
    pub durability: Durability,
    /// `min.insync.replicas`.
    pub min_insync: u32,
    /// A follower that lags for longer leaves the in-sync set (`replica.lag.time.max.ms`).
    pub lag_max: Duration,
    /// The session that the controller gives a node: after silence of this length another may lead.
    pub session: Duration,
}

/// How far a replica's log reaches.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Position {
    /// Offset behind the last record.
    pub end: Offset,
    /// Offset behind the last record that is flushed to its disk.
    pub flushed: Offset,
}

/// The nodes in service, each with its current registration.
pub type Members = Arc<BTreeMap<NodeId, BrokerEpoch>>;

/// With what a leader begins.
#[derive(Clone, Debug)]
pub struct Election<'a> {
    /// This node.
    pub me: Identity,
    /// The partition.
    pub at: TopicPartition,
    /// What the controller decided: this node leads.
    pub state: &'a PartitionState,
    /// What is safe.
    pub config: Config,
    /// Who may become in-sync.
    pub members: Members,
    /// How far its log reaches.
    pub log: Position,
    /// The one it knew as a replica, but not before its log start; everything below is committed.
    pub high_watermark: Offset,
    /// The time.
    pub now: Monotonic,
}

/// Names a waiting produce; chosen by the driver, unique among those that wait here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Ticket(pub u64);

/// What happens to a leader, beside fetches ([`Leader::fetched`]).
#[derive(Clone, Debug)]
pub enum Input {
    /// Its log ends here now.
    Appended(Offset),
    /// Its log is flushed up to here.
    Flushed(Offset),
    /// A produce was appended and wants to know when it is safe.
    Wait {
        /// Names it in the outputs.
        ticket: Ticket,
        /// What "safe" means.
        acks: Acks,
        /// Offset behind its last record.
        next: Offset,
        /// Until when it wants to know.
        deadline: Monotonic,
    },
    /// Nobody waits for this ticket any more.
    Cancelled(Ticket),
    /// The metadata log has a new state for the partition. An older one changes nothing.
    Changed(PartitionState),
    /// Nodes came into service or left it. To be said before what else the same metadata changed.
    Members(Members),
    /// The topic was reconfigured.
    Configured(Config),
    /// Its log begins here now. It may be moved up to the high watermark only.
    LogStart(Offset),
    /// What became of a proposal. One without an answer is sent again by [`Input::Time`]; any failure that leaves the
    /// outcome open may be said with the code of the failure.
    AlterAnswered {
        /// The proposal's: on which state it rested.
        partition_epoch: PartitionEpoch,
        /// The partition epoch that it made, or why not.
        result: Result<PartitionEpoch, ErrorCode>,
    },
    /// The controller has answered a heartbeat that this node *sent* at this time: its session lasts from then at least.
    ControllerHeard(Monotonic),
    /// It is this late.
    Time(Monotonic),
}

/// What a leader wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Records below are committed: consumers may see them, and fetches that wait for them wake.
    AdvanceHighWatermark(Offset),
    /// The produce is safe.
    Acknowledge(Ticket),
    /// The produce was appended, but is not known to be safe.
    Refuse(Ticket, ErrorCode),
    /// To be sent to the controller, once; say [`Input::AlterAnswered`] if anything comes of it.
    Propose(AlterPartition),
    /// Another epoch has begun: this leader is to be dropped.
    Resign,
}

/// What a follower's fetch is answered with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// [`Fetched::Records`](super::Fetched::Records): read from the offset asked for to the log's end, committed or not.
    Serve {
        /// To be told.
        high_watermark: Offset,
        /// To be told.
        log_start: Offset,
    },
    /// [`Fetched::Diverging`](super::Fetched::Diverging).
    Diverging {
        /// The leader's largest epoch that is at most the follower's.
        epoch: LeaderEpoch,
        /// Where it ends in the leader's log.
        end: Offset,
    },
    /// [`Fetched::Behind`](super::Fetched::Behind).
    Behind {
        /// The leader's log start.
        log_start: Offset,
    },
    /// [`Fetched::Refused`](super::Fetched::Refused).
    Refused(ErrorCode),
    /// Overtaken by a later fetch: no answer, nobody waits for it.
    Ignored,
}

/// The leader of one partition in one epoch.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Leader {
    me: Identity,
    at: TopicPartition,
    epoch: LeaderEpoch,
    /// Its epoch is over.
    resigned: bool,
    config: Config,
    members: Members,
    log: Position,
    /// Every other replica.
    followers: BTreeMap<NodeId, Progress>,
    in_sync: InSync,
    /// Log end at the election: what lies below may have been committed in an earlier epoch.
    elected_at: Offset,
    high_watermark: Offset,
    /// Committed by earlier leaders, as far as this node had heard. Nothing more than what is safe here is told again: who
    /// was elected uncleanly may not have flushed it, and may be the only one that has it.
    inherited: Offset,
    /// The latest time that it was told.
    now: Monotonic,
    controller_heard: Monotonic,
    /// Produces with acks=all, by high watermark.
    uncommitted: Purgatory<Ticket>,
    /// Produces with acks=1 under `durability=fsync`, by flushed end.
    unflushed: Purgatory<Ticket>,
    rules: Rules,
}

impl Leader {
    /// The leader that `election.state` names.
    ///
    /// A single replica commits what it recovered at once; see [`Self::high_watermark`].
    #[must_use]
    pub fn new(election: Election<'_>) -> Self {
        Self::with_rules(election, Rules::default())
    }

    /// As [`Self::new`], with a choice of rules.
    #[must_use]
    pub fn with_rules(election: Election<'_>, rules: Rules) -> Self {
        let Election { me, at, state, config, members, log, high_watermark, now } = election;
        let others = state.replicas.iter().filter(|replica| **replica != me.node);
        let mut leader = Self {
            me,
            at,
            epoch: state.leader_epoch,
            resigned: false,
            config,
            members,
            log,
            followers: others.map(|replica| (*replica, Progress::new(log.end, now))).collect(),
            in_sync: InSync::new(me.node, state, rules),
            elected_at: log.end,
            high_watermark: Offset::ZERO,
            inherited: high_watermark.min(log.end),
            now,
            controller_heard: now,
            uncommitted: Purgatory::default(),
            unflushed: Purgatory::default(),
            rules,
        };
        leader.high_watermark = leader.inherited.min(leader.safe(leader.log));
        leader.commit();
        leader
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Offset behind the last committed record.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The in-sync set that is committed, as far as this leader has heard.
    #[must_use]
    pub fn isr(&self) -> &[NodeId] {
        &self.in_sync.isr
    }

    /// Everybody for whom the high watermark waits.
    #[must_use]
    pub fn maximal_isr(&self) -> &[NodeId] {
        &self.in_sync.maximal
    }

    /// The proposal that the controller has not answered with a state yet.
    #[must_use]
    pub fn pending(&self) -> Option<&AlterPartition> {
        self.in_sync.pending.as_ref().map(|pending| &pending.proposal)
    }

    /// True if the partition has no other replica: nobody can lead in its place.
    #[must_use]
    pub fn is_sole(&self) -> bool {
        self.followers.is_empty()
    }

    /// False right after an election: consumers may have seen more than the high watermark says, so reads that depend
    /// on it answer [`ErrorCode::OffsetNotAvailable`] (KIP-207).
    #[must_use]
    pub fn offsets_are_known(&self) -> bool {
        self.high_watermark >= self.elected_at || !self.rules.hold(Rule::OffsetsAreKnownFirst)
    }

    /// When to send [`Input::Time`] next: a waiting produce gives up, a follower is to leave the in-sync set, a proposal is
    /// to be made or sent again. Other inputs and fetches may change it.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let looks = if self.resigned { None } else { self.next_look() };
        [self.uncommitted.next_deadline(), self.unflushed.next_deadline(), looks].into_iter().flatten().min()
    }

    /// Compares the epoch that a sender believes in with this one; `None` believes in any (KIP-320).
    ///
    /// # Errors
    /// [`ErrorCode::FencedLeaderEpoch`] for an older one, [`ErrorCode::UnknownLeaderEpoch`] for one that this node has
    /// not heard of yet.
    pub fn check_epoch(&self, believed: Option<LeaderEpoch>) -> Result<(), ErrorCode> {
        match believed {
            Some(old) if old < self.epoch => Err(ErrorCode::FencedLeaderEpoch),
            Some(new) if new > self.epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// Says whether a produce may be appended; to be asked before the log is touched.
    ///
    /// # Errors
    /// [`ErrorCode::NotLeaderOrFollower`]: its epoch is over, or may be ([`Self::is_cut_off`]).
    /// [`ErrorCode::NotEnoughReplicas`].
    pub fn check_acks(&self, acks: Acks, now: Monotonic) -> Result<(), ErrorCode> {
        if self.resigned || self.is_cut_off(now) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if acks == Acks::All && !self.enough_in_sync() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        Ok(())
    }

    /// Says up to where consumers may read, and what the last offset is for them.
    ///
    /// # Errors
    /// [`ErrorCode::NotLeaderOrFollower`]: its epoch is over, or may be ([`Self::is_cut_off`]).
    /// [`ErrorCode::OffsetNotAvailable`]: not known yet after the election (KIP-207).
    pub fn may_read(&self, now: Monotonic) -> Result<Offset, ErrorCode> {
        if self.resigned || self.is_cut_off(now) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if !self.offsets_are_known() {
            return Err(ErrorCode::OffsetNotAvailable);
        }
        Ok(self.high_watermark)
    }

    /// Neither the controller nor any follower was heard for a session: somebody else may lead, and serve, by now. Ends
    /// when one of them is heard. A sole replica has no rival.
    #[must_use]
    pub fn is_cut_off(&self, now: Monotonic) -> bool {
        let silent = |heard: Monotonic| now.since(heard) >= self.config.session;
        !self.is_sole()
            && silent(self.controller_heard)
            && self.followers.values().all(|follower| silent(follower.heard))
            && self.rules.hold(Rule::SilenceEndsService)
    }

    /// Takes one input; what follows from it is added to `out`. After [`Output::Resign`] it only refuses.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if self.resigned {
            if let Input::Wait { ticket, .. } = input {
                out.push(Output::Refuse(ticket, ErrorCode::NotLeaderOrFollower));
            }
            return;
        }
        match input {
            Input::Appended(end) => self.log.end = self.log.end.max(end),
            Input::Flushed(end) => {
                self.log.flushed = self.log.flushed.max(end.min(self.log.end));
                let safe = self.unflushed.passed(self.log.flushed);
                out.extend(safe.into_iter().map(Output::Acknowledge));
                self.raise(self.inherited.min(self.safe(self.log)), out);
            }
            Input::Wait { ticket, acks, next, deadline } => self.wait(ticket, acks, next, deadline, out),
            Input::Cancelled(ticket) => {
                self.uncommitted.cancel(ticket);
                self.unflushed.cancel(ticket);
            }
            Input::Changed(state) => self.change(state, out),
            Input::Members(members) => {
                self.meet(members);
                self.propose(out);
            }
            Input::Configured(config) => self.configure(config, out),
            Input::LogStart(start) => self.raise(self.high_watermark.max(start.min(self.log.end)), out),
            Input::AlterAnswered { partition_epoch, result } => self.answered(partition_epoch, result, out),
            Input::ControllerHeard(sent) => self.controller_heard = self.controller_heard.max(sent),
            Input::Time(now) => {
                self.now = self.now.max(now);
                let late = [self.uncommitted.expired(now), self.unflushed.expired(now)].concat();
                out.extend(late.into_iter().map(|ticket| Output::Refuse(ticket, ErrorCode::RequestTimedOut)));
                self.propose(out);
            }
        }
        self.advance(out);
    }

    fn wait(&mut self, ticket: Ticket, acks: Acks, next: Offset, deadline: Monotonic, out: &mut Vec<Output>) {
        match (acks, self.config.durability) {
            (Acks::All, _) if !self.enough_in_sync() => {
                out.push(Output::Refuse(ticket, ErrorCode::NotEnoughReplicasAfterAppend));
            }
            (Acks::All, _) if self.high_watermark < next => self.uncommitted.park(ticket, next, deadline),
            (Acks::Leader, Durability::Fsync) if self.log.flushed < next => {
                self.unflushed.park(ticket, next, deadline);
            }
            _ => out.push(Output::Acknowledge(ticket)),
        }
    }

    fn change(&mut self, state: PartitionState, out: &mut Vec<Output>) {
        if (state.leader_epoch, state.partition_epoch) <= (self.epoch, self.in_sync.partition_epoch) {
            return;
        }
        if state.leader != Some(self.me.node) || state.leader_epoch != self.epoch {
            let waiting = [self.uncommitted.drain(), self.unflushed.drain()].concat();
            out.extend(waiting.into_iter().map(|ticket| Output::Refuse(ticket, ErrorCode::NotLeaderOrFollower)));
            out.push(Output::Resign);
            self.resigned = true;
            return;
        }
        self.adopt(state);
        self.refuse_unless_enough(out);
        self.propose(out);
    }

    fn configure(&mut self, config: Config, out: &mut Vec<Output>) {
        self.config = config;
        if config.durability == Durability::Replicated {
            out.extend(self.unflushed.drain().into_iter().map(Output::Acknowledge));
        }
        self.raise(self.inherited.min(self.safe(self.log)), out);
        self.refuse_unless_enough(out);
        self.propose(out);
    }

    fn refuse_unless_enough(&mut self, out: &mut Vec<Output>) {
        if !self.enough_in_sync() {
            let refused = |ticket| Output::Refuse(ticket, ErrorCode::NotEnoughReplicasAfterAppend);
            out.extend(self.uncommitted.drain().into_iter().map(refused));
        }
    }

    /// Enough replicas for what acks=all asks for, to the letter: a topic of one replica never has two.
    fn enough_in_sync(&self) -> bool {
        self.in_sync.isr.len() >= self.config.min_insync as usize
    }

    /// Commits what can be; called after every change.
    fn advance(&mut self, out: &mut Vec<Output>) {
        #[cfg(debug_assertions)]
        let before = self.high_watermark;
        if !self.resigned && self.commit() {
            self.announce(out);
        }
        #[cfg(debug_assertions)]
        if self.rules.all_hold() {
            debug_assert!(before <= self.high_watermark, "the high watermark fell from {before}");
            debug_assert_eq!(self.check_invariants(), Ok(()));
        }
    }

    fn raise(&mut self, high_watermark: Offset, out: &mut Vec<Output>) {
        if high_watermark > self.high_watermark {
            self.high_watermark = high_watermark;
            self.announce(out);
        }
    }

    fn announce(&mut self, out: &mut Vec<Output>) {
        out.push(Output::AdvanceHighWatermark(self.high_watermark));
        let safe = self.uncommitted.passed(self.high_watermark);
        out.extend(safe.into_iter().map(Output::Acknowledge));
    }
}

#[cfg(test)]
mod tests;
