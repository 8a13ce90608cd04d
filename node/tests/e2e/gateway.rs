//! Gateways: clients that reach one node use all of them.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use rafka_broker::ErrorCode;
use rafka_broker::request::{Acks, Admin, AdminReply, Produce, ProducePartition};
use rafka_client::{NodeId, PartitionId};
use rafka_kafka::messages::{
    describe_cluster, describe_log_dirs, describe_topic_partitions, find_coordinator, init_producer_id, join_group,
    list_groups, metadata, offset_commit, offset_fetch, produce,
};
use rafka_model::limits::EXCHANGE_MS_MAX;
use rafka_model::{BatchBuilder, Compression as Codec, MetadataIndex, ProducerId, Timestamp, TopicPartition};
use rafka_protocols::{Protocol, admin};
use rskafka::client::partition::{Compression, OffsetAt};
use tokio::net::TcpStream;

use crate::groups::Kafka;
use crate::kafka::{partition, record};
use crate::peer::Peer;
use crate::support::{Home, Node, binary, cluster, create, led_by, name, skipped};

const KAFKA: &[&str] = &["--kafka-listen", "127.0.0.1:0"];

/// A node that owns nothing and relays everything.
async fn gateway(broker: &Node) -> Node {
    Node::start(&[KAFKA, &["--roles", "gateway", "--bootstrap", broker.mesh()]].concat()).await
}

fn batch(value: &str, producer: Option<(ProducerId, i32)>) -> bytes::Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    if let Some((id, sequence)) = producer {
        batch = batch.idempotent(id, 0, sequence);
    }
    batch.push(Timestamp(1_700_000_000_000), None, Some(value.as_bytes()), &[]);
    batch.build().bytes().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reaches_a_node_that_owns_nothing_uses_every_partition() {
    let brokers = cluster(3).await;
    let gateway = gateway(&brokers[0]).await;
    let bootstrap = gateway.kafka();
    let client = rskafka::client::ClientBuilder::new(vec![bootstrap.clone()]).build().await.expect("a broker answers");
    let controller = client.controller_client().expect("a controller");
    controller.create_topic("wide", 12, 1, 10_000).await.expect("made");
    for index in 0..12 {
        let partition = partition(&bootstrap, "wide", index).await;
        for offset in 0..3 {
            let value = offset.to_string();
            let offsets = partition.produce(vec![record("k", &value)], Compression::NoCompression).await;
            assert_eq!(offsets.expect("taken"), [offset]);
        }
        for _ in 0..2 {
            let (records, high_watermark) = partition.fetch_records(0, 1..1_000_000, 1_000).await.expect("given");
            assert_eq!((records.len(), high_watermark), (3, 3));
            assert_eq!(records[2].record, record("k", "2"));
        }
        assert_eq!(partition.get_offset(OffsetAt::Latest).await.expect("known"), 3);
        partition.delete_records(2, 1_000).await.expect("deleted");
        assert_eq!(partition.get_offset(OffsetAt::Earliest).await.expect("known"), 2);
        assert!(partition.fetch_records(0, 1..1_000_000, 1_000).await.is_err(), "what was deleted is not in the cache");
    }
    // Every broker leads some of them, the gateway none.
    let mesh = brokers[0].client().await;
    for broker in &brokers {
        assert!(!led_by(&mesh, &name("wide"), broker.id()).await.is_empty());
    }
    assert_eq!(gateway.metric("rafka_partitions_hosted").await, 0);
    let metrics = gateway.ops("/metrics").await;
    let counted = |line: &str| metrics.lines().any(|found| found.starts_with(line) && !found.ends_with(" 0"));
    for line in [
        r#"rafka_gateway_requests_total{api="produce",route="relayed"}"#,
        r#"rafka_gateway_requests_total{api="fetch",route="cached"}"#,
        r#"rafka_gateway_bytes_total{api="fetch",route="relayed"}"#,
        r#"rafka_gateway_relay_duration_seconds_count{api="produce"}"#,
        "rafka_gateway_cache_hits_total",
    ] {
        assert!(counted(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_names_itself_only_and_no_other_node_names_it() {
    let broker = Node::start(&[
        "--kafka-listen",
        "127.0.0.1:0",
        "--kafka-listen",
        "far=127.0.0.1:0",
        "--kafka-routing",
        "far=mesh",
    ])
    .await;
    let gateway = gateway(&broker).await;
    let client = broker.client().await;
    create(&client, "orders", 4, &[]).await;
    let mut kafka = Kafka::connect(&gateway).await;
    let asked = metadata::Request { allow_auto_topic_creation: true, ..metadata::Request::default() };
    let me = i32::try_from(gateway.id().0).expect("small");
    let told = kafka.call(12, asked.clone()).await;
    assert_eq!(told.brokers.iter().map(|broker| broker.node_id).collect::<Vec<_>>(), [me]);
    assert_eq!(format!("{}:{}", told.brokers[0].host, told.brokers[0].port), gateway.kafka());
    assert_eq!(told.controller_id, me);
    let orders = told.topics.iter().find(|topic| topic.name.as_deref() == Some("orders")).expect("there");
    assert_eq!(orders.partitions.len(), 4);
    assert!(
        orders.partitions.iter().all(|one| one.leader_id == me && one.replica_nodes == [me] && one.isr_nodes == [me])
    );
    let cluster = kafka.call(1, describe_cluster::Request { endpoint_type: 1, ..Default::default() }).await;
    assert_eq!(cluster.brokers.iter().map(|broker| broker.broker_id).collect::<Vec<_>>(), [me]);
    let topics = vec![describe_topic_partitions::TopicRequest { name: "orders".into() }];
    let limit = describe_topic_partitions::Request { topics, response_partition_limit: 100, ..Default::default() };
    let page = kafka.call(0, limit).await;
    assert!(page.topics[0].partitions.iter().all(|one| one.leader_id == me));
    let found = kafka.call(2, find_coordinator::Request { key: "g".into(), ..Default::default() }).await;
    assert_eq!((found.error_code, found.node_id), (0, me));
    // At its direct listener the broker tells of itself, and not of the gateway.
    let mut direct = Kafka::connect(&broker).await;
    let told = direct.call(12, asked).await;
    assert_eq!(told.brokers.iter().map(|broker| broker.node_id).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_over_the_mesh_is_never_relayed() {
    let broker = Node::start(&[]).await;
    let gateway = gateway(&broker).await;
    let client = broker.client().await;
    let topic = create(&client, "orders", 1, &[]).await;
    let described = client.admin().describe_topics(&[topic.to_string()]).await.expect("answered").remove(0).1;
    let at = TopicPartition { topic: described.expect("exists").id, partition: PartitionId(0) };
    let cluster = gateway.cluster_id().parse().expect("a cluster id");
    let mut peer = Peer::connect(&gateway, &cluster, Protocol::Produce.name(&cluster)).await;
    let request = || Produce {
        acks: Acks::All,
        timeout_ms: 1_000,
        partitions: vec![ProducePartition { partition: at, leader_epoch: None, records: batch("v", None) }],
    };
    let hinted = crate::support::eventually("the gateway knows the topic", async || {
        let frame = peer.call(Protocol::Produce, rafka_protocols::produce::encode_request(&request())).await;
        let replies =
            rafka_protocols::produce::decode_reply(&frame.expect("an answer")).expect("a reply").expect("taken");
        let failure = replies[0].result.clone().expect_err("refused");
        (failure.code == ErrorCode::NotLeaderOrFollower).then_some(failure.leader)
    });
    assert_eq!(hinted.await.expect("a hint").node, Some(NodeId(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_not_described_as_it_was_before_its_maker_made_it() {
    let broker = Node::start(&[]).await;
    let gateway = gateway(&broker).await;
    let client = broker.client().await;
    create(&client, "orders", 1, &[]).await;
    let index = client.admin().cluster().await.expect("described").index;
    let cluster = gateway.cluster_id().parse().expect("a cluster id");
    let mut peer = Peer::connect(&gateway, &cluster, Protocol::Admin.name(&cluster)).await;
    let mut described = async |since| {
        let request = Admin::DescribeTopics { names: vec!["orders".to_owned()], since };
        let frame = peer.call(Protocol::Admin, admin::encode_request(&request)).await;
        admin::decode_reply(&frame.expect("an answer")).expect("a reply")
    };
    // However late this node hears of it: it waits, and does not say that there is none.
    let Ok(AdminReply::Described(topics)) = described(index).await else { panic!("not described") };
    assert!(topics[0].is_ok(), "{topics:?}");
    let failure = described(MetadataIndex(u64::MAX)).await.expect_err("there is no such index");
    assert_eq!(failure.code, ErrorCode::NotReady, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_waits_longer_than_any_other_exchange_is_answered() {
    const DELAY: Duration = Duration::from_millis(EXCHANGE_MS_MAX + 2_000);
    let delay = format!("groups.initial_rebalance_delay_ms={}", DELAY.as_millis());
    let broker = Node::start(&["--set", &delay]).await;
    let gateway = gateway(&broker).await;
    let mut kafka = Kafka::connect(&gateway).await;
    let find = find_coordinator::Request { key: "slow".into(), ..Default::default() };
    assert_eq!(kafka.call(2, find).await.error_code, 0);
    let join = join_group::Request {
        group_id: "slow".into(),
        session_timeout_ms: 120_000,
        rebalance_timeout_ms: 600_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol { name: "range".into(), metadata: "m".into() }],
        ..Default::default()
    };
    let (answer, waited) = crate::support::eventually("the coordinator has read its log", async || {
        let asked = Instant::now();
        let answer = kafka.call(3, join.clone()).await;
        // COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR
        (!matches!(answer.error_code, 14..=16)).then(|| (answer, asked.elapsed()))
    })
    .await;
    assert_eq!((answer.error_code, answer.generation_id, answer.members.len()), (0, 1, 1));
    assert!(waited >= DELAY, "{waited:?}");
    assert_eq!(answer.leader, answer.member_id);
}

/// Stops all threads of a process; its connections stay.
async fn hang(pid: u32) {
    let stopped = Command::new("kill").args(["-STOP", &pid.to_string()]).status().expect("kill runs");
    assert!(stopped.success());
    crate::support::eventually("every thread has stopped", async || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let mut states = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        states.all(|state| state.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('T'))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_of_all_nodes_are_told_of_and_of_a_node_that_hangs_that_it_does() {
    let mut brokers = vec![Node::start(KAFKA).await];
    for _ in 0..2 {
        brokers.push(Node::start(&["--bootstrap", brokers[0].mesh()]).await);
    }
    let gateway = gateway(&brokers[0]).await;
    let client = brokers[0].client().await;
    create(&client, "wide", 12, &[]).await;
    let bootstrap = gateway.kafka();
    for index in 0..12 {
        let partition = partition(&bootstrap, "wide", index).await;
        partition.produce(vec![record("k", "v")], Compression::NoCompression).await.expect("taken");
    }
    let mut kafka = Kafka::connect(&gateway).await;
    let wanted = describe_log_dirs::DescribableLogDirTopic { topic: "wide".into(), partitions: (0..12).collect() };
    let request = || describe_log_dirs::Request { topics: Some(vec![wanted.clone()]) };
    // What `kafka-log-dirs` adds up: every log once, in directories whose names differ.
    let told = kafka.call(4, request()).await;
    let of = |broker: &Node| format!("node-{}:", broker.id());
    assert_eq!(told.results.len(), 3);
    for (dir, broker) in told.results.iter().zip(&brokers) {
        assert_eq!((dir.error_code, dir.log_dir.starts_with(&of(broker))), (0, true), "{}", &*dir.log_dir);
        assert!(dir.total_bytes > 0);
    }
    let logs = told.results.iter().flat_map(|dir| &dir.topics).flat_map(|topic| &topic.partitions);
    let sizes: Vec<_> = logs.map(|log| (log.partition_index, log.partition_size)).collect();
    assert_eq!(sizes.iter().map(|(index, _)| *index).collect::<BTreeSet<_>>(), (0..12).collect());
    assert!(sizes.len() == 12 && sizes.iter().all(|(_, size)| *size > 0), "{sizes:?}");
    // A broker that is asked itself tells of its own.
    let mut direct = Kafka::connect(&brokers[0]).await;
    let own = direct.call(4, request()).await;
    assert_eq!((own.results.len(), own.results[0].topics.len()), (1, 1));
    assert!(!own.results[0].log_dir.starts_with("node-"));
    hang(brokers[2].pid()).await;
    let told = kafka.call(4, request()).await;
    let codes: Vec<_> = told.results.iter().map(|dir| dir.error_code).collect();
    assert_eq!((codes, &*told.results[2].log_dir), (vec![0, 0, 7], &*format!("node-{}", brokers[2].id())));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_kept_through_a_gateway() {
    let brokers = cluster(3).await;
    let gateway = gateway(&brokers[1]).await;
    let client = brokers[0].client().await;
    create(&client, "orders", 3, &[]).await;
    let mut kafka = Kafka::connect(&gateway).await;
    let groups: Vec<_> = (0..12).map(|number| format!("group-{number}")).collect();
    for group in &groups {
        let find = find_coordinator::Request { key: group.clone().into(), ..Default::default() };
        assert_eq!(kafka.call(2, find).await.error_code, 0);
        let partitions = vec![offset_commit::OffsetCommitRequestPartition {
            partition_index: 1,
            committed_offset: 42,
            ..Default::default()
        }];
        let topics =
            vec![offset_commit::OffsetCommitRequestTopic { name: "orders".into(), partitions, ..Default::default() }];
        let commit = offset_commit::Request { group_id: group.clone().into(), topics, ..Default::default() };
        loop {
            let told = kafka.call(7, commit.clone()).await;
            match told.topics[0].partitions[0].error_code {
                0 => break,
                // The coordinator loads, or not every node has heard of it yet: as any client, ask again.
                14..=16 => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                code => panic!("error {code}"),
            }
        }
        let fetch = offset_fetch::Request { group_id: group.clone().into(), topics: None, ..Default::default() };
        let fetched = kafka.call(7, fetch).await;
        assert_eq!(fetched.topics[0].partitions[0].committed_offset, 42);
    }
    let listed = kafka.call(4, list_groups::Request::default()).await;
    let names: BTreeSet<_> = listed.groups.iter().map(|group| group.group_id.to_string()).collect();
    assert_eq!((listed.error_code, names), (0, groups.into_iter().collect()));
}

/// Requests on their way at once, as Kafka's producers have them.
const IN_FLIGHT: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_stream_survives_a_killed_leader_without_loss_or_repetition() {
    const COUNT: i32 = 200;
    let mut brokers = cluster(3).await;
    let gateway = gateway(&brokers[0]).await;
    let client = brokers[0].client().await;
    let topic = create(&client, "orders", 6, &[]).await;
    let doomed = brokers.pop().expect("three");
    let led = led_by(&client, &topic, doomed.id()).await;
    assert!(!led.is_empty());
    let mut kafka = Kafka::connect(&gateway).await;
    let request = init_producer_id::Request { transactional_id: None, ..Default::default() };
    let producer = kafka.call(4, request).await;
    assert_eq!(producer.error_code, 0);
    let id = ProducerId(producer.producer_id);
    // One record for each partition in each request: of some the leader falls, of others not.
    let request = |number: i32| {
        let data = |index| produce::PartitionProduceData {
            index,
            records: Some(batch(&number.to_string(), Some((id, number)))),
        };
        let partition_data = (0..6).map(data).collect();
        let topic_data =
            vec![produce::TopicProduceData { name: "orders".into(), partition_data, ..Default::default() }];
        produce::Request { transactional_id: None, acks: -1, timeout_ms: 30_000, topic_data }
    };
    let (mut doomed, mut again) = (Some(doomed), None);
    for number in 0..COUNT + IN_FLIGHT as i32 {
        if number < COUNT {
            kafka.send(7, request(number)).await;
        }
        if number == COUNT / 2
            && let Some(node) = doomed.take()
        {
            let flags = [node.host_port(), brokers[0].mesh().to_owned()];
            again = Some(node.kill().spawn(&["--listen", &flags[0], "--bootstrap", &flags[1]]));
        }
        if number >= IN_FLIGHT as i32 {
            let expected = i64::from(number - IN_FLIGHT as i32);
            let told = kafka.receive::<produce::Request>(7).await;
            let told: Vec<_> =
                told.responses[0].partition_responses.iter().map(|p| (p.error_code, p.base_offset)).collect();
            assert_eq!(told, vec![(0, expected); 6]);
        }
    }
    let _doomed = again.expect("it was killed").ready().await;
    for index in 0..6 {
        let partition = partition(&gateway.kafka(), "orders", index).await;
        let mut values = Vec::new();
        while values.len() < COUNT as usize {
            let (records, _) = partition.fetch_records(values.len() as i64, 1..1_000_000, 1_000).await.expect("given");
            values.extend(records.into_iter().map(|found| found.record.value.expect("there")));
        }
        let expected: Vec<_> = (0..COUNT).map(|number| number.to_string().into_bytes()).collect();
        assert_eq!(values, expected, "partition {index}");
    }
}

/// Says that this process is the client, in its own network namespace.
const INSIDE: &str = "RAFKA_TEST_INSIDE";

/// The test runs twice: outside it makes five nodes and a network of which the client reaches one corner, and starts
/// itself again there.
#[test]
fn a_client_that_reaches_one_node_of_five_uses_every_topic() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(reaches_one_of_five());
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/gateway_netns.sh");
    let binary = binary();
    for role in ["broker", "gateway"] {
        let test = std::env::current_exe().expect("known");
        let ran = Command::new(script)
            .arg(test)
            .args(["--exact", "gateway::a_client_that_reaches_one_node_of_five_uses_every_topic"])
            .env(INSIDE, "1")
            .env("RAFKA_GATEWAY_ROLE", role)
            .env("RAFKA_BIN_DIR", binary.parent().expect("a folder"))
            .output()
            .expect("the script starts");
        let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        match ran.status.code() {
            Some(77) => return skipped(&said),
            code => assert_eq!(code, Some(0), "as a {role}: {said}"),
        }
    }
}

async fn reaches_one_of_five() {
    let bootstrap = std::env::var("BOOTSTRAP").expect("told by the script");
    let cut_off = std::env::var("CUT_OFF").expect("told by the script");
    for address in cut_off.split(' ') {
        let tried = tokio::time::timeout(std::time::Duration::from_secs(1), TcpStream::connect(address)).await;
        assert!(!matches!(tried, Ok(Ok(_))), "{address} can be reached");
    }
    let client = rskafka::client::ClientBuilder::new(vec![bootstrap.clone()]).build().await.expect("a broker answers");
    let controller = client.controller_client().expect("a controller");
    for topic in ["one", "two"] {
        controller.create_topic(topic, 10, 1, 10_000).await.expect("made");
        for index in 0..10 {
            let partition = partition(&bootstrap, topic, index).await;
            let offsets = partition.produce(vec![record("k", "v")], Compression::Snappy).await.expect("taken");
            assert_eq!(offsets, [0]);
            let (records, _) = partition.fetch_records(0, 1..1_000_000, 1_000).await.expect("given");
            assert_eq!(records[0].record, record("k", "v"));
        }
    }
    controller.delete_topic("one", 10_000).await.expect("removed");
}

#[test]
fn a_gateway_founds_no_cluster() {
    let flags = ["--roles", "gateway"];
    Home::new().is_refused(&flags, 1, &["a gateway cannot found a cluster", "--bootstrap"]);
    let flags = ["--roles", "gateway", "--kafka-listen", "127.0.0.1:0", "--kafka-routing", "direct"];
    Home::new().is_refused(&flags, 78, &["kafka.routing", "a gateway leads nothing"]);
}
