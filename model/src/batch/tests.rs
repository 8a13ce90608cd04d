use super::*;
use crate::{Compression, Timestamp};
use proptest::prelude::*;

fn sample(codec: Compression) -> RecordBatch {
    let mut builder = BatchBuilder::new(codec);
    let headers =
        [Header { key: "h".into(), value: Some(Bytes::from_static(b"1")) }, Header { key: "n".into(), value: None }];
    builder.push(Timestamp(1_000), Some(b"k"), Some(b"v"), &headers);
    builder.push(Timestamp(900), None, None, &[]);
    builder.build()
}

#[test]
fn records_survive_every_codec() {
    for codec in Compression::ALL {
        let batch = RecordBatch::parse(sample(codec).bytes().clone()).expect("parses");
        let batch = batch.stamp(Offset(40), LeaderEpoch(7));
        let records: Vec<_> = batch.records().expect("decompresses").collect::<Result<_, _>>().expect("decodes");
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].offset, records[0].timestamp), (Offset(40), Timestamp(1_000)));
        assert_eq!((records[1].offset, records[1].timestamp), (Offset(41), Timestamp(900)));
        assert_eq!(records[0].headers[1], Header { key: "n".into(), value: None });
        assert_eq!((records[1].key.clone(), records[1].value.clone()), (None, None));
        assert_eq!(batch.header().max_timestamp, Timestamp(1_000));
    }
}

#[test]
fn stamping_changes_nothing_that_the_checksum_covers() {
    let batch = sample(Compression::None);
    let shared = batch.bytes().clone();
    let stamped = batch.clone().stamp(Offset(5), LeaderEpoch(3));
    assert_eq!(RecordBatch::parse(stamped.bytes().clone()).as_ref(), Ok(&stamped));
    assert_eq!(stamped.bytes()[16..], shared[16..]);
    assert_eq!(batch.stamped_prefix(Offset(5), LeaderEpoch(3)), stamped.bytes()[..16]);
    assert_eq!(batch.header().base_offset, Offset(0), "a shared batch is copied, not changed");
}

#[test]
fn every_flipped_bit_behind_the_epoch_is_noticed() {
    let good = sample(Compression::None).bytes().clone();
    for bit in (8 * 8..12 * 8).chain(16 * 8..good.len() * 8) {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(RecordBatch::parse(bad.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_cut_off_batch_says_how_much_is_missing() {
    let good = sample(Compression::None).bytes().clone();
    for cut in 0..good.len() {
        let needed = if cut < BATCH_HEADER_BYTES { BATCH_HEADER_BYTES } else { good.len() };
        assert_eq!(RecordBatch::parse(good.slice(..cut)), Err(BatchError::CutOff { bytes: cut, needed }));
    }
}

#[test]
fn split_finds_every_batch_and_reports_the_torn_one() {
    let good = sample(Compression::Lz4).bytes().clone();
    let torn = [&good[..], &good[..], &good[..30]].concat();
    let found: Vec<_> = RecordBatch::split(torn.into()).collect();
    assert_eq!(found.len(), 3);
    assert!(found[0].is_ok() && found[1].is_ok());
    assert_eq!(found[2], Err(BatchError::CutOff { bytes: 30, needed: BATCH_HEADER_BYTES }));
}

proptest! {
    #[test]
    fn what_is_built_is_read(
        parts in proptest::collection::vec(
            (any::<i32>(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
             proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))), 1..40),
        number in 0u8..5,
    ) {
        let mut builder = BatchBuilder::new(Compression::from_number(number).expect("known"));
        for (time, key, value) in &parts {
            let before = builder.bytes();
            builder.push(Timestamp(i64::from(*time)), key.as_deref(), value.as_deref(), &[]);
            prop_assert!(builder.bytes() - before <= BatchBuilder::record_bytes(key.as_deref(), value.as_deref(), &[]));
        }
        let batch = RecordBatch::parse(builder.build().bytes().clone()).expect("parses");
        prop_assert!(batch.header().check_produced().is_ok());
        let read: Vec<_> = batch.records().expect("decompresses").collect::<Result<_, _>>().expect("decodes");
        prop_assert_eq!(read.len(), parts.len());
        for (record, (time, key, value)) in read.iter().zip(&parts) {
            prop_assert_eq!(record.timestamp, Timestamp(i64::from(*time)));
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
        }
    }

    #[test]
    fn no_records_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0i32..50) {
        let mut batch = sample(Compression::None).bytes()[..BATCH_HEADER_BYTES].to_vec();
        batch.extend_from_slice(&bytes);
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = RecordBatch::parse(batch.into()).expect("the header is fine");
        for record in batch.records().expect("not compressed") {
            let _ = record;
        }
    }
}
