//! Records in, records out.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use rafka_client::{
    Acks, ClientConfig, Compression, ConsumerConfig, ErrorCode, ErrorKind, NewTopic, Offset, OffsetSpec, PartitionId,
    ProducerConfig, Record, Source, Start, Timestamp,
};

use crate::support::{DEADLINE, Node, cluster, create, eventually, name, new_topic, read_all};

const MEBIBYTE: usize = 1024 * 1024;

/// Issue: a client with a cold cache and one address finds every partition of a new topic through the DHT alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_cold_client_finds_twenty_of_twenty_partitions_by_dht() {
    let nodes = cluster(5).await;
    let topic = create(&nodes[1].client().await, "wide", 20, &[]).await;
    let cold = nodes[4].client_with(ClientConfig { fallback_disabled: true, ..ClientConfig::default() }).await;
    for partition in (0..20).map(PartitionId) {
        // Records of what is this new may still be on their way to their holders.
        let route = eventually("a route", async || match cold.mesh().route(&topic, partition).await {
            Err(error) if error.is_retriable() => None,
            found => Some(found.expect("found")),
        })
        .await;
        assert!(matches!(route.source, Source::Dht | Source::Cache), "partition {partition} by {:?}", route.source);
        assert_eq!(route.origin, Source::Dht, "what is cached came from the DHT");
    }
    let counts = cold.mesh().resolve_counters();
    assert_eq!((counts.quorum, counts.fallbacks), (0, 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_read_with_every_codec_and_every_acks() {
    let node = Node::start(&[]).await;
    let client = node.client().await;
    let topic = create(&client, "all", 1, &[]).await;
    let config = ConsumerConfig { start: Start::Earliest, ..ConsumerConfig::topics([topic.clone()]) };
    let mut consumer = client.consumer(config).await.expect("subscribed");
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut next = 0;
    for compression in codecs {
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            let producer = client.producer(ProducerConfig { compression, acks, ..ProducerConfig::default() });
            let time = Timestamp(now().0 - next);
            let value = format!("{compression:?} {acks:?} ").repeat(100);
            let record = Record::new(topic.clone(), value.clone()).key("k").timestamp(time);
            let sent = record.header("a", "1").header("a", "").header("b", vec![0, 255]);
            let delivery = producer.send(sent.clone()).await.expect("delivered");
            let offset = (acks != Acks::None).then_some(Offset(next));
            assert_eq!((delivery.offset, delivery.timestamp), (offset, time), "{compression:?}, {acks:?}");
            let read = tokio::time::timeout(DEADLINE, consumer.next()).await.expect("in time").expect("goes on");
            let read = read.expect("read");
            assert_eq!((read.offset, read.timestamp, read.partition), (Offset(next), time, PartitionId(0)));
            assert_eq!((read.key, read.value, read.headers), (sent.key, sent.value, sent.headers));
            next += 1;
        }
    }
    // Kafka's nulls are not empty texts.
    let null = Record { value: None, ..Record::new(topic, "") };
    client.producer(ProducerConfig::default()).send(null).await.expect("delivered");
    let read = consumer.next().await.expect("goes on").expect("read");
    assert_eq!((read.key, read.value), (None, None));
}

fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since_1970.as_millis()).expect("fits"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_mebibytes_pass_where_the_topic_allows_it() {
    let nodes = cluster(2).await;
    let client = nodes[0].client().await;
    let narrow = create(&client, "narrow", 2, &[]).await;
    let wide = create(&client, "wide", 2, &[("max.message.bytes", "12000000")]).await;
    let producer = client.producer(ProducerConfig::default());
    for partition in (0..2).map(PartitionId) {
        let two = Record::new(narrow.clone(), noise(2 * MEBIBYTE)).partition(partition);
        let error = producer.send(two).await.expect_err("over max.message.bytes");
        assert_eq!((error.code(), error.kind()), (Some(ErrorCode::MessageTooLarge), ErrorKind::Invalid), "{error}");
        assert!(error.advice().is_some_and(|hint| hint.contains("max.message.bytes")), "{error:?}");
        let ten = Record::new(wide.clone(), noise(10 * MEBIBYTE)).partition(partition);
        producer.send(ten).await.expect("delivered");
    }
    assert_eq!(read_all(&client, &narrow).await, []);
    let read = read_all(&client, &wide).await;
    assert_eq!(read.len(), 2);
    assert!(read.iter().all(|record| record.value.as_deref() == Some(&*noise(10 * MEBIBYTE))));
    // Raised later, it counts from then on.
    let raised = BTreeMap::from([("max.message.bytes".to_owned(), Some("3000000".to_owned()))]);
    client.admin().alter_configs("narrow", raised, false).await.expect("altered");
    eventually("the leaders know the new limit", async || {
        let sent = producer.send(Record::new(narrow.clone(), noise(2 * MEBIBYTE)).partition(PartitionId(0))).await;
        sent.ok()
    })
    .await;
}

/// Bytes that do not compress, the same each time.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time_and_records_are_deleted() {
    let node = Node::start(&[]).await;
    let client = node.client().await;
    let topic = create(&client, "timed", 1, &[]).await;
    let (producer, began) = (client.producer(ProducerConfig::default()), now().0 - 1_000_000);
    for i in 0..10 {
        let record = Record::new(topic.clone(), format!("{i}")).timestamp(Timestamp(began + 1_000 * i));
        producer.send(record).await.expect("delivered");
    }
    let found = async |spec| {
        let offsets = client.admin().list_offsets(&topic, vec![(PartitionId(0), spec)]).await.remove(0).1;
        offsets.expect("found").offset.map(|offset| offset.0)
    };
    let at = |ms: i64| OffsetSpec::At(Timestamp(began + ms));
    assert_eq!(found(OffsetSpec::Earliest).await, Some(0));
    assert_eq!(found(OffsetSpec::Latest).await, Some(10));
    assert_eq!(found(OffsetSpec::MaxTimestamp).await, Some(9));
    assert_eq!((found(at(-1)).await, found(at(3_000)).await, found(at(3_001)).await), (Some(0), Some(3), Some(4)));
    assert_eq!(found(at(9_001)).await, None, "nothing is that late");
    let both = vec![(PartitionId(0), OffsetSpec::Latest), (PartitionId(0), OffsetSpec::Earliest)];
    let both =
        client.admin().list_offsets(&topic, both).await.into_iter().map(|(_, found)| found.expect("found").offset);
    assert_eq!(both.collect::<Vec<_>>(), [Some(Offset(10)), Some(Offset(0))]);

    let delete = async |below: Option<i64>| {
        let deleted = client.admin().delete_records(&topic, vec![(PartitionId(0), below.map(Offset))]).await;
        deleted.into_iter().next().expect("one").1
    };
    assert_eq!(delete(Some(4)).await.expect("deleted"), Offset(4));
    assert_eq!(delete(Some(11)).await.expect_err("beyond the end").code(), Some(ErrorCode::OffsetOutOfRange));
    let offsets = |records: Vec<rafka_client::ConsumedRecord>| records.iter().map(|r| r.offset.0).collect::<Vec<_>>();
    assert_eq!(offsets(read_all(&client, &topic).await), [4, 5, 6, 7, 8, 9]);
    let from_time = ConsumerConfig {
        start: Start::Time(Timestamp(began + 7_500)),
        exit_at_end: true,
        ..ConsumerConfig::topics([topic.clone()])
    };
    let late: Vec<_> = client.consumer(from_time).await.expect("subscribed").collect().await;
    assert_eq!(offsets(late.into_iter().map(|record| record.expect("read")).collect()), [8, 9]);
    drop((producer, client));
    // A log start survives a kill, as the records do.
    let node = node.kill().start(&[]).await;
    let client = node.client().await;
    assert_eq!(offsets(read_all(&client, &topic).await), [4, 5, 6, 7, 8, 9]);
    let all = client.admin().delete_records(&topic, vec![(PartitionId(0), None)]).await.remove(0).1;
    assert_eq!(all.expect("deleted"), Offset(10));
    assert_eq!(read_all(&client, &topic).await, []);
    let next = client.producer(ProducerConfig::default()).send(Record::new(topic.clone(), "next")).await;
    assert_eq!(next.expect("delivered").offset, Some(Offset(10)), "offsets are not used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_grow_and_go() {
    let nodes = cluster(2).await;
    let client = nodes[0].client().await;
    let admin = client.admin();
    let topic = create(&client, "growing", 2, &[]).await;
    let producer = client.producer(ProducerConfig::default());
    producer.send(Record::new(topic.clone(), "kept").partition(PartitionId(1))).await.expect("delivered");
    let error = producer.send(Record::new(topic.clone(), "too far").partition(PartitionId(4))).await;
    assert_eq!(error.expect_err("there are two").kind(), ErrorKind::NotFound);
    assert_eq!(admin.add_partitions("growing", 5, false).await.expect("grown").partitions.len(), 5);
    let fewer = admin.add_partitions("growing", 3, false).await.expect_err("a topic does not shrink");
    assert_eq!(fewer.code(), Some(ErrorCode::InvalidPartitions));
    producer.send(Record::new(topic.clone(), "new").partition(PartitionId(4))).await.expect("delivered");
    let values = |records: Vec<rafka_client::ConsumedRecord>| {
        let mut found: Vec<_> = records.into_iter().map(|record| (record.partition.0, record.value)).collect();
        found.sort();
        found
    };
    let both = [(1, Some("kept".into())), (4, Some("new".into()))];
    assert_eq!(values(read_all(&nodes[1].client().await, &topic).await), both);

    admin.delete_topics(vec!["growing".to_owned()], false).await.expect("answered").remove(0).1.expect("deleted");
    // The word takes a moment: until then a new client may find the record that was.
    eventually("the topic is gone for new clients", async || {
        let gone = nodes[1].client().await.consumer(ConsumerConfig::topics([topic.clone()])).await;
        gone.map(drop).err().filter(|error| error.kind() == ErrorKind::NotFound)
    })
    .await;
    // One of the same name is another topic: nothing of the old one comes back, for old clients neither.
    create(&nodes[1].client().await, "growing", 2, &[]).await;
    let fresh = nodes[1].client().await;
    assert_eq!(read_all(&fresh, &topic).await, []);
    let sent = producer.send(Record::new(topic.clone(), "to the new one").partition(PartitionId(1))).await;
    assert_eq!(sent.expect("delivered").offset, Some(Offset(0)));
    assert_eq!(values(read_all(&fresh, &topic).await), [(1, Some("to the new one".into()))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_refused_with_its_code() {
    let node = Node::start(&[]).await;
    let client = node.client().await;
    create(&client, "taken", 1, &[]).await;
    let two = |partitions| NewTopic { replication_factor: Some(2), ..new_topic("safe", partitions, &[]) };
    let cases = [
        (two(1), ErrorCode::InvalidReplicationFactor, "replication"),
        (new_topic("taken", 1, &[]), ErrorCode::TopicAlreadyExists, "taken"),
        (new_topic("a/b", 1, &[]), ErrorCode::InvalidTopic, "a/b"),
        (new_topic("none", 0, &[]), ErrorCode::InvalidPartitions, ""),
        (new_topic("odd", 1, &[("retention.mss", "1")]), ErrorCode::InvalidConfig, "retention.ms"),
        (new_topic("odd", 1, &[("retention.ms", "soon")]), ErrorCode::InvalidConfig, "retention.ms"),
    ];
    for (topic, code, words) in cases {
        let error = client.admin().create_topic(topic, false).await.expect_err("refused");
        assert!(error.code() == Some(code) && error.to_string().contains(words), "{code:?}: {error}");
    }
    assert_eq!(client.admin().topics().await.expect("answered").len(), 1);
    let missing = client.producer(ProducerConfig::default()).send(Record::new(name("take"), "x")).await;
    let missing = missing.expect_err("no such topic");
    assert!(missing.kind() == ErrorKind::NotFound && format!("{missing:?}").contains("taken"), "{missing:?}");
}

/// Issue: repeated reads do no disk I/O.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_read_from_the_disk_once() {
    let node = Node::start(&[]).await;
    let client = node.client().await;
    let topic = create(&client, "read", 4, &[]).await;
    let producer = client.producer(ProducerConfig::default());
    for i in 0..2_000 {
        drop(producer.enqueue(Record::new(topic.clone(), vec![b'x'; 1_000]).key(format!("{i}"))).await.expect("taken"));
    }
    producer.flush().await.expect("delivered");
    for _ in 0..3 {
        assert_eq!(read_all(&client, &topic).await.len(), 2_000);
    }
    assert_eq!(node.metric("rafka_disk_reads_total").await, 0, "what was just appended is in the cache");
    assert!(node.metric("rafka_cache_hits_total").await > 0);
    drop((producer, client));
    let node = node.stop().start(&[]).await;
    let client = node.client().await;
    assert_eq!(read_all(&client, &topic).await.len(), 2_000);
    let once = node.metric("rafka_disk_reads_total").await;
    assert!(once > 0, "a new process has an empty cache");
    for _ in 0..3 {
        assert_eq!(read_all(&client, &topic).await.len(), 2_000);
    }
    assert_eq!(node.metric("rafka_disk_reads_total").await, once, "what was read is in the cache");
}
