use bytes::Bytes;
use rafka_model::{BatchBuilder, Offset, ProducerId, RecordBatch};

use super::*;

/// Ten records, the odd ones tombstones.
fn batch(codec: Compression) -> RecordBatch {
    let mut builder = BatchBuilder::new(codec).idempotent(ProducerId(7), 3, 11);
    for i in 0..10i64 {
        let (key, value) = (format!("key {i}"), format!("value {i}").repeat(20));
        builder.push(
            Timestamp(1_000_000 - i * 300),
            Some(key.as_bytes()),
            (i % 2 == 0).then_some(value.as_bytes()),
            &[],
        );
    }
    builder.build().stamp(Offset(500), LeaderEpoch(4))
}

fn decoded(batch: &[u8]) -> Vec<rafka_model::Record> {
    let batch = RecordBatch::parse(Bytes::copy_from_slice(batch)).expect("whole");
    batch.records().expect("decompresses").map(|record| record.expect("decodes")).collect()
}

#[test]
fn a_rebuilt_batch_loses_records_and_nothing_else() {
    for codec in Compression::ALL {
        let whole = batch(codec);
        let header = whole.header();
        let records = Records::decode(header, whole.bytes()).expect("decodes");
        let kept: Vec<bool> = (0..10).map(|i| i % 3 == 0).collect();
        for horizon in [None, Some(Timestamp(77_000_000))] {
            let rebuilt = rebuild(header, whole.bytes(), &records, &kept, horizon).expect("fits");
            let expected: Vec<_> = decoded(whole.bytes()).into_iter().step_by(3).collect();
            assert_eq!(decoded(&rebuilt), expected, "{codec:?} {horizon:?}");
            let after = BatchHeader::parse(&rebuilt).expect("parses");
            assert_eq!((after.base_offset, after.last_offset_delta, after.record_count), (Offset(500), 9, 4));
            assert_eq!((after.producer_id, after.producer_epoch, after.base_sequence), (ProducerId(7), 3, 11));
            assert_eq!((after.compression(), after.leader_epoch), (codec, LeaderEpoch(4)));
            assert_eq!(after.max_timestamp, Timestamp(1_000_000));
            assert_eq!(delete_horizon(&after), horizon);
        }
    }
}

#[test]
fn emptied_batches_and_placeholders_are_batches() {
    let whole = batch(Compression::Zstd);
    let empty = emptied(whole.header(), whole.bytes());
    assert!(decoded(&empty).is_empty());
    let header = BatchHeader::parse(&empty).expect("parses");
    assert_eq!(
        (header.base_sequence, header.last_offset(), header.compression()),
        (11, Offset(509), Compression::None)
    );
    assert_eq!(header.max_timestamp, whole.header().max_timestamp);
    let gap = placeholder(Offset(3), i32::MAX, LeaderEpoch(2), Timestamp(9));
    assert!(decoded(&gap).is_empty());
    let header = BatchHeader::parse(&gap).expect("parses");
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (ProducerId::NONE, -1, -1));
    assert_eq!(header.next_offset(), Offset(3 + (1 << 31)));
}

#[test]
fn what_does_not_decode_is_refused_and_never_panics() {
    let whole = batch(Compression::None);
    let bytes = whole.bytes();
    let cut = |length| Records::decode(whole.header(), &bytes[..length]).is_some();
    assert_eq!((BATCH_HEADER_BYTES..=bytes.len()).filter(|length| cut(*length)).count(), 1, "only the whole");
    for at in BATCH_HEADER_BYTES..bytes.len() {
        for mask in [1, 0x80, 0xff] {
            let mut wrong = bytes.to_vec();
            wrong[at] ^= mask;
            if let Some(records) = Records::decode(whole.header(), &wrong) {
                let kept = vec![true; records.iter().count()];
                assert!(rebuild(whole.header(), &wrong, &records, &kept, Some(Timestamp(1))).is_some());
            }
        }
    }
    let fewer = BatchHeader { record_count: 9, ..*whole.header() };
    assert!(Records::decode(&fewer, bytes).is_none(), "bytes are left over");
}
