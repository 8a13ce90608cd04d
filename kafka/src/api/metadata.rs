//! Metadata: nodes, and topics with the leaders of their partitions; makes topics that are missing, if it may.

use std::time::Duration;

use rafka_broker::metadata::{Image, PartitionState, Topic};
use rafka_broker::request::{Admin, AdminReply, NewTopic, TopicReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{KAFKA_AUTO_CREATE_MS_MAX, KAFKA_AUTO_CREATE_TOPICS_MAX};
use rafka_model::{NodeId, TopicName};

use crate::advertise::{Endpoint, number};
use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name, topic_id, uuid};
use crate::error;
use crate::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic, Request, Response,
};
use crate::wire::{Str, Uuid};

/// First version whose response says that no listener of the leader suits the client.
const LISTENER_NOT_FOUND_FROM: i16 = 6;
/// Everything that can be done to a topic, as a set of bits (`AclOperation`): there is no authorizer.
pub(crate) const TOPIC_OPERATIONS: i32 = 3576;
/// Everything that can be done to a cluster.
pub(crate) const CLUSTER_OPERATIONS: i32 = 8096;

pub(crate) async fn serve<D: FrontDesk>(
    door: &Door<D>,
    client: &Client,
    version: i16,
    request: Request,
) -> Response {
    let named = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    if let Some(topics) = &named
        && version < 12
        && topics.iter().any(|topic| topic.name.is_none() || topic.topic_id != Uuid::ZERO)
    {
        return refused(error::number(ErrorCode::InvalidRequest), topics);
    }
    let may_create = door.config.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
    let failed = match &named {
        Some(topics) if may_create => create_missing(door, topics).await,
        _ => Vec::new(),
    };
    let image = door.desk.image();
    let endpoints = door.endpoints(client, &image);
    let shape = Shape {
        image: &image,
        endpoints: &endpoints,
        operations: if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { i32::MIN },
        version,
    };
    let topics = match named {
        None => image.topic_ids.keys().filter_map(|name| image.topic(name)).map(|topic| shape.topic(topic)).collect(),
        Some(named) => named.into_iter().map(|one| shape.named(one, &failed)).collect(),
    };
    Response {
        cluster_id: image.cluster.as_ref().map(|cluster| cluster.id.to_string().into()),
        controller_id: controller(door, &endpoints),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        topics,
        brokers: endpoints.into_iter().map(broker).collect(),
        ..Response::default()
    }
}

/// The node that clients shall send changes to. Any node passes them on, so that it need not be the controller itself.
pub(crate) fn controller<D: FrontDesk>(door: &Door<D>, endpoints: &[Endpoint]) -> i32 {
    let reachable = |node: &NodeId| endpoints.iter().any(|endpoint| endpoint.node == number(*node));
    let controller = door.desk.controller().filter(reachable).or_else(|| door.desk.node().filter(reachable));
    controller.map_or(-1, number)
}

fn broker(endpoint: Endpoint) -> MetadataResponseBroker {
    let Endpoint { node, host, port, rack } = endpoint;
    MetadataResponseBroker { node_id: node, host, port, rack }
}

fn refused(code: i16, topics: &[MetadataRequestTopic]) -> Response {
    let one = |topic: &MetadataRequestTopic| MetadataResponseTopic {
        error_code: code,
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        ..MetadataResponseTopic::default()
    };
    Response { topics: topics.iter().map(one).collect(), ..Response::default() }
}

/// Makes the topics that do not exist and waits until this node knows them; returns why it could not.
async fn create_missing<D: FrontDesk>(door: &Door<D>, topics: &[MetadataRequestTopic]) -> Vec<(String, Failure)> {
    let image = door.desk.image();
    let missing = topics.iter().filter_map(|topic| topic.name.as_ref()).filter_map(|name| TopicName::new(name).ok());
    let missing: Vec<_> = missing
        .filter(|name| image.topic(name).is_none())
        .take(KAFKA_AUTO_CREATE_TOPICS_MAX)
        .map(|name| NewTopic { name: name.to_string(), ..NewTopic::default() })
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    drop(image);
    let names: Vec<_> = missing.iter().map(|topic| topic.name.clone()).collect();
    let replies = match door.desk.admin(Admin::CreateTopics { topics: missing, validate_only: false }).await {
        Ok(AdminReply::Topics(replies)) => replies,
        Ok(_) => return Vec::new(),
        Err(failure) => return names.into_iter().map(|name| (name, failure.clone())).collect(),
    };
    let mut failed = Vec::new();
    let mut made = None;
    for TopicReply { name, result } in replies {
        match result {
            Ok((_, index)) => made = made.max(Some(index)),
            Err(failure) => failed.push((name, failure)),
        }
    }
    if let Some(index) = made {
        // Later than that the client asks again.
        let wait = Duration::from_millis(KAFKA_AUTO_CREATE_MS_MAX);
        let _ = tokio::time::timeout(wait, door.desk.reached(index)).await;
    }
    failed
}

/// How topics are shown.
struct Shape<'a> {
    image: &'a Image,
    endpoints: &'a [Endpoint],
    operations: i32,
    version: i16,
}

impl Shape<'_> {
    fn named(&self, asked: MetadataRequestTopic, failed: &[(String, Failure)]) -> MetadataResponseTopic {
        let missing = |error_code: i16, name: Option<Str>| MetadataResponseTopic {
            error_code,
            name,
            topic_id: asked.topic_id,
            ..MetadataResponseTopic::default()
        };
        let Some(name) = asked.name else {
            return match self.image.topics.get(&topic_id(asked.topic_id)) {
                Some(topic) => self.topic(topic),
                None => missing(error::number(ErrorCode::UnknownTopicId), None),
            };
        };
        if let Some(topic) = topic_by_name(self.image, &name) {
            return self.topic(topic);
        }
        if TopicName::new(&name).is_err() {
            return missing(error::number(ErrorCode::InvalidTopic), Some(name));
        }
        let code = match failed.iter().find(|(failed, _)| name == failed.as_str()) {
            // Made by somebody else at the same time, or soon: ask again.
            Some((_, failure)) if failure.code == ErrorCode::TopicAlreadyExists || failure.code.is_retriable() => {
                ErrorCode::LeaderNotAvailable
            }
            Some((_, failure)) => failure.code,
            None => ErrorCode::UnknownTopicOrPartition,
        };
        missing(error::data(code), Some(name))
    }

    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let partition = |(index, state): (i32, &PartitionState)| self.partition(index, state);
        MetadataResponseTopic {
            error_code: error::NONE,
            name: Some(topic.name.to_string().into()),
            topic_id: uuid(topic.id),
            is_internal: false,
            partitions: (0..).zip(&topic.partitions).map(partition).collect(),
            topic_authorized_operations: self.operations,
        }
    }

    fn partition(&self, index: i32, state: &PartitionState) -> MetadataResponsePartition {
        let numbers = |nodes: &[NodeId]| nodes.iter().copied().map(number).collect();
        let in_service = |node: &NodeId| self.image.nodes.get(node).is_some_and(|node| !node.fenced);
        let offline = state.replicas.iter().copied().filter(|node| !in_service(node)).map(number);
        let (error_code, leader_id) = self.leader(state);
        MetadataResponsePartition {
            error_code,
            partition_index: index,
            leader_id,
            leader_epoch: state.leader_epoch.0,
            replica_nodes: numbers(&state.replicas),
            isr_nodes: numbers(&state.isr),
            offline_replicas: offline.collect(),
        }
    }

    fn leader(&self, state: &PartitionState) -> (i16, i32) {
        let not_available = error::number(ErrorCode::LeaderNotAvailable);
        match state.leader.map(number) {
            Some(leader) if self.endpoints.iter().any(|endpoint| endpoint.node == leader) => (error::NONE, leader),
            Some(_) if self.version >= LISTENER_NOT_FOUND_FROM => (error::LISTENER_NOT_FOUND, -1),
            _ => (not_available, -1),
        }
    }
}
