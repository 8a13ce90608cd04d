//! What the controller is asked, and what it answers.

use rafka_model::{BrokerEpoch, LeaderEpoch, MetadataIndex, NodeId, Offset, PartitionEpoch, TopicPartition};

use super::Registration;
use crate::Failure;
use crate::replication::AlterPartition;
use crate::request::{Admin, AdminReply};

/// A request for a change of metadata.
#[derive(Clone, Debug)]
pub enum Command {
    /// Found the cluster; its founder becomes node 1 and the first voter.
    Found {
        /// Ed25519 public half of the cluster key.
        public_key: [u8; 32],
        /// blake3 of the join token; `None` admits anyone (on loopback).
        join_token_hash: Option<[u8; 32]>,
        /// Version of the cluster's behaviour.
        feature_level: u32,
        /// The founder itself.
        founder: Registration,
    },
    /// A node joins or comes back; it was admitted by the door.
    Register(Registration),
    /// A node stops: its partitions move now, not when its session ends.
    Leave {
        /// Which node.
        node: NodeId,
        /// Its registration; an older one is refused.
        epoch: BrokerEpoch,
    },
    /// A leader proposes another in-sync set.
    AlterPartition(AlterPartition),
    /// Logs of a node could not be recovered, or their disk died: it begins anew there, without a record. It must do so
    /// only in the leader epoch that comes of this.
    ReplicaFailed {
        /// Which node.
        node: NodeId,
        /// Its registration; an older one is refused.
        epoch: BrokerEpoch,
        /// Where.
        partitions: Vec<TopicPartition>,
    },
    /// A replica's answer to a [`Question`].
    LogEnd(LogEnd),
    /// A node is to be emptied: its leaderships go at once, its replicas one after another. Or no longer: moves that have
    /// not begun are called off.
    Drain {
        /// Which node.
        node: NodeId,
        /// To be emptied.
        on: bool,
    },
    /// A drained node goes for good.
    Decommission {
        /// Which node.
        node: NodeId,
    },
    /// Partitions get other replicas (KIP-455); `None` calls a reassignment off.
    Reassign(Vec<(TopicPartition, Option<Vec<NodeId>>)>),
    /// Partitions get other leaders (KIP-460).
    Elect {
        /// Which; none means all for which it would change something.
        partitions: Vec<TopicPartition>,
        /// Who shall lead.
        how: Election,
    },
    /// The cluster's behaviour changes to that of a newer version, once all nodes know it.
    Upgrade {
        /// Feature level; larger than the present one.
        level: u32,
    },
    /// The metadata quorum has changed its voters.
    VotersChanged {
        /// By node id.
        voters: Vec<NodeId>,
    },
    /// A change of topics.
    Admin {
        /// What to change.
        request: Admin,
        /// Fresh random bytes: the ids of new topics are derived from them.
        seed: [u8; 32],
    },
}

/// Who shall lead (KIP-460).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// Where nobody leads: any replica in service, though acknowledged records may be lost.
    Unclean,
}

/// How far a replica's log reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogEnd {
    /// Which partition.
    pub at: TopicPartition,
    /// Whose log.
    pub node: NodeId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// As in the question.
    pub partition_epoch: PartitionEpoch,
    /// Epoch of its last record; `None` if it is empty.
    pub last_epoch: Option<LeaderEpoch>,
    /// Offset behind its last record.
    pub end: Offset,
}

/// What the controller wants to know of a replica before it elects a leader uncleanly: [`LogEnd`]. Answers may get lost:
/// it asks again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Question {
    /// Which partition.
    pub at: TopicPartition,
    /// Whom to ask.
    pub node: NodeId,
    /// Its registration; another is not meant.
    pub broker_epoch: BrokerEpoch,
    /// State of the partition to which the answer belongs.
    pub partition_epoch: PartitionEpoch,
}

/// Something that an operator should read in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A leader was elected that may lack acknowledged records.
    UncleanElection {
        /// Which partition.
        at: TopicPartition,
        /// Who leads now.
        leader: NodeId,
        /// In which epoch.
        leader_epoch: LeaderEpoch,
        /// Who had all records, as far as is known.
        last_known: Vec<NodeId>,
    },
    /// A node that is being drained has no replicas left.
    Drained(NodeId),
}

/// The outcome of a command, to be released once `index` is applied.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What to answer.
    pub answer: Answer,
    /// The entry whose application makes it true. A refusal has one as well: it may rest on decisions still pending.
    pub index: MetadataIndex,
}

/// Per partition, in the order asked.
pub type Outcomes = Vec<(TopicPartition, Result<(), Failure>)>;

/// An answer to the [`Command`] of the same kind.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Command::Found`] and [`Command::Register`].
    Registered(Registered),
    /// To [`Command::Leave`]; also when the node was out of service already.
    Left,
    /// To [`Command::AlterPartition`]: the partition epoch of the state that came of it. What that state is, the metadata
    /// log says: the proposal may have completed a reassignment.
    Altered(PartitionEpoch),
    /// To [`Command::ReplicaFailed`], [`Command::LogEnd`], [`Command::Upgrade`] and [`Command::VotersChanged`].
    Done,
    /// To [`Command::Drain`]: so many replicas are left on the node.
    Draining {
        /// 0: the node may be decommissioned.
        replicas: u32,
    },
    /// To [`Command::Decommission`].
    Decommissioned,
    /// To [`Command::Reassign`].
    Reassigned(Outcomes),
    /// To [`Command::Elect`].
    Elected(Outcomes),
    /// To [`Command::Admin`].
    Admin(AdminReply),
    /// The command changed nothing.
    Refused(Failure),
}

/// A registration that took place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Registered {
    /// The node's id, for ever.
    pub node: NodeId,
    /// Names this registration; goes into every heartbeat.
    pub epoch: BrokerEpoch,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// The node is still out of service.
    pub fenced: bool,
    /// Index of the last decision: a node behind it has something to pull.
    pub index: MetadataIndex,
}
