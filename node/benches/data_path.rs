//! The data path of a node without the network: produce and fetch against raw `pwrite` and `pread` of the same bytes in
//! the same run, and the time from start to serving.
//!
//! `cargo bench -p rafka-node --bench data_path [-- <partitions to open> <megabytes each> <directory>]`

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rafka_broker::metadata::{Cluster, Image, PartitionState, Topic};
use rafka_broker::request::{Acks, Fetch, FetchPartition, Produce, ProducePartition};
use rafka_log::Shutdown;
use rafka_log::disk::FileDisk;
use rafka_model::{
    BatchBuilder, ClusterId, Compression, LeaderEpoch, MetadataIndex, NodeId, Offset, PartitionEpoch, PartitionId,
    Timestamp, TopicId, TopicName, TopicPartition,
};
use rafka_node::partitions::{Clock, Config, Partitions, Setup, SystemClock};

const ME: NodeId = NodeId(1);
const TOPIC: TopicId = TopicId([1; 16]);
const ROUNDS: usize = 7;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let partitions = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let megabytes = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let place = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for bytes in [1 << 10, 16 << 10, 64 << 10] {
            against_raw(&place, bytes).await;
        }
        fsync_latency(&place).await;
        restart(&place, partitions, megabytes).await;
    });
}

/// Produces and fetches batches of about `bytes` one after the other, in rounds between raw writes and reads.
async fn against_raw(place: &Path, bytes: usize) {
    let dir = tempfile::tempdir_in(place).expect("a temporary directory");
    let count = (64 << 20) / bytes.max(4 << 10);
    let records = batch(bytes);
    let raw = File::options().create(true).truncate(true).read(true).write(true).open(dir.path().join("raw"));
    let raw = raw.expect("a file");
    let warm = open(&dir.path().join("warm"), Config::default());
    let bare = open(&dir.path().join("bare"), Config { cache_bytes: 0, ..Config::default() });
    for partitions in [&warm, &bare] {
        partitions.reconcile(image(1, "replicated"), ME).await;
    }
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut note = |what, begin: Instant| {
        times.entry(what).or_default().push(begin.elapsed().as_secs_f64() * 1e6 / count as f64);
    };
    let mut buffer = vec![0; records.len()];
    for round in 0..ROUNDS {
        let first = (round * count) as i64;
        // Each request has bytes of its own, as from a socket.
        let each = || (0..count).map(|_| Bytes::copy_from_slice(&records)).collect::<Vec<_>>();
        let requests = each();
        let begin = Instant::now();
        for (i, records) in requests.into_iter().enumerate() {
            raw.write_all_at(&records, ((round * count + i) * records.len()) as u64).expect("writes");
        }
        note("1 raw pwrite", begin);
        for (what, partitions) in [("2 produce, acks=all", &warm), ("3 produce, no cache", &bare)] {
            let requests = each();
            let begin = Instant::now();
            for records in requests {
                assert!(partitions.produce(produce(0, records)).await[0].result.is_ok());
            }
            note(what, begin);
        }
        let begin = Instant::now();
        for i in 0..count {
            raw.read_exact_at(&mut buffer, ((round * count + i) * records.len()) as u64).expect("reads");
        }
        note("4 raw pread", begin);
        let kept = count.min((8 << 20) / records.len()) as i64;
        let begin = Instant::now();
        for i in 0..count as i64 {
            read(&warm, first + count as i64 - kept + i % kept, records.len()).await;
        }
        note("5 fetch, cached", begin);
        let begin = Instant::now();
        for i in 0..count as i64 {
            read(&bare, first + i, records.len()).await;
        }
        note("6 fetch, from the log", begin);
    }
    println!("one batch of {} bytes a request, µs each: median and best of {ROUNDS} rounds", records.len());
    for (what, mut each) in times {
        each.sort_by(f64::total_cmp);
        println!("  {:24} {:8.2} {:8.2}", &what[2..], each[ROUNDS / 2], each[0]);
    }
}

async fn fsync_latency(place: &Path) {
    let dir = tempfile::tempdir_in(place).expect("a temporary directory");
    let partitions = open(dir.path(), Config::default());
    partitions.reconcile(image(1, "fsync"), ME).await;
    let records = batch(1 << 10);
    let raw = File::create(dir.path().join("raw")).expect("a file");
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for i in 0..200 {
        let begin = Instant::now();
        raw.write_all_at(&records, i * records.len() as u64).expect("writes");
        raw.sync_data().expect("syncs");
        theirs.push(begin.elapsed().as_secs_f64() * 1e6);
        let begin = Instant::now();
        assert!(partitions.produce(produce(0, records.clone())).await[0].result.is_ok());
        mine.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    mine.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    println!(
        "durability=fsync, 1 KiB, one at a time: {:.0} µs; raw pwrite + fdatasync {:.0} µs",
        mine[100], theirs[100]
    );
}

async fn restart(place: &Path, count: usize, megabytes: usize) {
    let dir = tempfile::tempdir_in(place).expect("a temporary directory");
    let running = open(dir.path(), Config::default());
    let begin = Instant::now();
    let done = running.reconcile(image(count, "replicated"), ME).await;
    println!("{} partitions created in {:.0} ms", done.opened, begin.elapsed().as_secs_f64() * 1e3);
    let records = batch(64 << 10);
    let begin = Instant::now();
    for _ in 0..(megabytes << 20) / records.len() {
        for partition in 0..count {
            let part = produce(partition as u32, records.clone());
            assert!(running.produce(part).await[0].result.is_ok());
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{} MB written to them in {seconds:.1} s", count * megabytes);
    // Dropped, not shut down: as a kill, the disk holds what was written.
    drop(running);
    for how in ["after a kill", "again"] {
        let begin = Instant::now();
        let partitions = open(dir.path(), Config::default());
        let done = partitions.reconcile(image(count, "replicated"), ME).await;
        assert_eq!((done.opened, done.failed.len()), (count, 0));
        println!("{count} partitions serve {:.0} ms after the start {how}", begin.elapsed().as_secs_f64() * 1e3);
    }
}

fn open(dir: &Path, config: Config) -> Partitions {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    std::fs::create_dir_all(dir).expect("creates");
    let disk = Arc::new(FileDisk::new(dir));
    let setup = Setup { config, dir: dir.to_owned(), disk, clock, shutdown: Shutdown::MemoryKept };
    Partitions::open(setup).expect("opens")
}

fn image(partitions: usize, durability: &str) -> Arc<Image> {
    let state = PartitionState {
        replicas: vec![ME],
        leader: Some(ME),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        isr: vec![ME],
        elr: vec![],
        ..PartitionState::default()
    };
    let name = TopicName::new("bench").expect("legal");
    let topic = Topic {
        id: TOPIC,
        name: name.clone(),
        configs: BTreeMap::from([("durability".to_owned(), durability.to_owned())]),
        replication_factor: 1,
        partitions: vec![state; partitions],
        changed: MetadataIndex(2),
    };
    let cluster = Cluster { id: ClusterId([1; 32]), public_key: [0; 32], join_token_hash: None, feature_level: 1 };
    Arc::new(Image {
        index: MetadataIndex(2),
        cluster: Some(cluster),
        topics: BTreeMap::from([(TOPIC, Arc::new(topic))]),
        topic_ids: BTreeMap::from([(name, TOPIC)]),
        ..Image::default()
    })
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition: PartitionId(partition) }
}

fn produce(partition: u32, records: Bytes) -> Produce {
    let part = ProducePartition { partition: at(partition), leader_epoch: None, records };
    Produce { acks: Acks::All, timeout_ms: 30_000, partitions: vec![part] }
}

async fn read(partitions: &Partitions, offset: i64, bytes: usize) {
    let max_bytes = bytes as u32;
    let part = FetchPartition { partition: at(0), leader_epoch: None, offset: Offset(offset), max_bytes };
    let fetch = Fetch { max_wait_ms: 0, min_bytes: 1, max_bytes, partitions: vec![part] };
    let found = partitions.fetch(fetch).await.remove(0).result.expect("served");
    assert_eq!(found.records.len(), bytes);
}

/// A batch of one record.
fn batch(bytes: usize) -> Bytes {
    let now = SystemClock::new().wall();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(now.0), None, Some(&vec![b'x'; bytes]), &[]);
    builder.build().bytes().clone()
}
