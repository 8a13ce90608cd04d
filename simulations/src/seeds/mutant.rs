//! Rules that can be switched off, one at a time, to see that somebody notices.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rafka_broker::{autopilot, controller, detector, flushing, producer, rebalance, replication};
use rafka_model::Durability;

use super::Profile;

/// A rule that does not hold.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Mutant {
    /// One of the replication machines.
    Replication(replication::Rule),
    /// One of the controller.
    Controller(controller::Rule),
    /// One of whoever drives the machines: of the simulator here, of `node` in earnest.
    Driver(Driver),
    /// One of idempotence.
    Producer(producer::Rule),
    /// One of whoever keeps the states of producers beside a log.
    Duty(producer::failover::Duty),
    /// One of the planner of moves.
    Rebalance(rebalance::Rule),
    /// One of the voters' autopilot.
    Autopilot(autopilot::Rule),
    /// One of failure detection.
    Detector(detector::Rule),
    /// One of the flusher.
    Flushing(flushing::Rule),
}

/// Where the absence of a rule is looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trial {
    /// In the simulator of the whole cluster.
    Cluster(Profile),
    /// In the simulation of its machine alone, which does things to it that rarely come together in a cluster.
    Alone,
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
    /// Replicas that cannot be used are reported before the first heartbeat, also those that fail while others are being
    /// reported. Without: one of them is elected.
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
        let cluster = replication.chain(controller).chain(Driver::ALL.iter().copied().map(Self::Driver));
        let producer = producer::Rule::ALL.iter().copied().map(Self::Producer);
        let duties = producer::failover::Duty::ALL.iter().copied().map(Self::Duty);
        let rebalance = rebalance::Rule::ALL.iter().copied().map(Self::Rebalance);
        let autopilot = autopilot::Rule::ALL.iter().copied().map(Self::Autopilot);
        let detector = detector::Rule::ALL.iter().copied().map(Self::Detector);
        let flushing = flushing::Rule::ALL.iter().copied().map(Self::Flushing);
        cluster.chain(producer).chain(duties).chain(rebalance).chain(autopilot).chain(detector).chain(flushing)
    }

    /// Where its absence is looked for.
    #[must_use]
    pub fn trial(self) -> Trial {
        use controller::Rule as C;
        use replication::Rule as R;
        match self {
            Self::Replication(R::IneligibleIsNotRolledBack | R::EarlierRegistrationsAreIgnored) => Trial::Alone,
            Self::Replication(R::FetchesOfThisEpochCount | R::AnswersOfThisEpochCount) => {
                Trial::Cluster(Profile::Elections)
            }
            Self::Replication(R::LogsBeginWhereTheLeaderHasThem) => Trial::Cluster(Profile::Losses),
            Self::Replication(R::SilenceEndsService) => Trial::Cluster(Profile::Splits),
            Self::Replication(_) => Trial::Cluster(Profile::Everyday),
            Self::Driver(Driver::AnswersWaitForTheirOwnEntries) => Trial::Cluster(Profile::Splits),
            Self::Driver(_) => Trial::Cluster(Profile::Blows),
            Self::Controller(
                C::UnfencedNodesLeadAgain
                | C::LiveIdentitiesAreUnique
                | C::LeaversStayEligible
                | C::SoleReplicasStayEligible
                | C::NewDirectoriesHoldNothing
                | C::FailedReplicasAreExcluded
                | C::FailedReplicasBeginAnEpoch
                | C::RecoveriesHearEveryone
                | C::RecoveriesHearTheLiving
                | C::ReassignmentsWaitForTheTarget
                | C::ElectionsEndReassignments
                | C::MovesAreFew
                | C::DrainingNodesGetNothing
                | C::EmptyingNodesAreReplaced
                | C::RemovedNodesHoldNothing
                | C::OldProgramsStayOut
                | C::PreferredLeadersReturn
                | C::InternalTopicsGrow,
            ) => Trial::Alone,
            Self::Controller(_) => Trial::Cluster(Profile::Everyday),
            Self::Producer(_)
            | Self::Duty(_)
            | Self::Rebalance(_)
            | Self::Autopilot(_)
            | Self::Detector(_)
            | Self::Flushing(_) => Trial::Alone,
        }
    }

    /// Runs a seed of the simulation of its machine alone, with all rules or without this one; `None` if there is no such
    /// simulation. A panic is a failure like any other.
    #[must_use]
    pub fn alone(self, seed: u64, without: bool) -> Option<Result<(), String>> {
        if let Self::Driver(_) = self {
            return None;
        }
        let run = || match self {
            Self::Replication(rule) => {
                let durability = if seed.is_multiple_of(2) { Durability::Replicated } else { Durability::Fsync };
                replication::simulation::simulate(seed, durability, without.then_some(rule))
            }
            Self::Controller(rule) => controller::simulation::simulate(seed, without.then_some(rule)),
            Self::Driver(_) => Ok(()),
            Self::Producer(rule) => producer::simulation::simulate(seed, without.then_some(rule)),
            Self::Duty(duty) => producer::failover::simulate(seed, without.then_some(duty)),
            Self::Rebalance(rule) => rebalance::simulation::simulate(seed, without.then_some(rule)),
            Self::Autopilot(rule) => autopilot::simulation::simulate(seed, without.then_some(rule)),
            Self::Detector(rule) => detector::simulation::simulate(seed, without.then_some(rule)),
            Self::Flushing(rule) => flushing::simulation::simulate(seed, without.then_some(rule)),
        };
        Some(catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(super::panicked(&*panic))))
    }
}

/// `replication:MaximalIsrCounts`.
impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replication(rule) => write!(f, "replication:{rule:?}"),
            Self::Controller(rule) => write!(f, "controller:{rule:?}"),
            Self::Driver(rule) => write!(f, "driver:{rule:?}"),
            Self::Producer(rule) => write!(f, "producer:{rule:?}"),
            Self::Duty(duty) => write!(f, "producer-driver:{duty:?}"),
            Self::Rebalance(rule) => write!(f, "rebalance:{rule:?}"),
            Self::Autopilot(rule) => write!(f, "autopilot:{rule:?}"),
            Self::Detector(rule) => write!(f, "detector:{rule:?}"),
            Self::Flushing(rule) => write!(f, "flushing:{rule:?}"),
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
