//! Messages that several protocols carry.

use std::collections::BTreeMap;

use bytes::Bytes;
use rafka_broker::metadata::{PartitionState, Role};
use rafka_broker::{ErrorCode, Failure, LeaderHint};
use rafka_model::limits::{
    ADDRESS_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, FAILURE_BYTES_MAX, LABEL_BYTES_MAX, NODE_ADDRESSES_MAX, NODES_MAX,
    TOPIC_CONFIGS_MAX, TOPIC_PARTITIONS_MAX,
};
use rafka_model::{LeaderEpoch, NodeId, PartitionEpoch, PartitionId, TopicId, TopicPartition};

use super::{DecodeError, bounded, clipped, fixed, fixed_bytes, optional_text, text};
use crate::proto;

pub(crate) fn failure_to_wire(failure: &Failure) -> proto::Failure {
    let leader = failure.leader.as_ref().map(|hint| proto::LeaderHint {
        node: hint.node.map(|node| node.0),
        epoch: hint.epoch.0,
        peer_id: hint.peer_id.clone(),
        addresses: hint.addresses.iter().take(NODE_ADDRESSES_MAX).cloned().collect(),
    });
    proto::Failure { code: failure.code.number(), message: clipped(&failure.message, FAILURE_BYTES_MAX), leader }
}

pub(crate) fn failure_from_wire(failure: proto::Failure) -> Result<Failure, DecodeError> {
    let mut message = text("error message", failure.message, FAILURE_BYTES_MAX + LABEL_BYTES_MAX)?;
    // A newer node may have codes that this one does not know; its words still help.
    let code = ErrorCode::from_number(failure.code).unwrap_or_else(|| {
        message = format!("error {}: {message}", failure.code);
        ErrorCode::Unknown
    });
    let leader = failure.leader.map(|hint| {
        Ok(Box::new(LeaderHint {
            node: hint.node.map(NodeId),
            epoch: LeaderEpoch(hint.epoch),
            peer_id: optional_text("peer id", hint.peer_id, LABEL_BYTES_MAX)?,
            addresses: addresses(hint.addresses)?,
        }))
    });
    Ok(Failure { code, message, leader: leader.transpose()? })
}

/// One item of an answer: its failure if there is one, else what `value` makes of it.
pub(crate) fn result_from_wire<T>(
    failure: Option<proto::Failure>,
    value: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<Result<T, Failure>, DecodeError> {
    match failure {
        Some(failure) => Ok(Err(failure_from_wire(failure)?)),
        None => Ok(Ok(value()?)),
    }
}

pub(crate) fn addresses(found: Vec<String>) -> Result<Vec<String>, DecodeError> {
    let found = bounded("addresses", found, NODE_ADDRESSES_MAX)?;
    found.into_iter().map(|address| text("address", address, ADDRESS_BYTES_MAX)).collect()
}

pub(crate) fn topic_id(bytes: &[u8]) -> Result<TopicId, DecodeError> {
    fixed("topic id", bytes).map(TopicId)
}

pub(crate) fn topic_id_to_wire(id: TopicId) -> Bytes {
    fixed_bytes(&id.0)
}

pub(crate) fn partition_id(index: u32) -> Result<PartitionId, DecodeError> {
    if index >= TOPIC_PARTITIONS_MAX {
        return Err(DecodeError::Invalid { what: "partition", found: index.to_string() });
    }
    Ok(PartitionId(index))
}

pub(crate) fn topic_partition(topic: &[u8], partition: u32) -> Result<TopicPartition, DecodeError> {
    Ok(TopicPartition { topic: topic_id(topic)?, partition: partition_id(partition)? })
}

pub(crate) fn node_ids(what: &'static str, ids: Vec<u64>) -> Result<Vec<NodeId>, DecodeError> {
    Ok(bounded(what, ids, NODES_MAX)?.into_iter().map(NodeId).collect())
}

pub(crate) fn node_ids_to_wire(ids: &[NodeId]) -> Vec<u64> {
    ids.iter().map(|id| id.0).collect()
}

pub(crate) fn role_to_wire(role: Role) -> u32 {
    match role {
        Role::Broker => 1,
        Role::Gateway => 2,
    }
}

pub(crate) fn role_from_wire(role: u32) -> Result<Role, DecodeError> {
    match role {
        1 => Ok(Role::Broker),
        2 => Ok(Role::Gateway),
        _ => Err(DecodeError::Missing("role")),
    }
}

pub(crate) fn state_to_wire(state: &PartitionState) -> proto::PartitionState {
    proto::PartitionState {
        replicas: node_ids_to_wire(&state.replicas),
        leader: state.leader.map(|leader| leader.0),
        leader_epoch: state.leader_epoch.0,
        partition_epoch: state.partition_epoch.0,
        isr: node_ids_to_wire(&state.isr),
        elr: node_ids_to_wire(&state.elr),
        adding: node_ids_to_wire(&state.adding),
        removing: node_ids_to_wire(&state.removing),
        last_known_elr: node_ids_to_wire(&state.last_known_elr),
        recovering: state.recovering,
        target: node_ids_to_wire(&state.target),
    }
}

pub(crate) fn state_from_wire(state: proto::PartitionState) -> Result<PartitionState, DecodeError> {
    Ok(PartitionState {
        replicas: node_ids("replicas", state.replicas)?,
        leader: state.leader.map(NodeId),
        leader_epoch: LeaderEpoch(state.leader_epoch),
        partition_epoch: PartitionEpoch(state.partition_epoch),
        isr: node_ids("in-sync replicas", state.isr)?,
        elr: node_ids("eligible leader replicas", state.elr)?,
        adding: node_ids("replicas that come", state.adding)?,
        removing: node_ids("replicas that go", state.removing)?,
        last_known_elr: node_ids("last known eligible replicas", state.last_known_elr)?,
        recovering: state.recovering,
        target: node_ids("replicas to be", state.target)?,
    })
}

/// A map on the wire, where a key without a value may mean something.
pub(crate) fn configs(found: Vec<proto::Config>) -> Result<BTreeMap<String, Option<String>>, DecodeError> {
    let mut configs = BTreeMap::new();
    for config in bounded("configs", found, TOPIC_CONFIGS_MAX)? {
        let key = text("config key", config.key, LABEL_BYTES_MAX)?;
        let value = optional_text("config value", config.value, CONFIG_VALUE_BYTES_MAX)?;
        if configs.insert(key.clone(), value).is_some() {
            return Err(DecodeError::Invalid { what: "config key", found: format!("{key} comes twice") });
        }
    }
    Ok(configs)
}

/// As [`configs`], where each key has a value.
pub(crate) fn set_configs(found: Vec<proto::Config>) -> Result<BTreeMap<String, String>, DecodeError> {
    let value = |(key, value): (String, Option<String>)| Ok((key, value.ok_or(DecodeError::Missing("config value"))?));
    configs(found)?.into_iter().map(value).collect()
}

pub(crate) fn set_configs_to_wire(configs: &BTreeMap<String, String>) -> Vec<proto::Config> {
    configs.iter().map(|(key, value)| proto::Config { key: key.clone(), value: Some(value.clone()) }).collect()
}
