//! What this process costs, as the kernel counts it.

use std::fs;

/// `/proc` counts processor time in these, on every Linux (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time and memory of this process at a moment; zeros where there is no `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor seconds since its start, all threads.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
}

impl Usage {
    /// As of now.
    #[must_use]
    pub fn now() -> Self {
        Self { cpu_seconds: cpu_seconds().unwrap_or_default(), resident_bytes: resident_bytes().unwrap_or_default() }
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets and may hold anything; the third follows the last bracket.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?) as f64 / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_plausible() {
        let usage = Usage::now();
        assert!(usage.cpu_seconds >= 0.0 && (1 << 20..1u64 << 40).contains(&usage.resident_bytes), "{usage:?}");
    }
}
