use proptest::prelude::*;
use rafka_dht::{Source, Version};
use rafka_model::{BatchBuilder, Compression, LeaderEpoch, NodeId, Timestamp, TopicId};

use rafka_model::BatchError;

use super::*;

const T0: Monotonic = Monotonic(0);

fn ms(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn topic() -> TopicName {
    TopicName::new("orders").expect("legal")
}

fn peer(node: u64) -> PeerId {
    // An identity hash: any 32 bytes make a peer id.
    let hash = libp2p::multihash::Multihash::wrap(0, &[node as u8; 32]).expect("fits");
    PeerId::from_multihash(hash).expect("is a peer id")
}

fn route(node: u64, partition: PartitionId) -> Arc<Route> {
    Arc::new(Route {
        topic: TopicId([1; 16]),
        name: topic(),
        partition,
        partitions: 12,
        leader: NodeId(node),
        peer: peer(node),
        addresses: Vec::new(),
        lanes: Vec::new(),
        leader_epoch: LeaderEpoch(4),
        version: Version::ANY,
        source: Source::Cache,
        origin: Source::Dht,
        hops: 0,
        asked: Vec::new(),
    })
}

fn only() -> PartitionId {
    PartitionId(0)
}

fn config() -> ConsumerConfig {
    ConsumerConfig { start: Start::Earliest, ..ConsumerConfig::topics([topic()]) }
}

fn fetcher(config: ConsumerConfig, partitions: u32) -> Fetcher {
    let mut fetcher = Fetcher::new(config, Backoff::new(50, 1000), Random::seeded(3));
    fetcher.learn(&topic(), partitions);
    fetcher.discovered();
    fetcher
}

fn batch(base: i64, values: &[&str]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(Timestamp(1), None, Some(value.as_bytes()), &[]);
    }
    builder.build().stamp(Offset(base), LeaderEpoch(4))
}

fn answer(high_watermark: i64, batches: Vec<RecordBatch>) -> Result<Answer, Failure> {
    Ok(Answer { high_watermark: Offset(high_watermark), batches: Ok(batches) })
}

fn found(offset: i64) -> Result<FoundOffset, Failure> {
    Ok(FoundOffset { offset: Some(Offset(offset)), timestamp: Timestamp::NONE, leader_epoch: LeaderEpoch(4) })
}

/// Routes every partition to node `1 + partition % leaders`, answers every lookup with `offset`; returns the fetches.
fn settle(fetcher: &mut Fetcher, now: Monotonic, leaders: u64, offset: i64) -> Vec<Action> {
    let mut fetches = Vec::new();
    loop {
        let actions = fetcher.poll(now);
        if actions.is_empty() {
            return fetches;
        }
        for action in actions {
            match action {
                Action::Route { slot, partition, .. } => {
                    fetcher.routed(now, slot, Ok(route(1 + u64::from(partition.0) % leaders, partition)));
                }
                Action::List { lines, .. } => {
                    lines.iter().for_each(|line| fetcher.listed(now, line.slot, line.route.leader, found(offset)));
                }
                fetch @ Action::Fetch { .. } => fetches.push(fetch),
            }
        }
    }
}

fn fetch(action: &Action) -> (Flight, Vec<Line<Offset>>) {
    match action {
        Action::Fetch { flight, lines } => (*flight, lines.clone()),
        other => panic!("expected a fetch, got {other:?}"),
    }
}

fn reply(
    fetcher: &mut Fetcher,
    now: Monotonic,
    action: &Action,
    mut with: impl FnMut(&Line<Offset>) -> Result<Answer, Failure>,
) {
    let (flight, lines) = fetch(action);
    let answer = |line: Line<Offset>| {
        let result = with(&line);
        (line, result)
    };
    let lines = lines.into_iter().map(answer).collect();
    fetcher.fetched(now, flight, lines);
}

fn error(fetcher: &mut Fetcher) -> Error {
    match fetcher.take() {
        Some(Item::Error(error)) => error,
        other => panic!("expected an error, got {other:?}"),
    }
}

#[test]
fn partitions_share_fetches_by_leader_in_two_halves() {
    let mut fetcher = fetcher(config(), 12);
    let fetches: Vec<_> = settle(&mut fetcher, T0, 3, 0).iter().map(fetch).collect();
    assert_eq!(fetches.len(), 6, "three leaders, two halves each");
    assert!(fetches.iter().all(|(_, lines)| lines.len() == 2));
    assert!(fetcher.poll(T0).is_empty(), "every partition is in one fetch");
}

#[test]
fn the_position_follows_what_was_read_and_quiet_partitions_poll_together() {
    let mut fetcher = fetcher(config(), 2);
    for action in settle(&mut fetcher, T0, 1, 0) {
        reply(&mut fetcher, T0, &action, |_| answer(3, vec![batch(0, &["a", "b"]), batch(2, &["c"])]));
    }
    let again = fetcher.poll(T0);
    assert_eq!(again.len(), 2, "both had news");
    for action in &again {
        assert_eq!(fetch(action).1[0].wanted, Offset(3));
        reply(&mut fetcher, T0, action, |_| answer(3, vec![]));
    }
    let quiet = fetcher.poll(T0);
    assert_eq!(quiet.len(), 1);
    assert_eq!(fetch(&quiet[0]).1.len(), 2, "one long poll for both");
}

/// A record now and then in any of many partitions: none of them ever waits for a long poll of others to end.
#[test]
fn no_partition_waits_while_others_are_polled() {
    let mut fetcher = fetcher(config(), 50);
    let mut flying = settle(&mut fetcher, T0, 1, 0);
    let mut random = Random::seeded(9);
    let mut next = [0i64; 50];
    for _ in 0..2_000 {
        let action = flying.swap_remove(random.below(flying.len()));
        let lucky = random.below(fetch(&action).1.len());
        let lucky = fetch(&action).1[lucky].route.partition;
        reply(&mut fetcher, T0, &action, |line| {
            let at = &mut next[line.route.partition.0 as usize];
            let batches = if line.route.partition == lucky { vec![batch(*at, &["a"])] } else { vec![] };
            *at += batches.len() as i64;
            answer(*at, batches)
        });
        while let Some(Item::Chunk(chunk)) = fetcher.take() {
            fetcher.consumed(chunk.bytes);
        }
        flying.extend(fetcher.poll(T0));
        let polled: usize = flying.iter().map(|action| fetch(action).1.len()).sum();
        assert_eq!(polled, 50, "every partition is in flight");
        assert!(flying.len() <= FETCHES_APART + HALVES, "and in few requests: {}", flying.len());
    }
}

#[test]
fn a_fetch_ahead_stops_at_the_prefetch_limit() {
    let config = ConsumerConfig { prefetch_bytes: 100, partition_bytes_max: 60, fetch_bytes_max: 60, ..config() };
    let mut fetcher = fetcher(config, 2);
    let fetches = settle(&mut fetcher, T0, 2, 0);
    assert_eq!(fetches.len(), 1, "the second would pass the limit");
    reply(&mut fetcher, T0, &fetches[0], |_| answer(9, vec![batch(0, &["a"])]));
    assert!(fetcher.poll(T0).is_empty(), "what was fetched counts until it is consumed");
    let Some(Item::Chunk(chunk)) = fetcher.take() else { panic!("expected a chunk") };
    assert!(fetcher.consumed(chunk.bytes));
    assert_eq!(fetcher.poll(T0).len(), 1);
}

#[test]
fn exit_at_end_stops_at_the_high_watermark_seen_at_the_start() {
    let mut fetcher = fetcher(ConsumerConfig { exit_at_end: true, ..config() }, 2);
    let actions = fetcher.poll(T0);
    for (i, action) in actions.into_iter().enumerate() {
        let Action::Route { slot, partition, .. } = action else { panic!("expected a route") };
        fetcher.routed(T0, slot, Ok(route(1, partition)));
        assert_eq!(i, slot.0);
    }
    let Action::List { lines, .. } = fetcher.poll(T0).remove(0) else { panic!("expected a lookup") };
    assert!(lines.iter().all(|line| line.wanted == OffsetSpec::Latest));
    fetcher.listed(T0, lines[0].slot, NodeId(1), found(2));
    fetcher.listed(T0, lines[1].slot, NodeId(1), found(0));
    let fetches = settle(&mut fetcher, T0, 1, 0);
    assert_eq!(fetches.len(), 1, "the empty partition is done");
    reply(&mut fetcher, T0, &fetches[0], |_| answer(5, vec![batch(0, &["a", "b", "c"])]));
    assert!(fetcher.poll(T0).is_empty());
    let Some(Item::Chunk(chunk)) = fetcher.take() else { panic!("expected a chunk") };
    assert_eq!(chunk.stop, Some(Offset(2)));
    assert!(fetcher.is_over());
}

#[test]
fn a_time_past_the_last_record_begins_at_the_end() {
    let mut fetcher = fetcher(ConsumerConfig { start: Start::Time(Timestamp(99)), ..config() }, 1);
    fetcher.poll(T0);
    fetcher.routed(T0, Slot(0), Ok(route(1, only())));
    let Action::List { lines, .. } = fetcher.poll(T0).remove(0) else { panic!("expected a lookup") };
    assert_eq!(lines[0].wanted, OffsetSpec::At(Timestamp(99)));
    let none = FoundOffset { offset: None, timestamp: Timestamp::NONE, leader_epoch: LeaderEpoch(4) };
    fetcher.listed(T0, lines[0].slot, NodeId(1), Ok(none));
    assert_eq!(fetch(&settle(&mut fetcher, T0, 1, 7)[0]).1[0].wanted, Offset(7));
}

#[test]
fn a_hint_is_followed_at_once_and_a_broken_exchange_after_a_pause() {
    let mut fetcher = fetcher(config(), 1);
    let fetches = settle(&mut fetcher, T0, 1, 0);
    let hint =
        rafka_broker::LeaderHint { node: Some(NodeId(2)), epoch: LeaderEpoch(5), peer_id: None, addresses: vec![] };
    let moved = Failure::new(ErrorCode::NotLeaderOrFollower, "node 2 leads").with_leader(hint);
    reply(&mut fetcher, T0, &fetches[0], |_| Err(moved.clone()));
    assert!(matches!(fetcher.poll(T0)[..], [Action::Route { .. }]));
    fetcher.routed(T0, Slot(0), Ok(route(2, only())));
    let fetches = fetcher.poll(T0);
    let (flight, lines) = fetch(&fetches[0]);
    assert_eq!(flight.peer, peer(2));
    let broken = Error::call("reading", &rafka_protocols::rpc::CallError::ConnectionClosed);
    fetcher.broken(T0, Some(flight), &[lines[0].slot], &broken);
    assert!(fetcher.poll(T0).is_empty());
    let next = fetcher.next_deadline(T0).expect("backs off");
    assert!(matches!(fetcher.poll(next)[..], [Action::Route { .. }]), "and the leader is looked up again");
    assert!(fetcher.take().is_none(), "the user hears nothing of it");
}

#[test]
fn an_offset_out_of_range_follows_the_policy() {
    let refused = || Err(Failure::new(ErrorCode::OffsetOutOfRange, "log starts at 40"));
    for (reset, wanted) in [(OffsetReset::Earliest, OffsetSpec::Earliest), (OffsetReset::Latest, OffsetSpec::Latest)] {
        let mut fetcher = fetcher(ConsumerConfig { reset, start: Start::Offset(Offset(5)), ..config() }, 1);
        let fetches = settle(&mut fetcher, T0, 1, 0);
        assert_eq!(fetch(&fetches[0]).1[0].wanted, Offset(5));
        reply(&mut fetcher, T0, &fetches[0], |_| refused());
        let Action::List { lines, .. } = fetcher.poll(T0).remove(0) else { panic!("expected a lookup") };
        assert_eq!(lines[0].wanted, wanted);
    }
    let config = ConsumerConfig { reset: OffsetReset::Error, start: Start::Offset(Offset(5)), ..config() };
    let mut fetcher = fetcher(config, 1);
    let fetches = settle(&mut fetcher, T0, 1, 0);
    reply(&mut fetcher, T0, &fetches[0], |_| refused());
    assert_eq!(error(&mut fetcher).code(), Some(ErrorCode::OffsetOutOfRange));
    assert!(fetcher.is_over());
}

#[test]
fn a_partition_that_stays_away_is_told_once_per_stall_and_tried_on() {
    let mut fetcher = fetcher(ConsumerConfig { stall_ms: 10_000, ..config() }, 1);
    let (mut now, mut told) = (T0, 0);
    while now < ms(35_000) {
        for action in fetcher.poll(now) {
            let Action::Route { slot, .. } = action else { panic!("expected a route") };
            let failure = Failure::new(ErrorCode::LeaderNotAvailable, "no leader");
            fetcher.routed(now, slot, Err(Error::refused("finding the leader", &failure, None)));
        }
        while let Some(item) = fetcher.take() {
            assert!(matches!(item, Item::Error(_)));
            told += 1;
        }
        now = fetcher.next_deadline(now).expect("is tried again");
    }
    assert_eq!(told, 3);
}

#[test]
fn a_deleted_topic_ends_with_an_error_and_a_topic_made_again_begins_anew() {
    let mut fetcher = fetcher(config(), 3);
    let gone = || Error::new(ErrorKind::NotFound, "topic \"orders\" not found");
    let mut now = T0;
    while fetcher.take().is_none() {
        for action in fetcher.poll(now) {
            let Action::Route { slot, .. } = action else { panic!("expected a route") };
            fetcher.routed(now, slot, Err(gone()));
        }
        now = fetcher.next_deadline(now).unwrap_or(now);
    }
    assert!(fetcher.is_over(), "one error for all partitions");
    fetcher.learn(&topic(), 1);
    assert!(!fetcher.is_over());
    let fetches = settle(&mut fetcher, now, 1, 0);
    reply(&mut fetcher, now, &fetches[0], |_| answer(1, vec![batch(0, &["a"])]));
    let fetches = fetcher.poll(now);
    reply(&mut fetcher, now, &fetches[0], |_| Err(Failure::new(ErrorCode::UnknownTopicId, "gone")));
    now = fetcher.next_deadline(now).expect("is tried again");
    let [Action::Route { slot, .. }] = fetcher.poll(now)[..] else { panic!("expected a route") };
    fetcher.routed(now, slot, Ok(Arc::new(Route { topic: TopicId([2; 16]), ..Route::clone(&route(1, only())) })));
    let Action::List { lines, .. } = fetcher.poll(now).remove(0) else { panic!("expected a lookup") };
    assert_eq!(lines[0].wanted, OffsetSpec::Earliest);
}

#[test]
fn partitions_made_later_are_read_from_their_first_record() {
    let mut fetcher = fetcher(ConsumerConfig { start: Start::Latest, ..config() }, 1);
    settle(&mut fetcher, T0, 1, 10);
    fetcher.learn(&topic(), 2);
    let [Action::Route { slot, partition, .. }] = fetcher.poll(T0)[..] else { panic!("expected a route") };
    fetcher.routed(T0, slot, Ok(route(1, partition)));
    let Action::List { lines, .. } = fetcher.poll(T0).remove(0) else { panic!("expected a lookup") };
    assert_eq!(lines[0].wanted, OffsetSpec::Earliest);
}

#[test]
fn a_corrupt_batch_ends_its_partition_with_an_error() {
    let mut fetcher = fetcher(config(), 1);
    let fetches = settle(&mut fetcher, T0, 1, 0);
    reply(&mut fetcher, T0, &fetches[0], |_| {
        Ok(Answer { high_watermark: Offset(1), batches: Err(BatchError::Malformed("no records")) })
    });
    assert!(error(&mut fetcher).to_string().contains("cannot be read at offset 0"));
    assert!(fetcher.is_over());
}

proptest! {
    /// Whatever the leaders answer: each partition is read completely, in order, without a gap or a repetition.
    #[test]
    fn every_record_comes_once_and_in_order(
        lengths in proptest::collection::vec(0i64..30, 1..6),
        moods in proptest::collection::vec((0u8..7, 1usize..4), 1..60),
    ) {
        let mut fetcher = fetcher(ConsumerConfig { exit_at_end: true, prefetch_bytes: 400, partition_bytes_max: 100, fetch_bytes_max: 200, ..config() }, lengths.len() as u32);
        let mut moods = moods.into_iter().chain(std::iter::repeat((6, 2)));
        let mut read: Vec<Vec<i64>> = vec![Vec::new(); lengths.len()];
        let (mut now, mut steps) = (T0, 0);
        while !fetcher.is_over() {
            steps += 1;
            prop_assert!(steps < 10_000, "no progress");
            for action in fetcher.poll(now) {
                let (mood, count) = moods.next().expect("is endless");
                let busy = || Failure::new(ErrorCode::Busy, "busy");
                match action {
                    Action::Route { slot, .. } if mood == 0 => {
                        fetcher.routed(now, slot, Err(Error::new(ErrorKind::Unreachable, "nobody answers")));
                    }
                    Action::Route { slot, partition, .. } => {
                        fetcher.routed(now, slot, Ok(route(1 + u64::from(partition.0 % 2), partition)));
                    }
                    Action::List { lines, .. } => for line in lines {
                        let end = lengths[line.route.partition.0 as usize];
                        let offset = if line.wanted == OffsetSpec::Latest { end } else { 0 };
                        fetcher.listed(now, line.slot, line.route.leader, if mood == 1 { Err(busy()) } else { found(offset) });
                    },
                    Action::Fetch { flight, lines } if mood == 2 => {
                        let slots: Vec<_> = lines.iter().map(|line| line.slot).collect();
                        fetcher.broken(now, Some(flight), &slots, &Error::new(ErrorKind::Unreachable, "closed"));
                    }
                    action => reply(&mut fetcher, now, &action, |line| {
                        let end = lengths[line.route.partition.0 as usize];
                        let batches = (0..count as i64).map(|i| line.wanted.0 / 3 * 3 + 3 * i).filter(|base| *base < end);
                        match mood {
                            3 => Err(busy()),
                            4 => Err(Failure::new(ErrorCode::NotLeaderOrFollower, "moved")),
                            5 => answer(end, vec![]),
                            // Batches of three: the first may begin below what was asked for.
                            _ => answer(end, batches.map(|base| batch(base, &["x", "y", "z"])).collect()),
                        }
                    }),
                }
            }
            while let Some(item) = fetcher.take() {
                let Item::Chunk(chunk) = item else { panic!("no error is told within the stall time") };
                let stop = chunk.stop.expect("known");
                for batch in &chunk.batches {
                    let offsets = batch.header().base_offset.0..batch.header().next_offset().0;
                    let wanted = offsets.filter(|offset| (chunk.from.0..stop.0).contains(offset));
                    read[chunk.partition.0 as usize].extend(wanted);
                }
                fetcher.consumed(chunk.bytes);
            }
            now = fetcher.next_deadline(now).unwrap_or(now);
        }
        for (partition, length) in lengths.iter().enumerate() {
            prop_assert_eq!(&read[partition], &(0..*length).collect::<Vec<_>>());
        }
    }
}

fn in_group(config: ConsumerConfig) -> Fetcher {
    Fetcher::new(config.in_group("g"), Backoff::new(50, 1000), Random::seeded(3))
}

fn chunk(fetcher: &mut Fetcher) -> Chunk {
    match fetcher.take() {
        Some(Item::Chunk(chunk)) => chunk,
        other => panic!("expected a chunk, got {other:?}"),
    }
}

#[test]
fn a_partition_of_a_group_is_read_from_what_was_committed_or_from_the_start() {
    let mut fetcher = in_group(ConsumerConfig { start: Start::Latest, ..config() });
    let committed = fetcher.assign(&topic(), TopicId([1; 16]), PartitionId(0), Some(Offset(7)));
    let new = fetcher.assign(&topic(), TopicId([1; 16]), PartitionId(1), None);
    assert_eq!((committed.get(), new.get()), (Some(Offset(7)), None), "the second is not known yet");
    let fetches: Vec<_> = settle(&mut fetcher, T0, 1, 40).iter().flat_map(|action| fetch(action).1).collect();
    assert_eq!(fetches.iter().map(|line| line.wanted).collect::<Vec<_>>(), [Offset(7), Offset(40)]);
    assert_eq!(new.get(), Some(Offset(40)), "what is never read is committed from there, too");
}

#[test]
fn a_partition_that_is_taken_back_leaves_nothing_behind() {
    let mut fetcher = in_group(config());
    for partition in 0..2 {
        fetcher.assign(&topic(), TopicId([1; 16]), PartitionId(partition), Some(Offset(0)));
    }
    let fetches = settle(&mut fetcher, T0, 1, 0);
    assert_eq!(fetches.len(), 2);
    reply(&mut fetcher, T0, &fetches[0], |_| answer(2, vec![batch(0, &["a", "b"])]));
    fetcher.revoke(TopicId([1; 16]), PartitionId(0));
    fetcher.revoke(TopicId([1; 16]), PartitionId(1));
    assert!(fetcher.take().is_none(), "what was fetched is dropped");
    assert_eq!(fetcher.buffered, 0);
    reply(&mut fetcher, T0, &fetches[1], |_| answer(2, vec![batch(0, &["a", "b"])]));
    assert!(fetcher.take().is_none() && fetcher.poll(T0).is_empty(), "what comes late is ignored");
    assert_eq!((fetcher.reserved, fetcher.topics()), (0, vec![]));
    assert!(!fetcher.is_over(), "others may come");
}

#[test]
fn a_partition_that_comes_back_is_read_as_a_new_one() {
    let mut fetcher = in_group(config());
    let before = fetcher.assign(&topic(), TopicId([1; 16]), only(), Some(Offset(0)));
    let late = settle(&mut fetcher, T0, 1, 0);
    fetcher.revoke(TopicId([1; 16]), only());
    let now = fetcher.assign(&topic(), TopicId([1; 16]), only(), Some(Offset(5)));
    before.set(Offset(3));
    assert_eq!(now.get(), Some(Offset(5)));
    reply(&mut fetcher, T0, &late[0], |_| answer(2, vec![batch(0, &["a", "b"])]));
    assert!(fetcher.take().is_none(), "an answer to the old one");
    let fetches = settle(&mut fetcher, T0, 1, 0);
    reply(&mut fetcher, T0, &fetches[0], |line| {
        assert_eq!(line.wanted, Offset(5));
        answer(7, vec![batch(5, &["f", "g"])])
    });
    let chunk = chunk(&mut fetcher);
    assert_eq!((chunk.from, chunk.next), (Offset(5), Offset(7)));
    assert!(fetcher.has(chunk.slot));
}

#[test]
fn a_member_that_ends_at_the_end_waits_for_partitions_first() {
    let mut fetcher = in_group(ConsumerConfig { exit_at_end: true, ..config() });
    assert!(!fetcher.is_over(), "none were given yet");
    fetcher.assign(&topic(), TopicId([1; 16]), only(), Some(Offset(4)));
    settle(&mut fetcher, T0, 1, 4);
    assert!(fetcher.is_over(), "it ends where it begins");
}

#[test]
fn a_consumer_that_cannot_go_on_says_so_and_ends() {
    let mut fetcher = in_group(config());
    fetcher.assign(&topic(), TopicId([1; 16]), only(), Some(Offset(0)));
    let fetches = settle(&mut fetcher, T0, 1, 0);
    fetcher.fail(Error::new(ErrorKind::Conflict, "another member has this name"));
    reply(&mut fetcher, T0, &fetches[0], |_| answer(2, vec![batch(0, &["a"])]));
    assert!(!fetcher.is_over());
    assert_eq!(error(&mut fetcher).kind(), ErrorKind::Conflict);
    assert!(fetcher.is_over());
}
