//! Asking a group's coordinator: the leader of the group's partition of the offsets topic, found like any leader.

use std::sync::Arc;
use std::time::Duration;

use rafka_broker::group::request::{GroupReply, GroupRequest};
use rafka_broker::group::{OFFSETS_TOPIC, partition_of};
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::Route;
use rafka_model::{PartitionId, TopicName};
use rafka_protocols::{Answer, DecodeError, Frame, Protocol, group};
use tokio::time::{Instant, sleep};

use crate::backoff::Random;
use crate::mesh::{Intent, Trouble};
use crate::{Client, Error, ErrorKind};

/// Coordinators asked in a row because the one before named the next.
const HINTS_MAX: usize = 3;

/// Asks until the deadline: coordinators move, and new ones read their log first. Everything that a group can be asked
/// may be asked twice.
pub(super) async fn ask(
    client: &Client,
    request: impl Fn() -> GroupRequest,
    deadline: Duration,
) -> Result<GroupReply, Error> {
    let end = Instant::now() + deadline;
    let (mut rounds, mut random) = (0, Random::from_system());
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let error = match ask_once(client, &request(), left).await {
            Err(error) if error.is_retriable() => error,
            done => return done,
        };
        rounds += 1;
        let pause = client.backoff().after(rounds, &mut random);
        if Instant::now() + pause >= end {
            return Err(error);
        }
        sleep(pause).await;
    }
}

/// Asks whoever coordinates the group, and whom that one names instead.
pub(super) async fn ask_once(client: &Client, request: &GroupRequest, deadline: Duration) -> Result<GroupReply, Error> {
    let what = || format!("group {:?}", request.group());
    let end = Instant::now() + deadline;
    let frame = group::encode_request(&group::Request::Group(request.clone()));
    for hint in 1.. {
        let route = find(client, request.group(), end.saturating_duration_since(Instant::now())).await?;
        let left = end.saturating_duration_since(Instant::now());
        match client.handle().exchange(route.peer, Protocol::Group, &frame, left, decode_reply).await {
            Ok(reply) => return Ok(reply),
            Err(Trouble::Refused(failure)) => {
                client.routes().refused(&route, &failure);
                let named = failure.code == ErrorCode::NotCoordinator && failure.leader.is_some();
                if !named || hint >= HINTS_MAX {
                    return Err(Error::refused(what(), &failure, Some(route.leader)));
                }
            }
            Err(trouble) => {
                client.routes().broken(&route, &trouble);
                return Err(trouble.into_error(what()));
            }
        }
    }
    unreachable!("the loop ends with the hints")
}

fn decode_reply(frame: &Frame) -> Result<Answer<GroupReply>, DecodeError> {
    match group::decode_reply(frame)? {
        Ok(group::Reply::Group(reply)) => Ok(Ok(reply)),
        Ok(_) => Err(DecodeError::Missing("reply of the kind asked for")),
        Err(failure) => Ok(Err(failure)),
    }
}

/// The way to the coordinator of `group`. The first group of a cluster has its topic made.
async fn find(client: &Client, group: &str, deadline: Duration) -> Result<Arc<Route>, Error> {
    let offsets = TopicName::new(OFFSETS_TOPIC).expect("the name is legal");
    match client.routes().topic(&offsets).await {
        Ok(view) => {
            let partition = PartitionId(partition_of(group, view.partitions));
            client.routes().route(&offsets, partition).await
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let request = group::encode_request(&group::Request::Coordinator { group: group.to_owned() });
            let asked = client.handle().ask_any(Protocol::Group, &request, deadline, Intent::Read, group::decode_reply);
            asked.await.map_err(|trouble| trouble.into_error(format!("coordinator of group {group:?}")))?;
            // It is there now, and will be found next time.
            let failure = Failure::new(ErrorCode::CoordinatorNotAvailable, "the cluster's first group is being made");
            Err(Error::refused(format!("group {group:?}"), &failure, None))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn strange(what: &str) -> Error {
    Error::new(ErrorKind::Failed, format!("{what} of a group was answered with something else"))
}
