//! How far groups are in partitions that other nodes lead.

use rafka_broker::request::OffsetSpec;
use rafka_model::limits::{GROUP_ENDS_IDLE_ROUNDS, METRIC_GROUP_OFFSETS_MAX};
use rafka_model::{Offset, Timestamp, TopicName};

use super::*;
use crate::groups::ends::learn;

/// A group that is at 5 in each of three partitions: this node leads the first, the other one the second, nobody the last.
async fn bench() -> (Bench, [TopicPartition; 3]) {
    let bench = Bench::new().await;
    bench.ready().await;
    let orders = NewTopic { name: "orders".to_owned(), partitions: Some(3), ..NewTopic::default() };
    decide(&bench.images, Admin::CreateTopics { topics: vec![orders], validate_only: false }).expect("made");
    let name = TopicName::new("orders").expect("a name");
    let topic = bench.images.current().topic(&name).expect("made").id;
    let at = [0, 1, 2].map(|partition| TopicPartition { topic, partition: PartitionId(partition) });
    bench.elect(at[1], Some(OTHER)).await;
    bench.elect(at[2], None).await;
    let reply = bench.groups.ask(commit("g", 3, 5)).await;
    assert_eq!(reply, Ok(GroupReply::Commit(vec![Ok(()); 3])));
    (bench, at)
}

fn end(partition: TopicPartition, offset: i64) -> PartitionReply<FoundOffset> {
    let leader_epoch = LeaderEpoch(1);
    let found = FoundOffset { offset: Some(Offset(offset)), timestamp: Timestamp::NONE, leader_epoch };
    PartitionReply { partition, result: Ok(found) }
}

fn lags(bench: &Bench) -> Vec<Option<u64>> {
    bench.groups.sample(METRIC_GROUP_OFFSETS_MAX).shown.iter().map(|shown| shown.lag).collect()
}

#[tokio::test]
async fn leaders_say_where_their_partitions_end() {
    let (bench, at) = bench().await;
    assert_eq!(lags(&bench), [Some(0), None, None], "nobody was asked yet");
    let (seen, asked) = std::sync::mpsc::channel();
    *bench.others.lock() = Some(Box::new(move |node, request| {
        seen.send((node, request.partitions)).expect("heard");
        Some(Ok(vec![end(at[1], 12), end(at[0], 99), end(at[2], 99)]))
    }));
    learn(&bench.groups.inner).await;
    assert_eq!(lags(&bench), [Some(0), Some(7), None], "what was not asked for is not believed");
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [(OTHER, vec![(at[1], None, OffsetSpec::Latest)])]);
    let refused = Failure::new(ErrorCode::NotLeaderOrFollower, "not any more");
    *bench.others.lock() =
        Some(Box::new(move |_, _| Some(Ok(vec![PartitionReply { partition: at[1], result: Err(refused.clone()) }]))));
    learn(&bench.groups.inner).await;
    assert_eq!(lags(&bench), [Some(0), None, None], "an old end is not told");
}

#[tokio::test]
async fn a_leader_that_is_silent_holds_nobody_up() {
    let (bench, at) = bench().await;
    bench.elect(at[2], Some(NodeId(3))).await;
    *bench.others.lock() = Some(Box::new(move |node, _| (node != OTHER).then(|| Ok(vec![end(at[2], 6)]))));
    tokio::time::pause();
    learn(&bench.groups.inner).await;
    assert_eq!(lags(&bench), [Some(0), None, Some(1)]);
}

#[tokio::test]
async fn nobody_is_asked_while_nobody_looks() {
    let (bench, at) = bench().await;
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    *bench.others.lock() = Some(Box::new(move |_, _| {
        count.fetch_add(1, Ordering::AcqRel);
        Some(Ok(vec![end(at[1], 12)]))
    }));
    let following = tokio::spawn(bench.groups.clone().follow_ends());
    tokio::time::pause();
    let rounds = u64::from(GROUP_ENDS_IDLE_ROUNDS);
    for round in 1..=2 {
        lags(&bench);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(lags(&bench)[1], Some(7), "a look that is answered");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let now = asked.load(Ordering::Acquire);
        assert!((round * rounds..=round * (rounds + 8)).contains(&now), "{now} questions");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(asked.load(Ordering::Acquire), now);
        assert!(bench.groups.inner.ends.known().is_empty(), "what was known is old");
    }
    following.abort();
}
