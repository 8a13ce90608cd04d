//! CreatePartitions: makes topics grow.

use std::collections::BTreeSet;

use rafka_broker::Failure;
use rafka_broker::request::Admin;

use crate::changes;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::create_partitions::{
    CreatePartitionsTopic, CreatePartitionsTopicResult as TopicResult, Request, Response,
};
use crate::wire::Str;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let Request { topics, timeout_ms, validate_only } = request;
    let (mut once, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for topic in &topics {
        if !once.insert(topic.name.clone()) {
            repeated.insert(topic.name.clone());
        }
    }
    let mut results: Vec<_> = repeated.iter().map(|name| refused(name.clone(), &changes::duplicate(name))).collect();
    let topics: Vec<_> = topics.into_iter().filter(|topic| !repeated.contains(&topic.name)).collect();
    let (names, asked): (Vec<_>, Vec<_>) = topics.into_iter().map(|topic| growth(topic, validate_only)).unzip();
    let replies = changes::ask_each(door, asked, timeout_ms).await;
    results.extend(names.into_iter().zip(replies).map(|(name, reply)| match reply {
        Ok(_) => TopicResult { name, ..TopicResult::default() },
        Err(failure) => refused(name, &failure),
    }));
    Response { results, ..Response::default() }
}

fn growth(topic: CreatePartitionsTopic, validate_only: bool) -> (Str, Admin) {
    let assignments = topic.assignments.unwrap_or_default();
    let growth = Admin::AddPartitions {
        name: topic.name.to_string(),
        total: u32::try_from(topic.count).unwrap_or(0),
        assignments: assignments.iter().map(|assignment| changes::nodes(&assignment.broker_ids)).collect(),
        validate_only,
    };
    (topic.name, growth)
}

fn refused(name: Str, failure: &Failure) -> TopicResult {
    let (error_code, error_message) = error::refusal(failure);
    TopicResult { name, error_code, error_message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding};
    use crate::messages::create_partitions::CreatePartitionsAssignment;

    fn grow(name: &'static str, count: i32, assigned: Option<&[i32]>) -> CreatePartitionsTopic {
        let one = |id: &i32| CreatePartitionsAssignment { broker_ids: vec![*id] };
        let assignments = assigned.map(|ids| ids.iter().map(one).collect());
        CreatePartitionsTopic { name: name.into(), count, assignments }
    }

    #[tokio::test]
    async fn both_ends_of_the_versions_grow_topics() {
        for version in [0, 3] {
            let door = deciding();
            let check = Request { topics: vec![grow("orders", 5, None)], validate_only: true, ..Request::default() };
            assert_eq!(ask(&door, version, &check).await.results[0].error_code, 0);
            assert_eq!(door.desk.image().topics.values().next().expect("one").partitions.len(), 3);
            let topics = vec![grow("orders", 5, Some(&[2, 1]))];
            let grown = ask(&door, version, &Request { topics, ..Request::default() }).await;
            assert_eq!((grown.results[0].error_code, grown.results.len()), (0, 1));
            assert_eq!(door.desk.image().topics.values().next().expect("one").partitions.len(), 5);
        }
    }

    #[tokio::test]
    async fn a_topic_cannot_shrink_and_must_exist() {
        let door = deciding();
        let refused = [("orders", 3, 37), ("orders", -1, 37), ("nope", 5, 3)];
        for (name, count, code) in refused {
            let request = Request { topics: vec![grow(name, count, None)], ..Request::default() };
            assert_eq!(ask(&door, 3, &request).await.results[0].error_code, code, "{name} {count}");
        }
        let topics = vec![grow("orders", 5, Some(&[1]))];
        assert_eq!(ask(&door, 3, &Request { topics, ..Request::default() }).await.results[0].error_code, 39);
        let topics = vec![grow("orders", 5, None), grow("orders", 6, None)];
        let twice = ask(&door, 3, &Request { topics, ..Request::default() }).await;
        assert_eq!((twice.results.len(), twice.results[0].error_code), (1, 42));
    }
}
