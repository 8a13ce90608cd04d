//! Disks that fill, fail and lie; retention and deleted records.

use super::*;

#[tokio::test]
async fn a_full_disk_refuses_appends_only_and_recovers_by_itself() {
    let mut bench = Bench::new();
    let at = bench.create("t", 1, &[]).await;
    bench.produce(at, Acks::All, &["before"]).await.expect("acknowledged");
    bench.faults.set_free_bytes(Some(0));
    let refused = bench.produce(at, Acks::All, &["lost"]).await.expect_err("full");
    assert_eq!(refused.0, ErrorCode::DiskFull);
    assert!(bench.partitions.totals().disk_full);
    assert_eq!(bench.values(at, 0).await, ["before"]);
    let created = bench.create("u", 1, &[]).await;
    assert_eq!(bench.produce(created, Acks::All, &["v"]).await.expect_err("full").0, ErrorCode::DiskFull);

    bench.faults.set_free_bytes(None);
    bench.produce(at, Acks::All, &["after"]).await.expect("there is space again");
    eventually("another try to open", || bench.partitions.leads(created)).await;
    bench.produce(created, Acks::All, &["v"]).await.expect("there is space again");
    assert_eq!(bench.values(at, 0).await, ["before", "after"]);
    eventually("the all-clear", || !bench.partitions.totals().disk_full).await;
}

#[tokio::test]
async fn records_can_be_deleted_on_a_full_disk() {
    let (mut bench, at) = Bench::with_topic(&[]).await;
    bench.produce(at, Acks::All, &["v"]).await.expect("acknowledged");
    bench.faults.set_free_bytes(Some(0));
    bench.delete_topic(at).await;
    eventually("the deletion", || !bench.memory.exists(&folder(at)).expect("memory")).await;
}

#[tokio::test]
async fn a_failed_sync_takes_its_partition_offline_until_restart() {
    let mut bench = Bench::new();
    let first = bench.create("t", 1, &[("durability", "fsync")]).await;
    let other = bench.create("u", 1, &[]).await;
    bench.produce(first, Acks::All, &["safe"]).await.expect("acknowledged");
    bench.faults.set_fail_syncs(true);
    let refused = bench.produce(first, Acks::All, &["unsafe"]).await.expect_err("cannot be flushed");
    assert_eq!(refused.0, ErrorCode::StorageError);
    bench.faults.set_fail_syncs(false);
    for refused in [
        bench.produce(first, Acks::Leader, &["v"]).await.map(drop).expect_err("offline"),
        bench.fetch(first, 0, 1_000).await.map(drop).expect_err("offline"),
    ] {
        assert_eq!(refused.0, ErrorCode::StorageError);
        assert!(refused.1.contains("t/0 is offline"), "{}", refused.1);
    }
    assert!(bench.stats_of(first).offline.is_some());
    bench.produce(other, Acks::All, &["v"]).await.expect("the others go on");

    bench.restart().await;
    eventually("the flush of what was found", || bench.stats_of(first).high_watermark > Offset(0)).await;
    assert_eq!(bench.values(first, 0).await[0], "safe");
    bench.produce(first, Acks::All, &["again"]).await.expect("back in service");
}

#[tokio::test]
async fn a_failed_write_is_refused_and_the_next_one_goes_on_behind_the_last_good_record() {
    let (bench, at) = Bench::with_topic(&[]).await;
    bench.produce(at, Acks::All, &["a"]).await.expect("acknowledged");
    bench.faults.set_read_only(true);
    let refused = bench.produce(at, Acks::All, &["b"]).await.expect_err("read-only");
    assert_eq!(refused.0, ErrorCode::StorageError);
    bench.faults.set_read_only(false);
    assert_eq!(bench.produce(at, Acks::All, &["c"]).await.expect("acknowledged").base_offset, Offset(1));
    assert_eq!(bench.values(at, 0).await, ["a", "c"]);
}

#[tokio::test]
async fn a_damaged_batch_is_an_error_and_its_neighbours_are_served() {
    let mut bench = Bench::with(Config { cache_bytes: 0, ..quick() });
    let at = bench.create("t", 1, &[]).await;
    let size = batch(&["v0"]).len() as u64;
    for value in ["v0", "v1", "v2"] {
        bench.produce(at, Acks::All, &[value]).await.expect("acknowledged");
    }
    let segment = folder(at).join("00000000000000000000.log");
    bench.memory.flip(&segment, 2 * size - 3, 0xff).expect("flips");
    assert_eq!(bench.values(at, 0).await, ["v0"]);
    let refused = bench.fetch(at, 1, 0).await.expect_err("damaged");
    assert_eq!(refused.0, ErrorCode::CorruptMessage);
    assert!(refused.1.contains(&format!("is damaged at byte {size} (offset 1)")), "{}", refused.1);
    assert_eq!(bench.values(at, 2).await, ["v2"]);
}

#[tokio::test]
async fn retention_by_time_and_size_moves_the_log_start() {
    let configs = [("segment.bytes", "1024"), ("retention.ms", "60000"), ("file.delete.delay.ms", "0")];
    let (mut bench, at) = Bench::with_topic(&configs).await;
    for i in 0..40 {
        bench.produce(at, Acks::All, &[&format!("{i:0100}")]).await.expect("acknowledged");
    }
    bench.configure(at, "retention.bytes", "3000").await;
    eventually("retention by size", || bench.stats_of(at).bytes < 4200).await;
    let start = bench.stats_of(at).log_start;
    assert!(start > Offset(10));
    assert_eq!(bench.fetch(at, 0, 0).await.expect_err("gone").0, ErrorCode::OffsetOutOfRange);
    assert_eq!(bench.values(at, start.0).await[0], format!("{:0100}", start.0));

    bench.clock.wall.store(NOW.0 + 60_001, Ordering::Release);
    eventually("retention by time", || bench.stats_of(at).log_start == Offset(40)).await;
    eventually("the cache forgetting with the log", || bench.partitions.totals().cache.entries == 0).await;
    assert_eq!(bench.stats_of(at).high_watermark, Offset(40));
    bench.restart().await;
    assert_eq!(bench.produce(at, Acks::All, &["v"]).await.expect("acknowledged").base_offset, Offset(40));
}

#[tokio::test]
async fn deleted_records_stay_deleted() {
    let (mut bench, at) = Bench::with_topic(&[]).await;
    for value in ["a", "b", "c", "d"] {
        bench.produce(at, Acks::All, &[value]).await.expect("acknowledged");
    }
    let delete = |bench: &Bench, offset: Option<i64>| {
        let partitions = bench.partitions.clone();
        async move {
            let delete = DeleteRecords { partitions: vec![(at, offset.map(Offset))] };
            partitions.delete_records(delete).await.remove(0).result.map_err(|failure| failure.code)
        }
    };
    assert_eq!(delete(&bench, Some(2)).await, Ok(Offset(2)));
    assert_eq!(delete(&bench, Some(1)).await, Ok(Offset(2)), "the start never goes back");
    assert_eq!(delete(&bench, Some(5)).await, Err(ErrorCode::OffsetOutOfRange));
    bench.restart().await;
    assert_eq!(bench.values(at, 2).await, ["c", "d"]);
    assert_eq!(bench.fetch(at, 0, 0).await.expect_err("deleted").0, ErrorCode::OffsetOutOfRange);
    assert_eq!(delete(&bench, None).await, Ok(Offset(4)));
    assert_eq!(bench.stats_of(at).log_start, Offset(4));
}

#[tokio::test]
async fn what_is_not_flushed_at_once_is_flushed_in_due_time() {
    let (bench, at) = Bench::with_topic(&[]).await;
    bench.produce(at, Acks::All, &["v"]).await.expect("acknowledged");
    eventually("the flush", || bench.stats_of(at).flushed == Offset(1)).await;
    assert_eq!(bench.partitions.totals().flushes, 1);
}

#[tokio::test]
async fn much_that_is_dirty_is_flushed_early() {
    let mut bench = Bench::with(Config { flush_ms: 3_600_000, flush_bytes: 1_000, ..quick() });
    let by_bytes = bench.create("t", 1, &[]).await;
    let by_records = bench.create("u", 1, &[("flush.messages", "3")]).await;
    for _ in 0..2 {
        bench.produce(by_records, Acks::All, &["v"]).await.expect("acknowledged");
    }
    assert_eq!(bench.partitions.totals().flushes, 0);
    bench.produce(by_records, Acks::All, &["v"]).await.expect("acknowledged");
    eventually("the flush by records", || bench.stats_of(by_records).flushed == Offset(3)).await;
    bench.produce(by_bytes, Acks::All, &["v".repeat(1_000).as_str()]).await.expect("acknowledged");
    eventually("the flush by bytes", || bench.stats_of(by_bytes).flushed == Offset(1)).await;
}
