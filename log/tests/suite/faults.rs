//! Disks that fail while the log is running.

use std::sync::Arc;

use rafka_log::disk::{Crash, Disk, FaultyDisk, MemoryDisk};
use rafka_log::{AppendError, LogError, PartitionLog, ReadError, Shutdown};
use rafka_model::{LeaderEpoch, Offset, Timestamp};

use crate::support::{World, batch, check, config, dir};

const NOW: Timestamp = Timestamp(1_000_000);

fn append(world: &mut World, bytes: usize) -> Result<(), AppendError> {
    let stamped = batch(&[world.now], bytes).stamp(Offset(world.model.end), LeaderEpoch(0));
    world.log.as_mut().expect("open").append(LeaderEpoch(0), stamped.clone(), NOW)?;
    world.model.end += 1;
    world.model.batches.push(stamped);
    Ok(())
}

#[test]
fn a_full_disk_refuses_appends_keeps_reads_and_deletes_and_recovers() {
    for free in 0..400 {
        let mut world = World::new(config(), None);
        for _ in 0..10 {
            append(&mut world, 300).expect("appends");
        }
        world.faults.set_free_bytes(Some(free));
        let error = loop {
            match append(&mut world, 300) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AppendError::DiskFull(_)), "{error}");
        check(&world.log.as_ref().expect("open").reader(), &world.model, "on a full disk");
        let log = world.log.as_mut().expect("open");
        let start = log.advance_log_start(Offset(3)).expect("delete-records works on a full disk");
        let (disk, kept) = (world.memory.clone(), world.model.end);
        assert_eq!(start, Offset(3));
        world.model.start = 3;
        // As it is now, killed:
        let (log, _) = world.open(Arc::new(disk.crash(Crash::Kill)), Shutdown::MemoryKept).expect("opens");
        assert_eq!(log.log_end().0, kept);
        check(&log.reader(), &world.model, "killed on a full disk");
        world.faults.set_free_bytes(None);
        append(&mut world, 40).expect("space returned");
        check(&world.log.as_ref().expect("open").reader(), &world.model, "after space returned");
    }
}

#[test]
fn a_failed_append_at_any_operation_leaves_the_log_as_it_was() {
    for n in 0..60 {
        let mut world = World::new(config(), None);
        world.faults.fail_at(world.faults.operations() + n, 5);
        let mut failures = 0;
        for i in 0..14 {
            let before = world.model.clone();
            if let Err(error) = append(&mut world, 120 + i * 40) {
                assert!(matches!(error, AppendError::Storage(_)), "{error}");
                failures += 1;
                check(&world.log.as_ref().expect("open").reader(), &before, "after a failed append");
            }
        }
        assert!(failures <= 1, "one fault, one failed append");
        world.boot(Crash::Kill, &format!("fault at {n}"));
    }
}

#[test]
fn a_failed_sync_poisons_the_log_until_it_is_opened_again() {
    let mut world = World::new(config(), None);
    append(&mut world, 100).expect("appends");
    world.faults.set_fail_syncs(true);
    let log = world.log.as_mut().expect("open");
    assert!(matches!(log.flush(), Err(LogError::Storage(_))));
    world.faults.set_fail_syncs(false);
    assert!(log.is_poisoned());
    assert!(matches!(log.flush(), Err(LogError::Poisoned { .. })), "a failed sync is never tried again");
    assert!(matches!(log.checkpoint(), Err(LogError::Poisoned { .. })));
    assert_eq!(log.flushed(), Offset(0));
    let error = append(&mut world, 100).expect_err("poisoned");
    assert!(matches!(error, AppendError::Poisoned { .. }), "{error}");
    check(&world.log.as_ref().expect("open").reader(), &world.model, "reads go on");
    world.boot(Crash::Kill, "opened again");
    append(&mut world, 100).expect("appends");
}

#[test]
fn a_failed_read_is_an_error_of_the_disk_and_passes() {
    let mut world = World::new(config(), None);
    append(&mut world, 100).expect("appends");
    let reader = world.log.as_ref().expect("open").reader();
    world.faults.set_fail_reads(true);
    assert!(matches!(reader.read(Offset(0), Offset(1), 1, true), Err(ReadError::Storage(_))));
    world.faults.set_fail_reads(false);
    check(&reader, &world.model, "later");
}

#[test]
fn a_read_only_disk_is_named_when_a_log_is_created() {
    let (disk, faults) = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    faults.set_read_only(true);
    let error = PartitionLog::open(Arc::new(disk), dir(), &config(), NOW, Shutdown::MemoryKept).expect_err("refused");
    assert!(matches!(&error, LogError::Storage(storage) if storage.kind == std::io::ErrorKind::ReadOnlyFilesystem));
    assert!(error.to_string().starts_with("cannot create /data/topic-0"), "{error}");
}

#[test]
fn the_memory_engine_touches_no_disk() {
    let (disk, faults) = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let disk: Arc<dyn Disk> = Arc::new(disk);
    faults.set_read_only(true);
    faults.set_fail_reads(true);
    let config = crate::support::memory_config();
    let (mut log, _) = PartitionLog::open(disk, dir(), &config, NOW, Shutdown::MemoryKept).expect("opens");
    log.append(LeaderEpoch(0), batch(&[1, 2], 100), NOW).expect("appends");
    assert_eq!(log.flush(), Ok(Offset(2)));
    assert!(!log.reader().read(Offset(1), Offset(2), 1, true).expect("reads").is_empty());
    assert_eq!(faults.operations(), 0);
    log.close_clean().expect("closes");
}
