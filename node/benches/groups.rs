//! Coordinators of groups without the network: commits of offsets a second, each safe on disk before it is answered,
//! and the time that a coordinator of many offsets takes to read them after a restart.
//!
//! `cargo bench -p rafka-node --bench groups [-- <seconds> <offsets> <directory>]`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rafka_broker::ErrorCode;
use rafka_broker::group::request::{Commit, OffsetToCommit};
use rafka_broker::group::{GroupReply, GroupRequest, OFFSETS_TOPIC};
use rafka_broker::metadata::{Cluster, Image, PartitionState, Topic};
use rafka_broker::{Failure, group};
use rafka_log::Shutdown;
use rafka_log::disk::FileDisk;
use rafka_model::{ClusterId, LeaderEpoch, MetadataIndex, NodeId, PartitionEpoch, PartitionId, TopicId, TopicName};
use rafka_node::groups::{self, Groups};
use rafka_node::image::ImageStore;
use rafka_node::partitions::{Clock, Config, Partitions, SystemClock};
use tokio::task::JoinSet;

const ME: NodeId = NodeId(1);
/// Groups that commit at once.
const GROUPS: usize = 100;
/// Offsets of one commit, when many are to be stored.
const TOGETHER: u32 = 1000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    let offsets = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let place = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for partitions in [50, 1] {
            for under_way in [1, 8, 64] {
                commits(&place, partitions, under_way, Duration::from_secs(seconds)).await;
            }
        }
        restart(&place, offsets).await;
    });
}

/// A hundred groups commit one offset again and again, each with so many commits under way.
async fn commits(place: &Path, partitions: u32, under_way: usize, time: Duration) {
    let dir = tempfile::tempdir_in(place).expect("a temporary directory");
    let node = Node::open(dir.path(), partitions).await;
    let (done, slowest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    let began = Instant::now();
    for number in 0..GROUPS * under_way {
        let (groups, done, slowest) = (node.groups.clone(), done.clone(), slowest.clone());
        clients.spawn(async move {
            let group = format!("group {}", number % GROUPS);
            for offset in 0.. {
                let sent = Instant::now();
                store(&groups, commit(&group, 1, offset)).await;
                slowest.fetch_max(sent.elapsed().as_micros() as u64, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
                if began.elapsed() > time {
                    break;
                }
            }
        });
    }
    clients.join_all().await;
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    let (mean_ms, slowest_ms) =
        ((GROUPS * under_way) as f64 / rate * 1e3, slowest.load(Ordering::Relaxed) as f64 / 1e3);
    let batches = node.partitions.totals().produced_batches as f64;
    let together = done.load(Ordering::Relaxed) as f64 / batches;
    println!(
        "{partitions:2} partitions, {GROUPS} groups with {under_way:2} commits under way each: {rate:7.0} commits/s, \
         {mean_ms:6.2} ms on average, {slowest_ms:6.1} ms the slowest, {together:5.1} in one batch"
    );
}

/// One coordinator stores many offsets; another process reads them.
async fn restart(place: &Path, offsets: u32) {
    let dir = tempfile::tempdir_in(place).expect("a temporary directory");
    let node = Node::open(dir.path(), 1).await;
    let began = Instant::now();
    for number in 0..offsets.div_ceil(TOGETHER) {
        store(&node.groups, commit(&format!("group {number}"), TOGETHER, 1)).await;
    }
    let stored = began.elapsed().as_secs_f64();
    node.partitions.shutdown().await.expect("flushed");
    drop(node);
    let node = Node::open(dir.path(), 1).await;
    let sample = node.groups.sample(0);
    println!("{} offsets stored in {stored:.1} s, loaded in {} ms", sample.offsets, sample.load_last_ms);
}

async fn store(groups: &Groups, request: GroupRequest) {
    match groups.ask(request).await {
        Ok(GroupReply::Commit(results)) => assert!(results.iter().all(Result::is_ok)),
        other => panic!("{other:?}"),
    }
}

fn commit(group: &str, partitions: u32, offset: i64) -> GroupRequest {
    let one = |partition| OffsetToCommit {
        topic: "orders".to_owned(),
        partition: PartitionId(partition),
        offset,
        leader_epoch: 0,
        ..OffsetToCommit::default()
    };
    let offsets = (0..partitions).map(one).collect();
    GroupRequest::Commit(Commit { group: group.to_owned(), generation: -1, offsets, ..Commit::default() })
}

/// Data path and coordinators of a node.
struct Node {
    partitions: Arc<Partitions>,
    groups: Groups,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Node {
    /// Returns once every coordinator answers.
    async fn open(dir: &Path, count: u32) -> Self {
        let images = Arc::new(ImageStore::new(image(count)));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let setup = rafka_node::partitions::Setup {
            config: Config::default(),
            dir: dir.to_owned(),
            disk: Arc::new(FileDisk::new(dir)),
            clock: clock.clone(),
            shutdown: Shutdown::MemoryKept,
        };
        let partitions = Arc::new(Partitions::open(setup).expect("opens"));
        partitions.reconcile(images.current(), ME).await;
        let refused = || Err(Failure::new(ErrorCode::ControllerUnavailable, "there is no controller"));
        let groups = Groups::new(groups::Setup {
            config: groups::Config { coordinator: group::Config::default(), ..groups::Config::default() },
            images,
            partitions: partitions.clone(),
            clock,
            change: Box::new(move |_| Box::pin(async move { refused() })),
            ask_leader: Box::new(|_, _| {
                Box::pin(async { Err(Failure::new(ErrorCode::NotReady, "there is no other")) })
            }),
        });
        let running = tokio::spawn(groups.clone().run());
        while groups.sample(0).ready < u64::from(count) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { partitions, groups, running }
    }
}

/// A node that leads all of the offsets topic, and the topic of which offsets are committed.
fn image(count: u32) -> Image {
    let fsync = [("cleanup.policy", "compact"), ("durability", "fsync"), ("max.message.bytes", "67108864")];
    let mut image = Image {
        index: MetadataIndex(1),
        cluster: Some(Cluster { id: ClusterId([9; 32]), public_key: [0; 32], join_token_hash: None, feature_level: 1 }),
        voters: vec![ME],
        ..Image::default()
    };
    for (id, name, partitions, configs) in [(1, OFFSETS_TOPIC, count, &fsync[..]), (2, "orders", 1, &[])] {
        let state = PartitionState {
            replicas: vec![ME],
            leader: Some(ME),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            isr: vec![ME],
            elr: vec![],
            ..PartitionState::default()
        };
        let (id, name) = (TopicId([id; 16]), TopicName::new(name).expect("legal"));
        let topic = Topic {
            id,
            name: name.clone(),
            configs: configs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            replication_factor: 1,
            partitions: vec![state; partitions as usize],
            changed: MetadataIndex(1),
        };
        image.topic_ids.insert(name, id);
        image.topics.insert(id, Arc::new(topic));
    }
    image
}
