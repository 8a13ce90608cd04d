//! `/rafka/<cid>/admin/1`: metadata requests. Reads are answered by any node, changes by the controller.
//!
//! The answer is a protobuf message in the body: a description of every topic may be larger than any header.

mod reply;
mod swarm;

use rafka_broker::request::{Admin, NewTopic};
use rafka_model::limits::{CONFIG_VALUE_BYTES_MAX, REQUEST_PARTITIONS_MAX};

use crate::Frame;
use crate::proto::{self, admin_request::Kind};
use crate::wire::{self, DecodeError, bounded, configs, header_only, no_body, set_configs, set_configs_to_wire, text};

pub use reply::{decode_reply, encode_reply};

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
        Admin::AlterConfigs { name, changes, validate_only } => {
            let change =
                |(key, value): (&String, &Option<String>)| proto::Config { key: key.clone(), value: value.clone() };
            Kind::AlterConfigs(proto::AlterConfigs {
                name: name.clone(),
                changes: changes.iter().map(change).collect(),
                validate_only: *validate_only,
            })
        }
        Admin::AddPartitions { name, total, validate_only } => Kind::AddPartitions(proto::AddPartitions {
            name: name.clone(),
            total: *total,
            validate_only: *validate_only,
        }),
        Admin::DescribeTopics { names } => Kind::DescribeTopics(proto::DescribeTopics { names: names.clone() }),
        Admin::DescribeCluster => Kind::DescribeCluster(proto::DescribeCluster {}),
        Admin::DescribeSwarm => Kind::DescribeSwarm(proto::DescribeSwarm {}),
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
    let wire: proto::AdminRequest = wire::decode(frame.header(), "fields of a request", limit, &[1, 2, 3, 4, 5])?;
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
        Kind::AlterConfigs(alter) => Admin::AlterConfigs {
            name: name(alter.name)?,
            changes: configs(alter.changes)?,
            validate_only: alter.validate_only,
        },
        Kind::AddPartitions(add) => {
            Admin::AddPartitions { name: name(add.name)?, total: add.total, validate_only: add.validate_only }
        }
        Kind::DescribeTopics(describe) => Admin::DescribeTopics { names: names(describe.names)? },
        Kind::DescribeCluster(_) => Admin::DescribeCluster,
        Kind::DescribeSwarm(_) => Admin::DescribeSwarm,
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
    }
}

fn new_topic_from_wire(topic: proto::NewTopic) -> Result<NewTopic, DecodeError> {
    Ok(NewTopic {
        name: name(topic.name)?,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor.map(factor).transpose()?,
        configs: set_configs(topic.configs)?,
    })
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
