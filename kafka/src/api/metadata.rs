//! Metadata: nodes, and topics with the leaders of their partitions; makes topics that are missing, if it may.

use std::time::Duration;

use rafka_broker::metadata::{Image, PartitionState, Topic};
use rafka_broker::request::{Admin, AdminReply, NewTopic, TopicReply};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{KAFKA_AUTO_CREATE_MS_MAX, KAFKA_AUTO_CREATE_TOPICS_MAX};
use rafka_model::{NodeId, TopicName};

use crate::advertise::{Endpoint, number};
use crate::desk::FrontDesk;
use crate::door::{Client, Door, is_internal, topic_by_name, topic_id, uuid};
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

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, client: &Client, version: i16, request: Request) -> Response {
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
    let (internal, missing): (Vec<_>, Vec<_>) =
        missing.filter(|name| image.topic(name).is_none()).partition(|name| is_internal(name.as_str()));
    if !internal.is_empty() {
        // Who keeps it knows how it must be. Without it the client is told to ask again, or that there is none.
        let _ = door.desk.coordinator("").await;
    }
    let missing: Vec<_> = missing
        .into_iter()
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
        // Java's client says an empty name beside the id.
        let Some(name) = asked.name.filter(|_| asked.topic_id == Uuid::ZERO) else {
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
        missing(error::admin(code), Some(name))
    }

    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let partition = |(index, state): (i32, &PartitionState)| self.partition(index, state);
        MetadataResponseTopic {
            error_code: error::NONE,
            name: Some(topic.name.to_string().into()),
            topic_id: uuid(topic.id),
            is_internal: is_internal(topic.name.as_str()),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rafka_broker::describe_topic;
    use rafka_broker::metadata::Image;
    use rafka_model::MetadataIndex;

    use super::*;
    use crate::door::Config;
    use crate::fake::{Fake, add_topic, client, door};
    use crate::metrics::Metrics;

    fn named(names: &[&'static str]) -> Request {
        let topic = |name: &&'static str| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
        Request { topics: Some(names.iter().map(topic).collect()), ..Request::default() }
    }

    fn makes_topics(image: &mut Image, request: Admin) -> Result<AdminReply, Failure> {
        let Admin::CreateTopics { topics, .. } = request else { panic!("{request:?}") };
        let make = |topic: NewTopic| {
            let result = match topic.name.as_str() {
                "full" => Err(Failure::new(ErrorCode::InvalidReplicationFactor, "too few nodes")),
                "late" => Err(Failure::new(ErrorCode::OutcomeUnknown, "no answer")),
                name => {
                    let id = add_topic(image, name, &[1; 4]);
                    Ok((describe_topic(&image.topics[&id]), MetadataIndex(8)))
                }
            };
            TopicReply { name: topic.name, result }
        };
        Ok(AdminReply::Topics(topics.into_iter().map(make).collect()))
    }

    async fn ask(door: &Door<Fake>, version: i16, request: Request) -> Response {
        serve(door, &client("127.0.0.1:9092"), version, request).await
    }

    fn codes(response: &Response) -> Vec<i16> {
        response.topics.iter().map(|topic| topic.error_code).collect()
    }

    #[tokio::test]
    async fn a_cluster_is_told_as_the_client_reaches_it() {
        let door = door(Fake::default());
        let response = ask(&door, 13, Request::default()).await;
        let brokers: Vec<_> =
            response.brokers.iter().map(|b| (b.node_id, b.host.as_str().to_owned(), b.port)).collect();
        assert_eq!(brokers, [(1, "127.0.0.1".to_owned(), 9092), (2, "127.0.0.1".to_owned(), 9092)]);
        assert_eq!((response.controller_id, response.topics.len()), (1, 1));
        assert_eq!(response.cluster_id.as_deref(), Some(&*"07".repeat(32)));
        let topic = &response.topics[0];
        let leaders: Vec<_> = topic.partitions.iter().map(|partition| partition.leader_id).collect();
        assert_eq!((leaders, topic.partitions[0].leader_epoch), (vec![1, 1, 2], 3));
        assert_eq!(topic.topic_authorized_operations, i32::MIN, "not asked for");
    }

    #[tokio::test]
    async fn all_topics_are_meant_by_null_and_in_the_oldest_version_by_none() {
        let door = door(Fake::default());
        let none = Request { topics: Some(Vec::new()), ..Request::default() };
        assert_eq!(ask(&door, 0, none.clone()).await.topics.len(), 1);
        assert_eq!(ask(&door, 1, none).await.topics.len(), 0);
        assert_eq!(ask(&door, 1, Request::default()).await.topics.len(), 1);
    }

    #[tokio::test]
    async fn missing_topics_are_made_if_client_and_node_allow_it() {
        let fake = || Fake { answer: Box::new(makes_topics), ..Fake::default() };
        let door = door(fake());
        let request = named(&["new", "a/b", "full", "late", "orders"]);
        let refusing = Request { allow_auto_topic_creation: false, ..request.clone() };
        assert_eq!(codes(&ask(&door, 13, refusing).await), [3, 17, 3, 3, 0]);
        let response = ask(&door, 13, request.clone()).await;
        assert_eq!(codes(&response), [0, 17, 38, 5, 0]);
        assert_eq!(response.topics[0].partitions.len(), 4);
        let asked: Vec<_> = door.desk.asked.lock().iter().map(|asked| format!("{asked:?}")).collect();
        assert!(asked.len() == 1 && !asked[0].contains("a/b") && !asked[0].contains("orders"), "{asked:?}");
        let closed = Config { auto_create_topics: false, ..Config::default() };
        let closed = Door::new(fake(), closed, Arc::new(Metrics::default()));
        assert_eq!(codes(&ask(&closed, 1, request).await), [3, 17, 3, 3, 0]);
    }

    #[tokio::test]
    async fn topics_are_found_by_id_from_the_version_on_that_may_leave_the_name_out() {
        let door = door(Fake::default());
        let by_id = |id: Uuid| MetadataRequestTopic { topic_id: id, name: None };
        let orders = uuid(door.desk.orders(0).topic);
        let empty_name = MetadataRequestTopic { name: Some("".into()), ..by_id(orders) };
        let topics = vec![by_id(orders), by_id(Uuid([9; 16])), empty_name];
        let request = Request { topics: Some(topics), ..Request::default() };
        let response = ask(&door, 12, request.clone()).await;
        assert_eq!(codes(&response), [0, 100, 0]);
        assert_eq!((response.topics[0].name.as_deref(), &response.topics[1].name), (Some("orders"), &None));
        assert_eq!(codes(&ask(&door, 11, request).await), [42, 42, 42]);
    }

    #[tokio::test]
    async fn a_leader_that_the_client_cannot_reach_is_none() {
        let door = door(Fake::default());
        Arc::make_mut(&mut door.desk.image.lock()).nodes.get_mut(&NodeId(2)).expect("there").kafka.clear();
        for (version, code) in [(5, 5), (6, 72)] {
            let response = ask(&door, version, named(&["orders"])).await;
            let partition = &response.topics[0].partitions[2];
            assert_eq!((partition.error_code, partition.leader_id, response.brokers.len()), (code, -1, 1));
        }
    }

    #[tokio::test]
    async fn without_an_authorizer_everything_is_allowed() {
        let asked = Request {
            include_topic_authorized_operations: true,
            include_cluster_authorized_operations: true,
            ..Request::default()
        };
        let response = ask(&door(Fake::default()), 8, asked).await;
        assert_eq!(response.topics[0].topic_authorized_operations, TOPIC_OPERATIONS);
        assert_eq!(response.cluster_authorized_operations, CLUSTER_OPERATIONS);
    }

    #[tokio::test]
    async fn the_topic_of_the_coordinators_is_internal_and_made_by_them() {
        let door = door(Fake { answer: Box::new(makes_topics), ..Fake::default() });
        let told = ask(&door, 13, named(&["__consumer_offsets"])).await;
        assert_eq!(codes(&told), [3], "who coordinates did not make it");
        assert!(door.desk.asked.lock().is_empty(), "nobody else makes it");
        add_topic(Arc::make_mut(&mut door.desk.image.lock()), "__consumer_offsets", &[1]);
        for version in 1..=13 {
            let told = ask(&door, version, named(&["orders", "__consumer_offsets"])).await;
            let internal: Vec<_> = told.topics.iter().map(|topic| topic.is_internal).collect();
            assert_eq!(internal, [false, true]);
        }
    }
}
