//! The leader of a partition, from its election to the loss of its epoch.

use std::collections::BTreeMap;

use rafka_model::{Durability, LeaderEpoch, Monotonic, NodeId, Offset};

use crate::ErrorCode;
use crate::metadata::PartitionState;
use crate::purgatory::Purgatory;
use crate::request::Acks;

/// What the topic's configuration says about safety.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// `durability`: which position of a replica counts.
    pub durability: Durability,
    /// `min.insync.replicas`.
    pub min_insync: u32,
}

/// How far a replica's log reaches.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// Offset behind the last record.
    pub end: Offset,
    /// Offset behind the last record that is flushed to its disk.
    pub flushed: Offset,
}

/// Names a waiting produce; chosen by the driver, unique among those that wait here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Ticket(pub u64);

/// What happens to a leader.
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
    /// A follower's fetch in this epoch told its position; ignored of a node that is no replica.
    Fetched {
        /// Which follower.
        replica: NodeId,
        /// Its log.
        position: Position,
    },
    /// The metadata log has a new state for the partition.
    Changed(PartitionState),
    /// The topic was reconfigured.
    Configured(Config),
    /// It is this late.
    Time(Monotonic),
}

/// What a leader wants done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// Records below are committed: consumers may see them, and fetches that wait for them wake.
    AdvanceHighWatermark(Offset),
    /// The produce is safe.
    Acknowledge(Ticket),
    /// The produce was appended, but is not known to be safe.
    Refuse(Ticket, ErrorCode),
    /// Another epoch has begun: this leader is to be dropped.
    Resign,
}

/// The leader of one partition in one epoch.
#[derive(Clone, Debug)]
pub struct Leader {
    me: NodeId,
    epoch: LeaderEpoch,
    /// Its epoch is over.
    resigned: bool,
    replicas: Vec<NodeId>,
    isr: Vec<NodeId>,
    config: Config,
    log: Position,
    followers: BTreeMap<NodeId, Position>,
    /// Log end at the election: what lies below may have been committed in an earlier epoch.
    elected_at: Offset,
    high_watermark: Offset,
    /// Produces with acks=all, by high watermark.
    uncommitted: Purgatory<Ticket>,
    /// Produces with acks=1 under `durability=fsync`, by flushed end.
    unflushed: Purgatory<Ticket>,
}

impl Leader {
    /// The leader that `state` names, on the node `me`; `high_watermark` is the one it knew as a replica.
    ///
    /// A single replica commits what it recovered at once; see [`Self::high_watermark`].
    #[must_use]
    pub fn new(me: NodeId, state: &PartitionState, config: Config, log: Position, high_watermark: Offset) -> Self {
        let mut leader = Self {
            me,
            epoch: state.leader_epoch,
            resigned: false,
            replicas: state.replicas.clone(),
            isr: state.isr.clone(),
            config,
            log,
            followers: BTreeMap::new(),
            elected_at: log.end,
            high_watermark: high_watermark.min(log.end),
            uncommitted: Purgatory::default(),
            unflushed: Purgatory::default(),
        };
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

    /// False right after an election: consumers may have seen more than the high watermark says, so reads that depend
    /// on it answer [`ErrorCode::OffsetNotAvailable`] (KIP-207).
    #[must_use]
    pub fn offsets_are_known(&self) -> bool {
        self.high_watermark >= self.elected_at
    }

    /// When the next waiting produce gives up: send [`Input::Time`] then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let deadlines = [self.uncommitted.next_deadline(), self.unflushed.next_deadline()];
        deadlines.into_iter().flatten().min()
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
    /// [`ErrorCode::NotEnoughReplicas`].
    pub fn check_acks(&self, acks: Acks) -> Result<(), ErrorCode> {
        if acks == Acks::All && !self.enough_in_sync() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        Ok(())
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
            }
            Input::Wait { ticket, acks, next, deadline } => self.wait(ticket, acks, next, deadline, out),
            Input::Cancelled(ticket) => {
                self.uncommitted.cancel(ticket);
                self.unflushed.cancel(ticket);
            }
            Input::Fetched { replica, position } => {
                if self.replicas.contains(&replica) {
                    self.followers.insert(replica, position);
                }
            }
            Input::Changed(state) => self.change(state, out),
            Input::Configured(config) => self.configure(config, out),
            Input::Time(now) => {
                let late = [self.uncommitted.expired(now), self.unflushed.expired(now)].concat();
                out.extend(late.into_iter().map(|ticket| Output::Refuse(ticket, ErrorCode::RequestTimedOut)));
            }
        }
        if !self.resigned && self.commit() {
            out.push(Output::AdvanceHighWatermark(self.high_watermark));
            let safe = self.uncommitted.passed(self.high_watermark);
            out.extend(safe.into_iter().map(Output::Acknowledge));
        }
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
        if state.leader != Some(self.me) || state.leader_epoch != self.epoch {
            let waiting = [self.uncommitted.drain(), self.unflushed.drain()].concat();
            out.extend(waiting.into_iter().map(|ticket| Output::Refuse(ticket, ErrorCode::NotLeaderOrFollower)));
            out.push(Output::Resign);
            self.resigned = true;
            return;
        }
        self.followers.retain(|replica, _| state.replicas.contains(replica));
        self.replicas = state.replicas;
        self.isr = state.isr;
        self.refuse_unless_enough(out);
    }

    fn configure(&mut self, config: Config, out: &mut Vec<Output>) {
        self.config = config;
        if config.durability == Durability::Replicated {
            out.extend(self.unflushed.drain().into_iter().map(Output::Acknowledge));
        }
        self.refuse_unless_enough(out);
    }

    fn refuse_unless_enough(&mut self, out: &mut Vec<Output>) {
        if !self.enough_in_sync() {
            let refused = |ticket| Output::Refuse(ticket, ErrorCode::NotEnoughReplicasAfterAppend);
            out.extend(self.uncommitted.drain().into_iter().map(refused));
        }
    }

    fn enough_in_sync(&self) -> bool {
        self.isr.len() >= self.config.min_insync as usize
    }

    /// Raises the high watermark to what every in-sync replica has; true if it moved. It never falls.
    fn commit(&mut self) -> bool {
        let position = |replica: &NodeId| match *replica {
            me if me == self.me => self.log,
            follower => self.followers.get(&follower).copied().unwrap_or_default(),
        };
        let counts = |position: Position| match self.config.durability {
            Durability::Replicated => position.end,
            Durability::Fsync => position.flushed,
        };
        let all_have = self.isr.iter().map(position).map(counts).min().unwrap_or(self.high_watermark);
        // A follower may claim more than the leader has; nothing beyond the leader's own log is committed.
        let committed = all_have.min(counts(self.log));
        if !self.enough_in_sync() || committed <= self.high_watermark {
            return false;
        }
        self.high_watermark = committed;
        true
    }
}

#[cfg(test)]
mod tests;
