//! Compaction of a log on a file system: MB/s of records (uncompressed), and what is left of the log.
//!
//! `cargo bench -p rafka-log --bench compaction [-- <megabytes a round> <rounds> <directory>]`
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "measures time")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rafka_log::disk::FileDisk;
use rafka_log::{CompactionLimits, CompactionReport, LogConfig, PartitionLog, Shutdown};
use rafka_model::config::CleanupPolicy;
use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// One kind of log.
#[derive(Clone, Copy)]
struct Case {
    codec: Compression,
    /// Records of a batch.
    records: usize,
    /// Different keys, of a thousand records.
    keys_per_mille: usize,
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let megabytes: usize = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(64);
    let rounds = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let place = numbers.next().map_or_else(std::env::temp_dir, PathBuf::from);
    println!(
        "{megabytes} MB of 1 KiB records (before compression) a round, medians of {rounds} rounds, synced at the end"
    );
    println!(
        "{:>8} {:>8} {:>8} {:>10} {:>10} {:>8} {:>8}",
        "codec", "batch", "keys", "MB/s", "left", "read", "written"
    );
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for (records, keys_per_mille) in [(64, 100), (64, 900), (1, 100)] {
            let case = Case { codec, records, keys_per_mille };
            let mut times: Vec<Duration> = Vec::new();
            let mut report = CompactionReport::default();
            for _ in 0..rounds {
                let dir = tempfile::tempdir_in(&place).expect("a temporary directory");
                let (time, done) = round(&dir.path().join("log"), case, megabytes << 10);
                times.push(time);
                report = done;
            }
            times.sort_unstable();
            let seconds = times[times.len() / 2].as_secs_f64();
            let mb = |bytes: u64| bytes as f64 / 1e6;
            println!(
                "{:>8} {:>8} {:>6} ‰ {:>10.0} {:>8.0} % {:>8.0} {:>8.0}",
                codec.name(),
                records,
                keys_per_mille,
                (megabytes << 20) as f64 / 1e6 / seconds,
                mb(report.bytes_after) / mb(report.bytes_before) * 100.0,
                mb(report.read_bytes),
                mb(report.written_bytes),
            );
        }
    }
}

fn round(dir: &Path, case: Case, count: usize) -> (Duration, CompactionReport) {
    let config = LogConfig {
        cleanup: CleanupPolicy { delete: false, compact: true },
        min_cleanable_dirty_ratio_ppm: 0,
        segment_bytes: 16 << 20,
        ..LogConfig::default()
    };
    let disk = Arc::new(FileDisk::new(dir));
    let (mut log, _) = PartitionLog::open(disk, dir, &config, NOW, Shutdown::MemoryKept).expect("opens");
    let keys = (count * case.keys_per_mille / 1000).max(1);
    let mut value = vec![0; 1000];
    for first in (0..count).step_by(case.records) {
        let mut builder = BatchBuilder::new(case.codec);
        for i in first..first + case.records {
            // Spread over the keys, without a pattern that a codec could use.
            let number = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let key = ((number >> 20) as usize % keys).to_be_bytes();
            value.chunks_mut(16).for_each(|chunk| chunk[..8].copy_from_slice(&number.to_be_bytes()));
            builder.push(NOW, Some(&key), Some(&value), &[]);
        }
        log.append(LeaderEpoch(0), builder.build(), NOW).expect("appends");
    }
    log.retain(Timestamp(NOW.0 + 700_000_000), log.log_end()).expect("closes the last segment");
    let end = log.flush().expect("flushes");
    let limits = CompactionLimits { buffer_bytes: 64 << 20, producer_expiration_ms: u64::MAX };
    let begin = Instant::now();
    let plan = log.compaction_plan(NOW, end).expect("plans").expect("due");
    let compacted = plan.run(limits, &mut |_| true).expect("runs");
    let report = log.apply_compaction(compacted, NOW).expect("applies");
    let time = begin.elapsed();
    log.delete().expect("deletes");
    (time, report)
}
