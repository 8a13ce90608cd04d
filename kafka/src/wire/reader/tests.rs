use super::*;
use crate::wire::Writer;

fn reader(bytes: &[u8]) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes))
}

#[test]
fn text_and_bytes_are_slices_of_the_frame() {
    let frame = Bytes::from_static(&[0, 2, b'h', b'i', 0, 0, 0, 3, 7, 8, 9]);
    let mut from = Reader::new(frame.clone());
    let text = from.string(false, "text").expect("reads");
    let bytes = from.bytes(false, "bytes").expect("reads");
    assert_eq!(text, "hi");
    assert_eq!(text.as_bytes().as_ptr(), frame[2..].as_ptr());
    assert_eq!(bytes.as_ptr(), frame[8..].as_ptr());
    assert_eq!(from.finish("frame"), Ok(()));
}

#[test]
fn varints_hold_32_bits_and_no_more() {
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint("n"), Ok(u32::MAX));
    assert_eq!(reader(&[0x80, 0x01]).varint("n"), Ok(128));
    for long in [[0xff, 0xff, 0xff, 0xff, 0x1f], [0x80, 0x80, 0x80, 0x80, 0x80]] {
        assert_eq!(reader(&long).varint("n"), Err(DecodeError { field: "n", reason: Malformed::Varint }));
    }
}

#[test]
fn lengths_below_null_are_refused() {
    let reason = |result: Result<Option<Str>, DecodeError>| result.expect_err("refused").reason;
    assert_eq!(reader(&[255, 255]).string_opt(false, "text"), Ok(None));
    assert_eq!(reader(&[0]).string_opt(true, "text"), Ok(None));
    assert_eq!(reason(reader(&[255, 254]).string_opt(false, "text")), Malformed::Length(-2));
    assert_eq!(reader(&[255, 255]).string(false, "text").expect_err("refused").reason, Malformed::Null);
    assert_eq!(reason(reader(&[0, 2, 0xc3, 0x28]).string_opt(false, "text")), Malformed::Utf8);
}

#[test]
fn a_claimed_length_is_compared_with_what_is_left() {
    let mut from = reader(&[0x7f, 0xff, 0xff, 0xff, 1]);
    let reason = from.bytes(false, "bytes").expect_err("refused").reason;
    assert_eq!(reason, Malformed::Short { needed: i32::MAX as u64, left: 1 });
    let mut from = reader(&[0x7f, 0xff, 0xff, 0xff, 1]);
    let reason = from.i32s(false, "numbers").expect_err("refused").reason;
    assert_eq!(reason, Malformed::Short { needed: 4 * i32::MAX as u64, left: 1 });
    let reason = reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).strings(true, "texts").expect_err("refused").reason;
    assert_eq!(reason, Malformed::Short { needed: u64::from(u32::MAX) - 1, left: 0 });
}

#[test]
fn arrays_of_little_bytes_and_much_memory_are_paid_from_the_budget() {
    // Empty strings take a byte each on the wire, and much more in memory.
    let count = 3 * KAFKA_DECODED_BYTES_MAX / size_of::<Str>();
    let mut frame = Writer::new();
    frame.varint(count as u32 + 1);
    let mut frame = frame.finish().expect("fits").concat();
    frame.resize(frame.len() + count, 1);
    let reason = Reader::new(frame.into()).strings(true, "texts").expect_err("refused").reason;
    assert_eq!(reason, Malformed::Memory(KAFKA_DECODED_BYTES_MAX));
}

#[test]
fn unknown_tags_are_skipped_and_known_ones_end_where_they_say() {
    let mut from = reader(&[2, 0, 3, 1, 2, 3, 9, 0, 5]);
    assert_eq!(from.skip_tags("tags"), Ok(()));
    assert_eq!(from.i8("next"), Ok(5));
    assert!(reader(&[1, 0, 3, 1, 2]).skip_tags("tags").is_err());
    let mut from = reader(&[0, 3, 1, 2, 3]);
    let tag = from.tag("tag").expect("reads");
    from.i8("one").expect("reads");
    let reason = from.end_tag(tag, "tag").expect_err("refused").reason;
    assert_eq!(reason, Malformed::TagSize { said: 3, taken: 1 });
}
