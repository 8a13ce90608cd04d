//! Bytes of a lane become messages, however they are cut.

use bytes::Bytes;
use rafka_model::limits::{FRAME_READ_STEP_BYTES, LANE_READ_BYTES};

use super::{HEAD_BYTES, Head, Message, WireError};
use crate::{Frame, Protocol};

/// A part with this much still to come is read straight into its own buffer.
const DIRECT_BYTES: usize = LANE_READ_BYTES / 4;

/// Reads the messages of one lane. Sans-io: bytes are put where [`Reader::room`] says, and [`Reader::step`] says what
/// they were. Memory grows with what has come, not with what is claimed: at most twice that, and a step.
#[derive(Debug)]
pub struct Reader {
    stage: Box<[u8]>,
    /// What of the stage has come and was not looked at.
    from: usize,
    to: usize,
    frame: Option<Taking>,
    /// The room given out last is of the part that is coming, not of the stage.
    is_direct: bool,
}

/// What the bytes so far come to.
#[derive(Debug)]
pub enum Step {
    /// Nothing yet.
    More,
    /// A message begins. Of a request or reply the rest follows as `Message` unless [`Reader::skip`] is called now.
    Begins(Head),
    /// A request or reply is complete.
    Message(Message),
    /// One that was to be skipped has gone by.
    Skipped {
        /// Its correlation id.
        id: u64,
        /// Whose frame it was.
        protocol: Protocol,
    },
}

/// A request or reply of which the head was read.
#[derive(Debug)]
struct Taking {
    is_reply: bool,
    id: u64,
    protocol: Protocol,
    header: Part,
    body: Part,
    is_skipped: bool,
}

#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    /// Of `bytes`, what has come.
    got: usize,
    want: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self { stage: vec![0; LANE_READ_BYTES].into(), from: 0, to: 0, frame: None, is_direct: false }
    }
}

impl Reader {
    /// Where the next bytes go; never empty. To be called once [`Reader::step`] wants more.
    pub fn room(&mut self) -> &mut [u8] {
        if let Some(frame) = self.frame.as_mut().filter(|frame| !frame.is_skipped)
            && self.from == self.to
            && frame.part().is_some_and(|part| part.left() >= DIRECT_BYTES)
        {
            self.is_direct = true;
            return frame.part().expect("looked at").tail();
        }
        self.is_direct = false;
        self.stage.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        &mut self.stage[self.to..]
    }

    /// `bytes` were put to the beginning of what [`Reader::room`] returned just now.
    pub fn filled(&mut self, bytes: usize) {
        match self.frame.as_mut().and_then(Taking::part).filter(|_| self.is_direct) {
            Some(part) => part.got = (part.got + bytes).min(part.bytes.len()),
            None => self.to = (self.to + bytes).min(self.stage.len()),
        }
    }

    /// True if a message has begun and not ended.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.frame.is_some() || self.from < self.to
    }

    /// Lets the message that has just begun go by without keeping it.
    pub fn skip(&mut self) {
        if let Some(frame) = &mut self.frame {
            frame.is_skipped = true;
        }
    }

    /// What the bytes so far come to; to be called until it wants more.
    ///
    /// # Errors
    /// [`WireError`]; nothing on this lane can be understood from then on.
    pub fn step(&mut self) -> Result<Step, WireError> {
        let Some(frame) = &mut self.frame else { return self.begin() };
        let staged = &self.stage[self.from..self.to];
        self.from += if frame.is_skipped { frame.pass(staged.len()) } else { frame.take(staged) };
        if frame.part().is_some() {
            return Ok(Step::More);
        }
        let Taking { is_reply, id, protocol, header, body, is_skipped } = self.frame.take().expect("looked at");
        if is_skipped {
            return Ok(Step::Skipped { id, protocol });
        }
        let frame = Frame::new(Bytes::from(header.bytes), Bytes::from(body.bytes));
        Ok(Step::Message(match is_reply {
            true => Message::Reply { id, protocol, frame },
            false => Message::Request { id, protocol, frame },
        }))
    }

    fn begin(&mut self) -> Result<Step, WireError> {
        let Some(head) = self.stage[self.from..self.to].first_chunk::<HEAD_BYTES>() else { return Ok(Step::More) };
        let head = Head::decode(head)?;
        self.from += HEAD_BYTES;
        if let Head::Frame { is_reply, id, protocol, header, body } = head {
            let (header, body) = (Part::new(header), Part::new(body));
            self.frame = Some(Taking { is_reply, id, protocol, header, body, is_skipped: false });
        }
        Ok(Step::Begins(head))
    }
}

impl Taking {
    /// The part that is coming now.
    fn part(&mut self) -> Option<&mut Part> {
        [&mut self.header, &mut self.body].into_iter().find(|part| part.left() > 0)
    }

    /// Takes what it can of `staged`; returns how much that was.
    fn take(&mut self, staged: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(part) = self.part()
            && taken < staged.len()
        {
            let piece = &staged[taken..];
            let piece = &piece[..piece.len().min(part.left())];
            part.bytes.truncate(part.got);
            if part.bytes.is_empty() && piece.len() == part.want {
                part.bytes.reserve_exact(part.want);
            }
            part.bytes.extend_from_slice(piece);
            part.got += piece.len();
            taken += piece.len();
        }
        taken
    }

    fn pass(&mut self, staged: usize) -> usize {
        let mut passed = 0;
        while let Some(part) = self.part()
            && passed < staged
        {
            let piece = part.left().min(staged - passed);
            part.got += piece;
            passed += piece;
        }
        passed
    }
}

impl Part {
    fn new(want: usize) -> Self {
        Self { bytes: Vec::new(), got: 0, want }
    }

    fn left(&self) -> usize {
        self.want - self.got
    }

    /// Room behind what has come: a step, or as much again as has come.
    fn tail(&mut self) -> &mut [u8] {
        if self.bytes.len() == self.got {
            let step = FRAME_READ_STEP_BYTES.max(self.got).min(self.left());
            self.bytes.reserve_exact(step);
            self.bytes.resize(self.got + step, 0);
        }
        &mut self.bytes[self.got..]
    }
}
