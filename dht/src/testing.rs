//! Records, images and clocks for the tests of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use rafka_broker::metadata::{Cluster, Image, Node, PartitionState, Role, Topic};
use rafka_model::{
    BootId, BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, MetadataIndex, Monotonic, NodeId, PartitionEpoch,
    TopicId, TopicName,
};

use crate::record::{Body, Envelope, NameRecord, Payload, Version, encode_body};
use crate::{Clock, Key, Signer};

/// The name record of topic `[id; 16]` at `index`.
pub(crate) fn name_body(cluster: ClusterId, id: u8, name: &str, index: u64) -> Body {
    let id = TopicId([id; 16]);
    let name = TopicName::new(name).expect("legal");
    Body {
        cluster,
        key: Key::Name(id),
        version: Version::new(0, MetadataIndex(index)),
        payload: Some(Payload::Name(NameRecord { id, name })),
    }
}

/// Signs a body by a key that has no right to.
pub(crate) fn forge(signer: &Signer, body: &Body) -> Vec<u8> {
    let own = Body { cluster: signer.cluster_id(), ..body.clone() };
    let signed = signer.sign(own).expect("fits");
    let signature = Envelope::decode(signed.bytes()).expect("ours").signature;
    let envelope = Envelope { key_generation: 0, body: encode_body(body).expect("fits"), signature };
    envelope.encode().expect("fits")
}

/// A clock that moves when it is told to.
#[derive(Clone, Default)]
pub(crate) struct FakeClock(Arc<AtomicU64>);

impl FakeClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).expect("short"), SeqCst);
    }

    pub(crate) fn now(&self) -> Monotonic {
        Monotonic(self.0.load(SeqCst))
    }

    pub(crate) fn clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

/// A node with a peer id made from its number.
pub(crate) fn node(id: u64) -> Node {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&id.to_be_bytes());
    let key = libp2p::identity::Keypair::ed25519_from_bytes(seed).expect("32 bytes");
    Node {
        id: NodeId(id),
        peer_id: key.public().to_peer_id().to_string(),
        directory: DirectoryId([1; 16]),
        epoch: BrokerEpoch(id),
        boot: BootId([1; 16]),
        incarnation: [1; 16],
        addresses: vec![format!("/ip4/10.0.0.{}/tcp/7300", id % 250)],
        lanes: Vec::new(),
        kafka: BTreeMap::new(),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: "0.1.0".to_owned(),
        fenced: false,
        draining: false,
        features_max: 1,
    }
}

/// A partition with these replicas, led by the first.
pub(crate) fn partition(replicas: &[u64], epoch: i32) -> PartitionState {
    let replicas: Vec<_> = replicas.iter().map(|id| NodeId(*id)).collect();
    PartitionState {
        leader: replicas.first().copied(),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch),
        isr: replicas.clone(),
        elr: Vec::new(),
        replicas,
        ..PartitionState::default()
    }
}

/// A topic `[id; 16]` whose partitions are led by `leaders`.
pub(crate) fn topic(id: u8, name: &str, leaders: &[u64], changed: u64) -> Topic {
    Topic {
        id: TopicId([id; 16]),
        name: TopicName::new(name).expect("legal"),
        configs: BTreeMap::new(),
        replication_factor: 1,
        partitions: leaders.iter().map(|leader| partition(&[*leader], 1)).collect(),
        changed: MetadataIndex(changed),
    }
}

/// An image of `signer`'s cluster at `index`, with nodes 1 to 3 (1 votes) and these topics.
pub(crate) fn image(signer: &Signer, index: u64, topics: &[Topic]) -> Image {
    let cluster =
        Cluster { id: signer.cluster_id(), public_key: signer.public_key(), join_token_hash: None, feature_level: 1 };
    Image {
        index: MetadataIndex(index),
        cluster: Some(cluster),
        voters: vec![NodeId(1)],
        nodes: (1..=3).map(|id| (NodeId(id), node(id))).collect(),
        topics: topics.iter().map(|topic| (topic.id, topic.clone().into())).collect(),
        topic_ids: topics.iter().map(|topic| (topic.name.clone(), topic.id)).collect(),
        ..Image::default()
    }
}
