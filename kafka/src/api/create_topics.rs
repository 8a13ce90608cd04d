//! CreateTopics: makes topics, or says whether they could be made.

use std::collections::{BTreeMap, BTreeSet};

use rafka_broker::request::{Admin, NewTopic};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::NodeId;

use crate::changes;
use crate::configs;
use crate::desk::FrontDesk;
use crate::door::{Client, Door, uuid};
use crate::error;
use crate::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicConfigs, CreatableTopicResult,
    Request, Response,
};
use crate::wire::{Str, Uuid};

/// "The cluster's default", in numbers of partitions and replicas.
const DEFAULT: i32 = -1;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let Request { topics, timeout_ms, validate_only } = request;
    let (mut once, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for topic in &topics {
        if !once.insert(topic.name.clone()) {
            repeated.insert(topic.name.clone());
        }
    }
    let mut results: Vec<_> = repeated.iter().map(|name| refused(name.clone(), &changes::duplicate(name))).collect();
    let mut asked = Vec::new();
    for topic in topics.into_iter().filter(|topic| !repeated.contains(&topic.name)) {
        match new_topic(&topic) {
            Ok(new) => asked.push((topic.name, new)),
            Err(failure) => results.push(refused(topic.name, &failure)),
        }
    }
    let (names, topics): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let replies = changes::ask(door, Admin::CreateTopics { topics, validate_only }, names.len(), timeout_ms).await;
    for (name, reply) in names.into_iter().zip(replies) {
        results.push(match reply {
            Ok(topic) => CreatableTopicResult {
                name,
                // An id that nobody will ever have is not told.
                topic_id: if validate_only { Uuid::ZERO } else { uuid(topic.id) },
                num_partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
                replication_factor: i16::try_from(topic.replication_factor).unwrap_or(i16::MAX),
                configs: Some(configs::of_topic(&topic.configs).map(config).collect()),
                ..CreatableTopicResult::default()
            },
            Err(failure) => refused(name, &failure),
        });
    }
    Response { topics: results, ..Response::default() }
}

fn config(config: configs::Described) -> CreatableTopicConfigs {
    CreatableTopicConfigs {
        name: config.name.into(),
        value: config.value.map(Str::from),
        read_only: config.read_only,
        config_source: config.source,
        is_sensitive: config.sensitive,
    }
}

fn refused(name: Str, failure: &Failure) -> CreatableTopicResult {
    let (error_code, error_message) = error::refusal(failure);
    CreatableTopicResult {
        name,
        error_code,
        error_message,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}

fn new_topic(topic: &CreatableTopic) -> Result<NewTopic, Failure> {
    // A number that is no number of things is refused by the controller as 0 is.
    let partitions = (topic.num_partitions != DEFAULT).then(|| u32::try_from(topic.num_partitions).unwrap_or(0));
    let factor = topic.replication_factor;
    let replication_factor = (i32::from(factor) != DEFAULT).then(|| u16::try_from(factor).unwrap_or(0));
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions,
        replication_factor,
        configs: topic.configs.iter().map(given).collect::<Result<_, _>>()?,
        assignments: assignments(&topic.assignments)?,
    })
}

fn given(config: &CreatableTopicConfig) -> Result<(String, String), Failure> {
    match &config.value {
        Some(value) => Ok((config.name.to_string(), value.to_string())),
        None => Err(Failure::new(ErrorCode::InvalidConfig, format!("config {} has no value", config.name))),
    }
}

/// The replicas by partition.
fn assignments(given: &[CreatableReplicaAssignment]) -> Result<Vec<Vec<NodeId>>, Failure> {
    let by_index: BTreeMap<_, _> =
        given.iter().map(|assignment| (assignment.partition_index, &assignment.broker_ids)).collect();
    let dense = by_index.keys().zip(0..).all(|(index, expected)| *index == expected);
    if by_index.len() != given.len() || !dense {
        let text = "assigned partitions are not numbered from 0 without gaps, each once";
        return Err(Failure::new(ErrorCode::InvalidReplicaAssignment, text));
    }
    Ok(by_index.into_values().map(|ids| changes::nodes(ids)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding};

    fn topic(name: &'static str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
        CreatableTopic { name: name.into(), num_partitions, replication_factor, ..CreatableTopic::default() }
    }

    fn request(topics: Vec<CreatableTopic>) -> Request {
        Request { topics, ..Request::default() }
    }

    fn codes(response: &Response) -> Vec<(&str, i16)> {
        response.topics.iter().map(|topic| (&*topic.name, topic.error_code)).collect()
    }

    fn with_config(key: &'static str, value: Option<&'static str>) -> CreatableTopic {
        let config = CreatableTopicConfig { name: key.into(), value: value.map(Str::from) };
        CreatableTopic { configs: vec![config], ..topic("configured", 1, -1) }
    }

    fn assigned(parts: &[(i32, &[i32])]) -> CreatableTopic {
        let part = |(partition_index, ids): &(i32, &[i32])| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: ids.to_vec(),
        };
        CreatableTopic { assignments: parts.iter().map(part).collect(), ..topic("assigned", -1, -1) }
    }

    #[tokio::test]
    async fn the_newest_version_tells_id_numbers_and_configs() {
        let door = deciding();
        let made = ask(&door, 7, &request(vec![topic("new", 3, 1), with_config("retention.ms", Some("5"))])).await;
        assert_eq!(codes(&made), [("new", 0), ("configured", 0)]);
        assert_eq!((made.topics[0].num_partitions, made.topics[0].replication_factor), (3, 1));
        assert_eq!(made.topics[0].topic_id, uuid(door.desk.image().topic_ids[&"new".parse().expect("legal")]));
        let configs = made.topics[1].configs.as_ref().expect("told");
        let retention = configs.iter().find(|config| config.name == "retention.ms").expect("told");
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), configs::source::TOPIC));
        assert_eq!(configs.len(), rafka_model::config::KEYS.len());
    }

    #[tokio::test]
    async fn the_oldest_version_takes_defaults() {
        let door = deciding();
        let made = ask(&door, 2, &request(vec![topic("new", -1, -1)])).await;
        assert_eq!(codes(&made), [("new", 0)]);
        assert!(!door.desk.image().topic(&"new".parse().expect("legal")).expect("made").partitions.is_empty());
    }

    #[tokio::test]
    async fn each_topic_has_an_outcome_of_its_own() {
        let door = deciding();
        let topics = vec![
            topic("orders", 1, 1),
            topic("a/b", 1, 1),
            topic("none", 0, 1),
            topic("negative", -7, 1),
            topic("factor", 1, 3),
            topic("twice", 1, 1),
            topic("twice", 2, 1),
            topic("good", 1, 1),
        ];
        let made = ask(&door, 5, &request(topics)).await;
        let expected =
            [("twice", 42), ("orders", 36), ("a/b", 17), ("none", 37), ("negative", 37), ("factor", 38), ("good", 0)];
        assert_eq!(codes(&made), expected);
        assert!(made.topics[1].error_message.as_deref().is_some_and(|text| text.contains("orders")));
    }

    #[tokio::test]
    async fn configs_are_checked() {
        let door = deciding();
        for (key, value) in [("nope", Some("1")), ("retention.ms", Some("x")), ("retention.ms", None)] {
            assert_eq!(codes(&ask(&door, 7, &request(vec![with_config(key, value)])).await), [("configured", 40)]);
        }
    }

    #[tokio::test]
    async fn a_check_changes_nothing() {
        let door = deciding();
        let check = Request { validate_only: true, ..request(vec![topic("new", 3, 1), topic("orders", 1, 1)]) };
        let checked = ask(&door, 7, &check).await;
        assert_eq!(codes(&checked), [("new", 0), ("orders", 36)]);
        assert_eq!(checked.topics[0].num_partitions, 3);
        assert_eq!(door.desk.image().topics.len(), 1);
    }

    #[tokio::test]
    async fn partitions_go_where_they_are_assigned() {
        let door = deciding();
        for (parts, code) in [
            (&[(0, &[9][..])][..], 39),
            (&[(1, &[1])], 39),
            (&[(0, &[1]), (0, &[2])], 39),
            (&[(0, &[-1])], 39),
            (&[(1, &[2]), (0, &[1]), (2, &[2])], 0),
        ] {
            assert_eq!(codes(&ask(&door, 7, &request(vec![assigned(parts)])).await), [("assigned", code)], "{parts:?}");
        }
        let image = door.desk.image();
        let leaders = image.topic(&"assigned".parse().expect("legal")).expect("made").partitions.iter();
        assert_eq!(leaders.map(|state| state.leader).collect::<Vec<_>>(), [1, 2, 2].map(NodeId).map(Some));
        let both = CreatableTopic { num_partitions: 1, name: "both".into(), ..assigned(&[(0, &[1])]) };
        assert_eq!(codes(&ask(&door, 7, &request(vec![both])).await), [("both", 42)]);
    }
}
