//! Small clusters for unit tests.

use std::collections::BTreeMap;

use rafka_model::{ClusterId, LeaderEpoch, MetadataIndex, NodeId, PartitionEpoch, TopicId, TopicName};

use crate::metadata::{Delta, Entry, Image, PartitionState, Topic};
pub(crate) use crate::samples::{Random, node};

pub(crate) fn founded() -> Delta {
    let public_key = [7; 32];
    let cluster_id = ClusterId::of_public_key(&public_key);
    Delta::ClusterFounded { cluster_id, public_key, join_token_hash: Some([1; 32]), feature_level: 1 }
}

/// Entries that found a cluster of nodes 1 to `nodes`, in service, with a topic of so many partitions (0: no topic).
pub(crate) fn entries(nodes: u64, partitions: u32) -> Vec<Entry> {
    let mut entries: Vec<_> = (1..=nodes)
        .map(|id| {
            let deltas = vec![Delta::NodeRegistered(node(id)), Delta::NodeUnfenced { id: NodeId(id) }];
            Entry { index: MetadataIndex(id), deltas }
        })
        .collect();
    entries[0].deltas.insert(0, founded());
    entries[0].deltas.push(Delta::VotersChanged { voters: vec![NodeId(1)] });
    if partitions > 0 {
        let state = |i: u32| {
            let home = NodeId(1 + u64::from(i) % nodes);
            PartitionState {
                replicas: vec![home],
                leader: Some(home),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                isr: vec![home],
                elr: vec![],
                ..PartitionState::default()
            }
        };
        let topic = Topic {
            id: TopicId([5; 16]),
            name: TopicName::new("orders").expect("legal"),
            configs: BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
            replication_factor: 1,
            partitions: (0..partitions).map(state).collect(),
            changed: MetadataIndex(0),
        };
        entries.push(Entry { index: MetadataIndex(nodes + 1), deltas: vec![Delta::TopicCreated(topic)] });
    }
    entries
}

/// The image of [`entries`].
pub(crate) fn image(nodes: u64, partitions: u32) -> Image {
    let mut image = Image::default();
    for entry in entries(nodes, partitions) {
        image.apply(&entry).expect("the sample is legal");
    }
    image
}
