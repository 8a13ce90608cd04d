use std::sync::Arc;

use rafka_model::limits::GROUP_COMMIT_OFFSETS_MAX;

use super::*;
use crate::fake::Fake;
use crate::fake::decides::{ask, deciding_with};

/// Offsets are partition + 10; of partition 1 none is stored, of partition 2 none can be told.
fn stored(asked: OffsetsAsked) -> Result<Vec<CommittedOffset>, Failure> {
    if asked.group == "lost" {
        return Err(Failure::new(ErrorCode::NotCoordinator, "elsewhere"));
    }
    let all = || vec![("gone".to_owned(), vec![PartitionId(0)]), ("orders".to_owned(), vec![PartitionId(0)])];
    let topics = asked.topics.unwrap_or_else(all);
    let offsets = topics.into_iter().flat_map(|(topic, partitions)| {
        partitions.into_iter().map(move |partition| CommittedOffset {
            topic: topic.clone(),
            partition,
            offset: if partition.0 == 1 { -1 } else { i64::from(partition.0) + 10 },
            leader_epoch: 3,
            metadata: "m".to_owned(),
            error: (partition.0 == 2).then_some(ErrorCode::UnstableOffsetCommit),
            ..CommittedOffset::default()
        })
    });
    Ok(offsets.collect())
}

fn door() -> Arc<Door<Fake>> {
    deciding_with(|fake| {
        fake.coordinates = Box::new(|request| match request {
            GroupRequest::Offsets(asked) => stored(asked).map(GroupReply::Offsets),
            other => panic!("{other:?}"),
        });
    })
}

fn alone(group: &'static str, topics: Option<Vec<i32>>) -> Request {
    let topic = |partition_indexes| vec![OffsetFetchRequestTopic { name: "orders".into(), partition_indexes }];
    Request { group_id: group.into(), topics: topics.map(topic), ..Request::default() }
}

/// Partition, offset, error.
type Row = (i32, i64, i16);

fn rows(topic: &OffsetFetchResponseTopic) -> Vec<Row> {
    topic.partitions.iter().map(|one| (one.partition_index, one.committed_offset, one.error_code)).collect()
}

fn rows_of_many(topic: &OffsetFetchResponseTopics) -> Vec<Row> {
    topic.partitions.iter().map(|one| (one.partition_index, one.committed_offset, one.error_code)).collect()
}

#[tokio::test]
async fn a_group_alone_is_told_its_offsets_in_the_order_asked() {
    let door = door();
    for version in 1..=7 {
        let told = ask(&door, version, &alone("g", Some(vec![4, -1, 1, 2, 0]))).await;
        let expected = [(4, 14, 0), (-1, -1, 0), (1, -1, 0), (2, -1, 88), (0, 10, 0)];
        assert_eq!((told.error_code, rows(&told.topics[0])), (0, expected.to_vec()), "version {version}");
        let first = &told.topics[0].partitions[0];
        let epoch = if version >= 5 { 3 } else { -1 };
        assert_eq!((first.metadata.as_deref(), first.committed_leader_epoch), (Some("m"), epoch));
    }
}

#[tokio::test]
async fn all_offsets_are_told_by_name_though_the_topic_is_gone() {
    let door = door();
    for version in 2..=7 {
        let told = ask(&door, version, &alone("g", None)).await;
        let names: Vec<_> = told.topics.iter().map(|topic| &*topic.name).collect();
        assert_eq!((names, rows(&told.topics[1])), (vec!["gone", "orders"], vec![(0, 10, 0)]));
    }
}

#[tokio::test]
async fn a_refused_group_is_told_where_the_version_has_a_place_for_it() {
    let door = door();
    let told = ask(&door, 1, &alone("lost", Some(vec![5]))).await;
    assert_eq!((told.error_code, rows(&told.topics[0])), (0, vec![(5, -1, 16)]));
    let told = ask(&door, 2, &alone("lost", Some(vec![5]))).await;
    assert_eq!((told.error_code, told.topics.len()), (16, 0));
}

#[tokio::test]
async fn several_groups_and_ids_are_told_apart() {
    let door = door();
    let orders = uuid(door.desk.orders(0).topic);
    for version in 8..=10 {
        let topic = |name: &'static str, topic_id| match version >= IDS_FROM {
            true => OffsetFetchRequestTopics { topic_id, partition_indexes: vec![0], ..Default::default() },
            false => {
                OffsetFetchRequestTopics { name: name.into(), partition_indexes: vec![0], ..Default::default() }
            }
        };
        let group = |group: &'static str, topics| OffsetFetchRequestGroup {
            group_id: group.into(),
            topics,
            ..OffsetFetchRequestGroup::default()
        };
        let named = vec![topic("nope", Uuid([9; 16])), topic("orders", orders)];
        let groups = vec![group("g", Some(named)), group("lost", None), group("all", None)];
        let told = ask(&door, version, &Request { groups, ..Request::default() }).await.groups;
        let codes: Vec<_> = told.iter().map(|group| (&*group.group_id, group.error_code)).collect();
        assert_eq!(codes, [("g", 0), ("lost", 16), ("all", 0)]);
        let nope = if version >= IDS_FROM { (0, -1, 100) } else { (0, 10, 0) };
        assert_eq!(rows_of_many(&told[0].topics[0]), [nope], "stored offsets need no topic, ids do");
        assert_eq!(rows_of_many(&told[0].topics[1]), [(0, 10, 0)]);
        let all: Vec<_> = told[2].topics.iter().map(|topic| (&*topic.name, topic.topic_id)).collect();
        match version >= IDS_FROM {
            true => assert_eq!(all, [("", orders)]),
            false => assert_eq!(all, [("gone", Uuid::ZERO), ("orders", Uuid::ZERO)]),
        }
    }
}

#[tokio::test]
async fn members_show_who_they_are_and_too_much_is_refused() {
    let door = door();
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: Some("m".into()),
        member_epoch: 4,
        topics: Some(Vec::new()),
    };
    let mut request = Request { groups: vec![group], require_stable: true, ..Request::default() };
    ask(&door, 9, &request).await;
    let asked = door.desk.asked_groups.lock().pop();
    let Some(GroupRequest::Offsets(asked)) = asked else { panic!("{asked:?}") };
    assert_eq!((asked.member_id.as_deref(), asked.member_epoch, asked.require_stable), (Some("m"), 4, true));
    assert_eq!(asked.topics, Some(Vec::new()), "no topic is not every topic");
    let many = OffsetFetchRequestTopics { partition_indexes: vec![0; GROUP_COMMIT_OFFSETS_MAX + 1], ..Default::default() };
    request.groups[0].topics = Some(vec![many]);
    assert_eq!(ask(&door, 9, &request).await.groups[0].error_code, 42);
}
