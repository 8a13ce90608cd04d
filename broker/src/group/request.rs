//! What a coordinator is asked and answers, whatever the door. A request concerns one group.

use bytes::Bytes;
use rafka_model::{NodeId, PartitionId, TopicId};

use crate::ErrorCode;

/// A request to the coordinator of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupRequest {
    /// Take part in the next generation (classic protocol).
    Join(Join),
    /// Give (the leader) or get (everybody) the assignment of a generation (classic protocol).
    Sync(Sync),
    /// Still here (classic protocol).
    Heartbeat(Heartbeat),
    /// Members go (classic protocol, and by administrators).
    Leave(Leave),
    /// Join, stay in or leave a group whose assignment the coordinator makes (KIP-848).
    ConsumerHeartbeat(ConsumerHeartbeat),
    /// Store offsets.
    Commit(Commit),
    /// Read stored offsets.
    Offsets(OffsetsAsked),
    /// Forget stored offsets.
    ForgetOffsets(ForgetOffsets),
    /// What the group is doing.
    Describe {
        /// The group.
        group: String,
    },
    /// Remove an empty group and its offsets.
    Delete {
        /// The group.
        group: String,
    },
}

impl GroupRequest {
    /// The group that the request is about.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Self::Join(request) => &request.group,
            Self::Sync(request) => &request.group,
            Self::Heartbeat(request) => &request.group,
            Self::Leave(request) => &request.group,
            Self::ConsumerHeartbeat(request) => &request.group,
            Self::Commit(request) => &request.group,
            Self::Offsets(request) => &request.group,
            Self::ForgetOffsets(request) => &request.group,
            Self::Describe { group } | Self::Delete { group } => group,
        }
    }

    /// Is it answered only once other members have come, perhaps after minutes?
    #[must_use]
    pub fn waits_for_others(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Sync(_))
    }
}

/// The answer to the [`GroupRequest`] of the same name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupReply {
    /// The generation has begun, or the member must come again with its id.
    Join(JoinReply),
    /// The member's assignment.
    Sync(SyncReply),
    /// Noted.
    Heartbeat,
    /// By member, in the order asked.
    Leave(Vec<Left>),
    /// What the member has now.
    ConsumerHeartbeat(ConsumerHeartbeatReply),
    /// By partition, in the order asked.
    Commit(Vec<Result<(), ErrorCode>>),
    /// The offsets asked for, in the order asked; all that are stored if none were named.
    Offsets(Vec<CommittedOffset>),
    /// By partition, in the order asked.
    ForgetOffsets(Vec<Result<(), ErrorCode>>),
    /// As asked.
    Describe(GroupDescription),
    /// Done.
    Delete,
}

/// Who speaks for a member, as it is kept with it and shown to administrators.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Caller {
    /// The name that the client gives itself.
    pub client_id: String,
    /// Where it connects from: `/` and its IP address at the Kafka door, its peer id at the mesh.
    pub client_host: String,
}

/// Take part in the next generation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Join {
    /// The group.
    pub group: String,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// Name of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// Silence after which the member counts as dead, ms.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for the member, ms.
    pub rebalance_timeout_ms: i32,
    /// What the group is for: `consumer`, `connect`, `sr`, anything.
    pub protocol_type: String,
    /// Assignment protocols that the member speaks with its metadata for each, the best first.
    pub protocols: Vec<Protocol>,
    /// A new member is given an id first and must come again with it (KIP-394).
    pub requires_member_id: bool,
    /// The client knows what to do with `skip_assignment` (KIP-814).
    pub can_skip_assignment: bool,
    /// Why, for the log (KIP-800).
    pub reason: Option<String>,
    /// Who asks.
    pub caller: Caller,
}

/// An assignment protocol and a member's opaque metadata for it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Protocol {
    /// Name, such as `range`.
    pub name: String,
    /// Opaque.
    pub metadata: Bytes,
}

/// What became of a [`Join`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JoinReply {
    /// The generation has begun.
    Joined(Joined),
    /// Come again with this id (`MEMBER_ID_REQUIRED`).
    TakeMemberId(String),
}

/// A member's place in a generation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Joined {
    /// Number of the generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: String,
    /// The protocol chosen.
    pub protocol: String,
    /// Who assigns.
    pub leader: String,
    /// The leader need not assign: the assignment stands (KIP-814).
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: String,
    /// Everybody, for the leader; empty for the others.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader of its generation sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Name of a static member.
    pub instance_id: Option<String>,
    /// Its metadata for the protocol chosen.
    pub metadata: Bytes,
}

/// Give or get an assignment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sync {
    /// The group.
    pub group: String,
    /// The generation that the member believes in.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Name of a static member.
    pub instance_id: Option<String>,
    /// The protocol type that the member believes in, if it says.
    pub protocol_type: Option<String>,
    /// The protocol that the member believes in, if it says.
    pub protocol: Option<String>,
    /// By member id, from the leader; opaque.
    pub assignments: Vec<(String, Bytes)>,
}

/// A member's assignment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SyncReply {
    /// The group's protocol type.
    pub protocol_type: String,
    /// The group's protocol.
    pub protocol: String,
    /// Opaque.
    pub assignment: Bytes,
}

/// Still here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Heartbeat {
    /// The group.
    pub group: String,
    /// The generation (or, of a classic member of a KIP-848 group, the member epoch) that the member believes in.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Name of a static member.
    pub instance_id: Option<String>,
}

/// Members go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Leave {
    /// The group.
    pub group: String,
    /// Who goes.
    pub members: Vec<Leaving>,
}

/// A member that goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Leaving {
    /// Its id; may be empty if `instance_id` is there.
    pub member_id: String,
    /// Name of a static member.
    pub instance_id: Option<String>,
    /// Why, for the log.
    pub reason: Option<String>,
}

/// What became of a [`Leaving`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Left {
    /// As asked.
    pub member_id: String,
    /// As asked.
    pub instance_id: Option<String>,
    /// Gone, or why not.
    pub result: Result<(), ErrorCode>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct TopicPartitions {
    /// The topic.
    pub topic: TopicId,
    /// Its partitions, ascending.
    pub partitions: Vec<PartitionId>,
}

/// A heartbeat of KIP-848: what is `None` has not changed since the last one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: String,
    /// Made up by the member (or empty, by clients of version 0: the coordinator makes one up).
    pub member_id: String,
    /// 0 joins, -1 leaves, -2 leaves for a while (static members), others: the epoch that the member has reached.
    pub member_epoch: i32,
    /// Name of a static member.
    pub instance_id: Option<String>,
    /// Where the member is.
    pub rack_id: Option<String>,
    /// How long the member may take to give partitions back, ms; -1 if unchanged.
    pub rebalance_timeout_ms: i32,
    /// Topics by name.
    pub subscribed_topics: Option<Vec<String>>,
    /// Topics by regular expression (RE2's syntax); an empty one takes the expression back.
    pub subscribed_regex: Option<String>,
    /// `uniform` or `range`.
    pub server_assignor: Option<String>,
    /// What the member has now.
    pub owned: Option<Vec<TopicPartitions>>,
    /// Who asks.
    pub caller: Caller,
}

/// The answer to a heartbeat of KIP-848.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConsumerHeartbeatReply {
    /// The member's id.
    pub member_id: String,
    /// The epoch that the member is to show from now on.
    pub member_epoch: i32,
    /// When the next heartbeat is due, ms.
    pub heartbeat_interval_ms: i32,
    /// What the member is to own; `None` if that has not changed.
    pub assignment: Option<Vec<TopicPartitions>>,
}

/// Store offsets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Commit {
    /// The group.
    pub group: String,
    /// The member's generation or epoch; -1 for who is no member.
    pub generation: i32,
    /// The member; empty for who is none.
    pub member_id: String,
    /// Name of a static member.
    pub instance_id: Option<String>,
    /// Forget the offsets so long after this commit, ms, whatever the coordinator's setting is (clients before Kafka 2.1);
    /// `None` leaves it to the coordinator.
    pub retention_ms: Option<u64>,
    /// What to store. Topics and partitions exist: the door has checked.
    pub offsets: Vec<OffsetToCommit>,
}

/// One partition's offset.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OffsetToCommit {
    /// Name of the topic.
    pub topic: String,
    /// Id of the topic, where the door knows it.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionId,
    /// The record to be read next.
    pub offset: i64,
    /// Leader epoch of the record read last; -1 if unknown.
    pub leader_epoch: i32,
    /// The client's own words.
    pub metadata: String,
}

/// Read stored offsets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OffsetsAsked {
    /// The group.
    pub group: String,
    /// The member that asks, if it says (KIP-848).
    pub member_id: Option<String>,
    /// Its epoch; -1 if it does not say.
    pub member_epoch: i32,
    /// Offsets of undecided transactions are an error (KIP-447).
    pub require_stable: bool,
    /// Which; `None` is all that are stored.
    pub topics: Option<Vec<(String, Vec<PartitionId>)>>,
}

/// A stored offset.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CommittedOffset {
    /// Name of the topic.
    pub topic: String,
    /// Id of the topic at the commit, if it was known.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionId,
    /// The record to be read next; -1 if nothing is stored.
    pub offset: i64,
    /// As committed; -1 if unknown.
    pub leader_epoch: i32,
    /// As committed.
    pub metadata: String,
    /// Why the offset cannot be told.
    pub error: Option<ErrorCode>,
}

/// Forget stored offsets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ForgetOffsets {
    /// The group.
    pub group: String,
    /// Topic and partition.
    pub partitions: Vec<(String, PartitionId)>,
}

/// Who assigns in a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum GroupKind {
    /// Its members (JoinGroup, SyncGroup).
    Classic,
    /// Its coordinator (KIP-848).
    Consumer,
}

impl GroupKind {
    /// Kafka's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// KIP-848: the target assignment is to be made.
    Assigning,
    /// KIP-848: members move towards the target assignment.
    Reconciling,
    /// Everybody has its assignment.
    Stable,
    /// Unknown, or removed.
    Dead,
}

impl GroupState {
    /// Kafka's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// A group in a list of groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// The group.
    pub group: String,
    /// `consumer`, or what its members said.
    pub protocol_type: String,
    /// What it is doing.
    pub state: GroupState,
    /// Who assigns.
    pub kind: GroupKind,
}

/// A group, described.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupDescription {
    /// A classic group.
    Classic(ClassicDescription),
    /// A group of KIP-848.
    Consumer(ConsumerDescription),
}

/// A classic group, described.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClassicDescription {
    /// The group.
    pub group: String,
    /// What it is doing.
    pub state: GroupState,
    /// `consumer`, `connect`, …
    pub protocol_type: String,
    /// The assignment protocol chosen; empty without a generation.
    pub protocol: String,
    /// Its members.
    pub members: Vec<ClassicMember>,
}

/// A member of a classic group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClassicMember {
    /// Its id.
    pub member_id: String,
    /// Name of a static member.
    pub instance_id: Option<String>,
    /// Who it is.
    pub caller: Caller,
    /// Opaque.
    pub metadata: Bytes,
    /// Opaque.
    pub assignment: Bytes,
}

/// A group of KIP-848, described.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerDescription {
    /// The group.
    pub group: String,
    /// What it is doing.
    pub state: GroupState,
    /// Grows with each change of members, subscriptions or topics.
    pub group_epoch: i32,
    /// Epoch of the target assignment.
    pub assignment_epoch: i32,
    /// Who made the target assignment.
    pub assignor: String,
    /// Its members.
    pub members: Vec<ConsumerMember>,
}

/// A member of a group of KIP-848.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConsumerMember {
    /// Its id.
    pub member_id: String,
    /// Name of a static member.
    pub instance_id: Option<String>,
    /// Where it is.
    pub rack_id: Option<String>,
    /// What it has reached.
    pub member_epoch: i32,
    /// Who it is.
    pub caller: Caller,
    /// Topics by name.
    pub subscribed_topics: Vec<String>,
    /// Topics by regular expression.
    pub subscribed_regex: String,
    /// What it owns.
    pub assignment: Vec<TopicPartitions>,
    /// What it shall own.
    pub target: Vec<TopicPartitions>,
    /// It speaks the classic protocol (a group that is being upgraded).
    pub is_classic: bool,
}

/// The node that coordinates a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Coordinator {
    /// The node.
    pub node: NodeId,
    /// The partition of [`super::OFFSETS_TOPIC`] that it leads therefore.
    pub partition: PartitionId,
}
