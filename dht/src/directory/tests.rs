use rafka_broker::metadata::PartitionState;
use rafka_model::{LeaderEpoch, PartitionId, TopicId, TopicName, TopicPartition};

use super::*;
use crate::{Signer, testing};

fn signer() -> Signer {
    Signer::new(&[7; 32])
}

fn keys(bodies: &[Body]) -> Vec<String> {
    bodies.iter().map(|body| format!("{}{}", body.key, if body.payload.is_none() { " gone" } else { "" })).collect()
}

fn entry(index: u64, deltas: Vec<Delta>) -> Entry {
    Entry { index: MetadataIndex(index), deltas }
}

const A: &str = "01010101010101010101010101010101";

#[test]
fn an_image_makes_a_record_for_each_thing_and_all_of_them_can_be_signed() {
    let signer = signer();
    let image = testing::image(&signer, 20, &[testing::topic(1, "a", &[1; 300], 17)]);
    let bodies = records_of(&image, Quorum { generation: 2, term: 5 });
    let expected = ["q", "n/1", "n/2", "n/3", "t/a", &format!("i/{A}"), &format!("p/{A}/1"), &format!("p/{A}/2")]
        .map(str::to_owned);
    assert_eq!(keys(&bodies), expected);
    let verifier = crate::Verifier::new(signer.cluster_id(), &signer.public_key()).expect("matches");
    for body in bodies {
        let record = signer.sign(body.clone()).expect("fits");
        assert_eq!(verifier.verify(record.bytes()).expect("valid").body(), &body);
        assert_eq!(body_of(&image, Quorum { generation: 2, term: 5 }, &body.key), Some(body.clone()));
        let index = match body.key {
            Key::Quorum => 20,
            Key::Node(id) => id.0,
            _ => 17,
        };
        assert_eq!(body.version, Version::new(2, MetadataIndex(index)));
    }
    assert!(records_of(&Image::default(), Quorum::default()).is_empty());
}

#[test]
fn the_topic_says_how_many_partitions_and_a_shard_who_leads_them() {
    let mut topic = testing::topic(1, "a", &[1; 130], 9);
    topic.partitions[129] = testing::partition(&[3, 2], 8);
    topic.configs = [("max.message.bytes", "5"), ("segment.bytes", "4096")].map(|(k, v)| (k.into(), v.into())).into();
    let image = testing::image(&signer(), 9, &[topic]);
    let Some(Payload::Topic(told)) =
        body_of(&image, Quorum::default(), &Key::Topic(TopicName::new("a").expect("legal"))).and_then(|b| b.payload)
    else {
        panic!("a topic")
    };
    assert_eq!((told.partitions, told.shard.len()), (130, 128));
    assert_eq!(told.configs.keys().collect::<Vec<_>>(), ["max.message.bytes"], "a client does not care for segments");
    let Some(Payload::Shard(shard)) =
        body_of(&image, Quorum::default(), &Key::Shard(TopicId([1; 16]), 1)).and_then(|b| b.payload)
    else {
        panic!("a shard")
    };
    let last = shard.leaders.partition(1).expect("129 is the second of shard 1");
    assert_eq!((last.leader, last.leader_epoch, last.isr.len()), (Some(NodeId(3)), LeaderEpoch(8), 2));
    assert_eq!(body_of(&image, Quorum::default(), &Key::Shard(TopicId([1; 16]), 2)), None);
    assert_eq!(body_of(&image, Quorum::default(), &Key::Shard(TopicId([1; 16]), 0)), None, "rides in the topic");
}

#[test]
fn a_shard_of_the_worst_kind_still_fits_by_telling_leaders_only() {
    let wide = |partition: u64| -> PartitionState {
        let replicas: Vec<u64> = (0..30).map(|replica| u64::MAX - partition * 30 - replica).collect();
        testing::partition(&replicas, i32::MAX)
    };
    let mut topic = testing::topic(1, &"x".repeat(249), &[], u64::MAX);
    topic.partitions = (0..256).map(wide).collect();
    let signer = signer();
    let image = testing::image(&signer, u64::MAX, &[topic.clone()]);
    for key in [Key::Topic(topic.name.clone()), Key::Shard(topic.id, 1)] {
        let body = body_of(&image, Quorum::default(), &key).expect("there");
        let record = signer.sign(body).expect("fits");
        let first = record.leaders().and_then(|leaders| leaders.partition(0)).expect("there");
        assert!(first.leader.is_some() && first.replicas.is_empty());
    }
}

#[test]
fn three_replicas_of_128_partitions_fit_in_full() {
    let mut topic = testing::topic(1, "a", &[], 1 << 40);
    topic.partitions = (0..128).map(|p| testing::partition(&[1 << 40 | p, 2 << 40 | p, 3 << 40 | p], 70_000)).collect();
    let signer = signer();
    let body = topic_body(signer.cluster_id(), Quorum::default(), &topic);
    let record = signer.sign(body).expect("fits");
    assert_eq!(record.leaders().and_then(|leaders| leaders.partition(127)).expect("there").replicas.len(), 3);
}

#[test]
fn an_entry_changes_only_the_records_it_touches() {
    let signer = signer();
    let before = testing::image(&signer, 8, &[testing::topic(1, "a", &[1; 200], 8), testing::topic(2, "b", &[2], 7)]);
    let mut moved = testing::topic(1, "a", &[1; 201], 9);
    moved.partitions[150].leader = Some(NodeId(2));
    let after = testing::image(&signer, 9, &[moved, testing::topic(3, "c", &[2], 9)]);
    let partition = |partition| TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(partition) };
    let changed = |id| Delta::PartitionChanged { partition: partition(id), state: testing::partition(&[2], 2) };
    let only = |deltas| keys(&changed_by(&entry(9, deltas), &before, &after, Quorum::default()));

    assert_eq!(only(vec![changed(150)]), [format!("p/{A}/1")]);
    assert_eq!(
        only(vec![changed(200)]),
        ["t/a".to_owned(), format!("p/{A}/1")],
        "the topic's record counts partitions"
    );
    assert_eq!(only(vec![changed(3), changed(4)]), ["t/a"]);
    let config = Delta::TopicConfigChanged { id: TopicId([1; 16]), key: "retention.ms".into(), value: None };
    assert_eq!(only(vec![config]), ["t/a"]);
    assert_eq!(only(vec![Delta::NodeFenced { id: NodeId(2) }, Delta::NodeUnfenced { id: NodeId(2) }]), [""; 0]);
    assert_eq!(
        only(vec![Delta::NodeRegistered(testing::node(1))]),
        ["q", "n/1"],
        "a voter's addresses are the quorum's"
    );
    assert_eq!(only(vec![Delta::NodeRegistered(testing::node(2))]), ["n/2"]);
    assert_eq!(only(vec![Delta::VotersChanged { voters: vec![NodeId(2)] }]), ["q"]);
    let created = Delta::TopicCreated(testing::topic(3, "c", &[2], 9));
    assert_eq!(only(vec![created]), ["t/c".to_owned(), format!("i/{}", "03".repeat(16))]);
    let deleted =
        changed_by(&entry(9, vec![Delta::TopicDeleted { id: TopicId([2; 16]) }]), &before, &after, Quorum::default());
    assert_eq!(keys(&deleted), ["t/b gone".to_owned(), format!("i/{} gone", "02".repeat(16))]);
    assert!(deleted.iter().all(|body| body.version == Version::new(0, MetadataIndex(9))));
}

#[test]
fn a_name_deleted_and_made_anew_in_one_entry_lives() {
    let signer = signer();
    let anew = testing::topic(2, "a", &[1], 9);
    let before = testing::image(&signer, 8, &[testing::topic(1, "a", &[1], 8)]);
    let after = testing::image(&signer, 9, std::slice::from_ref(&anew));
    let deltas = vec![Delta::TopicDeleted { id: TopicId([1; 16]) }, Delta::TopicCreated(anew)];
    let bodies = keys(&changed_by(&entry(9, deltas), &before, &after, Quorum::default()));
    assert_eq!(bodies, [format!("i/{A} gone"), "t/a".to_owned(), format!("i/{}", "02".repeat(16))]);
}

#[test]
fn the_leader_of_the_first_live_partition_publishes_and_the_voter_what_nobody_leads() {
    let mut a = testing::topic(1, "a", &[2; 129], 8);
    a.partitions[0].leader = None;
    a.partitions[128].leader = None;
    let image = testing::image(&signer(), 8, &[a, testing::topic(2, "b", &[3, 2], 7)]);
    let of = |node| published_by(&image, NodeId(node)).iter().map(Key::to_string).collect::<Vec<_>>();
    assert_eq!(of(1), ["q".to_owned(), "n/1".to_owned(), format!("p/{A}/1")]);
    assert_eq!(of(2), ["n/2".to_owned(), "t/a".to_owned(), format!("i/{A}")]);
    assert_eq!(of(3), ["n/3".to_owned(), "t/b".to_owned(), format!("i/{}", "02".repeat(16))]);
    assert!(of(4).is_empty());
    let all: usize = (1..=3).map(|node| of(node).len()).sum();
    assert_eq!(all, records_of(&image, Quorum::default()).len(), "every record has one publisher");
}
