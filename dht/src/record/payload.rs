//! What records say. Maps with short names: later versions may add fields, and 128 partitions fit in a record.

use std::collections::BTreeMap;

use rafka_broker::metadata::{PartitionState, Role};
use rafka_model::{BrokerEpoch, LeaderEpoch, MetadataIndex, NodeId, PartitionEpoch, TopicId, TopicName};
use serde::{Deserialize, Serialize};

use crate::Key;

/// What a record says, by kind.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// Under [`Key::Quorum`].
    Quorum(QuorumRecord),
    /// Under [`Key::Node`].
    Node(NodeRecord),
    /// Under [`Key::Topic`].
    Topic(TopicRecord),
    /// Under [`Key::Shard`].
    Shard(ShardRecord),
    /// Under [`Key::Name`].
    Name(NameRecord),
}

impl Payload {
    /// True if this is what a record of `key` talks about.
    pub(crate) fn belongs_to(&self, key: &Key) -> bool {
        match (self, key) {
            (Self::Quorum(_), Key::Quorum) => true,
            (Self::Node(node), Key::Node(id)) => node.id == *id,
            (Self::Topic(topic), Key::Topic(name)) => topic.name == *name,
            (Self::Shard(shard), Key::Shard(topic, number)) => shard.topic == *topic && shard.shard == *number,
            (Self::Name(name), Key::Name(id)) => name.id == *id,
            _ => false,
        }
    }
}

/// Who the voters of the metadata quorum are.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct QuorumRecord {
    /// By node id.
    pub voters: Vec<Voter>,
    /// Raft term at the time of signing.
    pub term: u64,
    /// Metadata index at the time of signing.
    pub index: MetadataIndex,
    /// Version of the cluster's behaviour.
    pub feature_level: u32,
    /// The cluster key that will follow this one, while a rotation is under way.
    #[serde(default)]
    pub next_key: Option<[u8; 32]>,
}

/// A voter and how to reach it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Voter {
    /// Its node id.
    pub id: NodeId,
    /// libp2p peer id, as text.
    pub peer_id: String,
    /// Multiaddrs as text, without `/p2p`.
    pub addresses: Vec<String>,
}

/// A node and how to reach it. Whether it is in service is not here: a fenced node leads nothing, and the
/// topics' records say so; its own record changes only when it registers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its node id.
    pub id: NodeId,
    /// libp2p peer id, as text.
    pub peer_id: String,
    /// Incarnation: the index of its latest registration, and the version of this record.
    pub epoch: BrokerEpoch,
    /// Multiaddrs as text, without `/p2p`.
    pub addresses: Vec<String>,
    /// Addresses of its lanes, multiaddrs as text, without `/p2p`; none if it has no lanes.
    #[serde(default)]
    pub lanes: Vec<String>,
    /// Kafka endpoints by listener name: `host:port`.
    #[serde(default)]
    pub kafka: BTreeMap<String, String>,
    /// Failure domain.
    #[serde(default)]
    pub rack: Option<String>,
    /// Part it plays.
    #[serde(default)]
    pub role: Role,
    /// Program version.
    #[serde(default)]
    pub version: String,
}

/// A topic, with its first shard.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has, over all shards.
    pub partitions: u32,
    /// Replicas of each partition.
    pub replication_factor: u16,
    /// Overrides that a client acts on.
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    /// Partitions 0 to 127.
    pub shard: Leaders,
}

/// A further shard of a topic.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// The topic's id.
    pub topic: TopicId,
    /// Number of the shard, from 1.
    pub shard: u32,
    /// Its partitions, the first being `shard * 128`.
    pub leaders: Leaders,
}

/// The name of a topic.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The topic's id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
}

/// Who leads the partitions of one shard. Nodes are listed once and partitions point into the list.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Leaders {
    #[serde(rename = "n")]
    nodes: Vec<NodeId>,
    #[serde(rename = "p")]
    partitions: Vec<Packed>,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct Packed {
    #[serde(rename = "l")]
    leader: Option<u16>,
    #[serde(rename = "e")]
    leader_epoch: LeaderEpoch,
    #[serde(rename = "p")]
    partition_epoch: PartitionEpoch,
    #[serde(rename = "r", default)]
    replicas: Vec<u16>,
    /// Bit i: replica i is in sync (the first 64).
    #[serde(rename = "i", default)]
    isr: u64,
}

/// One partition as a record tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Partition {
    /// Who leads; `None` while nobody can.
    pub leader: Option<NodeId>,
    /// Generation of the leadership.
    pub leader_epoch: LeaderEpoch,
    /// Version of the partition's metadata.
    pub partition_epoch: PartitionEpoch,
    /// Where it lives; empty if the record had no room for it.
    pub replicas: Vec<NodeId>,
    /// In-sync replicas.
    pub isr: Vec<NodeId>,
}

impl Leaders {
    /// Packs the state of consecutive partitions; `with_replicas` tells of more than the leader.
    pub(crate) fn pack(states: &[PartitionState], with_replicas: bool) -> Self {
        let mut nodes: Vec<NodeId> = states
            .iter()
            .flat_map(|state| state.leader.iter().chain(state.replicas.iter().filter(|_| with_replicas)))
            .copied()
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let place = |id: &NodeId| nodes.binary_search(id).ok().and_then(|at| u16::try_from(at).ok());
        let partitions = states
            .iter()
            .map(|state| {
                let replicas: &[NodeId] = if with_replicas { &state.replicas } else { &[] };
                Packed {
                    leader: state.leader.as_ref().and_then(place),
                    leader_epoch: state.leader_epoch,
                    partition_epoch: state.partition_epoch,
                    replicas: replicas.iter().filter_map(place).collect(),
                    isr: (0u32..64)
                        .zip(replicas)
                        .filter(|(_, id)| state.isr.contains(id))
                        .fold(0, |bits, (bit, _)| bits | 1 << bit),
                }
            })
            .collect();
        Self { nodes, partitions }
    }

    /// Partitions of the shard.
    #[must_use]
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The partition at `index` of the shard. Pointers out of the list name nobody.
    #[must_use]
    pub fn partition(&self, index: usize) -> Option<Partition> {
        let packed = self.partitions.get(index)?;
        let node = |at: &u16| self.nodes.get(usize::from(*at)).copied();
        Some(Partition {
            leader: packed.leader.as_ref().and_then(node),
            leader_epoch: packed.leader_epoch,
            partition_epoch: packed.partition_epoch,
            replicas: packed.replicas.iter().filter_map(node).collect(),
            isr: (0u32..64)
                .zip(&packed.replicas)
                .filter(|(bit, _)| packed.isr >> bit & 1 == 1)
                .filter_map(|(_, at)| node(at))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_leaders_replicas_and_the_isr() {
        let state = |leader: Option<u64>, replicas: &[u64], isr: &[u64]| PartitionState {
            replicas: replicas.iter().map(|id| NodeId(*id)).collect(),
            leader: leader.map(NodeId),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(9),
            isr: isr.iter().map(|id| NodeId(*id)).collect(),
            elr: Vec::new(),
            ..PartitionState::default()
        };
        let states = [state(Some(70), &[70, 5, 900], &[70, 900]), state(None, &[5], &[5])];
        let leaders = Leaders::pack(&states, true);
        assert_eq!(leaders.len(), 2);
        for (at, state) in states.iter().enumerate() {
            let partition = leaders.partition(at).expect("packed");
            assert_eq!((partition.leader, &partition.replicas), (state.leader, &state.replicas));
            assert_eq!((partition.isr, partition.leader_epoch), (state.isr.clone(), LeaderEpoch(4)));
        }
        let slim = Leaders::pack(&states, false).partition(0).expect("packed");
        assert_eq!((slim.leader, slim.replicas.len(), slim.isr.len()), (Some(NodeId(70)), 0, 0));
        assert_eq!(leaders.partition(2), None);
    }

    #[test]
    fn pointers_out_of_the_list_name_nobody() {
        let packed = Packed {
            leader: Some(7),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            replicas: vec![0, 9],
            isr: u64::MAX,
        };
        let leaders = Leaders { nodes: vec![NodeId(3)], partitions: vec![packed] };
        let partition = leaders.partition(0).expect("there");
        assert_eq!((partition.leader, partition.replicas, partition.isr), (None, vec![NodeId(3)], vec![NodeId(3)]));
    }
}
