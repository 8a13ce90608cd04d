//! What replicas say to each other and to the controller.

use rafka_model::{BrokerEpoch, Chunks, LeaderEpoch, NodeId, Offset, PartitionEpoch, TopicPartition};

use crate::ErrorCode;

/// A node in one of its registrations.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Identity {
    /// Which node.
    pub node: NodeId,
    /// Index of its registration (KIP-903).
    pub broker_epoch: BrokerEpoch,
}

/// A follower's fetch of partitions that one node leads. A fetcher has one outstanding at a time; several fetchers of a
/// pair of nodes carry disjoint partitions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplicaFetch {
    /// Who fetches.
    pub replica: NodeId,
    /// Its registration: what an older one says is not heard (KIP-903).
    pub broker_epoch: BrokerEpoch,
    /// Counted up by the fetcher, from 1: a request that was overtaken is not heard.
    pub request: u64,
    /// What it wants.
    pub partitions: Vec<FetchPartition>,
}

/// One partition of a [`ReplicaFetch`]. It tells the leader how far the follower's log reaches, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FetchPartition {
    /// Which partition.
    pub at: TopicPartition,
    /// The epoch in which the follower believes.
    pub leader_epoch: LeaderEpoch,
    /// The follower's log end.
    pub offset: Offset,
    /// Epoch of the record before `offset`; `None` if its log is empty.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Offset behind the last record that is flushed to the follower's disk.
    pub flushed: Offset,
    /// Most bytes to send, but for a first batch.
    pub max_bytes: u32,
}

/// The answer to a [`ReplicaFetch`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplicaFetched {
    /// The request's: an earlier process of the node may have used the same number.
    pub broker_epoch: BrokerEpoch,
    /// The request's.
    pub request: u64,
    /// In the order of the request; partitions that have nothing to tell may be missing.
    pub partitions: Vec<FetchedPartition>,
}

/// One partition of a [`ReplicaFetched`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchedPartition {
    /// Which partition.
    pub at: TopicPartition,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// What came of it.
    pub outcome: Fetched,
}

/// What a leader says to a follower's fetch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fetched {
    /// The logs match so far; here is more, if there is more.
    Records {
        /// The leader's.
        high_watermark: Offset,
        /// The leader's: the follower may forget what lies before it.
        log_start: Offset,
        /// Whole batches, the first of which begins at the offset asked for.
        batches: Chunks,
    },
    /// The follower's last record is not in the leader's log (KIP-595): of the largest epoch that is at most `epoch`, only
    /// what lies before `end` can be.
    Diverging {
        /// The leader's largest epoch that is at most the follower's.
        epoch: LeaderEpoch,
        /// Where it ends in the leader's log.
        end: Offset,
    },
    /// The leader's log begins behind the follower's end: start anew there.
    Behind {
        /// The leader's log start.
        log_start: Offset,
    },
    /// Not served: wait, or look who leads.
    Refused(ErrorCode),
}

/// A leader's proposal of another in-sync set (KIP-497, with broker epochs as of KIP-903).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AlterPartition {
    /// Which partition.
    pub at: TopicPartition,
    /// Who proposes.
    pub leader: NodeId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// The state on which the proposal rests.
    pub partition_epoch: PartitionEpoch,
    /// The new in-sync set, each with the registration in which it fetched.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
    /// The leader has recovered from an unclean election.
    pub recovered: bool,
}
