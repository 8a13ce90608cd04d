//! How the node is: started or not, and what keeps it from being ready.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// Health of the node. Cheap to clone; every part that can keep the node from being ready has one.
#[derive(Clone)]
pub struct Health(Arc<watch::Sender<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    started: bool,
    holds: BTreeMap<&'static str, String>,
    failed: Option<String>,
}

/// Something that keeps the node from being ready.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Hold {
    /// Which part.
    pub part: &'static str,
    /// Why, for people.
    pub reason: String,
}

/// The answer to a probe.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// The probe's answer.
    pub ok: bool,
    /// Why not, if not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Hold>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&*self.0.borrow()).finish()
    }
}

impl Health {
    /// Of a node that has not started yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// The node has started: its identity is known, its logs are open, its doors listen.
    pub fn started(&self) {
        self.0.send_modify(|state| state.started = true);
    }

    /// The node came into service, or left it. The first time it also counts as started.
    pub fn set_ready(&self, ready: bool) {
        if ready {
            self.started();
            self.release("service");
        } else {
            self.hold("service", "the node is out of service");
        }
    }

    /// `part` keeps the node from being ready until it is [released](Self::release); says why, anew at each call.
    pub fn hold(&self, part: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        self.0.send_if_modified(|state| state.holds.insert(part, reason.clone()).is_none_or(|old| old != reason));
    }

    /// `part` is fine.
    pub fn release(&self, part: &'static str) {
        self.0.send_if_modified(|state| state.holds.remove(part).is_some());
    }

    /// Something is broken that only a restart can mend. The first reason stays.
    pub fn failed(&self, reason: impl Into<String>) {
        self.0.send_modify(|state| {
            state.failed.get_or_insert_with(|| reason.into());
        });
    }

    /// `/livez`: false when only a restart helps.
    #[must_use]
    pub fn live(&self) -> Report {
        Report::of(self.0.borrow().failure())
    }

    /// `/startupz`: has it come up?
    #[must_use]
    pub fn startup(&self) -> Report {
        Report::of(self.0.borrow().not_started())
    }

    /// `/readyz`: can it serve?
    #[must_use]
    pub fn ready(&self) -> Report {
        let state = self.0.borrow();
        let holds = state.holds.iter().map(|(part, reason)| Hold { part, reason: reason.clone() });
        Report::of(state.failure().chain(state.not_started()).chain(holds))
    }

    /// Waits until the node is ready. Cancel safe.
    pub async fn wait_ready(&self) {
        let mut changes = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = changes.wait_for(|state| state.started && state.holds.is_empty() && state.failed.is_none()).await;
    }
}

impl State {
    fn failure(&self) -> std::option::IntoIter<Hold> {
        self.failed.as_ref().map(|reason| Hold { part: "node", reason: reason.clone() }).into_iter()
    }

    fn not_started(&self) -> std::option::IntoIter<Hold> {
        let hold = Hold { part: "start", reason: "the node is starting".to_owned() };
        Some(hold).filter(|_| !self.started).into_iter()
    }
}

impl Report {
    fn of(reasons: impl Iterator<Item = Hold>) -> Self {
        let reasons: Vec<Hold> = reasons.collect();
        Self { ok: reasons.is_empty(), reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_ready_once_nothing_holds_it() {
        let health = Health::new();
        assert!(health.live().ok && !health.startup().ok && !health.ready().ok);
        health.hold("membership", "waiting for the cluster");
        health.started();
        assert!(health.startup().ok && !health.ready().ok);
        assert_eq!(health.ready().reasons[0].reason, "waiting for the cluster");
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { health.wait_ready().await }
        });
        health.release("membership");
        health.set_ready(true);
        waiting.await.expect("wakes up");
        assert!(health.ready().ok);
        health.set_ready(false);
        assert_eq!(health.ready().reasons[0].part, "service");
        health.set_ready(true);
        health.failed("the disk died");
        health.failed("and so on");
        assert_eq!(health.live().reasons, [Hold { part: "node", reason: "the disk died".to_owned() }]);
        assert!(!health.ready().ok);
    }
}
