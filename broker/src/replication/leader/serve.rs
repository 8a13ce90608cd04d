//! Serving followers: what a fetch tells the leader, and what it is answered with.

use rafka_model::{Durability, Monotonic, Offset};

use super::{Leader, Output, Position, Verdict};
use crate::ErrorCode;
use crate::replication::epochs::{Epochs, divergence};
use crate::replication::exchange::{FetchPartition, ReplicaFetch};
use crate::replication::rules::Rule;

impl Leader {
    /// A follower fetches `partition`, in the request `who`. The caller reads `log` under the lock under which it appends.
    pub fn fetched(
        &mut self,
        who: &ReplicaFetch,
        partition: &FetchPartition,
        log: &impl Epochs,
        now: Monotonic,
        out: &mut Vec<Output>,
    ) -> Verdict {
        self.now = self.now.max(now);
        if self.resigned {
            return Verdict::Refused(ErrorCode::NotLeaderOrFollower);
        }
        let this_epoch = self.check_epoch(Some(partition.leader_epoch));
        let Some(follower) = self.followers.get_mut(&who.replica) else {
            // Perhaps not yet one: the metadata may be ahead of this node.
            return Verdict::Refused(this_epoch.err().unwrap_or(ErrorCode::NotLeaderOrFollower));
        };
        if let Err(code) = this_epoch
            && self.rules.hold(Rule::FetchesOfThisEpochCount)
        {
            return Verdict::Refused(code);
        }
        if !follower.hear(who, now, self.rules) {
            return Verdict::Ignored;
        }
        let log_start = log.log_start();
        if this_epoch.is_ok() && partition.offset < log_start {
            return Verdict::Behind { log_start };
        }
        // Empty, but not from this log's start: it began where an earlier leader's log began. A member has all the same.
        let elsewhere = partition.last_fetched_epoch.is_none() && partition.offset > log_start;
        let member = self.in_sync.maximal.contains(&who.replica);
        if this_epoch.is_ok() && elsewhere && !member && self.rules.hold(Rule::LogsBeginWhereTheLeaderHasThem) {
            return Verdict::Behind { log_start };
        }
        if this_epoch.is_ok()
            && self.rules.hold(Rule::LogsAreCompared)
            && let Some((epoch, end)) = divergence(log, partition.offset, partition.last_fetched_epoch)
        {
            return Verdict::Diverging { epoch, end };
        }
        let position = Position { end: partition.offset, flushed: partition.flushed.min(partition.offset) };
        let safe = self.safe(position);
        if let Some(follower) = self.followers.get_mut(&who.replica) {
            follower.reaches(position, safe, self.log.end, now);
        }
        self.propose(out);
        self.advance(out);
        match this_epoch {
            Ok(()) => Verdict::Serve { high_watermark: self.high_watermark, log_start },
            Err(code) => Verdict::Refused(code),
        }
    }

    /// What counts of a replica's log.
    pub(super) fn safe(&self, position: Position) -> Offset {
        match self.config.durability {
            Durability::Fsync if self.rules.hold(Rule::FlushedCounts) => position.flushed,
            _ => position.end,
        }
    }
}
