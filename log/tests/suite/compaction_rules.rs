//! The rules of compaction, one by one.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rafka_log::{CompactionError, CompactionLimits, LogConfig, PartitionLog, SegmentBatches};
use rafka_model::config::CleanupPolicy;
use rafka_model::{
    BatchBuilder, Compression, LeaderEpoch, Offset, ProducerId, Record, RecordBatch, Timestamp, TopicConfig,
};

use crate::compaction_world::{EXPIRATION_MS, RETENTION_MS, World, batches, config, records};
use crate::support::dir;

const LIMITS: CompactionLimits = CompactionLimits { buffer_bytes: 1 << 20, producer_expiration_ms: EXPIRATION_MS };

fn batch(codec: Compression, records: &[(&str, Option<&str>)], now: i64) -> RecordBatch {
    let mut builder = BatchBuilder::new(codec);
    for (key, value) in records {
        builder.push(Timestamp(now), Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    builder.build()
}

/// A world, short ways to change it, and how late it was when a segment was closed last.
struct Desk(World, i64);

impl Desk {
    fn new(config: LogConfig) -> Self {
        Self(World::new(config, None), 0)
    }

    fn put(&mut self, batch: RecordBatch) -> Offset {
        let now = Timestamp(self.0.now);
        let appended = self.0.log().append(LeaderEpoch(0), batch, now).expect("appends");
        self.0.model.end = appended.last_offset.0 + 1;
        appended.base_offset
    }

    fn write(&mut self, records: &[(&str, Option<&str>)]) -> Offset {
        let now = self.0.now;
        self.put(batch(Compression::None, records, now))
    }

    fn plan(&mut self) -> Option<rafka_log::Compaction> {
        let (now, end) = (Timestamp(self.0.now), Offset(self.0.model.end));
        self.0.log().flush().expect("flushes");
        self.0.log().compaction_plan(now, end).expect("plans")
    }

    /// Closes the segment, and compacts all that may be.
    fn compact(&mut self) -> rafka_log::CompactionReport {
        self.close_segment();
        let done = self.plan().expect("due").run(LIMITS, &mut |_| true).expect("runs");
        let now = Timestamp(self.0.now);
        self.0.log().apply_compaction(done, now).expect("applies")
    }

    fn close_segment(&mut self) {
        self.1 += 700_000_000;
        let (now, end) = (Timestamp(self.0.now + self.1), Offset(self.0.model.end));
        let segments = self.0.log().segment_count();
        self.0.log().retain(now, end).expect("retains");
        assert_eq!(self.0.log().segment_count(), segments + 1);
    }

    fn batches(&mut self) -> Vec<RecordBatch> {
        batches(&self.0.log().reader())
    }

    /// Offset, key and value of what is left.
    fn left(&mut self) -> Vec<(i64, String, Option<String>)> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        let batches = self.batches();
        let row = |(offset, record): (i64, Record)| (offset, text(record.key.expect("keyed")), record.value.map(text));
        records(&batches).map(row).collect()
    }
}

fn row(offset: i64, key: &str, value: Option<&str>) -> (i64, String, Option<String>) {
    (offset, key.to_owned(), value.map(str::to_owned))
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset_with_its_codec() {
    for codec in Compression::ALL {
        let mut desk = Desk::new(config());
        desk.put(batch(codec, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))], 5));
        desk.put(batch(codec, &[("a", Some("2")), ("a", Some("3"))], 5));
        desk.put(batch(codec, &[("b", Some("2"))], 5));
        let report = desk.compact();
        assert_eq!((report.records_removed, report.keys, report.clean_until), (3, 3, Offset(6)));
        assert_eq!(desk.left(), [row(2, "c", Some("1")), row(4, "a", Some("3")), row(5, "b", Some("2"))]);
        let batches = desk.batches();
        assert!(batches.iter().all(|batch| batch.header().compression() == codec), "{codec:?}");
        let spans: Vec<_> =
            batches.iter().map(|batch| (batch.header().base_offset.0, batch.header().last_offset().0)).collect();
        assert_eq!(spans, [(0, 2), (3, 4), (5, 5)], "offsets are what they were");
    }
}

#[test]
fn the_active_segment_and_what_is_not_committed_not_synced_or_too_young_stays() {
    let mut desk = Desk::new(LogConfig { segment_bytes: 1024, min_compaction_lag_ms: 1000, ..config() });
    let value = "v".repeat(900);
    for _ in 0..4 {
        desk.write(&[("k", Some(&value))]);
        desk.0.now += 500;
    }
    let now = Timestamp(desk.0.now);
    assert!(desk.0.log().compaction_plan(now, Offset(4)).expect("plans").is_none(), "not synced");
    desk.0.log().flush().expect("flushes");
    let plan = |desk: &mut Desk, below| {
        let now = Timestamp(desk.0.now);
        let plan = desk.0.log().compaction_plan(now, Offset(below)).expect("plans");
        plan.map(|plan| plan.run(LIMITS, &mut |_| true).expect("runs").report().clean_until.0)
    };
    assert_eq!(plan(&mut desk, 4), Some(3), "written 500 ms ago: not younger than the lag");
    desk.0.now -= 1;
    assert_eq!(plan(&mut desk, 4), Some(2));
    desk.0.now += 100_000;
    assert_eq!(plan(&mut desk, 4), Some(3), "the active segment is never touched");
    assert_eq!(plan(&mut desk, 2), Some(2), "nor what is not committed");
    assert_eq!(plan(&mut desk, 0), None);
}

#[test]
fn a_round_begins_at_the_dirty_ratio_or_when_a_record_is_overdue() {
    let config = LogConfig { min_cleanable_dirty_ratio_ppm: 500_000, segment_bytes: 1024, ..config() };
    let mut desk = Desk::new(LogConfig { max_compaction_lag_ms: 50_000, ..config });
    let value = "v".repeat(900);
    for key in ["a", "b", "c", "d"] {
        desk.write(&[(key, Some(&value))]);
    }
    assert_eq!(desk.compact().clean_until, Offset(4));
    desk.write(&[("e", Some(&value))]);
    desk.write(&[("f", Some(&value))]);
    assert!(desk.plan().is_none(), "one of five is dirty, one is active");
    desk.0.now += 50_001;
    let plan = desk.plan().expect("overdue");
    assert!(plan.is_overdue());
    assert_eq!(plan.dirty_ratio_ppm(), 200_000);
    drop(plan);
    desk.0.now -= 1;
    assert!(desk.plan().is_none());
    for key in ["g", "h", "i", "j"] {
        desk.write(&[(key, Some(&value))]);
    }
    assert_eq!(desk.plan().expect("due").dirty_ratio_ppm(), 555_555);
}

#[test]
fn a_record_that_must_be_compacted_soon_does_not_stay_in_the_active_segment() {
    let mut desk = Desk::new(LogConfig { max_compaction_lag_ms: 1000, ..config() });
    desk.write(&[("a", Some("1")), ("a", Some("2"))]);
    desk.0.now += 1001;
    let (now, end) = (Timestamp(desk.0.now), Offset(2));
    desk.0.log().retain(now, end).expect("retains");
    let done = desk.plan().expect("due, though nothing was appended").run(LIMITS, &mut |_| true).expect("runs");
    desk.0.log().apply_compaction(done, now).expect("applies");
    assert_eq!(desk.left(), [row(1, "a", Some("2"))]);
}

#[test]
fn a_tombstone_stays_for_its_time_after_it_is_clean() {
    for codec in Compression::ALL {
        let mut desk = Desk::new(config());
        desk.put(batch(codec, &[("a", Some("1")), ("b", Some("1"))], 77));
        desk.put(batch(codec, &[("a", None)], 78));
        desk.0.now += 100 * RETENTION_MS as i64;
        desk.compact();
        let kept = [row(1, "b", Some("1")), row(2, "a", None)];
        assert_eq!(desk.left(), kept, "however old it is, its time begins when it is clean");
        let tombstone = desk.batches().pop().expect("one");
        assert_eq!(tombstone.header().attributes & 0x40, 0x40);
        assert_eq!(tombstone.header().base_timestamp, Timestamp(desk.0.now + RETENTION_MS as i64));
        let time = tombstone.records().expect("decodes").next().expect("one").expect("decodes").timestamp;
        assert_eq!((time, tombstone.header().max_timestamp), (Timestamp(78), Timestamp(78)));
        desk.0.now += RETENTION_MS as i64 - 1;
        desk.write(&[("c", Some("1"))]);
        desk.compact();
        assert_eq!(desk.left()[..2], kept, "the horizon is set once");
        desk.0.now += 1;
        desk.write(&[("d", Some("1"))]);
        desk.compact();
        assert_eq!(desk.left(), [row(1, "b", Some("1")), row(3, "c", Some("1")), row(4, "d", Some("1"))]);
    }
}

#[test]
fn dropped_batches_leave_one_placeholder_of_their_offsets() {
    let mut desk = Desk::new(config());
    desk.write(&[("a", Some("first"))]);
    for i in 0..10 {
        desk.write(&[("b", Some(&i.to_string())), ("b", Some("again"))]);
    }
    desk.compact();
    assert_eq!(desk.left(), [row(0, "a", Some("first")), row(20, "b", Some("again"))]);
    let batches = desk.batches();
    assert_eq!(batches.len(), 3);
    let gap = batches[1].header();
    assert_eq!((gap.base_offset, gap.last_offset(), gap.record_count), (Offset(1), Offset(18), 0));
    assert_eq!((gap.producer_id, batches[1].len()), (ProducerId::NONE, 61));
    // A consumer that asks for an offset that is gone gets the next record at once.
    let reader = desk.0.log().reader();
    let read = reader.read(Offset(7), Offset(21), 1, true).expect("reads");
    assert_eq!(RecordBatch::split(read).count(), 2);
    assert_eq!(reader.read(Offset(7), Offset(21), 60, false).expect("reads").len(), 0);
    desk.write(&[("a", Some("last"))]);
    desk.compact();
    assert_eq!(desk.left(), [row(20, "b", Some("again")), row(21, "a", Some("last"))]);
    assert_eq!(desk.batches().len(), 3, "placeholders merge");
}

#[test]
fn the_last_batch_of_each_producer_stays_until_the_producer_is_forgotten() {
    let mut desk = Desk::new(config());
    let of = |producer, sequence, key: &str, now| {
        let mut builder = BatchBuilder::new(Compression::Lz4).idempotent(ProducerId(producer), 2, sequence);
        builder.push(Timestamp(now), Some(key.as_bytes()), Some(b"v"), &[]);
        builder.push(Timestamp(now), Some(key.as_bytes()), Some(b"w"), &[]);
        builder.build()
    };
    let now = desk.0.now;
    for (producer, sequence) in [(5, 0), (6, 0), (5, 2), (6, 2)] {
        desk.put(of(producer, sequence, "k", now));
    }
    desk.write(&[("k", Some("newest"))]);
    desk.compact();
    let headers = |desk: &mut Desk| -> Vec<_> {
        let all = desk.batches();
        all.iter()
            .map(|batch| *batch.header())
            .map(|h| (h.producer_id.0, h.base_sequence, h.last_offset_delta))
            .collect()
    };
    assert_eq!(headers(&mut desk), [(-1, -1, 3), (5, 2, 1), (6, 2, 1), (-1, -1, 0)]);
    assert_eq!(desk.left(), [row(8, "k", Some("newest"))]);
    desk.put(of(5, 4, "l", now));
    desk.compact();
    assert_eq!(headers(&mut desk), [(-1, -1, 5), (6, 2, 1), (-1, -1, 0), (5, 4, 1)], "of 5 there is a later one");
    desk.0.now += EXPIRATION_MS as i64;
    desk.write(&[("m", Some("1"))]);
    desk.compact();
    assert_eq!(headers(&mut desk), [(-1, -1, 7), (-1, -1, 0), (5, 4, 1), (-1, -1, 0)], "6 was silent for too long");
}

/// A transaction's marker as a broker writes it.
fn marker(producer: i64, commits: bool, now: i64) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None).idempotent(ProducerId(producer), 0, -1);
    builder.push(Timestamp(now), Some(&[0, 0, 0, u8::from(commits)]), Some(&[0, 0, 0, 0, 0, 0]), &[]);
    flagged(&builder.build(), 0x30)
}

fn flagged(batch: &RecordBatch, flags: u8) -> RecordBatch {
    let mut bytes = batch.bytes().to_vec();
    bytes[22] |= flags;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::parse(bytes.into()).expect("whole")
}

fn in_transaction(producer: i64, sequence: i32, records: &[(&str, Option<&str>)], now: i64) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None).idempotent(ProducerId(producer), 0, sequence);
    for (key, value) in records {
        builder.push(Timestamp(now), Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    flagged(&builder.build(), 0x10)
}

#[test]
fn aborted_records_go_and_hide_nothing_and_their_marker_goes_last() {
    let mut desk = Desk::new(config());
    let now = desk.0.now;
    desk.write(&[("a", Some("committed"))]);
    desk.put(in_transaction(1, 0, &[("a", Some("aborted")), ("b", Some("aborted"))], now));
    desk.put(in_transaction(2, 0, &[("c", Some("committed"))], now));
    desk.put(marker(1, false, now));
    desk.put(marker(2, true, now));
    desk.put(in_transaction(1, 2, &[("d", Some("committed"))], now));
    desk.put(marker(1, true, now));
    desk.compact();
    assert_eq!(
        desk.left(),
        [row(0, "a", Some("committed")), row(3, "c", Some("committed")), row(6, "d", Some("committed"))]
    );
    let control = |desk: &mut Desk| -> Vec<i64> {
        let all = desk.batches();
        all.iter().map(RecordBatch::header).filter(|h| h.is_control()).map(|h| h.base_offset.0).collect()
    };
    assert_eq!(control(&mut desk), [4, 5, 7], "no marker goes before the records of its transaction");
    desk.write(&[("e", Some("1"))]);
    desk.compact();
    assert_eq!(control(&mut desk), [4, 5, 7], "nor before consumers have had time to read it");
    desk.0.now += RETENTION_MS as i64;
    desk.write(&[("f", Some("1"))]);
    desk.compact();
    assert_eq!(control(&mut desk), [5, 7], "the records of the others are still there");
}

#[test]
fn a_round_ends_at_the_first_transaction_whose_outcome_is_not_known() {
    let mut desk = Desk::new(config());
    let now = desk.0.now;
    desk.write(&[("a", Some("1")), ("a", Some("2"))]);
    desk.put(in_transaction(1, 0, &[("a", Some("open"))], now));
    desk.write(&[("b", Some("1")), ("b", Some("2"))]);
    assert_eq!(desk.compact().clean_until, Offset(2));
    assert_eq!(desk.left().len(), 4);
    // The marker comes in the active segment: it counts once it is committed.
    desk.put(marker(1, false, now));
    let done = desk.plan().expect("due").run(LIMITS, &mut |_| true).expect("runs");
    desk.0.log().apply_compaction(done, Timestamp(now)).expect("applies");
    assert_eq!(desk.left(), [row(1, "a", Some("2")), row(4, "b", Some("2"))]);
}

#[test]
fn a_full_map_ends_the_round_and_the_next_goes_on() {
    let mut desk = Desk::new(config());
    for i in 0..500 {
        desk.write(&[(&format!("key {}", i % 125), Some("value")), (&format!("key {}", i % 125), Some("other"))]);
    }
    desk.close_segment();
    let mut rounds = 0;
    let mut until = Offset(0);
    while let Some(plan) = desk.plan() {
        let limits = CompactionLimits { buffer_bytes: 24 * 40, ..LIMITS };
        let done = plan.run(limits, &mut |_| true).expect("runs");
        let now = Timestamp(desk.0.now);
        let report = desk.0.log().apply_compaction(done, now).expect("applies");
        assert!(report.keys <= 30 && report.clean_until > until);
        until = report.clean_until;
        rounds += 1;
    }
    assert!(rounds >= 500 / 30, "{rounds}");
    assert_eq!(desk.left().len(), 125);
    assert_eq!(desk.left()[0], row(751, "key 0", Some("other")));
}

#[test]
fn small_segments_merge_and_nothing_is_rewritten_twice_without_need() {
    let mut desk = Desk::new(LogConfig { segment_bytes: 1024, ..config() });
    let value = "v".repeat(450);
    for i in 0..40 {
        desk.write(&[("k", Some(&value)), (&i.to_string(), Some("small"))]);
    }
    let before = desk.0.log().segment_count();
    let report = desk.compact();
    assert_eq!(report.segments_before, before);
    assert!(report.segments_after * 5 < before, "{} of {before}", report.segments_after);
    assert_eq!(desk.left().len(), 41);
    let names = rafka_log::disk::Disk::list(&*desk.0.memory, dir()).expect("lists");
    assert!(!names.iter().any(|name| name.ends_with(".cleaned") || name.ends_with(".swap")), "{names:?}");
    for name in names.iter().filter(|name| name.ends_with(".log")) {
        let batches = SegmentBatches::open(&*desk.0.memory, &dir().join(name)).expect("opens");
        batches.for_each(|batch| drop(batch.expect("whole")));
    }
    assert!(desk.plan().is_none(), "clean");
}

#[test]
fn a_compacted_log_is_not_scanned_at_the_next_start_and_remembers_how_far_it_is_clean() {
    let mut desk = Desk::new(config());
    desk.write(&[("a", Some("1")), ("a", Some("2"))]);
    desk.write(&[("b", Some("1")), ("b", Some("2"))]);
    desk.compact();
    desk.0.log.take().expect("open").close_clean().expect("closes");
    let disk = desk.0.memory.clone();
    let open = |disk| PartitionLog::open(disk, dir(), &config(), Timestamp(0), rafka_log::Shutdown::MemoryKept);
    let (log, recovery) = open(disk.clone()).expect("opens");
    assert_eq!(recovery, rafka_log::Recovery::default());
    desk.0.log = Some(log);
    assert!(desk.plan().is_none(), "clean");
    rafka_log::disk::Disk::remove(&*disk, &dir().join("compaction-point")).expect("there");
    desk.0.log = Some(open(disk).expect("opens").0);
    assert_eq!(desk.compact_again(), 4, "lost: everything is looked at again");
}

impl Desk {
    fn compact_again(&mut self) -> i64 {
        let done = self.plan().expect("due").run(LIMITS, &mut |_| true).expect("runs");
        done.report().clean_until.0
    }
}

#[test]
fn keyless_records_go_and_undecodable_batches_stay() {
    let mut desk = Desk::new(config());
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), None, Some(b"keyless"), &[]);
    builder.push(Timestamp(1), Some(b"a"), Some(b"1"), &[]);
    desk.put(builder.build());
    let mut wrong = batch(Compression::None, &[("a", Some("2"))], 1).bytes().to_vec();
    wrong[64] = 9; // an offset behind the batch
    desk.put(flagged(&RecordBatch::parse(sealed(wrong)).expect("whole"), 0));
    let report = desk.compact();
    assert_eq!((report.batches_unreadable, report.records_removed), (1, 1));
    let counts: Vec<_> = desk.batches().iter().map(|batch| batch.header().record_count).collect();
    assert_eq!(counts, [1, 1]);
}

fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[test]
fn a_damaged_segment_ends_the_round_and_changes_nothing() {
    let mut desk = Desk::new(config());
    desk.write(&[("a", Some("1")), ("a", Some("2"))]);
    desk.close_segment();
    let segment = dir().join("00000000000000000000.log");
    desk.0.memory.flip(&segment, 75, 1).expect("flips");
    let error = desk.plan().expect("due").run(LIMITS, &mut |_| true).expect_err("damaged");
    assert!(matches!(error, CompactionError::Read(rafka_log::ReadError::Corrupt(_))), "{error}");
    let names = rafka_log::disk::Disk::list(&*desk.0.memory, dir()).expect("lists");
    assert!(!names.iter().any(|name| name.contains("cleaned")), "{names:?}");
}

#[test]
fn a_full_disk_ends_the_round_and_the_next_succeeds() {
    let mut desk = Desk::new(config());
    desk.write(&[("a", Some(&"1".repeat(500))), ("b", Some(&"2".repeat(500))), ("b", None)]);
    desk.close_segment();
    let plan = desk.plan().expect("due");
    desk.0.faults.set_free_bytes(Some(100));
    let error = plan.run(LIMITS, &mut |_| true).expect_err("full");
    assert!(matches!(&error, CompactionError::Storage(storage) if storage.is_full()), "{error}");
    desk.0.faults.set_free_bytes(None);
    let done = desk.plan().expect("due still").run(LIMITS, &mut |_| true).expect("runs");
    let now = Timestamp(desk.0.now);
    desk.0.log().apply_compaction(done, now).expect("applies");
    assert_eq!(desk.left().len(), 2);
}

#[test]
fn the_caller_may_stop_a_round_and_only_one_runs_at_a_time() {
    let mut desk = Desk::new(LogConfig { segment_bytes: 1 << 20, max_message_bytes: 1 << 20, ..config() });
    for _ in 0..3 {
        desk.write(&[("a", Some(&"1".repeat(400_000)))]);
    }
    desk.close_segment();
    let plan = desk.plan().expect("due");
    assert!(desk.plan().is_none(), "one at a time");
    let mut asked = 0;
    let error = plan.run(LIMITS, &mut |bytes| {
        asked += 1;
        bytes < 1 << 20 && asked < 3
    });
    assert_eq!(error.expect_err("stopped"), CompactionError::Stopped);
    assert_eq!(asked, 3);
    assert!(desk.plan().is_some());
}

#[test]
fn segments_that_go_during_a_round_stay_gone() {
    for removed in 1..5 {
        let config = LogConfig { segment_bytes: 1024, ..config() };
        let mut desk = Desk::new(config);
        let value = "v".repeat(300);
        for i in 0..12 {
            desk.write(&[(&(i % 7).to_string(), Some(&value)), (&(i % 3).to_string(), Some(&value))]);
        }
        let done = desk.plan().expect("due").run(LIMITS, &mut |_| true).expect("runs");
        let (now, end) = (Timestamp(desk.0.now), Offset(desk.0.model.end));
        desk.0.log().advance_log_start(Offset(removed * 2)).expect("raises");
        desk.0.log().retain(now, end).expect("retains");
        desk.0.log().apply_compaction(done, now).expect("applies");
        let start = desk.0.log().log_start();
        assert_eq!(start, Offset(removed * 2));
        assert_eq!(desk.batches()[0].header().base_offset, start);
        let again = desk.compact();
        assert_eq!(again.clean_until, end);
        let newest: std::collections::BTreeSet<_> = desk.left().into_iter().map(|(_, key, _)| key).collect();
        assert_eq!(newest.len(), desk.left().len(), "one record a key");
        assert_eq!(newest.len(), 7);
    }
}

#[test]
fn policies_delete_and_compact_work_together_and_a_change_takes_effect() {
    let mut desk = Desk::new(LogConfig { segment_bytes: 1024, retention_bytes: Some(1), ..config() });
    let value = "v".repeat(900);
    for i in 0..4 {
        desk.write(&[(&i.to_string(), Some(&value))]);
    }
    let (now, end) = (Timestamp(desk.0.now), Offset(4));
    assert_eq!(desk.0.log().retain(now, end).expect("retains").segments, 0, "compact only: nothing is deleted");
    let topic = |delete, compact| TopicConfig {
        cleanup: CleanupPolicy { delete, compact },
        segment_bytes: 1024,
        retention_bytes: Some(2500),
        min_cleanable_dirty_ratio_ppm: 0,
        ..TopicConfig::default()
    };
    desk.0.log().set_config(&topic(true, false));
    assert!(desk.plan().is_none(), "delete only: nothing is compacted");
    desk.0.log().set_config(&topic(true, true));
    assert!(desk.plan().is_some());
    assert_eq!(desk.0.log().retain(now, end).expect("retains").segments, 1);
}

#[test]
fn appends_and_reads_go_on_while_rounds_come_and_go() {
    let config = LogConfig { segment_bytes: 20_000, file_delete_delay_ms: 0, ..config() };
    let mut desk = Desk::new(config);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = desk.0.log().reader();
            let done = &done;
            scope.spawn(move || {
                let (mut turns, mut at) = (0, Offset(0));
                while !done.load(Ordering::Acquire) || turns == 0 {
                    let end = reader.log_end();
                    let read = reader.read(at, end, 3000, true).unwrap_or_else(|error| panic!("{error}"));
                    for batch in RecordBatch::split(read) {
                        let header = *batch.expect("whole").header();
                        assert!(header.base_offset <= at && header.next_offset() > at);
                        at = header.next_offset();
                    }
                    if at >= end {
                        (turns, at) = (turns + 1, Offset(turns * 37 % end.0.max(1)));
                    }
                }
            });
        }
        for round in 0..60 {
            for i in 0..100 {
                desk.write(&[(&(i * 7 % 31).to_string(), Some(&"v".repeat(i))), ("k", Some(&round.to_string()))]);
            }
            if let Some(plan) = desk.plan() {
                let compacted = plan.run(LIMITS, &mut |_| true).expect("runs");
                // Between the end of a round and its application.
                desk.write(&[("between", Some("v"))]);
                let now = Timestamp(desk.0.now);
                desk.0.log().apply_compaction(compacted, now).expect("applies");
            }
            let (now, end) = (Timestamp(desk.0.now), Offset(desk.0.model.end));
            desk.0.log().retain(now, end).expect("deletes old files");
        }
        done.store(true, Ordering::Release);
    });
    desk.compact();
    assert_eq!(desk.left().len(), 33);
}
