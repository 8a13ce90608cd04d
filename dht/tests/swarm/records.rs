//! Records to put and find.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};
use rafka_broker::metadata::PartitionState;
use rafka_dht::{Body, Key, NameRecord, Payload, SignedRecord, Signer, Version, directory};
use rafka_model::{LeaderEpoch, MetadataIndex, NodeId, PartitionEpoch, TopicId, TopicName};

/// The version at `index`.
pub(crate) fn at(index: u64) -> Version {
    Version::new(0, MetadataIndex(index))
}

/// A small record under a key of its own.
pub(crate) fn name_record(signer: &Signer, id: u8, index: u64) -> SignedRecord {
    let id = TopicId([id; 16]);
    let payload = Payload::Name(NameRecord { id, name: TopicName::new("orders").expect("legal") });
    let body = Body { cluster: signer.cluster_id(), key: Key::Name(id), version: at(index), payload: Some(payload) };
    signer.sign(body).expect("fits")
}

/// The records of a cluster of these nodes with one topic, whose partitions they lead in turn.
pub(crate) fn cluster_records(
    signer: &Signer,
    members: &[(NodeId, PeerId, Multiaddr)],
    topic: &str,
    partitions: usize,
    index: u64,
) -> Vec<SignedRecord> {
    use rafka_broker::metadata::{Cluster, Image, Topic};
    let topic = Topic {
        id: TopicId([1; 16]),
        name: TopicName::new(topic).expect("legal"),
        configs: BTreeMap::new(),
        replication_factor: 1,
        partitions: members.iter().cycle().take(partitions).map(|(id, ..)| led_by(*id)).collect(),
        changed: MetadataIndex(index),
    };
    let cluster =
        Cluster { id: signer.cluster_id(), public_key: signer.public_key(), join_token_hash: None, feature_level: 1 };
    let image = Image {
        index: MetadataIndex(index),
        cluster: Some(cluster),
        voters: vec![members[0].0],
        nodes: members.iter().map(|(id, peer, address)| (*id, node(*id, peer, address))).collect(),
        topic_ids: BTreeMap::from([(topic.name.clone(), topic.id)]),
        topics: BTreeMap::from([(topic.id, topic.into())]),
        ..Image::default()
    };
    let bodies = directory::records_of(&image, directory::Quorum::default());
    bodies.into_iter().map(|body| signer.sign(body).expect("fits")).collect()
}

fn led_by(id: NodeId) -> PartitionState {
    PartitionState {
        replicas: vec![id],
        leader: Some(id),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        isr: vec![id],
        elr: Vec::new(),
        ..PartitionState::default()
    }
}

fn node(id: NodeId, peer: &PeerId, address: &Multiaddr) -> rafka_broker::metadata::Node {
    rafka_broker::metadata::Node {
        id,
        peer_id: peer.to_string(),
        directory: rafka_model::DirectoryId([1; 16]),
        epoch: rafka_model::BrokerEpoch(id.0),
        boot: rafka_model::BootId([1; 16]),
        incarnation: [1; 16],
        addresses: vec![address.to_string()],
        lanes: Vec::new(),
        kafka: BTreeMap::new(),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: rafka_broker::metadata::Role::Broker,
        version: String::new(),
        fenced: false,
        draining: false,
        features_max: 1,
    }
}
