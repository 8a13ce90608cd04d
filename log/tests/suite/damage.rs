//! Damaged files: found, named exactly, and nothing else is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use rafka_log::disk::{Crash, Disk, MemoryDisk};
use rafka_log::{LogError, PartitionLog, ReadError, Shutdown};
use rafka_model::{Offset, RecordBatch, Timestamp};

use crate::support::{Step, World, batch, check, config, dir, read_all};

fn append(records: usize, bytes: usize) -> Step {
    Step::Append { records, bytes, time: 5 }
}

/// A log of several segments, checkpointed in its last one, which holds something behind the checkpoint too.
fn world() -> World {
    let mut world = World::new(rafka_log::LogConfig { retention_bytes: None, ..config() }, None);
    for _ in 0..12 {
        world.run(&[append(2, 150), append(1, 400)]);
    }
    world.run(&[Step::Flush, Step::Checkpoint, Step::NextEpoch { durable: false }, append(3, 100), append(1, 50)]);
    world.run(&[append(2, 80)]);
    world
}

fn files(world: &World, ending: &str) -> Vec<PathBuf> {
    let names = world.memory.list(dir()).expect("lists");
    names.iter().filter(|name| name.ends_with(ending)).map(|name| dir().join(name)).collect()
}

fn place(world: &World, wanted: &RecordBatch) -> (PathBuf, u64) {
    for path in files(world, ".log") {
        let bytes = world.memory.bytes(&path).expect("there");
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == &wanted.bytes()[..]) {
            return (path, at as u64);
        }
    }
    panic!("no such batch");
}

fn reopen(world: &World, shutdown: Shutdown) -> Result<(PartitionLog, rafka_log::Recovery), LogError> {
    world.open(world.memory.clone(), shutdown)
}

#[test]
fn a_flipped_bit_in_a_batch_fails_its_read_and_no_other() {
    let world = world();
    let places: Vec<_> = world.model.batches.iter().map(|batch| place(&world, batch)).collect();
    let (reader, end) = (world.log.as_ref().expect("open").reader(), world.model.end);
    for (number, victim) in [(0, 7), (5, 11), (11, 5), (24, 3)] {
        let damaged = &world.model.batches[number];
        let (path, at) = &places[number];
        for byte in (0..damaged.len() as u64).filter(|byte| *byte < 61 || byte % victim == 0) {
            for mask in [1, 0x80] {
                world.memory.flip(path, at + byte, mask).expect("flips");
                for (batch, place) in world.model.batches.iter().zip(&places) {
                    let base = batch.header().base_offset;
                    match reader.read(base, Offset(end), 1, true) {
                        Ok(bytes) => {
                            assert_eq!(bytes, batch.bytes(), "wrong data: byte {byte} of {number}");
                            assert_ne!(base, damaged.header().base_offset, "byte {byte} went unnoticed");
                        }
                        Err(ReadError::Corrupt(corruption)) => {
                            assert_eq!((&corruption.segment, corruption.position), (path, *at), "byte {byte}");
                            // A broken chain may hide the batches up to the next index entry, no more.
                            let distance = place.1.saturating_sub(*at);
                            assert!(distance <= 150 + 2 * damaged.len() as u64, "byte {byte}: {distance}");
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                world.memory.flip(path, at + byte, mask).expect("flips back");
            }
        }
    }
    check(&reader, &world.model, "the damage is gone");
}

#[test]
fn an_index_that_is_missing_short_or_wrong_is_built_again() {
    let pristine = world();
    let context = "with a damaged index";
    for ending in [".index", ".timeindex"] {
        for path in files(&pristine, ending) {
            let whole = pristine.memory.bytes(&path).expect("there");
            let mut variants = vec![None, Some(Vec::new()), Some(vec![0; whole.len()]), Some(vec![0xff; 5])];
            variants.push(Some(whole[..whole.len() / 2].to_vec()));
            variants.push(Some([&whole[..], &whole[..]].concat()));
            variants.extend((0..whole.len()).step_by(5).map(|byte| {
                let mut flipped = whole.clone();
                flipped[byte] ^= 0x10;
                Some(flipped)
            }));
            for variant in variants {
                let disk = Arc::new(pristine.memory.crash(Crash::Kill));
                match variant {
                    None => disk.remove(&path).expect("removes"),
                    Some(bytes) => disk.put(&path, &bytes),
                }
                let (log, _) = pristine.open(disk.clone(), Shutdown::MemoryKept).expect("opens");
                check(&log.reader(), &pristine.model, context);
                drop(log);
                let (log, _) = pristine.open(disk, Shutdown::MemoryKept).expect("opens");
                check(&log.reader(), &pristine.model, "and after that");
            }
        }
    }
}

#[test]
fn an_index_of_other_data_is_noticed() {
    let mut world = world();
    world.log = None;
    // Valid entries, but of another history of the same segment.
    let mut other = World::new(config(), None);
    for _ in 0..12 {
        other.run(&[append(1, 230)]);
    }
    other.run(&[Step::Checkpoint]);
    for path in files(&other, "index").iter().filter(|path| world.memory.exists(path).expect("known")) {
        world.memory.put(path, &other.memory.bytes(path).expect("there"));
    }
    let (log, _) = reopen(&world, Shutdown::MemoryKept).expect("opens");
    assert_eq!(read_all(&log.reader(), 0, world.model.end).map(|bytes| bytes.len()), Ok(log.size_bytes() as usize));
    for batch in &world.model.batches {
        assert_eq!(
            log.reader().read(batch.header().base_offset, Offset(i64::MAX), 1, true).as_ref(),
            Ok(batch.bytes())
        );
    }
}

#[test]
fn a_damaged_recovery_point_costs_a_scan_and_nothing_else() {
    let world = world();
    let path = dir().join("recovery-point");
    world.memory.put(&path, b"garbage");
    let (log, recovery) = reopen(&world, Shutdown::PowerLost).expect("opens");
    assert!(recovery.scanned_all && recovery.batches == world.model.batches.len() as u64, "{recovery:?}");
    check(&log.reader(), &world.model, "scanned");
    drop(log);
    world.memory.remove(&path).expect("removes");
    let (log, recovery) = reopen(&world, Shutdown::MemoryKept).expect("opens");
    assert_eq!(recovery.batches, world.model.batches.len() as u64);
    check(&log.reader(), &world.model, "scanned");
}

#[test]
fn a_damaged_epoch_cache_is_built_again() {
    let world = world();
    world.memory.put(&dir().join("leader-epoch-checkpoint"), b"garbage");
    let (log, recovery) = reopen(&world, Shutdown::MemoryKept).expect("opens");
    assert!(recovery.epochs_rebuilt);
    check(&log.reader(), &world.model, "rebuilt");
}

#[test]
fn recovery_after_a_kill_scans_only_behind_the_checkpoint() {
    let mut world = world();
    world.log = None;
    let (log, recovery) = reopen(&world, Shutdown::MemoryKept).expect("opens");
    assert_eq!((recovery.batches, recovery.cut_bytes), (3, 0), "{recovery:?}");
    check(&log.reader(), &world.model, "as it was");
}

#[test]
fn damage_behind_the_checkpoint_never_costs_a_neighbour_silently() {
    let pristine = world();
    let [first, second, last] = [3, 2, 1].map(|back| &pristine.model.batches[pristine.model.batches.len() - back]);
    for (victim, is_last) in [(first, false), (second, false), (last, true)] {
        let (path, at) = place(&pristine, victim);
        // The leader epoch (12..16) is outside the CRC, and behind the checkpoint nothing else knows it.
        for byte in (0..victim.len() as u64).filter(|byte| !(12..16).contains(byte)) {
            let disk = Arc::new(pristine.memory.crash(Crash::Kill));
            disk.flip(&path, at + byte, 0x04).expect("flips");
            let before = disk.bytes(&path).expect("there");
            match pristine.open(disk.clone(), Shutdown::MemoryKept) {
                Ok((log, recovery)) => {
                    let reader = log.reader();
                    if recovery.damaged.is_empty() {
                        assert!(is_last && recovery.cut_bytes > 0, "byte {byte}: only an unfinished end may be cut");
                    }
                    for batch in &pristine.model.batches {
                        let read = reader.read(batch.header().base_offset, log.log_end(), 1, true);
                        let same = batch.header().base_offset == victim.header().base_offset;
                        assert!(same || read.as_ref() == Ok(batch.bytes()), "byte {byte}: {read:?}");
                        assert!(!same || !matches!(&read, Ok(bytes) if !bytes.is_empty()), "byte {byte}");
                    }
                }
                Err(LogError::Corrupt(corruption)) => {
                    assert_eq!((&corruption.segment, corruption.position), (&path, at), "byte {byte}");
                    assert_eq!(disk.bytes(&path).expect("there"), before, "nothing was changed");
                    let (log, recovery) = pristine.open(disk, Shutdown::Salvage).expect("can be salvaged");
                    assert_eq!(log.log_end(), victim.header().base_offset);
                    assert!(recovery.cut_bytes > 0);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_segment_that_lost_its_end_or_vanished_is_refused() {
    let mut pristine = world();
    pristine.run(&[Step::Flush, Step::Checkpoint]);
    let segments = files(&pristine, ".log");
    for (path, damage) in [(&segments[segments.len() - 1], 700), (&segments[segments.len() - 1], 0)] {
        for shutdown in [Shutdown::MemoryKept, Shutdown::PowerLost] {
            let disk = Arc::new(pristine.memory.crash(Crash::Kill));
            let bytes = disk.bytes(path).expect("there");
            match damage {
                0 => disk.remove(path).expect("removes"),
                kept => disk.put(path, &bytes[..kept]),
            }
            let error = pristine.open(disk.clone(), shutdown).expect_err("refused");
            assert!(matches!(error, LogError::Corrupt(_)), "{error}");
            assert!(error.to_string().contains(".log is damaged at byte"), "{error}");
            pristine.open(disk, Shutdown::Salvage).expect("can be salvaged");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_files_never_panic(
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        batches in 0..4usize,
        target in 0..5usize,
        shutdown in prop_oneof![Just(Shutdown::MemoryKept), Just(Shutdown::PowerLost), Just(Shutdown::Salvage)],
    ) {
        let disk = Arc::new(MemoryDisk::new());
        disk.create_dir_all(dir()).expect("creates");
        let mut segment = Vec::new();
        for i in 0..batches {
            let stamped = batch(&[5, 6], 40).stamp(Offset(i as i64 * 2), rafka_model::LeaderEpoch(0));
            segment.extend_from_slice(stamped.bytes());
        }
        let name = |ending: &str| dir().join(format!("{:020}.{ending}", 0));
        if target == 0 {
            segment.extend_from_slice(&garbage);
        }
        disk.put(&name("log"), &segment);
        let other = [name("index"), name("timeindex"), dir().join("recovery-point"), dir().join("leader-epoch-checkpoint")];
        if let Some(path) = target.checked_sub(1).map(|i| &other[i]) {
            disk.put(path, &garbage);
        }
        let opened = PartitionLog::open(disk, dir(), &config(), Timestamp(0), shutdown);
        if let Ok((mut log, _)) = opened {
            let at_least = if target == 0 || shutdown != Shutdown::MemoryKept { 0 } else { batches as i64 * 2 };
            prop_assert!(log.log_end().0 >= at_least);
            let end = log.log_end();
            log.append(rafka_model::LeaderEpoch(i32::MAX), batch(&[1], 10), Timestamp(0)).expect("appends");
            prop_assert!(!log.reader().read(end, log.log_end(), 1, true).expect("reads").is_empty());
        }
    }
}

#[test]
fn files_of_an_interrupted_change_are_cleared_away() {
    let mut world = world();
    world.log = None;
    for name in ["00000000000000000000.log.deleted", "leader-epoch-checkpoint.tmp", "00000000000000000777.index"] {
        world.memory.put(&Path::new(dir()).join(name), b"left over");
    }
    reopen(&world, Shutdown::MemoryKept).expect("opens");
    let names = world.memory.list(dir()).expect("lists");
    assert!(names.iter().all(|name| !name.ends_with("deleted") && !name.ends_with("tmp") && !name.contains("777")));
}
