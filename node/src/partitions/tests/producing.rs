//! What a produce promises.

use super::*;

#[tokio::test]
async fn every_kind_of_acks_appends_and_tells_where() {
    let (bench, at) = Bench::with_topic(&[]).await;
    for (acks, base) in [(Acks::None, 0), (Acks::Leader, 2), (Acks::All, 4)] {
        let produced = bench.produce(at, acks, &["a", "b"]).await.expect("appended");
        assert_eq!((produced.base_offset, produced.append_time, produced.log_start), (Offset(base), None, Offset(0)));
    }
    let fetched = bench.fetch(at, 0, 0).await.expect("served");
    assert_eq!(values(&fetched.records), ["a", "b", "a", "b", "a", "b"]);
    assert_eq!((fetched.high_watermark, fetched.last_stable_offset), (Offset(6), Offset(6)));
    let totals = bench.partitions.totals();
    assert_eq!((totals.produced_batches, totals.produced_records), (3, 6));
}

#[tokio::test]
async fn records_are_stored_as_the_producer_made_them() {
    let (bench, at) = Bench::with_topic(&[]).await;
    bench.produce(at, Acks::All, &["x"]).await.expect("appended");
    let sent = batch(&["first", "second"]);
    produce(&bench.partitions, at, Acks::All, sent.bytes().clone()).await.expect("appended");
    let found = bench.fetch(at, 1, 0).await.expect("served").records.into_bytes();
    assert_eq!(found, sent.clone().stamp(Offset(1), LeaderEpoch(0)).bytes());
    assert_eq!(found[17..], sent.bytes()[17..], "all behind the magic is the producer's");
}

#[tokio::test]
async fn a_request_that_breaks_a_rule_writes_nothing_at_all() {
    let (bench, at) = Bench::with_topic(&[("max.message.bytes", "200")]).await;
    let good = batch(&["fine"]).bytes().clone();
    let big = batch(&[&"x".repeat(300)]).bytes().clone();
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("has bytes") ^= 1;
    for (second, code) in [(big, ErrorCode::MessageTooLarge), (flipped.into(), ErrorCode::CorruptMessage)] {
        let both = Bytes::from([good.clone(), second].concat());
        let refused = produce(&bench.partitions, at, Acks::All, both).await.expect_err("refused");
        assert_eq!(refused.0, code);
        assert!(refused.1.starts_with("record batch 1"), "{}", refused.1);
    }
    assert_eq!(bench.stats_of(at).log_end, Offset(0));
    assert_eq!(bench.partitions.totals().refused_produces, 2);
}

#[tokio::test]
async fn one_partitions_refusal_is_not_anothers() {
    let mut bench = Bench::new();
    let first = bench.create("t", 2, &[]).await;
    let records = batch(&["v"]).bytes().clone();
    let part = |partition, records| ProducePartition { partition, leader_epoch: None, records };
    let missing = at(first.topic, 7);
    let partitions = vec![
        part(first, Bytes::from_static(b"junk")),
        part(missing, records.clone()),
        part(at(TopicId([77; 16]), 0), records.clone()),
        part(at(first.topic, 1), records),
    ];
    let replies = bench.partitions.produce(Produce { acks: Acks::All, timeout_ms: 1000, partitions }).await;
    let codes: Vec<_> = replies.iter().map(|reply| reply.result.as_ref().err().map(|failure| failure.code)).collect();
    let refused = [ErrorCode::CorruptMessage, ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId].map(Some);
    assert_eq!(codes[..3], refused);
    assert_eq!(codes[3], None);
}

#[tokio::test]
async fn epochs_fence_and_hints_say_who_leads() {
    let (mut bench, at) = Bench::with_topic(&[]).await;
    bench.change(at, |state| state.leader_epoch = LeaderEpoch(5)).await;
    let partitions = bench.partitions.clone();
    let send = |epoch| {
        let records = batch(&["v"]).bytes().clone();
        let part = ProducePartition { partition: at, leader_epoch: Some(LeaderEpoch(epoch)), records };
        let partitions = partitions.clone();
        async move {
            let produce = Produce { acks: Acks::All, timeout_ms: 1000, partitions: vec![part] };
            partitions.produce(produce).await.remove(0).result
        }
    };
    assert!(send(5).await.is_ok());
    let (old, new) = (send(4).await.expect_err("fenced"), send(6).await.expect_err("unknown"));
    assert_eq!((old.code, new.code), (ErrorCode::FencedLeaderEpoch, ErrorCode::UnknownLeaderEpoch));
    assert_eq!(old.leader.expect("has a hint").epoch, LeaderEpoch(5));

    bench.change(at, |state| (state.leader, state.leader_epoch) = (Some(OTHER), LeaderEpoch(6))).await;
    let refused = send(6).await.expect_err("not ours");
    let hint = refused.leader.expect("has a hint");
    assert_eq!(refused.code, ErrorCode::NotLeaderOrFollower);
    assert_eq!((hint.node, hint.epoch, hint.peer_id.as_deref()), (Some(OTHER), LeaderEpoch(6), Some("peer-2")));
    assert_eq!(hint.addresses, ["/ip4/10.0.0.2/tcp/7300"]);

    bench.change(at, |state| (state.leader, state.leader_epoch) = (None, LeaderEpoch(7))).await;
    assert_eq!(send(7).await.expect_err("nobody leads").code, ErrorCode::LeaderNotAvailable);
    bench.change(at, |state| (state.leader, state.leader_epoch) = (Some(ME), LeaderEpoch(8))).await;
    assert_eq!(send(8).await.expect("leads again").base_offset, Offset(1));
}

#[tokio::test]
async fn acks_all_needs_the_replicas_that_the_topic_asks_for() {
    let (mut bench, at) = Bench::with_topic(&[("min.insync.replicas", "2")]).await;
    let refused = bench.produce(at, Acks::All, &["v"]).await.expect_err("too few");
    assert_eq!(refused.0, ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.stats_of(at).log_end, Offset(0));
    bench.produce(at, Acks::Leader, &["v"]).await.expect("asks for less");
    bench.configure(at, "min.insync.replicas", "1").await;
    bench.produce(at, Acks::All, &["w"]).await.expect("the new configuration holds");
    assert_eq!(bench.values(at, 0).await, ["v", "w"]);
}

#[tokio::test]
async fn an_fsync_topic_acknowledges_and_shows_what_is_flushed() {
    let (bench, at) = Bench::with_topic(&[("durability", "fsync")]).await;
    bench.watch.close_gate(true);
    let mut waiting = Vec::new();
    for acks in [Acks::Leader, Acks::All] {
        let partitions = bench.partitions.clone();
        waiting.push(tokio::spawn(async move { produce(&partitions, at, acks, batch(&["v"]).bytes().clone()).await }));
    }
    eventually("both appends", || bench.stats_of(at).log_end == Offset(2)).await;
    assert!(waiting.iter().all(|produce| !produce.is_finished()));
    assert_eq!(bench.stats_of(at).high_watermark, Offset(0));
    assert!(bench.values(at, 0).await.is_empty(), "what a power cut may take back is not shown");
    bench.watch.close_gate(false);
    for produce in waiting {
        produce.await.expect("runs").expect("acknowledged");
    }
    assert_eq!(bench.stats_of(at).flushed, Offset(2));
    assert_eq!(bench.values(at, 0).await, ["v", "v"]);
}

#[tokio::test]
async fn a_produce_that_is_not_safe_in_time_says_so_and_may_become_safe() {
    let (bench, at) = Bench::with_topic(&[("durability", "fsync")]).await;
    bench.watch.close_gate(true);
    let part = ProducePartition { partition: at, leader_epoch: None, records: batch(&["v"]).bytes().clone() };
    let late = bench.partitions.produce(Produce { acks: Acks::All, timeout_ms: 20, partitions: vec![part] }).await;
    assert_eq!(late[0].result.as_ref().expect_err("late").code, ErrorCode::RequestTimedOut);
    bench.watch.close_gate(false);
    assert_eq!(values(&bench.fetch(at, 0, 5_000).await.expect("served").records), ["v"]);
}

#[tokio::test]
async fn leadership_lost_while_waiting_leaves_the_outcome_to_the_new_leader() {
    let (mut bench, at) = Bench::with_topic(&[("durability", "fsync")]).await;
    bench.watch.close_gate(true);
    let partitions = bench.partitions.clone();
    let waiting = tokio::spawn(async move { produce(&partitions, at, Acks::All, batch(&["v"]).bytes().clone()).await });
    eventually("the append", || bench.stats_of(at).log_end == Offset(1)).await;
    bench.change(at, |state| (state.leader, state.leader_epoch) = (Some(OTHER), LeaderEpoch(1))).await;
    let refused = waiting.await.expect("runs").expect_err("no leader any more");
    assert_eq!(refused.0, ErrorCode::NotLeaderOrFollower);
    bench.watch.close_gate(false);
}

#[tokio::test]
async fn the_broker_stamps_and_recompresses_where_the_topic_says_so() {
    let configs = [("message.timestamp.type", "LogAppendTime"), ("compression.type", "zstd")];
    let (bench, at) = Bench::with_topic(&configs).await;
    bench.clock.wall.store(NOW.0 + 5, Ordering::Release);
    let produced = bench.produce(at, Acks::All, &["v".repeat(500).as_str()]).await.expect("appended");
    assert_eq!(produced.append_time, Some(Timestamp(NOW.0 + 5)));
    let stored =
        RecordBatch::parse(bench.fetch(at, 0, 0).await.expect("served").records.into_bytes()).expect("one batch");
    assert_eq!(stored.header().compression(), Compression::Zstd);
    assert_eq!(stored.header().max_timestamp, Timestamp(NOW.0 + 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_producers_at_once_get_dense_offsets_each_in_order() {
    let mut bench = Bench::new();
    let first = bench.create("t", 4, &[]).await;
    let mut tasks = Vec::new();
    for producer in 0..100u32 {
        let partitions = bench.partitions.clone();
        tasks.push(tokio::spawn(async move {
            let partition = at(first.topic, producer % 4);
            let mut bases = Vec::new();
            for sequence in 0..20 {
                let value = format!("{producer}:{sequence}");
                let records = batch(&[&value, &value]).bytes().clone();
                let produced = produce(&partitions, partition, Acks::All, records).await.expect("acknowledged");
                bases.push((partition, produced.base_offset, value));
            }
            assert!(bases.windows(2).all(|pair| pair[0].1 < pair[1].1), "a producer's requests stay in order");
            bases
        }));
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("runs"));
    }
    for partition in 0..4 {
        let partition = at(first.topic, partition);
        let all = bench.values(partition, 0).await;
        assert_eq!(all.len(), 25 * 20 * 2);
        let mine: Vec<_> = acknowledged.iter().filter(|(at, ..)| *at == partition).collect();
        let bases: std::collections::BTreeSet<_> = mine.iter().map(|(_, base, _)| *base).collect();
        assert_eq!(bases.len(), mine.len());
        for (_, base, value) in mine {
            assert_eq!(all[base.0 as usize..base.0 as usize + 2], [value.clone(), value.clone()]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_of_an_fsync_topic_share_flushes() {
    let (bench, at) = Bench::with_topic(&[("durability", "fsync")]).await;
    bench.watch.close_gate(true);
    let produce_one = |_| {
        let partitions = bench.partitions.clone();
        tokio::spawn(async move { produce(&partitions, at, Acks::All, batch(&["v"]).bytes().clone()).await })
    };
    let tasks: Vec<_> = (0..50).map(produce_one).collect();
    eventually("all appends", || bench.stats_of(at).log_end == Offset(50)).await;
    bench.watch.close_gate(false);
    for task in tasks {
        task.await.expect("runs").expect("acknowledged");
    }
    let flushes = bench.partitions.totals().flushes;
    assert!(flushes <= 5, "{flushes} flushes for 50 produces");
}

#[tokio::test]
async fn a_large_request_is_appended_like_a_small_one() {
    let (bench, at) = Bench::with_topic(&[("max.message.bytes", "12000000")]).await;
    let value = "x".repeat(10_000_000);
    bench.produce(at, Acks::All, &[&value]).await.expect("acknowledged");
    let fetched = bench.fetch(at, 0, 0).await.expect("served");
    assert_eq!(values(&fetched.records), [value], "at least one batch, however small the limit");
}
