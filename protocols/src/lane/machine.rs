//! The rules of a lane, without I/O: who may send what, which reply belongs to whom, and when it is over.
//!
//! Both ends are alike. Each lets the other have a number of requests and their bytes under way ([`Message::Grant`]);
//! a request counts from its first byte until its reply has come back, cancelled or not, so that neither end needs to
//! be told of the other's count. Before the first grant has come nothing is sent: a peer that does not take lanes, or
//! not from this end, has seen no request then. Whoever sends more than it was granted breaks the rules, and the lane ends.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rafka_model::limits::{
    LANE_BEAT_MS, LANE_CREDIT_BYTES, LANE_IDLE_MS, LANE_REQUEST_BYTES, LANE_REQUESTS_MAX, LANE_SILENCE_MS_MAX,
};

use super::Class;
use super::wire::{Head, Message, WireError};
use crate::{Frame, Protocol};

/// One end of a lane. `C` is what the caller of a request waits by; `S` is kept for each request being served, and
/// handed back when its requester lost interest.
#[derive(Debug)]
pub struct Machine<C, S> {
    /// What the other end lets this one have under way; none until it has said a word.
    granted: Option<Credit>,
    /// What this end lets the other have.
    given: Credit,
    calls: HashMap<u64, Call<C>>,
    /// Calls of which nothing was sent; those that were cancelled since are not among the calls.
    waiting: VecDeque<(u64, Frame)>,
    calling: Credit,
    served: HashMap<u64, Served<S>>,
    serving: Credit,
    /// Replies and words about requests, in their order.
    out: VecDeque<Message>,
    out_bytes: usize,
    /// A request went out last: now it is the turn of `out`.
    is_turn_of_out: bool,
    /// None until the end that opened the lane has named it.
    class: Option<Class>,
    is_closing: bool,
    is_closed_by_peer: bool,
    heard: Instant,
    said: Instant,
    /// When there was last a request, of either end, under way.
    used: Instant,
}

/// Requests and their bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Credit {
    requests: u32,
    bytes: u64,
}

#[derive(Debug)]
struct Call<C> {
    /// None once it was cancelled.
    token: Option<C>,
    protocol: Protocol,
    bytes: u64,
    is_sent: bool,
}

#[derive(Debug)]
struct Served<S> {
    token: Option<S>,
    protocol: Protocol,
    bytes: u64,
}

/// What a message that came means.
#[derive(Debug)]
pub enum Outcome<C, S> {
    /// Nothing to do.
    Nothing,
    /// The first grant: the other end speaks, and the lane is of this class.
    Opened(Class),
    /// A request to serve, once: [`Machine::respond`] or [`Machine::decline`] ends it.
    Serve {
        /// Its id.
        id: u64,
        /// Whose frame it is.
        protocol: Protocol,
        /// The request.
        frame: Frame,
    },
    /// The reply to a call.
    Answered(C, Protocol, Frame),
    /// The other end has done nothing about a call, and will not.
    NotServed(C),
    /// Nobody waits for the reply to a request being served.
    LostInterest(S),
}

/// How the other end broke the rules.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// What came is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// More requests, or bytes of them, than it was granted.
    #[error("more requests under way than granted")]
    OverCredit,
    /// The id of a request that is still under way.
    #[error("request id {0} is in use")]
    IdInUse(u64),
    /// A reply to nothing, a second reply, or one of another protocol.
    #[error("reply to a request that does not wait for it: {0}")]
    UnknownReply(u64),
    /// A request of an end that had said that it begins no more.
    #[error("request after the close")]
    AfterClose,
    /// A lane has one class.
    #[error("the class of the lane changed")]
    ClassChanged,
    /// Nothing came for [`LANE_SILENCE_MS_MAX`].
    #[error("the peer is silent")]
    Silent,
}

impl<C, S> Machine<C, S> {
    /// A lane of which nothing was said yet; `class` if this end opened it.
    #[must_use]
    pub fn new(now: Instant, class: Option<Class>) -> Self {
        let (requests, bytes) = (LANE_REQUESTS_MAX, LANE_CREDIT_BYTES);
        Self {
            granted: None,
            given: Credit { requests, bytes },
            calls: HashMap::new(),
            waiting: VecDeque::new(),
            calling: Credit::default(),
            served: HashMap::new(),
            serving: Credit::default(),
            out: class.map(|class| Message::Grant { class, requests, bytes }).into_iter().collect(),
            out_bytes: 0,
            is_turn_of_out: true,
            class,
            is_closing: false,
            is_closed_by_peer: false,
            heard: now,
            said: now,
            used: now,
        }
    }

    /// Takes a call; gives it back if the lane is about to end. `id` must be new, and the frame within its caps.
    ///
    /// # Errors
    /// The token: nothing was sent, and nothing will be.
    pub fn call(&mut self, now: Instant, id: u64, protocol: Protocol, frame: Frame, token: C) -> Result<(), C> {
        if self.is_ending() {
            return Err(token);
        }
        self.used = now;
        let bytes = weight(frame.header().len() + frame.body_len());
        self.calls.insert(id, Call { token: Some(token), protocol, bytes, is_sent: false });
        self.waiting.push_back((id, frame));
        Ok(())
    }

    /// The caller of `id` lost interest: what was not sent will not be, and the other end is told of what was.
    pub fn cancel(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if !call.is_sent {
            self.calls.remove(&id);
        } else if call.token.take().is_some() {
            self.out.push_back(Message::Cancel { id });
        }
    }

    /// The answer to a request being served; within the caps of its protocol.
    pub fn respond(&mut self, now: Instant, id: u64, frame: Frame) {
        let Some(served) = self.end_served(now, id) else { return };
        self.out_bytes += frame.header().len() + frame.body_len();
        self.out.push_back(Message::Reply { id, protocol: served.protocol, frame });
    }

    /// A request will not be served, and nothing was done about it.
    pub fn decline(&mut self, now: Instant, id: u64) {
        if self.end_served(now, id).is_some() {
            self.out.push_back(Message::NotServed { id });
        }
    }

    /// Keeps `token` with a request being served, to be handed back if its requester loses interest.
    pub fn watch(&mut self, id: u64, token: S) {
        if let Some(served) = self.served.get_mut(&id) {
            served.token = Some(token);
        }
    }

    /// Checks a message that has begun: a request within the credit, a reply to a call.
    ///
    /// # Errors
    /// [`Violation`]: the lane is over.
    pub fn check(&self, head: &Head) -> Result<(), Violation> {
        match *head {
            Head::Frame { is_reply: false, id, header, body, .. } => {
                if self.is_closed_by_peer {
                    return Err(Violation::AfterClose);
                }
                if self.served.contains_key(&id) {
                    return Err(Violation::IdInUse(id));
                }
                let is_within = self.serving.has_room(self.given, weight(header + body));
                if is_within { Ok(()) } else { Err(Violation::OverCredit) }
            }
            Head::Frame { is_reply: true, id, protocol, .. } => match self.calls.get(&id) {
                Some(call) if call.is_sent && call.protocol == protocol => Ok(()),
                _ => Err(Violation::UnknownReply(id)),
            },
            Head::NotServed(id) if !self.calls.get(&id).is_some_and(|call| call.is_sent) => {
                Err(Violation::UnknownReply(id))
            }
            Head::Grant { class, .. } if self.class.is_some_and(|known| known != class) => Err(Violation::ClassChanged),
            _ => Ok(()),
        }
    }

    /// A message without a frame that has passed [`Machine::check`].
    pub fn word(&mut self, now: Instant, head: &Head) -> Outcome<C, S> {
        match *head {
            Head::Grant { class, requests, bytes } => {
                // A grant is never taken back: what it allowed may be on its way.
                let before = self.granted.unwrap_or_default();
                let more = Credit { requests: requests.max(before.requests), bytes: bytes.max(before.bytes) };
                let is_first = self.granted.replace(more).is_none();
                if self.class.replace(class).is_none() {
                    let Credit { requests, bytes } = self.given;
                    self.out.push_back(Message::Grant { class, requests, bytes });
                }
                if is_first {
                    return Outcome::Opened(class);
                }
            }
            Head::NotServed(id) => {
                if let Some(token) = self.end_call(now, id) {
                    return Outcome::NotServed(token);
                }
            }
            Head::Cancel(id) => {
                if let Some(token) = self.served.get_mut(&id).and_then(|served| served.token.take()) {
                    return Outcome::LostInterest(token);
                }
            }
            Head::Close => {
                self.is_closed_by_peer = true;
                self.close();
            }
            Head::Frame { .. } | Head::Idle => {}
        }
        Outcome::Nothing
    }

    /// A request or reply, complete, whose head has passed [`Machine::check`].
    pub fn frame(&mut self, now: Instant, message: Message) -> Outcome<C, S> {
        match message {
            Message::Request { id, protocol, frame } => {
                self.used = now;
                let bytes = weight(frame.header().len() + frame.body_len());
                self.served.insert(id, Served { token: None, protocol, bytes });
                self.serving.add(bytes);
                if self.is_closing {
                    self.decline(now, id);
                    return Outcome::Nothing;
                }
                Outcome::Serve { id, protocol, frame }
            }
            Message::Reply { id, protocol, frame } => match self.end_call(now, id) {
                Some(token) => Outcome::Answered(token, protocol, frame),
                None => Outcome::Nothing,
            },
            _ => Outcome::Nothing,
        }
    }

    /// Something came.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The next message to send, if any may be sent now. What was taken counts as sent.
    pub fn take(&mut self, now: Instant) -> Option<Message> {
        let message = match self.is_turn_of_out {
            true => self.take_out().or_else(|| self.take_request()),
            false => self.take_request().or_else(|| self.take_out()),
        }?;
        self.is_turn_of_out = matches!(message, Message::Request { .. });
        self.said = now;
        Some(message)
    }

    fn take_out(&mut self) -> Option<Message> {
        let message = self.out.pop_front()?;
        if let Some(frame) = message.frame() {
            self.out_bytes -= frame.header().len() + frame.body_len();
        }
        Some(message)
    }

    fn take_request(&mut self) -> Option<Message> {
        let granted = self.granted.filter(|_| !self.is_ending())?;
        while let Some((id, _)) = self.waiting.front() {
            let id = *id;
            if let Some(call) = self.calls.get_mut(&id) {
                if !self.calling.has_room(granted, call.bytes) {
                    return None;
                }
                call.is_sent = true;
                self.calling.add(call.bytes);
                let protocol = call.protocol;
                let (_, frame) = self.waiting.pop_front()?;
                return Some(Message::Request { id, protocol, frame });
            }
            self.waiting.pop_front();
        }
        None
    }

    /// Lets time pass: says that this end lives, closes what nobody uses, ends what is dead.
    ///
    /// # Errors
    /// [`Violation::Silent`].
    pub fn tick(&mut self, now: Instant) -> Result<(), Violation> {
        let silent = |since: Instant, ms| now.saturating_duration_since(since) >= Duration::from_millis(ms);
        if silent(self.heard, LANE_SILENCE_MS_MAX) {
            return Err(Violation::Silent);
        }
        if silent(self.said, LANE_BEAT_MS) && self.out.is_empty() {
            self.out.push_back(Message::Idle);
        }
        if self.is_unused() && silent(self.used, LANE_IDLE_MS) {
            self.close();
        }
        Ok(())
    }

    /// Begins the end: no more calls, and requests that come from now on are declined. What is under way ends first.
    pub fn close(&mut self) {
        if !self.is_closing {
            self.is_closing = true;
            self.out.push_back(Message::Close);
        }
    }

    /// Calls of which nothing was sent and nothing may be any more, because one of the ends is closing. Their callers
    /// ask elsewhere.
    pub fn unsent(&mut self) -> Vec<C> {
        if !self.is_ending() {
            return Vec::new();
        }
        let ids: Vec<u64> = self.waiting.drain(..).map(|(id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.calls.remove(&id)?.token).collect()
    }

    /// The lane is over: every call that has not ended, and whether it was sent.
    pub fn end(&mut self) -> (Vec<(C, bool)>, Vec<S>) {
        (self.is_closing, self.is_closed_by_peer) = (true, true);
        self.waiting.clear();
        let calls = self.calls.drain().filter_map(|(_, call)| Some((call.token?, call.is_sent))).collect();
        (calls, self.served.drain().filter_map(|(_, served)| served.token).collect())
    }

    /// True if one of the ends begins no more requests.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.is_closing || self.is_closed_by_peer
    }

    /// True if both ends have closed, and nothing is under way or left to say.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_closing && self.is_closed_by_peer && self.is_unused() && self.out.is_empty()
    }

    /// Bytes of replies that wait to be taken.
    #[must_use]
    pub fn replies_bytes(&self) -> usize {
        self.out_bytes
    }

    /// Calls without an answer, and requests without a reply.
    #[must_use]
    pub fn under_way(&self) -> (usize, usize) {
        (self.calls.len(), self.served.len())
    }

    fn is_unused(&self) -> bool {
        self.calls.is_empty() && self.served.is_empty()
    }

    fn end_call(&mut self, now: Instant, id: u64) -> Option<C> {
        let call = self.calls.remove(&id)?;
        self.used = now;
        self.calling.remove(call.bytes);
        call.token
    }

    fn end_served(&mut self, now: Instant, id: u64) -> Option<Served<S>> {
        let served = self.served.remove(&id)?;
        self.used = now;
        self.serving.remove(served.bytes);
        Some(served)
    }
}

impl Credit {
    fn has_room(self, of: Self, bytes: u64) -> bool {
        let is_first = self.requests == 0 && of.requests > 0;
        is_first || (self.requests < of.requests && self.bytes.saturating_add(bytes) <= of.bytes)
    }

    fn add(&mut self, bytes: u64) {
        self.requests += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: u64) {
        self.requests -= 1;
        self.bytes -= bytes;
    }
}

fn weight(bytes: usize) -> u64 {
    bytes as u64 + LANE_REQUEST_BYTES
}

#[cfg(test)]
mod tests;
