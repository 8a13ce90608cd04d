use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rafka_broker::metadata::Delta;
use rafka_log::disk::{Crash, Disk, FaultyDisk, FileDisk, MemoryDisk};

use super::*;
use crate::image::ImageStore;
use crate::image::testing::entry;

const DATA: &str = "/data";
const ME: NodeId = NodeId(1);

fn config(node: NodeId) -> Config {
    Config { heartbeat_ms: 20, election_ms: (80, 160), ..Config::new(node) }
}

async fn open(disk: Arc<dyn Disk>) -> (RaftLog, Arc<ImageStore>) {
    open_with(&config(ME), disk).await.expect("opens")
}

async fn open_with(config: &Config, disk: Arc<dyn Disk>) -> Result<(RaftLog, Arc<ImageStore>), OpenError> {
    let images = Arc::new(ImageStore::default());
    let log = RaftLog::open(config, disk, Path::new(DATA), images.clone(), NoPeers).await?;
    Ok((log, images))
}

async fn leads(log: &RaftLog) {
    let mut leadership = log.leadership();
    leadership.wait_for(|now| now.leads).await.expect("runs");
    log.barrier().await.expect("passes");
    assert!(log.is_leader_ready());
}

async fn propose(log: &RaftLog, entries: std::ops::RangeInclusive<u64>) {
    for index in entries {
        assert_eq!(log.propose(&entry(index)).await, Ok(MetadataIndex(index)));
    }
}

#[tokio::test]
async fn a_single_voter_founds_decides_and_remembers() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    assert!(!RaftLog::exists(&*disk, Path::new(DATA), 0).expect("looks"));
    let (log, images) = open(disk.clone()).await;
    assert!(matches!(log.propose(&entry(1)).await, Err(ProposeError::NotLeader { .. })), "nobody leads yet");
    log.initialize(Member::default()).await.expect("begins");
    leads(&log).await;
    propose(&log, 1..=20).await;
    assert_eq!(images.index(), MetadataIndex(20));
    let image = images.current();
    log.shutdown().await;
    assert!(log.leadership().borrow().stopped);
    assert!(matches!(log.propose(&entry(21)).await, Err(ProposeError::Stopped(_))));

    assert!(RaftLog::exists(&*disk, Path::new(DATA), 0).expect("looks"));
    let (log, images) = open(disk).await;
    assert_eq!(*images.current(), *image, "the commit mark spares the wait");
    log.initialize(Member::default()).await.expect("has begun already");
    log.recovered().await.expect("recovers");
    leads(&log).await;
    propose(&log, 21..=21).await;
    assert_eq!(images.entries_since(MetadataIndex(20)).map(|entries| entries.len()), Some(1));
    log.shutdown().await;
}

#[tokio::test]
async fn an_entry_that_does_not_follow_is_refused_and_does_no_harm() {
    let (log, images) = open(Arc::new(MemoryDisk::new())).await;
    log.initialize(Member::default()).await.expect("begins");
    leads(&log).await;
    propose(&log, 1..=3).await;
    for index in [1, 3, 5] {
        assert!(matches!(log.propose(&entry(index)).await, Err(ProposeError::Refused(_))), "{index}");
    }
    let large = Delta::TopicConfigChanged {
        id: rafka_model::TopicId([0; 16]),
        key: "x".repeat(rafka_model::limits::ENTRY_BYTES_MAX),
        value: None,
    };
    let large = Entry { index: MetadataIndex(4), deltas: vec![large] };
    assert!(matches!(log.propose(&large).await, Err(ProposeError::Refused(_))));
    propose(&log, 4..=4).await;
    assert_eq!(images.index(), MetadataIndex(4));
    log.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_old_entries() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let config = Config { snapshot_entries: 1000, snapshot_entries_kept: 5, ..config(ME) };
    let (log, images) = open_with(&config, disk.clone()).await.expect("opens");
    log.initialize(Member::default()).await.expect("begins");
    leads(&log).await;
    propose(&log, 1..=400).await;
    log.snapshot().await.expect("writes");
    propose(&log, 401..=410).await;
    let image = images.current();
    log.shutdown().await;
    let (log, images) = open_with(&config, disk.clone()).await.expect("opens");
    log.recovered().await.expect("recovers");
    assert_eq!(*images.current(), *image);
    assert_eq!(images.entries_since(MetadataIndex(300)), None, "the entries are in the snapshot");
    assert_eq!(images.entries_since(MetadataIndex(405)).map(|entries| entries.len()), Some(5));
    leads(&log).await;
    propose(&log, 411..=411).await;
    log.shutdown().await;
}

#[tokio::test]
async fn a_damaged_snapshot_is_an_error_with_a_hint() {
    let disk = Arc::new(MemoryDisk::new());
    let (log, _) = open(disk.clone()).await;
    log.initialize(Member::default()).await.expect("begins");
    leads(&log).await;
    propose(&log, 1..=2).await;
    log.snapshot().await.expect("writes");
    log.shutdown().await;
    disk.flip(Path::new("/data/metadata/raft-0/snapshot"), 50, 1).expect("flips");
    let error = open_with(&config(ME), disk).await.map(drop).expect_err("damaged").to_string();
    assert!(error.contains("snapshot is damaged") && error.contains("restore"), "{error}");
}

/// Claim: what `propose` acknowledged is applied again after a power cut, however much of the rest is lost.
#[tokio::test]
async fn acknowledged_entries_survive_a_power_cut() {
    for seed in 0..8 {
        let disk = Arc::new(MemoryDisk::new());
        let (log, images) = open(disk.clone()).await;
        log.initialize(Member::default()).await.expect("begins");
        leads(&log).await;
        propose(&log, 1..=5).await;
        let (image, after): (_, Arc<dyn Disk>) = (images.current(), Arc::new(disk.crash(Crash::Power { seed })));
        log.shutdown().await;
        let (log, images) = open(after).await;
        log.recovered().await.expect("recovers");
        assert_eq!(*images.current(), *image, "seed {seed}");
        leads(&log).await;
        propose(&log, 6..=6).await;
        log.shutdown().await;
    }
}

#[tokio::test]
async fn a_disk_that_fails_stops_the_log_and_says_so() {
    let (disk, faults) = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let (log, images) = open(Arc::new(disk)).await;
    log.initialize(Member::default()).await.expect("begins");
    leads(&log).await;
    propose(&log, 1..=1).await;
    faults.set_fail_syncs(true);
    assert!(matches!(log.propose(&entry(2)).await, Err(ProposeError::OutcomeUnknown(_))));
    log.leadership().wait_for(|now| now.stopped).await.expect("is told");
    assert_eq!(images.index(), MetadataIndex(1));
    log.shutdown().await;
}

#[tokio::test]
async fn a_full_disk_delays_the_log_until_there_is_space() {
    let (disk, faults) = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let (log, images) = open(Arc::new(disk)).await;
    log.initialize(Member::default()).await.expect("begins");
    leads(&log).await;
    propose(&log, 1..=1).await;
    faults.set_free_bytes(Some(10));
    let waits = tokio::spawn({
        let log = log.clone();
        async move { log.propose(&entry(2)).await }
    });
    while !log.is_stalled() {
        tokio::task::yield_now().await;
    }
    assert_eq!(images.index(), MetadataIndex(1));
    faults.set_free_bytes(None);
    assert_eq!(waits.await.expect("runs"), Ok(MetadataIndex(2)));
    log.shutdown().await;
}

#[tokio::test]
async fn the_log_works_on_files() {
    let dir = tempfile::tempdir().expect("creates");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(dir.path()));
    for round in 0..2 {
        let images = Arc::new(ImageStore::default());
        let log = RaftLog::open(&config(ME), disk.clone(), dir.path(), images.clone(), NoPeers).await.expect("opens");
        log.initialize(Member::default()).await.expect("begins");
        leads(&log).await;
        propose(&log, 3 * round + 1..=3 * round + 3).await;
        log.snapshot().await.expect("writes");
        log.shutdown().await;
    }
}

/// Voters in one process; calls go straight to the other's [`RaftLog::serve`].
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<BTreeMap<NodeId, RaftLog>>>);

impl Wires {
    fn at(&self, node: NodeId) -> Option<RaftLog> {
        self.0.lock().get(&node).cloned()
    }

    async fn open(&self, node: NodeId) -> (RaftLog, Arc<ImageStore>) {
        let (disk, images) = (Arc::new(MemoryDisk::new()), Arc::new(ImageStore::default()));
        let log = RaftLog::open(&config(node), disk, Path::new(DATA), images.clone(), self.clone()).await;
        let log = log.expect("opens");
        self.0.lock().insert(node, log.clone());
        (log, images)
    }
}

impl Transport for Wires {
    async fn call(
        &self,
        to: NodeId,
        member: &Member,
        rpc: Rpc,
        request: Bytes,
        body: Bytes,
        _: std::time::Duration,
    ) -> Result<Bytes, TransportError> {
        assert_eq!(member.peer_id, format!("peer-{to}"));
        let Some(log) = self.at(to) else { return Err(TransportError::Unreachable("gone".to_owned())) };
        log.serve(rpc, request, body).await.map_err(|error| TransportError::Failed(error.to_string()))
    }
}

fn member(node: NodeId) -> Member {
    Member { peer_id: format!("peer-{node}"), addresses: vec![] }
}

/// Claim: the transport is all that more voters need: one becomes three, a lost leader is replaced, nothing is lost, and
/// one that was away catches up by a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_voters_outlive_their_leader() {
    let wires = Wires::default();
    let (first, _) = wires.open(ME).await;
    first.initialize(member(ME)).await.expect("begins");
    leads(&first).await;
    propose(&first, 1..=30).await;
    first.snapshot().await.expect("writes");
    let (second, third) = (wires.open(NodeId(2)).await, wires.open(NodeId(3)).await);
    let voters = [1, 2, 3].map(|n| (NodeId(n), member(NodeId(n))));
    first.change_voters(voters.into()).await.expect("changes");
    propose(&first, 31..=35).await;
    wires.0.lock().remove(&ME);
    first.shutdown().await;
    let (leader, images) = loop {
        let both = [&second, &third];
        let found = both.into_iter().find(|(log, _)| log.leadership().borrow().leads);
        match found {
            Some((log, images)) if log.barrier().await.is_ok() => break (log, images),
            _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    assert_eq!(images.index(), MetadataIndex(35), "everything acknowledged is there behind the barrier");
    propose(leader, 36..=40).await;
    assert_eq!(second.1.wait_for(MetadataIndex(40)).await, third.1.wait_for(MetadataIndex(40)).await);
    assert!(leader.serve(Rpc::Append, Bytes::from_static(b"\xff"), Bytes::new()).await.is_err());
    second.0.shutdown().await;
    third.0.shutdown().await;
}
