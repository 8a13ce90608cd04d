use proptest::prelude::*;
use rafka_model::{BatchBuilder, Compression, LeaderEpoch};

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

/// Header of a batch of `records` records, without a place in the log.
fn header(id: i64, epoch: i16, sequence: i32, records: i32) -> BatchHeader {
    let mut builder = BatchBuilder::new(Compression::None).idempotent(ProducerId(id), epoch, sequence);
    (0..records).for_each(|_| builder.push(Timestamp(7), None, Some(b"v"), &[]));
    *builder.build().header()
}

fn at(offset: i64, header: BatchHeader) -> BatchHeader {
    BatchHeader { base_offset: Offset(offset), leader_epoch: LeaderEpoch(0), ..header }
}

fn code(states: &States, header: BatchHeader) -> Option<ErrorCode> {
    states.check(&header).err().map(|refusal| refusal.code())
}

/// Sequences 0..3, 3..5 and so on at offsets from 10.
fn states(batches: &[i32]) -> States {
    let (mut states, mut sequence) = (States::default(), 0);
    for records in batches {
        let header = header(1, 4, sequence, *records);
        assert_eq!(states.check(&header), Ok(Verdict::Append));
        states.record(&at(10 + i64::from(sequence), header), NOW);
        sequence += records;
    }
    states
}

#[test]
fn a_repeated_batch_is_known_by_its_exact_sequence_numbers() {
    let states = states(&[3, 2]);
    let Ok(Verdict::Duplicate(first)) = states.check(&header(1, 4, 0, 3)) else { panic!("a repetition") };
    assert_eq!((first.base_offset, first.last_offset(), first.max_timestamp), (Offset(10), Offset(12), Timestamp(7)));
    let Ok(Verdict::Duplicate(second)) = states.check(&header(1, 4, 3, 2)) else { panic!("a repetition") };
    assert_eq!((second.base_offset, second.last_sequence()), (Offset(13), 4));
    for part in [header(1, 4, 0, 2), header(1, 4, 1, 2), header(1, 4, 0, 5), header(1, 4, 4, 1)] {
        assert_eq!(code(&states, part), Some(ErrorCode::OutOfOrderSequence));
    }
}

#[test]
fn the_sixth_last_batch_is_too_old_to_be_known() {
    let states = states(&[1; 6]);
    assert_eq!(code(&states, header(1, 4, 0, 1)), Some(ErrorCode::OutOfOrderSequence));
    assert!(matches!(states.check(&header(1, 4, 1, 1)), Ok(Verdict::Duplicate(_))));
}

#[test]
fn sequences_follow_one_another_and_wrap() {
    assert_eq!(code(&states(&[3]), header(1, 4, 4, 1)), Some(ErrorCode::OutOfOrderSequence), "a gap");
    let mut states = States::default();
    states.record(&at(0, header(1, 0, i32::MAX - 1, 1)), NOW);
    let over = header(1, 0, i32::MAX, 3);
    assert_eq!(states.check(&over), Ok(Verdict::Append));
    states.record(&at(1, over), NOW);
    assert!(matches!(states.check(&over), Ok(Verdict::Duplicate(batch)) if batch.last_sequence() == 1));
    assert_eq!(states.check(&header(1, 0, 2, 1)), Ok(Verdict::Append));
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
    let mut states = states(&[3]);
    assert_eq!(code(&states, header(1, 5, 3, 1)), Some(ErrorCode::OutOfOrderSequence));
    let first = header(1, 5, 0, 3);
    assert_eq!(states.check(&first), Ok(Verdict::Append), "the same numbers in another epoch are no repetition");
    states.record(&at(13, first), NOW);
    for old in [header(1, 4, 0, 3), header(1, 4, 3, 1)] {
        assert_eq!(code(&states, old), Some(ErrorCode::InvalidProducerEpoch));
    }
}

#[test]
fn an_unknown_producer_may_begin_anywhere_and_none_is_not_checked() {
    let states = states(&[3]);
    assert_eq!(states.check(&header(2, 0, 77, 1)), Ok(Verdict::Append), "KIP-360");
    let anonymous = header(-1, -1, -1, 1);
    let mut with = states.clone();
    with.record(&at(13, anonymous), NOW);
    assert_eq!((with.check(&anonymous), with.len()), (Ok(Verdict::Append), 1));
}

#[test]
fn silence_ends_in_oblivion_but_not_within_a_transaction() {
    let mut states = states(&[3]);
    let transactional = BatchHeader { attributes: 0x10, ..at(13, header(2, 0, 0, 1)) };
    states.record(&transactional, NOW);
    states.record(&at(14, header(3, 0, 0, 1)), Timestamp(NOW.0 + 1));
    assert_eq!(states.expire(Timestamp(NOW.0 + 100), 100), 1);
    assert_eq!(states.known().map(|known| known.id.0).collect::<Vec<_>>(), [2, 3]);
    let marker = BatchHeader { attributes: 0x30, base_sequence: -1, ..at(15, header(2, 0, 0, 1)) };
    states.record(&marker, NOW);
    assert_eq!(states.known().next().and_then(|known| known.transaction_start), None);
    assert_eq!(states.expire(Timestamp(NOW.0 + 500), 100), 2);
}

#[test]
fn a_marker_of_a_new_epoch_begins_that_epoch() {
    let mut states = states(&[3]);
    states.record(&BatchHeader { attributes: 0x30, base_sequence: -1, ..at(13, header(1, 5, 0, 1)) }, NOW);
    assert_eq!(code(&states, header(1, 4, 3, 1)), Some(ErrorCode::InvalidProducerEpoch));
    assert_eq!(code(&states, header(1, 5, 1, 1)), Some(ErrorCode::OutOfOrderSequence));
    assert_eq!(states.check(&header(1, 5, 0, 1)), Ok(Verdict::Append));
}

#[test]
fn the_longest_silent_make_room() {
    let mut states = States { limit: 16, ..States::default() };
    for id in 0..16 {
        states.record(&at(id, header(id, 0, 0, 1)), Timestamp(NOW.0 + id));
    }
    states.record(&at(16, header(0, 0, 1, 1)), Timestamp(NOW.0 + 16));
    states.record(&at(17, header(16, 0, 0, 1)), Timestamp(NOW.0 + 17));
    let left: Vec<_> = states.known().map(|known| known.id.0).collect();
    assert_eq!(left, [0].into_iter().chain(3..17).collect::<Vec<_>>(), "an eighth goes, and not those just heard");
}

proptest! {
    #[test]
    fn a_snapshot_is_the_states(steps in proptest::collection::vec((0i64..5, 0i16..3, 0i32..9, 1i32..4, 0u8..8), 0..60)) {
        let mut states = States::default();
        for (offset, (id, epoch, sequence, records, kind)) in (0..).step_by(10).zip(steps) {
            let attributes = match kind { 0 => 0x30, 1 | 2 => 0x10, _ => 0 };
            let header = BatchHeader { attributes, ..at(offset, header(id, epoch, sequence, records)) };
            states.record(&header, Timestamp(offset));
        }
        let again = States::decode(&states.encode()).expect("decodes");
        prop_assert_eq!(again.producers, states.producers);
    }

    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..200, at in 0usize..200) {
        let _ = States::decode(&bytes);
        let mut real = states(&[3, 2, 1]).encode();
        bytes.truncate(1);
        if let (Some(byte), Some(flip)) = (real.get_mut(at), bytes.first()) {
            *byte ^= flip;
        }
        let _ = States::decode(&real);
        prop_assert!(cut >= real.len() || States::decode(&real[..cut]).is_none());
    }
}
