use bytes::Bytes;
use proptest::prelude::*;
use rafka_model::limits::{FRAME_BODY_BYTES_MAX, MIB};

use super::*;

fn frame(header: usize, body: usize) -> Frame {
    let fill = |bytes: usize, seed: usize| (0..bytes).map(|i| ((i * 31 + seed) % 251) as u8).collect::<Vec<_>>();
    let (front, back) = (fill(body / 3, body), fill(body - body / 3, header));
    Frame::with_pieces(fill(header, 1).into(), vec![front.into(), back.into()])
}

fn written(messages: &[Message]) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::default(), Vec::new());
    messages.iter().for_each(|message| writer.push(message));
    assert_eq!(writer.bytes(), messages.iter().map(Message::bytes).sum::<usize>());
    while !writer.is_empty() {
        // A muxer that takes less than it is offered.
        let next = writer.next();
        let taken = next.len().min(50_000);
        out.extend_from_slice(&next[..taken]);
        writer.wrote(taken);
    }
    out
}

/// What a reader makes of `bytes` that come in pieces of the sizes in `cuts`, over and over.
fn read(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Message>, WireError> {
    let (mut reader, mut messages, mut cuts) = (Reader::default(), Vec::new(), cuts.iter().cycle());
    let mut rest = bytes;
    loop {
        match reader.step()? {
            Step::Begins(head) => messages.extend(word(head)),
            Step::Message(message) => messages.push(message),
            Step::Skipped { .. } => unreachable!("nothing is skipped"),
            Step::More if rest.is_empty() => return Ok(messages),
            Step::More => {
                let room = reader.room();
                let taken = rest.len().min(room.len()).min(*cuts.next().expect("endless"));
                room[..taken].copy_from_slice(&rest[..taken]);
                reader.filled(taken);
                rest = &rest[taken..];
            }
        }
    }
}

fn word(head: Head) -> Option<Message> {
    Some(match head {
        Head::Frame { .. } => return None,
        Head::Grant { class, requests, bytes } => Message::Grant { class, requests, bytes },
        Head::NotServed(id) => Message::NotServed { id },
        Head::Cancel(id) => Message::Cancel { id },
        Head::Idle => Message::Idle,
        Head::Close => Message::Close,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let sizes = (0usize..300, prop_oneof![Just(0), 0usize..3000, 16_000usize..400_000]);
    prop_oneof![
        (0usize..3, any::<u32>(), any::<u64>()).prop_map(|(class, requests, bytes)| Message::Grant {
            class: Class::ALL[class],
            requests,
            bytes
        }),
        (any::<u64>(), sizes.clone()).prop_map(|(id, (header, body))| Message::Request {
            id,
            protocol: Protocol::Produce,
            frame: frame(header, body)
        }),
        (any::<u64>(), sizes).prop_map(|(id, (header, body))| Message::Reply {
            id,
            protocol: Protocol::Fetch,
            frame: frame(header, body)
        }),
        any::<u64>().prop_map(|id| Message::NotServed { id }),
        any::<u64>().prop_map(|id| Message::Cancel { id }),
        Just(Message::Idle),
        Just(Message::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_come_as_they_went_however_they_are_cut(
        messages in prop::collection::vec(message(), 0..12),
        cuts in prop::collection::vec(prop_oneof![1usize..50, 1000usize..300_000], 1..6),
    ) {
        prop_assert_eq!(read(&written(&messages), &cuts), Ok(messages));
    }

    #[test]
    fn any_bytes_are_messages_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 1usize..600) {
        let _ = read(&bytes, &[cut]);
    }

    #[test]
    fn a_head_that_is_understood_is_written_the_same(kind in 0u8..9, code in 0u8..9, a: u32, b: u32, c: u64) {
        let mut head = [0; HEAD_BYTES];
        (head[0], head[1]) = (kind, code);
        head[4..8].copy_from_slice(&a.to_be_bytes());
        head[8..12].copy_from_slice(&b.to_be_bytes());
        head[12..].copy_from_slice(&c.to_be_bytes());
        if let Ok(Some(message)) = Head::decode(&head).map(word) {
            prop_assert_eq!(message.head(), head);
        }
    }
}

#[test]
fn a_request_is_a_head_a_header_and_a_body() {
    let frame = Frame::new(Bytes::from_static(b"head"), Bytes::from_static(b"records"));
    let request = Message::Request { id: 258, protocol: Protocol::Produce, frame };
    let bytes = b"\x02\x05\0\0\0\0\0\x04\0\0\0\x07\0\0\0\0\0\0\x01\x02headrecords";
    assert_eq!(written(std::slice::from_ref(&request)), bytes);
    assert_eq!(read(bytes, &[7]), Ok(vec![request]));
}

#[test]
fn lengths_over_the_cap_of_the_protocol_are_refused_before_anything_is_read() {
    let claim = |kind: u8, protocol: Protocol, header: u32, body: u32| {
        let mut head = [0; HEAD_BYTES];
        (head[0], head[1]) = (kind, protocol as u8);
        head[4..8].copy_from_slice(&header.to_be_bytes());
        head[8..12].copy_from_slice(&body.to_be_bytes());
        Head::decode(&head)
    };
    let over = FRAME_BODY_BYTES_MAX as u32 + 1;
    assert!(claim(REQUEST, Protocol::Produce, 0, over - 1).is_ok());
    assert!(matches!(claim(REQUEST, Protocol::Produce, 0, over), Err(WireError::Frame(_))));
    assert!(matches!(claim(REQUEST, Protocol::Produce, u32::MAX, 0), Err(WireError::Frame(_))));
    assert!(matches!(claim(REQUEST, Protocol::Fetch, 0, 1), Err(WireError::Frame(_))), "a fetch has no body");
    assert!(matches!(claim(REPLY, Protocol::Produce, 0, 1), Err(WireError::Frame(_))), "nor has its answer");
    assert!(matches!(claim(REQUEST, Protocol::Hello, 0, 0), Err(WireError::Head(_))), "strangers have no lanes");
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let request = Message::Request { id: 1, protocol: Protocol::Produce, frame: frame(0, 0) };
    let mut bytes = written(&[request]);
    bytes[8..12].copy_from_slice(&(FRAME_BODY_BYTES_MAX as u32).to_be_bytes());
    let mut reader = Reader::default();
    reader.room()[..HEAD_BYTES].copy_from_slice(&bytes);
    reader.filled(HEAD_BYTES);
    assert!(matches!(reader.step(), Ok(Step::Begins(_))));
    assert!(matches!(reader.step(), Ok(Step::More)));
    assert!(reader.room().len() <= MIB / 4, "one step, until more has come");
}

#[test]
fn what_is_skipped_goes_by_and_the_next_message_is_read() {
    let messages = [
        Message::Request { id: 1, protocol: Protocol::Produce, frame: frame(10, 200_000) },
        Message::Request { id: 2, protocol: Protocol::Produce, frame: frame(3, 4) },
    ];
    let (bytes, mut reader, mut at, mut steps) = (written(&messages), Reader::default(), 0, Vec::new());
    while steps.len() < 2 {
        match reader.step().expect("legal") {
            Step::Begins(Head::Frame { id: 1, .. }) => reader.skip(),
            Step::Begins(_) => {}
            Step::Skipped { id, .. } => steps.push(id),
            Step::Message(message) => {
                assert_eq!(message, messages[1]);
                steps.push(2);
            }
            Step::More => {
                let room = reader.room();
                let taken = (bytes.len() - at).min(room.len());
                room[..taken].copy_from_slice(&bytes[at..at + taken]);
                reader.filled(taken);
                at += taken;
            }
        }
    }
    assert_eq!(steps, [1, 2]);
    assert!(!reader.is_inside());
}

#[test]
fn small_messages_share_a_write_and_large_bodies_are_not_copied() {
    let mut writer = Writer::default();
    let small = Message::Request { id: 1, protocol: Protocol::Produce, frame: frame(20, 1000) };
    (0..20).for_each(|_| writer.push(&small));
    assert_eq!(writer.next().len(), writer.bytes(), "one write");
    let mut writer = Writer::default();
    let body = Bytes::from(vec![7; MIB]);
    writer.push(&Message::Reply { id: 1, protocol: Protocol::Fetch, frame: Frame::new(Bytes::new(), body.clone()) });
    assert_eq!(writer.next().len(), crate::transport::MUXER_FRAME_BYTES, "filled up");
    writer.wrote(crate::transport::MUXER_FRAME_BYTES);
    assert_eq!(writer.next().as_ptr_range().end, body.as_ptr_range().end, "from where it lies");
}
