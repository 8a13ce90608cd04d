//! Coordinators on a real data path, with the controller's own decisions and a disk that can be watched.

mod ends;
mod failing;
mod serving;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rafka_broker::controller::{self, Answer, Command, Controller, Registered};
use rafka_broker::group::request::{Commit, CommittedOffset, OffsetToCommit, OffsetsAsked};
use rafka_broker::metadata::{Delta, Entry, PartitionState};
use rafka_broker::request::{FoundOffset, ListOffsets, NewTopic, PartitionReply};
use rafka_log::Shutdown;
use rafka_log::disk::{Disk, Faults, FaultyDisk, MemoryDisk};
use rafka_model::{LeaderEpoch, MetadataIndex, Monotonic, NodeId, PartitionEpoch, TopicId};
use tokio::task::AbortHandle;

use super::*;
use crate::image::testing::registration;
use crate::partitions::tests::{Watch, WatchedDisk, eventually, quick};
use crate::partitions::{Setup as DataPath, SystemClock};

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

/// What a test has the controller answer instead of what it would.
type Instead = Box<dyn FnMut(&Admin) -> Option<Failure> + Send>;

/// What other nodes answer; `None` is nothing at all.
type Others = Box<dyn FnMut(NodeId, ListOffsets) -> Option<Result<Vec<PartitionReply<FoundOffset>>, Failure>> + Send>;

/// A node without a network: controller, data path, coordinators.
struct Bench {
    groups: Groups,
    partitions: Arc<Partitions>,
    images: Arc<ImageStore>,
    faults: Arc<Faults>,
    watch: Arc<Watch>,
    disk: Arc<dyn Disk>,
    /// Changes that the controller was asked for.
    asked: Arc<AtomicU64>,
    instead: Arc<Mutex<Option<Instead>>>,
    others: Arc<Mutex<Option<Others>>>,
    config: Config,
    tasks: Vec<AbortHandle>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A failed test ends, and does not wait for a disk that it holds back.
        self.watch.close_gate(false);
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Few partitions, so that tests need not wait for fifty.
fn config() -> Config {
    Config { topic_partitions: 3, ..Config::default() }
}

/// Two nodes in service, and what was decided of them.
fn cluster() -> ImageStore {
    let images = ImageStore::default();
    let now = Monotonic::default();
    let mut controller = Controller::new(Image::default(), controller::Config::default(), now);
    let founder = registration(1);
    let found = Command::Found { public_key: [7; 32], join_token_hash: None, feature_level: 1, founder };
    for command in [found, Command::Register(registration(2))] {
        let Answer::Registered(Registered { node, epoch }) = controller.evaluate(command, now).answer else {
            panic!("registered");
        };
        // The second owns nothing: topics are placed on the first.
        if node == ME {
            controller.heartbeat(node, epoch, MetadataIndex(epoch.0), now).expect("registered");
        }
    }
    apply(&images, &mut controller);
    images
}

fn apply(images: &ImageStore, controller: &mut Controller) {
    for entry in controller.take_entries() {
        images.apply(entry).expect("follows");
    }
}

fn decide(images: &ImageStore, request: Admin) -> Result<AdminReply, Failure> {
    let now = Monotonic::default();
    let mut controller = Controller::new((*images.current()).clone(), controller::Config::default(), now);
    let seed = [u8::try_from(images.index().0).expect("few changes"); 32];
    let answer = controller.evaluate(Command::Admin { request, seed }, now).answer;
    apply(images, &mut controller);
    match answer {
        Answer::Admin(reply) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

impl Bench {
    async fn new() -> Self {
        Self::with(config()).await
    }

    async fn with(config: Config) -> Self {
        let (faulty, faults) = FaultyDisk::new(Arc::new(MemoryDisk::new()));
        let watch = Arc::new(Watch::default());
        let disk: Arc<dyn Disk> = Arc::new(WatchedDisk { inner: Arc::new(faulty), watch: watch.clone() });
        Self::on(disk, faults, watch, Arc::new(cluster()), config).await
    }

    async fn on(
        disk: Arc<dyn Disk>,
        faults: Arc<Faults>,
        watch: Arc<Watch>,
        images: Arc<ImageStore>,
        config: Config,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let partitions = Partitions::open(DataPath {
            config: quick(),
            dir: PathBuf::from("/data"),
            disk: disk.clone(),
            clock: clock.clone(),
            shutdown: Shutdown::MemoryKept,
        });
        let partitions = Arc::new(partitions.expect("opens"));
        let (asked, instead) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None::<Instead>)));
        let change = {
            let (images, asked, instead) = (images.clone(), asked.clone(), instead.clone());
            move |request: Admin| -> BoxFuture<'static, Result<AdminReply, Failure>> {
                asked.fetch_add(1, Ordering::AcqRel);
                let refused = instead.lock().as_mut().and_then(|instead| instead(&request));
                let images = images.clone();
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    refused.map_or_else(|| decide(&images, request), Err)
                })
            }
        };
        let others = Arc::new(Mutex::new(None::<Others>));
        let ask_leader = {
            let others = others.clone();
            move |node, request| -> BoxFuture<'static, _> {
                let nobody = || Some(Err(Failure::new(ErrorCode::NotReady, "nobody is there")));
                match others.lock().as_mut().map_or_else(nobody, |others| others(node, request)) {
                    Some(answer) => Box::pin(async move { answer }),
                    None => Box::pin(std::future::pending()),
                }
            }
        };
        let groups = Groups::new(Setup {
            config: config.clone(),
            images: images.clone(),
            partitions: partitions.clone(),
            clock,
            change: Box::new(change),
            ask_leader: Box::new(ask_leader),
        });
        let follow = {
            let (images, partitions) = (images.clone(), partitions.clone());
            async move {
                let mut changes = images.subscribe();
                loop {
                    let image = changes.borrow_and_update().clone();
                    partitions.reconcile(image, ME).await;
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            }
        };
        let tasks = vec![tokio::spawn(follow).abort_handle(), tokio::spawn(groups.clone().run()).abort_handle()];
        partitions.reconciled(images.index()).await;
        Self { groups, partitions, images, faults, watch, disk, asked, instead, others, config, tasks }
    }

    /// Kills the node and starts another process on its disk.
    async fn restart(self) -> Self {
        self.tasks.iter().for_each(AbortHandle::abort);
        let (disk, faults, watch) = (self.disk.clone(), self.faults.clone(), self.watch.clone());
        let (images, config) = (self.images.clone(), self.config.clone());
        drop(self);
        Self::on(disk, faults, watch, images, config).await
    }

    /// Makes the offsets topic, and waits until its coordinators answer.
    async fn ready(&self) -> TopicId {
        self.groups.coordinator("g").await.expect("made");
        let ready = u64::from(self.config.topic_partitions);
        eventually("every coordinator answers", || self.groups.sample(0).ready == ready).await;
        self.topic()
    }

    fn topic(&self) -> TopicId {
        topic::find(&self.images.current()).expect("made").id
    }

    /// Where the group is.
    fn at(&self, group: &str) -> TopicPartition {
        let partition = PartitionId(partition_of(group, self.config.topic_partitions));
        TopicPartition { topic: self.topic(), partition }
    }

    /// Another node leads the partition from now on, or this one again.
    async fn elect(&self, at: TopicPartition, leader: Option<NodeId>) {
        let image = self.images.current();
        let before = image.partition(at).expect("exists").clone();
        let state = PartitionState {
            leader,
            leader_epoch: LeaderEpoch(before.leader_epoch.0 + 1),
            partition_epoch: PartitionEpoch(before.partition_epoch.0 + 1),
            ..before
        };
        let delta = Delta::PartitionChanged { partition: at, state };
        let index = self.images.apply(Entry { index: MetadataIndex(image.index.0 + 1), deltas: vec![delta] });
        self.partitions.reconciled(index.expect("applied")).await;
    }

    async fn commit(&self, group: &str, offset: i64) -> Result<(), Failure> {
        let reply = self.groups.ask(commit(group, 1, offset)).await?;
        assert_eq!(reply, GroupReply::Commit(vec![Ok(())]));
        Ok(())
    }

    /// The offset that the group has stored; -1 without one.
    async fn offset(&self, group: &str) -> Result<i64, Failure> {
        match self.groups.ask(offsets(group)).await? {
            GroupReply::Offsets(found) => Ok(found[0].offset),
            other => panic!("{other:?}"),
        }
    }

    /// As [`Self::offset`], once the coordinator answers.
    async fn found(&self, group: &str) -> i64 {
        loop {
            match self.offset(group).await {
                Ok(offset) => return offset,
                Err(failure) => assert!(failure.code.is_retriable(), "{failure}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn records(&self) -> u64 {
        self.partitions.totals().produced_records
    }
}

/// A commit of somebody who is no member, of the first partitions of a topic.
fn commit(group: &str, partitions: u32, offset: i64) -> GroupRequest {
    let one = |partition| OffsetToCommit {
        topic: "orders".to_owned(),
        partition: PartitionId(partition),
        offset,
        leader_epoch: -1,
        ..OffsetToCommit::default()
    };
    let offsets = (0..partitions).map(one).collect();
    GroupRequest::Commit(Commit { group: group.to_owned(), generation: -1, offsets, ..Commit::default() })
}

fn offsets(group: &str) -> GroupRequest {
    let topics = Some(vec![("orders".to_owned(), vec![PartitionId(0)])]);
    GroupRequest::Offsets(OffsetsAsked { group: group.to_owned(), member_epoch: -1, topics, ..OffsetsAsked::default() })
}

fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> ErrorCode {
    result.expect_err("refused").code
}
