//! Rules of appending, rolling, retention and concurrency.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rafka_log::disk::{Disk, MemoryDisk};
use rafka_log::{AppendError, LogConfig, PartitionLog, Retained, Shutdown};
use rafka_model::{LeaderEpoch, Offset, RecordBatch, Timestamp, TopicConfig};

use crate::support::{batch, config, dir, read_all};

const NOW: Timestamp = Timestamp(1_000_000);

fn open(config: &LogConfig) -> (PartitionLog, Arc<MemoryDisk>) {
    let disk = Arc::new(MemoryDisk::new());
    (PartitionLog::open(disk.clone(), dir(), config, NOW, Shutdown::MemoryKept).expect("opens").0, disk)
}

fn append(log: &mut PartitionLog, time: i64, bytes: usize) {
    log.append(LeaderEpoch(3), batch(&[time], bytes), Timestamp(time)).expect("appends");
}

#[test]
fn appends_are_fenced_ordered_and_bounded() {
    let (mut log, _) = open(&LogConfig { max_message_bytes: 500, ..config() });
    append(&mut log, 1, 10);
    let refused =
        |log: &mut PartitionLog, epoch, batch| log.append(LeaderEpoch(epoch), batch, NOW).expect_err("refused");
    let error = refused(&mut log, 2, batch(&[1], 10));
    assert_eq!(error, AppendError::Fenced { given: LeaderEpoch(2), latest: LeaderEpoch(3) });
    let error = refused(&mut log, 3, batch(&[1], 500));
    assert!(matches!(error, AppendError::BatchTooLarge { limit: 500, .. }));
    let error = log.append_as_is(&batch(&[1], 10), NOW).expect_err("offset 0 again");
    assert_eq!(error, AppendError::OutOfOrder { expected: Offset(1), found: Offset(0) });
    let larger = batch(&[1], 600).stamp(Offset(1), LeaderEpoch(4));
    log.append_as_is(&larger, NOW).expect("a follower takes what its leader took");
    assert_eq!((log.log_end(), log.latest_epoch()), (Offset(2), Some(LeaderEpoch(4))));
}

#[test]
fn log_append_time_is_the_brokers_and_verifies() {
    let (mut log, _) = open(&LogConfig { log_append_time: true, ..config() });
    let appended = log.append(LeaderEpoch(0), batch(&[5, 6], 10), NOW).expect("appends");
    assert_eq!(appended.append_time, Some(NOW));
    let read = RecordBatch::parse(log.reader().read(Offset(0), Offset(2), 1, true).expect("reads")).expect("whole");
    assert_eq!(read, appended.into_batch());
    assert!(read.records().expect("decodes").all(|record| record.expect("decodes").timestamp == NOW));
}

#[test]
fn segments_are_closed_by_size_and_by_age() {
    let (mut log, disk) = open(&LogConfig { segment_ms: 1000, ..config() });
    for _ in 0..4 {
        append(&mut log, NOW.0, 900);
    }
    assert_eq!(log.segment_count(), 2, "two of these fit into 2000 bytes");
    append(&mut log, NOW.0 + 1000, 10);
    assert_eq!(log.segment_count(), 3);
    log.retain(Timestamp(NOW.0 + 2000), log.log_end()).expect("retains");
    assert_eq!(log.segment_count(), 4, "retention closes what is old even without appends");
    assert!(disk.exists(&dir().join("00000000000000000002.log")).expect("known"));
}

#[test]
fn retention_by_time_and_size_keeps_what_is_not_committed() {
    let (mut log, disk) = open(&LogConfig { retention_ms: Some(1000), retention_bytes: Some(4000), ..config() });
    for i in 0..10 {
        append(&mut log, NOW.0 + i * 100, 900);
    }
    let segment = log.size_bytes() / 5;
    let later = Timestamp(NOW.0 + 1250);
    assert_eq!(log.retain(later, Offset(1)), Ok(Retained::default()), "behind the high watermark");
    // By size: 5 segments of about 1940 bytes, three are needed to have 4000. By time: none yet lies 1000 back but the first.
    assert_eq!(log.retain(later, log.log_end()), Ok(Retained { segments: 2, bytes: 2 * segment }));
    assert_eq!(log.log_start(), Offset(4));
    assert!(disk.exists(&dir().join("00000000000000000000.log.deleted")).expect("known"), "delayed");
    log.retain(Timestamp(later.0 + 1000), Offset(0)).expect("retains");
    assert!(!disk.exists(&dir().join("00000000000000000000.log.deleted")).expect("known"));
    let retained = log.retain(Timestamp(NOW.0 + 5000), log.log_end()).expect("retains");
    assert_eq!((retained.segments, log.log_start(), log.log_end()), (3, Offset(10), Offset(10)), "the last one too");
    append(&mut log, 5, 10);
    assert_eq!(read_all(&log.reader(), 10, 11).map(|bytes| bytes.is_empty()), Ok(false));
}

#[test]
fn delete_records_takes_effect_at_once_and_frees_whole_segments() {
    let (mut log, _) = open(&LogConfig { retention_bytes: None, ..config() });
    for i in 0..10 {
        append(&mut log, NOW.0 + i, 900);
    }
    assert_eq!(log.advance_log_start(Offset(5)), Ok(Offset(5)));
    assert_eq!(log.advance_log_start(Offset(3)), Ok(Offset(5)), "never back");
    assert!(log.reader().read(Offset(4), Offset(10), 1, true).is_err());
    assert_eq!(log.retain(NOW, log.log_end()).expect("retains").segments, 2);
    assert_eq!((log.log_start(), log.segment_count()), (Offset(5), 3));
    assert_eq!(log.advance_log_start(Offset(99)), Ok(Offset(10)));
}

#[test]
fn a_flush_runs_beside_appends_and_covers_what_it_began_with() {
    let (mut log, _) = open(&config());
    append(&mut log, 1, 900);
    append(&mut log, 1, 900);
    let flush = log.begin_flush().expect("dirty");
    append(&mut log, 2, 900);
    assert_eq!(log.dirty_since(), Some(Timestamp(1)));
    assert_eq!(flush.run(), Ok(Offset(2)));
    assert_eq!((log.flushed(), log.dirty_since()), (Offset(2), Some(Timestamp(2))));
    let stale = log.begin_flush().expect("dirty");
    log.truncate_to(Offset(1)).expect("truncates");
    append(&mut log, 3, 10);
    assert_eq!(stale.run(), Ok(Offset(1)), "what was truncated meanwhile does not count");
    assert_eq!(log.flush(), Ok(Offset(2)));
    assert!(log.begin_flush().is_none());
    assert_eq!(log.dirty_bytes(), 0);
}

#[test]
fn a_changed_config_counts_at_once() {
    let (mut log, _) = open(&config());
    append(&mut log, 1, 900);
    log.set_config(&TopicConfig { segment_bytes: 1024, ..TopicConfig::default() });
    append(&mut log, 1, 900);
    assert_eq!(log.segment_count(), 2);
}

#[test]
fn whole_segments_can_be_reserved() {
    let (mut log, disk) = open(&LogConfig { preallocate: true, ..config() });
    append(&mut log, 1, 10);
    assert_eq!(disk.len(&dir().join("00000000000000000000.log")).expect("there"), 2000);
    log.close_clean().expect("closes");
    assert!(disk.len(&dir().join("00000000000000000000.log")).expect("there") < 200);
}

#[test]
fn readers_see_only_whole_batches_while_the_writer_appends_truncates_and_removes() {
    let (mut log, _) = open(&LogConfig { retention_bytes: Some(5000), file_delete_delay_ms: 0, ..config() });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = log.reader();
            let done = &done;
            scope.spawn(move || {
                let mut reads = 0;
                while !done.load(Ordering::Acquire) || reads == 0 {
                    let (from, below) = (reader.log_start(), reader.log_end());
                    match reader.read(from, below, 10_000, true) {
                        Ok(bytes) => RecordBatch::split(bytes).for_each(|batch| assert!(batch.is_ok())),
                        Err(rafka_log::ReadError::OutOfRange { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    reads += 1;
                }
            });
        }
        for i in 0..2000 {
            append(&mut log, i, (i as usize * 37) % 700);
            if i % 10 == 9 {
                log.retain(Timestamp(i), log.log_end()).expect("retains");
            }
            if i % 50 == 49 {
                let end = log.log_end().0;
                log.truncate_to(Offset(end - 3)).expect("truncates");
            }
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn a_deleted_log_leaves_nothing() {
    let (mut log, disk) = open(&config());
    append(&mut log, 1, 10);
    log.delete().expect("deletes");
    assert!(!disk.exists(dir()).expect("known"));
}

/// A leader that wrote nothing in its epoch, and then follows one that goes on in an earlier epoch's records.
#[test]
fn an_epoch_without_records_is_forgotten_by_a_truncation_to_the_end() {
    let (mut log, _) = open(&config());
    append(&mut log, 0, 10);
    let (end, latest) = (log.log_end(), log.latest_epoch().expect("it has a record"));
    log.begin_epoch(LeaderEpoch(latest.0 + 2)).expect("begins");
    assert_eq!(log.truncate_to(end.plus(1)).expect("nothing to do"), end);
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(latest.0 + 2)));
    assert_eq!(log.truncate_to(end).expect("truncates"), end);
    assert_eq!(log.latest_epoch(), Some(latest));
}
