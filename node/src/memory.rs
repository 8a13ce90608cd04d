//! What the C library's allocator does with freed memory.
//!
//! Requests of tens to thousands of KiB come and go at full speed. By default glibc maps each of them anew and unmaps it
//! when it is freed: the kernel then clears every page that a request is read into, which cost more than a quarter of a
//! bulk produce (`docs/benchmarks.md`). So freed memory is kept for the next request, and given back once there is
//! little to do. Other C libraries are left alone.

use std::sync::Arc;
use std::time::Duration;

use rafka_model::limits::{MEMORY_BUSY_BYTES, MEMORY_CHECK_MS};

use crate::partitions::Partitions;

/// To be called before any thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_freed() {
    use rafka_model::limits::{MEMORY_KEPT_BYTES, MEMORY_MAPPED_BYTES_MIN};

    // The default, eight for each core, multiplies what is kept. Small pieces do not come here: each thread has its own.
    let arenas = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1);
    set(libc::M_ARENA_MAX, arenas);
    set(libc::M_MMAP_THRESHOLD, MEMORY_MAPPED_BYTES_MIN);
    set(libc::M_TRIM_THRESHOLD, MEMORY_KEPT_BYTES);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(parameter: libc::c_int, value: usize) {
    let Ok(value) = libc::c_int::try_from(value) else { return };
    // SAFETY: changes a number inside the allocator, under its lock; any value is legal.
    #[allow(unsafe_code, reason = "the allocator is set by its own function only")]
    let taken = unsafe { libc::mallopt(parameter, value) };
    if taken == 0 {
        tracing::debug!(parameter, value, "the allocator does not take this");
    }
}

/// Gives freed memory back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: may be called at any time, from any thread.
    #[allow(unsafe_code, reason = "there is no other way to say it")]
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_freed() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

/// Gives memory back after a time in which little was moved, once for each time in which much was. Runs until it is
/// dropped.
pub(crate) async fn give_back(partitions: Arc<Partitions>) {
    let mut pressed = Pressed::default();
    loop {
        tokio::time::sleep(Duration::from_millis(MEMORY_CHECK_MS)).await;
        let totals = partitions.totals();
        if pressed.is_over(totals.produced_bytes.saturating_add(totals.fetched_bytes)) {
            // Milliseconds, for hundreds of megabytes.
            let _ = tokio::task::spawn_blocking(trim).await;
        }
    }
}

/// Whether there is something to give back.
#[derive(Debug, Default)]
struct Pressed {
    moved_bytes: u64,
    /// Bytes moved when memory was given back last.
    given_back_at: u64,
}

impl Pressed {
    /// Takes what was moved since the start: much since memory was given back, and little since the last call?
    fn is_over(&mut self, moved_bytes: u64) -> bool {
        let lately = moved_bytes.saturating_sub(std::mem::replace(&mut self.moved_bytes, moved_bytes));
        let over = lately < MEMORY_BUSY_BYTES && moved_bytes.saturating_sub(self.given_back_at) >= MEMORY_BUSY_BYTES;
        if over {
            self.given_back_at = moved_bytes;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_each_time_of_work() {
        let mut pressed = Pressed::default();
        let much = MEMORY_BUSY_BYTES;
        assert!(!pressed.is_over(0), "nothing was moved yet");
        assert!(!pressed.is_over(2 * much), "in the midst of it");
        assert!(!pressed.is_over(4 * much));
        assert!(pressed.is_over(4 * much + 1));
        assert!(!pressed.is_over(4 * much + 2), "there is nothing left to give");
        assert!(!pressed.is_over(6 * much));
        assert!(pressed.is_over(6 * much));
    }
}
