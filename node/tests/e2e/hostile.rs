//! Peers that mean no good: the node stays up, small and useful.

use std::time::Duration;

use bytes::Bytes;
use libp2p::StreamProtocol;
use rafka_broker::request::{Acks, Admin, Fetch, FetchPartition, Produce, ProducePartition};
use rafka_broker::{ErrorCode, Failure};
use rafka_client::{Client, ClientConfig, Compression, ProducerConfig, Record, TopicName};
use rafka_dht::{Body, Key, Signer, Verifier, Version};
use rafka_model::limits::{ADMISSION_MS_MAX, GOSSIP_BYTES_MAX};
use rafka_model::{
    BatchBuilder, BrokerEpoch, ClusterId, MetadataIndex, NodeId, Offset, PartitionId, Timestamp, TopicPartition,
};
use rafka_protocols::certificate::{self, Certificate};
use rafka_protocols::frame::write_frame;
use rafka_protocols::gossip::{self, Channel, Hint, MetaHint};
use rafka_protocols::register::{Reply, Request};
use rafka_protocols::resolve::Subject;
use rafka_protocols::rpc::CallError;
use rafka_protocols::watch::{View, Watch};
use rafka_protocols::{Frame, Protocol, admin, fetch, group, hello, produce, register, resolve, watch};

use crate::peer::Peer;
use crate::support::{Home, Node, cluster, create, eventually, new_topic, read_all};

/// What a node may need for a peer's mischief, beside what it needs anyway.
const MISCHIEF_BYTES_MAX: usize = 160 * 1024 * 1024;

fn cluster_of(node: &Node) -> ClusterId {
    node.cluster_id().parse().expect("a cluster id")
}

/// A request that is in order.
fn valid(protocol: Protocol, topic: &TopicName, at: TopicPartition) -> Frame {
    match protocol {
        Protocol::Hello => hello::encode_request(),
        Protocol::Register => register::encode_request(&Request::PresentClient { proof: Some([7; 32]) }),
        Protocol::Watch => {
            watch::encode_request(&Watch { from: MetadataIndex(0), wait_ms: 0, view: View::Full, resume: None })
        }
        Protocol::Resolve => resolve::encode_request(&[Subject::Quorum, Subject::Topic(topic.clone())]),
        Protocol::Admin => {
            admin::encode_request(&Admin::CreateTopics { topics: vec![new_topic("t", 1, &[])], validate_only: true })
        }
        Protocol::Produce => {
            let mut batch = BatchBuilder::new(Compression::None);
            batch.push(Timestamp(1_700_000_000_000), Some(b"key"), Some(b"value"), &[]);
            let records = batch.build().bytes().clone();
            let partition = ProducePartition { partition: at, leader_epoch: None, records };
            produce::encode_request(&Produce { acks: Acks::All, timeout_ms: 500, partitions: vec![partition] })
        }
        Protocol::Fetch => {
            let partition =
                FetchPartition { partition: at, leader_epoch: None, offset: Offset::ZERO, max_bytes: 1 << 20 };
            let fetch = Fetch { max_wait_ms: 0, min_bytes: 1, max_bytes: 1 << 20, partitions: vec![partition] };
            fetch::encode_request(&fetch::Request::Fetch(fetch))
        }
        Protocol::Group => group::encode_request(&group::Request::List),
    }
}

/// A refusal, if the answer is one.
fn refusal(protocol: Protocol, frame: &Frame) -> Option<Failure> {
    match protocol {
        Protocol::Hello => hello::decode_reply(frame).expect("a reply").err(),
        Protocol::Register => register::decode_reply(frame).expect("a reply").err(),
        Protocol::Watch => watch::decode_reply(frame).expect("a reply").err(),
        Protocol::Resolve => resolve::decode_reply(frame, 2).expect("a reply").err(),
        Protocol::Admin => admin::decode_reply(frame).expect("a reply").err(),
        Protocol::Produce => produce::decode_reply(frame).expect("a reply").err(),
        Protocol::Fetch => fetch::decode_reply(frame).expect("a reply").err(),
        Protocol::Group => group::decode_reply(frame).expect("a reply").err(),
    }
}

fn be(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("fits").to_be_bytes()
}

/// Ways to write a frame that is none; the last is one.
async fn frames(protocol: Protocol, frame: &Frame) -> Vec<Vec<u8>> {
    let caps = protocol.request_caps();
    let mut good = Vec::new();
    write_frame(&mut good, frame, caps).await.expect("a Vec takes all");
    let filler = vec![0xa5; 64 * 1024];
    let mut made = vec![Vec::new(), filler.clone(), [&good[..], b"more"].concat()];
    // Too long, by what they claim.
    for header in [caps.header + 1, u32::MAX as usize] {
        made.push([&be(header)[..], &filler].concat());
    }
    for body in [caps.body + 1, u32::MAX as usize] {
        made.push([&be(frame.header().len())[..], frame.header(), &be(body), &filler].concat());
    }
    // As long as allowed, by what they claim, and then nothing of it.
    for _ in 0..16 {
        made.push([&be(caps.header)[..], &filler].concat());
        made.push([&be(frame.header().len())[..], frame.header(), &be(caps.body), &filler].concat());
    }
    for cut in (0..24).map(|i| i * good.len() / 24) {
        made.push(good[..cut].to_vec());
    }
    for i in 0..64 {
        let mut flipped = good.clone();
        flipped[i * good.len() / 64] ^= 1 << (i % 8);
        made.push(flipped);
    }
    made.push(good);
    made
}

/// Publishes and reads as everybody does.
async fn works(client: &Client, topic: &TopicName, word: &str) {
    let sent = client.producer(ProducerConfig::default()).send(Record::new(topic.clone(), word.to_owned())).await;
    let sent = sent.expect("delivered");
    let read = read_all(client, topic).await;
    let found = read.iter().find(|record| (record.partition, Some(record.offset)) == (sent.partition, sent.offset));
    assert_eq!(found.and_then(|record| record.value.as_deref()), Some(word.as_bytes()));
}

/// Issue: oversized, truncated and bit-flipped frames, on every protocol.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_none_cost_their_sender_and_nobody_else() {
    let mut node = Node::start(&[]).await;
    let (id, client) = (cluster_of(&node), node.client().await);
    let topic = create(&client, "honest", 1, &[]).await;
    let described = client.admin().topics().await.expect("answered").remove(0);
    let at = TopicPartition { topic: described.id, partition: PartitionId(0) };
    works(&client, &topic, "before").await;
    let before = node.resident_bytes();
    for protocol in Protocol::ALL {
        let mut peer = Peer::connect(&node, &id, protocol.name(&id)).await;
        let mut made = frames(protocol, &valid(protocol, &topic, at)).await;
        let good = made.pop().expect("the last is good");
        peer.raw(made).await;
        assert_eq!(peer.raw(vec![good]).await, 1, "{}: the good one is answered", protocol.word());
        works(&client, &topic, protocol.word()).await;
    }
    // Kademlia and gossip bring their own framing: a length in seven-bit groups.
    for name in [rafka_dht::protocol_name(&id).to_string(), format!("/rafka/{}/gossip/1.1.0", id.short())] {
        let noise = vec![0xa5; 64 * 1024];
        let mut made = vec![Vec::new(), noise.clone(), vec![0xff; 64], vec![0; 64]];
        made.extend((1..32).map(|length| [&[length][..], &noise[..length as usize]].concat()));
        made.push([&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &noise].concat());
        let name = StreamProtocol::try_from_owned(name).expect("a name");
        Peer::connect(&node, &id, name.clone()).await.raw(made).await;
        works(&client, &topic, name.as_ref()).await;
    }
    assert!(node.is_running());
    let metrics = node.ops("/metrics").await;
    assert!(metrics.lines().any(|line| line.contains("inbound") && line.contains("outcome=\"frame\"")), "counted");
    if let (Some(before), Some(after)) = (before, node.resident_bytes()) {
        assert!(after < before + MISCHIEF_BYTES_MAX, "{} KiB before, {} KiB after", before / 1024, after / 1024);
    }
}

/// Issue: wrong-cluster frames; and members' words from those who are none.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_of_another_cluster_is_not_understood_and_lies_are_refused() {
    let nodes = cluster(2).await;
    let (node, id) = (&nodes[0], cluster_of(&nodes[0]));
    let client = node.client().await;
    let topic = create(&client, "honest", 1, &[]).await;
    let at = TopicPartition {
        topic: client.admin().topics().await.expect("answered").remove(0).id,
        partition: PartitionId(0),
    };
    let other = Signer::new(&[7; 32]);
    let mut foreign = Peer::connect(node, &other.cluster_id(), Protocol::hello_name()).await;
    for protocol in Protocol::ALL.into_iter().filter(|protocol| *protocol != Protocol::Hello) {
        let answer = foreign.call(protocol, valid(protocol, &topic, at)).await;
        assert_eq!(answer.map(drop), Err(CallError::Unsupported), "{}", protocol.word());
    }
    let greeting = foreign.call(Protocol::Hello, hello::encode_request()).await.expect("hello is for everybody");
    let greeting = hello::decode_reply(&greeting).expect("a reply").expect("greeted");
    assert_eq!(greeting.cluster.map(|cluster| cluster.id), Some(id));

    let mut liar = Peer::connect(node, &id, Protocol::hello_name()).await;
    let certificate = Certificate {
        cluster_id: id,
        peer_id: liar.id().to_string(),
        node: Some(nodes[1].id()),
        role: certificate::Role::Node,
        not_after_ms: i64::MAX,
        serial: 1,
    };
    let forged = Bytes::from(certificate.sign(|bytes| other.sign_bytes(bytes)).expect("it fits"));
    let (member, epoch) = (nodes[1].id(), BrokerEpoch(u64::MAX));
    let lies = [
        (Request::Present { certificate: forged }, ErrorCode::ClusterAuthorizationFailed),
        (Request::Heartbeat { node: member, epoch, index: MetadataIndex(u64::MAX) }, ErrorCode::StaleBrokerEpoch),
        (Request::Leave { node: member, epoch }, ErrorCode::StaleBrokerEpoch),
        (Request::Leave { node: NodeId(u64::MAX), epoch }, ErrorCode::StaleBrokerEpoch),
    ];
    for (lie, code) in lies {
        let answer = liar.call(Protocol::Register, register::encode_request(&lie)).await.expect("answered");
        assert_eq!(refusal(Protocol::Register, &answer).map(|failure| failure.code), Some(code), "{lie:?}");
    }
    let cluster = client.admin().cluster().await.expect("answered");
    assert!(
        cluster.nodes.len() == 2 && cluster.nodes.iter().all(|node| !node.fenced),
        "nobody was put out: {cluster:?}"
    );
}

/// Issue: forged, stale and foreign records of the DHT.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_cluster_did_not_sign_last_are_not_taken() {
    let nodes = cluster(2).await;
    let (node, id) = (&nodes[0], cluster_of(&nodes[0]));
    let client = node.client().await;
    let topic = create(&client, "honest", 2, &[]).await;
    let mut peer = Peer::connect(node, &id, Protocol::hello_name()).await;
    let (key, place) = (Key::Topic(topic.clone()), Key::Topic(topic.clone()).record_key(&id));
    let ask = resolve::encode_request(&[Subject::Topic(topic.clone())]);
    let signed = async |peer: &mut Peer| {
        let answer = peer.call(Protocol::Resolve, ask.clone()).await.expect("answered");
        resolve::decode_reply(&answer, 1).expect("a reply").expect("granted").remove(0).expect("it exists")
    };
    let old = signed(&mut peer).await;
    client.admin().add_partitions("honest", 4, false).await.expect("grown");
    let new = signed(&mut peer).await;
    assert_ne!(old, new);
    eventually("the node holds the new record", async || {
        (peer.get(&place).await.as_deref() == Some(&*new)).then_some(())
    })
    .await;

    let greeting = peer.call(Protocol::Hello, hello::encode_request()).await.expect("answered");
    let public_key =
        hello::decode_reply(&greeting).expect("a reply").expect("greeted").cluster.expect("one").public_key;
    let body = Verifier::new(id, &public_key).expect("its key").verify(&new).expect("valid").body().clone();
    let other = Signer::new(&[7; 32]);
    let theirs = Body { cluster: other.cluster_id(), version: Version::new(9, MetadataIndex(9)), ..body.clone() };
    let foreign = other.sign(theirs).expect("its own").bytes().clone();
    assert!(peer.put(&place, &new).await, "what is held already may be refreshed");
    assert!(!peer.put(&place, &old).await, "stale");
    assert!(!peer.put(&place, &foreign).await, "foreign");
    assert!(!peer.put(&key.record_key(&other.cluster_id()), &foreign).await, "foreign, at its own place");
    assert!(!peer.put(&Key::Quorum.record_key(&id), &new).await, "at another key's place");
    assert!(!peer.put(&place, &new[..new.len() - 1]).await, "cut off");
    assert!(!peer.put(&place, &vec![0; 32 * 1024]).await, "too large");
    assert!(!peer.put(&place, b"").await, "empty");
    for i in 0..32 {
        let mut forged = new.to_vec();
        forged[i * new.len() / 32] ^= 1 << (i % 8);
        assert!(!peer.put(&place, &forged).await, "forged at byte {}", i * new.len() / 32);
    }
    assert_eq!(peer.get(&place).await.as_deref(), Some(&*new), "the right one is still there");

    let cold = node.client_with(ClientConfig { fallback_disabled: true, ..ClientConfig::default() }).await;
    for (partition, state) in client.admin().topics().await.expect("answered").remove(0).partitions {
        let route = cold.mesh().route(&topic, partition).await.expect("found");
        assert_eq!((Some(route.leader), route.partitions), (state.leader, 4), "partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_of_strangers_moves_nobody() {
    let loud = ["--log-level", "info,rafka_node=debug"];
    let founder = Node::start(&[]).await;
    let listener = Node::start(&[&loud[..], &["--bootstrap", founder.mesh()]].concat()).await;
    let id = cluster_of(&founder);
    let mut peer = Peer::connect(&listener, &id, Protocol::hello_name()).await;
    let hint = |index| Hint::Meta(MetaHint { index: MetadataIndex(index), ..MetaHint::default() });
    for lie in [gossip::encode(&hint(u64::MAX)), b"nonsense".to_vec(), vec![0xff; GOSSIP_BYTES_MAX]] {
        peer.publish(Channel::Meta.topic(&id), lie).await;
    }
    // What the founder says afterwards is heard, and was not crowded out.
    let client = founder.client().await;
    create(&client, "news", 1, &[]).await;
    listener.said(&format!("gossip source={}", founder.peer_id())).await;
    assert!(!listener.log().contains(&format!("gossip source={}", peer.id())), "a stranger was listened to");
    eventually("the listener knows the topic", async || (listener.status().await["topics"] == 1).then_some(())).await;
}

/// Issue: an unadmitted peer on a cluster with a token is refused everything but hello and register, and shown out.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_may_say_hello_and_register_and_has_five_seconds() {
    let home = Home::new();
    let token = home.file("token", "a secret");
    let node = home.start(&["--join-token-file", &token]).await;
    let id = cluster_of(&node);
    let config = ClientConfig { token: Some("a secret".to_owned()), ..ClientConfig::default() };
    let client = node.client_with(config).await;
    let topic = create(&client, "secret", 1, &[]).await;
    let at = TopicPartition {
        topic: client.admin().topics().await.expect("answered").remove(0).id,
        partition: PartitionId(0),
    };
    let place = Key::Topic(topic.clone()).record_key(&id);
    let mut stranger = Peer::connect(&node, &id, Protocol::hello_name()).await;
    for protocol in Protocol::ALL {
        let answer = stranger.call(protocol, valid(protocol, &topic, at)).await.expect("answered");
        let code = refusal(protocol, &answer).map(|failure| failure.code);
        let expected = (protocol != Protocol::Hello).then_some(ErrorCode::ClusterAuthorizationFailed);
        assert_eq!(code, expected, "{}", protocol.word());
    }
    let looked = tokio::join!(stranger.get(&place), create(&client, "whispered", 1, &[]));
    assert_eq!(looked.0, None, "the directory is not for strangers");
    let stayed = stranger.hung_up().await;
    assert_eq!(stranger.heard, 0, "nor is gossip");
    let allowed = Duration::from_millis(ADMISSION_MS_MAX);
    assert!(stayed >= allowed - Duration::from_secs(1) && stayed < allowed * 2, "after {stayed:?}");

    // Whoever proves that it knows the token stays, and reads the directory.
    let mut guest = Peer::connect(&node, &id, Protocol::hello_name()).await;
    let proof = certificate::proof(&certificate::token_hash("a secret"), &id, &guest.id(), &node.peer());
    let shown = register::encode_request(&Request::PresentClient { proof: Some(proof) });
    let answer = guest.call(Protocol::Register, shown).await.expect("answered");
    assert_eq!(register::decode_reply(&answer).expect("a reply"), Ok(Reply::Admitted));
    let answer = guest.call(Protocol::Admin, valid(Protocol::Admin, &topic, at)).await.expect("answered");
    assert_eq!(refusal(Protocol::Admin, &answer), None);
    eventually("the record", async || guest.get(&place).await).await;
    create(&client, "told", 1, &[]).await;
    guest.hears().await;
}
