//! Nodes and states, for unit tests.

use rafka_model::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};

use super::Identity;
pub(crate) use super::samples::{A, AT, B, History, ME};
use crate::metadata::PartitionState;

impl History {
    /// So many records of each epoch.
    pub(crate) fn of(runs: &[(i32, usize)]) -> Self {
        Self { start: 0, epochs: runs.iter().flat_map(|(epoch, count)| vec![*epoch; *count]).collect() }
    }
}

/// The registration that node `id` has at first: ten times its id.
pub(crate) fn identity(id: NodeId) -> Identity {
    Identity { node: id, broker_epoch: BrokerEpoch(id.0 * 10) }
}

/// [`ME`] leads in epoch 4; partition epoch 9.
pub(crate) fn state(isr: &[NodeId]) -> PartitionState {
    PartitionState {
        replicas: vec![ME, A, B],
        leader: Some(ME),
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(9),
        isr: isr.to_vec(),
        ..PartitionState::default()
    }
}
