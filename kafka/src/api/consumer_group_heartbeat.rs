//! ConsumerGroupHeartbeat: joins, stays in or leaves a group whose coordinator assigns (KIP-848).

use rafka_broker::group::request::{
    ConsumerHeartbeat, ConsumerHeartbeatReply, GroupReply, GroupRequest, TopicPartitions as Owned,
};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::PartitionId;

use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_id, uuid};
use crate::error;
use crate::groups::{self, owned};
use crate::messages::consumer_group_heartbeat::{Assignment, Request, Response, TopicPartitions};
use crate::wire::Str;

/// First version whose members make up their ids (KIP-1082).
const OWN_ID_FROM: i16 = 1;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, client: &Client, version: i16, request: Request) -> Response {
    let reply = match heartbeat(client, version, request) {
        Ok(heartbeat) => {
            let asked = GroupRequest::ConsumerHeartbeat(heartbeat);
            groups::ask(door, asked, |reply| match reply {
                GroupReply::ConsumerHeartbeat(reply) => Some(reply),
                _ => None,
            })
            .await
        }
        Err(failure) => Err(failure),
    };
    match reply {
        Ok(reply) => accepted(reply),
        Err(failure) => Response {
            error_code: error::group(failure.code),
            error_message: Some(failure.message.into()),
            ..Response::default()
        },
    }
}

fn heartbeat(client: &Client, version: i16, request: Request) -> Result<ConsumerHeartbeat, Failure> {
    if version >= OWN_ID_FROM && request.member_id.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidRequest, "MemberId can't be empty."));
    }
    let names = |names: Vec<Str>| names.iter().map(ToString::to_string).collect();
    let owns = |topics: Vec<TopicPartitions>| topics.into_iter().map(partitions).collect::<Result<_, _>>();
    Ok(ConsumerHeartbeat {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        instance_id: owned(request.instance_id),
        rack_id: owned(request.rack_id),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_topics: request.subscribed_topic_names.map(names),
        subscribed_regex: owned(request.subscribed_topic_regex),
        server_assignor: owned(request.server_assignor),
        owned: request.topic_partitions.map(owns).transpose()?,
        caller: groups::caller(client),
    })
}

fn partitions(topic: TopicPartitions) -> Result<Owned, Failure> {
    let partition = |index: &i32| u32::try_from(*index).map(PartitionId);
    let partitions: Result<Vec<_>, _> = topic.partitions.iter().map(partition).collect();
    let mut partitions =
        partitions.map_err(|_| Failure::new(ErrorCode::InvalidRequest, "a partition is owned whose index is below 0"))?;
    partitions.sort_unstable();
    partitions.dedup();
    Ok(Owned { topic: topic_id(topic.topic_id), partitions })
}

fn accepted(reply: ConsumerHeartbeatReply) -> Response {
    let index = |partition: &PartitionId| i32::try_from(partition.0).unwrap_or(i32::MAX);
    let topic = |owned: &Owned| TopicPartitions {
        topic_id: uuid(owned.topic),
        partitions: owned.partitions.iter().map(index).collect(),
    };
    let assignment = |owned: Vec<Owned>| Assignment { topic_partitions: owned.iter().map(topic).collect() };
    Response {
        member_id: Some(reply.member_id.into()),
        member_epoch: reply.member_epoch,
        heartbeat_interval_ms: reply.heartbeat_interval_ms,
        assignment: reply.assignment.map(assignment),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding_with};
    use crate::wire::Uuid;
    use rafka_model::TopicId;

    fn request(version: i16) -> Request {
        Request {
            group_id: "g".into(),
            member_id: "m".into(),
            rack_id: Some("r".into()),
            rebalance_timeout_ms: 300_000,
            subscribed_topic_names: Some(vec!["orders".into()]),
            subscribed_topic_regex: (version >= 1).then(|| "o.*".into()),
            server_assignor: Some("uniform".into()),
            topic_partitions: Some(vec![TopicPartitions { topic_id: Uuid([1; 16]), partitions: vec![2, 0, 2] }]),
            ..Request::default()
        }
    }

    #[tokio::test]
    async fn what_a_member_says_is_heard_and_what_it_shall_own_is_told() {
        for version in 0..=1 {
            let door = deciding_with(|fake| {
                fake.coordinates = Box::new(move |request| {
                    let GroupRequest::ConsumerHeartbeat(heard) = request else { panic!("{request:?}") };
                    assert_eq!(heard.subscribed_topics.as_deref(), Some(&["orders".to_owned()][..]));
                    assert_eq!(heard.subscribed_regex.as_deref(), (version >= 1).then_some("o.*"));
                    assert_eq!((heard.member_epoch, &*heard.caller.client_host), (0, "/127.0.0.1"));
                    let assignment = heard.owned;
                    let expected = Owned { topic: TopicId([1; 16]), partitions: vec![PartitionId(0), PartitionId(2)] };
                    assert_eq!(assignment, Some(vec![expected]));
                    let (member_id, member_epoch, heartbeat_interval_ms) = (heard.member_id, 5, 5_000);
                    let reply = ConsumerHeartbeatReply { member_id, member_epoch, heartbeat_interval_ms, assignment };
                    Ok(GroupReply::ConsumerHeartbeat(reply))
                });
            });
            let told = ask(&door, version, &request(version)).await;
            assert_eq!((told.error_code, told.member_epoch, told.heartbeat_interval_ms), (0, 5, 5_000));
            let owned = told.assignment.expect("an assignment").topic_partitions;
            assert_eq!((owned[0].topic_id, &owned[0].partitions[..]), (Uuid([1; 16]), &[0, 2][..]));
        }
    }

    #[tokio::test]
    async fn a_member_of_the_newer_version_has_an_id() {
        let door = deciding_with(|fake| {
            fake.coordinates = Box::new(|_| Err(Failure::new(ErrorCode::FencedMemberEpoch, "too late")));
        });
        for (version, code, text) in [(0, 110, "too late"), (1, 42, "MemberId can't be empty.")] {
            let told = ask(&door, version, &Request { member_id: "".into(), ..request(version) }).await;
            assert_eq!((told.error_code, told.error_message.as_deref()), (code, Some(text)));
        }
        let mut below = request(1);
        below.topic_partitions = Some(vec![TopicPartitions { topic_id: Uuid::ZERO, partitions: vec![-1] }]);
        assert_eq!(ask(&door, 1, &below).await.error_code, 42);
    }
}
