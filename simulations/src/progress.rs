//! What the simulation is doing, on standard error.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Where progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Nowhere: tests.
    Silent,
    /// On standard error: bars on a terminal, else a line for each phase.
    Stderr,
}

impl Progress {
    /// A phase of `steps` steps begins.
    #[must_use]
    pub fn phase(self, what: &str, steps: usize) -> ProgressBar {
        if self == Self::Silent {
            return ProgressBar::hidden();
        }
        if !std::io::stderr().is_terminal() {
            eprintln!("{what}");
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg:40} {wide_bar} {pos}/{len} {elapsed}");
        let bar = ProgressBar::new(steps as u64).with_message(what.to_owned());
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}
