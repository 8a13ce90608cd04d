use bytes::Bytes;
use rafka_model::limits::{GROUP_ASSIGNMENT_BYTES_MAX, GROUP_LEAVING_MAX, GROUP_METADATA_BYTES_MAX, GROUP_PENDING_MAX};

use crate::ErrorCode;
use crate::group::Config;
use crate::group::request::{
    ClassicDescription, GroupDescription, GroupReply, GroupRequest, GroupState, Join, JoinReply, Joined, Protocol, Sync,
};
use crate::group::testing::*;

fn described(desk: &mut Desk) -> ClassicDescription {
    match desk.describe("g") {
        Ok(GroupDescription::Classic(group)) => group,
        other => panic!("{other:?}"),
    }
}

fn again(joined: &Joined) -> GroupRequest {
    rejoin("", &joined.member_id)
}

#[test]
fn the_first_generation_waits_until_nobody_came_for_a_while() {
    let mut desk = Desk::new(Config::default());
    let one = desk.ask(join("one"));
    desk.pass(2_000);
    let two = desk.ask(join("two"));
    desk.pass(2_900);
    assert!(desk.answer(one).is_none() && desk.answer(two).is_none(), "three seconds since the last are not over");
    desk.pass(200);
    let (one, two) = (desk.joined(one), desk.joined(two));
    assert_eq!((one.generation, two.generation), (1, 1));
    assert_eq!((&one.leader, &two.leader), (&one.member_id, &one.member_id));
    assert_eq!((one.members.len(), two.members.len()), (2, 0), "the leader alone is told who is there");
    assert_eq!(
        one.members.iter().map(|one| one.metadata.clone()).collect::<Vec<_>>(),
        [subscription(&["orders"]), subscription(&["orders"])]
    );
}

#[test]
fn the_first_generation_waits_no_longer_than_a_rebalance_may_take() {
    let mut desk = Desk::new(Config::default());
    let first = desk.ask(GroupRequest::Join(Join { rebalance_timeout_ms: 10_000, ..join_as("one") }));
    for _ in 0..4 {
        desk.pass(2_400);
        desk.ask(join("another"));
    }
    assert!(desk.replies.is_empty());
    desk.pass(400);
    assert_eq!(desk.joined(first).members.len(), 5);
}

#[test]
fn members_get_what_the_leader_gives_them_and_nothing_if_it_gives_nothing() {
    let mut desk = Desk::new(quick());
    let (one, two) = (desk.ask(join("one")), desk.ask(join("two")));
    desk.pass(0);
    let (one, two) = (desk.joined(one), desk.joined(two));
    assert_eq!(described(&mut desk).state, GroupState::CompletingRebalance);
    let waits = desk.ask(sync(&two, vec![]));
    assert!(desk.answer(waits).is_none());
    let leads = desk.ask(sync(&one, vec![(one.member_id.clone(), bytes("all"))]));
    assert_eq!((desk.synced(leads), desk.synced(waits)), ("all".to_owned(), String::new()));
    let group = described(&mut desk);
    assert_eq!((group.state, group.protocol.as_str(), group.members.len()), (GroupState::Stable, "range", 2));
    assert_eq!(group.members[0].assignment, bytes("all"));
    let again = desk.ask(sync(&one, vec![]));
    assert_eq!(desk.synced(again), "all", "the answer may have been lost");
}

#[test]
fn a_new_member_is_given_an_id_first_and_the_id_expires() {
    let mut desk = Desk::new(quick());
    let ask = || GroupRequest::Join(Join { requires_member_id: true, ..join_as("one") });
    let given = |desk: &mut Desk| match desk.now_asked(ask()) {
        Ok(GroupReply::Join(JoinReply::TakeMemberId(id))) => id,
        other => panic!("{other:?}"),
    };
    let (used, unused) = (given(&mut desk), given(&mut desk));
    assert!(used.starts_with("one-") && used.len() == 4 + 36 && used != unused, "{used}");
    let joins = desk.ask(rejoin("one", &used));
    desk.pass(0);
    let joined = desk.joined(joins);
    assert_eq!(joined.member_id, used);
    desk.sync_all(std::slice::from_ref(&joined), &["a"]);
    for _ in 0..2 {
        desk.pass(6_000);
        desk.beat(&joined).expect("alive");
    }
    let late = desk.ask(rejoin("one", &unused));
    assert_eq!(desk.refused(late), ErrorCode::UnknownMemberId);
}

#[test]
fn a_rebalance_waits_for_the_members_and_leaves_behind_who_does_not_come() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one", "two", "three"]);
    let newcomer = desk.ask(join("four"));
    assert_eq!(desk.beat(&joined[0]), Err(ErrorCode::RebalanceInProgress));
    let one = desk.ask(again(&joined[0]));
    let two = desk.ask(again(&joined[1]));
    for _ in 0..11 {
        desk.pass(5_000);
        assert_eq!(desk.beat(&joined[2]), Err(ErrorCode::RebalanceInProgress), "it lives, but does not come");
    }
    assert!(desk.replies.is_empty());
    desk.pass(5_000);
    let (one, two, four) = (desk.joined(one), desk.joined(two), desk.joined(newcomer));
    assert_eq!([one.generation, two.generation, four.generation], [2; 3]);
    assert_eq!(one.members.len(), 3);
    assert_eq!(desk.beat(&joined[2]), Err(ErrorCode::UnknownMemberId));
    assert_eq!(desk.beat(&joined[0]), Err(ErrorCode::IllegalGeneration));
}

#[test]
fn silent_members_are_removed_and_the_last_leaves_an_empty_group() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one", "two"]);
    desk.pass(9_000);
    desk.beat(&joined[1]).expect("alive");
    desk.pass(2_000);
    assert_eq!(desk.beat(&joined[1]), Err(ErrorCode::RebalanceInProgress));
    let two = desk.ask(again(&joined[1]));
    let two = desk.joined(two);
    assert_eq!((two.generation, &two.leader, two.members.len()), (2, &two.member_id, 1));
    desk.sync_all(&[two], &["all"]);
    desk.pass(11_000);
    let group = described(&mut desk);
    assert_eq!((group.state, group.protocol_type.as_str(), group.members.len()), (GroupState::Empty, "consumer", 0));
    assert_eq!(desk.coordinator.stats().members, 0);
    let next = desk.settle(&["three"]);
    assert_eq!(next[0].generation, 4, "generations never repeat: 3 was the empty one");
}

#[test]
fn a_follower_that_comes_again_gets_its_place_and_a_leader_begins_a_generation() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one", "two"]);
    let same = desk.ask(rejoin("two", &joined[1].member_id));
    assert_eq!(desk.joined(same).generation, 1);
    let leader = desk.ask(rejoin("one", &joined[0].member_id));
    assert!(desk.answer(leader).is_none());
    let follower = desk.ask(rejoin("two", &joined[1].member_id));
    assert_eq!((desk.joined(leader).generation, desk.joined(follower).generation), (2, 2));
    // While the assignment is awaited, everybody who comes again with the same metadata gets its place.
    let leader = desk.ask(rejoin("one", &joined[0].member_id));
    assert_eq!(desk.joined(leader).members.len(), 2);
    let mut changed = join_as("two");
    changed.member_id = joined[1].member_id.clone();
    changed.protocols[0].metadata = subscription(&["orders", "others"]);
    let waits = desk.ask(GroupRequest::Join(changed));
    assert!(desk.answer(waits).is_none(), "other metadata begin a generation");
}

#[test]
fn who_does_not_ask_for_its_assignment_is_left_behind() {
    let mut desk = Desk::new(quick());
    let (one, two) = (desk.ask(join("one")), desk.ask(join("two")));
    desk.pass(0);
    let (one, two) = (desk.joined(one), desk.joined(two));
    let waits = desk.ask(sync(&two, vec![]));
    for _ in 0..13 {
        desk.pass(4_900);
        let _ = desk.beat(&one);
    }
    assert_eq!(desk.refused(waits), ErrorCode::RebalanceInProgress);
    assert_eq!(desk.beat(&one), Err(ErrorCode::UnknownMemberId), "the leader never sent an assignment");
    let two = desk.ask(again(&two));
    assert_eq!(desk.joined(two).members.len(), 1);
}

#[test]
fn the_protocol_that_most_like_best_is_chosen_of_those_that_all_speak() {
    let mut desk = Desk::new(quick());
    let ask = |desk: &mut Desk, names: &[&str]| {
        let protocol = |name: &&str| Protocol { name: (*name).to_owned(), metadata: bytes(name) };
        let protocols = names.iter().map(protocol).collect();
        desk.ask(GroupRequest::Join(Join { protocol_type: "connect".to_owned(), protocols, ..join_as("c") }))
    };
    let asked = [ask(&mut desk, &["a", "b", "c"]), ask(&mut desk, &["c", "b"]), ask(&mut desk, &["d", "b", "c", "b"])];
    let stranger = ask(&mut desk, &["a"]);
    assert_eq!(desk.refused(stranger), ErrorCode::InconsistentGroupProtocol);
    let other_type = desk.ask(join("one"));
    assert_eq!(desk.refused(other_type), ErrorCode::InconsistentGroupProtocol);
    desk.pass(0);
    let joined = asked.map(|asked| desk.joined(asked));
    assert_eq!(joined[0].protocol, "b");
    assert_eq!(joined[0].members[0].metadata, bytes("b"));
    let none = desk.ask(GroupRequest::Join(Join { group: "h".to_owned(), protocols: vec![], ..join_as("c") }));
    assert_eq!(desk.refused(none), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(desk.coordinator.list().len(), 1, "a refused member leaves no group behind");
}

#[test]
fn members_that_leave_together_cause_one_generation() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one", "two", "three"]);
    let left =
        desk.leave(&[(&joined[0].member_id, None), ("nobody", None), (&joined[2].member_id, None)]).expect("done");
    let results: Vec<_> = left.iter().map(|one| one.result).collect();
    assert_eq!(results, [Ok(()), Err(ErrorCode::UnknownMemberId), Ok(())]);
    let two = desk.ask(again(&joined[1]));
    let two = desk.joined(two);
    assert_eq!((two.generation, two.leader.clone()), (2, two.member_id));
    assert_eq!(desk.coordinator.stats().rebalances, 2);
}

#[test]
fn a_member_that_leaves_or_joins_again_while_it_waits_is_answered() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one", "two"]);
    let waits = desk.ask(again(&joined[0]));
    let again_waits = desk.ask(again(&joined[0]));
    assert_eq!(desk.refused(waits), ErrorCode::RebalanceInProgress);
    desk.leave(&[(&joined[0].member_id, None)]).expect("done");
    assert_eq!(desk.refused(again_waits), ErrorCode::UnknownMemberId);
    let two = desk.ask(again(&joined[1]));
    let two = desk.joined(two);
    let three = desk.ask(join("three"));
    let two_again = desk.ask(again(&two));
    let (two, three) = (desk.joined(two_again), desk.joined(three));
    let waits = desk.ask(sync(&three, vec![]));
    desk.leave(&[(&three.member_id, None)]).expect("done");
    assert_eq!(desk.refused(waits), ErrorCode::UnknownMemberId);
    assert_eq!(desk.beat(&two), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn a_static_member_comes_back_to_its_place_without_a_rebalance_and_fences_its_former_self() {
    let mut desk = Desk::new(quick());
    let (one, two) = (desk.ask(join_static("one", "")), desk.ask(join_static("two", "")));
    desk.pass(0);
    let (one, two) = (desk.joined(one), desk.joined(two));
    desk.sync_all(&[one.clone(), two.clone()], &["a", "b"]);
    desk.pass(40_000);
    let back = desk.ask(join_static("two", ""));
    let back = desk.joined(back);
    assert!(back.member_id != two.member_id && back.generation == 1 && !back.skip_assignment);
    let asked = desk.ask(sync(&back, vec![]));
    assert_eq!(desk.synced(asked), "b");
    assert_eq!(desk.beat(&one), Ok(()));
    let fenced = GroupRequest::Sync(Sync {
        group: "g".to_owned(),
        generation: 1,
        member_id: two.member_id.clone(),
        instance_id: Some("two".to_owned()),
        ..Sync::default()
    });
    let fenced = desk.ask(fenced);
    assert_eq!(desk.refused(fenced), ErrorCode::FencedInstanceId);
    let fenced = desk.ask(join_static("two", &two.member_id));
    assert_eq!(desk.refused(fenced), ErrorCode::FencedInstanceId);
    desk.restart();
    assert_eq!((desk.beat(&back), desk.beat(&two)), (Ok(()), Err(ErrorCode::UnknownMemberId)));
    assert_eq!(desk.coordinator.stats().rebalances, 0);
}

#[test]
fn a_static_leader_that_comes_back_need_not_assign_again() {
    let mut desk = Desk::new(quick());
    let (one, two) = (desk.ask(join_static("one", "")), desk.ask(join_static("two", "")));
    desk.pass(0);
    let (one, two) = (desk.joined(one), desk.joined(two));
    desk.sync_all(&[one.clone(), two], &["a", "b"]);
    let back = desk.ask(join_static("one", ""));
    let back = desk.joined(back);
    assert!(back.skip_assignment && back.leader == back.member_id && back.members.len() == 2);
    let asked = desk.ask(sync(&back, vec![]));
    assert_eq!(desk.synced(asked), "a");
    // A client that knows nothing of this must not think that it leads.
    let GroupRequest::Join(mut old) = join_static("one", "") else { unreachable!() };
    old.can_skip_assignment = false;
    let old = desk.ask(GroupRequest::Join(old));
    let old = desk.joined(old);
    assert!(!old.skip_assignment && old.leader == back.member_id && old.members.is_empty());
}

#[test]
fn a_static_member_that_changes_its_mind_begins_a_generation() {
    let mut desk = Desk::new(quick());
    let one = desk.ask(join_static("one", ""));
    desk.pass(0);
    let one = desk.joined(one);
    // The assignment is awaited: the leader knows the old id.
    let back = desk.ask(join_static("one", ""));
    let back = desk.joined(back);
    assert_eq!(back.generation, 2);
    desk.sync_all(std::slice::from_ref(&back), &["a"]);
    let GroupRequest::Join(mut other) = join_static("one", "") else { unreachable!() };
    other.protocols.push(Protocol { name: "sticky".to_owned(), metadata: bytes("x") });
    other.protocols.swap(0, 1);
    let other = desk.ask(GroupRequest::Join(other));
    let other = desk.joined(other);
    assert_eq!((other.generation, other.protocol.as_str()), (3, "sticky"), "the choice of protocol changes");
    assert_eq!(desk.beat(&back), Err(ErrorCode::UnknownMemberId));
    assert_eq!(desk.beat(&one), Err(ErrorCode::UnknownMemberId));
    let left = desk.leave(&[("", Some("one")), ("", Some("two"))]).expect("done");
    assert_eq!((left[0].result, left[1].result), (Ok(()), Err(ErrorCode::UnknownMemberId)));
    assert_eq!(described(&mut desk).state, GroupState::Empty);
}

#[test]
fn static_members_keep_their_places_while_their_sessions_last() {
    let mut desk = Desk::new(quick());
    let (one, two) = (desk.ask(join_static("one", "")), desk.ask(join_static("two", "")));
    desk.pass(0);
    let (one, two) = (desk.joined(one), desk.joined(two));
    desk.sync_all(&[one.clone(), two], &["a", "b"]);
    let leader = desk.ask(join_static("one", &one.member_id));
    desk.pass(50_000);
    assert!(desk.answer(leader).is_none());
    desk.pass(10_000);
    let joined = desk.joined(leader);
    assert_eq!((joined.generation, joined.members.len()), (2, 1), "its session ended with the wait");
}

#[test]
fn a_group_takes_no_more_members_than_it_may() {
    let mut desk = Desk::new(Config { max_size: 2, ..quick() });
    let asked: Vec<_> = ["one", "two", "three"].iter().map(|name| desk.ask(join(name))).collect();
    assert_eq!(desk.refused(asked[2]), ErrorCode::GroupMaxSizeReached);
    desk.pass(0);
    let joined = [desk.joined(asked[0]), desk.joined(asked[1])];
    desk.sync_all(&joined, &["a", "b"]);
    let late = desk.ask(join("three"));
    assert_eq!(desk.refused(late), ErrorCode::GroupMaxSizeReached);
    desk.config.max_size = 1;
    desk.restart();
    assert_eq!(desk.beat(&joined[0]), Err(ErrorCode::RebalanceInProgress), "there are too many");
    let (one, two) = (desk.ask(again(&joined[0])), desk.ask(again(&joined[1])));
    assert_eq!(desk.refused(two), ErrorCode::GroupMaxSizeReached);
    assert_eq!(desk.joined(one).members.len(), 1);
}

#[test]
fn sessions_and_names_outside_the_limits_are_refused() {
    let mut desk = Desk::new(quick());
    for (change, code) in [
        (Join { session_timeout_ms: 5_999, ..join_as("c") }, ErrorCode::InvalidSessionTimeout),
        (Join { session_timeout_ms: 1_800_001, ..join_as("c") }, ErrorCode::InvalidSessionTimeout),
        (Join { group: String::new(), ..join_as("c") }, ErrorCode::InvalidGroupId),
        (Join { group: "x".repeat(1025), ..join_as("c") }, ErrorCode::InvalidGroupId),
        (Join { member_id: "x".to_owned(), ..join_as("c") }, ErrorCode::UnknownMemberId),
        (Join { protocols: vec![Protocol::default(); 65], ..join_as("c") }, ErrorCode::InvalidRequest),
        (Join { instance_id: Some("x".repeat(5000)), ..join_as("c") }, ErrorCode::InvalidRequest),
    ] {
        let asked = desk.ask(GroupRequest::Join(change));
        assert_eq!(desk.refused(asked), code);
    }
    let long = desk.ask(join(&"é".repeat(300)));
    desk.pass(0);
    assert_eq!(desk.joined(long).member_id.chars().count(), 127 + 1 + 36, "the client's id is cut");
}

#[test]
fn a_stable_group_goes_on_elsewhere_and_one_in_between_begins_again() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one", "two"]);
    desk.restart();
    assert_eq!((desk.beat(&joined[0]), desk.beat(&joined[1])), (Ok(()), Ok(())));
    let asked = desk.ask(sync(&joined[1], vec![]));
    assert_eq!(desk.synced(asked), "two", "the assignment was kept");
    assert_eq!(described(&mut desk).members[1].caller.client_id, "two");
    desk.ask(join("three"));
    desk.restart();
    assert_eq!(desk.beat(&joined[0]), Ok(()), "nothing of the rebalance was told to anybody");
    desk.pass(9_999);
    assert_eq!(desk.beat(&joined[0]), Ok(()));
    desk.pass(2);
    assert_eq!(desk.beat(&joined[0]), Err(ErrorCode::RebalanceInProgress), "the other one was silent");
}

#[test]
fn a_rebalance_that_dies_with_its_coordinator_leaves_its_members_what_they_had() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one", "two"]);
    desk.ask(join("three"));
    for one in &joined {
        assert_eq!(desk.beat(one), Err(ErrorCode::RebalanceInProgress));
    }
    let waits = desk.ask(again(&joined[0]));
    assert!(desk.answer(waits).is_none(), "the other one has not come");
    desk.restart();
    // As with Kafka's: a client whose JoinGroup was lost may go on without another one (kafkajs does).
    for (one, part) in joined.iter().zip(["one", "two"]) {
        assert_eq!(desk.beat(one), Ok(()));
        let asked = desk.ask(sync(one, vec![]));
        assert_eq!(desk.synced(asked), part);
    }
    assert_eq!(described(&mut desk).members.len(), 2, "the third is forgotten");
}

#[test]
fn a_new_member_whose_join_waits_for_ever_is_forgotten_and_told() {
    let mut desk = Desk::new(quick());
    let slow = |client| {
        GroupRequest::Join(Join { rebalance_timeout_ms: 3_600_000, session_timeout_ms: 1_800_000, ..join_as(client) })
    };
    let one = desk.ask(slow("one"));
    desk.pass(0);
    let one = desk.joined(one);
    desk.sync_all(std::slice::from_ref(&one), &["a"]);
    let two = desk.ask(slow("two"));
    desk.pass(minutes(5) - 1);
    assert!(desk.answer(two).is_none());
    desk.pass(1);
    assert_eq!(desk.refused(two), ErrorCode::UnknownMemberId);
    let back = desk.ask(again(&one));
    assert_eq!(desk.joined(back).members.len(), 1);
}

#[test]
fn offsets_are_taken_from_members_of_the_generation_alone() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one", "two"]);
    let one = &joined[0];
    assert_eq!(desk.commit(commit_by(one, "orders", 0, 7)), Ok(vec![Ok(())]));
    let old = Joined { generation: 0, ..one.clone() };
    assert_eq!(desk.commit(commit_by(&old, "orders", 0, 8)), Err(ErrorCode::IllegalGeneration));
    let stranger = Joined { member_id: "nobody".to_owned(), ..one.clone() };
    assert_eq!(desk.commit(commit_by(&stranger, "orders", 0, 8)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(desk.commit(commit("g", "orders", 0, 8)), Err(ErrorCode::UnknownMemberId), "the group has members");
    let named =
        |id: &str| crate::group::request::Commit { instance_id: Some(id.to_owned()), ..commit_by(one, "orders", 0, 8) };
    assert_eq!(desk.commit(named("nobody")), Err(ErrorCode::UnknownMemberId));
    desk.ask(again(one));
    assert_eq!(desk.commit(commit_by(one, "orders", 0, 9)), Ok(vec![Ok(())]), "before the next generation begins");
    let two = desk.ask(again(&joined[1]));
    let two = desk.joined(two);
    assert_eq!(desk.commit(commit_by(&two, "orders", 1, 9)), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(desk.offset("g", "orders", 0), 9);
    desk.leave(&[(&one.member_id, None), (&two.member_id, None)]).expect("done");
    assert_eq!(desk.commit(commit("g", "orders", 0, 3)), Ok(vec![Ok(())]), "an administrator sets it back");
    assert_eq!(desk.offset("g", "orders", 0), 3);
}

#[test]
fn a_commit_keeps_its_member_alive() {
    let mut desk = Desk::new(quick());
    let joined = desk.settle(&["one"]);
    for offset in 0..4 {
        desk.pass(8_000);
        assert_eq!(desk.commit(commit_by(&joined[0], "orders", 0, offset)), Ok(vec![Ok(())]));
    }
    assert_eq!(desk.beat(&joined[0]), Ok(()));
}

#[test]
fn thousands_of_members_settle_without_looking_at_all_for_each() {
    let mut desk = Desk::new(Config::default());
    let asked: Vec<_> = (0..3_000).map(|i| desk.ask(join(&i.to_string()))).collect();
    desk.pass(3_000);
    let joined: Vec<_> = asked.into_iter().map(|asked| desk.joined(asked)).collect();
    let parts = vec!["x"; joined.len()];
    desk.sync_all(&joined, &parts);
    assert!(joined.iter().all(|one| one.generation == 1));
    assert!(joined.iter().all(|one| desk.beat(one) == Ok(())));
    assert_eq!(desk.coordinator.stats().members, 3_000);
    desk.restart();
    assert_eq!(desk.coordinator.stats().members, 3_000);
    desk.pass(9_000);
    assert!(joined[1..].iter().all(|one| desk.beat(one) == Ok(())));
    desk.pass(1_000);
    assert_eq!((described(&mut desk).state, desk.coordinator.stats().members), (GroupState::PreparingRebalance, 2_999));
}

#[test]
fn what_members_leave_in_memory_is_bounded() {
    let mut desk = Desk::new(quick());
    let with = |bytes: usize| {
        let metadata = Bytes::from(vec![0; bytes]);
        Join { protocols: vec![Protocol { name: "range".to_owned(), metadata }], ..join_as("c") }
    };
    let large = desk.ask(GroupRequest::Join(with(GROUP_METADATA_BYTES_MAX + 1)));
    assert_eq!(desk.refused(large), ErrorCode::InvalidRequest);
    let many: Vec<_> = (0..32).map(|_| desk.ask(GroupRequest::Join(with(GROUP_METADATA_BYTES_MAX)))).collect();
    assert_eq!(desk.refused(many[31]), ErrorCode::GroupMaxSizeReached, "with their names they are too many");
    desk.restart();
    let given = |desk: &mut Desk| {
        let asked = desk.ask(GroupRequest::Join(Join { requires_member_id: true, ..join_as("c") }));
        desk.answer(asked).expect("at once").map(|_| ()).map_err(|failure| failure.code)
    };
    assert!((0..GROUP_PENDING_MAX).all(|_| given(&mut desk) == Ok(())));
    assert_eq!(given(&mut desk), Err(ErrorCode::Busy));
    desk.pass(10_000);
    assert_eq!(given(&mut desk), Ok(()), "they did not come");
    let left = desk.leave(&vec![("", None); GROUP_LEAVING_MAX + 1]);
    assert_eq!(left, Err(ErrorCode::InvalidRequest));
}

#[test]
fn an_assignment_that_is_too_large_begins_another_generation() {
    let mut desk = Desk::new(quick());
    let (one, two) = (desk.ask(join("one")), desk.ask(join("two")));
    desk.pass(0);
    let (one, two) = (desk.joined(one), desk.joined(two));
    let waits = desk.ask(sync(&two, vec![]));
    let large = Bytes::from(vec![0; GROUP_ASSIGNMENT_BYTES_MAX + 1]);
    let leads = desk.ask(sync(&one, vec![(one.member_id.clone(), large)]));
    assert_eq!((desk.refused(leads), desk.refused(waits)), (ErrorCode::Unknown, ErrorCode::Unknown));
    assert_eq!(described(&mut desk).state, GroupState::PreparingRebalance);
    assert!(desk.log.is_empty(), "nothing of it was written");
}
