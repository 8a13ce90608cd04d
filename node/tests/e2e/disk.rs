//! Disks that are full, and disks that lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use rafka_client::{
    ConsumerConfig, Error, ErrorCode, Offset, OffsetReset, OffsetSpec, PartitionId, ProducerConfig, Record,
    Subscription, Timestamp,
};

use crate::support::{Home, Mounted, Node, cluster, create, eventually, led_by, new_topic, read_all, try_read};

/// Fills a file system to its last byte.
fn fill(folder: &Path) -> PathBuf {
    let filler = folder.join("lost+found");
    let mut file = std::fs::File::create(&filler).expect("made");
    let full = std::io::copy(&mut std::io::repeat(1), &mut file).expect_err("it has an end");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    filler
}

/// Issue: a full disk refuses appends and nothing else, recovers by itself, and loses nothing acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_appends_and_nothing_else() {
    let home = Home::new();
    let Some(mounted) = Mounted::new(&home.data(), "size=64m") else { return };
    let node = home.start(&[]).await;
    let client = node.client().await;
    let topic = create(&client, "full", 2, &[]).await;
    // What is refused is told soon, rather than tried again until somebody makes room.
    let producer = client.producer(ProducerConfig { delivery_timeout_ms: 2_000, ..ProducerConfig::default() });
    let publish = async |keys: std::ops::Range<u32>| {
        let send = async |key: u32| {
            let record = Record::new(topic.clone(), vec![b'x'; 300_000]).key(format!("{key}"));
            let delivery = producer.send(record).await?;
            Ok::<_, Error>(((delivery.partition, delivery.offset.expect("told")), format!("{key}")))
        };
        join_all(keys.map(send)).await
    };
    let (mut acknowledged, mut refused) = (BTreeMap::new(), Vec::new());
    for sent in publish(0..20).await {
        acknowledged.extend([sent.expect("there is room")]);
    }
    let filler = fill(&node.home.data());
    for sent in publish(20..50).await {
        match sent {
            Ok(sent) => acknowledged.extend([sent]),
            Err(error) => refused.push(error),
        }
    }
    let told = refused.iter().find(|error| error.code() == Some(ErrorCode::DiskFull));
    let told = told.unwrap_or_else(|| panic!("no full disk among {refused:?}"));
    assert!(told.advice().is_some_and(|hint| hint.contains("free space")), "{told:?}");
    assert_eq!(node.status().await["disk_full"], true);
    assert_eq!(node.metric("rafka_disk_full").await, 1);
    assert!(read_all(&client, &topic).await.len() >= acknowledged.len(), "fetches go on");
    // Metadata needs the disk as well; a change waits for room rather than fail.
    let making = tokio::spawn({
        let client = client.clone();
        async move { client.admin().create_topic(new_topic("late", 1000, &[]), false).await }
    });
    std::fs::remove_file(filler).expect("removed");
    let again = eventually("appends are taken again", async || publish(50..51).await.remove(0).ok()).await;
    acknowledged.extend([again]);
    let is_well = async || (node.metric("rafka_disk_full").await == 0).then_some(());
    eventually("nothing says that the disk is full", is_well).await;
    making.await.expect("ran").expect("made when there was room");
    drop((producer, client));
    let node = node.kill().start(&[]).await;
    let client = node.client().await;
    let read = read_all(&client, &topic).await;
    let found: BTreeMap<_, _> = read
        .iter()
        .map(|r| ((r.partition, r.offset), String::from_utf8_lossy(r.key.as_deref().expect("set")).into_owned()))
        .collect();
    assert!(acknowledged.iter().all(|(place, key)| found.get(place) == Some(key)), "nothing acknowledged was lost");
    drop((client, node, mounted));
}

/// The first segment of partition 0 of the only topic.
fn segment(data: &Path) -> PathBuf {
    let mut folders =
        std::fs::read_dir(data.join("logs")).expect("listed").filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with("-0"));
    folders.find(is_it).expect("a folder").join(format!("{:020}.log", 0))
}

/// Issue: a corrupted segment is reported by fetches; other partitions serve on, and so does what can be read of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_told_and_spares_the_others() {
    let node = Node::start(&[]).await;
    let client = node.client().await;
    let topic = create(&client, "damaged", 2, &[]).await;
    let producer = client.producer(ProducerConfig { linger_ms: 0, ..ProducerConfig::default() });
    for i in 0..10 {
        for partition in (0..2).map(PartitionId) {
            let record = Record::new(topic.clone(), format!("value {i}").repeat(10)).partition(partition);
            producer.send(record).await.expect("delivered");
        }
    }
    drop((producer, client));
    let home = node.stop();
    let path = segment(&home.data());
    let mut bytes = std::fs::read(&path).expect("read");
    let at = bytes.windows(7).position(|words| words == b"value 5").expect("stored as it was sent");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let mut node = home.start(&[]).await;
    let client = node.client().await;
    let config = ConsumerConfig {
        partitions: Some(vec![PartitionId(1)]),
        ..ConsumerConfig::new(Subscription::Topics(vec![topic.clone()]))
    };
    assert_eq!(try_read(&client, config.clone()).await.len(), 10, "the other partition is whole");
    let damaged = ConsumerConfig { partitions: Some(vec![PartitionId(0)]), reset: OffsetReset::Error, ..config };
    let read = try_read(&client, damaged).await;
    let (good, bad): (Vec<_>, Vec<_>) = read.into_iter().partition(Result::is_ok);
    let offsets: Vec<_> = good.into_iter().map(|record| record.expect("good").offset.0).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4], "everything before the damage is read");
    let error = bad.into_iter().next().expect("the damage is told").expect_err("bad");
    let words = error.to_string();
    assert!(words.contains("damaged/0") && words.contains('5'), "{error:?}");
    // It still takes records: they are not what was damaged.
    let producer = client.producer(ProducerConfig::default());
    for partition in (0..2).map(PartitionId) {
        let sent = producer.send(Record::new(topic.clone(), "more").partition(partition)).await;
        assert_eq!(sent.expect("delivered").offset, Some(Offset(10)));
    }
    assert!(node.is_running());
}

/// Indexes, recovery points and the saved image are made from what is kept elsewhere: damaged, they are made again.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_made_again_is_made_again() {
    let mut nodes = cluster(2).await;
    let client = nodes[0].client().await;
    let topic = create(&client, "indexed", 2, &[("segment.bytes", "100000")]).await;
    let producer = client.producer(ProducerConfig { linger_ms: 0, ..ProducerConfig::default() });
    for i in 1..=60 {
        let record = Record::new(topic.clone(), vec![b'x'; 10_000]).timestamp(Timestamp(i));
        producer.send(record.partition(PartitionId(u32::from(i % 2 == 0)))).await.expect("delivered");
    }
    let joiner = nodes.pop().expect("two");
    let (id, listen) = (joiner.id(), joiner.host_port());
    let led = led_by(&client, &topic, id).await;
    assert!(!led.is_empty(), "it leads some");
    let home = joiner.stop();
    let mut damaged = 0;
    for (path, mut bytes) in home.contents() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_made_again = name == "image" || name.ends_with("index") || name == "recovery-point";
        if is_made_again && !bytes.is_empty() {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            std::fs::write(path, bytes).expect("written");
            damaged += 1;
        }
    }
    assert!(damaged >= 4, "an image, a recovery point, indexes by offset and time: {damaged}");
    // Not even told where to look: the others come and find it.
    let joiner = home.start(&["--listen", &listen]).await;
    assert_eq!(joiner.id(), id);
    assert_eq!(read_all(&client, &topic).await.len(), 60);
    for partition in led {
        for offset in 0..30 {
            let time = Timestamp(1 + i64::from(partition.0) + 2 * offset);
            let found = client.admin().list_offsets(&topic, vec![(partition, OffsetSpec::At(time))]).await.remove(0).1;
            assert_eq!(found.expect("found").offset, Some(Offset(offset)), "by time in partition {partition}");
        }
    }
}
