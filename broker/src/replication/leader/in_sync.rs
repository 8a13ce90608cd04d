//! The in-sync set: who counts for the high watermark, and what the leader proposes to the controller.
//!
//! The controller alone decides. Between a proposal and the state that answers it, both sets may be true, so the leader
//! counts everybody who is in either (the *maximal* set), and gives that up only for a higher partition epoch. At most one
//! proposal stands for a partition epoch, or a second that the controller cannot accept beside the first.

use std::time::Duration;

use rafka_model::limits::{ALTER_PARTITION_RETRY_MS, ALTER_PARTITION_TIMEOUT_MS, INELIGIBLE_REPLICA_MS};
use rafka_model::{BrokerEpoch, Monotonic, NodeId, Offset, PartitionEpoch};

use super::progress::Progress;
use super::{Leader, Output};
use crate::ErrorCode;
use crate::metadata::PartitionState;
use crate::replication::exchange::AlterPartition;
use crate::replication::rules::{Rule, Rules};

/// What the controller has committed, as far as the leader has heard, and what it may have committed beyond.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct InSync {
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) isr: Vec<NodeId>,
    pub(super) elr: Vec<NodeId>,
    /// The election was unclean, and the controller has not heard yet that the leader recovered.
    pub(super) recovering: bool,
    /// Everybody whom the controller may elect, itself included.
    pub(super) maximal: Vec<NodeId>,
    pub(super) pending: Option<Pending>,
    /// What was proposed in vain, or only to have the controller think again, is not proposed before.
    not_before: Monotonic,
}

/// A proposal without an answer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Pending {
    pub(super) proposal: AlterPartition,
    again_at: Monotonic,
}

impl InSync {
    pub(super) fn new(me: NodeId, state: &PartitionState, rules: Rules) -> Self {
        let mut in_sync = Self {
            partition_epoch: state.partition_epoch,
            isr: state.isr.clone(),
            elr: state.elr.clone(),
            recovering: state.recovering,
            maximal: Vec::new(),
            pending: None,
            not_before: Monotonic::default(),
        };
        in_sync.count(me, rules);
        in_sync
    }

    /// Back to what is committed.
    fn count(&mut self, me: NodeId, rules: Rules) {
        self.maximal.clone_from(&self.isr);
        // Empty as long as the set is large enough, except where `min.insync.replicas` was lowered.
        if rules.hold(Rule::MinInsyncCommits) {
            self.maximal.extend(&self.elr);
        }
        if !self.maximal.contains(&me) {
            self.maximal.push(me);
        }
    }
}

impl Leader {
    /// The controller has committed another state in this epoch.
    pub(super) fn adopt(&mut self, state: PartitionState) {
        let (end, now) = (self.log.end, self.now);
        self.followers.retain(|replica, _| state.replicas.contains(replica));
        for replica in state.replicas.iter().filter(|replica| **replica != self.me.node) {
            self.followers.entry(*replica).or_insert_with(|| Progress::new(end, now));
        }
        let in_sync = &mut self.in_sync;
        in_sync.partition_epoch = state.partition_epoch;
        (in_sync.isr, in_sync.elr, in_sync.recovering) = (state.isr, state.elr, state.recovering);
        in_sync.pending = None;
        in_sync.count(self.me.node, self.rules);
    }

    /// Proposes what the in-sync set should be, if it should be another; again, if the last attempt came to nothing.
    pub(super) fn propose(&mut self, out: &mut Vec<Output>) {
        if let Some(pending) = &mut self.in_sync.pending {
            if pending.again_at <= self.now {
                out.push(Output::Propose(pending.proposal.clone()));
                self.send_again_after(ALTER_PARTITION_TIMEOUT_MS);
            }
            return;
        }
        let isr = if self.in_sync.recovering && self.rules.hold(Rule::RecoveryIsSaid) {
            Some(self.in_sync.isr.clone())
        } else {
            self.shrunk().or_else(|| self.expanded()).or_else(|| self.confirmed())
        };
        if let Some(isr) = isr {
            self.send(isr, out);
        }
    }

    fn send(&mut self, isr: Vec<NodeId>, out: &mut Vec<Output>) {
        let in_sync = &mut self.in_sync;
        if isr.len() < in_sync.isr.len() && !self.rules.hold(Rule::DroppedCountUntilCommitted) {
            in_sync.maximal.clone_from(&isr);
        }
        if self.rules.hold(Rule::MaximalIsrCounts) {
            let new = isr.iter().filter(|member| !in_sync.maximal.contains(member));
            let new: Vec<_> = new.copied().collect();
            in_sync.maximal.extend(new);
        }
        let proposal = AlterPartition {
            at: self.at,
            leader: self.me.node,
            broker_epoch: self.me.broker_epoch,
            leader_epoch: self.epoch,
            partition_epoch: self.in_sync.partition_epoch,
            isr: isr.into_iter().map(|member| (member, self.registration(member))).collect(),
            recovered: self.in_sync.recovering && self.rules.hold(Rule::RecoveryIsSaid),
        };
        out.push(Output::Propose(proposal.clone()));
        self.in_sync.pending = Some(Pending { proposal, again_at: Monotonic::default() });
        self.send_again_after(ALTER_PARTITION_TIMEOUT_MS);
    }

    fn send_again_after(&mut self, ms: u64) {
        let again_at = match self.rules.hold(Rule::UnknownOutcomesAreSentAgain) {
            true => self.now.plus(Duration::from_millis(ms)),
            false => Monotonic(u64::MAX),
        };
        if let Some(pending) = &mut self.in_sync.pending {
            pending.again_at = again_at;
        }
    }

    /// The registration in which a member fetched; of one that has not, in this epoch, the current one.
    fn registration(&self, member: NodeId) -> BrokerEpoch {
        if member == self.me.node {
            return self.me.broker_epoch;
        }
        let current = self.members.get(&member).copied();
        match self.followers.get(&member).and_then(|follower| follower.registration) {
            Some(fetched) if self.rules.hold(Rule::RegistrationsMatch) => fetched,
            _ => current.unwrap_or_default(),
        }
    }

    /// The set without those that lag; `None` if nobody does.
    fn shrunk(&self) -> Option<Vec<NodeId>> {
        let keeps = |member: &&NodeId| self.followers.get(member).is_none_or(|follower| !self.lags(follower));
        let kept: Vec<_> = self.in_sync.isr.iter().filter(keeps).copied().collect();
        (kept.len() < self.in_sync.isr.len()).then_some(kept)
    }

    fn is_at_end(&self, follower: &Progress) -> bool {
        follower.position.is_some_and(|position| self.safe(position) >= self.log.end)
    }

    fn lags(&self, follower: &Progress) -> bool {
        !self.is_at_end(follower) && self.now.since(follower.caught_up) >= self.config.lag_max
    }

    /// The set with those that may be in it; `None` if there is nobody new.
    fn expanded(&self) -> Option<Vec<NodeId>> {
        if self.now < self.in_sync.not_before {
            return None;
        }
        let new = self
            .followers
            .iter()
            .filter(|(replica, follower)| !self.in_sync.isr.contains(replica) && self.is_eligible(**replica, follower));
        let new: Vec<_> = new.map(|(replica, _)| *replica).collect();
        (!new.is_empty()).then(|| [&*self.in_sync.isr, &new].concat())
    }

    fn is_eligible(&self, replica: NodeId, follower: &Progress) -> bool {
        let Some(position) = follower.position else { return false };
        let (reaches, current) = (self.safe(position), self.members.get(&replica));
        let registered = current.is_some() && current == follower.registration.as_ref();
        (registered || !self.rules.hold(Rule::RegistrationsMatch))
            && (reaches >= self.elected_at || !self.rules.hold(Rule::ReachesTheElection))
            && (reaches >= self.high_watermark || !self.rules.hold(Rule::ReachesTheHighWatermark))
            // Else it would leave again at once.
            && !self.lags(follower)
    }

    /// What became of the proposal that rested on `partition_epoch`. Success says only that news is under way: which of
    /// several copies and proposals succeeded, only the new state tells.
    pub(super) fn answered(
        &mut self,
        partition_epoch: PartitionEpoch,
        result: Result<PartitionEpoch, ErrorCode>,
        out: &mut Vec<Output>,
    ) {
        let Some(pending) = self.in_sync.pending.as_ref().filter(|_| partition_epoch == self.in_sync.partition_epoch)
        else {
            return;
        };
        let has_new = pending.proposal.isr.iter().any(|(member, _)| !self.in_sync.isr.contains(member));
        match result {
            Err(ErrorCode::IneligibleReplica) if has_new => {
                self.in_sync.not_before = self.now.plus(Duration::from_millis(INELIGIBLE_REPLICA_MS));
                self.in_sync.pending = None;
                if self.rules.hold(Rule::IneligibleIsNotRolledBack) {
                    // Whichever copy commits first, the state that it brings ends the doubt.
                    self.send(self.in_sync.isr.clone(), out);
                } else {
                    self.in_sync.count(self.me.node, self.rules);
                }
            }
            Ok(_)
            | Err(
                ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::StaleBrokerEpoch
                | ErrorCode::UnknownTopicId
                | ErrorCode::UnknownTopicOrPartition,
            ) => self.send_again_after(ALTER_PARTITION_TIMEOUT_MS),
            Err(_) => self.send_again_after(ALTER_PARTITION_RETRY_MS),
        }
    }

    /// The same set, if the controller is to think again who is eligible; not too often, in case it thinks the same.
    fn confirmed(&mut self) -> Option<Vec<NodeId>> {
        if self.now < self.in_sync.not_before || !self.counts_the_eligible() {
            return None;
        }
        self.in_sync.not_before = self.now.plus(Duration::from_millis(INELIGIBLE_REPLICA_MS));
        Some(self.in_sync.isr.clone())
    }

    /// Enough replicas to commit, as the controller counts when it keeps others eligible: nobody can wait for more than
    /// there are (Kafka's effective minimum). By what is committed: an eligible leader replica that a proposal would end is
    /// still eligible, and lacks what the proposed set would commit.
    fn enough_to_commit(&self) -> bool {
        let replicas = self.followers.len() + 1;
        self.in_sync.isr.len() >= replicas.min(self.config.min_insync as usize)
    }

    /// After `min.insync.replicas` was lowered there may be eligible leader replicas beside a set that is large enough. They
    /// count, and may never come back.
    fn counts_the_eligible(&self) -> bool {
        !self.in_sync.elr.is_empty() && self.enough_to_commit()
    }

    /// Nodes came or went.
    pub(super) fn meet(&mut self, members: super::Members) {
        if members != self.members {
            self.in_sync.not_before = Monotonic::default();
        }
        self.members = members;
    }

    /// When to look at the in-sync set again.
    pub(super) fn next_look(&self) -> Option<Monotonic> {
        if let Some(pending) = &self.in_sync.pending {
            return Some(pending.again_at).filter(|at| *at < Monotonic(u64::MAX));
        }
        if self.in_sync.recovering && self.rules.hold(Rule::RecoveryIsSaid) {
            return Some(self.now);
        }
        if self.counts_the_eligible() {
            return Some(self.now.max(self.in_sync.not_before));
        }
        let isr = self.in_sync.isr.iter().filter_map(|member| self.followers.get(member));
        let behind = isr.filter(|follower| !self.is_at_end(follower));
        behind.map(|follower| follower.caught_up.plus(self.config.lag_max)).min()
    }

    /// Raises the high watermark to what every replica has that may be elected; true if it moved.
    pub(super) fn commit(&mut self) -> bool {
        if !self.enough_to_commit() && self.rules.hold(Rule::MinInsyncCommits) {
            return false;
        }
        let mut committed = self.safe(self.log);
        for member in self.in_sync.maximal.iter().filter(|member| **member != self.me.node) {
            let position = self.followers.get(member).and_then(|follower| follower.position);
            committed = committed.min(position.map_or(Offset::ZERO, |position| self.safe(position)));
        }
        let moves = match self.rules.hold(Rule::HighWatermarkNeverFalls) {
            true => committed > self.high_watermark,
            false => committed != self.high_watermark,
        };
        if moves {
            self.high_watermark = committed;
        }
        moves
    }
}
