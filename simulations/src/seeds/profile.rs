//! Schedules that look for something in particular: the same world and faults, some of them far more often.

use std::fmt;

/// What a run is about.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Profile {
    /// A bit of everything.
    #[default]
    Everyday,
    /// One machine is hit several times within a second: its processes die, are stopped before they serve, do not get their logs
    /// open; its power fails.
    Blows,
    /// Brokers are cut off from each other in two groups, with a leader of the quorum in either.
    Splits,
    /// Leaders change all the time without anybody having died, and messages are late.
    Elections,
    /// Records are deleted, machines lose power together, and topics would rather lose records than wait.
    Losses,
}

impl Profile {
    /// Every profile.
    pub const ALL: &'static [Self] = &[Self::Everyday, Self::Blows, Self::Splits, Self::Elections, Self::Losses];
}

/// As it is written on command lines.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Everyday => "everyday",
            Self::Blows => "blows",
            Self::Splits => "splits",
            Self::Elections => "elections",
            Self::Losses => "losses",
        })
    }
}

/// The profile of this name.
impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|profile| profile.to_string() == name);
        let all = || Self::ALL.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        found.copied().ok_or_else(|| format!("there is no profile {name}, but {}", all()))
    }
}
