//! The task of one lane: moves bytes between the substream and the [`Machine`], and words between that and others.
//!
//! It always reads, also while it cannot write, so that two ends with much to say never wait for each other: what it
//! reads is bounded by the credit that it gave. What it holds for a peer that does not read is bounded by that credit
//! and [`LANE_REPLIES_BYTES_MAX`], beyond which it begins no further request of the lane; should those that were begun
//! before come to more than [`LANE_REPLIES_HELD_MAX`], their answers shrink to "busy".

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{FRAME_READ_STEP_BYTES, FRAME_STEP_MS_MAX, LANE_REPLIES_BYTES_MAX, LANE_REPLIES_HELD_MAX};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::handle::{Answerer, Ended, Gone, Handle, Input, Shared, Token};
use super::machine::{Machine, Outcome, Violation};
use super::swarm::Serve;
use super::wire::{Head, Message, Reader, Step, WireError, Writer};
use super::{Class, Counters};
use crate::frame::FrameError;
use crate::rpc::{CallError, Claim, Inbound, Reservation, Responder};
use crate::transport::MUXER_FRAME_BYTES;
use crate::wire::encode_failure;
use crate::{Frame, Protocol};

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(500);
/// Turns of a task before others have one.
const TURNS_MAX: usize = 16;
/// What is staged for writing at once.
const WRITE_BYTES: usize = 2 * MUXER_FRAME_BYTES;
const STEP: Duration = Duration::from_millis(FRAME_STEP_MS_MAX);

/// How a lane ended.
#[derive(Debug)]
pub(super) enum End {
    /// As agreed.
    Closed,
    /// The substream ended, or cannot be used.
    Broken(io::Error),
    /// The peer broke the rules.
    Violated(Violation),
}

/// What a lane is made of.
pub(super) struct Driver<T> {
    io: T,
    peer: PeerId,
    shared: Arc<Shared>,
    serve: Option<Arc<Serve>>,
    counters: Arc<Counters>,
    machine: Machine<Token, Arc<Gone>>,
    reader: Reader,
    writer: Writer,
    inputs: Vec<Input>,
    /// Requests that wait until the peer has read more of its replies.
    held: VecDeque<(u64, Protocol, Frame, Reservation, Arc<Gone>)>,
    /// Of the request that is coming.
    reserved: Reservation,
    tick: Interval,
    /// When the current step of reading must have ended, while inside a message; and what it still lacks.
    read_by: Option<(Instant, usize)>,
    /// When something must have been written, while there is something to write.
    write_by: Option<Instant>,
    under_way: (usize, usize),
    held_bytes: usize,
    is_eof: bool,
    /// Why nothing can be written any more; what the peer has said before is still read.
    write_error: Option<io::Error>,
    needs_flush: bool,
    on_open: Option<OnOpen>,
}

/// Hears that the peer speaks, and of which class the lane is.
pub(super) type OnOpen = Box<dyn FnOnce(Class) + Send>;

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// Over `io`, of `class` if this end opened it.
    pub(super) fn new(
        io: T,
        peer: PeerId,
        handle: &Handle,
        serve: Option<Arc<Serve>>,
        counters: Arc<Counters>,
        class: Option<Class>,
        on_open: OnOpen,
    ) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        counters.lanes.moved(0, 1);
        Self {
            io,
            peer,
            shared: handle.shared.clone(),
            serve,
            counters,
            machine: Machine::new(Instant::now(), class),
            reader: Reader::default(),
            writer: Writer::default(),
            inputs: Vec::new(),
            held: VecDeque::new(),
            reserved: Reservation::default(),
            tick,
            read_by: None,
            write_by: None,
            under_way: (0, 0),
            held_bytes: 0,
            is_eof: false,
            write_error: None,
            needs_flush: false,
            on_open: Some(on_open),
        }
    }

    /// Runs until the lane is over; then every call has its end.
    pub(super) async fn run(mut self) -> End {
        let end = poll_fn(|cx| self.poll(cx)).await;
        if !matches!(end, End::Closed) {
            self.shared.broke();
        }
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.shared.waker.register(cx.waker());
        let polled = self.turns(cx);
        let is = self.machine.under_way();
        self.counters.calls.moved(self.under_way.0, is.0);
        self.counters.served.moved(self.under_way.1, is.1);
        self.under_way = is;
        let held = self.machine.replies_bytes();
        self.counters.held_bytes.moved(self.held_bytes, held);
        self.held_bytes = held;
        match polled {
            Ok(false) => Poll::Pending,
            Ok(true) => Poll::Ready(End::Closed),
            Err(end) => Poll::Ready(end),
        }
    }

    /// True if the lane is over.
    fn turns(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        while self.tick.poll_tick(cx).is_ready() {
            self.on_tick()?;
        }
        for _ in 0..TURNS_MAX {
            let now = Instant::now();
            self.take_inputs(now);
            let read = self.read(cx, now)?;
            let wrote = self.write_error.is_none() && self.write(cx, now);
            for token in self.machine.unsent() {
                self.shared.retire();
                let _ = token.send(Ended::NotSent);
            }
            if self.machine.is_ending() {
                self.shared.retire();
            }
            if self.machine.is_over() && self.writer.is_empty() {
                return Ok(self.finish(cx));
            }
            if self.is_eof {
                return Err(End::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            if read || wrote {
                continue;
            }
            return match self.write_error.take() {
                Some(error) => Err(End::Broken(error)),
                None => Ok(false),
            };
        }
        cx.waker().wake_by_ref();
        Ok(false)
    }

    /// Closes the substream; an error is as good as the end.
    fn finish(&mut self, cx: &mut Context<'_>) -> bool {
        Pin::new(&mut self.io).poll_close(cx).is_ready()
    }

    fn take_inputs(&mut self, now: Instant) {
        let mut inputs = std::mem::take(&mut self.inputs);
        self.shared.take(&mut inputs);
        for input in inputs.drain(..) {
            match input {
                Input::Call { id, protocol, frame, token } => {
                    if let Err(token) = self.machine.call(now, id, protocol, frame, token) {
                        let _ = token.send(Ended::NotSent);
                    }
                }
                Input::Cancel { id } => self.machine.cancel(id),
                Input::Reply { id, frame } => self.respond(now, id, frame),
                Input::Close => self.machine.close(),
            }
        }
        self.inputs = inputs;
    }

    /// True if something came.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        if self.is_eof {
            return Ok(false);
        }
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, self.reader.room()) else { return Ok(false) };
        let bytes = read.map_err(End::Broken)?;
        if bytes == 0 {
            self.is_eof = true;
            return Ok(true);
        }
        self.reader.filled(bytes);
        self.machine.heard(now);
        self.counters.bytes_received.add(bytes as u64);
        let mut frames = 0;
        loop {
            match self.reader.step().map_err(|error| End::Violated(error.into()))? {
                Step::More => break,
                Step::Begins(head) => self.begins(now, &head)?,
                Step::Message(message) => {
                    frames += 1;
                    let outcome = self.machine.frame(now, message);
                    self.on_outcome(now, outcome);
                }
                Step::Skipped { id, protocol } => self.answer_busy(now, id, protocol),
            }
        }
        self.counters.frames_received.add(frames);
        self.read_by = match self.read_by {
            _ if !self.reader.is_inside() => None,
            // Something ended, so that what goes on began now, or a step of it did.
            Some((by, left)) if frames == 0 && left > bytes => Some((by, left - bytes)),
            _ => Some((now + STEP, FRAME_READ_STEP_BYTES)),
        };
        Ok(true)
    }

    fn begins(&mut self, now: Instant, head: &Head) -> Result<(), End> {
        self.machine.check(head).map_err(End::Violated)?;
        match *head {
            Head::Frame { is_reply: false, header, body, .. } => {
                let room = self.serve.as_ref().and_then(|serve| serve.budget.try_reserve(header + body));
                match room {
                    Some(reserved) => self.reserved = reserved,
                    None => self.reader.skip(),
                }
            }
            Head::Frame { .. } => {}
            _ => {
                let outcome = self.machine.word(now, head);
                self.on_outcome(now, outcome);
            }
        }
        Ok(())
    }

    fn on_outcome(&mut self, now: Instant, outcome: Outcome<Token, Arc<Gone>>) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Opened(class) => {
                if let Some(on_open) = self.on_open.take() {
                    on_open(class);
                }
            }
            Outcome::Serve { id, protocol, frame } => {
                let gone = Arc::<Gone>::default();
                self.machine.watch(id, gone.clone());
                let reserved = std::mem::take(&mut self.reserved);
                if self.held.is_empty() && self.machine.replies_bytes() <= LANE_REPLIES_BYTES_MAX {
                    self.begin_request(now, id, protocol, frame, reserved, gone);
                } else {
                    self.held.push_back((id, protocol, frame, reserved, gone));
                }
            }
            // A caller that is gone needs no answer.
            Outcome::Answered(token, protocol, frame) => {
                self.counters.exchanges.received(protocol, frame.header().len() + frame.body_len());
                let _ = token.send(Ended::Sent(Ok(frame)));
            }
            Outcome::NotServed(token) => drop(token.send(Ended::NotSent)),
            Outcome::LostInterest(gone) => gone.set(),
        }
    }

    fn begin_request(
        &mut self,
        now: Instant,
        id: u64,
        protocol: Protocol,
        frame: Frame,
        bytes: Reservation,
        gone: Arc<Gone>,
    ) {
        if gone.is_set() {
            return self.machine.decline(now, id);
        }
        let Some(serve) = &self.serve else { return self.machine.decline(now, id) };
        let Ok(place) = serve.places.clone().try_acquire_owned() else {
            return self.refuse(now, id, "the node serves as many requests as it may");
        };
        self.counters.exchanges.received(protocol, frame.header().len() + frame.body_len());
        let claim = Claim { _place: place, _bytes: bytes, trust: None };
        let answerer = Answerer { id, shared: self.shared.clone(), gone };
        let respond = Responder::of_lane(protocol, self.counters.exchanges.clone(), Some(claim), answerer);
        (serve.sink)(Inbound { peer: self.peer, protocol, frame, respond });
    }

    /// A request that there was no room for has gone by.
    fn answer_busy(&mut self, now: Instant, id: u64, protocol: Protocol) {
        // In the machine's eyes it has come, without its bytes.
        let _ = self.machine.frame(now, Message::Request { id, protocol, frame: Frame::default() });
        match self.serve {
            Some(_) => self.refuse(now, id, "the node holds as many requests as it may"),
            None => self.machine.decline(now, id),
        }
    }

    fn respond(&mut self, now: Instant, id: u64, frame: Frame) {
        if frame.body_len() > 0 && self.machine.replies_bytes() > LANE_REPLIES_HELD_MAX {
            return self.refuse(now, id, "answers that were not read wait on this lane");
        }
        self.machine.respond(now, id, frame);
    }

    fn refuse(&mut self, now: Instant, id: u64, why: &str) {
        self.machine.respond(now, id, encode_failure(&Failure::new(ErrorCode::Busy, why)));
    }

    /// True if something was written.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut wrote = false;
        loop {
            self.stage(now);
            if self.writer.is_empty() {
                self.write_by = None;
                break;
            }
            let Poll::Ready(written) = Pin::new(&mut self.io).poll_write(cx, self.writer.next()) else {
                self.write_by.get_or_insert(now + STEP);
                break;
            };
            let bytes = match written {
                Ok(0) => return self.cannot_write(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => bytes,
                Err(error) => return self.cannot_write(error),
            };
            self.writer.wrote(bytes);
            self.counters.bytes_sent.add(bytes as u64);
            (self.write_by, self.needs_flush, wrote) = (Some(now + STEP), true, true);
        }
        if self.needs_flush {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(error)) => return self.cannot_write(error),
                Poll::Pending => {}
            }
        }
        wrote
    }

    /// Lets a last turn of reading follow.
    fn cannot_write(&mut self, error: io::Error) -> bool {
        self.write_error = Some(error);
        true
    }

    /// Keeps enough staged for full muxer frames, and no more: what is staged counts as sent.
    fn stage(&mut self, now: Instant) {
        let mut frames = 0;
        while self.writer.bytes() < WRITE_BYTES
            && let Some(message) = self.machine.take(now)
        {
            if let Message::Request { protocol, frame, .. } | Message::Reply { protocol, frame, .. } = &message {
                self.counters.exchanges.sent(*protocol, frame.header().len() + frame.body_len());
                frames += 1;
            }
            self.writer.push(&message);
        }
        if frames > 0 {
            self.counters.frames_sent.add(frames);
        }
        while !self.held.is_empty() && self.machine.replies_bytes() <= LANE_REPLIES_BYTES_MAX {
            let Some((id, protocol, frame, reserved, gone)) = self.held.pop_front() else { break };
            self.begin_request(now, id, protocol, frame, reserved, gone);
        }
    }

    fn on_tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.machine.tick(now).map_err(End::Violated)?;
        let is_late = |by: Instant| by <= now;
        if self.read_by.is_some_and(|(by, _)| is_late(by)) {
            return Err(End::Violated(WireError::Frame(FrameError::TooSlow).into()));
        }
        if self.write_by.is_some_and(is_late) {
            return Err(End::Broken(io::ErrorKind::TimedOut.into()));
        }
        Ok(())
    }
}

impl<T> Drop for Driver<T> {
    /// Whatever ends the task: nobody waits for ever, and each caller hears once what is known.
    fn drop(&mut self) {
        let late = self.shared.end();
        let (calls, served) = self.machine.end();
        for (token, is_sent) in calls {
            let ended = if is_sent { Ended::Sent(Err(CallError::ConnectionClosed)) } else { Ended::NotSent };
            let _ = token.send(ended);
        }
        for input in late {
            if let Input::Call { token, .. } = input {
                let _ = token.send(Ended::NotSent);
            }
        }
        served.iter().for_each(|gone| gone.set());
        self.counters.lanes.moved(1, 0);
        self.counters.calls.moved(self.under_way.0, 0);
        self.counters.served.moved(self.under_way.1, 0);
        self.counters.held_bytes.moved(self.held_bytes, 0);
    }
}
