//! A request that goes out, from the caller's oneshot to its completion.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use libp2p::core::upgrade::NegotiationError;
use tokio::sync::oneshot;

use super::counters::{Counters, Direction, Outcome};
use crate::frame::FrameError;
use crate::protocol::PROTOCOLS;
use crate::{Frame, Protocol};

/// Why a call brought no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The peer could not be reached; nothing was sent.
    #[error("cannot connect: {0}")]
    Dial(String),
    /// No answer in time; the request may have been carried out.
    #[error("no answer in time")]
    Timeout,
    /// The connection or substream ended first; the request may have been carried out.
    #[error("connection closed before the answer")]
    ConnectionClosed,
    /// The peer does not speak the protocol (of this cluster); nothing was done.
    #[error("peer does not speak this protocol")]
    Unsupported,
    /// What came was not a frame; the request may have been carried out.
    #[error("answer refused: {0}")]
    Frame(FrameError),
    /// The request weighs more than its protocol allows; nothing was sent.
    #[error("request refused: {0}")]
    TooLarge(FrameError),
    /// Too many calls outstanding; nothing was sent.
    #[error("too many calls to this peer outstanding")]
    Busy,
}

impl CallError {
    /// True if the request may have been carried out all the same.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Timeout | Self::ConnectionClosed | Self::Frame(_) => true,
            Self::Dial(_) | Self::Unsupported | Self::TooLarge(_) | Self::Busy => false,
        }
    }

    /// What an error of a substream means for its caller.
    pub(crate) fn of(error: &io::Error) -> Self {
        if let Some(error) = FrameError::of(error) {
            return match error {
                FrameError::Absent => Self::ConnectionClosed,
                error => Self::Frame(error.clone()),
            };
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(NegotiationError::Failed) => Self::Unsupported,
            _ if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::ConnectionClosed,
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Dial(_) => Outcome::Dial,
            Self::Timeout => Outcome::Timeout,
            Self::ConnectionClosed => Outcome::Closed,
            Self::Unsupported => Outcome::Unsupported,
            Self::Frame(_) | Self::TooLarge(_) => Outcome::Frame,
            Self::Busy => Outcome::Busy,
        }
    }
}

/// What the caller is told, by whoever knows first: the task of the connection, or the swarm's.
pub(crate) type Reply = oneshot::Sender<Result<Frame, CallError>>;

/// Calls to one peer whose callers wait, by protocol.
#[derive(Debug, Default)]
pub(crate) struct Waiting([AtomicUsize; PROTOCOLS]);

impl Waiting {
    pub(crate) fn of(&self, protocol: Protocol) -> usize {
        self.0[protocol as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn all(&self) -> usize {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

#[derive(Debug)]
pub(crate) struct Call {
    protocol: Protocol,
    waiting: Arc<Waiting>,
    counters: Arc<Counters>,
    reply: Mutex<Option<Reply>>,
}

impl Call {
    pub(crate) fn new(protocol: Protocol, waiting: Arc<Waiting>, counters: Arc<Counters>, reply: Reply) -> Self {
        waiting.0[protocol as usize].fetch_add(1, Ordering::Relaxed);
        Self { protocol, waiting, counters, reply: Mutex::new(Some(reply)) }
    }

    /// Tells the caller, once; later results are dropped.
    pub(crate) fn complete(&self, result: Result<Frame, CallError>) {
        let Some(reply) = self.reply().take() else { return };
        // Before the caller knows: it may call again at once, and must find its place free.
        self.waiting.0[self.protocol as usize].fetch_sub(1, Ordering::Relaxed);
        let outcome = match &result {
            _ if reply.is_closed() => Outcome::Cancelled,
            Ok(_) => Outcome::Answered,
            Err(error) => error.outcome(),
        };
        self.counters.count(Direction::Outbound, self.protocol, outcome);
        // A caller that is gone needs no answer.
        let _ = reply.send(result);
    }

    /// Waits until the caller loses interest; for ever, once it has been told.
    pub(crate) async fn cancelled(&self) {
        poll_fn(|cx| match self.reply().as_mut() {
            Some(reply) => reply.poll_closed(cx),
            None => Poll::Pending,
        })
        .await;
    }

    fn reply(&self) -> MutexGuard<'_, Option<Reply>> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
