//! Small clusters, and chance, for unit tests.

use std::collections::BTreeMap;

use rafka_model::{
    BootId, BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, MetadataIndex, NodeId, PartitionEpoch, TopicId, TopicName,
};

use crate::metadata::{Delta, Entry, Image, Node, PartitionState, Role, Topic};

pub(crate) fn founded() -> Delta {
    let public_key = [7; 32];
    let cluster_id = ClusterId::of_public_key(&public_key);
    Delta::ClusterFounded { cluster_id, public_key, join_token_hash: Some([1; 32]), feature_level: 1 }
}

pub(crate) fn node(id: u64) -> Node {
    Node {
        id: NodeId(id),
        peer_id: format!("peer-{id}"),
        directory: DirectoryId([id as u8; 16]),
        epoch: BrokerEpoch(id),
        boot: BootId([1; 16]),
        incarnation: [id as u8; 16],
        addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", 7300 + id)],
        lanes: Vec::new(),
        kafka: BTreeMap::from([("external".to_owned(), "127.0.0.1:9092".to_owned())]),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: "0.1.0".to_owned(),
        fenced: true,
        draining: false,
        features_max: 1,
    }
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

/// splitmix64: enough for choices, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}
