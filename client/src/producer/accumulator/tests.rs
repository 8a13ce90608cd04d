use proptest::prelude::*;
use rafka_broker::ErrorCode;
use rafka_broker::Failure;
use rafka_model::{Compression, Offset, ProducerId, RecordBatch};

use super::*;
use crate::Delivery;

const T0: Monotonic = Monotonic(0);

fn ms(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn topic() -> TopicName {
    TopicName::new("orders").expect("legal")
}

fn accumulator(config: ProducerConfig, partitions: u32) -> Accumulator {
    let mut accumulator = Accumulator::new(config, Random::seeded(1));
    accumulator.learn(&topic(), partitions);
    accumulator.adopt(ProducerId(9));
    accumulator
}

/// As it is sent: numbered, under which producer id, from which sequence number on.
fn sent(accumulator: &mut Accumulator, batch: &mut Batch) -> (i64, i32) {
    assert!(accumulator.identify(batch), "there is a producer id");
    let header = *RecordBatch::parse(batch.records()).expect("is a batch").header();
    (header.producer_id.0, header.base_sequence)
}

fn push(accumulator: &mut Accumulator, now: Monotonic, record: &Record) -> Pushed {
    accumulator.push(now, Timestamp(7), record, Accumulator::cost(record)).expect("is taken")
}

fn value(partition: u32, text: &str) -> Record {
    Record::new(topic(), text.to_owned()).partition(PartitionId(partition))
}

fn produced(base: i64) -> Outcome {
    Outcome::Delivered(Produced { base_offset: Offset(base), append_time: None, log_start: Offset(0) })
}

fn retry(at_once: bool) -> Outcome {
    let failure = Failure::new(ErrorCode::NotLeaderOrFollower, "node 3 leads");
    Outcome::Retry { error: Error::refused("publishing", &failure, None), at_once }
}

fn fate(pushed: &Pushed) -> Option<Result<Delivery, Error>> {
    match pushed.finished.peek()? {
        Ok(fate) => Some(fate.of(pushed.index, Timestamp(7))),
        Err(_) => Some(Err(Error::closed("the producer"))),
    }
}

/// `Shared::peek` sees only what was polled.
fn poll(pushed: &Pushed) -> Option<Result<Delivery, Error>> {
    use futures::FutureExt;
    let _ = pushed.finished.clone().now_or_never();
    fate(pushed)
}

fn values(batch: &mut Batch) -> Vec<String> {
    let batch = RecordBatch::parse(batch.records()).expect("is a batch");
    let text = |record: rafka_model::Record| String::from_utf8_lossy(&record.value.expect("has one")).into_owned();
    batch.records().expect("decompresses").map(|record| text(record.expect("decodes"))).collect()
}

#[test]
fn a_batch_waits_for_company_until_its_linger_ends() {
    let mut accumulator = accumulator(ProducerConfig { linger_ms: 5, ..ProducerConfig::default() }, 3);
    let first = push(&mut accumulator, T0, &value(1, "a"));
    assert!(first.wake);
    let second = push(&mut accumulator, ms(3), &value(1, "b"));
    assert!(!second.wake, "nothing is due earlier than before");
    assert!(accumulator.poll(ms(4)).0.is_empty());
    assert_eq!(accumulator.next_deadline(), Some(ms(5)));

    let mut batch = accumulator.poll(ms(5)).0.pop().expect("is due");
    assert_eq!(values(&mut batch), ["a", "b"]);
    assert_eq!(poll(&first), None);
    let freed = accumulator.done(batch, ms(6), produced(40));
    assert_eq!(freed, 2 * Accumulator::cost(&value(1, "a")));
    let delivery = poll(&second).expect("is done").expect("was delivered");
    assert_eq!((delivery.offset, delivery.partition), (Some(Offset(41)), PartitionId(1)));
}

#[test]
fn one_batch_of_a_partition_is_in_flight_and_others_are_not_held_up() {
    let config = ProducerConfig { linger_ms: 0, ..ProducerConfig::default() };
    let mut accumulator = accumulator(config, 2);
    push(&mut accumulator, T0, &value(0, "a"));
    let (mut sent, _) = accumulator.poll(T0);
    push(&mut accumulator, T0, &value(0, "b"));
    push(&mut accumulator, T0, &value(0, "c"));
    push(&mut accumulator, T0, &value(1, "x"));
    let (mut others, _) = accumulator.poll(ms(1));
    assert_eq!(others.len(), 1);
    assert_eq!(values(&mut others[0]), ["x"]);
    accumulator.done(sent.pop().expect("one"), ms(1), produced(0));
    assert_eq!(values(&mut accumulator.poll(ms(1)).0[0]), ["b", "c"], "company gathered meanwhile");
}

#[test]
fn a_failed_batch_goes_again_before_its_successors() {
    let config = ProducerConfig { linger_ms: 0, batch_bytes: 1, ..ProducerConfig::default() };
    let mut accumulator = accumulator(config, 1);
    for text in ["a", "b"] {
        push(&mut accumulator, T0, &value(0, text));
    }
    let batch = accumulator.poll(T0).0.pop().expect("due");
    accumulator.done(batch, ms(1), retry(true));
    let mut batch = accumulator.poll(ms(1)).0.pop().expect("a hint is followed at once");
    assert_eq!(values(&mut batch), ["a"]);
    accumulator.done(batch, ms(2), retry(true));
    assert!(accumulator.poll(ms(3)).0.is_empty(), "a second wrong hint backs off");
    let mut batch = accumulator.poll(ms(2 + 121)).0.pop().expect("backoff is over");
    assert_eq!(values(&mut batch), ["a"]);
    accumulator.done(batch, ms(200), produced(0));
    assert_eq!(values(&mut accumulator.poll(ms(200)).0[0]), ["b"]);
}

#[test]
fn a_record_fails_with_the_last_cause_when_its_time_is_up() {
    let config = ProducerConfig { linger_ms: 0, delivery_timeout_ms: 1_000, ..ProducerConfig::default() };
    let mut accumulator = accumulator(config, 1);
    let pushed = push(&mut accumulator, T0, &value(0, "a"));
    let batch = accumulator.poll(T0).0.pop().expect("due");
    let waiting = push(&mut accumulator, ms(10), &value(0, "b"));
    accumulator.done(batch, ms(990), retry(false));
    let error = poll(&pushed).expect("is done").expect_err("failed");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout, Some(ErrorCode::NotLeaderOrFollower)));
    let (ready, freed) = accumulator.poll(ms(2_000));
    assert!(ready.is_empty() && freed > 0, "nothing late is sent");
    assert!(poll(&waiting).expect("is done").is_err());
    assert_eq!(accumulator.next_deadline(), None);
    assert!(accumulator.take_failure().is_some() && accumulator.take_failure().is_none());
}

#[test]
fn a_batch_too_large_is_split_and_a_single_record_fails() {
    for compression in Compression::ALL {
        let config = ProducerConfig { compression, ..ProducerConfig::default() };
        let mut accumulator = accumulator(config, 1);
        let pushed: Vec<_> = ["a", "b", "c"].map(|text| push(&mut accumulator, T0, &value(0, text))).into();
        accumulator.flush();
        let too_large = || Outcome::TooLarge(Error::new(ErrorKind::Invalid, "too large"));
        let mut batch = accumulator.poll(T0).0.pop().expect("due");
        assert_eq!(sent(&mut accumulator, &mut batch), (9, 0));
        accumulator.done(batch, T0, too_large());

        let mut first = accumulator.poll(T0).0.pop().expect("first half");
        assert_eq!((sent(&mut accumulator, &mut first), values(&mut first)), ((9, 0), vec!["a".to_owned()]));
        assert!(accumulator.poll(T0).0.is_empty(), "order holds across a split");
        accumulator.done(first, T0, produced(69));
        let mut second = accumulator.poll(T0).0.pop().expect("second half");
        assert_eq!((sent(&mut accumulator, &mut second), values(&mut second).len()), ((9, 1), 2));
        accumulator.done(second, T0, too_large());
        let mut third = accumulator.poll(T0).0.pop().expect("a half of the half");
        assert_eq!((sent(&mut accumulator, &mut third), values(&mut third)), ((9, 1), vec!["b".to_owned()]));
        accumulator.done(third, T0, too_large());
        accumulator.adopt(ProducerId(10));
        let mut last = accumulator.poll(T0).0.pop().expect("the other");
        assert_eq!(sent(&mut accumulator, &mut last), (10, 0), "a record that failed leaves a gap: numbered anew");
        assert_eq!(poll(&pushed[2]), None, "records of one promise are told together");
        accumulator.done(last, T0, produced(70));
        assert!(poll(&pushed[1]).expect("is done").is_err());
        let offset = |i: usize| poll(&pushed[i]).expect("is done").expect("delivered").offset;
        assert_eq!((offset(0), offset(2)), (Some(Offset(69)), Some(Offset(70))));
    }
}

#[test]
fn keys_decide_and_keyless_records_stick_until_the_batch_is_full() {
    let config = ProducerConfig { batch_bytes: 400, ..ProducerConfig::default() };
    let mut accumulator = accumulator(config, 12);
    for _ in 0..2 {
        push(&mut accumulator, T0, &Record::new(topic(), "v").key("foobar"));
    }
    let keyed = accumulator.flush().len();
    assert_eq!(keyed, 1, "one key, one partition");
    assert_eq!(accumulator.poll(T0).0[0].partition(), partition_for_key(b"foobar", 12));

    for _ in 0..200 {
        push(&mut accumulator, T0, &Record::new(topic(), vec![b'v'; 60]));
    }
    accumulator.flush();
    let mut counts = [0; 12];
    let (mut ready, _) = accumulator.poll(T0);
    for batch in &mut ready {
        counts[batch.partition().0 as usize] += values(batch).len();
        assert!(batch.bytes() <= 400);
    }
    assert!(counts.iter().filter(|count| **count >= 3).count() >= 11, "work is spread: {counts:?}");
}

#[test]
fn sequences_count_records_per_partition_and_wrap() {
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 1, 3), 1);
    let mut accumulator = accumulator(ProducerConfig { linger_ms: 0, ..ProducerConfig::default() }, 2);
    let mut sequences = Vec::new();
    for round in 0..3 {
        for partition in [0, 1, 1] {
            push(&mut accumulator, T0, &value(partition, "v"));
        }
        for mut batch in accumulator.poll(T0).0 {
            sequences.push((round, batch.partition().0, sent(&mut accumulator, &mut batch).1));
            accumulator.done(batch, T0, produced(0));
        }
    }
    assert_eq!(sequences, [(0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 2), (2, 0, 2), (2, 1, 4)]);
}

#[test]
fn a_partition_that_lost_its_place_begins_again_under_another_producer_id_and_others_go_on() {
    let mut accumulator = accumulator(ProducerConfig { linger_ms: 0, ..ProducerConfig::default() }, 2);
    let round = |accumulator: &mut Accumulator, now: u64, lost: &dyn Fn(u32) -> bool| {
        for partition in [0, 1] {
            push(accumulator, ms(now), &value(partition, "v"));
        }
        let mut numbers = Vec::new();
        for mut batch in accumulator.poll(ms(now)).0 {
            numbers.push((batch.partition().0, sent(accumulator, &mut batch)));
            let error = Error::new(ErrorKind::Failed, "out of order");
            let lost = lost(batch.partition().0);
            accumulator.done(batch, ms(now), if lost { Outcome::Renumber(error) } else { produced(0) });
        }
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(round(&mut accumulator, 0, &|_| false), [(0, (9, 0)), (1, (9, 0))]);
    assert_eq!(round(&mut accumulator, 1, &|partition| partition == 1), [(0, (9, 1)), (1, (9, 1))]);
    assert!(!accumulator.has_producer_id(), "9 was used there: it needs another one");
    accumulator.adopt(ProducerId(10));
    // The batch that was refused is the one that goes again, as it was built, with other numbers.
    assert_eq!(round(&mut accumulator, 1_000, &|_| false), [(0, (9, 2)), (1, (10, 0))]);
    assert_eq!(round(&mut accumulator, 2_000, &|_| false), [(0, (9, 3)), (1, (10, 1))]);
}

#[test]
fn a_batch_that_was_never_sent_leaves_no_gap_and_one_sent_again_keeps_its_numbers() {
    let config = ProducerConfig { linger_ms: 0, delivery_timeout_ms: 1_000, ..ProducerConfig::default() };
    let mut accumulator = accumulator(config, 1);
    push(&mut accumulator, T0, &value(0, "late"));
    assert!(accumulator.poll(ms(2_000)).0.is_empty(), "it is too late for it");
    push(&mut accumulator, ms(2_000), &value(0, "a"));
    let mut batch = accumulator.poll(ms(2_000)).0.pop().expect("due");
    assert_eq!(sent(&mut accumulator, &mut batch), (9, 0));
    let first = batch.records();
    accumulator.done(batch, ms(2_001), retry(true));
    let mut batch = accumulator.poll(ms(2_001)).0.pop().expect("due");
    assert_eq!((sent(&mut accumulator, &mut batch), batch.records()), ((9, 0), first));
}

#[test]
fn without_acknowledgements_nothing_is_numbered() {
    for (idempotent, acks) in [(true, Acks::None), (false, Acks::All)] {
        let config = ProducerConfig { idempotent, acks, linger_ms: 0, ..ProducerConfig::default() };
        let mut accumulator = accumulator(config, 1);
        push(&mut accumulator, T0, &value(0, "a"));
        let mut batch = accumulator.poll(T0).0.pop().expect("due");
        assert_eq!(sent(&mut accumulator, &mut batch), (-1, -1));
    }
}

#[test]
fn a_dropped_producer_tells_everyone() {
    let mut accumulator = accumulator(ProducerConfig { linger_ms: 0, ..ProducerConfig::default() }, 2);
    let in_flight = push(&mut accumulator, T0, &value(0, "a"));
    let batch = accumulator.poll(T0).0;
    let waiting = push(&mut accumulator, T0, &value(0, "b"));
    assert_eq!(accumulator.flush().len(), 2, "a flush waits for what is in flight too");
    accumulator.abandon(&Error::closed("the producer"));
    drop(batch);
    for pushed in [in_flight, waiting] {
        assert_eq!(poll(&pushed).expect("is done").expect_err("failed").kind(), ErrorKind::Closed);
    }
    assert!(accumulator.push(T0, Timestamp(0), &value(0, "c"), 80).is_err());
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    let mut accumulator = accumulator(ProducerConfig::default(), 2);
    let refused = |accumulator: &mut Accumulator, record: &Record, bytes| {
        accumulator.push(T0, Timestamp(0), record, bytes).expect_err("refused").kind()
    };
    assert_eq!(refused(&mut accumulator, &value(2, "a"), 50), ErrorKind::NotFound);
    assert_eq!(refused(&mut accumulator, &value(0, "a"), BATCH_BYTES_MAX as usize), ErrorKind::Invalid);
    let stranger = Record::new(TopicName::new("other").expect("legal"), "a");
    assert_eq!(refused(&mut accumulator, &stranger, 50), ErrorKind::NotFound);
}

proptest! {
    /// Whatever happens to the attempts: each partition's records are delivered once, in order, and all bytes are freed.
    #[test]
    fn order_holds_and_nothing_is_forgotten(
        steps in proptest::collection::vec((0u32..4, 0u8..6, 1usize..120), 1..200), seed: u64,
    ) {
        let config = ProducerConfig { linger_ms: 2, batch_bytes: 300, ..ProducerConfig::default() };
        let mut accumulator = Accumulator::new(config, Random::seeded(seed));
        accumulator.learn(&topic(), 4);
        let (mut now, mut held, mut flying): (u64, usize, Vec<Batch>) = (0, 0, Vec::new());
        let (mut logs, mut expected) = (vec![Vec::<String>::new(); 4], vec![Vec::<String>::new(); 4]);
        let mut promises = Vec::new();
        let mut finish = |accumulator: &mut Accumulator, mut batch: Batch, action: u8, now: u64| {
            let log = &mut logs[batch.partition().0 as usize];
            let outcome = match action {
                0 => retry(false),
                1 => retry(true),
                2 => Outcome::TooLarge(Error::new(ErrorKind::Invalid, "too large")),
                _ => {
                    let base = log.len() as i64;
                    log.extend(values(&mut batch));
                    produced(base)
                }
            };
            // A single record cannot shrink; here every record fits.
            let alone = values(&mut batch).len() == 1;
            accumulator.done(batch, ms(now), if action == 2 && alone { retry(false) } else { outcome })
        };
        for (i, (partition, action, length)) in steps.iter().enumerate() {
            now += 1;
            let text = format!("{i:0length$}");
            let record = value(*partition, &text);
            held += Accumulator::cost(&record);
            expected[*partition as usize].push(text);
            promises.push((*partition, expected[*partition as usize].len() - 1, push(&mut accumulator, ms(now), &record)));
            flying.extend(accumulator.poll(ms(now)).0);
            if !flying.is_empty() {
                let batch = flying.swap_remove(i % flying.len());
                held -= finish(&mut accumulator, batch, *action, now);
            }
        }
        accumulator.flush();
        while let Some(next) = accumulator.next_deadline().map(|next| next.0 / 1_000_000 + 1).or((!flying.is_empty()).then_some(now)) {
            now = now.max(next);
            flying.extend(accumulator.poll(ms(now)).0);
            for batch in std::mem::take(&mut flying) {
                held -= finish(&mut accumulator, batch, 5, now);
            }
        }
        prop_assert_eq!(&logs, &expected);
        prop_assert_eq!(held, 0);
        for (partition, index, pushed) in promises {
            let delivery = poll(&pushed).expect("is done").expect("was delivered");
            prop_assert_eq!(delivery.partition.0, partition);
            prop_assert_eq!(delivery.offset, Some(Offset(index as i64)));
        }
    }
}
