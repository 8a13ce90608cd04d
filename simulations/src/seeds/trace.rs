//! What happened, as a running hash and, if wanted, as lines for people.

/// The history of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Lines are kept.
    pub(super) on: bool,
    pub(super) lines: Vec<String>,
    hash: u64,
}

impl Trace {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Mixes something that happened into the hash.
    pub(super) fn mix(&mut self, word: u64) {
        self.hash = super::dice::mix(self.hash ^ word);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Adds a line, with the virtual time in front.
    pub(super) fn line(&mut self, now: u64, text: &str) {
        self.lines.push(format!("{:>6}.{:03} {text}", now / 1_000_000, now / 1_000 % 1_000));
    }
}

/// Adds a line to the trace if somebody reads it; costs nothing otherwise.
macro_rules! say {
    ($shared:expr, $($words:tt)+) => {
        if $shared.trace.on {
            let (now, text) = ($shared.now, format!($($words)+));
            $shared.trace.line(now, &text);
        }
    };
}
pub(super) use say;
