use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::AsyncRead;
use futures::io::Cursor;
use proptest::prelude::*;
use rafka_model::limits::{FRAME_READ_STEP_BYTES, MIB};

use super::*;

const CAPS: Caps = Caps { header: 1000, body: MIB };

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

fn written(frame: &Frame) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    run(write_frame(&mut out, frame, CAPS)).expect("within the caps");
    out.into_inner()
}

fn read(bytes: &[u8]) -> Result<Frame, FrameError> {
    run(read_frame(&mut Cursor::new(bytes), CAPS))
        .map_err(|error| FrameError::of(&error).expect("a frame error").clone())
}

/// Gives its bytes one by one, then never ends: a peer that wants to keep the stream.
struct Trickle(Vec<u8>);

impl AsyncRead for Trickle {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0.pop() {
            Some(byte) => {
                room[0] = byte;
                Poll::Ready(Ok(1))
            }
            None => Poll::Pending,
        }
    }
}

#[test]
fn a_frame_is_two_lengths_a_header_and_a_body() {
    let frame = Frame::new(Bytes::from_static(b"head"), Bytes::from_static(b"records"));
    assert_eq!(written(&frame), b"\0\0\0\x04head\0\0\0\x07records");
    assert_eq!(read(b"\0\0\0\x04head\0\0\0\x07records"), Ok(frame));
    assert_eq!(read(&[0; 8]), Ok(Frame::default()));
}

#[test]
fn a_frame_cut_anywhere_is_refused() {
    let bytes = written(&Frame::new(Bytes::from_static(b"head"), Bytes::from_static(b"records")));
    assert_eq!(read(&[]), Err(FrameError::Absent));
    for end in 1..bytes.len() {
        assert_eq!(read(&bytes[..end]), Err(FrameError::CutOff), "cut at {end}");
    }
}

#[test]
fn a_second_frame_is_refused() {
    let bytes = written(&Frame::new(Bytes::from_static(b"head"), Bytes::new()));
    assert_eq!(read(&[&bytes[..], &bytes[..]].concat()), Err(FrameError::Trailing));
    assert_eq!(read(&[&bytes[..], &[0][..]].concat()), Err(FrameError::Trailing));
}

#[test]
fn lengths_over_the_caps_are_refused_before_their_bytes() {
    let bytes = 1001u32.to_be_bytes();
    assert_eq!(read(&bytes), Err(FrameError::HeaderTooLarge { bytes: 1001, limit: 1000 }));
    let limit = CAPS.body;
    let claimed = [&0u32.to_be_bytes()[..], &u32::MAX.to_be_bytes()[..]].concat();
    assert_eq!(read(&claimed), Err(FrameError::BodyTooLarge { bytes: u32::MAX as usize, limit }));
    let frame = Frame::new(Bytes::from(vec![0; 1001]), Bytes::new());
    let error = run(write_frame(&mut Cursor::new(Vec::new()), &frame, CAPS)).expect_err("over the cap");
    assert_eq!(FrameError::of(&error), Some(&FrameError::HeaderTooLarge { bytes: 1001, limit: 1000 }));
}

#[test]
fn a_claimed_length_allocates_little() {
    let caps = Caps { header: 0, body: 1 << 31 };
    let bytes = [&0u32.to_be_bytes()[..], &(1u32 << 31).to_be_bytes()[..], &[7; 10][..]].concat();
    let mut io = Cursor::new(bytes);
    let error = run(read_frame(&mut io, caps)).expect_err("two GiB did not come");
    assert_eq!(FrameError::of(&error), Some(&FrameError::CutOff));
}

#[test]
fn a_frame_that_stalls_is_given_up() {
    let step = Duration::from_millis(20);
    let stalls = async |bytes: &[u8]| {
        let mut io = Trickle(bytes.iter().rev().copied().collect());
        let mut reader = FrameReader::with_step(&mut io, CAPS, step).await?;
        let header = reader.header_bytes();
        reader.read(header).await?;
        let body = reader.body_bytes().await?;
        reader.read(body).await?;
        reader.end().await
    };
    let whole = written(&Frame::new(Bytes::from_static(b"head"), Bytes::from_static(b"records")));
    for come in 1..=whole.len() {
        let error = run(stalls(&whole[..come])).expect_err("it never ends");
        assert_eq!(FrameError::of(&error), Some(&FrameError::TooSlow), "after {come} bytes");
    }
}

#[test]
fn the_deadline_moves_only_with_whole_steps() {
    struct Slow(usize);
    impl AsyncRead for Slow {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
            // Every other poll has one byte: progress, but not enough of it.
            self.0 += 1;
            cx.waker().wake_by_ref();
            if self.0.is_multiple_of(2) {
                return Poll::Pending;
            }
            std::thread::sleep(Duration::from_millis(1));
            room[0] = 0;
            Poll::Ready(Ok(1))
        }
    }
    let error = run(async {
        let mut io = Slow(0);
        let mut reader = FrameReader::with_step(&mut io, CAPS, Duration::from_millis(30)).await?;
        reader.skip(FRAME_READ_STEP_BYTES).await
    })
    .expect_err("a byte a millisecond is too slow");
    assert_eq!(FrameError::of(&error), Some(&FrameError::TooSlow));
}

proptest! {
    #[test]
    fn frames_survive_the_wire(
        header in prop::collection::vec(any::<u8>(), 0..1000),
        pieces in prop::collection::vec(prop_oneof![0usize..40, 16_000usize..17_000, Just(100_000)], 0..6),
    ) {
        let pieces = pieces.iter().enumerate().map(|(i, bytes)| vec![i as u8; *bytes].into()).collect();
        let frame = Frame::with_pieces(header.into(), pieces);
        let bytes = written(&frame);
        prop_assert_eq!(bytes.len(), 8 + frame.header().len() + frame.body_len());
        prop_assert_eq!(read(&bytes), Ok(frame));
    }

    #[test]
    fn flipped_bits_are_another_frame_or_an_error(
        body in prop::collection::vec(any::<u8>(), 0..50),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let mut bytes = written(&Frame::new(Bytes::from_static(b"head"), body.into()));
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        // Whatever comes is consistent with what was read; above all it comes.
        if let Ok(frame) = read(&bytes) {
            prop_assert_eq!(written(&frame), bytes);
        }
    }
}
