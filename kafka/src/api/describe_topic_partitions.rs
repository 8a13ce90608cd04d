//! DescribeTopicPartitions: partitions of topics, a page at a time (KIP-966).

use std::collections::BTreeSet;

use rafka_broker::ErrorCode;
use rafka_broker::metadata::{Image, PartitionState, Topic};
use rafka_model::limits::KAFKA_PAGE_PARTITIONS_MAX;
use rafka_model::{NodeId, TopicName};

use crate::advertise::{Endpoint, number};
use crate::api::metadata::TOPIC_OPERATIONS;
use crate::desk::FrontDesk;
use crate::door::{Client, Door, is_internal, uuid};
use crate::error;
use crate::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition as Partition, DescribeTopicPartitionsResponseTopic as TopicPage,
    Request, Response,
};
use crate::wire::Str;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, client: &Client, _: i16, request: Request) -> Response {
    let image = door.desk.image();
    let named: BTreeSet<Str> = match request.topics.is_empty() {
        true => image.topic_ids.keys().map(|name| name.to_string().into()).collect(),
        false => request.topics.into_iter().map(|topic| topic.name).collect(),
    };
    let (first, mut begin) = match request.cursor {
        Some(cursor) => (cursor.topic_name, usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => (Str::default(), 0),
    };
    let endpoints = door.endpoints(client, &image);
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, KAFKA_PAGE_PARTITIONS_MAX);
    let mut response = Response::default();
    for name in named.into_iter().filter(|name| *name >= first) {
        // The cursor's partition is one of the cursor's topic, which may be gone.
        let begin = if name == first { std::mem::take(&mut begin) } else { 0 };
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: 0 });
            break;
        }
        let Some(topic) = TopicName::new(&name).ok().and_then(|name| image.topic(&name)) else {
            left -= 1;
            response.topics.push(missing(name));
            continue;
        };
        let page = page(&image, &endpoints, topic, begin, left);
        left -= page.partitions.len();
        let next = begin + page.partitions.len();
        response.topics.push(page);
        if next < topic.partitions.len() {
            let partition_index = i32::try_from(next).unwrap_or(i32::MAX);
            response.next_cursor = Some(Cursor { topic_name: name, partition_index });
            break;
        }
    }
    response
}

fn missing(name: Str) -> TopicPage {
    let code = match TopicName::new(&name) {
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopic,
    };
    TopicPage { error_code: error::number(code), name: Some(name), ..TopicPage::default() }
}

fn page(image: &Image, endpoints: &[Endpoint], topic: &Topic, begin: usize, limit: usize) -> TopicPage {
    let states = (0..).zip(&topic.partitions).skip(begin).take(limit);
    TopicPage {
        name: Some(topic.name.to_string().into()),
        topic_id: uuid(topic.id),
        is_internal: is_internal(topic.name.as_str()),
        partitions: states.map(|(index, state)| partition(image, endpoints, index, state)).collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..TopicPage::default()
    }
}

fn partition(image: &Image, endpoints: &[Endpoint], index: i32, state: &PartitionState) -> Partition {
    let numbers = |nodes: &[NodeId]| nodes.iter().copied().map(number).collect();
    let serves = |node: &NodeId| image.nodes.get(node).is_some_and(|node| !node.fenced);
    let reachable = |leader: &i32| endpoints.iter().any(|endpoint| endpoint.node == *leader);
    Partition {
        error_code: error::NONE,
        partition_index: index,
        leader_id: state.leader.map(number).filter(reachable).unwrap_or(-1),
        leader_epoch: state.leader_epoch.0,
        replica_nodes: numbers(&state.replicas),
        isr_nodes: numbers(&state.isr),
        eligible_leader_replicas: Some(numbers(&state.elr)),
        last_known_elr: Some(Vec::new()),
        offline_replicas: state.replicas.iter().copied().filter(|node| !serves(node)).map(number).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake::add_topic;
    use crate::fake::decides::{ask, deciding_with};
    use crate::messages::describe_topic_partitions::TopicRequest;

    fn request(names: &[&'static str], limit: i32, cursor: Option<(&'static str, i32)>) -> Request {
        Request {
            topics: names.iter().map(|name| TopicRequest { name: (*name).into() }).collect(),
            response_partition_limit: limit,
            cursor: cursor.map(|(topic, partition_index)| Cursor { topic_name: topic.into(), partition_index }),
        }
    }

    type Shape<'a> = (Vec<(&'a str, Vec<i32>)>, Option<(&'a str, i32)>);

    /// Topics and partitions of a page, and where the next begins.
    fn shape(response: &Response) -> Shape<'_> {
        let topics = response.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            (topic.name.as_deref().expect("a name"), partitions)
        });
        let cursor = response.next_cursor.as_ref();
        (topics.collect(), cursor.map(|cursor| (&*cursor.topic_name, cursor.partition_index)))
    }

    #[tokio::test]
    async fn pages_follow_each_other_without_gaps() {
        let door = deciding_with(|fake| {
            add_topic(Arc::make_mut(&mut fake.image.lock()), "alpha", &[1, 2]);
        });
        let first = ask(&door, 0, &request(&[], 3, None)).await;
        assert_eq!(shape(&first), (vec![("alpha", vec![0, 1]), ("orders", vec![0])], Some(("orders", 1))));
        let second = ask(&door, 0, &request(&[], 3, Some(("orders", 1)))).await;
        assert_eq!(shape(&second), (vec![("orders", vec![1, 2])], None));
        let exact = ask(&door, 0, &request(&["orders", "alpha"], 2, None)).await;
        assert_eq!(shape(&exact), (vec![("alpha", vec![0, 1])], Some(("orders", 0))));
        let all = ask(&door, 0, &request(&[], i32::MAX, Some(("", -5)))).await;
        assert_eq!((all.topics.len(), all.next_cursor), (2, None));
        let gone = ask(&door, 0, &request(&[], 9, Some(("beta", 7)))).await;
        assert_eq!(shape(&gone).0, [("orders", vec![0, 1, 2])], "the cursor's topic was deleted");
    }

    #[tokio::test]
    async fn the_topic_of_the_coordinators_is_internal() {
        let door = deciding_with(|fake| {
            add_topic(Arc::make_mut(&mut fake.image.lock()), "__consumer_offsets", &[1]);
        });
        let told = ask(&door, 0, &request(&[], 9, None)).await;
        let internal: Vec<_> = told.topics.iter().map(|topic| topic.is_internal).collect();
        assert_eq!((internal, shape(&told).0[0].0), (vec![true, false], "__consumer_offsets"));
    }

    #[tokio::test]
    async fn unknown_topics_and_leaders_are_told_as_such() {
        let door = deciding_with(|fake| {
            let mut image = fake.image.lock();
            let image = Arc::make_mut(&mut image);
            image.nodes.get_mut(&NodeId(2)).expect("there").fenced = true;
        });
        let told = ask(&door, 0, &request(&["nope", "a/b", "orders"], 0, None)).await;
        assert_eq!(shape(&told), (vec![("a/b", vec![])], Some(("nope", 0))), "a page has one row at least");
        let told = ask(&door, 0, &request(&["nope", "a/b", "orders"], 9, None)).await;
        let codes: Vec<_> = told.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [17, 3, 0]);
        let last = &told.topics[2].partitions[2];
        assert_eq!((last.leader_id, &last.offline_replicas[..], &last.replica_nodes[..]), (-1, &[2][..], &[2][..]));
        assert_eq!(
            (last.eligible_leader_replicas.as_deref(), last.last_known_elr.as_deref()),
            (Some(&[][..]), Some(&[][..]))
        );
    }
}
