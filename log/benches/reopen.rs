//! Opens many logs after a `kill -9`: the part of a restart that this crate answers for.
//!
//! `cargo bench -p rafka-log --bench reopen [-- <partitions> <megabytes each> <directory>]`
#![allow(clippy::disallowed_methods, reason = "measures time")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rafka_log::disk::{Disk, FileDisk};
use rafka_log::{LogConfig, PartitionLog, Shutdown};
use rafka_model::{BatchBuilder, BatchHeader, Compression, LeaderEpoch, RecordBatch, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn main() {
    let mut numbers = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let partitions: usize = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let megabytes: usize = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(10);
    let place = numbers.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let root = tempfile::tempdir_in(place).expect("a temporary directory");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(root.path()));
    let batch = batch_of(64 << 10);
    let appends = (megabytes << 20) / batch.len();
    let begin = Instant::now();
    for partition in 0..partitions {
        let (mut log, _) = open(&disk, root.path(), partition, Shutdown::MemoryKept);
        for i in 0..appends {
            log.append(LeaderEpoch(1), batch.clone(), NOW).expect("appends");
            // The last tenth comes after the last checkpoint.
            if i + 1 == appends - appends / 10 {
                log.checkpoint().expect("notes");
            }
        }
        // Dropped, not closed: the process died.
    }
    println!("{partitions} partitions of {megabytes} MB written in {:.1} s", begin.elapsed().as_secs_f64());
    for shutdown in [Shutdown::MemoryKept, Shutdown::MemoryKept, Shutdown::PowerLost] {
        let begin = Instant::now();
        let (mut scanned, mut zeros, mut slowest) = (0, 0, 0.0f64);
        let mut logs = Vec::with_capacity(partitions);
        for partition in 0..partitions {
            let one = Instant::now();
            let (log, recovery) = open(&disk, root.path(), partition, shutdown);
            assert_eq!(log.size_bytes(), (appends * batch.len()) as u64);
            scanned += recovery.scanned_bytes;
            zeros += recovery.zero_bytes;
            slowest = slowest.max(one.elapsed().as_secs_f64());
            logs.push(log);
        }
        println!(
            "{shutdown:?}: all open in {:.0} ms on one thread, slowest {:.2} ms; scanned {} MB, cut {} MB of zeros",
            begin.elapsed().as_secs_f64() * 1e3,
            slowest * 1e3,
            scanned >> 20,
            zeros >> 20,
        );
        restore_producers(&mut logs);
        if shutdown == Shutdown::MemoryKept {
            logs.iter_mut().for_each(|log| log.checkpoint().expect("notes"));
        }
    }
}

/// What each log knows of producers: the first time by all of its headers, then by a snapshot.
fn restore_producers(logs: &mut [PartitionLog]) {
    let begin = Instant::now();
    let (mut headers, mut snapshots) = (0, 0);
    for log in logs.iter_mut() {
        let replay = |last: &mut i32, header: &BatchHeader| *last = header.base_sequence;
        let (_, restored) = log.restore_producers(|_| Some(0), replay).expect("restores");
        headers += restored.batches;
        snapshots += usize::from(restored.snapshot.is_some());
    }
    let took = begin.elapsed().as_secs_f64() * 1e3;
    println!("  producers restored in {took:.0} ms on one thread: {snapshots} snapshots, {headers} headers");
    let begin = Instant::now();
    logs.iter_mut().for_each(|log| log.save_producers(&[7; 1000]).expect("saves"));
    println!("  and saved in {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
}

fn open(
    disk: &Arc<dyn Disk>,
    root: &Path,
    partition: usize,
    shutdown: Shutdown,
) -> (PartitionLog, rafka_log::Recovery) {
    let dir = root.join(format!("topic-{partition}"));
    PartitionLog::open(disk.clone(), &dir, &LogConfig::default(), NOW, shutdown).expect("opens")
}

fn batch_of(size: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![7; 1000];
    while builder.bytes() + 1100 < size {
        builder.push(NOW, None, Some(&value), &[]);
    }
    builder.build()
}
