//! What becomes of coordinators when something goes wrong.

use rafka_broker::group::request::{GroupState, Heartbeat, Join, JoinReply, Protocol, Sync};

use super::*;

#[tokio::test]
async fn without_a_controller_there_is_no_coordinator_and_one_attempt_serves_all_who_wait() {
    let bench = Bench::new().await;
    *bench.instead.lock() =
        Some(Box::new(|_| Some(Failure::new(ErrorCode::ControllerUnavailable, "nobody decides at the moment"))));
    let all = (0..50).map(|_| bench.groups.ask(commit("g", 1, 1)));
    for answer in futures::future::join_all(all).await {
        assert_eq!(code(answer), ErrorCode::CoordinatorNotAvailable);
    }
    assert_eq!(bench.asked.load(Ordering::Acquire), 1);
}

#[tokio::test]
async fn who_asks_the_wrong_node_is_told_the_right_one() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.commit("g", 4).await.expect("stored");
    let at = bench.at("g");
    bench.elect(at, Some(OTHER)).await;
    eventually("the coordinator ended", || bench.groups.sample(0).ready == 2).await;
    let refused = bench.groups.ask(offsets("g")).await.expect_err("another coordinates");
    assert_eq!(refused.code, ErrorCode::NotCoordinator);
    let hint = refused.leader.expect("a hint");
    assert_eq!((hint.node, hint.peer_id.as_deref()), (Some(OTHER), Some("peer-2")));
    assert_eq!(bench.groups.coordinator("g").await.expect("known").node, OTHER);
    bench.elect(at, None).await;
    assert_eq!(code(bench.offset("g").await), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(code(bench.groups.coordinator("g").await), ErrorCode::CoordinatorNotAvailable);
    // Back again, it knows what was stored.
    bench.elect(at, Some(ME)).await;
    assert_eq!(bench.found("g").await, 4);
}

#[tokio::test]
async fn who_waits_for_a_coordinator_that_ends_is_told_at_once() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.watch.close_gate(true);
    let commit = tokio::spawn({
        let groups = bench.groups.clone();
        async move { groups.ask(commit("g", 1, 5)).await }
    });
    eventually("the commit is in the log", || bench.records() == 1).await;
    bench.elect(bench.at("g"), Some(OTHER)).await;
    let refused = commit.await.expect("ran").expect_err("another coordinates");
    assert_eq!((refused.code, refused.leader.and_then(|hint| hint.node)), (ErrorCode::NotCoordinator, Some(OTHER)));
    bench.watch.close_gate(false);
}

#[tokio::test]
async fn a_coordinator_waits_until_it_is_known_what_an_earlier_one_stored() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.commit("g", 4).await.expect("stored");
    bench.watch.close_gate(true);
    let commit = tokio::spawn({
        let groups = bench.groups.clone();
        async move { groups.ask(commit("g", 1, 5)).await }
    });
    eventually("the commit is in the log", || bench.records() == 2).await;
    // The same node leads again, while the disk still holds the last commit back.
    let at = bench.at("g");
    bench.elect(at, Some(OTHER)).await;
    bench.elect(at, Some(ME)).await;
    assert_eq!(code(commit.await.expect("ran")), ErrorCode::NotCoordinator);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let refused = bench.offset("g").await.expect_err("not known yet");
        assert_eq!(refused.code, ErrorCode::CoordinatorLoadInProgress);
        assert_eq!(code(bench.groups.list().await), ErrorCode::CoordinatorLoadInProgress);
    }
    bench.watch.close_gate(false);
    assert_eq!(bench.found("g").await, 5);
}

#[tokio::test]
async fn a_commit_that_is_not_safe_in_time_begins_the_coordinator_again() {
    let bench = Bench::with(Config { commit_timeout_ms: 20, ..config() }).await;
    bench.ready().await;
    bench.watch.close_gate(true);
    assert_eq!(code(bench.commit("g", 5).await), ErrorCode::NotCoordinator);
    bench.watch.close_gate(false);
    assert_eq!(bench.found("g").await, 5, "it was stored in the end");
    let sample = bench.groups.sample(0);
    assert_eq!((sample.lost, sample.loads), (1, 4));
}

#[tokio::test]
async fn a_full_disk_refuses_commits_and_forgets_nothing() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.commit("g", 4).await.expect("stored");
    bench.faults.set_free_bytes(Some(0));
    assert_eq!(code(bench.commit("g", 5).await), ErrorCode::NotCoordinator);
    assert_eq!(bench.found("g").await, 4);
    bench.faults.set_free_bytes(None);
    eventually("space is found", || !bench.partitions.totals().disk_full).await;
    assert_eq!(bench.found("g").await, 4);
    loop {
        match bench.commit("g", 6).await {
            Ok(()) => break,
            Err(failure) => assert!(failure.code.is_retriable(), "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(bench.found("g").await, 6);
}

#[tokio::test]
async fn a_node_that_stops_refuses_everybody() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.groups.stop();
    assert_eq!(code(bench.commit("g", 5).await), ErrorCode::NotCoordinator);
    assert_eq!(code(bench.offset("h").await), ErrorCode::NotCoordinator);
}

#[tokio::test]
async fn groups_go_with_their_topic() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.commit("g", 4).await.expect("stored");
    // The controller would refuse it: an older one did not.
    let index = MetadataIndex(bench.images.index().0 + 1);
    let deltas = vec![Delta::TopicDeleted { id: bench.topic() }];
    bench.images.apply(Entry { index, deltas }).expect("applied");
    eventually("no coordinator is left", || bench.groups.sample(0).ready == 0).await;
    assert_eq!(bench.found("g").await, -1, "a new topic knows nothing");
}

fn join(member_id: &str) -> GroupRequest {
    GroupRequest::Join(Join {
        group: "g".to_owned(),
        member_id: member_id.to_owned(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol { name: "range".to_owned(), metadata: "topics".into() }],
        ..Join::default()
    })
}

#[tokio::test]
async fn a_member_goes_on_at_the_next_coordinator() {
    let coordinator = group::Config { initial_rebalance_delay_ms: 0, ..group::Config::default() };
    let bench = Bench::with(Config { coordinator, ..config() }).await;
    bench.ready().await;
    let joined = bench.groups.ask(join("")).await.expect("joined");
    let GroupReply::Join(JoinReply::Joined(joined)) = joined else { panic!("{joined:?}") };
    let sync = Sync {
        group: "g".to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        assignments: vec![(joined.member_id.clone(), "all".into())],
        ..Sync::default()
    };
    let synced = bench.groups.ask(GroupRequest::Sync(sync)).await.expect("assigned");
    let GroupReply::Sync(synced) = synced else { panic!("{synced:?}") };
    assert_eq!(&synced.assignment[..], b"all");
    let before = bench.groups.sample(0);
    assert_eq!((before.members, before.groups.get(&GroupState::Stable)), (1, Some(&1)));
    let at = bench.at("g");
    bench.elect(at, Some(OTHER)).await;
    bench.elect(at, Some(ME)).await;
    let beat = || {
        GroupRequest::Heartbeat(Heartbeat {
            group: "g".to_owned(),
            generation: joined.generation,
            member_id: joined.member_id.clone(),
            instance_id: None,
        })
    };
    loop {
        match bench.groups.ask(beat()).await {
            Ok(reply) => break assert_eq!(reply, GroupReply::Heartbeat),
            Err(failure) => assert_eq!(failure.code, ErrorCode::CoordinatorLoadInProgress, "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(bench.groups.sample(0).rebalances >= before.rebalances, "what was counted stays counted");
    let bench = bench.restart().await;
    eventually("the member is known", || bench.groups.sample(0).members == 1).await;
    assert_eq!(bench.groups.ask(beat()).await, Ok(GroupReply::Heartbeat));
}
