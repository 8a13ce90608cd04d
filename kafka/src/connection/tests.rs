use std::sync::Arc;

use bytes::Bytes;
use rafka_broker::group::request::JoinReply;
use rafka_broker::group::{GroupReply, GroupRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use rafka_model::limits::KAFKA_AHEAD_PARTITIONS_MAX;

use super::*;
use crate::door::Config;
use crate::fake::{self, Fake};
use crate::header::{ResponseHeader, request_frame};
use crate::messages::{
    Call, api_versions, decode_all, fetch, join_group, list_offsets, metadata, offset_commit, produce, sync_group,
};
use crate::metrics::Metrics;

/// The client's end of a connection that is served.
struct Wire {
    stream: DuplexStream,
    served: JoinHandle<End>,
    stop: Option<oneshot::Sender<()>>,
    next: i32,
}

impl Wire {
    fn new(door: &Arc<Door<Fake>>) -> Self {
        let (stream, theirs) = duplex(64 * 1024);
        let (stop, stopped) = oneshot::channel::<()>();
        let client = fake::client("127.0.0.1:9092");
        let stopped = async { drop(stopped.await) };
        let served = tokio::spawn(serve(door.clone(), client, theirs, stopped));
        Self { stream, served, stop: Some(stop), next: 0 }
    }

    async fn send<C: Call>(&mut self, version: i16, request: &C) -> i32 {
        self.next += 1;
        let frame = request_frame(version, self.next, Some("test".into()), request).expect("fits").concat();
        self.stream.write_all(&frame).await.expect("open");
        self.next
    }

    async fn frame(&mut self) -> Reader {
        let length = self.stream.read_i32().await.expect("a reply");
        let mut frame = vec![0; usize::try_from(length).expect("a length")];
        self.stream.read_exact(&mut frame).await.expect("a whole reply");
        Reader::new(Bytes::from(frame))
    }

    async fn receive<C: Call>(&mut self, version: i16) -> (i32, C::Response) {
        let mut frame = self.frame().await;
        let header = ResponseHeader::decode(C::KEY, version, &mut frame).expect("a header");
        (header.correlation_id, decode_all(C::KEY, version, &mut frame).expect("a response"))
    }

    async fn ask<C: Call>(&mut self, version: i16, request: &C) -> C::Response {
        let asked = self.send(version, request).await;
        let (answered, response) = self.receive::<C>(version).await;
        assert_eq!(asked, answered);
        response
    }

    async fn end(self) -> End {
        let Self { mut stream, served, .. } = self;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("readable");
        assert_eq!(rest, [] as [u8; 0], "nothing is said before the end");
        served.await.expect("no panic")
    }
}

fn door_of(fake: Fake, config: Config) -> Arc<Door<Fake>> {
    Arc::new(Door::new(fake, config, Arc::new(Metrics::default())))
}

fn produce_of(acks: i16, values: &[&str]) -> produce::Request {
    let partition = produce::PartitionProduceData { index: 0, records: Some(fake::batch(values)) };
    let topic = produce::TopicProduceData {
        name: "orders".into(),
        partition_data: vec![partition],
        ..produce::TopicProduceData::default()
    };
    produce::Request { acks, timeout_ms: 1000, topic_data: vec![topic], ..produce::Request::default() }
}

fn fetch_of(offset: i64, max_wait_ms: i32) -> fetch::Request {
    let partition = fetch::FetchPartition {
        partition: 0,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..fetch::FetchPartition::default()
    };
    let topic =
        fetch::FetchTopic { topic: "orders".into(), partitions: vec![partition], ..fetch::FetchTopic::default() };
    fetch::Request { max_wait_ms, min_bytes: 1, topics: vec![topic], ..fetch::Request::default() }
}

fn offset_of(response: &produce::Response) -> (i16, i64) {
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

#[tokio::test]
async fn what_is_produced_is_fetched_in_every_version() {
    let door = fake::door(Fake::default());
    let mut wire = Wire::new(&door);
    let orders = crate::door::uuid(door.desk.orders(0).topic);
    for version in ApiKey::Produce.versions() {
        let mut request = produce_of(-1, &["a", "b"]);
        request.topic_data[0].topic_id = orders;
        let response = wire.ask(version, &request).await;
        assert_eq!(offset_of(&response), (0, i64::from(version - 3) * 2), "version {version}");
    }
    for version in ApiKey::Fetch.versions() {
        let mut request = fetch_of(3, 0);
        request.topics[0].topic_id = orders;
        let response = wire.ask(version, &request).await;
        let partition = &response.responses[0].partitions[0];
        let records = partition.records.clone().expect("records").into_bytes();
        let first = rafka_model::RecordBatch::parse_first(&records).expect("a batch");
        assert_eq!(first.header().base_offset.0, 2, "version {version}: the batch that holds offset 3, whole");
        assert_eq!((partition.error_code, partition.high_watermark), (0, 22));
    }
    let latency = door.metrics.latency(ApiKey::Produce);
    assert_eq!(latency.count, 11);
}

#[tokio::test]
async fn replies_keep_the_order_of_requests_and_waiting_for_replicas_holds_nothing_up() {
    let safe = Arc::new(Semaphore::new(0));
    let door = fake::door(Fake { safe: Some(safe.clone()), ..Fake::default() });
    let mut wire = Wire::new(&door);
    let first = wire.send(9, &produce_of(-1, &["a"])).await;
    let second = wire.send(9, &produce_of(-1, &["b"])).await;
    let third = wire.send(8, &metadata::Request::default()).await;
    let at = door.desk.orders(0);
    while door.desk.logs.lock().get(&at).map_or(0, Vec::len) < 2 {
        tokio::task::yield_now().await;
    }
    safe.add_permits(2);
    let (answered, response) = wire.receive::<produce::Request>(9).await;
    assert_eq!((answered, offset_of(&response)), (first, (0, 0)));
    let (answered, response) = wire.receive::<produce::Request>(9).await;
    assert_eq!((answered, offset_of(&response)), (second, (0, 1)));
    assert_eq!(wire.receive::<metadata::Request>(8).await.0, third);
}

#[tokio::test]
async fn a_produce_without_acks_is_silent_and_ends_the_connection_when_it_fails() {
    let door = fake::door(Fake::default());
    let mut wire = Wire::new(&door);
    wire.send(7, &produce_of(0, &["a"])).await;
    let response = wire.ask(5, &fetch_of(0, 0)).await;
    assert_eq!(response.responses[0].partitions[0].high_watermark, 1);
    let mut wrong = produce_of(0, &["a"]);
    wrong.topic_data[0].name = "nowhere".into();
    wire.send(7, &wrong).await;
    assert!(matches!(wire.end().await, End::Refused(_)));
}

#[tokio::test]
async fn refusals_are_told_by_partition_with_the_leader_where_the_version_has_it() {
    let door = fake::door(Fake::default());
    let mut wire = Wire::new(&door);
    let mut request = produce_of(1, &["a"]);
    request.topic_data[0].partition_data[0].index = 2;
    let response = wire.ask(10, &request).await;
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!((partition.error_code, partition.current_leader.leader_id), (6, 2));
    assert_eq!((response.node_endpoints[0].node_id, response.node_endpoints[0].port), (2, 9092));
    assert_eq!(wire.ask(9, &request).await.node_endpoints.len(), 0);
    request.topic_data[0].partition_data[0].index = 9;
    let response = wire.ask(10, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 3);
    request.acks = 7;
    let response = wire.ask(10, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 21);
    let mut request = fetch_of(0, 10_000);
    request.topics[0].partitions[0].partition = 2;
    request.topics[0].topic_id = crate::door::uuid(door.desk.orders(0).topic);
    let response = wire.ask(16, &request).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.current_leader.leader_id, response.node_endpoints[0].port), (2, 9092));
    assert_eq!(door.metrics.errors(ApiKey::Fetch), [("NOT_LEADER_OR_FOLLOWER", 1)]);
}

fn latest_of(partitions: usize) -> list_offsets::Request {
    let partition = list_offsets::ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let topic = list_offsets::ListOffsetsTopic { name: "orders".into(), partitions: vec![partition; partitions] };
    list_offsets::Request { replica_id: -1, topics: vec![topic], ..Default::default() }
}

#[tokio::test]
async fn questions_that_other_nodes_answer_cost_one_round_trip_however_many_they_are() {
    let others = Arc::new(Semaphore::new(0));
    let door = fake::door(Fake { others: Some(others.clone()), ..Fake::default() });
    let mut wire = Wire::new(&door);
    let begun = async |door: &Door<Fake>, count: usize| {
        while door.desk.looked_up.load(std::sync::atomic::Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    };
    for _ in 0..12 {
        wire.send(7, &latest_of(1)).await;
    }
    begun(&door, 12).await;
    others.add_permits(12);
    for number in 1..=12 {
        assert_eq!(wire.receive::<list_offsets::Request>(7).await.0, number, "answers keep their order");
    }
    // What takes much memory waits for its turn.
    wire.send(7, &latest_of(KAFKA_AHEAD_PARTITIONS_MAX)).await;
    let last = wire.send(7, &latest_of(1)).await;
    begun(&door, 13).await;
    assert_eq!(door.desk.looked_up.load(std::sync::atomic::Ordering::Relaxed), 13);
    others.add_permits(2);
    wire.receive::<list_offsets::Request>(7).await;
    assert_eq!(wire.receive::<list_offsets::Request>(7).await.0, last);
}

#[tokio::test]
async fn offsets_are_listed_as_kafka_does_without_tiered_storage() {
    let door = fake::door(Fake::default());
    let mut wire = Wire::new(&door);
    wire.ask(9, &produce_of(1, &["a", "b"])).await;
    let mut listed = Vec::new();
    for (version, timestamp) in
        [(1, -1), (11, -2), (7, -3), (6, -3), (8, -4), (9, -5), (11, -6), (8, -5), (11, 500), (11, 5_000)]
    {
        let partition = list_offsets::ListOffsetsPartition { timestamp, ..Default::default() };
        let topic = list_offsets::ListOffsetsTopic { name: "orders".into(), partitions: vec![partition] };
        let request = list_offsets::Request { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response = wire.ask(version, &request).await;
        let found = &response.topics[0].partitions[0];
        listed.push((found.error_code, found.offset, found.timestamp));
    }
    let missing = (0, -1, -1);
    let unsupported = (35, -1, -1);
    assert_eq!(
        listed,
        [
            (0, 2, -1),
            (0, 0, -1),
            (0, 1, 1000),
            unsupported,
            (0, 0, -1),
            missing,
            missing,
            unsupported,
            (0, 0, 1000),
            missing
        ]
    );
}

#[tokio::test]
async fn a_version_of_the_future_is_answered_for_api_versions_alone() {
    let door = fake::door(Fake::default());
    let mut wire = Wire::new(&door);
    wire.stream.write_all(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 5, 255, 255, 0]).await.expect("open");
    let mut frame = wire.frame().await;
    let header = ResponseHeader::decode(ApiKey::ApiVersions, 0, &mut frame).expect("a header");
    let response: api_versions::Response = decode_all(ApiKey::ApiVersions, 0, &mut frame).expect("a response");
    assert_eq!((header.correlation_id, response.error_code), (5, 35));
    wire.stream.write_all(&[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 6, 255, 255]).await.expect("open");
    assert!(matches!(wire.end().await, End::Refused(_)), "Produce 2 is advertised and not served");
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_others_do_not_notice() {
    let door = fake::door(Fake::default());
    let mut calm = Wire::new(&door);
    let claims: [(&[u8], bool); 4] = [
        (&[0x7f, 255, 255, 255, 0], false),
        (&[255, 255, 255, 255], false),
        (&[0, 0, 0, 3, 1, 2, 3], true),
        (&[0, 0, 0, 11, 0, 3, 0, 8, 0, 0, 0, 1, 0, 0, 7], true),
    ];
    for (bytes, malformed) in claims {
        let mut wire = Wire::new(&door);
        wire.stream.write_all(bytes).await.expect("open");
        let end = wire.end().await;
        assert_eq!(matches!(end, End::Malformed(_)), malformed, "{bytes:?}: {end}");
        assert_eq!(matches!(end, End::Frame { .. }), !malformed, "{bytes:?}: {end}");
    }
    assert_eq!(door.metrics.malformed.get(), 4);
    assert_eq!(calm.ask(8, &metadata::Request::default()).await.topics.len(), 1);
    assert_eq!(door.metrics.connections.get(), 1);
}

#[tokio::test]
async fn bytes_behind_a_request_are_forgiven() {
    let door = fake::door(Fake::default());
    let mut wire = Wire::new(&door);
    let mut frame = request_frame(13, 1, None, &metadata::Request::default()).expect("fits").concat();
    frame.extend([0; 3]);
    frame[3] += 3;
    wire.stream.write_all(&frame).await.expect("open");
    assert_eq!(wire.receive::<metadata::Request>(13).await.1.topics.len(), 1, "librdkafka#5049");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_connection_sooner_within_a_frame() {
    let door = door_of(Fake::default(), Config { idle_ms: 60_000, ..Config::default() });
    let began = Instant::now();
    let idle = Wire::new(&door);
    assert!(matches!(idle.end().await, End::Expired("nothing came")));
    assert_eq!(began.elapsed().as_secs(), 60);
    let began = Instant::now();
    let mut cut = Wire::new(&door);
    cut.stream.write_all(&[0, 0, 1]).await.expect("open");
    assert!(matches!(cut.end().await, End::Expired("a request was not finished")));
    assert_eq!(began.elapsed().as_millis(), u128::from(FRAME_STEP_MS_MAX));
    let began = Instant::now();
    let mut waiting = Wire::new(&door);
    let response = waiting.ask(4, &fetch_of(0, 20_000)).await;
    assert_eq!((response.responses.len(), began.elapsed().as_secs()), (1, 20), "a long poll is no silence");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_listen_is_not_read_from_and_let_go() {
    let door = fake::door(Fake::default());
    let value = "x".repeat(100_000);
    let mut wire = Wire::new(&door);
    wire.ask(9, &produce_of(1, &[&value])).await;
    for _ in 0..100 {
        let frame = request_frame(4, 1, None, &fetch_of(0, 0)).expect("fits").concat();
        if tokio::time::timeout(Duration::from_secs(1), wire.stream.write_all(&frame)).await.is_err() {
            break;
        }
    }
    let end = wire.served.await.expect("no panic");
    assert!(matches!(end, End::Expired("replies were not taken")), "{end}");
    assert!(!door.budget.is_pressed());
    assert!(door.metrics.latency(ApiKey::Fetch).count < 20, "no more is read than there is room for answers");
}

#[tokio::test]
async fn a_stopping_node_answers_what_it_read() {
    let safe = Arc::new(Semaphore::new(0));
    let door = fake::door(Fake { safe: Some(safe.clone()), ..Fake::default() });
    let mut wire = Wire::new(&door);
    wire.send(9, &produce_of(-1, &["a"])).await;
    let at = door.desk.orders(0);
    while !door.desk.logs.lock().contains_key(&at) {
        tokio::task::yield_now().await;
    }
    drop(wire.stop.take());
    tokio::task::yield_now().await;
    safe.add_permits(1);
    assert_eq!(offset_of(&wire.receive::<produce::Request>(9).await.1), (0, 0));
    assert!(matches!(wire.end().await, End::Stopped));
}

#[tokio::test]
async fn large_frames_come_in_steps_and_requests_sent_before_leaving_are_served() {
    let door = fake::door(Fake::default());
    let mut wire = Wire::new(&door);
    let value = "x".repeat(700_000);
    assert_eq!(offset_of(&wire.ask(9, &produce_of(1, &[&value])).await), (0, 0));
    for value in ["b", "c", "d"] {
        wire.send(9, &produce_of(0, &[value])).await;
    }
    let Wire { stream, served, .. } = wire;
    drop(stream);
    assert!(matches!(served.await.expect("no panic"), End::Left | End::Broken(_)));
    assert_eq!(door.desk.logs.lock()[&door.desk.orders(0)].len(), 4);
}

/// A door whose coordinator answers once there are permits.
fn waiting(settled: &Arc<Semaphore>) -> Arc<Door<Fake>> {
    let mut fake = Fake { settled: Some(settled.clone()), ..Fake::default() };
    fake.coordinates = Box::new(|_| Ok(GroupReply::Join(JoinReply::TakeMemberId("m".to_owned()))));
    fake::door(fake)
}

/// Waits until the coordinator was asked so many times.
async fn asked(door: &Door<Fake>, times: usize) {
    while door.desk.asked_groups.lock().len() < times {
        tokio::task::yield_now().await;
    }
}

fn join_of(metadata_bytes: usize) -> join_group::Request {
    let protocol =
        join_group::JoinGroupRequestProtocol { name: "range".into(), metadata: vec![7; metadata_bytes].into() };
    join_group::Request { group_id: "g".into(), protocols: vec![protocol], ..join_group::Request::default() }
}

#[tokio::test(start_paused = true)]
async fn a_join_may_wait_for_longer_than_silence_may_last() {
    let settled = Arc::new(Semaphore::new(0));
    let door = waiting(&settled);
    let mut wire = Wire::new(&door);
    wire.send(5, &join_of(1)).await;
    asked(&door, 1).await;
    tokio::time::sleep(Duration::from_millis(3 * door.config.idle_ms)).await;
    settled.add_permits(1);
    assert_eq!(wire.receive::<join_group::Request>(5).await.1.error_code, 79);
    assert!(matches!(wire.end().await, End::Expired("nothing came")));
}

#[tokio::test]
async fn commits_do_not_wait_for_one_another_where_the_coordinator_keeps_their_order() {
    let settled = Arc::new(Semaphore::new(0));
    let mut fake = Fake { settled: Some(settled.clone()), ..Fake::default() };
    fake.coordinates = Box::new(|_| Ok(GroupReply::Commit(vec![Ok(())])));
    let door = fake::door(fake);
    let mut wire = Wire::new(&door);
    for offset in 0..3 {
        let partition = offset_commit::OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic = offset_commit::OffsetCommitRequestTopic {
            name: "orders".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = offset_commit::Request { group_id: "g".into(), topics: vec![topic], ..Default::default() };
        wire.send(8, &request).await;
    }
    asked(&door, 3).await;
    let offsets: Vec<_> = door
        .desk
        .asked_groups
        .lock()
        .iter()
        .map(|asked| match asked {
            GroupRequest::Commit(commit) => commit.offsets[0].offset,
            other => panic!("not a commit: {other:?}"),
        })
        .collect();
    assert_eq!(offsets, [0, 1, 2]);
    settled.add_permits(3);
    for _ in 0..3 {
        let (_, response) = wire.receive::<offset_commit::Request>(8).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_for_others_frees_its_place() {
    let settled = Arc::new(Semaphore::new(0));
    let door = waiting(&settled);
    let mut wire = Wire::new(&door);
    wire.send(5, &join_of(1)).await;
    asked(&door, 1).await;
    let mut other = Wire::new(&door);
    other.send(3, &sync_group::Request { group_id: "g".into(), ..sync_group::Request::default() }).await;
    asked(&door, 2).await;
    let mut calm = Wire::new(&door);
    for wire in [wire, other] {
        let Wire { stream, served, .. } = wire;
        drop(stream);
        let end = served.await.expect("no panic");
        assert!(matches!(end, End::Left | End::Broken(_)), "{end}");
    }
    assert_eq!(calm.ask(8, &metadata::Request::default()).await.topics.len(), 1);
    assert_eq!(door.metrics.connections.get(), 1);
}

#[tokio::test]
async fn a_stopping_node_does_not_wait_for_members() {
    let settled = Arc::new(Semaphore::new(0));
    let door = waiting(&settled);
    let mut wire = Wire::new(&door);
    wire.send(5, &join_of(1)).await;
    asked(&door, 1).await;
    drop(wire.stop.take());
    assert!(matches!(wire.end().await, End::Stopped));
}

#[tokio::test]
async fn members_that_wait_hold_none_of_the_memory_that_requests_share() {
    let settled = Arc::new(Semaphore::new(0));
    let mut fake = Fake { settled: Some(settled.clone()), ..Fake::default() };
    fake.coordinates = Box::new(|_| Ok(GroupReply::Join(JoinReply::TakeMemberId("m".to_owned()))));
    let door = door_of(fake, Config { request_bytes_max: 300_000, ..Config::default() });
    let mut wires = Vec::new();
    for i in 1..=4 {
        let mut wire = Wire::new(&door);
        wire.send(5, &join_of(200_000)).await;
        asked(&door, i).await;
        wires.push(wire);
    }
    let value = "x".repeat(200_000);
    assert_eq!(offset_of(&Wire::new(&door).ask(9, &produce_of(1, &[&value])).await), (0, 0));
    settled.add_permits(wires.len());
    for mut wire in wires {
        assert_eq!(wire.receive::<join_group::Request>(5).await.1.error_code, 79);
    }
}

#[tokio::test]
async fn topics_of_the_cluster_are_written_by_its_tools_alone() {
    let door = fake::door(Fake::default());
    fake::add_topic(Arc::make_mut(&mut door.desk.image.lock()), "__consumer_offsets", &[1]);
    let mut wire = Wire::new(&door);
    let mut request = produce_of(1, &["a"]);
    request.topic_data[0].name = "__consumer_offsets".into();
    assert_eq!(offset_of(&wire.ask(9, &request).await), (17, -1));
    let frame = request_frame(9, 1, Some("__admin_client".into()), &request).expect("fits").concat();
    wire.stream.write_all(&frame).await.expect("open");
    assert_eq!(offset_of(&wire.receive::<produce::Request>(9).await.1), (0, 0));
}
