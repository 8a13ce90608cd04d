//! The clock of the data path: a trait, so that tests decide what time it is.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rafka_model::{Monotonic, Timestamp};

/// Where the data path reads the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// For waits and ages.
    fn monotonic(&self) -> Monotonic;
    /// For record timestamps and retention.
    fn wall(&self) -> Timestamp;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Monotonic time counts from here.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}
