//! Start, metadata, restart, end.

use super::*;

#[tokio::test]
async fn a_restart_keeps_everything_after_a_kill_and_after_an_orderly_end() {
    let mut bench = Bench::new();
    let first = bench.create("t", 3, &[]).await;
    for i in 0..30 {
        let partition = at(first.topic, i % 3);
        bench.produce(partition, Acks::All, &[&format!("value {i}")]).await.expect("acknowledged");
    }
    for orderly in [false, true, false] {
        if orderly {
            bench.partitions.shutdown().await.expect("closes");
        }
        let done = bench.restart().await;
        assert_eq!((done.opened, done.failed), (3, vec![]));
        for partition in 0..3 {
            let expected: Vec<_> = (0..10).map(|i| format!("value {}", i * 3 + partition)).collect();
            assert_eq!(bench.values(at(first.topic, partition), 0).await, expected);
            assert_eq!(bench.stats_of(at(first.topic, partition)).high_watermark, Offset(10));
        }
    }
}

#[tokio::test]
async fn an_fsync_topic_commits_what_a_kill_left_unflushed_only_once_it_is_flushed() {
    let (mut bench, at) = Bench::with_topic(&[("durability", "fsync")]).await;
    bench.produce(at, Acks::All, &["flushed"]).await.expect("acknowledged");
    bench.watch.close_gate(true);
    bench.produce(at, Acks::None, &["written"]).await.expect("appended");
    // The thread that syncs waits at the gate; a kill does not wait for it.
    let (watch, old) = (bench.watch.clone(), bench.partitions.clone());
    bench.watch.close_gate(false);
    drop(old);
    bench.kill();
    watch.close_gate(true);
    bench.start().await;
    let found = bench.stats_of(at);
    if found.flushed < Offset(2) {
        assert_eq!((found.high_watermark, found.log_end), (found.flushed, Offset(2)));
        let list = ListOffsets { partitions: vec![(at, None, OffsetSpec::Latest)] };
        let refused = bench.partitions.list_offsets(list).await.remove(0).result.expect_err("not known yet");
        assert_eq!(refused.code, ErrorCode::OffsetNotAvailable);
    }
    watch.close_gate(false);
    eventually("the flush", || bench.stats_of(at).high_watermark == Offset(2)).await;
    assert_eq!(bench.values(at, 0).await, ["flushed", "written"]);
}

#[tokio::test]
async fn after_the_end_nothing_is_served_and_nothing_is_left_to_repair() {
    let (bench, at) = Bench::with_topic(&[]).await;
    bench.produce(at, Acks::All, &["v"]).await.expect("acknowledged");
    bench.partitions.shutdown().await.expect("closes");
    assert_eq!(bench.produce(at, Acks::All, &["w"]).await.expect_err("over").0, ErrorCode::NotReady);
    assert_eq!(bench.fetch(at, 0, 30_000).await.expect_err("over").0, ErrorCode::NotReady);
    let segment = folder(at).join("00000000000000000000.log");
    assert_eq!(bench.memory.len(&segment).expect("exists"), batch(&["v"]).len() as u64, "no preallocated rest");
    assert_eq!(bench.stats_of(at).flushed, Offset(1));
    assert_eq!(bench.reconcile().await, Reconciled::default());
}

#[tokio::test]
async fn a_produce_that_the_end_overtakes_is_flushed_and_acknowledged() {
    let (bench, at) = Bench::with_topic(&[("durability", "fsync")]).await;
    bench.watch.close_gate(true);
    let partitions = bench.partitions.clone();
    let waiting = tokio::spawn(async move { produce(&partitions, at, Acks::All, batch(&["v"]).bytes().clone()).await });
    eventually("the append", || bench.stats_of(at).log_end == Offset(1)).await;
    let partitions = bench.partitions.clone();
    let end = tokio::spawn(async move { partitions.shutdown().await });
    bench.watch.close_gate(false);
    waiting.await.expect("runs").expect("acknowledged");
    end.await.expect("runs").expect("closes");
}

#[tokio::test]
async fn a_log_that_cannot_be_closed_is_told() {
    let (bench, at) = Bench::with_topic(&[]).await;
    bench.faults.set_fail_syncs(true);
    bench.produce(at, Acks::Leader, &["v"]).await.expect("acknowledged");
    let error = bench.partitions.shutdown().await.expect_err("cannot sync");
    assert!(matches!(error, ShutdownError::NotClean { count: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_deleted_topic_leaves_the_disk_and_its_waiting_produces_know() {
    let mut bench = Bench::new();
    let first = bench.create("t", 1, &[("durability", "fsync")]).await;
    bench.watch.close_gate(true);
    let partitions = bench.partitions.clone();
    let waiting =
        tokio::spawn(async move { produce(&partitions, first, Acks::All, batch(&["v"]).bytes().clone()).await });
    eventually("the append", || bench.stats_of(first).log_end == Offset(1)).await;
    bench.delete_topic(first).await;
    let refused = waiting.await.expect("runs").expect_err("removed");
    assert_eq!(refused.0, ErrorCode::UnknownTopicOrPartition);
    bench.watch.close_gate(false);
    eventually("the deletion", || !bench.memory.exists(&folder(first)).expect("memory")).await;
    assert_eq!(bench.produce(first, Acks::All, &["w"]).await.expect_err("removed").0, ErrorCode::UnknownTopicId);
    assert!(bench.partitions.stats().partitions.is_empty());
}

#[tokio::test]
async fn a_partition_that_comes_back_starts_empty() {
    let (mut bench, at) = Bench::with_topic(&[]).await;
    for round in ["first", "second", "third"] {
        bench.produce(at, Acks::All, &[round]).await.expect("acknowledged");
        assert_eq!(bench.values(at, 0).await, [round]);
        bench.change(at, |state| (state.replicas, state.leader) = (vec![OTHER], Some(OTHER))).await;
        let refused = bench.produce(at, Acks::All, &["v"]).await.expect_err("elsewhere");
        assert_eq!(refused.0, ErrorCode::NotLeaderOrFollower);
        bench.change(at, |state| (state.replicas, state.leader) = (vec![ME], Some(ME))).await;
    }
}

#[tokio::test]
async fn folders_go_only_when_metadata_that_must_know_says_so() {
    let mut bench = Bench::new();
    let kept = bench.create("kept", 1, &[]).await;
    let deleted = bench.create("deleted", 1, &[]).await;
    let foreign = at(TopicId([200; 16]), 0);
    let newer = at(TopicId([201; 16]), 0);
    let cluster = bench.image.cluster.as_ref().expect("has one").id;
    for (partition, cluster, index) in [(foreign, ClusterId([1; 32]), 1), (newer, cluster, 900)] {
        bench.memory.create_dir_all(&folder(partition)).expect("creates");
        let topic = TopicName::new("stray").expect("legal");
        let meta = meta::Meta { topic, partition, cluster, index: MetadataIndex(index) };
        meta.write(&*bench.memory, &folder(partition)).expect("writes");
    }
    let there = |bench: &Bench, at| bench.memory.exists(&folder(at)).expect("memory");

    bench.kill();
    bench.forget_topic(deleted);
    let image = std::mem::take(&mut bench.image);
    bench.start().await;
    assert!(there(&bench, kept) && there(&bench, deleted), "an empty image knows nothing");
    bench.image = image;
    bench.reconcile().await;
    eventually("the deletion", || !there(&bench, deleted)).await;
    assert!(there(&bench, kept) && there(&bench, foreign) && there(&bench, newer));
    bench.image.index = MetadataIndex(900);
    bench.reconcile().await;
    eventually("the deletion", || !there(&bench, newer)).await;
    assert!(there(&bench, kept) && there(&bench, foreign));
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_keeps_no_other_from_serving() {
    let mut bench = Bench::new();
    let first = bench.create("t", 2, &[]).await;
    let second = at(first.topic, 1);
    bench.produce(second, Acks::All, &["v"]).await.expect("acknowledged");
    bench.kill();
    bench.faults.set_fail_reads(true);
    let failed = bench.start().await.failed;
    assert_eq!(failed.len(), 2);
    let refused = bench.produce(first, Acks::All, &["w"]).await.expect_err("not open");
    assert_eq!(refused.0, ErrorCode::StorageError);
    assert!(refused.1.starts_with("partition t/0 cannot be opened"), "{}", refused.1);
    bench.faults.set_fail_reads(false);
    eventually("another try", || bench.partitions.leads(first) && bench.partitions.leads(second)).await;
    assert_eq!(bench.values(second, 0).await, ["v"]);
    assert!(bench.partitions.stats().failed.is_empty());
}

#[tokio::test]
async fn a_memory_topic_leaves_no_trace_on_the_disk() {
    let (mut bench, at) = Bench::with_topic(&[("storage.engine", "memory")]).await;
    bench.produce(at, Acks::All, &["v"]).await.expect("acknowledged");
    assert_eq!(bench.values(at, 0).await, ["v"]);
    assert!(!bench.memory.exists(&folder(at)).expect("memory"));
    bench.restart().await;
    assert!(bench.values(at, 0).await.is_empty());
    bench.delete_topic(at).await;
}

#[tokio::test]
async fn many_partitions_open_side_by_side_and_waiters_hear_when_they_have() {
    let mut bench = Bench::new();
    let first = bench.create("t", 300, &[]).await;
    for partition in 0..300 {
        bench.produce(at(first.topic, partition), Acks::Leader, &["v"]).await.expect("acknowledged");
    }
    bench.kill();
    bench.partitions = Arc::new(open(&bench.disk, &bench.clock, &bench.config));
    let (partitions, index) = (bench.partitions.clone(), bench.image.index);
    let waiting = tokio::spawn(async move { partitions.reconciled(index).await });
    let done = bench.reconcile().await;
    assert_eq!(done.opened, 300);
    waiting.await.expect("runs");
    assert!((0..300).all(|partition| bench.partitions.leads(at(first.topic, partition))));
}

#[tokio::test]
async fn older_metadata_changes_nothing() {
    let (mut bench, at) = Bench::with_topic(&[]).await;
    let old = bench.image.clone();
    bench.change(at, |state| state.leader_epoch = LeaderEpoch(3)).await;
    let newer = std::mem::replace(&mut bench.image, old);
    bench.reconcile().await;
    assert_eq!(bench.stats_of(at).leads, Some(LeaderEpoch(3)));
    bench.image = newer;
}
