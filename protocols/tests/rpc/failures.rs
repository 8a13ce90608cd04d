//! What callers and servers learn when something goes wrong.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::multiaddr::Protocol as Part;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::ClusterId;
use rafka_protocols::rpc::{Budget, CallError, Config, Direction, Outcome};
use rafka_protocols::{Frame, FrameError, Protocol, fetch};

use crate::harness::{CLUSTER, Called, Peer, frame, soon, until};

fn failure_in(answer: Called) -> ErrorCode {
    let frame = answer.expect("an answer");
    fetch::decode_reply(&frame).expect("a failure").expect_err("a failure").code
}

#[tokio::test]
async fn a_call_without_an_answer_times_out_at_both_ends() {
    let quick = || Config { exchange: Duration::from_millis(300), ..Config::default() };
    let asker = Peer::start(Some(&CLUSTER), quick()).await;
    let mut asked = Peer::start(Some(&CLUSTER), quick()).await;
    let answer = asker.begin(&asked, Protocol::Fetch, frame(0));
    let mut request = asked.next().await;
    assert!(!request.respond.is_closed());
    assert_eq!(soon(answer).await.expect("completed"), Err(CallError::Timeout));
    soon(request.respond.closed()).await;
    assert!(request.respond.is_closed());
    assert_eq!(asker.counters.requests(Direction::Outbound, Protocol::Fetch, Outcome::Timeout), 1);
}

#[tokio::test]
async fn a_peer_that_goes_leaves_the_outcome_unknown() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let answer = asker.begin(&asked, Protocol::Produce, frame(10));
    let request = asked.next().await;
    drop(asked);
    let error = soon(answer).await.expect("completed").expect_err("nobody is left to answer");
    assert_eq!(error, CallError::ConnectionClosed);
    assert!(error.is_outcome_unknown());
    drop(request);
}

#[tokio::test]
async fn a_server_notices_that_the_asker_is_gone() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let _answer = asker.begin(&asked, Protocol::Fetch, frame(0));
    let mut parked = asked.next().await;
    drop(asker);
    soon(parked.respond.closed()).await;
    parked.respond.respond(Ok(frame(0)));
    assert_eq!(asked.counters.requests(Direction::Inbound, Protocol::Fetch, Outcome::Closed), 1);
}

#[tokio::test]
async fn a_peer_that_cannot_be_dialled_is_named() {
    let asker = Peer::member().await;
    let nowhere = Part::Memory(0x00de_adbe_ef00).into();
    let answer = asker.begin_at(PeerId::random(), nowhere, Protocol::Fetch, frame(0));
    let error = soon(answer).await.expect("completed").expect_err("nobody listens there");
    let CallError::Dial(words) = &error else { panic!("{error:?}") };
    assert!(words.contains("/memory/"), "{words}");
    assert!(!error.is_outcome_unknown());
}

#[tokio::test]
async fn all_calls_that_wait_for_one_dial_fail_with_it() {
    let asker = Peer::member().await;
    let peer = PeerId::random();
    let calls: Vec<_> = Protocol::ALL
        .map(|protocol| asker.begin_at(peer, Part::Memory(0x00de_adbe_ef01).into(), protocol, frame(0)))
        .into();
    for call in calls {
        assert!(matches!(soon(call).await.expect("completed"), Err(CallError::Dial(_))));
    }
    assert_eq!(asker.calls_outstanding().await, 0);
}

#[tokio::test]
async fn another_cluster_does_not_understand() {
    let asker = Peer::member().await;
    let foreign = Peer::start(Some(&ClusterId([0xcd; 32])), Config::default()).await;
    for body in [0, 100, 4 << 20] {
        let error = asker.call(&foreign, Protocol::Produce, frame(body)).await.expect_err("another cluster");
        assert_eq!(error, CallError::Unsupported, "{body} bytes");
    }
    assert_eq!(asker.made_and_closed(), (1, 0), "the connection is none the worse");
}

#[tokio::test]
async fn a_request_over_its_cap_is_never_sent() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let error = asker.call(&asked, Protocol::Fetch, frame(1)).await.expect_err("fetches have no body");
    assert_eq!(error, CallError::TooLarge(FrameError::BodyTooLarge { bytes: 1, limit: 0 }));
    assert!(asked.inbox.try_recv().is_err());
}

#[tokio::test]
async fn calls_over_what_a_connection_can_carry_are_refused_here() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let mut calls: Vec<_> = (0..129).map(|_| asker.begin(&asked, Protocol::Fetch, frame(0))).collect();
    assert_eq!(soon(calls.pop().expect("one")).await.expect("completed"), Err(CallError::Busy));
    asked.echo();
    for call in calls {
        assert_eq!(soon(call).await.expect("completed"), Ok(frame(0)));
    }
}

#[tokio::test]
async fn requests_over_what_a_node_serves_are_answered_busy() {
    let asker = Peer::member().await;
    let mut asked = Peer::start(Some(&CLUSTER), Config { requests_max: 1, ..Config::default() }).await;
    let first = asker.begin(&asked, Protocol::Fetch, frame(0));
    let held = asked.next().await;
    assert_eq!(failure_in(asker.call(&asked, Protocol::Fetch, frame(0)).await), ErrorCode::Busy);
    held.respond.respond(Ok(Frame::default()));
    assert!(soon(first).await.expect("completed").is_ok());
    asked.echo();
    assert_eq!(asker.call(&asked, Protocol::Fetch, frame(0)).await, Ok(frame(0)));
}

#[tokio::test]
async fn bodies_wait_for_room_and_are_answered_busy_without() {
    let asker = Peer::member().await;
    let budget = Budget::new(1 << 20);
    let config = Config { budget: budget.clone(), strangers: budget.clone(), ..Config::default() };
    let mut asked = Peer::start(Some(&CLUSTER), config).await;
    let first = asker.begin(&asked, Protocol::Produce, frame(900_000));
    let held = asked.next().await;
    assert_eq!(budget.used(), 900_000);
    // No room within the wait; the rest of the request passes by.
    assert_eq!(failure_in(asker.call(&asked, Protocol::Produce, frame(900_000)).await), ErrorCode::Busy);
    // More than there will ever be.
    assert_eq!(failure_in(asker.call(&asked, Protocol::Produce, frame(2 << 20)).await), ErrorCode::Busy);
    let third = asker.begin(&asked, Protocol::Produce, frame(800_000));
    held.respond.respond(Ok(Frame::default()));
    assert!(soon(first).await.expect("completed").is_ok());
    let held = asked.next().await;
    assert_eq!((held.frame.body_len(), budget.used()), (800_000, 800_000));
    drop(held);
    assert_eq!(failure_in(soon(third).await.expect("completed")), ErrorCode::OutcomeUnknown);
    until(async || budget.used() == 0).await;
    assert_eq!(asker.made_and_closed(), (1, 0));
}

#[tokio::test]
async fn a_swarm_that_ends_completes_its_calls() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let answer = asker.begin(&asked, Protocol::Fetch, frame(0));
    let _parked = asked.next().await;
    drop(asker);
    assert!(soon(answer).await.is_err(), "the sender is gone with the swarm");
}

#[tokio::test]
async fn strangers_share_a_smaller_budget_until_they_are_answered() {
    let (asker, other) = (Peer::member().await, Peer::member().await);
    let (budget, strangers) = (Budget::new(4 << 20), Budget::new(1 << 20));
    let config = Config { budget: budget.clone(), strangers: strangers.clone(), ..Config::default() };
    let mut asked = Peer::start(Some(&CLUSTER), config).await;
    let first = asker.begin(&asked, Protocol::Produce, frame(900_000));
    let held = asked.next().await;
    assert_eq!((strangers.used(), budget.used()), (900_000, 0));
    held.respond.respond(Ok(fetch::encode_reply(&Err(Failure::new(ErrorCode::ClusterAuthorizationFailed, "who?")))));
    assert_eq!(failure_in(soon(first).await.expect("completed")), ErrorCode::ClusterAuthorizationFailed);
    // A refusal, even one inside an answer, makes no friends.
    let second = asker.begin(&asked, Protocol::Produce, frame(900_000));
    let held = asked.next().await;
    assert_eq!((strangers.used(), budget.used()), (900_000, 0));
    held.respond.respond(Ok(Frame::default()));
    assert!(soon(second).await.expect("completed").is_ok());
    let _third = asker.begin(&asked, Protocol::Produce, frame(3 << 20));
    let _held = asked.next().await;
    assert_eq!((strangers.used(), budget.used()), (0, 3 << 20));
    // Another connection begins anew.
    let _fourth = other.begin(&asked, Protocol::Produce, frame(900_000));
    let _held = asked.next().await;
    assert_eq!(strangers.used(), 900_000);
}
