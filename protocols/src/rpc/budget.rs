//! The memory that requests may hold.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of requests that a node holds at once; shared by all connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

/// A part of a [`Budget`], given back when dropped. The default holds nothing.
#[derive(Debug, Default)]
pub struct Reservation {
    bytes: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Adds `more`, of the same budget, to what this one holds.
    pub(crate) fn merge(&mut self, more: Self) {
        match (&mut self.bytes, more.bytes) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
    }
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// Waits, first come first served, until `bytes` are free; `None` if that many never will be.
    pub async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= self.bytes_max)?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(permits).await.ok()?;
        Some(Reservation { bytes: Some(bytes) })
    }

    /// The same, but now or not at all.
    #[must_use]
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()?;
        Some(Reservation { bytes: Some(bytes) })
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.bytes_max - self.bytes.available_permits()
    }
}
