//! Fetch: read what is committed, or wait for it.

mod reading;

use std::sync::Arc;
use std::time::Duration;

use rafka_broker::request::{Fetch, Fetched, PartitionReply};
use rafka_model::limits::LONG_POLL_MS_MAX;
use tokio::time::Instant;

use super::Inner;
use super::parked::{Parking, Waiter};
use reading::Reading;

impl Inner {
    /// Cancel safe: nothing is lost but the answer.
    pub(super) async fn fetch(self: &Arc<Self>, request: Fetch) -> Vec<PartitionReply<Fetched>> {
        let wait = Duration::from_millis(u64::from(request.max_wait_ms).min(LONG_POLL_MS_MAX));
        let deadline = Instant::now() + wait;
        let min_bytes = u64::from(request.min_bytes.min(request.max_bytes));
        loop {
            let reading = self.read(&request).await;
            let (bytes, refused) = reading.found();
            if bytes >= min_bytes || refused > 0 || self.is_draining() || Instant::now() >= deadline {
                self.counters.fetched(bytes, refused);
                return reading.answer();
            }
            self.counters.parked_fetch();
            let waiter = Waiter::new(self.next_waiter(), min_bytes - bytes);
            let parking = Parking::new(waiter, reading.into_parked(), self.clock.monotonic().plus(wait));
            if self.is_draining() {
                continue;
            }
            // Whether woken or not: look again, what came meanwhile belongs into the answer.
            let _ = tokio::time::timeout_at(deadline, parking.woken()).await;
        }
    }

    /// Reads each partition, from the cache where it can: without leaving this thread if it can for all.
    async fn read(self: &Arc<Self>, request: &Fetch) -> Reading {
        let mut reading = Reading::new(self, request);
        if reading.warm() {
            return reading;
        }
        let Ok(_permit) = self.cold.acquire().await else {
            return reading;
        };
        let read = tokio::task::spawn_blocking(move || {
            reading.cold();
            reading
        });
        read.await.unwrap_or_else(|error| {
            tracing::error!(%error, "read task failed");
            Reading::new(self, request)
        })
    }
}
