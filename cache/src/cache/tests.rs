use super::*;
use proptest::prelude::*;
use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Timestamp};

fn at(partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([partition as u8 / 2; 16]), partition: PartitionId(partition % 2) }
}

fn batch(base: i64, length: usize) -> Bytes {
    Bytes::from(vec![base as u8; length])
}

fn filled(bases: &[(i64, i64)]) -> Cache {
    let mut cache = Cache::new(1 << 20);
    for (base, next) in bases {
        cache.insert(at(0), Offset(*base), Offset(*next), batch(*base, 10));
    }
    cache
}

fn bases(run: Option<Run>) -> Option<Vec<u8>> {
    run.map(|run| run.pieces.iter().map(|batch| batch[0]).collect())
}

#[test]
fn a_read_inside_a_batch_returns_it_whole_and_goes_on_to_the_first_gap() {
    let mut cache = filled(&[(0, 3), (3, 7), (7, 8), (9, 12)]);
    let run = cache.read(at(0), Offset(5), Offset(100), 1 << 20, true).expect("held");
    assert_eq!((run.next, run.bytes), (Offset(8), 20));
    assert_eq!(bases(Some(run.clone())), Some(vec![3, 7]));
    assert_eq!(run.pieces.concat(), [[3; 10], [7; 10]].concat());
    assert_eq!(cache.read(at(0), Offset(8), Offset(100), 1 << 20, true), None, "in the gap");
    assert_eq!(cache.read(at(1), Offset(5), Offset(100), 1 << 20, true), None, "another partition");
    assert_eq!((cache.stats().hits, cache.stats().misses), (1, 2));
}

#[test]
fn the_bound_and_the_bytes_end_a_run_before_the_batch_that_breaks_them() {
    let mut cache = filled(&[(0, 3), (3, 7), (7, 8)]);
    assert_eq!(bases(cache.read(at(0), Offset(0), Offset(7), 100, true)), Some(vec![0, 3]));
    assert_eq!(bases(cache.read(at(0), Offset(0), Offset(8), 29, true)), Some(vec![0, 3]));
    assert_eq!(bases(cache.read(at(0), Offset(0), Offset(8), 9, true)), Some(vec![0]), "at least one");
    let none = cache.read(at(0), Offset(1), Offset(8), 9, false).expect("a hit that does not fit is no miss");
    assert_eq!((none.pieces.len(), none.next), (0, Offset(1)));
    assert_eq!(cache.read(at(0), Offset(0), Offset(2), 100, true), None, "the first batch reaches beyond the bound");
}

#[test]
fn the_least_recently_read_batch_leaves_first_and_overhead_counts() {
    let mut cache = Cache::new(2 * (10 + ENTRY_OVERHEAD_BYTES));
    cache.insert(at(0), Offset(0), Offset(1), batch(0, 10));
    cache.insert(at(0), Offset(1), Offset(2), batch(1, 10));
    assert!(cache.read(at(0), Offset(0), Offset(1), 100, true).is_some());
    cache.insert(at(0), Offset(2), Offset(3), batch(2, 10));
    assert_eq!(cache.read(at(0), Offset(1), Offset(2), 100, true), None);
    assert_eq!(bases(cache.read(at(0), Offset(0), Offset(3), 100, true)), Some(vec![0]));
    assert_eq!((cache.stats().evictions, cache.stats().entries), (1, 2));
    cache.insert(at(0), Offset(3), Offset(4), batch(3, 3 * ENTRY_OVERHEAD_BYTES));
    assert_eq!(cache.stats().entries, 2, "what is larger than the cache puts nothing out");
}

#[test]
fn log_start_log_end_and_topic_take_their_batches_with_them() {
    let mut cache = filled(&[(0, 3), (3, 7), (7, 8), (8, 9)]);
    cache.drop_below(at(0), Offset(5));
    assert_eq!(bases(cache.read(at(0), Offset(3), Offset(9), 100, true)), Some(vec![3, 7, 8]), "half a batch stays");
    cache.truncate(at(0), Offset(8));
    assert_eq!(bases(cache.read(at(0), Offset(3), Offset(9), 100, true)), Some(vec![3, 7]));
    cache.insert(at(1), Offset(0), Offset(1), batch(0, 10));
    cache.insert(at(2), Offset(0), Offset(1), batch(0, 10));
    cache.drop_topic(at(0).topic);
    assert_eq!(cache.stats().entries, 1, "only the other topic's batch is left");
    cache.drop_partition(at(2));
    assert_eq!(cache.stats().bytes, 0);
}

#[test]
fn shards_add_up() {
    let mut shard = filled(&[(0, 1), (1, 2)]);
    shard.read(at(0), Offset(0), Offset(2), 100, true);
    let sum: Stats = [shard.stats(), shard.stats()].into_iter().sum();
    assert_eq!((sum.entries, sum.insertions, sum.hits, sum.bytes), (4, 4, 2, 2 * shard.stats().bytes));
}

/// Three batches of 1, 2 and 3 records from offset 10 on, end to end; and where each ends.
fn read_of_the_log() -> (Bytes, [usize; 3]) {
    let (mut bytes, mut ends, mut base) = (Vec::new(), [0; 3], 10);
    for (i, end) in ends.iter_mut().enumerate() {
        let mut builder = BatchBuilder::new(Compression::None);
        (0..=i).for_each(|_| builder.push(Timestamp(0), None, Some(b"value"), &[]));
        bytes.extend_from_slice(builder.build().stamp(Offset(base), LeaderEpoch(0)).bytes());
        base += i as i64 + 1;
        *end = bytes.len();
    }
    (bytes.into(), ends)
}

#[test]
fn batches_that_came_together_are_read_one_by_one() {
    let (bytes, [first, second, all]) = read_of_the_log();
    let mut cache = Cache::new(1 << 20);
    cache.insert(at(0), Offset(10), Offset(16), bytes.clone());
    cache.insert(at(0), Offset(16), Offset(17), batch(16, 10));
    let mut read = |from, below, max, one| cache.read(at(0), Offset(from), Offset(below), max, one);
    let found = |run: Option<Run>| run.map(|run| (run.pieces.concat(), run.next.0));
    assert_eq!(found(read(10, 17, 1000, true)), Some(([&bytes[..], &[16; 10]].concat(), 17)), "on to the next chunk");
    assert_eq!(found(read(12, 16, 1000, true)), Some((bytes[first..].to_vec(), 16)), "from the batch that holds 12");
    assert_eq!(found(read(10, 15, 1000, true)), Some((bytes[..second].to_vec(), 13)), "the third reaches beyond 15");
    assert_eq!(found(read(13, 15, 1000, true)), None);
    assert_eq!(found(read(10, 16, second, false)), Some((bytes[..second].to_vec(), 13)), "what fits");
    assert_eq!(found(read(11, 17, second, false)), Some((bytes[first..second].to_vec(), 13)));
    assert_eq!(found(read(13, 17, all - second - 1, false)), Some((Vec::new(), 13)), "nothing fits");
    assert_eq!(found(read(13, 17, 0, true)), Some((bytes[second..].to_vec(), 16)), "at least one");
}

/// What the cache promises, said in the plainest way: a list in order of use.
#[derive(Default)]
struct Naive {
    bytes_max: usize,
    entries: Vec<(TopicPartition, i64, i64, Bytes)>,
}

impl Naive {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.3.len() + ENTRY_OVERHEAD_BYTES).sum()
    }

    fn insert(&mut self, at: TopicPartition, base: i64, next: i64, bytes: Bytes) {
        if bytes.is_empty() || base >= next || bytes.len() + ENTRY_OVERHEAD_BYTES > self.bytes_max {
            return;
        }
        self.entries.retain(|entry| entry.0 != at || entry.2 <= base || entry.1 >= next);
        self.entries.push((at, base, next, bytes));
        while self.bytes() > self.bytes_max {
            self.entries.remove(0);
        }
    }

    fn read(&mut self, at: TopicPartition, from: i64, below: i64, max: usize, one: bool) -> Option<Run> {
        let held = |entry: &(TopicPartition, i64, i64, Bytes)| entry.0 == at && entry.2 <= below;
        let first = self.entries.iter().find(|entry| held(entry) && entry.1 <= from && from < entry.2)?.1;
        let mut run = Run { pieces: Vec::new(), bytes: 0, next: Offset(from) };
        let mut base = first;
        while let Some(i) = self.entries.iter().position(|entry| entry.0 == at && entry.1 == base) {
            let fits = run.bytes + self.entries[i].3.len() <= max || (one && run.pieces.is_empty());
            if self.entries[i].2 > below || !fits {
                break;
            }
            let entry = self.entries.remove(i);
            self.entries.push(entry.clone());
            run.bytes += entry.3.len();
            run.next = Offset(entry.2);
            base = entry.2;
            run.pieces.push(entry.3);
        }
        Some(run)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, i64, i64, usize),
    Read(u32, i64, i64, usize, bool),
    DropBelow(u32, i64),
    Truncate(u32, i64),
    DropPartition(u32),
    DropTopic(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0u32..4;
    prop_oneof![
        8 => (partition.clone(), 0i64..24, 0i64..5, 0usize..400).prop_map(|(p, b, n, l)| Step::Insert(p, b, b + n, l)),
        6 => (partition.clone(), 0i64..28, 0i64..30, 0usize..900, any::<bool>())
            .prop_map(|(p, f, b, m, one)| Step::Read(p, f, b, m, one)),
        1 => (partition.clone(), 0i64..28).prop_map(|(p, o)| Step::DropBelow(p, o)),
        1 => (partition.clone(), 0i64..28).prop_map(|(p, o)| Step::Truncate(p, o)),
        1 => partition.clone().prop_map(Step::DropPartition),
        1 => partition.prop_map(Step::DropTopic),
    ]
}

proptest! {
    #[test]
    fn the_cache_is_a_list_in_order_of_use(
        bytes_max in 0usize..4_000,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let (mut cache, mut naive) = (Cache::new(bytes_max), Naive { bytes_max, ..Naive::default() });
        let (mut hits, mut misses) = (0, 0);
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(p, base, next, length) => {
                    let bytes = batch(i as i64, length);
                    cache.insert(at(p), Offset(base), Offset(next), bytes.clone());
                    naive.insert(at(p), base, next, bytes);
                }
                Step::Read(p, from, below, max, one) => {
                    let expected = naive.read(at(p), from, below, max, one);
                    hits += u64::from(expected.is_some());
                    misses += u64::from(expected.is_none());
                    prop_assert_eq!(cache.read(at(p), Offset(from), Offset(below), max, one), expected);
                }
                Step::DropBelow(p, offset) => {
                    cache.drop_below(at(p), Offset(offset));
                    naive.entries.retain(|entry| entry.0 != at(p) || entry.2 > offset);
                }
                Step::Truncate(p, offset) => {
                    cache.truncate(at(p), Offset(offset));
                    naive.entries.retain(|entry| entry.0 != at(p) || entry.2 <= offset);
                }
                Step::DropPartition(p) => {
                    cache.drop_partition(at(p));
                    naive.entries.retain(|entry| entry.0 != at(p));
                }
                Step::DropTopic(p) => {
                    cache.drop_topic(at(p).topic);
                    naive.entries.retain(|entry| entry.0.topic != at(p).topic);
                }
            }
            let stats = cache.stats();
            prop_assert!(stats.bytes <= bytes_max as u64);
            prop_assert_eq!(stats.bytes, naive.bytes() as u64);
            prop_assert_eq!(stats.entries, naive.entries.len() as u64);
            prop_assert_eq!((stats.hits, stats.misses), (hits, misses));
            prop_assert_eq!(cache.index.values().map(BTreeMap::len).sum::<usize>(), naive.entries.len());
        }
    }
}
