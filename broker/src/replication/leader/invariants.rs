//! What must hold of a leader after every step.

use super::Leader;
use crate::invariants::{Violation, hold};

impl Leader {
    /// Checks this leader by itself (invariant 3 of the cluster protocol, and what its parts promise one another).
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        let (log, mark, in_sync) = (self.log, self.high_watermark, &self.in_sync);
        hold!(log.flushed <= log.end, "flushed up to {}, the log ends at {}", log.flushed, log.end);
        hold!(mark <= log.end, "high watermark {mark}, the log ends at {}", log.end);
        hold!(in_sync.maximal.contains(&self.me.node), "the leader does not count itself");
        for member in in_sync.isr.iter().chain(&in_sync.elr) {
            hold!(in_sync.maximal.contains(member), "{member} may be elected, but does not count");
        }
        hold!(!self.followers.contains_key(&self.me.node), "the leader follows itself");
        if let Some(pending) = self.pending() {
            let (proposed, epoch) = (pending.partition_epoch, in_sync.partition_epoch);
            hold!(proposed == epoch, "proposed on partition epoch {proposed}, which is {epoch}");
            for (member, _) in &pending.isr {
                hold!(in_sync.maximal.contains(member), "{member} is proposed, but does not count");
            }
        }
        for (replica, follower) in &self.followers {
            let known = follower.position.is_none() || follower.registration.is_some();
            hold!(known, "the position of {replica} is known without a fetch");
        }
        let waits = self.uncommitted.len() + self.unflushed.len();
        hold!(!self.resigned || waits == 0, "{waits} wait for a leader that resigned");
        hold!(self.enough_in_sync() || self.uncommitted.is_empty(), "produces wait for a set that is too small");
        Ok(())
    }
}
