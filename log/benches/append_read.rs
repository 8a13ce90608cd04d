//! Append and read of the log against raw `pwrite` and `pread` of the same bytes, rounds interleaved.
//!
//! `cargo bench -p rafka-log --bench append_read [-- <megabytes a round> <rounds> <directory>]`
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "measures time and calls the system itself")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rafka_log::disk::FileDisk;
use rafka_log::{LogConfig, PartitionLog, Shutdown};
use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Offset, RecordBatch, Timestamp};

fn main() {
    let mut numbers = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let megabytes = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(64);
    let rounds = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(9);
    let place = numbers.next().map_or_else(std::env::temp_dir, PathBuf::from);
    println!("{megabytes} MB a round, medians of {rounds} rounds, no fsync; µs per batch");
    println!(
        "{:>8} {:>10} {:>10} {:>12} {:>10} {:>10} {:>12}",
        "batch", "pwrite", "append", "of raw", "pread", "read", "of raw"
    );
    for size in [1 << 10, 16 << 10, 64 << 10] {
        let batch = batch_of(size);
        let count = (megabytes << 20) / size;
        let mut times: [Vec<Duration>; 4] = Default::default();
        for round in 0..rounds {
            let dir = tempfile::tempdir_in(&place).expect("a temporary directory");
            // Who goes first changes from round to round.
            let (mut raw, mut log) = ([Duration::ZERO; 2], [Duration::ZERO; 2]);
            for turn in 0..2 {
                if (turn + round) % 2 == 0 {
                    raw = raw_round(&dir.path().join("raw"), &batch, count);
                } else {
                    log = log_round(&dir.path().join("log"), &batch, count);
                }
            }
            for (all, time) in times.iter_mut().zip([raw[0], log[0], raw[1], log[1]]) {
                all.push(time);
            }
        }
        let [pwrite, append, pread, read] = times.map(|mut all| {
            all.sort_unstable();
            all[all.len() / 2].as_secs_f64() * 1e6 / count as f64
        });
        println!(
            "{size:>8} {pwrite:>10.2} {append:>10.2} {:>10.0} % {pread:>10.2} {read:>10.2} {:>10.0} %",
            pwrite / append * 100.0,
            pread / read * 100.0
        );
    }
}

/// A batch of about `size` bytes with records of 100 bytes.
fn batch_of(size: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    let value: Vec<u8> = (0..100u8).collect();
    while builder.bytes() + 110 < size {
        builder.push(Timestamp(1_700_000_000_000), None, Some(&value), &[]);
    }
    let left = size - builder.bytes();
    builder.push(Timestamp(1_700_000_000_000), None, Some(&vec![7; left.saturating_sub(12)]), &[]);
    builder.build()
}

fn raw_round(path: &Path, batch: &RecordBatch, count: usize) -> [Duration; 2] {
    let file = File::options().read(true).write(true).create_new(true).open(path).expect("creates");
    let size = batch.len();
    let begin = Instant::now();
    for i in 0..count {
        file.write_all_at(batch.bytes(), (i * size) as u64).expect("writes");
    }
    let written = begin.elapsed();
    let begin = Instant::now();
    let mut buffer = vec![0; size];
    for i in 0..count {
        file.read_exact_at(&mut buffer, (i * size) as u64).expect("reads");
        black_box(&buffer);
    }
    let read = begin.elapsed();
    drop(file);
    std::fs::remove_file(path).expect("removes");
    [written, read]
}

fn log_round(dir: &Path, batch: &RecordBatch, count: usize) -> [Duration; 2] {
    let disk = Arc::new(FileDisk::new(dir));
    let config = LogConfig { max_message_bytes: 1 << 20, ..LogConfig::default() };
    let now = Timestamp(1_700_000_000_000);
    let (mut log, _) = PartitionLog::open(disk, dir, &config, now, Shutdown::MemoryKept).expect("opens");
    let begin = Instant::now();
    for _ in 0..count {
        black_box(log.append(LeaderEpoch(1), batch.clone(), now).expect("appends"));
    }
    let written = begin.elapsed();
    let reader = log.reader();
    let records = i64::from(batch.header().last_offset_delta) + 1;
    let end = log.log_end();
    let begin = Instant::now();
    for i in 0..count as i64 {
        let bytes = reader.read(Offset(i * records), end, batch.len() as u32, true).expect("reads");
        assert_eq!(bytes.len(), batch.len());
        black_box(bytes);
    }
    let read = begin.elapsed();
    log.delete().expect("deletes");
    [written, read]
}
