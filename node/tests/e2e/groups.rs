//! Coordinators of groups in real nodes, asked over the mesh and through the Kafka door.

use std::collections::BTreeSet;

use rafka_broker::group::request::{Commit, Join, OffsetToCommit, OffsetsAsked, Protocol as Assignor};
use rafka_broker::group::{GroupReply, GroupRequest};
use rafka_broker::{ErrorCode, Failure};
use rafka_client::{ConsumerConfig, ErrorKind, NodeId, PartitionId, ProducerConfig, Record};
use rafka_kafka::header::{ResponseHeader, request_frame};
use rafka_kafka::messages::{Call, decode_all, find_coordinator, join_group, offset_fetch};
use rafka_kafka::wire::Reader;
use rafka_protocols::Protocol;
use rafka_protocols::group::{self, Reply, Request};

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::Peer;
use crate::support::{Node, cluster, create, eventually};

async fn connect(node: &Node) -> Peer {
    let cluster = node.cluster_id().parse().expect("a cluster id");
    let name = Protocol::Resolve.name(&cluster);
    Peer::connect(node, &cluster, name).await
}

async fn ask(peer: &mut Peer, request: Request) -> Result<Reply, Failure> {
    let frame = peer.call(Protocol::Group, group::encode_request(&request)).await.expect("an answer");
    group::decode_reply(&frame).expect("a reply")
}

/// As [`ask`], again for as long as the coordinator is not ready.
async fn asked(peer: &mut Peer, request: GroupRequest) -> GroupReply {
    let request = Request::Group(request);
    loop {
        match ask(peer, request.clone()).await {
            Ok(Reply::Group(reply)) => return reply,
            Ok(other) => panic!("{other:?}"),
            Err(failure) => assert_eq!(failure.code, ErrorCode::CoordinatorLoadInProgress, "{failure}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn commit(group: &str, offsets: &[(u32, i64)]) -> GroupRequest {
    let one = |&(partition, offset): &(u32, i64)| OffsetToCommit {
        topic: "orders".to_owned(),
        partition: PartitionId(partition),
        offset,
        leader_epoch: -1,
        ..OffsetToCommit::default()
    };
    let offsets = offsets.iter().map(one).collect();
    GroupRequest::Commit(Commit { group: group.to_owned(), generation: -1, offsets, ..Commit::default() })
}

async fn stored(peer: &mut Peer, group: &str) -> Vec<(u32, i64)> {
    let asked_for = OffsetsAsked { group: group.to_owned(), member_epoch: -1, ..OffsetsAsked::default() };
    let GroupReply::Offsets(found) = asked(peer, GroupRequest::Offsets(asked_for)).await else { panic!("no offsets") };
    found.into_iter().map(|found| (found.partition.0, found.offset)).collect()
}

async fn list(peer: &mut Peer) -> BTreeSet<String> {
    loop {
        match ask(peer, Request::List).await {
            Ok(Reply::List(listed)) => return listed.into_iter().map(|listed| listed.group).collect(),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => assert_eq!(failure.code, ErrorCode::CoordinatorLoadInProgress, "{failure}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_survive_a_killed_process() {
    let node = Node::start(&[]).await;
    let client = node.client().await;
    create(&client, "orders", 3, &[]).await;
    let mut peer = connect(&node).await;
    let missing = Err(ErrorCode::UnknownTopicOrPartition);
    let stored_some = asked(&mut peer, commit("one", &[(0, 7), (9, 1), (1, 8)])).await;
    assert_eq!(stored_some, GroupReply::Commit(vec![Ok(()), missing, Ok(())]), "there is no partition 9");
    for offset in 1..=50 {
        let reply = asked(&mut peer, commit("two", &[(2, offset)])).await;
        assert_eq!(reply, GroupReply::Commit(vec![Ok(())]));
    }
    let node = node.kill().start(&[]).await;
    let mut peer = connect(&node).await;
    assert_eq!(stored(&mut peer, "one").await, [(0, 7), (1, 8)]);
    assert_eq!(stored(&mut peer, "two").await, [(2, 50)]);
    assert_eq!(stored(&mut peer, "three").await, []);
    assert_eq!(list(&mut peer).await, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    // Behind the offset of group "two" lies nothing yet, then one record.
    let client = node.client().await;
    let producer = client.producer(ProducerConfig::default());
    let record = Record::new("orders".parse().expect("a name"), "value").partition(PartitionId(1));
    producer.send(record).await.expect("delivered");
    let text = node.ops("/metrics").await;
    for line in [
        r#"kafka_consumergroup_current_offset{consumergroup="two",topic="orders",partition="2"} 50"#,
        r#"kafka_consumergroup_lag{consumergroup="two",topic="orders",partition="2"} 0"#,
        r#"rafka_groups{state="Empty"} 2"#,
        "rafka_group_coordinators 50",
        "rafka_group_offsets 3",
        "rafka_metric_group_offsets_omitted 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    // Nobody but nodes writes where offsets are kept.
    let record = Record::new("__consumer_offsets".parse().expect("a name"), "value").key("key");
    let refused = producer.send(record).await.expect_err("internal");
    assert!(refused.to_string().contains("internal"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_says_who_coordinates_and_only_that_one_answers() {
    let nodes = cluster(3).await;
    let client = nodes[0].client().await;
    create(&client, "orders", 3, &[]).await;
    let mut peers = Vec::new();
    for node in &nodes {
        peers.push(connect(node).await);
    }
    // Twelve groups, so that every node coordinates some.
    let groups: Vec<_> = (0..12).map(|number| format!("group {number}")).collect();
    let mut coordinators = BTreeSet::new();
    for group in &groups {
        let Ok(Reply::Coordinator(found)) = ask(&mut peers[0], Request::Coordinator { group: group.clone() }).await
        else {
            panic!("nobody coordinates {group}");
        };
        coordinators.insert(found.node);
        for (node, peer) in nodes.iter().zip(&mut peers) {
            // Not every node has heard of the topic when the first has.
            let request = Request::Group(commit(group, &[(0, 5)]));
            eventually("an answer", async || match ask(peer, request.clone()).await {
                Ok(Reply::Group(reply)) => {
                    assert_eq!(node.id(), found.node, "it coordinates the group");
                    assert_eq!(reply, GroupReply::Commit(vec![Ok(())]));
                    Some(())
                }
                Ok(other) => panic!("{other:?}"),
                Err(failure) if failure.code == ErrorCode::NotCoordinator => {
                    assert_ne!(node.id(), found.node);
                    let hint = failure.leader.expect("a hint");
                    let right = nodes.iter().find(|node| node.id() == found.node).expect("a node");
                    assert_eq!((hint.node, hint.peer_id.as_deref()), (Some(found.node), Some(right.peer_id())));
                    Some(())
                }
                Err(failure) => {
                    assert!(failure.code.is_retriable(), "{failure}");
                    None
                }
            })
            .await;
        }
    }
    // How far behind a group is, its coordinator says, whoever leads the partition: at 5, where there is nothing yet.
    for node in &nodes {
        eventually("lags", async || {
            let text = node.ops("/metrics").await;
            let count = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
            let (offsets, lags) = (count("kafka_consumergroup_current_offset{"), count("kafka_consumergroup_lag{"));
            (offsets > 0 && offsets == lags).then_some(())
        })
        .await;
    }
    assert_eq!(coordinators, nodes.iter().map(Node::id).collect::<BTreeSet<NodeId>>());
    let mut all = Vec::new();
    for peer in &mut peers {
        all.extend(list(peer).await);
    }
    all.sort();
    let mut expected = groups.clone();
    expected.sort();
    assert_eq!(all, expected, "each group is at one node");
}

/// A bare Kafka client: one request, one answer.
pub(crate) struct Kafka(TcpStream);

impl Kafka {
    pub(crate) async fn connect(node: &Node) -> Self {
        Self(TcpStream::connect(node.kafka()).await.expect("it accepts"))
    }

    pub(crate) async fn send<C: Call>(&mut self, version: i16, request: C) {
        let frame = request_frame(version, 7, Some("test".into()), &request).expect("fits").concat();
        self.0.write_all(&frame).await.expect("sent");
    }

    pub(crate) async fn receive<C: Call>(&mut self, version: i16) -> C::Response {
        let length = self.0.read_u32().await.expect("an answer") as usize;
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer).await.expect("whole");
        let mut from = Reader::new(answer.into());
        ResponseHeader::decode(C::KEY, version, &mut from).expect("a header");
        decode_all(C::KEY, version, &mut from).expect("a response")
    }

    pub(crate) async fn call<C: Call>(&mut self, version: i16, request: C) -> C::Response {
        self.send(version, request).await;
        self.receive::<C>(version).await
    }
}

const KAFKA: &[&str] = &["--kafka-listen", "127.0.0.1:0"];

#[tokio::test(flavor = "multi_thread")]
async fn both_doors_lead_to_the_same_coordinator() {
    let node = Node::start(KAFKA).await;
    let client = node.client().await;
    create(&client, "orders", 3, &[]).await;
    let mut kafka = Kafka::connect(&node).await;
    let find = find_coordinator::Request { key: "g".into(), ..Default::default() };
    let found = kafka.call(2, find).await;
    assert_eq!((found.error_code, found.node_id), (0, 1));
    let mut peer = connect(&node).await;
    assert_eq!(asked(&mut peer, commit("g", &[(1, 42)])).await, GroupReply::Commit(vec![Ok(())]));
    let fetch = offset_fetch::Request { group_id: "g".into(), topics: None, ..Default::default() };
    let fetched = kafka.call(7, fetch).await;
    assert_eq!((fetched.error_code, fetched.topics.len()), (0, 1));
    let partition = &fetched.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.committed_offset, partition.error_code), (1, 42, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_learns_at_once_that_others_use_its_group() {
    let node = Node::start(&["--set", "groups.initial_rebalance_delay_ms=0"]).await;
    let client = node.client().await;
    create(&client, "orders", 1, &[]).await;
    let mut peer = connect(&node).await;
    let Ok(Reply::Coordinator(_)) = ask(&mut peer, Request::Coordinator { group: "g".to_owned() }).await else {
        panic!("nobody coordinates the group");
    };
    let join = Join {
        group: "g".to_owned(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "connect".to_owned(),
        protocols: vec![Assignor { name: "compatible".to_owned(), metadata: "m".into() }],
        ..Join::default()
    };
    assert!(matches!(asked(&mut peer, GroupRequest::Join(join)).await, GroupReply::Join(_)));
    let config = ConsumerConfig::topics(["orders".parse().expect("a name")]).in_group("g");
    let mut consumer = client.consumer(config).await.expect("it begins");
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), consumer.next()).await.expect("at once");
    let error = told.expect("the last item").expect_err("refused");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, Some(ErrorCode::GroupIdNotFound)));
    let cause = error.cause().expect("the coordinator's").to_string();
    assert!(cause.ends_with("its members are of type \"connect\", not consumers"), "{cause}");
    assert!(consumer.next().await.is_none(), "and that is all");
    consumer.close().await.expect("there is nothing to leave");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_wait_for_each_other_hold_up_no_shutdown() {
    let node = Node::start(&[KAFKA, &["--set", "groups.initial_rebalance_delay_ms=600000"]].concat()).await;
    let mut kafka = Kafka::connect(&node).await;
    let find = find_coordinator::Request { key: "g".into(), ..Default::default() };
    assert_eq!(kafka.call(2, find).await.error_code, 0);
    let join = join_group::Request {
        group_id: "g".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 600_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol { name: "range".into(), metadata: "m".into() }],
        ..Default::default()
    };
    // Once the coordinator has read its log, the first member waits for others.
    let mut waiting = loop {
        let mut waiting = Kafka::connect(&node).await;
        waiting.send(3, join.clone()).await;
        let answer = waiting.receive::<join_group::Request>(3);
        match tokio::time::timeout(std::time::Duration::from_millis(200), answer).await {
            Err(_) => break waiting,
            Ok(answer) => assert_eq!(answer.error_code, 14, "the coordinator loads"),
        }
    };
    // And so does one that came over the mesh.
    let mut peer = connect(&node).await;
    let join = Join {
        group: "g".to_owned(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 600_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Assignor { name: "range".to_owned(), metadata: "m".into() }],
        ..Join::default()
    };
    let told = tokio::spawn(async move { ask(&mut peer, Request::Group(GroupRequest::Join(join))).await });
    let two = r#"rafka_group_members 2"#;
    eventually("two members", async || node.ops("/metrics").await.lines().any(|line| line == two).then_some(())).await;
    let began = std::time::Instant::now();
    tokio::task::spawn_blocking(move || node.stop()).await.expect("a clean end");
    assert_eq!(told.await.expect("ran").expect_err("refused").code, ErrorCode::NotCoordinator);
    let mut rest = Vec::new();
    waiting.0.read_to_end(&mut rest).await.expect("closed in order");
    assert!(began.elapsed().as_secs() < 5, "it took {:?}", began.elapsed());
}
