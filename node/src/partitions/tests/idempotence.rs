//! Idempotent producers, across everything that may happen to their partition.

use super::*;

fn sent(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).idempotent(ProducerId(id), epoch, sequence);
    values.iter().for_each(|value| builder.push(NOW, None, Some(value.as_bytes()), &[]));
    builder.build().bytes().clone()
}

impl Bench {
    async fn send(&self, at: TopicPartition, records: Bytes) -> Result<Offset, ErrorCode> {
        let produced = produce(&self.partitions, at, Acks::All, records).await;
        produced.map(|produced| produced.base_offset).map_err(|(code, _)| code)
    }

    fn snapshots(&self, at: TopicPartition) -> usize {
        let names = self.memory.list(&folder(at)).expect("lists");
        names.iter().filter(|name| name.ends_with(".snapshot")).count()
    }
}

/// Topics whose partitions keep their state in snapshots, and in nothing but their batches.
fn with_and_without_snapshots() -> [Config; 2] {
    [quick(), Config { checkpoint_ms: 3_600_000, ..quick() }]
}

#[tokio::test]
async fn a_repetition_is_answered_with_its_first_offset_also_after_restarts() {
    for config in with_and_without_snapshots() {
        let snapshots = config.checkpoint_ms < 1_000;
        let mut bench = Bench::with(config);
        let at = bench.create("t", 1, &[]).await;
        bench.send(at, batch(&["anonymous"]).bytes().clone()).await.expect("appended");
        let batches: Vec<_> = (0..6).map(|i| sent(7, 0, i * 2, &[&format!("a{i}"), &format!("b{i}")])).collect();
        for (i, records) in (0..).zip(&batches) {
            assert_eq!(bench.send(at, records.clone()).await, Ok(Offset(1 + 2 * i)));
        }
        if snapshots {
            eventually("a snapshot", || bench.snapshots(at) > 0).await;
        }
        for orderly in [false, true, false] {
            for (i, records) in (0..).zip(&batches).skip(1) {
                assert_eq!(bench.send(at, records.clone()).await, Ok(Offset(1 + 2 * i)), "one of the last five");
            }
            assert_eq!(bench.send(at, batches[0].clone()).await, Err(ErrorCode::OutOfOrderSequence));
            assert_eq!(bench.send(at, sent(7, 0, 13, &["gap"])).await, Err(ErrorCode::OutOfOrderSequence));
            assert_eq!(bench.values(at, 0).await.len(), 13, "nothing was appended twice");
            if orderly {
                bench.partitions.shutdown().await.expect("closes");
                assert!(bench.snapshots(at) > 0);
            }
            bench.restart().await;
        }
        assert_eq!(bench.send(at, sent(7, 0, 12, &["next"])).await, Ok(Offset(13)));
    }
}

#[tokio::test]
async fn a_new_epoch_fences_the_old_one_also_after_a_restart() {
    let (mut bench, at) = Bench::with_topic(&[]).await;
    bench.send(at, sent(7, 0, 0, &["old"])).await.expect("appended");
    assert_eq!(bench.send(at, sent(7, 1, 1, &["new"])).await, Err(ErrorCode::OutOfOrderSequence));
    bench.send(at, sent(7, 1, 0, &["new"])).await.expect("appended");
    bench.restart().await;
    for old in [sent(7, 0, 0, &["old"]), sent(7, 0, 1, &["older"])] {
        assert_eq!(bench.send(at, old).await, Err(ErrorCode::InvalidProducerEpoch));
    }
    let known = bench.partitions.producers(at).expect("led here");
    assert_eq!(known.iter().map(|known| (known.id, known.epoch)).collect::<Vec<_>>(), [(ProducerId(7), 1)]);
    assert_eq!(known[0].last.map(|batch| batch.last_offset()), Some(Offset(1)));
}

#[tokio::test]
async fn a_repetition_is_acknowledged_no_sooner_than_its_batch_is_committed() {
    let (bench, at) = Bench::with_topic(&[("durability", "fsync")]).await;
    bench.watch.close_gate(true);
    let records = sent(7, 0, 0, &["v"]);
    let late = |timeout_ms| {
        let part = ProducePartition { partition: at, leader_epoch: None, records: records.clone() };
        bench.partitions.produce(Produce { acks: Acks::All, timeout_ms, partitions: vec![part] })
    };
    for _ in 0..2 {
        assert_eq!(late(20).await[0].result.as_ref().expect_err("not safe yet").code, ErrorCode::RequestTimedOut);
    }
    bench.watch.close_gate(false);
    assert_eq!(late(10_000).await[0].result.as_ref().map(|produced| produced.base_offset), Ok(Offset(0)));
    assert_eq!(bench.values(at, 0).await, ["v"]);
    assert_eq!(bench.partitions.totals().produced_records, 1);
}

#[tokio::test]
async fn a_repetition_has_the_brokers_time_of_the_first() {
    let (bench, at) = Bench::with_topic(&[("message.timestamp.type", "LogAppendTime")]).await;
    let records = sent(7, 0, 0, &["v"]);
    let first = produce(&bench.partitions, at, Acks::All, records.clone()).await.expect("appended");
    bench.clock.wall.store(NOW.0 + 5, Ordering::Release);
    let again = produce(&bench.partitions, at, Acks::All, records).await.expect("a repetition");
    assert_eq!((again, again.append_time), (first, Some(NOW)));
}

#[tokio::test]
async fn deleted_records_leave_their_producers_known() {
    for config in with_and_without_snapshots() {
        let mut bench = Bench::with(config);
        let at = bench.create("t", 1, &[]).await;
        for i in 0..3 {
            bench.send(at, sent(7, 0, i, &["v"])).await.expect("appended");
        }
        let all = DeleteRecords { partitions: vec![(at, None)] };
        let start = bench.partitions.delete_records(all).await.remove(0).result;
        assert_eq!(start, Ok(Offset(3)));
        assert_eq!(bench.send(at, sent(7, 0, 2, &["v"])).await, Ok(Offset(2)));
        assert_eq!(bench.send(at, sent(7, 0, 4, &["gap"])).await, Err(ErrorCode::OutOfOrderSequence));
        bench.partitions.shutdown().await.expect("closes");
        bench.restart().await;
        assert_eq!(bench.send(at, sent(7, 0, 2, &["v"])).await, Ok(Offset(2)), "a snapshot outlives the records");
    }
}

#[tokio::test]
async fn a_producer_that_was_silent_for_long_is_forgotten() {
    let mut bench = Bench::with(Config { producer_id_expiration_ms: 1_000, ..quick() });
    let at = bench.create("t", 1, &[]).await;
    bench.send(at, sent(7, 0, 0, &["v"])).await.expect("appended");
    bench.clock.wall.store(NOW.0 + 1_000, Ordering::Release);
    eventually("oblivion", || bench.partitions.producers(at).expect("led here").is_empty()).await;
    assert_eq!(bench.send(at, sent(7, 0, 50, &["w"])).await, Ok(Offset(1)), "of an unknown producer all is taken");
}

#[tokio::test]
async fn a_full_disk_refuses_without_counting_and_a_retry_succeeds() {
    let (bench, at) = Bench::with_topic(&[]).await;
    bench.send(at, sent(7, 0, 0, &["v"])).await.expect("appended");
    bench.faults.set_free_bytes(Some(0));
    let large = "x".repeat(200_000);
    assert_eq!(bench.send(at, sent(7, 0, 1, &[&large])).await, Err(ErrorCode::DiskFull));
    bench.faults.set_free_bytes(None);
    assert_eq!(bench.send(at, sent(7, 0, 1, &[&large])).await, Ok(Offset(1)));
}
