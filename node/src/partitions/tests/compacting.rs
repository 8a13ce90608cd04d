//! Compaction beside everything else.

use super::*;

/// Produces one batch of keyed records.
async fn put(bench: &Bench, at: TopicPartition, records: &[(&str, Option<&str>)]) {
    let mut builder = BatchBuilder::new(Compression::None);
    for (key, value) in records {
        builder.push(NOW, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    produce(&bench.partitions, at, Acks::All, builder.build().bytes().clone()).await.expect("acknowledged");
}

fn compacting() -> Config {
    Config { cleaner_check_ms: 5, cleaner_bytes_per_second: 0, ..quick() }
}

const COMPACT: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.bytes", "1024"), ("min.cleanable.dirty.ratio", "0.01")];

#[tokio::test]
async fn the_cleaner_keeps_the_newest_of_each_key_and_the_cache_forgets_the_rest() {
    let mut bench = Bench::with(compacting());
    let at = bench.create("t", 1, &COMPACT).await;
    for i in 0..200 {
        put(&bench, at, &[(&format!("key {}", i % 5), Some(&format!("value {i}"))), ("same", Some(&"v".repeat(100)))])
            .await;
    }
    eventually("compaction", || bench.partitions.totals().compacted_records > 300).await;
    put(&bench, at, &[("last", Some("value"))]).await;
    eventually("compaction", || bench.stats_of(at).bytes < 6_000).await;
    for round in 0..2 {
        let mut values = BTreeMap::new();
        let mut from = 0;
        while from < 401 {
            let records = bench.fetch(at, from, 0).await.expect("served").records.into_bytes();
            for batch in RecordBatch::split(records) {
                let batch = batch.expect("whole");
                from = batch.header().next_offset().0;
                for record in batch.records().expect("decompresses") {
                    let record = record.expect("decodes");
                    values.insert(record.key.expect("keyed"), record.value.expect("has one"));
                }
            }
        }
        assert_eq!(values.len(), 7, "round {round}");
        for i in 195..200 {
            assert_eq!(values[format!("key {}", i % 5).as_bytes()], format!("value {i}"));
        }
    }
    let totals = bench.partitions.totals();
    assert!(totals.compactions > 0 && totals.failed_compactions == 0);
    assert!(totals.compaction_read_bytes > 0 && totals.compaction_written_bytes > 0);
    bench.restart().await;
    assert_eq!(bench.stats_of(at).high_watermark, Offset(401));
}

#[tokio::test]
async fn a_topic_becomes_compacted_when_its_policy_changes() {
    let mut bench = Bench::with(compacting());
    let at = bench.create("t", 1, &COMPACT[1..]).await;
    for _ in 0..50 {
        put(&bench, at, &[("k", Some(&"v".repeat(200)))]).await;
    }
    bench.produce(at, Acks::All, &["keyless"]).await.expect("not compacted yet");
    assert_eq!(bench.partitions.totals().compactions, 0);
    bench.configure(at, "cleanup.policy", "compact").await;
    let (code, message) = bench.produce(at, Acks::All, &["keyless"]).await.expect_err("has no key");
    assert_eq!(code, ErrorCode::InvalidRecord);
    assert!(message.contains("has no key"), "{message}");
    put(&bench, at, &[("k", Some(&"v".repeat(1000)))]).await;
    put(&bench, at, &[("k", Some("newest"))]).await;
    eventually("compaction", || bench.partitions.totals().compacted_records >= 50).await;
}

#[tokio::test]
async fn records_of_a_topic_that_is_only_compacted_cannot_be_deleted() {
    let mut bench = Bench::with(compacting());
    let at = bench.create("t", 1, &COMPACT[..1]).await;
    put(&bench, at, &[("k", Some("v"))]).await;
    let partitions = bench.partitions.clone();
    let delete = async || {
        let all = DeleteRecords { partitions: vec![(at, None)] };
        partitions.delete_records(all).await.remove(0).result.map_err(|failure| failure.code)
    };
    assert_eq!(delete().await, Err(ErrorCode::PolicyViolation));
    bench.configure(at, "cleanup.policy", "compact,delete").await;
    assert_eq!(delete().await, Ok(Offset(1)));
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_throttled_round() {
    let mut bench = Bench::with(Config { cleaner_bytes_per_second: 1, ..compacting() });
    let at = bench.create("t", 1, &[COMPACT[0], COMPACT[2], ("segment.bytes", "600000")]).await;
    let value = "v".repeat(500_000);
    for _ in 0..3 {
        put(&bench, at, &[("k", Some(&value))]).await;
    }
    eventually("a round", || bench.partitions.totals().dirty_ratio_ppm > 0).await;
    tokio::time::timeout(Duration::from_secs(20), bench.partitions.shutdown()).await.expect("soon").expect("closes");
    assert_eq!(bench.partitions.totals().compactions, 0);
    let names = bench.memory.list(&folder(at)).expect("lists");
    assert!(!names.iter().any(|name| name.ends_with(".cleaned")), "nothing is left behind");
}
