//! The controller: decides what the metadata log says next.
//!
//! It works on an overlay, the applied image plus what it decided since, so that many commands can be evaluated before
//! the first of them is committed. The driver feeds it commands, heartbeats and time, proposes the entries of
//! [`Controller::take_entries`] in their order, and releases an answer once the entry [`Decision::index`] is applied.
//! When a proposal fails, everything decided on top of it is void: the driver drops the controller and builds a new one
//! from the image that was applied. The same goes for a change of the Raft leader.

mod command;
mod journal;
mod nodes;
mod producers;
mod rules;
mod sessions;
mod topics;

use std::time::Duration;

use rafka_model::limits::SESSION_MS;
use rafka_model::{BrokerEpoch, MetadataIndex, Monotonic, NodeId};

pub use command::{Answer, Command, Decision, Heartbeat, Registered, Registration};

use crate::metadata::{Entry, Image};
use crate::{ErrorCode, Failure};
use journal::Journal;
pub use rules::{Rule, Rules};
use sessions::Sessions;

/// What an operator may choose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// Silence (ms) after which a node is fenced.
    pub session_ms: u64,
    /// Partitions of a topic whose creator names no number.
    pub num_partitions: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { session_ms: SESSION_MS, num_partitions: 1 }
    }
}

/// The controller's state. One exists in a cluster at a time: at the leader of the metadata quorum.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    journal: Journal,
    sessions: Sessions,
    rules: Rules,
}

impl Controller {
    /// Takes over from whoever led before: `image` is all that was committed. Every node in service gets a full
    /// session, and partitions that an unfinished election left without a leader get one.
    #[must_use]
    pub fn new(image: Image, config: Config, now: Monotonic) -> Self {
        let mut sessions = Sessions::new(Duration::from_millis(config.session_ms));
        image.nodes.values().filter(|node| !node.fenced).for_each(|node| sessions.presume(node.id, now));
        let mut controller = Self { config, journal: Journal::new(image), sessions, rules: Rules::default() };
        controller.elect_unled();
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
            Command::Leave { node, epoch } => self.leave(node, epoch).map(|()| Answer::Left),
            Command::Admin { request, seed } => self.admin(request, seed).map(Answer::Admin),
        };
        Decision { answer: answer.unwrap_or_else(Answer::Refused), index: self.overlay().index }
    }

    /// A node says that it lives, and that it has applied the metadata up to `applied`. A fenced node that has seen its
    /// own registration comes into service, and leads again what nobody else can lead.
    ///
    /// # Errors
    /// [`ErrorCode::StaleBrokerEpoch`]: the node registered again since (another process has its identity now), or never.
    pub fn heartbeat(
        &mut self,
        node: NodeId,
        epoch: BrokerEpoch,
        applied: MetadataIndex,
        now: Monotonic,
    ) -> Result<Heartbeat, Failure> {
        let fenced = self.registered(node, epoch)?.fenced;
        self.sessions.confirm(node, now);
        let unfences = fenced && applied.0 >= epoch.0;
        if unfences {
            self.unfence(node);
        }
        Ok(Heartbeat { fenced: fenced && !unfences, index: self.overlay().index })
    }

    /// Fences the nodes whose session ended. To be called at [`Self::next_deadline`]; a call that comes much later means
    /// that this process was stopped meanwhile, with unread heartbeats waiting, so every session begins anew.
    pub fn tick(&mut self, now: Monotonic) {
        for node in self.sessions.expire(now) {
            if self.rules.hold(Rule::SilentNodesAreFenced) {
                self.fence(node);
            }
        }
    }

    /// When the next session ends, unless a heartbeat comes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.sessions.next_deadline()
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
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
