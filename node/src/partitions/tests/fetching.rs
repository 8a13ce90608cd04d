//! What a fetch promises.

use rafka_model::limits::CACHE_UNREAD_BYTES_MAX;

use super::*;

/// A fetch running on its own.
fn spawn_fetch(bench: &Bench, request: Fetch) -> tokio::task::JoinHandle<Vec<PartitionReply<Fetched>>> {
    let partitions = bench.partitions.clone();
    tokio::spawn(async move { partitions.fetch(request).await })
}

fn wait_for(parts: &[(TopicPartition, i64)], min_bytes: u32, max_wait_ms: u32) -> Fetch {
    let part = |(partition, offset): &(TopicPartition, i64)| FetchPartition {
        partition: *partition,
        leader_epoch: None,
        offset: Offset(*offset),
        max_bytes: 1 << 20,
    };
    Fetch { max_wait_ms, min_bytes, max_bytes: 1 << 20, partitions: parts.iter().map(part).collect() }
}

async fn parked(bench: &Bench, at: TopicPartition, count: usize) {
    eventually("parking", || bench.stats_of(at).parked == count).await;
}

#[tokio::test]
async fn a_waiting_fetch_wakes_on_the_append_and_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let first = bench.create("t", 2, &[]).await;
    let second = at(first.topic, 1);
    let waiting = spawn_fetch(&bench, wait_for(&[(first, 0), (second, 0)], 1, 30_000));
    parked(&bench, first, 1).await;
    bench.produce(second, Acks::All, &["v"]).await.expect("acknowledged");
    let replies = waiting.await.expect("runs");
    let records: Vec<_> = replies.iter().map(|reply| values(&reply.result.as_ref().expect("served").records)).collect();
    assert_eq!(records, [vec![], vec!["v".to_owned()]]);
    assert_eq!((bench.stats_of(first).parked, bench.stats_of(second).parked), (0, 0));
}

#[tokio::test]
async fn a_fetch_waits_until_enough_bytes_are_there_over_all_partitions() {
    let mut bench = Bench::new();
    let first = bench.create("t", 2, &[]).await;
    let second = at(first.topic, 1);
    let size = batch(&["v"]).len() as u32;
    let waiting = spawn_fetch(&bench, wait_for(&[(first, 0), (second, 0)], 3 * size, 30_000));
    for partition in [first, second] {
        parked(&bench, first, 1).await;
        bench.produce(partition, Acks::All, &["v"]).await.expect("acknowledged");
        assert!(!waiting.is_finished());
    }
    bench.produce(first, Acks::All, &["w"]).await.expect("acknowledged");
    let replies = waiting.await.expect("runs");
    let found = |i: usize| values(&replies[i].result.as_ref().expect("served").records);
    assert_eq!((found(0), found(1)), (vec!["v".to_owned(), "w".to_owned()], vec!["v".to_owned()]));
}

#[tokio::test]
async fn a_fetch_that_waited_in_vain_answers_with_what_there_is() {
    let (bench, at) = Bench::with_topic(&[]).await;
    bench.produce(at, Acks::All, &["v"]).await.expect("acknowledged");
    let replies = spawn_fetch(&bench, wait_for(&[(at, 0)], 100_000, 30)).await.expect("runs");
    assert_eq!(values(&replies[0].result.as_ref().expect("served").records), ["v"]);
    let empty = bench.fetch(at, 1, 10).await.expect("served");
    assert_eq!((empty.records.len(), empty.high_watermark), (0, Offset(1)));
}

#[tokio::test]
async fn a_waiting_fetch_hears_of_deletion_of_a_new_leader_and_of_the_end() {
    let (mut bench, first) = Bench::with_topic(&[]).await;
    let second = bench.create("u", 1, &[]).await;
    let third = bench.create("v", 1, &[]).await;
    let waits: Vec<_> =
        [first, second, third].iter().map(|at| spawn_fetch(&bench, wait_for(&[(*at, 0)], 1, 30_000))).collect();
    for at in [first, second, third] {
        parked(&bench, at, 1).await;
    }
    bench.delete_topic(first).await;
    bench.change(second, |state| (state.leader, state.leader_epoch) = (Some(OTHER), LeaderEpoch(1))).await;
    bench.partitions.release_waiters();
    let mut codes = Vec::new();
    for wait in waits {
        codes.push(wait.await.expect("runs").remove(0).result.err().map(|failure| failure.code));
    }
    assert_eq!(codes, [Some(ErrorCode::UnknownTopicId), Some(ErrorCode::NotLeaderOrFollower), None]);
    assert_eq!(bench.fetch(third, 0, 30_000).await.expect("served").records.len(), 0, "nobody waits any more");
}

#[tokio::test]
async fn a_client_that_goes_away_is_parked_no_more() {
    let (bench, at) = Bench::with_topic(&[]).await;
    let waiting = spawn_fetch(&bench, wait_for(&[(at, 0)], 1, 30_000));
    parked(&bench, at, 1).await;
    waiting.abort();
    parked(&bench, at, 0).await;
}

#[tokio::test]
async fn repeated_reads_do_no_disk_io() {
    let (mut bench, at) = Bench::with_topic(&[]).await;
    for i in 0..50 {
        bench.produce(at, Acks::All, &[&format!("value {i}")]).await.expect("acknowledged");
    }
    let before = bench.watch.reads.load(Ordering::Acquire);
    assert_eq!(bench.values(at, 0).await.len(), 50, "what was just written is in the cache");
    assert_eq!(bench.watch.reads.load(Ordering::Acquire), before);

    bench.restart().await;
    let cold = bench.watch.reads.load(Ordering::Acquire);
    let first = bench.values(at, 0).await;
    let warm = bench.watch.reads.load(Ordering::Acquire);
    assert!(warm > cold, "the first read after a restart needs the disk");
    for from in [0, 17, 49] {
        assert_eq!(bench.values(at, from).await, first[from as usize..]);
    }
    assert_eq!(bench.watch.reads.load(Ordering::Acquire), warm);
    let totals = bench.partitions.totals();
    assert_eq!((totals.cold_reads, totals.cache.hits), (1, 3));
}

#[tokio::test]
async fn what_nobody_reads_is_kept_only_for_a_while() {
    let (bench, at) = Bench::with_topic(&[]).await;
    let value = "v".repeat(200_000);
    let batches = 3 * CACHE_UNREAD_BYTES_MAX / value.len() as u64;
    let held = || bench.partitions.totals().cache.bytes;
    for _ in 0..batches {
        bench.produce(at, Acks::All, &[&value]).await.expect("acknowledged");
    }
    assert!((1..2 * CACHE_UNREAD_BYTES_MAX).contains(&held()), "{}", held());
    let (end, before) = (batches as i64, held());
    bench.fetch(at, end, 0).await.expect("a reader at the end");
    bench.produce(at, Acks::All, &[&value]).await.expect("acknowledged");
    assert!(held() >= before + value.len() as u64, "with a reader it goes on");
    bench.fetch(at, end, 0).await.expect("served");
    assert_eq!(bench.partitions.totals().cold_reads, 0);
}

#[tokio::test]
async fn without_a_cache_every_read_goes_to_the_log() {
    let mut bench = Bench::with(Config { cache_bytes: 0, ..quick() });
    let at = bench.create("t", 1, &[]).await;
    bench.produce(at, Acks::All, &["v"]).await.expect("acknowledged");
    for _ in 0..3 {
        assert_eq!(bench.values(at, 0).await, ["v"]);
    }
    assert_eq!(bench.partitions.totals().cold_reads, 3);
}

#[tokio::test]
async fn a_batch_cached_alone_does_not_hide_what_lies_behind_it() {
    let mut bench = Bench::with(Config { cache_bytes: 1024, ..quick() });
    let at = bench.create("t", 1, &[]).await;
    for i in 0..100 {
        bench.produce(at, Acks::All, &[&format!("{i:0100}")]).await.expect("acknowledged");
    }
    // The cache holds a few batches of the end; a fetch for more than they have reads on in the log and returns all.
    for (from, min_bytes) in [(0, 1), (95, 1), (0, 20_000), (90, 1_500)] {
        let replies = spawn_fetch(&bench, wait_for(&[(at, from)], min_bytes, 0)).await.expect("runs");
        let records = replies[0].result.as_ref().expect("served").records.clone();
        assert!(records.len() >= min_bytes as usize || min_bytes == 20_000, "{from} {min_bytes} {}", records.len());
        assert_eq!(values(&records)[0], format!("{from:0100}"));
    }
}

#[tokio::test]
async fn limits_hold_for_each_partition_and_for_all_but_one_batch_always_comes() {
    let mut bench = Bench::new();
    let first = bench.create("t", 3, &[]).await;
    let size = batch(&["v"]).len() as u32;
    let partitions: Vec<_> = (0..3).map(|i| at(first.topic, i)).collect();
    for partition in &partitions {
        for _ in 0..10 {
            bench.produce(*partition, Acks::All, &["v"]).await.expect("acknowledged");
        }
    }
    let counts = |max_bytes: u32, each: u32| {
        let part = |partition: &TopicPartition| FetchPartition {
            partition: *partition,
            leader_epoch: None,
            offset: Offset(0),
            max_bytes: each,
        };
        let parts = partitions.iter().map(part).collect();
        let fetch = Fetch { max_wait_ms: 0, min_bytes: 1, max_bytes, partitions: parts };
        let partitions = bench.partitions.clone();
        async move {
            let replies = partitions.fetch(fetch).await;
            replies.iter().map(|reply| values(&reply.result.as_ref().expect("ok").records).len()).collect::<Vec<_>>()
        }
    };
    assert_eq!(counts(1 << 20, 4 * size).await, [4, 4, 4]);
    assert_eq!(counts(15 * size, 1 << 20).await, [10, 5, 0]);
    assert_eq!(counts(1, 1).await, [1, 0, 0]);
    assert_eq!(counts(0, 0).await, [1, 0, 0]);
}

#[tokio::test]
async fn of_many_partitions_none_is_read_in_vain_once_the_answer_is_full() {
    let mut bench = Bench::with(Config { cache_bytes: 0, ..quick() });
    let first = bench.create("t", 20, &[]).await;
    let partitions: Vec<_> = (0..20).map(|i| (at(first.topic, i), 0)).collect();
    for (partition, _) in &partitions {
        bench.produce(*partition, Acks::All, &["v"]).await.expect("acknowledged");
    }
    let size = batch(&["v"]).len() as u32;
    let fetch = Fetch { max_bytes: size * 5 / 2, ..wait_for(&partitions, 1, 0) };
    let replies = spawn_fetch(&bench, fetch).await.expect("runs");
    let found = replies.iter().filter(|reply| !reply.result.as_ref().expect("served").records.is_empty()).count();
    assert_eq!(found, 2);
    assert_eq!(bench.partitions.totals().cold_reads, 3, "two that fit, and one to find that no more does");
}

#[tokio::test]
async fn offsets_outside_the_log_are_refused_with_its_range() {
    let (bench, at) = Bench::with_topic(&[]).await;
    bench.produce(at, Acks::All, &["a", "b", "c"]).await.expect("acknowledged");
    let delete = DeleteRecords { partitions: vec![(at, Some(Offset(2)))] };
    assert_eq!(*bench.partitions.delete_records(delete).await[0].result.as_ref().expect("deleted"), Offset(2));
    for outside in [1, 4, -1] {
        let refused = bench.fetch(at, outside, 1_000).await.expect_err("outside");
        assert_eq!(refused.0, ErrorCode::OffsetOutOfRange);
        assert_eq!(refused.1, format!("offset {outside} is not in t/0, which holds 2 to 3"));
    }
    let inside = bench.fetch(at, 2, 0).await.expect("inside");
    assert_eq!((values(&inside.records).len(), inside.log_start), (3, Offset(2)), "a batch comes whole");
}

#[tokio::test]
async fn offsets_are_found_by_place_and_by_time() {
    let (bench, at) = Bench::with_topic(&[]).await;
    for i in [0, 10, 20, 5] {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp(NOW.0 + i), None, Some(b"v"), &[]);
        produce(&bench.partitions, at, Acks::All, builder.build().bytes().clone()).await.expect("acknowledged");
    }
    let find = |spec, epoch| {
        let partitions = bench.partitions.clone();
        async move {
            let list = ListOffsets { partitions: vec![(at, epoch, spec)] };
            let found = partitions.list_offsets(list).await.remove(0).result;
            found.map(|found| (found.offset.map(|o| o.0), found.timestamp.0 - NOW.0)).map_err(|failure| failure.code)
        }
    };
    let none = Timestamp::NONE.0 - NOW.0;
    assert_eq!(find(OffsetSpec::Earliest, None).await, Ok((Some(0), none)));
    assert_eq!(find(OffsetSpec::Latest, None).await, Ok((Some(4), none)));
    assert_eq!(find(OffsetSpec::At(Timestamp(NOW.0 + 6)), None).await, Ok((Some(1), 10)));
    assert_eq!(find(OffsetSpec::At(Timestamp(NOW.0 + 21)), None).await, Ok((None, none)));
    assert_eq!(find(OffsetSpec::MaxTimestamp, None).await, Ok((Some(2), 20)));
    assert_eq!(find(OffsetSpec::Latest, Some(LeaderEpoch(3))).await, Err(ErrorCode::UnknownLeaderEpoch));
}
