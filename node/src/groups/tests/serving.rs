//! What coordinators answer when all is well.

use rafka_broker::request::{Acks, Produce, ProducePartition};
use rafka_model::{BatchBuilder, Compression, Timestamp};

use super::*;

#[tokio::test]
async fn the_first_question_makes_the_topic_as_kafka_has_it() {
    let bench = Bench::with(Config::default()).await;
    let found = bench.groups.coordinator("g").await.expect("made");
    assert_eq!((found.node, found.partition), (ME, PartitionId(partition_of("g", 50))));
    let image = bench.images.current();
    let topic = topic::find(&image).expect("made");
    assert_eq!((topic.partitions.len(), topic.replication_factor), (50, 1));
    let config = |key: &str| topic.configs.get(key).map(String::as_str);
    assert_eq!(
        ["cleanup.policy", "segment.bytes", "compression.type", "durability"].map(config),
        [Some("compact"), Some("104857600"), Some("producer"), Some("fsync")]
    );
}

#[tokio::test]
async fn many_who_ask_first_make_one_topic() {
    let bench = Bench::new().await;
    let all = (0..50).map(|_| bench.groups.coordinator("g"));
    for found in futures::future::join_all(all).await {
        assert_eq!(found.expect("made").node, ME);
    }
    assert_eq!(bench.asked.load(Ordering::Acquire), 1);
}

#[tokio::test]
async fn a_topic_that_somebody_else_made_at_the_same_time_will_do() {
    let bench = Bench::new().await;
    let images = bench.images.clone();
    *bench.instead.lock() = Some(Box::new(move |request| {
        decide(&images, request.clone()).expect("made by the other");
        Some(Failure::new(ErrorCode::TopicAlreadyExists, "somebody was first"))
    }));
    assert_eq!(bench.groups.coordinator("g").await.expect("there").node, ME);
}

#[tokio::test]
async fn fewer_replicas_are_better_than_no_topic() {
    let bench = Bench::new().await;
    let index = MetadataIndex(bench.images.index().0 + 1);
    bench.images.apply(Entry { index, deltas: vec![Delta::NodeUnfenced { id: OTHER }] }).expect("applied");
    let mut wanted = Vec::new();
    let (seen, told) = std::sync::mpsc::channel();
    *bench.instead.lock() = Some(Box::new(move |request| {
        let Admin::CreateTopics { topics, .. } = request else { panic!("{request:?}") };
        seen.send(topics[0].replication_factor).expect("heard");
        (topics[0].replication_factor != Some(1)).then(|| Failure::new(ErrorCode::InvalidReplicationFactor, "no"))
    }));
    bench.groups.coordinator("g").await.expect("made");
    wanted.extend(told.try_iter());
    assert_eq!(wanted, [Some(2), Some(1)], "as many as there are nodes, then one");
}

#[tokio::test]
async fn offsets_survive_a_crash() {
    let bench = Bench::new().await;
    bench.ready().await;
    for group in ["a", "b", "c"] {
        bench.commit(group, 7).await.expect("stored");
        bench.commit(group, 8).await.expect("stored");
    }
    let bench = bench.restart().await;
    for group in ["a", "b", "c"] {
        assert_eq!(bench.found(group).await, 8);
    }
    assert_eq!(bench.found("unknown").await, -1);
}

#[tokio::test]
async fn nothing_is_told_before_it_is_safe() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.watch.close_gate(true);
    let commit = tokio::spawn({
        let groups = bench.groups.clone();
        async move { groups.ask(commit("g", 1, 5)).await }
    });
    eventually("the commit is in the log", || bench.records() == 1).await;
    // Reads of the same coordinator see the new offset, so they wait for it too, and a list with them.
    let read = tokio::spawn({
        let groups = bench.groups.clone();
        async move { (groups.ask(offsets("g")).await, groups.list().await) }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!commit.is_finished() && !read.is_finished());
    bench.watch.close_gate(false);
    assert_eq!(commit.await.expect("ran"), Ok(GroupReply::Commit(vec![Ok(())])));
    let (offsets, list) = read.await.expect("ran");
    let Ok(GroupReply::Offsets(found)) = offsets else { panic!("{offsets:?}") };
    assert!(matches!(found[..], [CommittedOffset { offset: 5, .. }]));
    assert_eq!(list.expect("listed").iter().map(|listed| listed.group.as_str()).collect::<Vec<_>>(), ["g"]);
}

#[tokio::test]
async fn commits_that_come_together_are_written_together() {
    let bench = Bench::with(Config { topic_partitions: 1, ..config() }).await;
    bench.ready().await;
    bench.watch.close_gate(true);
    let before = bench.partitions.totals().produced_batches;
    let groups: Vec<_> = (0..2_000).map(|number| format!("group {number}")).collect();
    let (bench, groups) = (Arc::new(bench), Arc::new(groups));
    let all = tokio::spawn({
        let (bench, groups) = (bench.clone(), groups.clone());
        async move { futures::future::join_all(groups.iter().map(|group| bench.commit(group, 3))).await }
    });
    eventually("appends wait for the disk", || bench.records() > 0).await;
    bench.watch.close_gate(false);
    assert!(all.await.expect("ran").into_iter().all(|result| result.is_ok()));
    let batches = bench.partitions.totals().produced_batches - before;
    assert!(batches < 200, "{batches} batches for 2000 commits");
    assert_eq!(bench.records(), 2_000);
    assert_eq!(bench.groups.list().await.expect("listed").len(), 2_000);
}

#[tokio::test]
async fn what_another_program_wrote_is_read_whatever_its_codec() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.commit("g", 5).await.expect("stored");
    // The same record again, as its own bytes, but compressed.
    let at = bench.at("g");
    let epoch = bench.partitions.leads_in(at).expect("led");
    let log = bench.partitions.read_committed(at, epoch, rafka_model::Offset(0)).expect("read");
    let record = rafka_model::RecordBatch::parse(log).expect("a batch").records().expect("decodes").next();
    let record = record.expect("one").expect("decodes");
    bench.groups.ask(commit("g", 1, 6)).await.expect("stored");
    let mut builder = BatchBuilder::new(Compression::Lz4);
    builder.push(Timestamp(1), record.key.as_deref(), record.value.as_deref(), &[]);
    (0..9).for_each(|_| builder.push(Timestamp(1), Some(&[0x7f, 0xff, 1, 2, 3]), Some(&[0; 100]), &[]));
    let records = builder.build().bytes().clone();
    let part = ProducePartition { partition: at, leader_epoch: None, records };
    let produce = || Produce { acks: Acks::All, timeout_ms: 5_000, partitions: vec![part.clone()] };
    let refused = bench.partitions.produce(produce()).await.remove(0).result;
    assert_eq!(code(refused), ErrorCode::InvalidTopic, "clients do not write there");
    bench.partitions.append_internal(produce()).await.settle().await.remove(0).result.expect("appended");
    assert_eq!(bench.offset("g").await, Ok(6));
    let bench = bench.restart().await;
    assert_eq!(bench.found("g").await, 5, "the last record counts, and unknown kinds are left alone");
}

#[tokio::test]
async fn as_many_offsets_as_allowed_have_figures_of_their_own() {
    let bench = Bench::with(Config { topic_partitions: 1, ..config() }).await;
    let orders = NewTopic { name: "orders".to_owned(), partitions: Some(1), ..NewTopic::default() };
    decide(&bench.images, Admin::CreateTopics { topics: vec![orders], validate_only: false }).expect("made");
    bench.ready().await;
    bench.groups.ask(commit("g", 10, 0)).await.expect("stored");
    let sample = bench.groups.sample(4);
    assert_eq!((sample.ready, sample.not_ready, sample.offsets, sample.shown.len()), (1, 0, 10, 4));
    let first = GroupOffset {
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        partition: PartitionId(0),
        offset: 0,
        lag: Some(0),
    };
    assert_eq!(sample.shown[0], first);
    assert_eq!(sample.shown[1].lag, None, "there is no such partition here");
}
