//! What clients ask of the coordinators of groups.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use rafka_broker::group::request::{Caller, GroupReply, GroupRequest};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{GROUP_COMMIT_OFFSETS_MAX, KAFKA_CHANGES_MAX, REQUEST_PARTITIONS_MAX};

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::wire::Str;

/// Everything that can be done to a group, as a set of bits (`AclOperation`): there is no authorizer.
const OPERATIONS: i32 = 3400;

/// Asks the coordinator; `pick` takes out the reply that belongs to the request.
pub(crate) async fn ask<D: FrontDesk, T>(
    door: &Door<D>,
    request: GroupRequest,
    pick: fn(GroupReply) -> Option<T>,
) -> Result<T, Failure> {
    let reply = door.desk.group(request).await?;
    pick(reply).ok_or_else(strange)
}

/// Asks about several groups, a few at a time; the outcomes are in the order of the questions.
pub(crate) async fn ask_each<D: FrontDesk, T>(
    door: &Door<D>,
    questions: Vec<GroupRequest>,
    pick: fn(GroupReply) -> Option<T>,
) -> Vec<Result<T, Failure>> {
    let count = questions.len();
    if count > REQUEST_PARTITIONS_MAX {
        let text = format!("{count} groups are named at once, at most {REQUEST_PARTITIONS_MAX} can be");
        return questions.iter().map(|_| Err(Failure::new(ErrorCode::InvalidRequest, text.clone()))).collect();
    }
    let one = |question| ask(door, question, pick);
    stream::iter(questions).map(one).buffered(KAFKA_CHANGES_MAX).collect().await
}

/// The groups named, each once: what is asked in few bytes is answered in many.
pub(crate) fn once(groups: Vec<Str>) -> Vec<Str> {
    let mut seen = BTreeSet::new();
    groups.into_iter().filter(|group| seen.insert(group.clone())).collect()
}

/// Refuses a request that names more partitions than can be kept while it is worked on.
pub(crate) fn few_enough(partitions: usize) -> Result<(), Failure> {
    if partitions <= GROUP_COMMIT_OFFSETS_MAX {
        return Ok(());
    }
    let text = format!("{partitions} partitions are named at once, at most {GROUP_COMMIT_OFFSETS_MAX} can be");
    Err(Failure::new(ErrorCode::InvalidRequest, text))
}

/// The coordinator's reply is not to the request.
pub(crate) fn strange() -> Failure {
    Failure::new(ErrorCode::Unknown, "the coordinator gave a strange answer")
}

/// Who asks, as a coordinator keeps it.
pub(crate) fn caller(client: &Client) -> Caller {
    Caller {
        client_id: client.id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", client.peer.ip().to_canonical()),
    }
}

/// Text that outlives its request.
pub(crate) fn owned(text: Option<Str>) -> Option<String> {
    text.map(|text| text.to_string())
}

/// Bytes that outlive their request: as a slice they would keep its whole frame in memory.
pub(crate) fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// What may be done to a group, if it was asked for.
pub(crate) fn operations(asked: bool) -> i32 {
    if asked { OPERATIONS } else { i32::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::client;

    #[test]
    fn a_caller_is_known_by_its_address_as_kafka_writes_it() {
        let mut client = client("127.0.0.1:9092");
        client.peer = "[::ffff:10.1.2.3]:5".parse().expect("an address");
        assert_eq!(caller(&client), Caller { client_id: String::new(), client_host: "/10.1.2.3".to_owned() });
        client.id = Some("me".into());
        client.peer = "[fe80::1]:5".parse().expect("an address");
        assert_eq!(caller(&client), Caller { client_id: "me".to_owned(), client_host: "/fe80::1".to_owned() });
    }

    #[test]
    fn each_group_is_asked_about_once() {
        assert_eq!(once(vec!["b".into(), "a".into(), "b".into()]), ["b", "a"]);
        assert!(few_enough(GROUP_COMMIT_OFFSETS_MAX).is_ok() && few_enough(GROUP_COMMIT_OFFSETS_MAX + 1).is_err());
    }
}
