//! How much may happen.

use rafka_model::Durability;

/// How much may happen in one exploration. Everything that is not bounded here may happen whenever it can.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// What it is about.
    pub name: &'static str,
    /// `durability` of the topic.
    pub durability: Durability,
    /// Records that are produced.
    pub records: u8,
    /// Records in one answer to a fetch, at most.
    pub batch: u8,
    /// The largest leader epoch; the first is 0.
    pub epochs: u8,
    /// Processes that are killed; each comes back.
    pub kills: u8,
    /// Machines that lose power, and any part of what was not flushed; each comes back.
    pub cuts: u8,
    /// Nodes that are fenced though they live.
    pub fences: u8,
    /// Times that a follower that is behind is found to lag.
    pub lags: u8,
    /// Requests that are given up and sent again, although they may arrive yet.
    pub retries: u8,
    /// Messages that arrive twice.
    pub copies: u8,
    /// Messages that never arrive.
    pub losses: u8,
    /// Fetches whose request and answer take their time, so that anything may happen meanwhile; all others are answered at
    /// once. (Proposals and metadata always take their time.)
    pub delays: u8,
    /// Actions while a process has not seen the latest metadata; [`Bounds::ANY`]: they are not counted.
    pub late: u8,
    /// States after which the search gives up.
    pub states_max: u64,
}

impl Bounds {
    /// No bound.
    pub const ANY: u8 = u8::MAX;
}

/// A choice of bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// Below a minute on two cores: for CI.
    Small,
    /// Minutes to hours.
    Full,
}

/// Nothing but one record; the others say what they add.
const NONE: Bounds = Bounds {
    name: "",
    durability: Durability::Replicated,
    records: 1,
    batch: 2,
    epochs: 1,
    kills: 0,
    cuts: 0,
    fences: 0,
    lags: 0,
    retries: 0,
    copies: 0,
    losses: 0,
    delays: 0,
    late: Bounds::ANY,
    states_max: 200_000_000,
};

const SMALL: &[Bounds] = &[
    Bounds { name: "a follower lags, a message is lost", lags: 1, epochs: 0, losses: 1, ..NONE },
    Bounds { name: "a node is fenced though it lives", fences: 1, delays: 1, ..NONE },
    Bounds { name: "a process dies", kills: 1, delays: 1, ..NONE },
    Bounds { name: "a machine loses power", cuts: 1, delays: 1, ..NONE },
    Bounds { name: "a machine loses power", durability: Durability::Fsync, cuts: 1, ..NONE },
    Bounds { name: "a node comes and goes, a message comes twice", records: 0, fences: 2, copies: 1, ..NONE },
    Bounds { name: "a follower lags, a node is fenced", lags: 1, fences: 1, late: 0, ..NONE },
    Bounds { name: "two elections", fences: 2, epochs: 2, late: 1, ..NONE },
];

const FULL: &[Bounds] = &[
    Bounds { name: "a node is fenced, fetches are late and repeated", fences: 1, delays: 2, retries: 1, ..NONE },
    Bounds { name: "a node is fenced, messages come twice", fences: 1, delays: 1, copies: 1, ..NONE },
    Bounds { name: "a follower lags, a node is fenced", lags: 1, fences: 1, late: 1, ..NONE },
    Bounds { name: "two machines lose power", durability: Durability::Fsync, cuts: 2, epochs: 2, late: 1, ..NONE },
    Bounds { name: "two elections", fences: 2, epochs: 2, delays: 1, late: 2, ..NONE },
    Bounds { name: "two processes die, two records", records: 2, batch: 1, kills: 2, epochs: 2, late: 1, ..NONE },
    Bounds { name: "a death and a power cut", kills: 1, cuts: 1, epochs: 2, late: 1, ..NONE },
    Bounds { name: "three elections, two records", records: 2, fences: 3, epochs: 3, late: 0, ..NONE },
];

impl std::str::FromStr for Bounds {
    type Err = String;

    /// Reads `records=2,fences=1,fsync`: what is not named is 0, or what makes sense at least.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut bounds = Bounds { name: "chosen", ..NONE };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if part == "fsync" {
                bounds.durability = Durability::Fsync;
                continue;
            }
            let parsed = part.split_once('=').and_then(|(key, value)| Some((key, value.parse::<u64>().ok()?)));
            let Some((key, value)) = parsed else { return Err(format!("{part:?} is not KEY=NUMBER")) };
            if key == "states" {
                bounds.states_max = value;
                continue;
            }
            let field = match key {
                "records" => &mut bounds.records,
                "batch" => &mut bounds.batch,
                "epochs" => &mut bounds.epochs,
                "kills" => &mut bounds.kills,
                "cuts" => &mut bounds.cuts,
                "fences" => &mut bounds.fences,
                "lags" => &mut bounds.lags,
                "retries" => &mut bounds.retries,
                "copies" => &mut bounds.copies,
                "losses" => &mut bounds.losses,
                "delays" => &mut bounds.delays,
                "late" => &mut bounds.late,
                _ => return Err(format!("no bound is called {key:?}")),
            };
            *field = u8::try_from(value).ok().filter(|value| *value < 16).ok_or(format!("{part:?} is too much"))?;
        }
        Ok(bounds)
    }
}

impl Profile {
    /// The explorations that make it up.
    #[must_use]
    pub fn all(self) -> &'static [Bounds] {
        match self {
            Self::Small => SMALL,
            Self::Full => FULL,
        }
    }
}
