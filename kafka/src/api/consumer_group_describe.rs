//! ConsumerGroupDescribe: members and assignments of groups whose coordinator assigns (KIP-848).

use rafka_broker::group::request::{
    ConsumerDescription, ConsumerMember, GroupDescription, GroupRequest, TopicPartitions as Owned,
};
use rafka_broker::metadata::Image;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::PartitionId;

use crate::api::describe_groups::{description, not_found};
use crate::desk::FrontDesk;
use crate::door::{Client, Door, uuid};
use crate::error;
use crate::groups;
use crate::messages::consumer_group_describe::{
    Assignment, DescribedGroup, Member, Request, Response, TopicPartitions,
};
use crate::wire::Str;

/// The member speaks the classic protocol.
const CLASSIC: i8 = 0;
/// The member speaks that of KIP-848.
const CONSUMER: i8 = 1;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let names = groups::once(request.group_ids);
    let questions = names.iter().map(|group| GroupRequest::Describe { group: group.to_string() }).collect();
    let told = groups::ask_each(door, questions, description).await;
    let operations = groups::operations(request.include_authorized_operations);
    let image = door.desk.image();
    let row = |(name, told): (Str, Result<GroupDescription, Failure>)| {
        let failure = match told {
            Ok(GroupDescription::Consumer(group)) => {
                return DescribedGroup { authorized_operations: operations, ..row(&image, group) };
            }
            Ok(GroupDescription::Classic(_)) => {
                Failure::new(ErrorCode::GroupIdNotFound, format!("Group {name} is not a consumer group."))
            }
            Err(failure) if failure.code == ErrorCode::GroupIdNotFound => Failure::new(failure.code, not_found(&name)),
            Err(failure) => failure,
        };
        DescribedGroup {
            error_code: error::group(failure.code),
            error_message: Some(failure.message.into()),
            group_id: name,
            ..DescribedGroup::default()
        }
    };
    Response { groups: names.into_iter().zip(told).map(row).collect(), ..Response::default() }
}

fn row(image: &Image, group: ConsumerDescription) -> DescribedGroup {
    let member = |member: ConsumerMember| Member {
        member_id: member.member_id.into(),
        instance_id: member.instance_id.map(Str::from),
        rack_id: member.rack_id.map(Str::from),
        member_epoch: member.member_epoch,
        client_id: member.caller.client_id.into(),
        client_host: member.caller.client_host.into(),
        subscribed_topic_names: member.subscribed_topics.into_iter().map(Str::from).collect(),
        subscribed_topic_regex: Some(member.subscribed_regex.into()),
        assignment: assignment(image, &member.assignment),
        target_assignment: assignment(image, &member.target),
        member_type: if member.is_classic { CLASSIC } else { CONSUMER },
    };
    DescribedGroup {
        group_id: group.group.into(),
        group_state: group.state.name().into(),
        group_epoch: group.group_epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: group.assignor.into(),
        members: group.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

/// Without topics that are gone: they have no name.
fn assignment(image: &Image, owned: &[Owned]) -> Assignment {
    let index = |partition: &PartitionId| i32::try_from(partition.0).unwrap_or(i32::MAX);
    let topic = |owned: &Owned| {
        Some(TopicPartitions {
            topic_id: uuid(owned.topic),
            topic_name: image.topics.get(&owned.topic)?.name.to_string().into(),
            partitions: owned.partitions.iter().map(index).collect(),
        })
    };
    Assignment { topic_partitions: owned.iter().filter_map(topic).collect() }
}

#[cfg(test)]
mod tests {
    use rafka_broker::group::request::{Caller, ClassicDescription, GroupReply, GroupState};
    use rafka_model::TopicId;

    use super::*;
    use crate::fake::decides::{ask, deciding_with};

    fn group(orders: TopicId) -> GroupDescription {
        let owned = |topic| Owned { topic, partitions: vec![PartitionId(1)] };
        GroupDescription::Consumer(ConsumerDescription {
            group: "g".to_owned(),
            state: GroupState::Reconciling,
            group_epoch: 8,
            assignment_epoch: 7,
            assignor: "range".to_owned(),
            members: vec![ConsumerMember {
                member_id: "m".to_owned(),
                member_epoch: 6,
                caller: Caller { client_id: "c".to_owned(), client_host: "/h".to_owned() },
                subscribed_topics: vec!["orders".to_owned()],
                subscribed_regex: "o.*".to_owned(),
                assignment: vec![owned(TopicId([9; 16])), owned(orders)],
                target: Vec::new(),
                is_classic: true,
                ..ConsumerMember::default()
            }],
        })
    }

    #[tokio::test]
    async fn groups_that_the_coordinator_assigns_are_told_and_no_others() {
        let door = deciding_with(|fake| {
            let orders = fake.orders(0).topic;
            fake.coordinates = Box::new(move |request| match request.group() {
                "g" => Ok(GroupReply::Describe(group(orders))),
                "classic" => Ok(GroupReply::Describe(GroupDescription::Classic(ClassicDescription {
                    group: "classic".to_owned(),
                    state: GroupState::Empty,
                    protocol_type: String::new(),
                    protocol: String::new(),
                    members: Vec::new(),
                }))),
                _ => Err(Failure::new(ErrorCode::GroupIdNotFound, "no such group")),
            });
        });
        for version in 0..=1 {
            let group_ids = ["g", "classic", "nope"].map(Str::from).to_vec();
            let told = ask(&door, version, &Request { group_ids, include_authorized_operations: true }).await.groups;
            let codes: Vec<_> = told.iter().map(|group| group.error_code).collect();
            assert_eq!(codes, [0, 69, 69]);
            assert_eq!(told[1].error_message.as_deref(), Some("Group classic is not a consumer group."));
            assert_eq!(told[2].error_message.as_deref(), Some("Group nope not found."));
            let group = &told[0];
            assert_eq!((&*group.group_state, group.group_epoch, group.assignment_epoch), ("Reconciling", 8, 7));
            assert_eq!((&*group.assignor_name, group.authorized_operations), ("range", 3400));
            let member = &group.members[0];
            assert_eq!((member.member_epoch, member.member_type), (6, if version >= 1 { CLASSIC } else { -1 }));
            let owned = &member.assignment.topic_partitions;
            assert_eq!((owned.len(), &*owned[0].topic_name, &owned[0].partitions[..]), (1, "orders", &[1][..]));
        }
    }
}
