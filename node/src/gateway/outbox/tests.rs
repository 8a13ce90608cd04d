use std::sync::Arc;
use std::time::Duration;

use rafka_broker::ErrorCode;
use rafka_broker::request::{Acks, ProducePartition};
use rafka_model::Offset;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::gateway::testing::{Leaders, Mood, at, metrics, records};

fn outbox(leaders: &Arc<Leaders>) -> Outbox<Leaders> {
    Outbox::new(leaders.clone(), metrics(), Errands::default())
}

fn part(partition: u32, value: &str, sequence: Option<i32>) -> ProducePartition {
    ProducePartition { partition: at(partition), leader_epoch: None, records: records(value, sequence) }
}

async fn submit(outbox: &Outbox<Leaders>, part: ProducePartition) -> Ending {
    outbox.submit(part, Acks::All, deadline(30_000)).await
}

async fn offset(ending: Ending) -> Result<i64, ErrorCode> {
    let ended = ending.await.expect("answered");
    ended.map(|produced| produced.base_offset.0).map_err(|failure| failure.code)
}

#[tokio::test(start_paused = true)]
async fn records_of_a_partition_arrive_in_their_order_while_its_leader_moves_and_falls() {
    let leaders = Leaders::new(&[1, 2], None);
    let outbox = outbox(&leaders);
    let mut endings = Vec::new();
    for number in 0..40 {
        endings.push(submit(&outbox, part(0, &number.to_string(), Some(number))).await);
        match number {
            5 => leaders.is(1, Mood::Down),
            10 => leaders.is(1, Mood::Forgets),
            15 => leaders.is(1, Mood::Loses),
            20 => leaders.moves(0, 3),
            25 => leaders.told(0, 3),
            _ => {}
        }
        tokio::task::yield_now().await;
    }
    for (number, ending) in (0..).zip(endings) {
        assert_eq!(offset(ending).await, Ok(number));
    }
    assert_eq!(leaders.values(0), (0..40).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(!outbox.is_busy(at(0)));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_appended_is_sent_again_only_with_a_producers_numbers() {
    let leaders = Leaders::new(&[1], None);
    let outbox = outbox(&leaders);
    leaders.is(1, Mood::Forgets);
    assert_eq!(offset(submit(&outbox, part(0, "plain", None)).await).await, Err(ErrorCode::OutcomeUnknown));
    leaders.is(1, Mood::Forgets);
    assert_eq!(offset(submit(&outbox, part(0, "numbered", Some(0))).await).await, Ok(1));
    leaders.is(1, Mood::Down);
    assert_eq!(offset(submit(&outbox, part(0, "never sent", None)).await).await, Ok(2));
    assert_eq!(leaders.values(0), ["plain", "numbered", "never sent"]);
}

#[tokio::test(start_paused = true)]
async fn a_plain_produce_that_a_former_leader_refused_is_the_clients_to_repeat() {
    let leaders = Leaders::new(&[1], None);
    let outbox = outbox(&leaders);
    leaders.moves(0, 2);
    assert_eq!(offset(submit(&outbox, part(0, "a", None)).await).await, Err(ErrorCode::NotLeaderOrFollower));
    let relaxed = outbox.submit(part(0, "b", None), Acks::Leader, deadline(1_000)).await;
    assert_eq!(offset(relaxed).await, Ok(0), "with acks=1 a refusal is certain");
    assert_eq!(leaders.values(0), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_leader_holds_up_nobody_else_and_what_waits_travels_together() {
    let leaders = Leaders::new(&[1, 1, 1, 2], None);
    let outbox = outbox(&leaders);
    let gate = Arc::new(Notify::new());
    leaders.slow.lock().insert(NodeId(1), gate.clone());
    let first = submit(&outbox, part(0, "a", None)).await;
    let behind = submit(&outbox, part(0, "b", None)).await;
    let beside = [submit(&outbox, part(1, "c", None)).await, submit(&outbox, part(2, "d", None)).await];
    assert_eq!(offset(submit(&outbox, part(3, "e", None)).await).await, Ok(0), "another leader");
    leaders.slow.lock().clear();
    tokio::task::yield_now().await;
    gate.notify_waiters();
    assert_eq!((offset(first).await, offset(behind).await), (Ok(0), Ok(1)));
    for ending in beside {
        assert_eq!(offset(ending).await, Ok(0));
    }
    assert_eq!(leaders.values(0), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn parts_for_one_leader_share_a_relayed_produce_when_calls_are_scarce() {
    let partitions = GATEWAY_CALLS_MAX + 8;
    let leaders = Leaders::new(&vec![1; partitions], None);
    let outbox = outbox(&leaders);
    let gate = Arc::new(Notify::new());
    leaders.slow.lock().insert(NodeId(1), gate.clone());
    let mut endings = Vec::new();
    for partition in 0..partitions {
        endings.push(submit(&outbox, part(u32::try_from(partition).expect("small"), "v", None)).await);
        tokio::task::yield_now().await;
    }
    assert_eq!(leaders.asked.lock().len(), GATEWAY_CALLS_MAX);
    leaders.slow.lock().clear();
    gate.notify_waiters();
    for ending in endings {
        assert_eq!(offset(ending).await, Ok(0));
    }
    assert_eq!(leaders.asked.lock().len(), GATEWAY_CALLS_MAX + 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_a_produce_waits_for_one_but_not_for_ever() {
    let leaders = Leaders::new(&[0], None);
    let outbox = outbox(&leaders);
    let waits = submit(&outbox, part(0, "a", None)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    leaders.told(0, 4);
    assert_eq!(offset(waits).await, Ok(0));
    leaders.told(0, 0);
    let began = Instant::now();
    let given_up = outbox.submit(part(0, "b", None), Acks::All, deadline(1)).await;
    assert_eq!(offset(given_up).await, Err(ErrorCode::RequestTimedOut));
    assert!(began.elapsed() < Duration::from_millis(GATEWAY_RELAY_MS_MIN + 1_000));
    assert_eq!(leaders.values(0), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn records_on_their_way_to_one_leader_are_bounded() {
    let leaders = Leaders::new(&[1, 2], None);
    let outbox = outbox(&leaders);
    let gate = Arc::new(Notify::new());
    leaders.slow.lock().insert(NodeId(1), gate.clone());
    let all = outbox.inner.state.lock().leaders.entry(NodeId(1)).or_default().room.clone();
    let taken = all.acquire_many(u32::try_from(GATEWAY_PEER_BYTES_MAX).expect("fits")).await.expect("open");
    assert_eq!(offset(submit(&outbox, part(0, "a", None)).await).await, Err(ErrorCode::Busy));
    assert_eq!(offset(submit(&outbox, part(1, "b", None)).await).await, Ok(0), "another leader has room");
    drop(taken);
    leaders.slow.lock().clear();
    let ended = submit(&outbox, part(0, "c", None)).await.await.expect("answered");
    assert_eq!(ended.expect("taken").base_offset, Offset(0));
}
