//! What calls do when all goes well.

use rafka_broker::{ErrorCode, Failure};
use rafka_protocols::hello::{self, Admission, Hello};
use rafka_protocols::rpc::{CallError, Config, Direction, Outcome};
use rafka_protocols::{Protocol, fetch};

use crate::harness::{CLUSTER, Peer, frame, soon, until};

#[tokio::test]
async fn a_call_is_answered_by_whatever_task_has_the_responder() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let answer = asker.begin(&asked, Protocol::Produce, frame(300_000));
    let request = asked.next().await;
    assert_eq!((request.peer, request.protocol, request.frame.body_len()), (asker.id, Protocol::Produce, 300_000));
    std::thread::spawn(move || request.respond.respond(Ok(frame(0)))).join().expect("no panic");
    assert_eq!(soon(answer).await.expect("completed"), Ok(frame(0)));
    let count = |peer: &Peer, direction| peer.counters.requests(direction, Protocol::Produce, Outcome::Answered);
    assert_eq!((count(&asker, Direction::Outbound), count(&asked, Direction::Inbound)), (1, 1));
    assert_eq!(asked.counters.received_bytes(Protocol::Produce), 8 + 6 + 300_000);
    assert_eq!(asker.counters.sent_bytes(Protocol::Produce), 8 + 6 + 300_000);
    until(async || asker.calls_outstanding().await == 0).await;
}

#[tokio::test]
async fn a_failure_travels_as_an_answer() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let answer = asker.begin(&asked, Protocol::Fetch, frame(0));
    let refusal = Failure::new(ErrorCode::ClusterAuthorizationFailed, "not a member");
    asked.next().await.respond.respond(Err(refusal.clone()));
    let frame = soon(answer).await.expect("completed").expect("an answer");
    assert_eq!(fetch::decode_reply(&frame).expect("a failure").expect_err("a failure"), refusal);
    assert_eq!(asked.counters.requests(Direction::Inbound, Protocol::Fetch, Outcome::Refused), 1);
}

#[tokio::test]
async fn a_dropped_responder_says_that_the_outcome_is_unknown() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let answer = asker.begin(&asked, Protocol::Fetch, frame(0));
    drop(asked.next().await);
    let frame = soon(answer).await.expect("completed").expect("an answer");
    let failure = fetch::decode_reply(&frame).expect("a failure").expect_err("a failure");
    assert_eq!(failure.code, ErrorCode::OutcomeUnknown);
}

#[tokio::test]
async fn an_answer_over_the_cap_becomes_a_failure() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let answer = asker.begin(&asked, Protocol::Produce, frame(10));
    asked.next().await.respond.respond(Ok(frame(1)));
    let frame = soon(answer).await.expect("completed").expect("an answer");
    let failure = fetch::decode_reply(&frame).expect("a failure").expect_err("a failure");
    assert!(failure.message.contains("body of 1 bytes, limit is 0"), "{failure}");
}

#[tokio::test]
async fn strangers_say_hello_and_nothing_else() {
    let mut member = Peer::member().await;
    let stranger = Peer::start(None, Config::default()).await;
    let answer = stranger.begin(&member, Protocol::Hello, hello::encode_request());
    let request = member.next().await;
    assert_eq!(hello::decode_request(&request.frame), Ok(()));
    let said = Hello {
        cluster: None,
        members: Vec::new(),
        nominee: Some("somebody".to_owned()),
        version: "1".to_owned(),
        admission: Admission::Token,
    };
    request.respond.respond(Ok(hello::encode_reply(&Ok(said.clone()))));
    let frame = soon(answer).await.expect("completed").expect("an answer");
    assert_eq!(hello::decode_reply(&frame), Ok(Ok(said)));
    assert_eq!(stranger.call(&member, Protocol::Produce, frame).await, Err(CallError::Unsupported));
}

#[tokio::test]
async fn who_does_not_serve_is_not_asked() {
    let member = Peer::member().await;
    let mut client = Peer::start(Some(&CLUSTER), Config { serve: false, ..Config::default() }).await;
    for protocol in Protocol::ALL {
        assert_eq!(member.call(&client, protocol, frame(0)).await, Err(CallError::Unsupported));
    }
    assert!(client.inbox.try_recv().is_err());
}

#[tokio::test]
async fn a_caller_that_loses_interest_frees_its_place() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let answer = asker.begin(&asked, Protocol::Fetch, frame(0));
    let _parked = asked.next().await;
    assert_eq!(asker.calls_outstanding().await, 1);
    drop(answer);
    until(async || asker.calls_outstanding().await == 0).await;
    assert_eq!(asker.counters.requests(Direction::Outbound, Protocol::Fetch, Outcome::Cancelled), 1);
    asked.echo();
    assert_eq!(asker.call(&asked, Protocol::Fetch, frame(0)).await, Ok(frame(0)));
    assert_eq!(asker.made_and_closed(), (1, 0));
}

#[tokio::test]
async fn bodies_go_past_the_tasks_of_both_swarms() {
    let (asker, mut asked) = (Peer::member().await, Peer::member().await);
    let answer = asker.begin(&asked, Protocol::Fetch, frame(0));
    let request = asked.next().await;
    let _stopped = (asker.pause().await, asked.pause().await);
    // Neither swarm is polled from here on, and still 8 MiB arrive.
    request.respond.respond(Ok(frame(8 << 20)));
    assert_eq!(soon(answer).await.expect("completed").expect("an answer").body_len(), 8 << 20);
}
