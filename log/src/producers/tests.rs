use std::sync::Arc;

use rafka_model::{BatchBuilder, Compression, LeaderEpoch, ProducerId, RecordBatch, Timestamp};

use super::*;
use crate::disk::{Crash, Disk, MemoryDisk};
use crate::{LogConfig, Shutdown};

const DIR: &str = "/data/t-0";

/// The state of these tests: sequence numbers, one for each batch.
type Seen = Vec<i32>;

struct World {
    disk: Arc<MemoryDisk>,
    log: PartitionLog,
    seen: Seen,
}

fn batch(sequence: i32) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None).idempotent(ProducerId(1), 0, sequence);
    builder.push(Timestamp(1), None, Some(&[7; 100]), &[]);
    builder.build()
}

fn open(disk: &Arc<MemoryDisk>, shutdown: Shutdown) -> PartitionLog {
    let config = LogConfig { segment_bytes: 1_000, index_interval_bytes: 300, ..LogConfig::default() };
    PartitionLog::open(disk.clone(), Path::new(DIR), &config, Timestamp(1), shutdown).expect("opens").0
}

fn restore(log: &mut PartitionLog) -> (Seen, Restored) {
    let decode =
        |bytes: &[u8]| Some(bytes.chunks(4).map(|four| i32::from_be_bytes(four.try_into().expect("four"))).collect());
    log.restore_producers(decode, |seen: &mut Seen, header| seen.push(header.base_sequence)).expect("restores")
}

impl World {
    fn new() -> Self {
        let disk = Arc::new(MemoryDisk::new());
        Self { log: open(&disk, Shutdown::MemoryKept), disk, seen: Seen::new() }
    }

    fn append(&mut self, batches: usize) {
        for _ in 0..batches {
            let sequence = self.seen.len() as i32;
            let appended = self.log.append(LeaderEpoch(0), batch(sequence), Timestamp(1)).expect("appends");
            assert_eq!(
                (appended.header().base_offset, appended.header().base_sequence),
                (self.log.log_end().plus(-1), sequence)
            );
            self.seen.push(sequence);
        }
    }

    fn save(&mut self) {
        let bytes: Vec<u8> = self.seen.iter().flat_map(|sequence| sequence.to_be_bytes()).collect();
        self.log.save_producers(&bytes).expect("saves");
    }

    fn reopen(&mut self) -> Restored {
        self.log = open(&self.disk, Shutdown::MemoryKept);
        let (seen, restored) = restore(&mut self.log);
        assert_eq!(seen, self.seen);
        restored
    }

    fn files(&self) -> Vec<i64> {
        let names = self.disk.list(Path::new(DIR)).expect("lists");
        let offsets: Vec<_> = names.iter().filter_map(|name| parse_name(name)).map(|offset| offset.0).collect();
        assert_eq!(offsets, self.log.producers.offsets.iter().map(|offset| offset.0).collect::<Vec<_>>());
        offsets
    }
}

#[test]
fn only_what_lies_behind_the_newest_snapshot_is_read() {
    let mut world = World::new();
    assert_eq!(world.reopen(), Restored::default());
    world.append(20);
    assert_eq!(world.reopen(), Restored { snapshot: None, batches: 20 });
    world.save();
    assert_eq!(world.reopen(), Restored { snapshot: Some(Offset(20)), batches: 0 });
    world.append(3);
    assert_eq!(world.reopen(), Restored { snapshot: Some(Offset(20)), batches: 3 });
    assert!(world.log.has_news_of_producers(), "three batches are in no snapshot");
}

#[test]
fn a_snapshot_is_wanted_after_many_batches_or_a_new_segment() {
    let mut world = World::new();
    assert!(!world.log.wants_producer_snapshot(), "there is nothing to say");
    world.append(2);
    assert!(world.log.wants_producer_snapshot(), "the first one");
    world.save();
    world.append(1);
    assert!(!world.log.wants_producer_snapshot());
    world.append(10);
    assert!(world.log.wants_producer_snapshot(), "another segment");
    world.save();
    let config = LogConfig::default();
    let (mut log, _) =
        PartitionLog::open(world.disk.clone(), Path::new("/data/t-1"), &config, Timestamp(1), Shutdown::MemoryKept)
            .expect("opens");
    log.save_producers(&[]).expect("saves");
    for sequence in 0..PRODUCER_SNAPSHOT_BATCHES {
        assert!(!log.wants_producer_snapshot());
        log.append(LeaderEpoch(0), batch(sequence as i32), Timestamp(1)).expect("appends");
    }
    assert!(log.wants_producer_snapshot());
}

#[test]
fn a_snapshot_never_outlives_the_batches_it_speaks_of() {
    let mut world = World::new();
    for _ in 0..4 {
        world.append(5);
        world.save();
    }
    world.log.flush().expect("flushes");
    assert_eq!(world.files(), [5, 10, 15, 20]);
    world.log.truncate_to(Offset(12)).expect("truncates");
    world.seen.truncate(12);
    assert_eq!(world.files(), [5, 10]);
    // The names must be gone for good, or a power loss brings knowledge of other batches back.
    world.append(8);
    world.log.flush().expect("flushes");
    world.disk = Arc::new(world.disk.crash(Crash::Power { seed: 1 }));
    world.log = open(&world.disk, Shutdown::PowerLost);
    assert!(world.files().iter().all(|offset| *offset <= 10));
    let (seen, _) = restore(&mut world.log);
    assert_eq!(seen, world.seen);
    world.log.restart_at(Offset(50)).expect("restarts");
    assert!(world.files().is_empty());
}

#[test]
fn what_a_power_loss_took_from_the_log_is_taken_from_the_snapshots() {
    for seed in 0..40 {
        let mut world = World::new();
        world.append(6);
        world.save();
        world.log.flush().expect("flushes");
        world.append(6);
        world.save();
        world.disk = Arc::new(world.disk.crash(Crash::Power { seed }));
        world.log = open(&world.disk, Shutdown::PowerLost);
        let end = world.log.log_end();
        assert!(world.files().iter().all(|offset| *offset <= end.0), "seed {seed}");
        world.seen.truncate(end.0 as usize);
        // Torn ones are told by their checksum.
        assert_eq!(restore(&mut world.log).0, world.seen, "seed {seed}");
    }
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let mut world = World::new();
    world.append(4);
    world.save();
    world.append(4);
    world.save();
    world.disk.flip(&snapshot_path(Path::new(DIR), Offset(8)), 20, 1).expect("flips");
    assert_eq!(world.reopen(), Restored { snapshot: Some(Offset(4)), batches: 4 });
    assert_eq!(world.files(), [4]);
    world.disk.put(&snapshot_path(Path::new(DIR), Offset(4)), &[]);
    assert_eq!(world.reopen(), Restored { snapshot: None, batches: 8 });
}

#[test]
fn one_snapshot_of_each_segment_and_the_newest_two_are_kept() {
    let mut world = World::new();
    for _ in 0..20 {
        world.append(1);
        world.save();
    }
    let (files, bases) = (world.files(), world.log.shared().segments());
    assert!(bases.len() >= 3);
    assert!(files.ends_with(&[19, 20]) && files.len() <= bases.len() + 2, "{files:?}");
    // Retention removes segments, not the knowledge of producers.
    world.log.advance_log_start(Offset(20)).expect("advances");
    world.log.retain(Timestamp(1), Offset(20)).expect("retains");
    world.append(1);
    world.save();
    assert_eq!(world.files(), [20, 21]);
    assert_eq!(world.reopen(), Restored { snapshot: Some(Offset(21)), batches: 0 });
}
