//! DeleteTopics: removes topics, by name or by id.

use std::collections::BTreeSet;

use rafka_broker::request::{Admin, TopicDescription};
use rafka_broker::{ErrorCode, Failure};

use crate::changes;
use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_id, uuid};
use crate::error;
use crate::messages::delete_topics::{DeletableTopicResult, DeleteTopicState, Request, Response};
use crate::wire::{Str, Uuid};

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    let timeout_ms = request.timeout_ms;
    let named = |name: Str| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO };
    let topics = match version {
        ..6 => request.topic_names.into_iter().map(named).collect(),
        _ => request.topics,
    };
    let (mut names, mut ids, mut responses) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for topic in topics {
        let fresh = match (&topic.name, topic.topic_id) {
            (Some(name), Uuid::ZERO) => names.insert(name.clone()),
            (None, id) if id != Uuid::ZERO => ids.insert(id),
            _ => {
                let text = "a topic is to be named by its name or by its id, not by both or neither";
                responses.push(refused(topic, &Failure::new(ErrorCode::InvalidRequest, text)));
                continue;
            }
        };
        if !fresh {
            let what = topic.name.as_deref().unwrap_or("a topic id").to_owned();
            responses.push(refused(topic, &changes::duplicate(&what)));
        }
    }
    let deletion = Admin::DeleteTopics { names: names.iter().map(ToString::to_string).collect(), validate_only: false };
    let deleted = changes::ask(door, deletion, names.len(), timeout_ms).await;
    responses.extend(names.into_iter().zip(deleted).map(|(name, result)| response(named(name), result)));
    let deletion = Admin::DeleteTopicsById { ids: ids.iter().map(|id| topic_id(*id)).collect() };
    let deleted = changes::ask(door, deletion, ids.len(), timeout_ms).await;
    let by_id = |id| DeleteTopicState { name: None, topic_id: id };
    responses.extend(ids.into_iter().zip(deleted).map(|(id, result)| response(by_id(id), result)));
    Response { responses, ..Response::default() }
}

fn response(asked: DeleteTopicState, result: Result<TopicDescription, Failure>) -> DeletableTopicResult {
    match result {
        Ok(topic) => DeletableTopicResult {
            name: Some(topic.name.to_string().into()),
            topic_id: uuid(topic.id),
            ..DeletableTopicResult::default()
        },
        Err(failure) => refused(asked, &failure),
    }
}

fn refused(asked: DeleteTopicState, failure: &Failure) -> DeletableTopicResult {
    let (error_code, error_message) = error::refusal(failure);
    DeletableTopicResult { name: asked.name, topic_id: asked.topic_id, error_code, error_message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::add_topic;
    use crate::fake::decides::{ask, deciding, deciding_with};
    use std::sync::Arc;

    fn codes(response: &Response) -> Vec<i16> {
        response.responses.iter().map(|topic| topic.error_code).collect()
    }

    #[tokio::test]
    async fn the_oldest_version_deletes_by_name() {
        let door = deciding();
        let request =
            Request { topic_names: vec!["orders".into(), "nope".into(), "nope".into()], ..Request::default() };
        let deleted = ask(&door, 1, &request).await;
        let told: Vec<_> =
            deleted.responses.iter().map(|topic| (topic.name.as_deref().expect("a name"), topic.error_code)).collect();
        assert_eq!(told, [("nope", 42), ("nope", 3), ("orders", 0)]);
        assert!(door.desk.image().topics.is_empty());
    }

    #[tokio::test]
    async fn the_newest_version_deletes_by_id_too() {
        let door = deciding_with(|fake| {
            add_topic(Arc::make_mut(&mut fake.image.lock()), "other", &[1]);
        });
        let id = uuid(door.desk.image().topic_ids[&"orders".parse().expect("legal")]);
        let by_id = |topic_id| DeleteTopicState { name: None, topic_id };
        let by_name = DeleteTopicState { name: Some("other".into()), topic_id: Uuid::ZERO };
        let both = DeleteTopicState { topic_id: id, ..by_name.clone() };
        let topics = vec![by_id(id), by_name, by_id(Uuid([9; 16])), both, by_id(Uuid::ZERO)];
        let deleted = ask(&door, 6, &Request { topics, ..Request::default() }).await;
        assert_eq!(codes(&deleted), [42, 42, 0, 100, 0]);
        assert_eq!(deleted.responses[3].name, None, "unknown ids have no name");
        assert_eq!(deleted.responses[4].name.as_deref(), Some("orders"));
        assert!(door.desk.image().topics.is_empty());
    }
}
