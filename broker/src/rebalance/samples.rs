//! Clusters for the simulation and unit tests.

use std::sync::Arc;

use rafka_model::{MetadataIndex, PartitionId, TopicId, TopicName};

use super::*;
use crate::metadata::Topic;
use crate::placement::{Candidate, Loads, place};
use crate::samples::node;

/// Nodes in service, from 1 on: rack (0: none) and weight.
pub(super) fn cluster(nodes: &[(u64, u32)]) -> Image {
    let mut image = Image::default();
    for (id, (rack, weight_milli)) in (1..).zip(nodes) {
        add_node(&mut image, id, *rack, *weight_milli);
    }
    image
}

pub(super) fn add_node(image: &mut Image, id: u64, rack: u64, weight_milli: u32) {
    let mut node = node(id);
    node.rack = (rack > 0).then(|| format!("r{rack}"));
    (node.weight_milli, node.fenced) = (weight_milli, false);
    image.last_node = node.id;
    image.nodes.insert(node.id, node);
}

pub(super) fn state(replicas: &[NodeId]) -> PartitionState {
    let (replicas, isr) = (replicas.to_vec(), replicas.to_vec());
    PartitionState { leader: replicas.first().copied(), replicas, isr, ..PartitionState::default() }
}

pub(super) fn add_topic(image: &mut Image, id: u8, replicas: &[Vec<NodeId>], replication_factor: u16) {
    let topic = Topic {
        id: TopicId([id; 16]),
        name: TopicName::new(&format!("t{id}")).expect("legal"),
        configs: BTreeMap::new(),
        replication_factor,
        partitions: replicas.iter().map(|replicas| state(replicas)).collect(),
        changed: MetadataIndex(0),
    };
    image.topics.insert(topic.id, Arc::new(topic));
}

/// As the controller places a new topic.
pub(super) fn create(image: &mut Image, id: u8, partitions: u32, factor: u16) {
    let takes = |node: &&crate::metadata::Node| !node.fenced && !node.draining;
    let nodes: Vec<_> = image.nodes.values().filter(takes).map(candidate).collect();
    let mut loads = Loads::default();
    states(image).for_each(|(_, state)| loads.add(&state.replicas));
    let placed = place(TopicId([id; 16]), 0..partitions, usize::from(factor), &nodes, &loads);
    add_topic(image, id, &placed, factor);
}

fn candidate(node: &crate::metadata::Node) -> Candidate {
    Candidate { id: node.id, rack: node.rack.clone(), weight_milli: node.weight_milli }
}

pub(super) fn states(image: &Image) -> impl Iterator<Item = (TopicPartition, &PartitionState)> {
    image.topics.values().flat_map(|topic| {
        let id = topic.id;
        (0..)
            .zip(&topic.partitions)
            .map(move |(i, state)| (TopicPartition { topic: id, partition: PartitionId(i) }, state))
    })
}

pub(super) fn change(image: &mut Image, at: TopicPartition) -> &mut PartitionState {
    let topic = Arc::make_mut(image.topics.get_mut(&at.topic).expect("known"));
    &mut topic.partitions[at.partition.0 as usize]
}

/// Replicas and preferred leaders by node in service.
pub(super) fn loads(image: &Image) -> BTreeMap<NodeId, (usize, usize)> {
    let serving = image.nodes.values().filter(|node| !node.fenced && !node.draining);
    let mut loads: BTreeMap<_, _> = serving.map(|node| (node.id, (0, 0))).collect();
    for (_, state) in states(image) {
        for (i, id) in state.replicas.iter().enumerate() {
            if let Some(load) = loads.get_mut(id) {
                load.0 += 1;
                load.1 += usize::from(i == 0);
            }
        }
    }
    loads
}
