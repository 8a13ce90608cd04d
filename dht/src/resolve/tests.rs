use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use rafka_broker::ErrorCode;
use rafka_broker::metadata::Topic;
use rafka_model::MetadataIndex;
use rafka_model::limits::{DHT_RETRIES_MAX, ROUTE_AGE_MS_MAX};

use super::*;
use crate::directory::{self, Quorum};
use crate::record::Body;
use crate::testing::{self, FakeClock};
use crate::{SignedRecord, Signer};

/// A DHT that answers by script: the last answer of a key stays.
#[derive(Default)]
struct FakeDht {
    script: Mutex<HashMap<Key, VecDeque<Option<SignedRecord>>>>,
    calls: Mutex<Vec<(Key, Version)>>,
}

impl Lookup for FakeDht {
    async fn get(&self, key: Key, min: Version) -> Found {
        self.calls.lock().expect("whole").push((key.clone(), min));
        // Others get their turn, as they would while a network is asked.
        tokio::task::yield_now().await;
        let mut script = self.script.lock().expect("whole");
        let answers = script.entry(key).or_default();
        let record = if answers.len() > 1 { answers.pop_front().flatten() } else { answers.front().cloned().flatten() };
        Found { record, asked: vec![PeerId::random()], hops: 2, answered: 1, invalid: 0 }
    }
}

#[derive(Default)]
struct FakeQuorum {
    answers: Mutex<HashMap<Key, Answer>>,
    asked: AtomicU64,
}

impl Fallback for FakeQuorum {
    async fn ask(&self, key: &Key) -> Result<Answer, String> {
        self.asked.fetch_add(1, SeqCst);
        self.answers.lock().expect("whole").get(key).cloned().ok_or_else(|| "no voter answers".to_owned())
    }
}

#[derive(Clone, Default)]
struct FakeHosted(Arc<Mutex<Option<Arc<Image>>>>);

impl Hosted for FakeHosted {
    fn image(&self) -> Option<Arc<Image>> {
        self.0.lock().expect("whole").clone()
    }
}

struct Fixture {
    signer: Signer,
    clock: FakeClock,
    dht: Arc<FakeDht>,
    quorum: Arc<FakeQuorum>,
    hosted: FakeHosted,
    resolver: Resolver<Arc<FakeDht>, Arc<FakeQuorum>, FakeHosted>,
}

fn fixture() -> Fixture {
    let (signer, clock) = (Signer::new(&[7; 32]), FakeClock::default());
    let (dht, quorum, hosted) = (Arc::<FakeDht>::default(), Arc::<FakeQuorum>::default(), FakeHosted::default());
    let verifier = Verifier::new(signer.cluster_id(), &signer.public_key()).expect("matches");
    let resolver = Resolver::new(dht.clone(), quorum.clone(), hosted.clone(), verifier, clock.clock());
    Fixture { signer, clock, dht, quorum, hosted, resolver }
}

impl Fixture {
    /// The records of an image with these topics, nodes 1 to 3 with them.
    fn records(&self, topics: &[Topic]) -> Vec<SignedRecord> {
        let image = testing::image(&self.signer, 100, topics);
        let bodies = directory::records_of(&image, Quorum::default());
        bodies.into_iter().map(|body| self.signer.sign(body).expect("fits")).collect()
    }

    /// From now on the DHT answers with the records of these topics.
    fn publish(&self, topics: &[Topic]) {
        for record in self.records(topics) {
            self.script(record.key().clone(), [Some(record)]);
        }
    }

    fn script(&self, key: Key, answers: impl IntoIterator<Item = Option<SignedRecord>>) {
        self.dht.script.lock().expect("whole").insert(key, answers.into_iter().collect());
    }

    fn record_of(&self, topic: &Topic) -> SignedRecord {
        let key = Key::Topic(topic.name.clone());
        let records = self.records(std::slice::from_ref(topic));
        records.into_iter().find(|record| *record.key() == key).expect("made")
    }

    fn tombstone(&self, index: u64) -> SignedRecord {
        let body = Body { cluster: self.signer.cluster_id(), key: orders_key(), version: at(index), payload: None };
        self.signer.sign(body).expect("fits")
    }

    fn answer(&self, key: Key, answer: Answer) {
        self.quorum.answers.lock().expect("whole").insert(key, answer);
    }

    async fn route(&self, partition: u32, min: Version) -> Result<Route, ResolveError> {
        self.resolver.route(&orders(), PartitionId(partition), min).await
    }

    fn lookups(&self, key: &Key) -> usize {
        self.dht.calls.lock().expect("whole").iter().filter(|(called, _)| called == key).count()
    }

    fn asked(&self) -> u64 {
        self.quorum.asked.load(SeqCst)
    }
}

fn orders() -> TopicName {
    TopicName::new("orders").expect("legal")
}

fn orders_key() -> Key {
    Key::Topic(orders())
}

fn at(index: u64) -> Version {
    Version::new(0, MetadataIndex(index))
}

/// Topic "orders" led by these nodes in this leader epoch, as of `changed`.
fn topic(leaders: &[u64], epoch: i32, changed: u64) -> Topic {
    let mut topic = testing::topic(1, "orders", leaders, changed);
    topic.partitions.iter_mut().for_each(|state| state.leader_epoch = LeaderEpoch(epoch));
    topic
}

fn hint(node: Option<u64>, epoch: i32) -> LeaderHint {
    let at = node.map(testing::node);
    LeaderHint {
        node: node.map(NodeId),
        epoch: LeaderEpoch(epoch),
        peer_id: at.as_ref().map(|node| node.peer_id.clone()),
        addresses: at.map(|node| node.addresses).unwrap_or_default(),
    }
}

#[tokio::test]
async fn a_route_comes_from_the_dht_once_and_from_the_cache_then() {
    let f = fixture();
    f.publish(&[topic(&[1, 2], 4, 50)]);
    let route = f.route(1, Version::ANY).await.expect("found");
    assert_eq!((route.topic, route.partitions, route.leader), (TopicId([1; 16]), 2, NodeId(2)));
    assert_eq!((route.leader_epoch, route.version), (LeaderEpoch(4), at(50)));
    assert_eq!((route.source, route.origin, route.hops, route.asked.len()), (Source::Dht, Source::Dht, 2, 2));
    assert_eq!(route.peer.to_string(), testing::node(2).peer_id);
    assert_eq!(route.addresses, ["/ip4/10.0.0.2/tcp/7300".parse().expect("legal")]);
    let again = f.route(1, Version::ANY).await.expect("cached");
    assert_eq!((again.source, again.origin, again.hops, again.asked.len()), (Source::Cache, Source::Dht, 0, 0));
    let counts = f.resolver.counts();
    assert_eq!((counts.dht, counts.cache, counts.quorum, counts.lookups, f.asked()), (1, 1, 0, 2, 0));
}

#[tokio::test]
async fn the_nodes_own_image_comes_first_unless_it_is_older_than_asked_for() {
    let f = fixture();
    let image = testing::image(&f.signer, 60, &[topic(&[1], 4, 50)]);
    *f.hosted.0.lock().expect("whole") = Some(Arc::new(image));
    let route = f.route(0, at(60)).await.expect("hosted");
    assert_eq!((route.source, route.leader, route.version), (Source::Hosted, NodeId(1), at(50)));
    assert_eq!(f.resolver.topic(&orders(), Version::ANY).await.expect("hosted").source, Source::Hosted);
    f.publish(&[topic(&[3], 5, 61)]);
    let route = f.route(0, at(61)).await.expect("found");
    assert_eq!((route.source, route.leader), (Source::Dht, NodeId(3)));
    assert_eq!(f.resolver.counts().hosted, 2);
}

#[tokio::test]
async fn concurrent_resolves_of_one_topic_ask_once() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let all = futures::future::join_all((0..50).map(|_| f.route(0, Version::ANY))).await;
    assert!(all.iter().all(|route| route.as_ref().is_ok_and(|route| route.leader == NodeId(1))));
    assert_eq!((f.lookups(&orders_key()), f.lookups(&Key::Node(NodeId(1)))), (1, 1));
}

#[tokio::test]
async fn a_hint_of_the_wrong_node_leads_to_the_right_one_without_a_lookup() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let route = f.route(0, Version::ANY).await.expect("found");
    f.resolver.learn(&route, &hint(Some(2), 5));
    let route = f.route(0, Version::ANY).await.expect("learned");
    assert_eq!((route.leader, route.leader_epoch, f.lookups(&orders_key())), (NodeId(2), LeaderEpoch(5), 1));
    f.resolver.learn_at(TopicPartition { topic: route.topic, partition: route.partition }, &hint(Some(1), 3));
    assert_eq!(f.route(0, Version::ANY).await.expect("learned").leader, NodeId(2), "an older epoch teaches nothing");
    // Whoever told of it may not know where it is.
    f.resolver.learn(&route, &LeaderHint { addresses: Vec::new(), ..hint(Some(3), 6) });
    let route = f.route(0, Version::ANY).await.expect("learned");
    assert_eq!((route.leader, route.addresses.len(), route.source), (NodeId(3), 1, Source::Dht));
    // A later record overrules what was learned.
    f.publish(&[topic(&[1], 7, 51)]);
    assert_eq!(f.route(0, at(51)).await.expect("found").leader, NodeId(1));
}

#[tokio::test]
async fn a_hint_that_names_nobody_makes_the_next_resolve_look_for_a_later_record() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let route = f.route(0, Version::ANY).await.expect("found");
    f.publish(&[topic(&[2], 5, 51)]);
    assert_eq!(f.route(0, Version::ANY).await.expect("cached").leader, NodeId(1));
    f.resolver.learn(&route, &hint(None, 4));
    let route = f.route(0, Version::ANY).await.expect("found");
    assert_eq!((route.leader, route.source, f.asked()), (NodeId(2), Source::Dht, 0));
    assert_eq!(f.dht.calls.lock().expect("whole").iter().filter(|(_, min)| *min == at(51)).count(), 1);
}

#[tokio::test]
async fn a_node_that_moved_is_found_at_its_new_address() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let route = f.route(0, Version::ANY).await.expect("found");
    let mut moved = testing::node(1);
    (moved.epoch.0, moved.addresses) = (70, vec!["/ip4/10.9.9.9/tcp/1".to_owned()]);
    let mut image = testing::image(&f.signer, 100, &[]);
    image.nodes.insert(NodeId(1), moved);
    let body = directory::body_of(&image, Quorum::default(), &Key::Node(NodeId(1))).expect("there");
    f.script(Key::Node(NodeId(1)), [Some(f.signer.sign(body).expect("fits"))]);
    f.resolver.unreachable(&route);
    let route = f.route(0, Version::ANY).await.expect("found");
    assert_eq!(route.addresses, ["/ip4/10.9.9.9/tcp/1".parse().expect("legal")]);
    assert_eq!(f.asked(), 1, "nobody knew of another leader: that was worth a question");
}

#[tokio::test]
async fn a_doubt_that_nobody_can_clear_asks_the_quorum_once_a_second_and_keeps_what_is_known() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    f.answer(orders_key(), Answer::Records(vec![f.record_of(&topic(&[1], 4, 50)).bytes().clone()]));
    for _ in 0..5 {
        let route = f.route(0, Version::ANY).await.expect("known");
        assert_eq!(route.leader, NodeId(1));
        f.resolver.doubt(&route);
    }
    assert_eq!((f.lookups(&orders_key()), f.asked()), (5, 1));
    f.clock.advance(Duration::from_secs(1));
    f.route(0, Version::ANY).await.expect("known");
    assert_eq!(f.asked(), 2);
}

#[tokio::test]
async fn routes_never_go_back_to_a_lower_version() {
    let f = fixture();
    f.publish(&[topic(&[2], 5, 51)]);
    assert_eq!(f.route(0, Version::ANY).await.expect("found").version, at(51));
    // A holder that slept answers, and so does a quorum member that lags.
    let old = f.record_of(&topic(&[1], 4, 50));
    f.script(orders_key(), [Some(old.clone())]);
    f.answer(orders_key(), Answer::Records(vec![old.bytes().clone()]));
    f.clock.advance(Duration::from_millis(ROUTE_AGE_MS_MAX));
    let route = f.route(0, Version::ANY).await.expect("known");
    assert_eq!((route.version, route.leader), (at(51), NodeId(2)));
    f.resolver.doubt(&route);
    assert_eq!(f.route(0, Version::ANY).await.expect("known").version, at(51));
    f.resolver.expect(&orders(), at(60));
    assert_eq!(f.route(0, Version::ANY).await.expect("known").version, at(51));
}

#[tokio::test]
async fn a_new_topic_is_awaited_in_the_dht_before_the_quorum_is_asked() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let record = f.record_of(&topic(&[1], 4, 50));
    f.script(orders_key(), [None, None, Some(record)]);
    let route = f.route(0, at(50)).await.expect("found");
    assert_eq!((route.source, f.lookups(&orders_key()), f.asked()), (Source::Dht, 3, 0));
}

#[tokio::test]
async fn a_new_topic_that_stays_away_comes_from_the_quorum() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let record = f.record_of(&topic(&[2], 5, 51));
    f.answer(orders_key(), Answer::Records(vec![Bytes::from_static(b"junk"), record.bytes().clone()]));
    let route = f.route(0, at(51)).await.expect("found");
    assert_eq!((route.source, route.leader), (Source::Quorum, NodeId(2)));
    assert_eq!(f.lookups(&orders_key()) as u32, 1 + DHT_RETRIES_MAX);
    assert_eq!(f.route(0, Version::ANY).await.expect("cached").origin, Source::Quorum);
}

#[tokio::test]
async fn without_a_quorum_a_stale_route_is_better_than_none() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let route = f.route(0, at(51)).await.expect("stale");
    assert_eq!((route.version, route.source, f.asked()), (at(50), Source::Dht, 1));
}

#[tokio::test]
async fn only_the_quorum_decides_that_a_topic_does_not_exist_and_for_a_second() {
    let f = fixture();
    let error = f.route(0, Version::ANY).await.expect_err("nobody to ask");
    assert_eq!(error.code(), ErrorCode::ControllerUnavailable);
    f.clock.advance(Duration::from_secs(1));
    f.answer(orders_key(), Answer::Unknown);
    for _ in 0..3 {
        let error = f.route(0, Version::ANY).await.expect_err("unknown");
        assert_eq!(error, ResolveError::UnknownTopic { topic: "orders".to_owned() });
    }
    assert_eq!(
        (f.lookups(&orders_key()), f.asked()),
        (6, 2),
        "the DHT is asked first, three times, and both only once"
    );
    f.publish(&[topic(&[1], 4, 50)]);
    assert!(f.route(0, Version::ANY).await.is_err());
    assert!(f.route(0, at(50)).await.is_ok(), "whoever knows of a version is not told what was true before");
    assert_eq!((f.resolver.counts().unknown, f.resolver.counts().failed), (4, 1));
}

#[tokio::test]
async fn a_tombstone_sends_to_the_quorum_and_is_believed_without_one() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let route = f.route(0, Version::ANY).await.expect("found");
    f.script(orders_key(), [Some(f.tombstone(51))]);
    f.resolver.doubt(&route);
    let error = f.route(0, Version::ANY).await.expect_err("gone");
    assert_eq!((error.code(), f.asked()), (ErrorCode::UnknownTopicOrPartition, 1));
    f.clock.advance(Duration::from_secs(1));
    f.publish(&[topic(&[2], 0, 52)]);
    assert_eq!(f.route(0, Version::ANY).await.expect("made anew").leader, NodeId(2));
}

#[tokio::test]
async fn forged_foreign_and_misplaced_records_are_not_taken() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let mallory = Signer::new(&[8; 32]);
    let good = f.record_of(&topic(&[1], 4, 50));
    let other = f.records(&[testing::topic(2, "other", &[3], 99)]);
    let misplaced = other.iter().find(|record| record.topic().is_some()).expect("made").clone();
    let forged = testing::forge(&mallory, f.record_of(&topic(&[3], 9, 99)).body());
    let foreign = Body { cluster: mallory.cluster_id(), ..f.record_of(&topic(&[3], 9, 99)).body().clone() };
    let foreign = mallory.sign(foreign).expect("fits");
    f.script(orders_key(), [Some(misplaced.clone())]);
    let junk = vec![Bytes::from(forged), foreign.bytes().clone(), misplaced.bytes().clone()];
    f.answer(orders_key(), Answer::Records(junk.clone()));
    let error = f.route(0, Version::ANY).await.expect_err("nothing usable");
    assert_eq!(error.to_string(), "cannot look up t/orders: the answer held no usable record");
    f.answer(orders_key(), Answer::Records(junk.into_iter().chain([good.bytes().clone()]).collect()));
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(f.route(0, Version::ANY).await.expect("found").leader, NodeId(1));
}

#[tokio::test]
async fn partitions_beyond_the_first_shard_have_their_own_record() {
    let f = fixture();
    let mut wide = topic(&[1; 300], 4, 50);
    wide.partitions[299].leader = Some(NodeId(3));
    f.publish(&[wide.clone()]);
    let route = f.route(299, Version::ANY).await.expect("found");
    assert_eq!((route.leader, route.partitions), (NodeId(3), 300));
    let shard = Key::Shard(TopicId([1; 16]), 2);
    assert_eq!((route.key(), f.lookups(&shard)), (shard.clone(), 1));
    // A shard from before partitions were added is looked up again.
    let f = fixture();
    f.publish(&[wide.clone()]);
    let mut narrow = wide;
    (narrow.changed, _) = (MetadataIndex(40), narrow.partitions.truncate(290));
    let old = f.records(&[narrow]).into_iter().find(|record| *record.key() == shard).expect("made");
    let new = f.dht.script.lock().expect("whole")[&shard][0].clone();
    f.script(shard.clone(), [Some(old), new]);
    assert_eq!(f.route(299, Version::ANY).await.expect("found").leader, NodeId(3));
    assert_eq!(f.lookups(&shard), 2);
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_looked_for_again_when_the_record_is_a_second_old() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let error = f.route(1, Version::ANY).await.expect_err("one partition");
    assert_eq!(error.to_string(), "topic orders has 1 partitions, there is no partition 1");
    f.route(1, Version::ANY).await.expect_err("one partition");
    assert_eq!(f.lookups(&orders_key()), 1);
    f.publish(&[topic(&[1, 2], 4, 55)]);
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(f.route(1, Version::ANY).await.expect("added").leader, NodeId(2));
}

#[tokio::test]
async fn a_partition_without_leader_says_so_and_is_looked_up_anew() {
    let f = fixture();
    let mut orphan = topic(&[1], 4, 50);
    orphan.partitions[0].leader = None;
    f.publish(&[orphan]);
    let error = f.route(0, Version::ANY).await.expect_err("no leader");
    assert_eq!(error.code(), ErrorCode::LeaderNotAvailable);
    f.publish(&[topic(&[2], 5, 51)]);
    assert_eq!(f.route(0, Version::ANY).await.expect("elected").leader, NodeId(2));
}

#[tokio::test]
async fn a_topic_is_found_by_its_id_but_not_one_that_inherited_its_name() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    let route = f.resolver.route(TopicId([1; 16]), PartitionId(0), Version::ANY).await.expect("found");
    assert_eq!(route.name, orders());
    let view = f.resolver.topic(TopicId([1; 16]), Version::ANY).await.expect("cached");
    assert_eq!((view.partitions, view.source), (1, Source::Cache));
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    f.script(orders_key(), [Some(f.record_of(&testing::topic(9, "orders", &[2], 60)))]);
    let error = f.resolver.route(TopicId([1; 16]), PartitionId(0), Version::ANY).await.expect_err("another topic");
    assert_eq!(error.to_string(), format!("topic {} does not exist", "01".repeat(16)));
}

#[tokio::test]
async fn a_topic_made_anew_is_found_by_its_id_behind_the_cached_one_of_its_name() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    f.route(0, Version::ANY).await.expect("found");
    f.publish(&[testing::topic(9, "orders", &[2], 60)]);
    let route = f.resolver.route(TopicId([9; 16]), PartitionId(0), Version::ANY).await.expect("found");
    assert_eq!((route.leader, route.version), (NodeId(2), at(60)));
}

#[tokio::test]
async fn a_cached_route_is_looked_up_again_every_five_minutes() {
    let f = fixture();
    f.publish(&[topic(&[1], 4, 50)]);
    for minutes in 0..10 {
        f.route(0, Version::ANY).await.expect("found");
        assert_eq!(f.lookups(&orders_key()), 1 + minutes / 5);
        f.clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn the_quorum_is_found_in_the_dht() {
    let f = fixture();
    f.publish(&[]);
    let quorum = f.resolver.quorum().await.expect("found");
    assert_eq!(quorum.voters.iter().map(|voter| voter.id).collect::<Vec<_>>(), [NodeId(1)]);
    assert_eq!(f.resolver.node(NodeId(2)).await.expect("found").id, NodeId(2));
    assert_eq!(f.resolver.node(NodeId(9)).await.expect_err("nobody to ask").code(), ErrorCode::ControllerUnavailable);
}
