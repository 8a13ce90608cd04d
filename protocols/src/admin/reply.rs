//! Answers of the admin protocol.

use bytes::Bytes;
use prost::Message;
use rafka_broker::Failure;
use rafka_broker::metadata::{Node, PartitionState};
use rafka_broker::request::{AdminReply, ClusterDescription, ProducerIdBlock, TopicDescription, TopicReply};
use rafka_model::limits::{
    ADDRESS_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, LABEL_BYTES_MAX, NODES_MAX, TOPIC_PARTITIONS_MAX, TOPICS_MAX,
};
use rafka_model::{
    BootId, BrokerEpoch, ClusterId, DirectoryId, MetadataIndex, NodeId, PartitionId, ProducerId, TopicName,
};

use super::{factor, swarm};
use crate::Frame;
use crate::proto::{self, admin_answer::Kind};
use crate::wire::{
    self, Answer, DecodeError, addresses, bounded, failure_from_wire, failure_to_wire, fixed, fixed_bytes, node_ids,
    node_ids_to_wire, optional_text, partition_id, result_from_wire, role_from_wire, role_to_wire, set_configs,
    set_configs_to_wire, state_from_wire, state_to_wire, text, topic_id, topic_id_to_wire,
};

/// Encodes a reply.
#[must_use]
pub fn encode_reply(reply: &Answer<AdminReply>) -> Frame {
    let kind = match reply {
        Err(failure) => return wire::encode_failure(failure),
        Ok(AdminReply::Topics(topics)) => {
            Kind::Topics(proto::TopicReplies { topics: topics.iter().map(topic_reply_to_wire).collect() })
        }
        Ok(AdminReply::Described(topics)) => {
            Kind::Described(proto::DescribedTopics { topics: topics.iter().map(described_to_wire).collect() })
        }
        Ok(AdminReply::Cluster(cluster)) => Kind::Cluster(cluster_to_wire(cluster)),
        Ok(AdminReply::Swarm(swarm)) => Kind::Swarm(swarm::to_wire(swarm)),
        Ok(AdminReply::Producer(id)) => Kind::Producer(proto::Producer { id: id.0 }),
        Ok(AdminReply::ProducerIds(ProducerIdBlock { first, count })) => {
            Kind::ProducerIds(proto::ProducerIds { first: first.0, count: *count })
        }
    };
    let answer = proto::AdminAnswer { kind: Some(kind) };
    Frame::new(Bytes::new(), answer.encode_to_vec().into())
}

/// Decodes a reply.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_reply(frame: &Frame) -> Result<Answer<AdminReply>, DecodeError> {
    let header: proto::AdminReply = wire::decode(frame.header(), "fields of a reply", 16, &[])?;
    if let Some(failure) = header.failure {
        return Ok(Err(failure_from_wire(failure)?));
    }
    let answer: proto::AdminAnswer =
        wire::decode(&frame.body(), "fields of a reply", TOPICS_MAX + NODES_MAX, &[1, 2, 3, 4])?;
    Ok(Ok(match answer.kind.ok_or(DecodeError::Missing("kind of reply"))? {
        Kind::Topics(replies) => AdminReply::Topics(
            bounded("topics", replies.topics, TOPICS_MAX)?
                .into_iter()
                .map(topic_reply_from_wire)
                .collect::<Result<_, _>>()?,
        ),
        Kind::Described(described) => AdminReply::Described(
            bounded("topics", described.topics, TOPICS_MAX)?
                .into_iter()
                .map(described_from_wire)
                .collect::<Result<_, _>>()?,
        ),
        Kind::Cluster(cluster) => AdminReply::Cluster(Box::new(cluster_from_wire(cluster)?)),
        Kind::Swarm(swarm) => AdminReply::Swarm(Box::new(swarm::from_wire(swarm)?)),
        Kind::Producer(producer) => AdminReply::Producer(producer_id(producer.id)?),
        Kind::ProducerIds(block) => {
            let first = producer_id(block.first)?;
            if block.count == 0 || first.0.checked_add(i64::from(block.count)).is_none() {
                return Err(DecodeError::Invalid { what: "producer ids", found: block.count.to_string() });
            }
            AdminReply::ProducerIds(ProducerIdBlock { first, count: block.count })
        }
    }))
}

fn producer_id(id: i64) -> Result<ProducerId, DecodeError> {
    match id {
        0.. => Ok(ProducerId(id)),
        _ => Err(DecodeError::Invalid { what: "producer id", found: id.to_string() }),
    }
}

fn topic_reply_to_wire(reply: &TopicReply) -> proto::TopicReply {
    let at = proto::TopicReply { name: reply.name.clone(), ..Default::default() };
    match &reply.result {
        Ok((topic, index)) => proto::TopicReply { topic: Some(topic_to_wire(topic)), index: index.0, ..at },
        Err(failure) => proto::TopicReply { failure: Some(failure_to_wire(failure)), ..at },
    }
}

fn topic_reply_from_wire(reply: proto::TopicReply) -> Result<TopicReply, DecodeError> {
    Ok(TopicReply {
        name: text("topic name", reply.name, CONFIG_VALUE_BYTES_MAX)?,
        result: result_from_wire(reply.failure, || {
            Ok((topic_from_wire(reply.topic.ok_or(DecodeError::Missing("topic"))?)?, MetadataIndex(reply.index)))
        })?,
    })
}

fn described_to_wire(topic: &Result<TopicDescription, Failure>) -> proto::DescribedTopic {
    match topic {
        Ok(topic) => proto::DescribedTopic { topic: Some(topic_to_wire(topic)), failure: None },
        Err(failure) => proto::DescribedTopic { topic: None, failure: Some(failure_to_wire(failure)) },
    }
}

fn described_from_wire(described: proto::DescribedTopic) -> Result<Result<TopicDescription, Failure>, DecodeError> {
    result_from_wire(described.failure, || topic_from_wire(described.topic.ok_or(DecodeError::Missing("topic"))?))
}

fn topic_to_wire(topic: &TopicDescription) -> proto::TopicDescription {
    let partition = |(id, state): &(PartitionId, PartitionState)| proto::Partition {
        index: id.0,
        state: Some(state_to_wire(state)),
    };
    proto::TopicDescription {
        id: topic_id_to_wire(topic.id),
        name: topic.name.to_string(),
        configs: set_configs_to_wire(&topic.configs),
        replication_factor: topic.replication_factor.into(),
        partitions: topic.partitions.iter().map(partition).collect(),
    }
}

fn topic_from_wire(topic: proto::TopicDescription) -> Result<TopicDescription, DecodeError> {
    let partition = |partition: proto::Partition| {
        let state = partition.state.ok_or(DecodeError::Missing("partition state"))?;
        Ok((partition_id(partition.index)?, state_from_wire(state)?))
    };
    let name = TopicName::new(&topic.name)
        .map_err(|error| DecodeError::Invalid { what: "topic name", found: error.to_string() })?;
    Ok(TopicDescription {
        id: topic_id(&topic.id)?,
        name,
        configs: set_configs(topic.configs)?,
        replication_factor: factor(topic.replication_factor)?,
        partitions: bounded("partitions", topic.partitions, TOPIC_PARTITIONS_MAX as usize)?
            .into_iter()
            .map(partition)
            .collect::<Result<_, DecodeError>>()?,
    })
}

fn cluster_to_wire(cluster: &ClusterDescription) -> proto::ClusterDescription {
    proto::ClusterDescription {
        cluster_id: fixed_bytes(&cluster.cluster_id.0),
        controller: cluster.controller.map(|id| id.0),
        voters: node_ids_to_wire(&cluster.voters),
        nodes: cluster.nodes.iter().map(node_to_wire).collect(),
        answered_by: cluster.answered_by.0,
        index: cluster.index.0,
        topics: cluster.topics,
        partitions: cluster.partitions,
        offline_partitions: cluster.offline_partitions,
        under_replicated: cluster.under_replicated,
        unreachable: node_ids_to_wire(&cluster.unreachable),
    }
}

fn cluster_from_wire(cluster: proto::ClusterDescription) -> Result<ClusterDescription, DecodeError> {
    let nodes = bounded("nodes", cluster.nodes, NODES_MAX)?;
    Ok(ClusterDescription {
        cluster_id: ClusterId(fixed("cluster id", &cluster.cluster_id)?),
        controller: cluster.controller.map(NodeId),
        voters: node_ids("voters", cluster.voters)?,
        nodes: nodes.into_iter().map(node_from_wire).collect::<Result<_, _>>()?,
        answered_by: NodeId(cluster.answered_by),
        index: MetadataIndex(cluster.index),
        topics: cluster.topics,
        partitions: cluster.partitions,
        offline_partitions: cluster.offline_partitions,
        under_replicated: cluster.under_replicated,
        unreachable: node_ids("unreachable nodes", cluster.unreachable)?,
    })
}

fn node_to_wire(node: &Node) -> proto::Node {
    proto::Node {
        id: node.id.0,
        peer_id: node.peer_id.clone(),
        directory: fixed_bytes(&node.directory.0),
        epoch: node.epoch.0,
        boot: fixed_bytes(&node.boot.0),
        incarnation: fixed_bytes(&node.incarnation),
        addresses: node.addresses.clone(),
        lanes: node.lanes.clone(),
        kafka: set_configs_to_wire(&node.kafka),
        ops: node.ops.clone(),
        rack: node.rack.clone(),
        weight_milli: node.weight_milli,
        role: role_to_wire(node.role),
        version: node.version.clone(),
        fenced: node.fenced,
        draining: node.draining,
        features_max: node.features_max,
    }
}

fn node_from_wire(node: proto::Node) -> Result<Node, DecodeError> {
    Ok(Node {
        id: NodeId(node.id),
        peer_id: text("peer id", node.peer_id, LABEL_BYTES_MAX)?,
        directory: DirectoryId(fixed("directory id", &node.directory)?),
        epoch: BrokerEpoch(node.epoch),
        boot: BootId(fixed("boot id", &node.boot)?),
        incarnation: fixed("incarnation", &node.incarnation)?,
        addresses: addresses(node.addresses)?,
        lanes: addresses(node.lanes)?,
        kafka: set_configs(node.kafka)?,
        ops: optional_text("ops address", node.ops, ADDRESS_BYTES_MAX)?,
        rack: optional_text("rack", node.rack, LABEL_BYTES_MAX)?,
        weight_milli: node.weight_milli,
        role: role_from_wire(node.role)?,
        version: text("version", node.version, LABEL_BYTES_MAX)?,
        fenced: node.fenced,
        draining: node.draining,
        features_max: node.features_max.max(1),
    })
}
