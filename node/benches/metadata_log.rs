//! Proposals a second of the metadata log on files, one voter, every entry synced before it is answered.
//!
//! `cargo bench -p rafka-node --bench metadata_log [-- DIRECTORY]` (default: the temporary directory; put it on the disk
//! that is to be measured). The same bytes are written and synced one by one without consensus in the same run, as the
//! floor that one proposer can reach.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use rafka_broker::controller::{Command, Config as ControllerConfig, Controller, Registration};
use rafka_broker::metadata::{Delta, Entry, Image, Role, encode_entry};
use rafka_broker::request::{Admin, NewTopic};
use rafka_log::disk::{Disk, FileDisk};
use rafka_model::{BootId, DirectoryId, MetadataIndex, Monotonic, NodeId};
use rafka_node::consensus::{Config, Member, MetadataLog, NoPeers, RaftLog};
use rafka_node::controller::{ClusterKey, Driver, Founding};
use rafka_node::image::ImageStore;
use tokio_util::sync::CancellationToken;

const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let root = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let root = root.map_or_else(std::env::temp_dir, Into::into);
    let dir = root.join(format!("rafka-bench-{}", std::process::id()));
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(&dir));
    disk.create_dir_all(&dir).expect("the directory can be made");
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    println!("directory {}", dir.display());
    floor(&*disk, &dir);
    for in_flight in [1, 64, 512] {
        runtime.block_on(proposals(disk.clone(), &dir.join(format!("log-{in_flight}")), in_flight));
    }
    for callers in [1, 64, 512] {
        runtime.block_on(commands(disk.clone(), &dir.join(format!("controller-{callers}")), callers));
    }
    runtime.block_on(restart(disk.clone(), &dir.join("log-512")));
    disk.remove_dir_all(&dir).expect("the directory can be removed");
}

fn registration() -> Registration {
    Registration {
        peer_id: "bench".to_owned(),
        directory: DirectoryId([1; 16]),
        boot: BootId([1; 16]),
        incarnation: [1; 16],
        addresses: vec![],
        lanes: Vec::new(),
        kafka: Default::default(),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: String::new(),
        features_max: 1,
        unclean: false,
    }
}

/// Entry 1 founds the cluster, the others fence and unfence its node.
fn entry(index: u64) -> Entry {
    let id = NodeId(1);
    let deltas = match index {
        1 => {
            let now = Monotonic::default();
            let mut controller = Controller::new(Image::default(), ControllerConfig::default(), now);
            let (public_key, founder) = ([7; 32], registration());
            controller.evaluate(Command::Found { public_key, join_token_hash: None, feature_level: 1, founder }, now);
            controller.take_entries().remove(0).deltas
        }
        _ if index.is_multiple_of(2) => vec![Delta::NodeUnfenced { id }],
        _ => vec![Delta::NodeFenced { id }],
    };
    Entry { index: MetadataIndex(index), deltas }
}

fn report(what: &str, count: u64, took: Duration, mut each: Vec<Duration>) {
    each.sort_unstable();
    let at = |percent: usize| each.get(each.len() * percent / 100).copied().unwrap_or_default();
    let rate = count as f64 / took.as_secs_f64();
    println!("{what:<44} {rate:>9.0}/s   p50 {:>9.1?}   p99 {:>9.1?}", at(50), at(99));
}

fn floor(disk: &dyn Disk, dir: &Path) {
    let file = disk.create(&dir.join("floor")).expect("can be made");
    let bytes = encode_entry(&entry(2)).expect("encodes");
    let (began, mut each, mut at) = (Instant::now(), Vec::new(), 0);
    while began.elapsed() < ROUND {
        let one = Instant::now();
        file.write_at(&[&[0; 48], &bytes], at).expect("writes");
        file.sync_data().expect("syncs");
        at += 48 + bytes.len() as u64;
        each.push(one.elapsed());
    }
    report("write and sync of the same bytes", each.len() as u64, began.elapsed(), each);
}

async fn open(disk: Arc<dyn Disk>, dir: &Path) -> (RaftLog, Arc<ImageStore>) {
    let images = Arc::new(ImageStore::default());
    let log = RaftLog::open(&Config::new(NodeId(1)), disk, dir, images.clone(), NoPeers).await.expect("opens");
    log.initialize(Member::default()).await.expect("begins");
    log.leadership().wait_for(|now| now.leads).await.expect("leads");
    log.barrier().await.expect("passes");
    (log, images)
}

async fn proposals(disk: Arc<dyn Disk>, dir: &Path, in_flight: usize) {
    let (log, images) = open(disk, dir).await;
    let (began, mut each) = (Instant::now(), Vec::new());
    let indexes = futures::stream::iter(1..).take_while(|_| std::future::ready(began.elapsed() < ROUND));
    let mut applied = indexes
        .map(|index| {
            let log = &log;
            async move {
                let one = Instant::now();
                // Proposals must be sent in order, which tokio's budget of a task would upset.
                tokio::task::unconstrained(log.propose(&entry(index))).await.expect("applies");
                one.elapsed()
            }
        })
        .buffered(in_flight);
    while let Some(took) = applied.next().await {
        each.push(took);
    }
    drop(applied);
    report(&format!("metadata log, {in_flight} proposals in flight"), images.index().0, began.elapsed(), each);
    log.shutdown().await;
}

async fn commands(disk: Arc<dyn Disk>, dir: &Path, callers: usize) {
    let (log, images) = open(disk, dir).await;
    let key = Arc::new(ClusterKey::from_secret(&[7; 32]));
    let (handle, driver) = Driver::new(log.clone(), images.clone(), key, ControllerConfig::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(driver.run(stop.clone()));
    handle.until_active().await;
    let founder = handle.found(Founding { join_token_hash: None, founder: registration() }).await.expect("founds");
    handle.heartbeat(founder.node, founder.epoch, images.index()).await.expect("is heard");
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers).map(|caller| tokio::spawn(create(handle.clone(), caller, began))).collect();
    let mut each = Vec::new();
    for task in tasks {
        each.extend(task.await.expect("runs"));
    }
    let (count, took) = (each.len() as u64, began.elapsed());
    let entries = images.index().0;
    report(&format!("topics created, {callers} callers, {entries} entries"), count, took, each);
    stop.cancel();
    task.await.expect("ends");
    log.shutdown().await;
}

async fn create(handle: rafka_node::controller::Handle, caller: usize, began: Instant) -> Vec<Duration> {
    let mut each = Vec::new();
    while began.elapsed() < ROUND {
        let one = Instant::now();
        let name = format!("t{caller}-{}", each.len());
        let topic = NewTopic { name, partitions: Some(1), ..NewTopic::default() };
        handle.admin(Admin::CreateTopics { topics: vec![topic], validate_only: false }).await.expect("creates");
        each.push(one.elapsed());
    }
    each
}

async fn restart(disk: Arc<dyn Disk>, dir: &Path) {
    let began = Instant::now();
    let (log, images) = open(disk, dir).await;
    let index = images.index();
    println!("restart at entry {index}: leads again after {:.1?}", began.elapsed());
    log.shutdown().await;
}
