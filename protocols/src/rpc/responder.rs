//! A request that came in, and the right to answer it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use libp2p::PeerId;
use rafka_broker::{ErrorCode, Failure};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Reservation;
use super::codec::Trust;
use super::counters::{Counters, Direction, Outcome};
use crate::lane::Answerer;
use crate::wire::{encode_failure, is_failure};
use crate::{Frame, Protocol};

/// A request from a peer.
#[derive(Debug)]
pub struct Inbound {
    /// Who asks, as the Noise channel has proven.
    pub peer: PeerId,
    /// What kind of request.
    pub protocol: Protocol,
    /// The request.
    pub frame: Frame,
    /// Where the answer goes.
    pub respond: Responder,
}

/// The right to answer one request, from any task. Dropped without an answer, it says that the outcome is unknown.
///
/// It holds the request's part of the node's limits, in number and bytes: keep it while the request is being served,
/// and no longer.
#[derive(Debug)]
pub struct Responder {
    reply: Option<Way>,
    protocol: Protocol,
    counters: Arc<Counters>,
    claim: Option<Claim>,
}

/// How the answer gets to the connection that the request came on.
#[derive(Debug)]
enum Way {
    Exchange(oneshot::Sender<Frame>),
    Lane(Answerer),
}

impl Way {
    fn send(self, frame: Frame) -> bool {
        match self {
            Self::Exchange(reply) => reply.send(frame).is_ok(),
            Self::Lane(reply) => reply.send(frame),
        }
    }
}

/// What a request that is being served has of the node.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) _place: OwnedSemaphorePermit,
    pub(crate) _bytes: Reservation,
    /// Of the connection that it came on; none if that carries trusted peers only.
    pub(crate) trust: Option<Trust>,
}

impl Responder {
    pub(crate) fn new(
        protocol: Protocol,
        counters: Arc<Counters>,
        claim: Option<Claim>,
    ) -> (Self, oneshot::Receiver<Frame>) {
        let (reply, answer) = oneshot::channel();
        (Self { reply: Some(Way::Exchange(reply)), protocol, counters, claim }, answer)
    }

    /// The right to answer a request that came through a lane.
    pub(crate) fn of_lane(protocol: Protocol, counters: Arc<Counters>, claim: Option<Claim>, reply: Answerer) -> Self {
        Self { reply: Some(Way::Lane(reply)), protocol, counters, claim }
    }

    /// Answers. A frame that the peer would refuse for its size becomes a failure that says so.
    pub fn respond(mut self, answer: Result<Frame, Failure>) {
        self.send(answer);
    }

    /// True if nobody waits for the answer any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.reply {
            Some(Way::Exchange(reply)) => reply.is_closed(),
            Some(Way::Lane(reply)) => reply.is_closed(),
            None => true,
        }
    }

    /// True if the request came through a lane, where nothing but its peer sets an end to waiting.
    #[must_use]
    pub fn is_of_lane(&self) -> bool {
        matches!(self.reply, Some(Way::Lane(_)))
    }

    /// Waits until nobody waits for the answer any more (the connection is gone, or the exchange took too long).
    /// Cancel safe.
    pub async fn closed(&mut self) {
        match &mut self.reply {
            Some(Way::Exchange(reply)) => poll_fn(|cx| reply.poll_closed(cx)).await,
            Some(Way::Lane(reply)) => reply.closed().await,
            None => {}
        }
    }

    fn send(&mut self, answer: Result<Frame, Failure>) {
        let Some(reply) = self.reply.take() else { return };
        let answer = answer.and_then(|frame| match frame.check(self.protocol.reply_caps()) {
            Ok(()) => Ok(frame),
            Err(error) => Err(Failure::new(ErrorCode::InvalidRequest, format!("the answer is too large: {error}"))),
        });
        let (frame, outcome) = match answer {
            Ok(frame) if is_failure(&frame) => (frame, Outcome::Refused),
            Ok(frame) => {
                if let Some(trust) = self.claim.as_ref().and_then(|claim| claim.trust.as_ref()) {
                    trust.store(true, Ordering::Relaxed);
                }
                (frame, Outcome::Answered)
            }
            Err(failure) if failure.code == ErrorCode::Busy => (encode_failure(&failure), Outcome::Busy),
            Err(failure) => (encode_failure(&failure), Outcome::Refused),
        };
        let outcome = if reply.send(frame) { outcome } else { Outcome::Closed };
        self.counters.count(Direction::Inbound, self.protocol, outcome);
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.send(Err(Failure::new(ErrorCode::OutcomeUnknown, "the node stopped working on the request")));
    }
}
