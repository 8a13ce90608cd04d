//! A node's data path without a node: metadata by hand, a disk that can be watched, a clock that can be set.

mod compacting;
mod fetching;
mod idempotence;
mod life;
mod producing;
mod storage;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rafka_broker::ErrorCode;
use rafka_broker::metadata::{Cluster, Image, Node, PartitionState, Role, Topic};
use rafka_broker::request::*;
use rafka_log::Shutdown;
use rafka_log::disk::{Disk, DiskFile, Faults, FaultyDisk, MemoryDisk};
use rafka_model::*;

use super::*;

pub(super) const ME: NodeId = NodeId(1);
pub(super) const OTHER: NodeId = NodeId(2);
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Real monotonic time, wall time as set.
#[derive(Debug)]
pub(super) struct TestClock {
    monotonic: SystemClock,
    wall: AtomicI64,
}

impl Clock for TestClock {
    fn monotonic(&self) -> Monotonic {
        self.monotonic.monotonic()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::Acquire))
    }
}

/// Counts reads, and holds syncs of segments back while its gate is closed.
#[derive(Debug)]
pub(crate) struct WatchedDisk {
    pub(crate) inner: Arc<dyn Disk>,
    pub(crate) watch: Arc<Watch>,
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(super) reads: AtomicU64,
    closed: Mutex<bool>,
    moved: Condvar,
}

impl Watch {
    pub(crate) fn close_gate(&self, closed: bool) {
        *self.closed.lock() = closed;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.closed.lock();
        while *closed {
            self.moved.wait(&mut closed);
        }
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn DiskFile>,
    watch: Arc<Watch>,
    gated: bool,
}

impl WatchedDisk {
    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let gated = path.extension().is_some_and(|ending| ending == "log");
        Arc::new(WatchedFile { inner: file, watch: self.watch.clone(), gated })
    }
}

impl Disk for WatchedDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.open(path)?))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.create(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.inner.len(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }
    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }
}

impl DiskFile for WatchedFile {
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.inner.write_at(parts, offset)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.watch.reads.fetch_add(1, Ordering::AcqRel);
        self.inner.read_at(buffer, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.gated {
            self.watch.pass();
        }
        self.inner.sync_data()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.inner.preallocate(from, to)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

/// The data path, its surroundings, and metadata that tests change.
pub(super) struct Bench {
    pub(super) partitions: Arc<Partitions>,
    pub(super) image: Image,
    pub(super) memory: Arc<MemoryDisk>,
    pub(super) faults: Arc<Faults>,
    pub(super) watch: Arc<Watch>,
    pub(super) clock: Arc<TestClock>,
    disk: Arc<dyn Disk>,
    config: Config,
}

/// Settings under which everything happens soon.
pub(crate) fn quick() -> Config {
    Config { checkpoint_ms: 5, retention_check_ms: 5, flush_ms: 5, flushes_per_second: 10_000, ..Config::default() }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(quick())
    }

    pub(super) fn with(config: Config) -> Self {
        let memory = Arc::new(MemoryDisk::new());
        let (faulty, faults) = FaultyDisk::new(memory.clone());
        let watch = Arc::new(Watch::default());
        let disk: Arc<dyn Disk> = Arc::new(WatchedDisk { inner: Arc::new(faulty), watch: watch.clone() });
        let clock = Arc::new(TestClock { monotonic: SystemClock::new(), wall: AtomicI64::new(NOW.0) });
        let partitions = Arc::new(open(&disk, &clock, &config));
        let cluster = Cluster { id: ClusterId([9; 32]), public_key: [0; 32], join_token_hash: None, feature_level: 1 };
        let nodes = [ME, OTHER].map(|id| (id, node(id)));
        let image = Image {
            index: MetadataIndex(1),
            cluster: Some(cluster),
            voters: vec![ME],
            nodes: BTreeMap::from(nodes),
            ..Image::default()
        };
        Self { partitions, image, memory, faults, watch, clock, disk, config }
    }

    /// A bench with topic `t`, one partition, led here.
    pub(super) async fn with_topic(configs: &[(&str, &str)]) -> (Self, TopicPartition) {
        let mut bench = Self::new();
        let at = bench.create("t", 1, configs).await;
        (bench, at)
    }

    /// Makes a topic whose partitions are all led here; returns the first.
    pub(super) async fn create(&mut self, name: &str, partitions: u32, configs: &[(&str, &str)]) -> TopicPartition {
        let id = TopicId([u8::try_from(self.image.topics.len() + 1).expect("few topics"); 16]);
        let name = TopicName::new(name).expect("legal");
        let state = PartitionState {
            replicas: vec![ME],
            leader: Some(ME),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            isr: vec![ME],
            elr: vec![],
            ..PartitionState::default()
        };
        let topic = Topic {
            id,
            name: name.clone(),
            configs: configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            replication_factor: 1,
            partitions: vec![state; partitions as usize],
            changed: MetadataIndex(0),
        };
        self.image.topic_ids.insert(name, id);
        self.image.topics.insert(id, Arc::new(topic));
        self.changed(id).await;
        at(id, 0)
    }

    /// Changes the metadata of one partition.
    pub(super) async fn change(&mut self, at: TopicPartition, change: impl FnOnce(&mut PartitionState)) {
        let topic = self.image.topics.get_mut(&at.topic).expect("exists");
        change(&mut Arc::make_mut(topic).partitions[at.partition.0 as usize]);
        self.changed(at.topic).await;
    }

    pub(super) async fn configure(&mut self, at: TopicPartition, key: &str, value: &str) {
        let topic = self.image.topics.get_mut(&at.topic).expect("exists");
        Arc::make_mut(topic).configs.insert(key.to_owned(), value.to_owned());
        self.changed(at.topic).await;
    }

    /// The metadata moved on; the data path follows.
    async fn changed(&mut self, topic: TopicId) {
        self.image.index.0 += 1;
        let topic = self.image.topics.get_mut(&topic).expect("exists");
        Arc::make_mut(topic).changed = self.image.index;
        self.reconcile().await;
    }

    pub(super) async fn reconcile(&self) -> Reconciled {
        self.partitions.reconcile(Arc::new(self.image.clone()), ME).await
    }

    pub(super) async fn delete_topic(&mut self, at: TopicPartition) {
        self.forget_topic(at);
        self.reconcile().await;
    }

    /// As [`Self::delete_topic`], but the data path does not hear of it yet.
    pub(super) fn forget_topic(&mut self, at: TopicPartition) {
        let topic = self.image.topics.remove(&at.topic).expect("exists");
        self.image.topic_ids.remove(&topic.name);
        self.image.index.0 += 1;
    }

    /// Kills the process and starts another on the same disk.
    pub(super) async fn restart(&mut self) -> Reconciled {
        self.kill();
        self.start().await
    }

    pub(super) fn kill(&mut self) {
        let parked = Partitions::open(self.setup_of(Arc::new(MemoryDisk::new()))).expect("opens");
        drop(std::mem::replace(&mut self.partitions, Arc::new(parked)));
    }

    pub(super) async fn start(&mut self) -> Reconciled {
        self.partitions = Arc::new(open(&self.disk, &self.clock, &self.config));
        self.reconcile().await
    }

    fn setup_of(&self, disk: Arc<dyn Disk>) -> Setup {
        let dir = PathBuf::from("/data");
        let (config, clock) = (self.config.clone(), self.clock.clone());
        Setup { config, dir, disk, clock, shutdown: Shutdown::MemoryKept }
    }

    /// Produces values as one batch; the answer as it comes.
    pub(super) async fn produce(
        &self,
        at: TopicPartition,
        acks: Acks,
        values: &[&str],
    ) -> Result<Produced, (ErrorCode, String)> {
        produce(&self.partitions, at, acks, batch(values).bytes().clone()).await
    }

    /// Fetches all from an offset, without waiting.
    pub(super) async fn values(&self, at: TopicPartition, from: i64) -> Vec<String> {
        values(&self.fetch(at, from, 0).await.expect("served").records)
    }

    pub(super) async fn fetch(
        &self,
        at: TopicPartition,
        from: i64,
        max_wait_ms: u32,
    ) -> Result<Fetched, (ErrorCode, String)> {
        fetch(&self.partitions, at, from, max_wait_ms).await
    }

    pub(super) fn stats_of(&self, at: TopicPartition) -> PartitionStats {
        let stats = self.partitions.stats();
        stats.partitions.into_iter().find(|partition| partition.partition == at).expect("hosted")
    }
}

fn open(disk: &Arc<dyn Disk>, clock: &Arc<TestClock>, config: &Config) -> Partitions {
    let (disk, clock) = (disk.clone(), clock.clone());
    let setup =
        Setup { config: config.clone(), dir: PathBuf::from("/data"), disk, clock, shutdown: Shutdown::MemoryKept };
    Partitions::open(setup).expect("opens")
}

fn node(id: NodeId) -> Node {
    Node {
        id,
        peer_id: format!("peer-{id}"),
        directory: DirectoryId([0; 16]),
        epoch: BrokerEpoch(1),
        boot: BootId([0; 16]),
        addresses: vec![format!("/ip4/10.0.0.{id}/tcp/7300")],
        lanes: Vec::new(),
        kafka: BTreeMap::new(),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: String::new(),
        fenced: false,
        draining: false,
        features_max: 1,
        incarnation: [0; 16],
    }
}

pub(super) fn at(topic: TopicId, partition: u32) -> TopicPartition {
    TopicPartition { topic, partition: PartitionId(partition) }
}

pub(super) fn folder(at: TopicPartition) -> PathBuf {
    PathBuf::from("/data/logs").join(meta::folder(at))
}

pub(super) fn batch(values: &[&str]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    values.iter().for_each(|value| builder.push(NOW, None, Some(value.as_bytes()), &[]));
    builder.build()
}

pub(super) fn values(records: &Chunks) -> Vec<String> {
    let mut values = Vec::new();
    for batch in RecordBatch::split(records.clone().into_bytes()) {
        for record in batch.expect("whole batches").records().expect("decompresses") {
            let value = record.expect("decodes").value.expect("has one");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    values
}

pub(super) async fn produce(
    partitions: &Partitions,
    partition: TopicPartition,
    acks: Acks,
    records: Bytes,
) -> Result<Produced, (ErrorCode, String)> {
    let part = ProducePartition { partition, leader_epoch: None, records };
    let mut replies = partitions.produce(Produce { acks, timeout_ms: 10_000, partitions: vec![part] }).await;
    assert_eq!((replies.len(), replies[0].partition), (1, partition));
    replies.remove(0).result.map_err(|failure| (failure.code, failure.message))
}

pub(super) async fn fetch(
    partitions: &Partitions,
    partition: TopicPartition,
    from: i64,
    max_wait_ms: u32,
) -> Result<Fetched, (ErrorCode, String)> {
    let part = FetchPartition { partition, leader_epoch: None, offset: Offset(from), max_bytes: 1 << 20 };
    let fetch = Fetch { max_wait_ms, min_bytes: 1, max_bytes: 1 << 20, partitions: vec![part] };
    let mut replies = partitions.fetch(fetch).await;
    assert_eq!((replies.len(), replies[0].partition), (1, partition));
    replies.remove(0).result.map_err(|failure| (failure.code, failure.message))
}

/// Waits for something that threads of the data path do in their own time and tell nobody.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}
