//! Time as the store and the resolver see it; tests put their own in.

use std::sync::Arc;
use std::time::Instant;

use rafka_model::Monotonic;

/// Tells the time. Cheap to clone.
pub type Clock = Arc<dyn Fn() -> Monotonic + Send + Sync>;

/// The machine's monotonic clock, from 0 at this call.
#[must_use]
pub fn system() -> Clock {
    let start = Instant::now();
    Arc::new(move || Monotonic::default().plus(start.elapsed()))
}
