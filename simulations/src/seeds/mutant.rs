//! Rules that can be switched off, one at a time, to see that the simulator notices.

use std::fmt;

use rafka_broker::{controller, replication};

/// A rule that does not hold.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Mutant {
    /// One of the replication machines.
    Replication(replication::Rule),
    /// One of the controller.
    Controller(controller::Rule),
    /// One of whoever drives the machines: of the simulator here, of `node` in earnest.
    Driver(Driver),
}

/// A rule for drivers of the machines.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Driver {
    /// A process opens no replica before its image has its own registration. Without: it leads by what was true before it
    /// died.
    OwnRegistrationComesFirst,
    /// The boot id is noted on the disk once the registration is committed and the logs are recovered. Without: a second
    /// crash in between makes a power loss look like the death of a process.
    BootIsKnownOnceRecovered,
    /// Replicas that cannot be used are reported before the first heartbeat. Without: one of them is elected.
    FailuresAreToldBeforeService,
    /// A failed replica begins anew once the controller has said that it knows, and only in the epoch that came of it.
    /// Without: two replicas fail, the first one's report begins an epoch, and the second takes it for the answer to its
    /// own: it is empty, and in sync.
    FailuresBeginAnewOnceKnown,
    /// The host of a controller answers once its own entry is applied, in its own term. Without: another leader's entry of
    /// the same index is taken for it, and a process is told a registration that was another one's.
    AnswersWaitForTheirOwnEntries,
    /// The clean-shutdown marker is written by a process that has opened, and synced, every log on the disk. Without: one
    /// that was stopped before that vouches for what an earlier process left unsynced, and the power fails next.
    CleanMeansEverythingWasOpen,
}

impl Driver {
    /// Every rule.
    pub const ALL: &'static [Self] = &[
        Self::OwnRegistrationComesFirst,
        Self::BootIsKnownOnceRecovered,
        Self::FailuresAreToldBeforeService,
        Self::FailuresBeginAnewOnceKnown,
        Self::AnswersWaitForTheirOwnEntries,
        Self::CleanMeansEverythingWasOpen,
    ];
}

impl Mutant {
    /// Every rule of the machines and of their driver.
    pub fn all() -> impl Iterator<Item = Self> {
        let replication = replication::Rule::ALL.iter().copied().map(Self::Replication);
        let controller = controller::Rule::ALL.iter().copied().map(Self::Controller);
        replication.chain(controller).chain(Driver::ALL.iter().copied().map(Self::Driver))
    }
}

/// `replication:MaximalIsrCounts`.
impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replication(rule) => write!(f, "replication:{rule:?}"),
            Self::Controller(rule) => write!(f, "controller:{rule:?}"),
            Self::Driver(rule) => write!(f, "driver:{rule:?}"),
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
