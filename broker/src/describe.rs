//! Reads of metadata: functions of an image, for any node to answer from its own.

use rafka_model::{NodeId, PartitionId, TopicId, TopicName};

use crate::metadata::{Image, Topic};
use crate::request::{ClusterDescription, TopicDescription};
use crate::{ErrorCode, Failure};

/// A topic as its metadata says.
#[must_use]
pub fn describe_topic(topic: &Topic) -> TopicDescription {
    TopicDescription {
        id: topic.id,
        name: topic.name.clone(),
        configs: topic.configs.clone(),
        replication_factor: topic.replication_factor,
        partitions: (0..).map(PartitionId).zip(topic.partitions.iter().cloned()).collect(),
    }
}

/// The topics of these names, in the order asked; all of them, by name, when `names` is empty.
///
/// An unknown name is a [`ErrorCode::UnknownTopicOrPartition`] in its place.
#[must_use]
pub fn describe_topics(image: &Image, names: &[String]) -> Vec<Result<TopicDescription, Failure>> {
    if names.is_empty() {
        return image
            .topic_ids
            .keys()
            .filter_map(|name| image.topic(name))
            .map(|topic| Ok(describe_topic(topic)))
            .collect();
    }
    let one = |name: &String| {
        let found = TopicName::new(name).ok().and_then(|name| image.topic(&name));
        found.map(describe_topic).ok_or_else(|| unknown_topic(name))
    };
    names.iter().map(one).collect()
}

/// The cluster as `answered_by` sees it; `controller` is the leader of the quorum as far as it knows.
///
/// # Errors
/// [`ErrorCode::NotReady`] before the image has its first entry.
pub fn describe_cluster(
    image: &Image,
    controller: Option<NodeId>,
    answered_by: NodeId,
) -> Result<ClusterDescription, Failure> {
    let Some(cluster) = &image.cluster else {
        return Err(Failure::new(ErrorCode::NotReady, "this node knows no cluster yet"));
    };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let states = || image.topics.values().flat_map(|topic| &topic.partitions);
    Ok(ClusterDescription {
        cluster_id: cluster.id,
        controller,
        voters: image.voters.clone(),
        nodes: image.nodes.values().cloned().collect(),
        answered_by,
        index: image.index,
        topics: count(image.topics.len()),
        partitions: count(states().count()),
        offline_partitions: count(states().filter(|state| state.leader.is_none()).count()),
        under_replicated: count(states().filter(|state| state.isr.len() < state.replicas.len()).count()),
        unreachable: Vec::new(),
    })
}

pub(crate) fn unknown_topic(name: &str) -> Failure {
    let name: String = name.chars().take(rafka_model::limits::TOPIC_NAME_BYTES_MAX).collect();
    Failure::new(ErrorCode::UnknownTopicOrPartition, format!("topic {name:?} does not exist"))
}

pub(crate) fn unknown_topic_id(id: TopicId) -> Failure {
    Failure::new(ErrorCode::UnknownTopicId, format!("no topic has the id {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn topics_come_in_the_order_asked_and_unknown_ones_say_so() {
        let image = testing::image(2, 3);
        let found = describe_topics(&image, &["nope".to_owned(), "orders".to_owned(), "a/b".to_owned()]);
        let codes: Vec<_> = found.iter().map(|found| found.as_ref().err().map(|failure| failure.code)).collect();
        let unknown = Some(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(codes, [unknown, None, unknown]);
        let all = describe_topics(&image, &[]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0], found[1]);
        assert_eq!(all[0].as_ref().expect("known").partitions[2].0, PartitionId(2));
    }

    #[test]
    fn a_cluster_is_counted() {
        let mut image = testing::image(3, 5);
        for topic in image.topics.values_mut() {
            std::sync::Arc::make_mut(topic).partitions[4].leader = None;
        }
        let cluster = describe_cluster(&image, Some(NodeId(1)), NodeId(2)).expect("founded");
        assert_eq!((cluster.topics, cluster.partitions, cluster.offline_partitions), (1, 5, 1));
        assert_eq!((cluster.nodes.len(), cluster.index, cluster.under_replicated), (3, image.index, 0));
        let nothing = describe_cluster(&Image::default(), None, NodeId(2)).expect_err("no cluster");
        assert_eq!(nothing.code, ErrorCode::NotReady);
    }
}
