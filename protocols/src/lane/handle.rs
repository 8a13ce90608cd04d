//! The ends of one lane that others hold: callers, and those who answer requests.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;
use rafka_model::limits::LANE_CALLS_MAX;
use tokio::sync::{Semaphore, oneshot};

use crate::rpc::CallError;
use crate::{Frame, Protocol};

/// What became of a call on one lane.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was sent, and this came of it.
    Sent(Result<Frame, CallError>),
    /// Nothing was done about it, and nothing will be.
    NotSent,
}

/// What callers wait by.
pub(super) type Token = oneshot::Sender<Ended>;

/// What others have for the task of a lane.
#[derive(Debug)]
pub(super) enum Input {
    Call { id: u64, protocol: Protocol, frame: Frame, token: Token },
    Cancel { id: u64 },
    Reply { id: u64, frame: Frame },
    Close,
}

/// Shared by the task of a lane and everybody who uses it.
#[derive(Debug)]
pub(super) struct Shared {
    inputs: Mutex<Inputs>,
    pub(super) waker: AtomicWaker,
    ids: AtomicU64,
    /// Closed with the lane.
    places: Semaphore,
    is_usable: AtomicBool,
    has_broken: AtomicBool,
}

#[derive(Debug, Default)]
struct Inputs {
    queue: Vec<Input>,
    is_over: bool,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            inputs: Mutex::default(),
            waker: AtomicWaker::new(),
            ids: AtomicU64::new(1),
            places: Semaphore::new(LANE_CALLS_MAX),
            is_usable: AtomicBool::new(true),
            has_broken: AtomicBool::new(false),
        }
    }

    /// Gives `input` to the task; false once that is over. Callers are bounded by their places, replies by the credit
    /// of their requests.
    fn push(&self, input: Input) -> bool {
        let mut inputs = self.inputs();
        if inputs.is_over {
            return false;
        }
        let was_empty = inputs.queue.is_empty();
        inputs.queue.push(input);
        drop(inputs);
        if was_empty {
            self.waker.wake();
        }
        true
    }

    /// Takes what has come, leaving `empty` in its place.
    pub(super) fn take(&self, empty: &mut Vec<Input>) {
        std::mem::swap(&mut self.inputs().queue, empty);
    }

    /// No more calls; those that come are told to go elsewhere.
    pub(super) fn retire(&self) {
        self.is_usable.store(false, Ordering::Relaxed);
    }

    /// The lane does not end as agreed.
    pub(super) fn broke(&self) {
        self.has_broken.store(true, Ordering::Relaxed);
    }

    /// Nothing is taken any more; returns what had come.
    pub(super) fn end(&self) -> Vec<Input> {
        self.retire();
        self.places.close();
        let mut inputs = self.inputs();
        inputs.is_over = true;
        std::mem::take(&mut inputs.queue)
    }

    fn inputs(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The callers' end of a lane. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new() -> Self {
        Self { shared: Arc::new(Shared::new()) }
    }

    /// True while the lane takes calls.
    pub(super) fn is_usable(&self) -> bool {
        self.shared.is_usable.load(Ordering::Relaxed)
    }

    /// True if it did not end as agreed.
    pub(super) fn has_broken(&self) -> bool {
        self.shared.has_broken.load(Ordering::Relaxed)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Begins the end of the lane; what is under way ends first.
    pub(super) fn close(&self) {
        self.shared.retire();
        self.shared.push(Input::Close);
    }

    /// One call, for as long as it takes. Cancel safe: dropped, it cancels.
    pub(super) async fn call(&self, protocol: Protocol, frame: Frame) -> Ended {
        let Ok(_place) = self.shared.places.acquire().await else { return Ended::NotSent };
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let (token, answer) = oneshot::channel();
        if !self.shared.push(Input::Call { id, protocol, frame, token }) {
            return Ended::NotSent;
        }
        let mut under_way = UnderWay { shared: &self.shared, id: Some(id) };
        let ended = answer.await.unwrap_or(Ended::Sent(Err(CallError::ConnectionClosed)));
        under_way.id = None;
        ended
    }
}

/// Cancels a call that is dropped.
struct UnderWay<'a> {
    shared: &'a Shared,
    id: Option<u64>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.push(Input::Cancel { id });
        }
    }
}

/// The way of one answer back to its lane; dropped unused, [`crate::rpc::Responder`] has answered by then.
#[derive(Debug)]
pub(crate) struct Answerer {
    pub(super) id: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) gone: Arc<Gone>,
}

/// Set when nobody waits for an answer any more.
#[derive(Debug, Default)]
pub(super) struct Gone {
    is_gone: AtomicBool,
    waker: AtomicWaker,
}

impl Gone {
    pub(super) fn set(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }
}

impl Answerer {
    /// True if somebody was still waiting.
    pub(crate) fn send(self, frame: Frame) -> bool {
        let waited = !self.gone.is_set();
        self.shared.push(Input::Reply { id: self.id, frame }) && waited
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gone.is_set()
    }

    pub(crate) async fn closed(&self) {
        poll_fn(|cx| {
            self.gone.waker.register(cx.waker());
            if self.gone.is_set() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
