//! Who was heard when. Kept in memory only: a new controller presumes every node in service alive for a full session.

use std::collections::BTreeMap;
use std::time::Duration;

use rafka_model::{Monotonic, NodeId};

#[derive(Debug)]
pub(super) struct Sessions {
    session: Duration,
    by_node: BTreeMap<NodeId, Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    ends: Monotonic,
    heard: Monotonic,
    /// This controller heard the node itself.
    confirmed: bool,
}

impl Sessions {
    pub(super) fn new(session: Duration) -> Self {
        Self { session, by_node: BTreeMap::new() }
    }

    /// Begins a session for a node that another controller left in service.
    pub(super) fn presume(&mut self, node: NodeId, now: Monotonic) {
        self.by_node.insert(node, Session { ends: now.plus(self.session), heard: now, confirmed: false });
    }

    /// Begins the session of a node that was heard anew.
    pub(super) fn confirm(&mut self, node: NodeId, now: Monotonic) {
        self.by_node.insert(node, Session { ends: now.plus(self.session), heard: now, confirmed: true });
    }

    pub(super) fn end(&mut self, node: NodeId) {
        self.by_node.remove(&node);
    }

    /// The node was heard within the last quarter of a session: three heartbeats, so a process that was killed makes way
    /// for its successor soon, while one that lives is not displaced.
    pub(super) fn is_live(&self, node: NodeId, now: Monotonic) -> bool {
        self.by_node.get(&node).is_some_and(|session| session.confirmed && now.since(session.heard) < self.session / 4)
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.by_node.values().map(|session| session.ends).min()
    }

    /// Ends the sessions that are over; or, when that is noticed late by half a session, begins all of them anew.
    pub(super) fn expire(&mut self, now: Monotonic) -> Vec<NodeId> {
        let late = self.next_deadline().map(|ends| now.since(ends)).unwrap_or_default();
        if late > self.session / 2 {
            for session in self.by_node.values_mut() {
                session.ends = now.plus(self.session);
            }
        }
        let over: Vec<_> = self.by_node.iter().filter(|(_, session)| session.ends <= now).map(|(id, _)| *id).collect();
        over.iter().for_each(|id| self.end(*id));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(6);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_ends_a_session_and_a_heartbeat_prolongs_it() {
        let mut sessions = Sessions::new(SESSION);
        sessions.confirm(NodeId(1), at(0));
        sessions.presume(NodeId(2), at(0));
        sessions.confirm(NodeId(1), at(4));
        assert_eq!(sessions.next_deadline(), Some(at(6)));
        assert_eq!(sessions.expire(at(5)), []);
        assert_eq!(sessions.expire(at(6)), [NodeId(2)]);
        assert!(sessions.is_live(NodeId(1), at(5)) && !sessions.is_live(NodeId(1), at(6)));
        assert_eq!(sessions.expire(at(10)), [NodeId(1)]);
        assert_eq!(sessions.next_deadline(), None);
    }

    #[test]
    fn a_presumed_session_does_not_stand_in_the_way_of_a_restart() {
        let mut sessions = Sessions::new(SESSION);
        sessions.presume(NodeId(1), at(0));
        assert!(!sessions.is_live(NodeId(1), at(1)));
    }

    #[test]
    fn a_controller_that_slept_fences_nobody_for_its_own_silence() {
        let mut sessions = Sessions::new(SESSION);
        sessions.confirm(NodeId(1), at(0));
        assert_eq!(sessions.expire(at(60)), []);
        assert_eq!(sessions.expire(at(66)), [NodeId(1)], "but silence after it woke counts");
    }
}
