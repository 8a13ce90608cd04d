use super::*;

#[test]
fn large_bytes_are_shared_and_small_ones_copied() {
    let (large, small) = (Bytes::from(vec![7; SPLICE_BYTES_MIN]), Bytes::from_static(b"small"));
    let mut into = Writer::framed();
    into.bytes_opt(false, Some(&small), "small").expect("fits");
    into.bytes_opt(false, Some(&large), "large").expect("fits");
    into.i8(1);
    let bytes = into.written();
    let chunks = into.finish().expect("fits");
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks[1].as_ptr(), large.as_ptr());
    assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), bytes);
    assert_eq!(chunks[0][..4], (bytes as i32 - 4).to_be_bytes());
}

#[test]
fn nothing_lies_between_neighbouring_chunks() {
    let large = Bytes::from(vec![7; SPLICE_BYTES_MIN]);
    let mut into = Writer::new();
    assert_eq!(Writer::new().finish(), Ok(Vec::new()));
    into.bytes_opt(true, Some(&large), "large").expect("fits");
    let chunks = into.finish().expect("fits");
    assert_eq!(chunks.len(), 2);
}

#[test]
fn a_tagged_field_is_preceded_by_its_size_even_if_it_shares_bytes() {
    let large = Bytes::from(vec![7; SPLICE_BYTES_MIN]);
    let mut into = Writer::new();
    let start = into.begin_tag(3);
    into.bytes_opt(true, Some(&large), "large").expect("fits");
    into.i8(1);
    into.end_tag(start, "tag").expect("fits");
    let bytes = into.finish().expect("fits").concat();
    // Tag 3, 1027 bytes: the length 1025, 1024 bytes, one more.
    assert_eq!(bytes[..6], [3, 0x83, 0x08, 0x81, 0x08, 7]);
    assert_eq!((bytes.len(), bytes.last()), (3 + 1027, Some(&1)));
}

#[test]
fn what_a_length_cannot_say_is_refused() {
    let text = Str::from("x".repeat(40_000));
    for compact in [false, true] {
        let error = Writer::new().string(compact, &text, "text").expect_err("refused");
        assert_eq!(error, EncodeError { field: "text", reason: Unfit::Long(40_000) });
    }
}
