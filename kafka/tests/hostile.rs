//! Damaged and lying frames are refused without a panic, and without memory that the frame does not pay for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use rafka_kafka::ApiKey;
use rafka_kafka::testing::{Chance, Part, codec};
use rafka_model::limits::{KAFKA_DECODED_BYTES_MIN, KAFKA_DECODED_FACTOR, KIB};

thread_local! {
    /// Bytes that this thread holds, and the most it held.
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[allow(unsafe_code, reason = "an allocator cannot be written without; it only counts")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (held, most) = HELD.get();
        let held = held.saturating_add(layout.size());
        HELD.set((held, most.max(held)));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (held, most) = HELD.get();
        HELD.set((held.saturating_sub(layout.size()), most));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes held at most while `run` ran, beyond those held before.
fn most_held<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get().0;
    HELD.set((before, before));
    let value = run();
    (value, HELD.get().1 - before)
}

/// Decodes; true if the frame was taken. What is taken can be encoded, and then decodes to the same bytes.
fn decode(key: ApiKey, part: Part, version: i16, frame: &[u8]) -> bool {
    let codec = codec(key, part);
    let bytes = Bytes::copy_from_slice(frame);
    let (recoded, most) = most_held(|| (codec.recode)(key, version, bytes));
    // The budget of arrays, what encoding them again takes, and a little for the rest.
    let limit = KAFKA_DECODED_BYTES_MIN + KAFKA_DECODED_FACTOR * frame.len() + 4 * frame.len() + 8 * KIB;
    assert!(most <= limit, "{key} {version} {part:?}: {most} bytes for a frame of {}", frame.len());
    let Ok(again) = recoded else { return false };
    let again = again.expect("what was decoded can be encoded").concat();
    let third = (codec.recode)(key, version, again.clone().into()).expect("decodes").expect("encodes").concat();
    assert_eq!(again, third, "{key} {version} {part:?}");
    true
}

fn each(mut run: impl FnMut(ApiKey, Part, i16, &[u8], &mut Chance)) {
    for key in ApiKey::ALL {
        for part in [Part::Request, Part::Response] {
            for version in key.versions() {
                let mut chance = Chance::new(u64::from(key.number() as u16) << 16 | version as u64);
                for _ in 0..4 {
                    let frame = (codec(*key, part).sample)(*key, version, &mut chance).expect("encodes").concat();
                    run(*key, part, version, &frame, &mut chance);
                }
            }
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    each(|key, part, version, frame, _| {
        for end in (0..frame.len()).step_by(frame.len() / 200 + 1) {
            assert!(!decode(key, part, version, &frame[..end]), "{key} {version} {part:?} cut at {end}");
        }
        assert!(decode(key, part, version, frame));
    });
}

#[test]
fn bytes_behind_a_message_are_refused() {
    each(|key, part, version, frame, _| {
        let long = [frame, &[0]].concat();
        assert!(!decode(key, part, version, &long), "{key} {version} {part:?}");
    });
}

#[test]
fn flipped_bits_and_noise_do_no_harm() {
    each(|key, part, version, frame, chance| {
        for _ in 0..24 {
            let mut damaged = frame.to_vec();
            for _ in 0..=chance.below(3) {
                let at = chance.below(frame.len().max(1) as u64) as usize;
                if let Some(byte) = damaged.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            decode(key, part, version, &damaged);
        }
        let noise: Vec<u8> = (0..chance.below(64)).map(|_| chance.bits() as u8).collect();
        decode(key, part, version, &noise);
    });
}

#[test]
fn lying_lengths_do_no_harm_wherever_they_are() {
    let lies: [&[u8]; 6] = [
        &i32::MAX.to_be_bytes(),
        &i32::MIN.to_be_bytes(),
        &(-2_i32).to_be_bytes(),
        &i16::MAX.to_be_bytes(),
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    each(|key, part, version, frame, _| {
        for lie in lies {
            for at in (0..frame.len()).step_by(frame.len() / 100 + 1) {
                let mut damaged = frame[..at].to_vec();
                damaged.extend_from_slice(lie);
                damaged.extend_from_slice(frame.get(at + lie.len()..).unwrap_or_default());
                decode(key, part, version, &damaged);
                // The lie, and nothing behind it.
                decode(key, part, version, &damaged[..at + lie.len()]);
            }
        }
    });
}

#[test]
fn a_large_frame_of_tiny_elements_is_held_to_the_budget() {
    // DeleteTopics 5: empty names, a byte each, and the timeout.
    for count in [1_u32 << 20, 1 << 10] {
        let mut frame = vec![0x80 | (count & 0x7f) as u8, 0x80 | (count >> 7 & 0x7f) as u8, (count >> 14) as u8];
        frame.resize(frame.len() + count as usize - 1, 1);
        frame.extend_from_slice(&[0, 0, 0, 0, 0]);
        let taken = decode(ApiKey::DeleteTopics, Part::Request, 5, &frame);
        assert!(taken);
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // Metadata 9: null topics, three flags, and two tags that nobody knows.
    let frame = [0, 0, 0, 0, 2, 7, 3, 1, 2, 3, 0xff, 0x01, 0];
    let again = (codec(ApiKey::Metadata, Part::Request).recode)(ApiKey::Metadata, 9, Bytes::copy_from_slice(&frame));
    assert_eq!(again.expect("decodes").expect("encodes").concat(), [0, 0, 0, 0, 0]);
}
