//! The closed set of errors that both doors answer with.

use rafka_model::{LeaderEpoch, NodeId};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retriable:literal;)*) => {
        /// Why a request, or one partition of it, was refused. Names and numbers follow Kafka's where Kafka has
        /// the error, so that operators meet one vocabulary at every door; numbers from 1000 are our own.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name = $number,)* }

        impl ErrorCode {
            /// Every code, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The field's name in capitals, e.g. `NOT_LEADER_OR_FOLLOWER`.
            #[must_use]
            pub fn name(self) -> &'static str { match self { $(Self::$name => $text,)* } }

            /// True if the same request may succeed later or elsewhere.
            #[must_use]
            pub fn is_retriable(self) -> bool { match self { $(Self::$name => $retriable,)* } }

            /// The number on the mesh.
            #[must_use]
            pub fn number(self) -> i32 { self as i32 }

            /// The code of this number.
            #[must_use]
            pub fn from_number(number: i32) -> Option<Self> { match number { $($number => Some(Self::$name),)* _ => None } }
        }
    };
}

codes! {
    /// The node failed in a way it did not expect; see its log.
    Unknown = -1, "UNKNOWN_SERVER_ERROR", false;
    /// The offset lies outside the log.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", false;
    /// Checksum or structure of a batch is wrong.
    CorruptMessage = 2, "CORRUPT_MESSAGE", false;
    /// This node knows no such topic or partition (yet).
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", true;
    /// The partition has no leader at the moment.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true;
    /// This node does not lead the partition; the hint says who does.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true;
    /// Not done in the given time; a write may still happen.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true;
    /// A batch is larger than `max.message.bytes`.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false;
    /// The words that go with a committed offset are too long.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false;
    /// The group's coordinator is still reading what it has to know.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true;
    /// Nobody coordinates the group at the moment.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true;
    /// This node does not coordinate the group; the hint says who does.
    NotCoordinator = 16, "NOT_COORDINATOR", true;
    /// The topic's name is not legal.
    InvalidTopic = 17, "INVALID_TOPIC_EXCEPTION", false;
    /// Fewer in-sync replicas than `min.insync.replicas`; nothing was written.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true;
    /// As above, but the record is already in the leader's log.
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true;
    /// The member speaks of another generation than the group's.
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false;
    /// The member shares no protocol with the group.
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", false;
    /// The group's name is empty or otherwise not legal.
    InvalidGroupId = 24, "INVALID_GROUP_ID", false;
    /// The group has no such member (any more).
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false;
    /// The session timeout lies outside the allowed span.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", false;
    /// The group begins a new generation: join again.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", true;
    /// A committed offset is too large to be stored.
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", false;
    /// The credentials do not allow it.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", false;
    /// The peer is not admitted to this cluster.
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", false;
    /// A record's timestamp lies outside the allowed span.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false;
    /// The node does not speak this version.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", false;
    /// A topic of this name exists.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false;
    /// The number of partitions is out of range, or would shrink.
    InvalidPartitions = 37, "INVALID_PARTITIONS", false;
    /// More replicas asked for than can be had.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false;
    /// A partition is assigned to nodes that cannot have it.
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", false;
    /// A config key or value is refused.
    InvalidConfig = 40, "INVALID_CONFIG", false;
    /// This node is not the controller.
    NotController = 41, "NOT_CONTROLLER", true;
    /// The request contradicts itself or a limit.
    InvalidRequest = 42, "INVALID_REQUEST", false;
    /// A rule of the cluster or of the topic forbids it.
    PolicyViolation = 44, "POLICY_VIOLATION", false;
    /// A producer's batch does not follow the one before: something between them was lost.
    OutOfOrderSequence = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false;
    /// A producer's batch is in the log already, too long ago to say where.
    DuplicateSequence = 46, "DUPLICATE_SEQUENCE_NUMBER", false;
    /// The producer id was taken over by a newer epoch.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false;
    /// The disk refused.
    StorageError = 56, "KAFKA_STORAGE_ERROR", true;
    /// The partition knows nothing of this producer id.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false;
    /// The group has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false;
    /// No such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false;
    /// The request carries an older leader epoch than the partition's.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true;
    /// The request carries a newer leader epoch than this node knows.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true;
    /// The record batch uses a codec that is not supported.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false;
    /// A registration or heartbeat of an older incarnation.
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", false;
    /// The high watermark is not known yet after an election (KIP-207).
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true;
    /// A new member must come again with the id it is given (KIP-394).
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", true;
    /// The preferred leader is out of service or out of sync.
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", true;
    /// The group has as many members as it may have.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false;
    /// A newer member has taken this static member's name.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false;
    /// No replica may lead.
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true;
    /// The partition has the leader that was asked for.
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", true;
    /// No reassignment of the partition is under way.
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", false;
    /// The group's members read this topic.
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", false;
    /// A batch breaks a rule of its topic.
    InvalidRecord = 87, "INVALID_RECORD", false;
    /// The offset belongs to a transaction that is not decided yet.
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", true;
    /// A newer producer of the same transactional id has begun.
    ProducerFenced = 90, "PRODUCER_FENCED", false;
    /// The partition has changed since: wait for its newer state.
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", true;
    /// No topic has this id.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true;
    /// Another live process already uses this identity.
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", false;
    /// A replica that cannot be in sync now: out of service, or registered anew (KIP-903).
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", true;
    /// The member has fallen behind and lost its assignment: join again (KIP-848).
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false;
    /// Another member has this static member's name and has not left.
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false;
    /// No such assignor.
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false;
    /// The member's epoch is old: it must catch up and ask again (KIP-848).
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", true;
    /// The regular expression cannot be read.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false;
    /// Queues are full; try again later.
    Busy = 1000, "NODE_BUSY", true;
    /// The node stopped, or the connection broke, before the answer: it may or may not have happened.
    OutcomeUnknown = 1001, "OUTCOME_UNKNOWN", true;
    /// The controller cannot be reached at the moment.
    ControllerUnavailable = 1002, "CONTROLLER_UNAVAILABLE", true;
    /// The node is not part of a cluster yet, or is stopping.
    NotReady = 1003, "NODE_NOT_READY", true;
    /// The disk is full; appends stop until space returns.
    DiskFull = 1004, "DISK_FULL", true;
}

/// Where a partition's leader is, as far as the answering node knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaderHint {
    /// The leader, or `None` while there is none.
    pub node: Option<NodeId>,
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// The leader's peer id as text, when known.
    pub peer_id: Option<String>,
    /// Its mesh addresses (multiaddrs as text).
    pub addresses: Vec<String>,
}

/// An error with its words: what, why, and where to go instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message} ({})", code.name())]
pub struct Failure {
    /// What kind of failure.
    pub code: ErrorCode,
    /// For people: lower case, no trailing stop, names the thing and the limit.
    pub message: String,
    /// Current leader, with [`ErrorCode::NotLeaderOrFollower`] and the epoch errors.
    pub leader: Option<Box<LeaderHint>>,
}

impl Failure {
    /// A failure without a leader hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), leader: None }
    }

    /// The same failure with the current leader.
    #[must_use]
    pub fn with_leader(self, leader: LeaderHint) -> Self {
        Self { leader: Some(Box::new(leader)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_come_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
        }
        assert_eq!(ErrorCode::from_number(0), None, "0 is success on every wire");
    }
}
