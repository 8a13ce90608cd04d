//! Rules that can be switched off, one at a time, to see that the simulator notices.

use std::fmt;

use rafka_broker::{controller, replication};

/// A rule that does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutant {
    /// One of the replication machines.
    Replication(replication::Rule),
    /// One of the controller.
    Controller(controller::Rule),
}

impl Mutant {
    /// Every rule of the machines.
    pub fn all() -> impl Iterator<Item = Self> {
        replication::Rule::ALL.iter().copied().map(Self::Replication)
    }
}

/// `replication:MaximalIsrCounts`.
impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replication(rule) => write!(f, "replication:{rule:?}"),
            Self::Controller(rule) => write!(f, "controller:{rule:?}"),
        }
    }
}

/// The mutant of this name.
impl std::str::FromStr for Mutant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::all().find(|mutant| mutant.to_string() == name);
        found.ok_or_else(|| format!("no rule is called {name}"))
    }
}
