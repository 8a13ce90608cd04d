//! Changes of metadata on behalf of clients.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use rafka_broker::request::{Admin, AdminReply, TopicDescription};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::NodeId;
use rafka_model::limits::{CONTROL_DEADLINE_MS, KAFKA_CHANGES_MAX, REQUEST_PARTITIONS_MAX};

use crate::desk::FrontDesk;
use crate::door::Door;

/// Asks for a change of `count` topics: the outcome of each, in their order. Returns once this node knows of it (so
/// that whoever is told of a topic finds it here), or `timeout_ms` after the change.
pub(crate) async fn ask<D: FrontDesk>(
    door: &Door<D>,
    change: Admin,
    count: usize,
    timeout_ms: i32,
) -> Vec<Result<TopicDescription, Failure>> {
    if count == 0 {
        return Vec::new();
    }
    if count > REQUEST_PARTITIONS_MAX {
        let text = format!("{count} topics are named at once, at most {REQUEST_PARTITIONS_MAX} can be");
        return vec![Err(Failure::new(ErrorCode::InvalidRequest, text)); count];
    }
    let topics = match door.desk.admin(change).await {
        Ok(AdminReply::Topics(topics)) if topics.len() == count => topics,
        Ok(_) => return vec![Err(Failure::new(ErrorCode::Unknown, "the controller gave a strange answer")); count],
        Err(failure) => return vec![Err(failure); count],
    };
    let last = topics.iter().filter_map(|topic| topic.result.as_ref().ok()).map(|(_, index)| *index).max();
    if let Some(index) = last {
        let wait = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).min(CONTROL_DEADLINE_MS));
        // What was changed stays changed: a client that came too early is told to ask again.
        let _ = tokio::time::timeout(wait, door.desk.reached(index)).await;
    }
    topics.into_iter().map(|topic| topic.result.map(|(topic, _)| topic)).collect()
}

/// A name comes more than once.
pub(crate) fn duplicate(name: &str) -> Failure {
    let name: String = name.chars().take(rafka_model::limits::TOPIC_NAME_BYTES_MAX).collect();
    Failure::new(ErrorCode::InvalidRequest, format!("{name:?} is named more than once"))
}

/// Nodes by the numbers that clients know them by.
pub(crate) fn nodes(ids: &[i32]) -> Vec<NodeId> {
    // No node has the number 0, so what is no number is nobody.
    ids.iter().map(|id| NodeId(u64::try_from(*id).unwrap_or(0))).collect()
}

/// As [`ask`], of changes of one topic each; a few at a time, which the controller decides on together.
pub(crate) async fn ask_each<D: FrontDesk>(
    door: &Door<D>,
    changes: Vec<Admin>,
    timeout_ms: i32,
) -> Vec<Result<TopicDescription, Failure>> {
    let one = |change| async move {
        let mut results = ask(door, change, 1, timeout_ms).await;
        results.pop().unwrap_or_else(|| Err(Failure::new(ErrorCode::Unknown, "no answer")))
    };
    if changes.len() > REQUEST_PARTITIONS_MAX {
        let text = format!("{} things are to change at once, at most {REQUEST_PARTITIONS_MAX} can", changes.len());
        return vec![Err(Failure::new(ErrorCode::InvalidRequest, text)); changes.len()];
    }
    stream::iter(changes).map(one).buffered(KAFKA_CHANGES_MAX).collect().await
}
