use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rafka_broker::controller::Config;
use rafka_broker::metadata::{Delta, Entry};
use rafka_broker::request::{Admin, AdminReply, NewTopic};
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::{Key, SignedRecord, Verifier};
use rafka_log::disk::MemoryDisk;
use rafka_model::limits::CONTROLLER_QUEUE_MAX;
use rafka_model::{MetadataIndex, NodeId, TopicName};
use rafka_protocols::certificate::Certificate;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::consensus::{self, Leadership, Member, MetadataLog, NoPeers, ProposeError, RaftLog};
use crate::image::ImageStore;
use crate::image::testing::registration;

const SECRET: [u8; 32] = [9; 32];

/// What becomes of the next proposals.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Fate {
    #[default]
    Applied,
    /// Kept waiting until the fate changes.
    Held,
    Refused,
    /// Applied, but the answer is lost.
    AppliedUnknown,
    /// Lost, and nobody knows.
    LostUnknown,
}

/// A metadata log that does as it is told.
#[derive(Clone)]
struct FakeLog {
    images: Arc<ImageStore>,
    leadership: watch::Sender<Leadership>,
    fate: Arc<Mutex<Fate>>,
    turned: Arc<Notify>,
    proposed: Arc<Mutex<Vec<Entry>>>,
}

impl FakeLog {
    fn new() -> Self {
        let images = Arc::new(ImageStore::default());
        let log = Self {
            images,
            leadership: watch::Sender::new(Leadership::default()),
            fate: Arc::default(),
            turned: Arc::default(),
            proposed: Arc::default(),
        };
        log.lead(true);
        log
    }

    fn lead(&self, leads: bool) {
        self.leadership.send_modify(|now| *now = Leadership { term: now.term + 1, leads, ..*now });
    }

    fn fate(&self, fate: Fate) {
        *self.fate.lock() = fate;
        self.turned.notify_waiters();
    }

    fn entries(&self) -> usize {
        self.proposed.lock().len()
    }
}

impl MetadataLog for FakeLog {
    async fn propose(&self, entry: &Entry) -> Result<MetadataIndex, ProposeError> {
        self.proposed.lock().push(entry.clone());
        let unknown = || ProposeError::OutcomeUnknown("told so".to_owned());
        let apply = || self.images.apply(entry.clone()).map_err(|error| ProposeError::Refused(error.to_string()));
        loop {
            let turned = self.turned.notified();
            let fate = *self.fate.lock();
            match fate {
                Fate::Applied => return apply(),
                Fate::Held => turned.await,
                Fate::Refused => return Err(ProposeError::Refused("told so".to_owned())),
                Fate::AppliedUnknown => return apply().and_then(|_| Err(unknown())),
                Fate::LostUnknown => return Err(unknown()),
            }
        }
    }

    async fn barrier(&self) -> Result<(), ProposeError> {
        if self.is_leader_ready() { Ok(()) } else { Err(ProposeError::NotLeader { leader: None }) }
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn is_leader_ready(&self) -> bool {
        self.leadership.borrow().leads
    }

    async fn change_voters(&self, _: BTreeMap<NodeId, Member>) -> Result<(), ProposeError> {
        Ok(())
    }

    async fn snapshot(&self) -> Result<(), ProposeError> {
        Ok(())
    }
}

struct Fixture<L> {
    log: L,
    images: Arc<ImageStore>,
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start<L: MetadataLog>(log: L, images: Arc<ImageStore>, config: Config) -> Fixture<L> {
    let key = Arc::new(ClusterKey::from_secret(&SECRET));
    let (handle, driver) = Driver::new(log.clone(), images.clone(), key, config);
    let stop = CancellationToken::new();
    let task = tokio::spawn(driver.run(stop.clone()));
    Fixture { log, images, handle, stop, task }
}

/// A founded cluster on a fake log; node 1 is registered and out of service.
async fn founded(config: Config) -> Fixture<FakeLog> {
    let log = FakeLog::new();
    let fixture = start(log.clone(), log.images.clone(), config);
    fixture.handle.until_active().await;
    let founding = Founding { join_token_hash: None, founder: registration(1) };
    let joined = fixture.handle.found(founding).await.expect("founds");
    assert_eq!((joined.node, joined.epoch.0), (NodeId(1), 1));
    fixture
}

impl<L> Fixture<L> {
    async fn beat(&self, node: &Joined) -> Result<bool, Failure> {
        let applied = self.images.index();
        self.handle.heartbeat(node.node, node.epoch, applied).await.map(|heard| heard.fenced)
    }

    async fn join(&self, n: u8) -> Joined {
        let joined = self.handle.register(registration(n)).await.expect("registers");
        assert_eq!(self.beat(&joined).await, Ok(false));
        joined
    }

    async fn create(&self, name: &str, partitions: u32) -> Result<MetadataIndex, Failure> {
        let topic = NewTopic { name: name.to_owned(), partitions: Some(partitions), ..NewTopic::default() };
        self.change(Admin::CreateTopics { topics: vec![topic], validate_only: false }).await
    }

    async fn delete(&self, name: &str) -> Result<MetadataIndex, Failure> {
        self.change(Admin::DeleteTopics { names: vec![name.to_owned()], validate_only: false }).await
    }

    async fn change(&self, request: Admin) -> Result<MetadataIndex, Failure> {
        match self.handle.admin(request).await? {
            AdminReply::Topics(mut replies) => replies.remove(0).result.map(|(_, index)| index),
            other => panic!("{other:?}"),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("ends");
    }
}

fn code<T>(result: Result<T, Failure>) -> Option<ErrorCode> {
    result.err().map(|failure| failure.code)
}

/// Polls once: what the callee does before it waits has happened then.
async fn begun<F: Future>(future: &mut std::pin::Pin<Box<F>>) {
    assert!(futures::poll!(future.as_mut()).is_pending());
}

#[tokio::test]
async fn over_the_real_log_a_cluster_is_founded_joined_and_used_and_survives_a_restart() {
    let disk = Arc::new(MemoryDisk::new());
    let data = Path::new("/data");
    let config = consensus::Config::new(NodeId(1));
    let mut known = None;
    for round in 0..2 {
        let images = Arc::new(ImageStore::default());
        let log = RaftLog::open(&config, disk.clone(), data, images.clone(), NoPeers).await.expect("opens");
        log.initialize(Member::default()).await.expect("begins");
        let fixture = start(log.clone(), images, Config::default());
        fixture.handle.until_active().await;
        if round == 0 {
            let founding = Founding { join_token_hash: None, founder: registration(1) };
            let founder = fixture.handle.found(founding.clone()).await.expect("founds");
            assert_eq!(fixture.beat(&founder).await, Ok(false));
            assert_eq!(code(fixture.handle.found(founding).await), Some(ErrorCode::InvalidRequest));
            fixture.join(2).await;
            let index = fixture.create("orders", 12).await.expect("creates");
            assert_eq!(fixture.images.index(), index, "an answer comes after its entry is applied");
            known = Some(fixture.images.current());
        }
        let image = fixture.images.current();
        assert_eq!(Some(&image), known.as_ref());
        let again = fixture.handle.register(registration(2)).await.expect("registers");
        assert_eq!(again.epoch, image.nodes[&again.node].epoch, "the same process, the same registration");
        fixture.end().await;
        log.shutdown().await;
    }
}

#[tokio::test]
async fn certificates_are_signed_by_the_cluster_key() {
    let fixture = founded(Config::default()).await;
    let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let mut joiner = registration(2);
    joiner.peer_id = peer.to_owned();
    let joined = fixture.handle.register(joiner).await.expect("registers");
    let key = ClusterKey::from_secret(&SECRET).public_key();
    let certificate = Certificate::verify(&joined.certificate, &key, &peer.parse().expect("a peer id"), 0);
    let certificate = certificate.expect("holds");
    assert_eq!((certificate.node, certificate.serial), (Some(joined.node), joined.epoch.0));
    fixture.end().await;
}

#[tokio::test]
async fn what_comes_while_an_entry_is_under_way_shares_the_next() {
    let fixture = Arc::new(founded(Config::default()).await);
    fixture.join(1).await;
    let before = fixture.log.entries();
    fixture.log.fate(Fate::Held);
    let mut requests: Vec<_> = (0..200)
        .map(|n| {
            let fixture = fixture.clone();
            Box::pin(async move { fixture.create(&format!("t{n}"), 1).await })
        })
        .collect();
    begun(&mut requests[0]).await;
    while fixture.log.entries() == before {
        tokio::task::yield_now().await;
    }
    for request in &mut requests[1..] {
        begun(request).await;
    }
    fixture.log.fate(Fate::Applied);
    for result in futures::future::join_all(requests).await {
        result.expect("creates");
    }
    assert_eq!(fixture.log.entries() - before, 2);
    assert_eq!(fixture.handle.stats().entries, fixture.log.entries() as u64);
}

#[tokio::test]
async fn an_unknown_outcome_is_said_and_never_guessed() {
    let fixture = founded(Config::default()).await;
    fixture.join(1).await;
    fixture.log.fate(Fate::AppliedUnknown);
    assert_eq!(code(fixture.create("orders", 1).await), Some(ErrorCode::OutcomeUnknown));
    fixture.log.fate(Fate::LostUnknown);
    fixture.handle.until_active().await;
    assert_eq!(code(fixture.create("bills", 1).await), Some(ErrorCode::OutcomeUnknown));
    fixture.log.fate(Fate::Applied);
    fixture.handle.until_active().await;
    assert_eq!(code(fixture.create("orders", 1).await), Some(ErrorCode::TopicAlreadyExists), "it had happened");
    fixture.create("bills", 1).await.expect("it had not");
    fixture.log.fate(Fate::Refused);
    assert_eq!(code(fixture.create("more", 1).await), Some(ErrorCode::ControllerUnavailable));
    fixture.log.fate(Fate::Applied);
    fixture.handle.until_active().await;
    fixture.create("more", 1).await.expect("nothing had happened");
    fixture.end().await;
}

#[tokio::test]
async fn a_controller_that_loses_its_leadership_answers_at_once_and_decides_nothing() {
    let fixture = Arc::new(founded(Config::default()).await);
    fixture.join(1).await;
    fixture.log.fate(Fate::Held);
    let waits = tokio::spawn({
        let fixture = fixture.clone();
        async move { fixture.create("orders", 1).await }
    });
    let before = fixture.log.entries();
    while fixture.log.entries() == before {
        tokio::task::yield_now().await;
    }
    // The next leader puts something else at the same index: no reason to think that the topic is there.
    let other =
        Entry { index: MetadataIndex(fixture.images.index().0 + 1), deltas: vec![Delta::NodeFenced { id: NodeId(1) }] };
    fixture.images.apply(other).expect("applies");
    fixture.log.lead(false);
    assert_eq!(code(waits.await.expect("runs")), Some(ErrorCode::OutcomeUnknown));
    while fixture.handle.is_active() {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(fixture.create("orders", 1).await), Some(ErrorCode::NotController));
    fixture.log.fate(Fate::Applied);
    fixture.log.lead(true);
    fixture.handle.until_active().await;
    fixture.join(1).await;
    fixture.create("orders", 1).await.expect("creates");
}

#[tokio::test]
async fn heartbeats_are_heard_while_an_entry_is_under_way() {
    let fixture = Arc::new(founded(Config::default()).await);
    let (one, two) = (fixture.join(1).await, fixture.handle.register(registration(2)).await.expect("registers"));
    fixture.log.fate(Fate::Held);
    let before = fixture.log.entries();
    let mut request = Box::pin(fixture.create("orders", 1));
    begun(&mut request).await;
    while fixture.log.entries() == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.beat(&one).await, Ok(false), "nothing changes, so the answer is there at once");
    let mut unfences = Box::pin(fixture.beat(&two));
    begun(&mut unfences).await;
    assert_eq!(fixture.beat(&one).await, Ok(false), "heard behind the other one");
    begun(&mut unfences).await;
    fixture.log.fate(Fate::Applied);
    request.await.expect("creates");
    assert_eq!(unfences.await, Ok(false));
    assert!(!fixture.images.current().nodes[&two.node].fenced, "said only when it is applied");
    let stale = Joined { epoch: rafka_model::BrokerEpoch(77), ..two };
    assert_eq!(code(fixture.beat(&stale).await), Some(ErrorCode::StaleBrokerEpoch));
}

#[tokio::test]
async fn a_silent_node_is_fenced_when_its_session_ends() {
    let fixture = founded(Config { session_ms: 60, ..Config::default() }).await;
    let (one, two) = (fixture.join(1).await, fixture.join(2).await);
    let mut images = fixture.images.subscribe();
    while !images.borrow_and_update().nodes[&two.node].fenced {
        let _ = tokio::time::timeout(Duration::from_millis(5), images.changed()).await;
        assert_eq!(fixture.beat(&one).await, Ok(false));
    }
    assert_eq!(fixture.beat(&two).await, Ok(false), "it comes back by itself");
    fixture.handle.leave(two.node, two.epoch).await.expect("leaves");
    assert!(fixture.images.current().nodes[&two.node].fenced);
    fixture.end().await;
}

#[tokio::test]
async fn a_full_queue_is_refused_and_a_stopped_controller_answers() {
    let fixture = founded(Config::default()).await;
    fixture.log.fate(Fate::Held);
    let before = fixture.log.entries();
    let mut first = Box::pin(fixture.handle.register(registration(2)));
    begun(&mut first).await;
    while fixture.log.entries() == before {
        tokio::task::yield_now().await;
    }
    let mut queued = Vec::new();
    for _ in 0..CONTROLLER_QUEUE_MAX {
        let mut request = Box::pin(fixture.handle.leave(NodeId(1), rafka_model::BrokerEpoch(1)));
        begun(&mut request).await;
        queued.push(request);
    }
    assert_eq!(fixture.handle.stats().queued, CONTROLLER_QUEUE_MAX);
    assert_eq!(code(fixture.handle.register(registration(3)).await), Some(ErrorCode::Busy));
    fixture.stop.cancel();
    assert_eq!(code(first.await), Some(ErrorCode::OutcomeUnknown));
    for request in queued {
        assert_eq!(code(request.await), Some(ErrorCode::NotController), "never evaluated");
    }
    let handle = fixture.handle.clone();
    fixture.task.await.expect("ends");
    assert_eq!(code(handle.register(registration(3)).await), Some(ErrorCode::NotController));
}

/// What `node` is given to publish, verified.
fn records(fixture: &Fixture<FakeLog>, node: NodeId, since: MetadataIndex) -> BTreeMap<Key, SignedRecord> {
    let key = ClusterKey::from_secret(&SECRET);
    let verifier = Verifier::new(key.cluster_id(), &key.public_key()).expect("fits");
    let records = fixture.handle.records_for(node, since).into_iter();
    records.map(|bytes| verifier.verify(&bytes).expect("is signed")).map(|r| (r.key().clone(), r)).collect()
}

#[tokio::test]
async fn each_node_is_given_the_records_that_it_publishes() {
    let fixture = founded(Config::default()).await;
    let (one, two) = (fixture.join(1).await, fixture.join(2).await);
    let before = fixture.images.index();
    fixture.create("orders", 300).await.expect("creates");
    let topic = fixture.images.current().topic(&TopicName::new("orders").expect("legal")).expect("there").clone();
    let own = |node: &Joined| Key::Node(node.node);
    let (of_one, of_two) = (records(&fixture, one.node, before), records(&fixture, two.node, before));
    assert!(of_one.contains_key(&Key::Quorum) && !of_two.contains_key(&Key::Quorum), "the voter");
    assert!(!of_one.contains_key(&own(&one)), "unchanged since");
    let leads_first = topic.partitions[0].leader.expect("live");
    for (node, records) in [(&one, &of_one), (&two, &of_two)] {
        let first = node.node == leads_first;
        assert_eq!(records.contains_key(&Key::Topic(topic.name.clone())), first);
        assert_eq!(records.contains_key(&Key::Name(topic.id)), first);
    }
    let shards =
        |records: &BTreeMap<Key, SignedRecord>| records.keys().filter(|key| matches!(key, Key::Shard(..))).count();
    assert_eq!(shards(&of_one) + shards(&of_two), 2, "300 partitions are one topic record and two shards");
    let anew = MetadataIndex(two.epoch.0 - 1);
    assert!(records(&fixture, two.node, anew).contains_key(&own(&two)), "who registers anew gets everything");
    assert_eq!(records(&fixture, two.node, fixture.images.index()).len(), 0);
    let first = if leads_first == one.node { &one } else { &two };
    let before = fixture.images.index();
    fixture.delete("orders").await.expect("deletes");
    let buried = records(&fixture, first.node, before);
    assert!(buried[&Key::Topic(topic.name.clone())].is_tombstone());
    assert!(buried[&Key::Topic(topic.name.clone())].version().index > before);
    let image = fixture.images.current();
    assert_eq!(fixture.handle.sign(&image, &Key::Topic(topic.name)), None);
    let quorum = fixture.handle.sign(&image, &Key::Quorum).expect("signs");
    assert_eq!(fixture.handle.sign(&image, &Key::Quorum), Some(quorum), "the same state, the same bytes");
    assert_eq!(fixture.handle.records_for(NodeId(99), MetadataIndex(0)).len(), 0);
    fixture.end().await;
}

#[test]
fn the_cluster_key_is_made_once_and_kept_from_others() {
    let dir = tempfile::tempdir().expect("creates");
    let made = ClusterKey::load_or_create(dir.path()).expect("makes");
    let path = ClusterKey::path(dir.path());
    let mode = || std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let again = ClusterKey::load_or_create(dir.path()).expect("reads");
    assert_eq!(again.public_key(), made.public_key());
    assert_eq!(made.cluster_id(), rafka_model::ClusterId::of_public_key(&made.public_key()));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("sets");
    let error = ClusterKey::load_or_create(dir.path()).err().expect("refused").to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn a_damaged_cluster_key_is_never_used_nor_replaced() {
    let dir = tempfile::tempdir().expect("creates");
    ClusterKey::load_or_create(dir.path()).expect("makes");
    let path = ClusterKey::path(dir.path());
    let whole = std::fs::read(&path).expect("reads");
    for at in 0..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        std::fs::write(&path, &bytes).expect("writes");
        assert!(ClusterKey::load_or_create(dir.path()).is_err(), "byte {at}");
        assert_eq!(std::fs::read(&path).expect("reads"), bytes);
    }
    std::fs::write(&path, [0xff; 40]).expect("writes");
    let error = ClusterKey::load_or_create(dir.path()).err().expect("refused").to_string();
    assert!(error.contains("restore it from a backup"), "{error}");
}
