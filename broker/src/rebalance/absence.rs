//! Which nodes are gone for so long that they are taken for lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rafka_model::limits::NODE_LOST_MS;
use rafka_model::{Monotonic, NodeId};

use super::{Rule, Rules};
use crate::metadata::Image;

/// Since when nodes are fenced. Kept in memory only: a new controller counts from its own beginning.
#[derive(Clone, Debug)]
pub struct Absences {
    wait: Duration,
    since: BTreeMap<NodeId, Monotonic>,
    rules: Rules,
}

impl Default for Absences {
    fn default() -> Self {
        Self::new(Duration::from_millis(NODE_LOST_MS))
    }
}

impl Absences {
    /// Nodes are lost after `wait`.
    #[must_use]
    pub fn new(wait: Duration) -> Self {
        Self::with_rules(wait, Rules::default())
    }

    /// As [`Self::new`], for runs in which a rule does not hold.
    #[must_use]
    pub fn with_rules(wait: Duration, rules: Rules) -> Self {
        Self { wait, since: BTreeMap::new(), rules }
    }

    /// Looks who is fenced now. To be called with every change of the image.
    pub fn observe(&mut self, image: &Image, now: Monotonic) {
        let fenced = |id: &NodeId| image.nodes.get(id).is_some_and(|node| node.fenced);
        self.since.retain(|id, _| fenced(id));
        for node in image.nodes.values().filter(|node| node.fenced) {
            self.since.entry(node.id).or_insert(now);
        }
    }

    /// Who is lost.
    #[must_use]
    pub fn lost(&self, now: Monotonic) -> BTreeSet<NodeId> {
        let wait = if self.rules.hold(Rule::LossNeedsTime) { self.wait } else { Duration::ZERO };
        self.since.iter().filter(|(_, since)| now.since(**since) >= wait).map(|(id, _)| *id).collect()
    }

    /// When somebody is lost next who is not lost `now`.
    #[must_use]
    pub fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        self.since.values().map(|since| since.plus(self.wait)).filter(|at| *at > now).min()
    }
}
