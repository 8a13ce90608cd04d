//! `/rafka/<cid>/admin/1`: metadata requests. Reads are answered by any node, changes by the controller.
//!
//! The answer is a protobuf message in the body: a description of every topic may be larger than any header.

mod disk;
mod reply;
mod swarm;

use std::collections::BTreeMap;

use rafka_broker::request::{Admin, ConfigChange, NewTopic};
use rafka_model::limits::{
    CONFIG_VALUE_BYTES_MAX, LABEL_BYTES_MAX, REQUEST_PARTITIONS_MAX, TOPIC_CONFIGS_MAX, TOPIC_PARTITIONS_MAX,
};
use rafka_model::{MetadataIndex, NodeId};

use crate::Frame;
use crate::proto::{self, admin_request::Kind};
use crate::wire::{
    self, DecodeError, bounded, header_only, no_body, node_ids, node_ids_to_wire, optional_text, set_configs,
    set_configs_to_wire, text, topic_id, topic_id_to_wire,
};

pub use reply::{decode_reply, encode_reply};

/// Operations on a config: of a value, or of the words of a list.
const SET: u32 = 0;
const APPEND: u32 = 1;
const SUBTRACT: u32 = 2;

/// Encodes a request.
#[must_use]
pub fn encode_request(request: &Admin) -> Frame {
    let kind = match request {
        Admin::CreateTopics { topics, validate_only } => Kind::CreateTopics(proto::CreateTopics {
            topics: topics.iter().map(new_topic_to_wire).collect(),
            validate_only: *validate_only,
        }),
        Admin::DeleteTopics { names, validate_only } => {
            Kind::DeleteTopics(proto::DeleteTopics { names: names.clone(), validate_only: *validate_only })
        }
        Admin::DeleteTopicsById { ids } => Kind::DeleteTopicsById(proto::DeleteTopicsById {
            ids: ids.iter().map(|id| topic_id_to_wire(*id)).collect(),
        }),
        Admin::AlterConfigs { name, changes, replace, validate_only } => Kind::AlterConfigs(proto::AlterConfigs {
            name: name.clone(),
            changes: changes.iter().map(change_to_wire).collect(),
            validate_only: *validate_only,
            replace: *replace,
        }),
        Admin::AddPartitions { name, total, assignments, validate_only } => Kind::AddPartitions(proto::AddPartitions {
            name: name.clone(),
            total: *total,
            validate_only: *validate_only,
            assignments: assignments_to_wire(assignments),
        }),
        Admin::DescribeTopics { names, since } => {
            Kind::DescribeTopics(proto::DescribeTopics { names: names.clone(), since: since.0 })
        }
        Admin::DescribeCluster => Kind::DescribeCluster(proto::DescribeCluster {}),
        Admin::DescribeSwarm => Kind::DescribeSwarm(proto::DescribeSwarm {}),
        Admin::DescribeLogDirs => Kind::DescribeLogDirs(proto::DescribeLogDirs {}),
        Admin::InitProducerId => Kind::InitProducerId(proto::InitProducerId {}),
        Admin::AllocateProducerIds => Kind::AllocateProducerIds(proto::AllocateProducerIds {}),
    };
    header_only(&proto::AdminRequest { kind: Some(kind) })
}

/// Decodes a request. Names and configs are bounded here; whether they are legal is for the controller to say.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_request(frame: &Frame) -> Result<Admin, DecodeError> {
    no_body(frame)?;
    let limit = REQUEST_PARTITIONS_MAX + 8;
    let wire: proto::AdminRequest = wire::decode(frame.header(), "fields of a request", limit, &[1, 2, 3, 4, 5, 8])?;
    Ok(match wire.kind.ok_or(DecodeError::Missing("kind of request"))? {
        Kind::CreateTopics(create) => Admin::CreateTopics {
            topics: bounded("topics", create.topics, REQUEST_PARTITIONS_MAX)?
                .into_iter()
                .map(new_topic_from_wire)
                .collect::<Result<_, _>>()?,
            validate_only: create.validate_only,
        },
        Kind::DeleteTopics(delete) => {
            Admin::DeleteTopics { names: names(delete.names)?, validate_only: delete.validate_only }
        }
        Kind::DeleteTopicsById(delete) => Admin::DeleteTopicsById {
            ids: bounded("topic ids", delete.ids, REQUEST_PARTITIONS_MAX)?
                .iter()
                .map(|id| topic_id(id))
                .collect::<Result<_, _>>()?,
        },
        Kind::AlterConfigs(alter) => Admin::AlterConfigs {
            name: name(alter.name)?,
            changes: changes(alter.changes)?,
            replace: alter.replace,
            validate_only: alter.validate_only,
        },
        Kind::AddPartitions(add) => Admin::AddPartitions {
            name: name(add.name)?,
            total: add.total,
            assignments: assignments(add.assignments)?,
            validate_only: add.validate_only,
        },
        Kind::DescribeTopics(describe) => {
            Admin::DescribeTopics { names: names(describe.names)?, since: MetadataIndex(describe.since) }
        }
        Kind::DescribeCluster(_) => Admin::DescribeCluster,
        Kind::DescribeSwarm(_) => Admin::DescribeSwarm,
        Kind::DescribeLogDirs(_) => Admin::DescribeLogDirs,
        Kind::InitProducerId(_) => Admin::InitProducerId,
        Kind::AllocateProducerIds(_) => Admin::AllocateProducerIds,
    })
}

fn new_topic_to_wire(topic: &NewTopic) -> proto::NewTopic {
    proto::NewTopic {
        name: topic.name.clone(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor.map(u32::from),
        configs: set_configs_to_wire(&topic.configs),
        assignments: assignments_to_wire(&topic.assignments),
    }
}

fn new_topic_from_wire(topic: proto::NewTopic) -> Result<NewTopic, DecodeError> {
    Ok(NewTopic {
        name: name(topic.name)?,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor.map(factor).transpose()?,
        configs: set_configs(topic.configs)?,
        assignments: assignments(topic.assignments)?,
    })
}

fn assignments_to_wire(assignments: &[Vec<NodeId>]) -> Vec<proto::Assignment> {
    assignments.iter().map(|replicas| proto::Assignment { nodes: node_ids_to_wire(replicas) }).collect()
}

fn assignments(found: Vec<proto::Assignment>) -> Result<Vec<Vec<NodeId>>, DecodeError> {
    let found = bounded("assignments", found, TOPIC_PARTITIONS_MAX as usize)?;
    found.into_iter().map(|assignment| node_ids("replicas", assignment.nodes)).collect()
}

fn change_to_wire((key, change): (&String, &ConfigChange)) -> proto::ConfigChange {
    let (value, operation) = match change {
        ConfigChange::Set(value) => (Some(value), SET),
        ConfigChange::Reset => (None, SET),
        ConfigChange::Append(words) => (Some(words), APPEND),
        ConfigChange::Subtract(words) => (Some(words), SUBTRACT),
    };
    proto::ConfigChange { key: key.clone(), value: value.cloned(), operation }
}

fn changes(found: Vec<proto::ConfigChange>) -> Result<BTreeMap<String, ConfigChange>, DecodeError> {
    let mut changes = BTreeMap::new();
    for change in bounded("configs", found, TOPIC_CONFIGS_MAX)? {
        let key = text("config key", change.key, LABEL_BYTES_MAX)?;
        let value = optional_text("config value", change.value, CONFIG_VALUE_BYTES_MAX)?;
        let change = match (change.operation, value) {
            (SET, Some(value)) => ConfigChange::Set(value),
            (SET, None) => ConfigChange::Reset,
            (APPEND, Some(words)) => ConfigChange::Append(words),
            (SUBTRACT, Some(words)) => ConfigChange::Subtract(words),
            _ => return Err(DecodeError::Missing("operation on a config")),
        };
        if changes.insert(key.clone(), change).is_some() {
            return Err(DecodeError::Invalid { what: "config key", found: format!("{key} comes twice") });
        }
    }
    Ok(changes)
}

fn factor(factor: u32) -> Result<u16, DecodeError> {
    u16::try_from(factor).map_err(|_| DecodeError::Invalid { what: "replication factor", found: factor.to_string() })
}

/// A name that need not be legal: longer ones than any topic's are let through, to be refused with the better words.
fn name(found: String) -> Result<String, DecodeError> {
    text("topic name", found, CONFIG_VALUE_BYTES_MAX)
}

fn names(found: Vec<String>) -> Result<Vec<String>, DecodeError> {
    bounded("topic names", found, REQUEST_PARTITIONS_MAX)?.into_iter().map(name).collect()
}
