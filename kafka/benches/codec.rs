//! Decoding and encoding of whole messages against a copy of the same bytes, rounds interleaved.
//!
//! `cargo bench -p rafka-kafka --bench codec [-- <megabytes a round> <rounds>]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rafka_kafka::ApiKey;
use rafka_kafka::messages::{Message, decode_all, encode_all, fetch, produce};
use rafka_kafka::wire::{Reader, Writer};

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;

fn main() {
    let mut numbers = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let megabytes = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(64);
    let rounds = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(9);
    println!("{megabytes} MB a round, medians of {rounds} rounds; µs per message");
    println!(
        "{:<8} {:>10} {:>8} {:>10} {:>10} {:>10} {:>12}",
        "", "partitions", "records", "copy", "decode", "encode", "both of copy"
    );
    for (partitions, size) in [(1, 100), (1, 16 << 10), (1, 1 << 20), (12, 16 << 10), (1000, 1 << 10)] {
        let records = Bytes::from(vec![7; size]);
        let message = produce_request(partitions, &records);
        bench("produce", ApiKey::Produce, PRODUCE_VERSION, &message, partitions, size, megabytes, rounds);
        let message = fetch_response(partitions, &records);
        bench("fetch", ApiKey::Fetch, FETCH_VERSION, &message, partitions, size, megabytes, rounds);
    }
}

#[allow(clippy::too_many_arguments, reason = "a row of the table")]
fn bench<M: Message>(
    name: &str,
    key: ApiKey,
    version: i16,
    message: &M,
    partitions: usize,
    size: usize,
    megabytes: usize,
    rounds: usize,
) {
    let frame = Bytes::from(encode(key, version, message).concat());
    // Small messages are repeated less than their size asks for: time is spent for each, not for each byte.
    let count = ((megabytes << 20) / frame.len()).clamp(1, 20_000);
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..rounds {
        // Who goes first changes from round to round.
        for turn in 0..3 {
            let what = (turn + round) % 3;
            let begin = Instant::now();
            for _ in 0..count {
                match what {
                    0 => drop(black_box(frame.to_vec())),
                    1 => drop(black_box(decode::<M>(key, version, &frame))),
                    _ => drop(black_box(encode(key, version, message))),
                }
            }
            times[what].push(begin.elapsed());
        }
    }
    let [copy, decode, encode] = times.map(|mut all| {
        all.sort_unstable();
        all[all.len() / 2].as_secs_f64() * 1e6 / count as f64
    });
    let share = (decode + encode) / copy * 100.0;
    println!("{name:<8} {partitions:>10} {size:>8} {copy:>10.3} {decode:>10.3} {encode:>10.3} {share:>10.0} %");
}

fn decode<M: Message>(key: ApiKey, version: i16, frame: &Bytes) -> M {
    decode_all(key, version, &mut Reader::new(frame.clone())).expect("decodes")
}

fn encode<M: Message>(key: ApiKey, version: i16, message: &M) -> Vec<Bytes> {
    let mut into = Writer::framed();
    encode_all(key, version, message, &mut into).expect("encodes");
    let mut chunks = into.finish().expect("fits");
    // As a socket would see them; decoding begins behind the length.
    chunks[0] = chunks[0].slice(4..);
    chunks
}

fn produce_request(partitions: usize, records: &Bytes) -> produce::Request {
    let partition = |index| produce::PartitionProduceData { index, records: Some(records.clone()) };
    let topic = produce::TopicProduceData {
        name: "a-topic-of-the-usual-length".into(),
        partition_data: (0..partitions as i32).map(partition).collect(),
        ..Default::default()
    };
    produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

fn fetch_response(partitions: usize, records: &Bytes) -> fetch::Response {
    let partition = |index| fetch::PartitionData {
        partition_index: index,
        high_watermark: 1_000_000,
        last_stable_offset: 1_000_000,
        log_start_offset: 0,
        records: Some(records.clone().into()),
        ..Default::default()
    };
    let topic = fetch::FetchableTopicResponse {
        topic: "a-topic-of-the-usual-length".into(),
        partitions: (0..partitions as i32).map(partition).collect(),
        ..Default::default()
    };
    fetch::Response { responses: vec![topic], ..Default::default() }
}
