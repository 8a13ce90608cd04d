//! Memory that connections share: bytes of requests, and of replies that clients have not taken yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rafka_model::limits::KAFKA_REPLY_BYTES_PRESSED;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is left for all connections together.
#[derive(Debug)]
pub(crate) struct Budget {
    requests: Arc<Semaphore>,
    requests_max: usize,
    replies: AtomicUsize,
}

/// Room for one request, given back when dropped.
pub(crate) type Room = OwnedSemaphorePermit;

impl Budget {
    pub(crate) fn new(requests_max: usize) -> Self {
        let requests_max = requests_max.min(Semaphore::MAX_PERMITS);
        Self { requests: Arc::new(Semaphore::new(requests_max)), requests_max, replies: AtomicUsize::new(0) }
    }

    /// Room for a request, if there is some now and nobody waits for it. One that is larger than everything gets all.
    pub(crate) fn try_room(&self, bytes: usize) -> Option<Room> {
        self.requests.clone().try_acquire_many_owned(self.permits(bytes)).ok()
    }

    /// Room for a request, in turn.
    pub(crate) fn room(&self, bytes: usize) -> impl Future<Output = Option<Room>> + Send + 'static {
        let room = self.requests.clone().acquire_many_owned(self.permits(bytes));
        async { room.await.ok() }
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.requests_max)).unwrap_or(u32::MAX)
    }

    pub(crate) fn replies_grew(&self, bytes: usize) {
        self.replies.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn replies_shrank(&self, bytes: usize) {
        self.replies.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Do replies that are not taken hold so much that everybody must get less?
    pub(crate) fn is_pressed(&self) -> bool {
        self.replies.load(Ordering::Relaxed) > KAFKA_REPLY_BYTES_PRESSED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_given_in_turn_and_comes_back() {
        let budget = Budget::new(100);
        let first = budget.try_room(60).expect("room");
        assert!(budget.try_room(60).is_none());
        let second = tokio::spawn(budget.room(60));
        drop(first);
        let second = second.await.expect("runs").expect("open");
        drop(second);
        assert!(budget.try_room(1 << 40).is_some(), "who wants more than there is gets all");
    }
}
