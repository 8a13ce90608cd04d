//! Many calls at once.

use std::sync::Arc;

use rafka_protocols::Protocol;
use rafka_protocols::rpc::{Direction, Outcome};
use tokio::task::JoinSet;

use crate::harness::{Peer, frame, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_of_a_megabyte_leave_the_connection_alive() {
    let (asker, mut asked) = (Arc::new(Peer::member().await), Peer::member().await);
    let mut inbox = std::mem::replace(&mut asked.inbox, tokio::sync::mpsc::unbounded_channel().1);
    tokio::spawn(async move {
        while let Some(request) = inbox.recv().await {
            assert_eq!(request.frame.body_len(), 1 << 20);
            request.respond.respond(Ok(frame(0)));
        }
    });
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let (asker, peer, address) = (Arc::clone(&asker), asked.id, asked.address.clone());
        calls.spawn(async move {
            let _permit = asker.limiter.acquire(peer, Protocol::Produce).await;
            soon(asker.begin_at(peer, address, Protocol::Produce, frame(1 << 20))).await.expect("completed")
        });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.expect("no panic"), Ok(frame(0)));
    }
    assert_eq!(asker.made_and_closed(), (1, 0));
    assert_eq!(asker.counters.requests(Direction::Outbound, Protocol::Produce, Outcome::Answered), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_of_all_protocols_in_both_directions_leave_the_connection_alive() {
    let (mut left, mut right) = (Peer::member().await, Peer::member().await);
    left.echo();
    right.echo();
    // One call first, so that both sides share one connection.
    assert_eq!(left.call(&right, Protocol::Hello, frame(0)).await, Ok(frame(0)));
    let (left, right) = (Arc::new(left), Arc::new(right));
    let mut calls = JoinSet::new();
    for i in 0..1000 {
        let (from, to) = if i % 2 == 0 { (&left, &right) } else { (&right, &left) };
        let (from, peer, address) = (Arc::clone(from), to.id, to.address.clone());
        let protocol = Protocol::ALL[i % Protocol::ALL.len()];
        calls.spawn(async move {
            let _permit = from.limiter.acquire(peer, protocol).await;
            soon(from.begin_at(peer, address, protocol, frame(0))).await.expect("completed")
        });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.expect("no panic"), Ok(frame(0)));
    }
    assert_eq!(left.made_and_closed(), (1, 0));
    assert_eq!(right.made_and_closed(), (1, 0));
}
