//! One replica: its log, what is known beside it, and the machine of its role.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rafka_broker::producer::States;
use rafka_broker::replication::{Epochs, Follower, Leader, Ticket};
use rafka_broker::request::Acks;
use rafka_log::{LogReader, PartitionLog};
use rafka_model::{LeaderEpoch, Monotonic, Offset, PartitionEpoch, TopicConfig};

use crate::seeds::event::Address;
use crate::seeds::shadow::Shadow;

#[derive(Debug)]
pub(in crate::seeds) struct Replica {
    pub(in crate::seeds) log: PartitionLog,
    pub(in crate::seeds) reader: LogReader,
    pub(in crate::seeds) shadow: Shadow,
    pub(in crate::seeds) role: Role,
    pub(super) producers: States,
    pub(super) config: Arc<TopicConfig>,
    /// The state that it was told last.
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) waiting: BTreeMap<Ticket, Waiting>,
    pub(super) next_ticket: u64,
    pub(super) flushing: bool,
    /// Up to where what it committed was compared with what is known to be committed.
    pub(super) compared: Offset,
    /// When a follower was heard last, or the replica began to lead.
    pub(super) contact: Monotonic,
    /// Appended as a leader and not committed yet: for the cache.
    pub(super) uncommitted: Vec<(Offset, Offset, Bytes)>,
}

#[derive(Debug)]
pub(in crate::seeds) enum Role {
    Leader(Box<Leader>),
    Follower(Box<Follower>),
}

/// Who waits for a produce.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) client: Address,
    pub(super) request: u64,
    pub(super) acks: Acks,
    pub(super) next: Offset,
}

impl Replica {
    pub(in crate::seeds) fn high_watermark(&self) -> Offset {
        match &self.role {
            Role::Leader(leader) => leader.high_watermark(),
            Role::Follower(follower) => follower.high_watermark(),
        }
    }

    /// The leader epoch in which it believes.
    pub(in crate::seeds) fn epoch(&self) -> LeaderEpoch {
        match &self.role {
            Role::Leader(leader) => leader.epoch(),
            Role::Follower(follower) => follower.epoch(),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        match &self.role {
            Role::Leader(leader) => leader.next_deadline(),
            Role::Follower(_) => None,
        }
    }

    pub(in crate::seeds) fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) => None,
        }
    }
}

/// A log, as the machines look at it.
pub(super) struct History<'a>(pub(super) &'a LogReader);

impl Epochs for History<'_> {
    fn log_start(&self) -> Offset {
        self.0.log_start()
    }

    fn log_end(&self) -> Offset {
        self.0.log_end()
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.0.end_offset_for_epoch(epoch)
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.0.latest_epoch()
    }
}
