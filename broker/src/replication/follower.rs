//! A replica that follows a leader: what it asks, and what it does with the answer.

use rafka_model::{LeaderEpoch, NodeId, Offset, TopicPartition};

use super::epochs::{Epochs, end_of};
use super::exchange::{FetchPartition, Fetched, FetchedPartition, Identity};
use super::rules::{Rule, Rules};
use crate::ErrorCode;
use crate::metadata::PartitionState;

/// What a follower's driver does with an answer. One at a time and in this order; only then may the partition be in a
/// fetch again, because a fetch is a promise to have what lies before its offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Check the CRC of each batch of the answer and append it as it is, as long as it begins at the log's end (the
    /// answer's remainder is dropped at the first that does not, or is damaged, and asked for again); then say
    /// [`Follower::appended`], also if there was none; then raise the log start to `log_start`, but not beyond the log's
    /// end. Appended bytes count by the topic's durability: nothing has to be synced here, but what is not flushed is not
    /// to be called [`FetchPartition::flushed`].
    Append {
        /// The leader's.
        high_watermark: Offset,
        /// The leader's.
        log_start: Offset,
    },
    /// Remove all records from this offset on, and all epochs that begin there or later (even if that is the log's end);
    /// before the log's start, begin the log anew there. The truncation *and* the epoch cache are durable before the
    /// partition is in a fetch again: else a crash brings records back that the leader was told are gone.
    Truncate(Offset),
    /// Remove everything and begin the log anew at this offset, durably before the partition is in a fetch again.
    Restart(Offset),
    /// Nothing now: ask again later, or once the metadata has news.
    Wait(ErrorCode),
    /// Not meant for this replica as it is now.
    Ignore,
}

/// A follower of one partition, from the opening of its log until it leads.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Follower {
    me: Identity,
    at: TopicPartition,
    epoch: LeaderEpoch,
    leader: Option<NodeId>,
    high_watermark: Offset,
    /// The leader's high watermark, as it said last.
    told: Offset,
    rules: Rules,
}

impl Follower {
    /// A follower in `state`. `high_watermark` is the one it knew as a replica: of its last checkpoint, but not before
    /// its log start; everything below is committed.
    #[must_use]
    pub fn new(me: Identity, at: TopicPartition, state: &PartitionState, high_watermark: Offset) -> Self {
        Self::with_rules(me, at, state, high_watermark, Rules::default())
    }

    /// As [`Self::new`], with a choice of rules.
    #[must_use]
    pub fn with_rules(
        me: Identity,
        at: TopicPartition,
        state: &PartitionState,
        high_watermark: Offset,
        rules: Rules,
    ) -> Self {
        let (epoch, leader) = (state.leader_epoch, state.leader);
        Self { me, at, epoch, leader, high_watermark, told: Offset::ZERO, rules }
    }

    /// Whom to ask; `None` if nobody leads, or this node does.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader.filter(|leader| *leader != self.me.node)
    }

    /// The epoch in which it believes.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Offset behind the last record that it knows to be committed.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The metadata has a new state for the partition. An older one changes nothing.
    pub fn change(&mut self, state: &PartitionState) {
        if state.leader_epoch >= self.epoch {
            (self.epoch, self.leader) = (state.leader_epoch, state.leader);
        }
    }

    /// What to ask for next; `None` if there is no leader to ask. `flushed` is what its disk is certain to have: a topic
    /// with `durability=fsync` is best flushed just before, since only a fetch tells the leader.
    #[must_use]
    pub fn request(&self, log: &impl Epochs, flushed: Offset, max_bytes: u32) -> Option<FetchPartition> {
        self.leader()?;
        let offset = log.log_end();
        Some(FetchPartition {
            at: self.at,
            leader_epoch: self.epoch,
            offset,
            last_fetched_epoch: log.latest_epoch(),
            flushed: flushed.min(offset),
            max_bytes,
        })
    }

    /// The answer to the outstanding request of the partition's [`Fetcher`](super::Fetcher).
    pub fn answered(&mut self, answer: &FetchedPartition, log: &impl Epochs) -> Step {
        let other_epoch = answer.leader_epoch != self.epoch && self.rules.hold(Rule::AnswersOfThisEpochCount);
        if answer.at != self.at || other_epoch || self.leader().is_none() {
            return Step::Ignore;
        }
        match answer.outcome {
            Fetched::Records { high_watermark, log_start, .. } => {
                self.told = high_watermark;
                Step::Append { high_watermark, log_start }
            }
            Fetched::Diverging { epoch, end } => {
                let to = self.truncation(epoch, end, log);
                // Only an unclean election takes committed records back.
                if to < log.log_start() && self.rules.hold(Rule::LogsBeginWhereTheLeaderHasThem) {
                    // Nothing of this log is left, and the leader may have what lies before it.
                    self.high_watermark = Offset::ZERO;
                    return Step::Restart(Offset::ZERO);
                }
                self.high_watermark = self.high_watermark.min(to);
                Step::Truncate(to)
            }
            // A log without epochs is empty: it begins where the leader's does.
            Fetched::Behind { log_start } if log_start > log.log_end() || log.latest_epoch().is_none() => {
                // What lies before a leader's log start was committed.
                self.high_watermark = log_start;
                Step::Restart(log_start)
            }
            Fetched::Behind { .. } => Step::Ignore,
            Fetched::Refused(code) => Step::Wait(code),
        }
    }

    /// Where to cut: the leader has nothing of `epoch` (or of a later one that this log knows) from `end` on.
    fn truncation(&self, epoch: LeaderEpoch, end: Offset, log: &impl Epochs) -> Offset {
        if !self.rules.hold(Rule::EpochsDecideTruncation) {
            return self.high_watermark.min(log.log_end());
        }
        let end = end.min(log.log_end());
        match end_of(log, epoch) {
            Some((_, own)) if self.rules.hold(Rule::OwnEpochsBoundTruncation) => own.min(end),
            _ => end,
        }
    }

    /// The batches of the answer are appended, as far as they were good; the log ends at `log_end`. Returns what it knows
    /// to be committed now.
    pub fn appended(&mut self, log_end: Offset) -> Offset {
        self.high_watermark = self.high_watermark.max(self.told.min(log_end));
        self.high_watermark
    }
}

#[cfg(test)]
mod tests;
