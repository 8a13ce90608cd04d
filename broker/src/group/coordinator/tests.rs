use proptest::prelude::*;
use rafka_model::{PartitionId, TopicId};

use super::*;
use crate::group::request::{Commit, ConsumerHeartbeat, ForgetOffsets, GroupKind, OffsetToCommit};
use crate::group::testing::*;

fn forget(desk: &mut Desk, group: &str, topics: &[&str]) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
    let partitions = topics.iter().map(|topic| ((*topic).to_owned(), PartitionId(0))).collect();
    match desk.now_asked(GroupRequest::ForgetOffsets(ForgetOffsets { group: group.to_owned(), partitions })) {
        Ok(GroupReply::ForgetOffsets(results)) => Ok(results),
        Err(failure) => Err(failure.code),
        other => panic!("{other:?}"),
    }
}

fn delete(desk: &mut Desk, group: &str) -> Result<(), ErrorCode> {
    desk.now_asked(GroupRequest::Delete { group: group.to_owned() }).map(|_| ()).map_err(|failure| failure.code)
}

fn all(desk: &Desk) -> Vec<(String, String, u32, i64)> {
    let owned = |(group, topic, partition, offset): (&str, &str, PartitionId, i64)| {
        (group.to_owned(), topic.to_owned(), partition.0, offset)
    };
    desk.coordinator.committed().map(owned).collect()
}

#[test]
fn offsets_are_kept_with_their_words_and_survive_a_restart() {
    let mut desk = Desk::new(quick());
    let mut first = commit("g", "orders", 3, 42);
    first.offsets[0].metadata = "über".to_owned();
    first.offsets[0].leader_epoch = 5;
    first.offsets[0].topic_id = Some(TopicId([9; 16]));
    assert_eq!(desk.commit(first), Ok(vec![Ok(())]));
    assert_eq!(desk.commit(commit("g", "others", 0, 1)), Ok(vec![Ok(())]));
    assert_eq!(desk.commit(commit("", "others", 0, 2)), Ok(vec![Ok(())]), "old clients need no name");
    for _ in 0..2 {
        let offsets = desk.offsets("g");
        assert_eq!(offsets.len(), 2);
        let one = &offsets[0];
        assert_eq!((one.topic.as_str(), one.partition, one.offset), ("orders", PartitionId(3), 42));
        assert_eq!((one.leader_epoch, one.metadata.as_str(), one.topic_id), (5, "über", Some(TopicId([9; 16]))));
        assert_eq!((desk.offset("g", "orders", 4), desk.offset("x", "orders", 3)), (-1, -1));
        assert_eq!(desk.coordinator.stats().offsets, 3);
        desk.restart();
    }
    let listed = desk.coordinator.list();
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (listed[1].state, listed[1].kind, listed[1].protocol_type.as_str()),
        (GroupState::Empty, GroupKind::Classic, "")
    );
}

#[test]
fn words_that_are_too_long_are_refused_for_their_partition_alone() {
    let mut desk = Desk::new(quick());
    let mut both = commit("g", "orders", 0, 1);
    both.offsets.push(OffsetToCommit { metadata: "x".repeat(4097), ..commit("g", "orders", 1, 1).offsets.remove(0) });
    assert_eq!(desk.commit(both), Ok(vec![Ok(()), Err(ErrorCode::OffsetMetadataTooLarge)]));
    assert_eq!((desk.offset("g", "orders", 0), desk.offset("g", "orders", 1)), (1, -1));
    let generation = Commit { generation: 1, member_id: "m".to_owned(), ..commit("h", "orders", 0, 1) };
    assert_eq!(desk.commit(generation), Err(ErrorCode::IllegalGeneration), "there is no such group");
    let offsets = vec![OffsetToCommit::default(); 100_001];
    assert_eq!(desk.commit(Commit { offsets, ..commit("g", "", 0, 0) }), Err(ErrorCode::InvalidRequest));
}

#[test]
fn offsets_of_topics_that_members_read_cannot_be_forgotten() {
    let mut desk = Desk::new(quick());
    assert_eq!(forget(&mut desk, "g", &["orders"]), Err(ErrorCode::GroupIdNotFound));
    let joined = desk.settle(&["one"]);
    for topic in ["orders", "others"] {
        desk.commit(commit_by(&joined[0], topic, 0, 5)).expect("a member");
    }
    let results = forget(&mut desk, "g", &["orders", "others", "none"]).expect("consumers' topics are known");
    assert_eq!(results, [Err(ErrorCode::GroupSubscribedToTopic), Ok(()), Ok(())]);
    assert_eq!((desk.offset("g", "orders", 0), desk.offset("g", "others", 0)), (5, -1));
    desk.restart();
    assert_eq!((desk.offset("g", "orders", 0), desk.offset("g", "others", 0)), (5, -1));
    assert_eq!(delete(&mut desk, "g"), Err(ErrorCode::NonEmptyGroup));
    desk.leave(&[(&joined[0].member_id, None)]).expect("done");
    assert_eq!(forget(&mut desk, "g", &["orders"]), Ok(vec![Ok(())]));
}

#[test]
fn what_other_protocols_read_cannot_be_told() {
    let mut desk = Desk::new(quick());
    let asked = desk.ask(GroupRequest::Join(Join { protocol_type: "connect".to_owned(), ..join_as("c") }));
    desk.pass(0);
    let joined = desk.joined(asked);
    desk.sync_all(std::slice::from_ref(&joined), &["a"]);
    assert_eq!(forget(&mut desk, "g", &["orders"]), Err(ErrorCode::NonEmptyGroup));
    // Consumers whose subscription cannot be read may read everything.
    let mut odd = join_as("c");
    odd.group = "odd".to_owned();
    odd.protocols[0].metadata = bytes("?");
    let odd = desk.ask(GroupRequest::Join(odd));
    desk.pass(0);
    desk.joined(odd);
    assert_eq!(forget(&mut desk, "odd", &["orders"]), Ok(vec![Err(ErrorCode::GroupSubscribedToTopic)]));
}

#[test]
fn a_deleted_group_is_gone_with_its_offsets_also_after_a_restart() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one"]);
    desk.commit(commit_by(&joined[0], "orders", 0, 5)).expect("a member");
    desk.commit(commit("h", "orders", 0, 6)).expect("nobody is there");
    desk.leave(&[(&joined[0].member_id, None)]).expect("done");
    assert_eq!(delete(&mut desk, "g"), Ok(()));
    assert_eq!(delete(&mut desk, "g"), Err(ErrorCode::GroupIdNotFound));
    for _ in 0..2 {
        assert_eq!(desk.describe("g"), Err(ErrorCode::GroupIdNotFound));
        assert_eq!(all(&desk), [("h".to_owned(), "orders".to_owned(), 0, 6)]);
        assert_eq!(desk.coordinator.stats().offsets, 1);
        desk.restart();
    }
}

#[test]
fn offsets_of_a_topic_that_is_gone_are_forgotten_and_those_of_its_successor_stay() {
    let mut desk = Desk::new(quick());
    desk.set_topic("orders", 1, 2);
    let of = |id: u8, partition, offset| {
        let mut commit = commit("g", "orders", partition, offset);
        commit.offsets[0].topic_id = Some(TopicId([id; 16]));
        commit
    };
    desk.commit(of(1, 0, 5)).expect("taken");
    desk.commit(commit("h", "orders", 0, 5)).expect("taken");
    desk.commit(commit("h", "later", 0, 5)).expect("the image is behind: the topic is not there yet");
    desk.step(|coordinator, context| coordinator.image_changed(context));
    desk.commit(of(2, 1, 7)).expect("the topic was made again, the image is behind");
    desk.set_topic("orders", 2, 2);
    let left = [("g".to_owned(), "orders".to_owned(), 1, 7), ("h".to_owned(), "later".to_owned(), 0, 5)];
    assert_eq!(all(&desk), left);
    desk.restart();
    assert_eq!(all(&desk), left);
    desk.drop_topic("orders");
    assert_eq!(all(&desk), left[1..]);
}

#[test]
fn offsets_age_once_the_group_is_empty_and_the_group_goes_with_them() {
    let week = minutes(7 * 24 * 60);
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one"]);
    desk.commit(commit_by(&joined[0], "orders", 0, 5)).expect("a member");
    desk.commit(commit_by(&joined[0], "unread", 0, 5)).expect("a member");
    desk.commit(commit("simple", "orders", 0, 6)).expect("nobody is there");
    for _ in 0..week / 9_000 - 2 {
        desk.pass(9_000);
        desk.beat(&joined[0]).expect("alive");
    }
    assert_eq!(all(&desk).len(), 3);
    for _ in 0..70 {
        desk.pass(9_000);
        desk.beat(&joined[0]).expect("alive");
    }
    assert_eq!(all(&desk), [("g".to_owned(), "orders".to_owned(), 0, 5)], "what members read does not age");
    desk.leave(&[(&joined[0].member_id, None)]).expect("done");
    desk.pass(week - minutes(11));
    desk.restart();
    assert_eq!(all(&desk).len(), 1);
    desk.pass(minutes(30));
    assert_eq!(desk.coordinator.list(), []);
    desk.restart();
    assert_eq!(desk.coordinator.list(), [], "tombstones took the group");
}

#[test]
fn offsets_live_as_long_as_their_commit_says() {
    let mut desk = Desk::new(quick());
    for (partition, life) in [(0, Some(minutes(60))), (1, None), (2, Some(u64::MAX)), (3, Some(0))] {
        let mut commit = Commit { retention_ms: life, ..commit("g", "orders", partition, 5) };
        commit.offsets[0].topic_id = Some(TopicId([9; 16]));
        assert_eq!(desk.commit(commit), Ok(vec![Ok(())]));
    }
    let partitions = |desk: &Desk| all(desk).iter().map(|(_, _, partition, _)| *partition).collect::<Vec<_>>();
    let told = desk.offsets("g");
    desk.restart();
    assert_eq!(desk.offsets("g"), told, "nothing is known that was not written");
    desk.pass(minutes(30));
    assert_eq!(partitions(&desk), [0, 1, 2]);
    desk.pass(minutes(45));
    assert_eq!(partitions(&desk), [1, 2]);
    desk.pass(minutes(8 * 24 * 60));
    assert_eq!(partitions(&desk), [2], "longer than the setting");
    desk.restart();
    assert_eq!(partitions(&desk), [2]);
}

#[test]
fn many_offsets_age_in_small_steps() {
    let mut desk = Desk::new(Config { offsets_retention_ms: 1_000, ..quick() });
    let many = |group: &str| {
        let one = commit(group, "orders", 0, 1);
        let offsets = (0..6_000).map(|id| OffsetToCommit { partition: PartitionId(id), ..one.offsets[0].clone() });
        Commit { offsets: offsets.collect(), ..one }
    };
    (0..5).for_each(|i| drop(desk.commit(many(&i.to_string())).expect("taken")));
    desk.now += minutes(10);
    let mut left = Vec::new();
    while desk.coordinator.next_timeout().is_some_and(|at| at.0 <= desk.now * 1_000_000) {
        desk.step(|coordinator, context| coordinator.tick(context));
        left.push(desk.coordinator.stats().offsets);
    }
    assert_eq!(left, [18_000, 6_000, 0]);
}

#[test]
fn records_of_unknown_kinds_are_left_alone_and_damage_is_told() {
    let mut coordinator = Coordinator::new(Config::default());
    assert_eq!(coordinator.replay(&[0, 99, 1, 2, 3], Some(&[1])), Ok(()));
    assert_eq!(coordinator.replay(&[0], None), Err(RecordError::Truncated));
    assert_eq!(coordinator.replay(&[0, 2, 0, 9, b'g'], None), Err(RecordError::Truncated));
    assert_eq!(coordinator.replay(&[0, 2, 0, 1, b'g'], Some(&[0, 9])), Err(RecordError::Version(9)));
    assert_eq!(coordinator.list(), []);
}

proptest! {
    #[test]
    fn no_record_makes_the_coordinator_panic(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        kind in 0u8..20,
        value in proptest::collection::vec(any::<u8>(), 0..200),
        version in 0u8..6,
    ) {
        let key = [&[0, kind][..], &key].concat();
        let value = [&[0, version][..], &value].concat();
        let mut coordinator = Coordinator::new(Config::default());
        let _ = coordinator.replay(&key, Some(&value));
        let _ = coordinator.replay(&key, None);
    }

    #[test]
    fn no_damage_to_the_log_makes_the_coordinator_panic(
        flips in proptest::collection::vec((0usize..400, 0u8..8), 1..4),
    ) {
        let mut desk = Desk::new(quick());
        let joined = desk.settle(&["one", "two"]);
        desk.commit(commit_by(&joined[0], "orders", 0, 5)).expect("a member");
        desk.now_asked(GroupRequest::ConsumerHeartbeat(ConsumerHeartbeat {
            group: "k".to_owned(),
            member_id: "m".to_owned(),
            rebalance_timeout_ms: 1_000,
            subscribed_topics: Some(vec!["orders".to_owned()]),
            owned: Some(vec![]),
            ..ConsumerHeartbeat::default()
        })).expect("joins");
        for record in &mut desk.log {
            let Some(value) = &record.value else { continue };
            let mut damaged = value.to_vec();
            for (at, bit) in &flips {
                let length = damaged.len();
                damaged[at % length] ^= 1 << bit;
            }
            record.value = Some(damaged.into());
        }
        // What can be read is believed, and the members go on as they please.
        desk.coordinator = Coordinator::new(desk.config);
        for record in &desk.log {
            let _ = desk.coordinator.replay(&record.key, record.value.as_deref());
        }
        desk.replies.clear();
        desk.step(|coordinator, context| coordinator.loaded(context));
        for _ in 0..3 {
            desk.ask(join("three"));
            desk.ask(rejoin("one", &joined[0].member_id));
            desk.ask(sync(&joined[0], vec![]));
            desk.ask(heartbeat(&joined[1]));
            desk.ask(GroupRequest::Describe { group: "k".to_owned() });
            desk.pass(minutes(1));
        }
        desk.pass(minutes(10 * 24 * 60));
    }
}
