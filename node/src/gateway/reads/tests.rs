use std::sync::Arc;
use std::time::Duration;

use rafka_broker::ErrorCode;
use rafka_broker::request::{Acks, ListOffsets, OffsetSpec, Produce, ProducePartition};
use rafka_model::Offset;
use rafka_model::limits::GATEWAY_FRESH_MS_MAX;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::gateway::Errands;
use crate::gateway::scatter::Scatter;
use crate::gateway::testing::{Leaders, Mood, at, metrics, records};

fn reads(leaders: &Arc<Leaders>) -> Reads<Leaders> {
    let (cache, metrics) = (Arc::new(HotCache::new(1 << 20)), metrics());
    let errands = Errands::default();
    let polls = Polls::new(leaders.clone(), cache.clone(), metrics.clone(), errands.clone());
    Reads { reach: leaders.clone(), polls, cache, metrics, stop: errands.stop }
}

/// Appends a record where it is led, past the gateway.
async fn append(leaders: &Leaders, node: u64, partition: u32, value: &str) {
    let partitions =
        vec![ProducePartition { partition: at(partition), leader_epoch: None, records: records(value, None) }];
    let request = Produce { acks: Acks::All, timeout_ms: 0, partitions };
    leaders.ask(NodeId(node), Ask::Produce(request), Duration::from_secs(1)).await.expect("taken");
    leaders.asked.lock().pop();
}

fn wanted(parts: &[(u32, i64)], max_wait_ms: u32) -> Fetch {
    let part = |(partition, offset): &(u32, i64)| FetchPartition {
        partition: at(*partition),
        leader_epoch: None,
        offset: Offset(*offset),
        max_bytes: 1 << 20,
    };
    Fetch { max_wait_ms, min_bytes: 1, max_bytes: 1 << 20, partitions: parts.iter().map(part).collect() }
}

/// High watermark and whether there were records, or the error.
fn told(replies: &[PartitionReply<Fetched>]) -> Vec<Result<(i64, bool), ErrorCode>> {
    let one = |reply: &PartitionReply<Fetched>| match &reply.result {
        Ok(fetched) => Ok((fetched.high_watermark.0, !fetched.records.is_empty())),
        Err(failure) => Err(failure.code),
    };
    replies.iter().map(one).collect()
}

#[tokio::test(start_paused = true)]
async fn a_fetch_is_answered_by_the_first_leader_that_has_something() {
    let leaders = Leaders::new(&[1, 2, 3], Some(3));
    let reads = reads(&leaders);
    append(&leaders, 2, 1, "b").await;
    let began = Instant::now();
    let replies = reads.fetch(wanted(&[(0, 0), (1, 0), (2, 0)], 10_000)).await;
    assert_eq!(told(&replies)[1], Ok((1, true)));
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_eq!(replies.iter().map(|reply| reply.partition).collect::<Vec<_>>(), [at(0), at(1), at(2)]);
    assert!(replies[0].result.as_ref().is_ok_and(|fetched| fetched.records.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn hot_records_come_from_the_cache_and_the_tail_from_the_leader() {
    let leaders = Leaders::new(&[1], None);
    let reads = reads(&leaders);
    append(&leaders, 1, 0, "a").await;
    assert_eq!(told(&reads.fetch(wanted(&[(0, 0)], 0)).await), [Ok((1, true))]);
    append(&leaders, 1, 0, "b").await;
    for _ in 0..3 {
        assert_eq!(told(&reads.fetch(wanted(&[(0, 0)], 0)).await), [Ok((1, true))]);
    }
    assert_eq!(leaders.asked.lock().len(), 1, "asked once for what three read");
    assert_eq!(told(&reads.fetch(wanted(&[(0, 1)], 0)).await), [Ok((2, true))]);
    assert_eq!(told(&reads.fetch(wanted(&[(0, 2)], 100)).await), [Ok((2, false))], "the leader told the end");
    assert_eq!(reads.metrics.count(Api::Fetch, Route::Cached), 3);
}

#[tokio::test(start_paused = true)]
async fn consumers_at_the_tail_share_one_long_poll() {
    let leaders = Leaders::new(&[1], None);
    let reads = Arc::new(reads(&leaders));
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let reads = reads.clone();
            tokio::spawn(async move { reads.fetch(wanted(&[(0, 0)], 10_000)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(leaders.asked.lock().len(), 1);
    append(&leaders, 1, 0, "a").await;
    for one in waiting {
        assert_eq!(told(&one.await.expect("ended")), [Ok((1, true))]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_that_nobody_waits_for_ends() {
    let leaders = Leaders::new(&[1], None);
    let reads = reads(&leaders);
    let fetch = reads.fetch(wanted(&[(0, 0)], 20_000));
    assert!(tokio::time::timeout(Duration::from_millis(100), fetch).await.is_err());
    tokio::time::sleep(Duration::from_secs(3)).await;
    append(&leaders, 1, 0, "a").await;
    assert_eq!(told(&reads.fetch(wanted(&[(0, 0)], 0)).await), [Ok((1, true))]);
    assert_eq!(leaders.asked.lock().len(), 2, "the second asked anew");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_keeps_nobody_waiting() {
    let leaders = Leaders::new(&[1], None);
    let reads = reads(&leaders);
    let began = Instant::now();
    let stops = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        reads.stop.cancel();
    };
    let (replies, ()) = tokio::join!(reads.fetch(wanted(&[(0, 0)], 20_000)), stops);
    assert_eq!(told(&replies).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_leaders_records_arrive_beside_a_fast_ones() {
    let leaders = Leaders::new(&[1, 2], None);
    let reads = reads(&leaders);
    let gate = Arc::new(Notify::new());
    leaders.slow.lock().insert(NodeId(2), gate.clone());
    append(&leaders, 1, 0, "a").await;
    leaders.slow.lock().clear();
    append(&leaders, 2, 1, "b").await;
    leaders.slow.lock().insert(NodeId(2), gate.clone());
    for _ in 0..5 {
        assert_eq!(told(&reads.fetch(wanted(&[(0, 0), (1, 0)], 500)).await), [Ok((1, true)), Ok((-1, false))]);
    }
    let to_the_slow_one = leaders.asked.lock().iter().filter(|asked| asked.starts_with("2:")).count();
    assert!(to_the_slow_one <= 2, "asked {to_the_slow_one} times");
    gate.notify_waiters();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(told(&reads.fetch(wanted(&[(0, 0), (1, 0)], 500)).await), [Ok((1, true)), Ok((1, true))]);
}

#[tokio::test(start_paused = true)]
async fn a_moved_leader_costs_a_detour_and_a_dead_one_the_wait() {
    let leaders = Leaders::new(&[1], None);
    let reads = reads(&leaders);
    leaders.moves(0, 2);
    append(&leaders, 2, 0, "a").await;
    let learns = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        leaders.told(0, 2);
    };
    let (replies, ()) = tokio::join!(reads.fetch(wanted(&[(0, 0)], 5_000)), learns);
    assert_eq!(told(&replies), [Ok((1, true))]);
    for _ in 0..100 {
        leaders.is(2, Mood::Down);
    }
    let began = Instant::now();
    let replies = reads.fetch(wanted(&[(0, 1)], 300)).await;
    assert_eq!(told(&replies), [Err(ErrorCode::LeaderNotAvailable)]);
    assert!(began.elapsed() > Duration::from_millis(200), "no reason to hurry");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_to_reads_are_no_unknown_outcomes() {
    let leaders = Leaders::new(&[1], None);
    let reads = reads(&leaders);
    leaders.is(1, Mood::Loses);
    assert_eq!(told(&reads.fetch(wanted(&[(0, 0)], 0)).await), [Err(ErrorCode::LeaderNotAvailable)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_no_larger_than_asked_for() {
    let leaders = Leaders::new(&[1, 1, 1], None);
    let reads = reads(&leaders);
    for partition in 0..3 {
        append(&leaders, 1, partition, "value").await;
    }
    let fetch = Fetch { max_bytes: 10, ..wanted(&[(0, 0), (1, 0), (2, 0)], 0) };
    let replies = reads.fetch(fetch).await;
    assert_eq!(told(&replies), [Ok((1, true)), Ok((1, false)), Ok((1, false))]);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_asked_of_each_leader_and_put_back_in_order() {
    let leaders = Leaders::new(&[1, 2, 1, 3], None);
    let scatter = Scatter { reach: leaders.clone(), metrics: metrics() };
    leaders.is(2, Mood::Down);
    let parts: Vec<_> = [3, 0, 1, 2, 9].map(|partition| (at(partition), None, OffsetSpec::Latest)).to_vec();
    let ask = |partitions| Ask::ListOffsets(ListOffsets { partitions });
    let open = |told| if let Told::Offsets(parts) = told { Some(parts) } else { None };
    let replies = scatter.each(parts, |part| part.0, ask, open).await;
    let offsets: Vec<_> =
        replies.iter().map(|reply| reply.result.as_ref().ok().and_then(|found| found.offset)).collect();
    assert_eq!(offsets, [Some(Offset(3)), Some(Offset(1)), Some(Offset(2)), Some(Offset(1)), None]);
    assert_eq!(replies[4].partition, at(9));
}

#[tokio::test(start_paused = true)]
async fn hot_records_do_not_wait_for_a_leader_that_was_late_before() {
    let leaders = Leaders::new(&[1, 2, 3], None);
    let reads = reads(&leaders);
    append(&leaders, 1, 0, "a").await;
    append(&leaders, 3, 2, "c").await;
    leaders.slow.lock().insert(NodeId(2), Arc::new(Notify::new()));
    assert_eq!(told(&reads.fetch(wanted(&[(0, 0)], 0)).await), [Ok((1, true))]);
    let began = Instant::now();
    let all = wanted(&[(0, 0), (1, 0)], 500);
    assert_eq!(told(&reads.fetch(all.clone()).await), [Ok((1, true)), Ok((-1, false))]);
    assert_eq!(began.elapsed(), Duration::from_millis(GATEWAY_GRACE_MS));
    for _ in 0..10 {
        assert_eq!(told(&reads.fetch(all.clone()).await), [Ok((1, true)), Ok((-1, false))]);
    }
    assert_eq!(began.elapsed(), Duration::from_millis(GATEWAY_GRACE_MS), "once");
    // Nor do those who answer give way to the one that does not.
    let replies = told(&reads.fetch(wanted(&[(0, 0), (1, 0), (2, 0)], 500)).await);
    assert_eq!(replies, [Ok((1, true)), Ok((-1, false)), Ok((1, true))]);
}

#[tokio::test(start_paused = true)]
async fn hot_records_come_in_answers_as_large_as_a_leaders_and_what_is_left_over_is_asked_of_nobody() {
    let leaders = Leaders::new(&[1, 1, 1, 1, 2], None);
    let reads = Reads { cache: Arc::new(HotCache::new(64 << 20)), ..reads(&leaders) };
    let reads = Reads {
        polls: Polls::new(leaders.clone(), reads.cache.clone(), reads.metrics.clone(), Errands::default()),
        ..reads
    };
    let value = "x".repeat(READ_BYTES_MAX as usize / 3);
    let large = |parts: &[(u32, i64)]| {
        let mut fetch = wanted(parts, 500);
        fetch.max_bytes = 50 << 20;
        fetch.partitions.iter_mut().for_each(|part| part.max_bytes = 10 << 20);
        fetch
    };
    for partition in 0..4 {
        append(&leaders, 1, partition, &value).await;
        reads.fetch(large(&[(partition, 0)])).await;
    }
    leaders.asked.lock().clear();
    let all = [(0, 0), (1, 0), (2, 0), (3, 0)];
    let replies = told(&reads.fetch(large(&all)).await);
    assert_eq!(replies, [Ok((1, true)), Ok((1, true)), Ok((1, false)), Ok((1, false))]);
    assert!(leaders.asked.lock().is_empty());
    // A leader of what is not in the cache is asked, and not waited for.
    leaders.slow.lock().insert(NodeId(2), Arc::new(Notify::new()));
    let began = Instant::now();
    let replies = told(&reads.fetch(large(&[(0, 0), (1, 0), (2, 0), (4, 0)])).await);
    assert_eq!(replies[3], Ok((-1, false)));
    assert_eq!(began.elapsed(), Duration::ZERO);
    tokio::task::yield_now().await;
    assert_eq!(*leaders.asked.lock(), ["2: fetch [(4, 0)]"]);
}

#[tokio::test(start_paused = true)]
async fn beside_hot_records_a_leader_is_not_asked_at_each_fetch_whether_there_is_more() {
    let leaders = Leaders::new(&[1, 2], None);
    let reads = reads(&leaders);
    append(&leaders, 1, 0, "a").await;
    assert_eq!(told(&reads.fetch(wanted(&[(0, 0)], 0)).await), [Ok((1, true))]);
    assert_eq!(told(&reads.fetch(wanted(&[(1, 0)], 0)).await), [Ok((0, false))]);
    let both = wanted(&[(0, 0), (1, 0)], 0);
    leaders.asked.lock().clear();
    for _ in 0..10 {
        assert_eq!(told(&reads.fetch(both.clone()).await), [Ok((1, true)), Ok((-1, false))]);
    }
    assert!(leaders.asked.lock().is_empty());
    append(&leaders, 2, 1, "b").await;
    tokio::time::advance(Duration::from_millis(GATEWAY_FRESH_MS_MAX + 1)).await;
    assert_eq!(told(&reads.fetch(both).await), [Ok((1, true)), Ok((1, true))]);
    // Nobody else's answer is enough for a fetch that has nothing.
    leaders.asked.lock().clear();
    reads.fetch(wanted(&[(1, 1)], 0)).await;
    reads.fetch(wanted(&[(1, 1)], 0)).await;
    assert_eq!(leaders.asked.lock().len(), 2);
}
