//! The controller: decides what the metadata log says next.
//!
//! It works on an overlay, the applied image plus what it decided since, so that many commands can be evaluated before
//! the first of them is committed. The driver feeds it commands, heartbeats and time, proposes the entries of
//! [`Controller::take_entries`] in their order, and releases an answer once the entry [`Decision::index`] is applied.
//! When a proposal fails, everything decided on top of it is void: the driver drops the controller and builds a new one
//! from the image that was applied. The same goes for a change of the Raft leader.

mod change;
mod command;
mod drain;
mod elections;
mod features;
mod isr;
mod journal;
mod nodes;
mod producers;
mod reassign;
mod registration;
mod rules;
mod sessions;
mod standing;
mod topics;
mod unclean;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rafka_model::limits::{DEAD_NODE_MS, LEADER_BALANCE_MS, SESSION_MS};
use rafka_model::{BrokerEpoch, MetadataIndex, Monotonic, NodeId, TopicPartition};

pub use command::{Answer, Command, Decision, Election, Event, Heartbeat, LogEnd, Outcomes, Question, Registered};
pub use registration::Registration;
pub use rules::{Rule, Rules};

use crate::metadata::{Delta, Entry, Image};
use crate::{ErrorCode, Failure};
use journal::Journal;
use sessions::Sessions;
use unclean::Recoveries;

/// What an operator may choose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// Silence (ms) after which a node is fenced.
    pub session_ms: u64,
    /// Partitions of a topic whose creator names no number.
    pub num_partitions: u32,
    /// Most replicas of a partition. With 1, replicas do not move either: nothing is promised that followers would have to
    /// keep.
    pub replication_factor_max: u16,
    /// Absence (ms) after which a node's replicas move to others.
    pub dead_node_ms: u64,
    /// Time (ms) between two looks at who leads what.
    pub leader_balance_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_ms: SESSION_MS,
            num_partitions: 1,
            replication_factor_max: 1,
            dead_node_ms: DEAD_NODE_MS,
            leader_balance_ms: LEADER_BALANCE_MS,
        }
    }
}

/// The controller's state. One exists in a cluster at a time: at the leader of the metadata quorum.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    journal: Journal,
    sessions: Sessions,
    rules: Rules,
    recoveries: Recoveries,
    events: Vec<Event>,
    /// Nodes out of service, since when (as far as this controller knows).
    absent: BTreeMap<NodeId, Monotonic>,
    /// Nodes out of service for so long that their replicas move.
    gone: BTreeSet<NodeId>,
    /// Reassignments that this controller planned by itself, and to empty which node.
    automatic: BTreeMap<TopicPartition, NodeId>,
    /// When leaderships are looked at next.
    balance_at: Option<Monotonic>,
    /// Something has changed by which other moves may be due.
    replan: bool,
    /// [`Journal::written`] when all that follows from it was decided.
    settled: u64,
}

impl Controller {
    /// Takes over from whoever led before: `image` is all that was committed. Every node in service gets a full
    /// session, and partitions that an unfinished election left without a leader get one.
    #[must_use]
    pub fn new(image: Image, config: Config, now: Monotonic) -> Self {
        Self::with_rules(image, config, now, Rules::default())
    }

    /// As [`Self::new`], where not all rules may hold.
    #[must_use]
    pub fn with_rules(image: Image, config: Config, now: Monotonic, rules: Rules) -> Self {
        let mut sessions = Sessions::new(Duration::from_millis(config.session_ms));
        image.nodes.values().filter(|node| !node.fenced).for_each(|node| sessions.presume(node.id, now));
        let absent = image.nodes.values().filter(|node| node.fenced).map(|node| (node.id, now)).collect();
        let mut controller = Self {
            config,
            journal: Journal::new(image),
            sessions,
            rules,
            recoveries: Recoveries::default(),
            events: Vec::new(),
            absent,
            gone: BTreeSet::new(),
            automatic: BTreeMap::new(),
            balance_at: None,
            replan: true,
            settled: u64::MAX,
        };
        controller.mend();
        controller.elect_unled();
        controller.settle(now);
        controller
    }

    /// Decides one command at the time `now`.
    pub fn evaluate(&mut self, command: Command, now: Monotonic) -> Decision {
        let founded = self.overlay().cluster.is_some();
        let answer = match command {
            Command::Found { public_key, join_token_hash, feature_level, founder } => {
                self.found(public_key, join_token_hash, feature_level, founder, now).map(Answer::Registered)
            }
            _ if !founded => Err(Failure::new(ErrorCode::NotReady, "the cluster is not founded yet")),
            Command::Register(registration) => self.register(registration, now).map(Answer::Registered),
            Command::Leave { node, epoch } => self.leave(node, epoch, now).map(|()| Answer::Left),
            Command::AlterPartition(proposal) => self.alter_partition(&proposal).map(Answer::Altered),
            Command::ReplicaFailed { node, epoch, partitions } => {
                self.replica_failed(node, epoch, partitions).map(|()| Answer::Done)
            }
            Command::LogEnd(answer) => self.log_end(&answer).map(|()| Answer::Done),
            Command::Drain { node, on } => self.drain(node, on).map(|replicas| Answer::Draining { replicas }),
            Command::Decommission { node } => self.decommission(node).map(|()| Answer::Decommissioned),
            Command::Reassign(wanted) => Ok(Answer::Reassigned(self.reassign(wanted))),
            Command::Elect { partitions, how } => Ok(Answer::Elected(self.elect(partitions, how))),
            Command::Upgrade { level } => self.upgrade(level).map(|()| Answer::Done),
            Command::VotersChanged { voters } => self.voters_changed(voters).map(|()| Answer::Done),
            Command::Admin { request, seed } => self.admin(request, seed).map(Answer::Admin),
        };
        self.settle(now);
        Decision { answer: answer.unwrap_or_else(Answer::Refused), index: self.overlay().index }
    }

    /// A node says that it lives, and that it has applied the metadata up to `applied`. A fenced node that has seen its
    /// own registration comes into service, and leads again what nobody else can lead.
    ///
    /// # Errors
    /// [`ErrorCode::StaleBrokerEpoch`]: the node registered again since (another process has its identity now), or never.
    /// [`ErrorCode::UnsupportedVersion`]: its program does not know the cluster's feature level.
    pub fn heartbeat(
        &mut self,
        node: NodeId,
        epoch: BrokerEpoch,
        applied: MetadataIndex,
        now: Monotonic,
    ) -> Result<Heartbeat, Failure> {
        let known = self.registered(node, epoch)?;
        let (fenced, features_max) = (known.fenced, known.features_max);
        if fenced {
            self.check_features(&format!("node {node}"), features_max)?;
        }
        self.sessions.confirm(node, now);
        let unfences = fenced && applied.0 >= epoch.0;
        if unfences {
            self.unfence(node);
            self.settle(now);
        }
        Ok(Heartbeat { fenced: fenced && !unfences, index: self.overlay().index })
    }

    /// Fences the nodes whose session ended, and does what else is due. To be called at [`Self::next_deadline`]; a call
    /// that comes much later means that this process was stopped meanwhile, with unread heartbeats waiting, so every session
    /// begins anew.
    pub fn tick(&mut self, now: Monotonic) {
        for node in self.sessions.expire(now) {
            if self.rules.hold(Rule::SilentNodesAreFenced) {
                self.fence(node, now);
            }
        }
        self.bury(now);
        self.balance_leaders(now);
        if self.recoveries.next_deadline().is_some_and(|at| at <= now) {
            self.recover(now);
        }
        self.settle(now);
    }

    /// When the next session ends, unless a heartbeat comes, or something else is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let held = |id: &NodeId| self.replicates() && self.journal.standing().held(*id) > 0;
        let dead = self.absent.iter().filter(|(id, _)| held(id)).map(|(_, since)| self.dead_at(*since)).min();
        [self.sessions.next_deadline(), dead, self.balance_at, self.recoveries.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is to be asked of replicas now, for [`Command::LogEnd`]. Each is asked again until it has answered.
    pub fn take_questions(&mut self) -> Vec<Question> {
        self.recoveries.take_questions()
    }

    /// What operators should read in the log, since the last call. It was decided, not yet committed.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The entries to propose, in order: usually one, none when nothing changed, several when the decisions do not fit
    /// into one (limits of an entry; each registration has an entry of its own, whose index is its id and epoch).
    pub fn take_entries(&mut self) -> Vec<Entry> {
        self.journal.take()
    }

    /// The image as it will be once everything decided so far is applied.
    #[must_use]
    pub fn overlay(&self) -> &Image {
        self.journal.image()
    }

    /// Decides what follows from what was decided.
    fn settle(&mut self, now: Monotonic) {
        if std::mem::take(&mut self.replan) {
            self.plan_moves();
        }
        while self.settled != self.journal.written() {
            self.settled = self.journal.written();
            self.begin_waiting();
            self.recover(now);
            if std::mem::take(&mut self.replan) {
                self.plan_moves();
            }
        }
        self.arm_balance(now);
    }

    fn voters_changed(&mut self, voters: Vec<NodeId>) -> Result<(), Failure> {
        let unknown = voters.iter().find(|id| !self.overlay().nodes.contains_key(id));
        if let Some(id) = unknown {
            return Err(Failure::new(ErrorCode::InvalidRequest, format!("node {id} is not registered")));
        }
        if self.overlay().voters != voters {
            self.journal.write(Delta::VotersChanged { voters });
        }
        Ok(())
    }
}

fn unknown(at: TopicPartition) -> Failure {
    Failure::new(ErrorCode::UnknownTopicOrPartition, format!("there is no partition {at}"))
}

#[cfg(any(test, feature = "mutants"))]
pub mod simulation;
#[cfg(test)]
mod tests;
