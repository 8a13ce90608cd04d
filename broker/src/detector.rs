//! Failure detection beside heartbeats: faster where a process has died for certain, and a node's own doubts.
//!
//! The controller fences a node after a session of silence; that is the sole rule that needs no evidence. [`Detector`] is
//! its shortcut for processes that were killed: their machine refuses connections, and says so at once. Members report
//! that; the controller then dials the node itself, and fences it if its own dial was refused too and the signs come from
//! two members, of which it is one. Silence is never a sign: a slow node, a cut link and a paused process look the same.
//!
//! **Why two.** One link may refuse by itself (a firewall, a wrong address); two that do so within two seconds, one of them
//! the controller's own, are the node's. In a cluster of two nodes there is no second witness. There the controller's own
//! signs suffice, if they are two: a connection that was reset, and a dial that was refused. A wrong verdict costs an
//! election, never a record: the fenced leader cannot move its high watermark without the others.
//!
//! **What makes a report void**: the node's next heartbeat, a new registration, an answer to the controller's dial, and
//! two seconds.
//!
//! [`Lease`] and [`DiskWatch`] are a node's own side: whether it may still answer as a leader after it slept, and whether
//! its disk still lets it.

mod disk;
mod lease;
mod rules;

use std::collections::BTreeMap;
use std::time::Duration;

use rafka_model::limits::SUSPICION_MS_MAX;
use rafka_model::{BrokerEpoch, Monotonic, NodeId};

pub use disk::{DiskHealth, DiskWatch};
pub use lease::Lease;
pub use rules::{Rule, Rules};

/// What somebody saw of a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub enum Sign {
    /// An established connection was reset or closed by the node's machine.
    Reset,
    /// A dial of the node's address was refused by its machine.
    Refused,
    /// No answer in time, no route, no address: nothing that the node's machine said.
    Silent,
}

/// What the detector is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    /// A member in service saw something of another, which it knows in this epoch. The controller itself counts as one.
    Reported {
        /// Who.
        by: NodeId,
        /// Of whom.
        node: NodeId,
        /// In which registration.
        epoch: BrokerEpoch,
        /// What.
        sign: Sign,
    },
    /// The controller's own dial of a node ended: `None` if it answered.
    Probed {
        /// Whom it dialed.
        node: NodeId,
        /// In which registration.
        epoch: BrokerEpoch,
        /// What it saw.
        sign: Option<Sign>,
    },
    /// A heartbeat was accepted.
    Heard {
        /// From whom.
        node: NodeId,
        /// In which registration.
        epoch: BrokerEpoch,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// Dial the node, at the addresses of this registration, on a connection of its own, and tell [`Input::Probed`].
    Probe {
        /// Whom.
        node: NodeId,
        /// In which registration.
        epoch: BrokerEpoch,
    },
    /// Take the node out of service, if it is still in this registration.
    Fence {
        /// Whom.
        node: NodeId,
        /// In which registration.
        epoch: BrokerEpoch,
    },
}

/// What a controller suspects. Kept in memory only: another controller begins with nothing.
#[derive(Clone, Debug)]
pub struct Detector {
    me: NodeId,
    /// Nodes in service, by their registration.
    members: BTreeMap<NodeId, BrokerEpoch>,
    registered: usize,
    suspects: BTreeMap<NodeId, Suspect>,
    rules: Rules,
}

#[derive(Clone, Debug)]
struct Suspect {
    epoch: BrokerEpoch,
    /// When each member last gave a sign.
    reports: BTreeMap<NodeId, Monotonic>,
    /// When the controller saw a connection of its own reset.
    reset: Option<Monotonic>,
    /// When the controller's own dial was refused.
    probe: Option<Monotonic>,
    probing_since: Option<Monotonic>,
}

impl Detector {
    /// Suspects nobody. `me` is the controller's node.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self::with_rules(me, Rules::default())
    }

    /// As [`Self::new`], for runs in which a rule does not hold.
    #[must_use]
    pub fn with_rules(me: NodeId, rules: Rules) -> Self {
        Self { me, members: BTreeMap::new(), registered: 0, suspects: BTreeMap::new(), rules }
    }

    /// Who is in service now, by registration, of so many `registered` brokers. What is suspected of another registration
    /// is void.
    pub fn members(&mut self, members: BTreeMap<NodeId, BrokerEpoch>, registered: usize) {
        let same = |id: &NodeId, suspect: &Suspect| members.get(id) == Some(&suspect.epoch);
        let void = self.rules.hold(Rule::RegistrationsVoidReports);
        self.suspects.retain(|id, suspect| same(id, suspect) || !void && members.contains_key(id));
        (self.members, self.registered) = (members, registered);
    }

    /// Applies one event.
    pub fn step(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Heard { node, epoch } => {
                let current = self.members.get(&node) == Some(&epoch);
                if current && self.rules.hold(Rule::HeartbeatsVoidReports) {
                    self.suspects.remove(&node);
                }
            }
            Input::Reported { by, node, epoch, sign } => self.reported(now, by, node, epoch, sign, out),
            Input::Probed { node, epoch, sign } => self.probed(now, node, epoch, sign, out),
        }
    }

    fn reported(
        &mut self,
        now: Monotonic,
        by: NodeId,
        node: NodeId,
        epoch: BrokerEpoch,
        sign: Sign,
        out: &mut Vec<Output>,
    ) {
        let current = self.members.get(&node) == Some(&epoch) || !self.rules.hold(Rule::RegistrationsVoidReports);
        let member = self.members.contains_key(&by) || !self.rules.hold(Rule::MembersReport);
        let proof = sign != Sign::Silent || !self.rules.hold(Rule::SilenceProvesNothing);
        let Some(epoch) = self.members.get(&node).copied().filter(|_| current && member && proof) else { return };
        // Nobody speaks of itself; the controller does not fence itself.
        if by == node || node == self.me {
            return;
        }
        let (me, window) = (self.me, self.window());
        let suspect = self.suspects.entry(node).or_insert_with(|| Suspect::new(epoch));
        suspect.reports.insert(by, now);
        if by == me && sign == Sign::Reset {
            suspect.reset = Some(now);
        }
        let probing = suspect.probing_since.is_some_and(|since| now.since(since) < window);
        if !probing {
            suspect.probing_since = Some(now);
            out.push(Output::Probe { node, epoch });
        }
        self.judge(now, node, out);
    }

    fn probed(&mut self, now: Monotonic, node: NodeId, epoch: BrokerEpoch, sign: Option<Sign>, out: &mut Vec<Output>) {
        let void = self.rules.hold(Rule::RegistrationsVoidReports);
        let Some(suspect) = self.suspects.get_mut(&node).filter(|suspect| suspect.epoch == epoch || !void) else {
            return;
        };
        suspect.probing_since = None;
        match sign {
            // Somebody lives there.
            None => drop(self.suspects.remove(&node)),
            Some(Sign::Silent) if self.rules.hold(Rule::SilenceProvesNothing) => {}
            Some(_) => {
                suspect.probe = Some(now);
                self.judge(now, node, out);
            }
        }
    }

    fn judge(&mut self, now: Monotonic, node: NodeId, out: &mut Vec<Output>) {
        let (me, window) = (self.me, self.window());
        let Some(suspect) = self.suspects.get(&node) else { return };
        let fresh = |seen: &Monotonic| now.since(*seen) < window;
        let own = suspect.probe.as_ref().is_some_and(fresh) || !self.rules.hold(Rule::OwnProbeIsOne);
        let others = suspect.reports.iter().filter(|(by, seen)| **by != me && fresh(seen)).count();
        // There is nobody else who could have seen it. Others that are out of service do not make one witness enough.
        let alone = self.registered <= 2;
        let reset = suspect.reset.as_ref().is_some_and(fresh);
        let agreed = others > 0 || alone && reset || !self.rules.hold(Rule::TwoMembersAgree);
        if own && agreed {
            let epoch = self.members.get(&node).copied().unwrap_or(suspect.epoch);
            self.suspects.remove(&node);
            out.push(Output::Fence { node, epoch });
        }
    }

    fn window(&self) -> Duration {
        let expire = self.rules.hold(Rule::ReportsExpire);
        if expire { Duration::from_millis(SUSPICION_MS_MAX) } else { Duration::MAX }
    }
}

impl Suspect {
    fn new(epoch: BrokerEpoch) -> Self {
        Self { epoch, reports: BTreeMap::new(), reset: None, probe: None, probing_since: None }
    }
}

#[cfg(any(test, feature = "mutants"))]
pub mod simulation;
#[cfg(test)]
mod tests;
