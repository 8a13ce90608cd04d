//! ElectLeaders: gives partitions back to their preferred leaders, or to any replica.

use rafka_broker::ErrorCode;
use rafka_broker::metadata::{Image, PartitionState};
use rafka_model::PartitionId;
use rafka_model::limits::REQUEST_PARTITIONS_MAX;

use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name};
use crate::error;
use crate::messages::elect_leaders::{PartitionResult, ReplicaElectionResult, Request, Response, TopicPartitions};
use crate::wire::Str;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let named_partitions: usize = request.topic_partitions.iter().flatten().map(|topic| topic.partitions.len()).sum();
    if !matches!(request.election_type, PREFERRED | UNCLEAN) || named_partitions > REQUEST_PARTITIONS_MAX {
        return Response { error_code: error::number(ErrorCode::InvalidRequest), ..Response::default() };
    }
    let image = door.desk.image();
    let unclean = request.election_type == UNCLEAN;
    let replica_election_results = match request.topic_partitions {
        Some(topics) => topics.into_iter().map(|topic| named(&image, topic, unclean)).collect(),
        None => all(&image, unclean),
    };
    Response { replica_election_results, ..Response::default() }
}

fn named(image: &Image, asked: TopicPartitions, unclean: bool) -> ReplicaElectionResult {
    let topic = topic_by_name(image, &asked.topic);
    let result = |index: &i32| {
        let state = u32::try_from(*index).ok().and_then(|index| topic?.partition(PartitionId(index)));
        let (error_code, text) = match state {
            Some(state) => refusal(state, unclean),
            None => (error::number(ErrorCode::UnknownTopicOrPartition), "there is no such partition"),
        };
        PartitionResult { partition_id: *index, error_code, error_message: Some(text.into()) }
    };
    ReplicaElectionResult { partition_result: asked.partitions.iter().map(result).collect(), topic: asked.topic }
}

/// All partitions; those that need no election are not told of.
fn all(image: &Image, unclean: bool) -> Vec<ReplicaElectionResult> {
    let topics = image.topics.values().map(|topic| {
        let refusals = (0..).zip(&topic.partitions).map(|(index, state)| (index, refusal(state, unclean)));
        let needed = refusals.filter(|(_, (code, _))| *code != error::number(ErrorCode::ElectionNotNeeded));
        let result = |(partition_id, (error_code, text)): (i32, (i16, &'static str))| PartitionResult {
            partition_id,
            error_code,
            error_message: Some(text.into()),
        };
        ReplicaElectionResult {
            topic: Str::from(topic.name.to_string()),
            partition_result: needed.map(result).collect(),
        }
    });
    topics.filter(|topic| !topic.partition_result.is_empty()).collect()
}

/// Why no leader is elected. While a partition has one replica there is nothing to choose: it leads as soon as it can.
fn refusal(state: &PartitionState, unclean: bool) -> (i16, &'static str) {
    match state.leader {
        Some(_) if unclean => (error::number(ErrorCode::ElectionNotNeeded), "the partition has a leader"),
        Some(leader) if state.replicas.first() == Some(&leader) => {
            (error::number(ErrorCode::ElectionNotNeeded), "the preferred replica leads")
        }
        None if unclean => (error::number(ErrorCode::EligibleLeadersNotAvailable), "no replica is in service"),
        _ => (error::number(ErrorCode::PreferredLeaderNotAvailable), "the preferred replica is not in service"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake::decides::{ask, deciding_with};
    use rafka_model::NodeId;

    /// Partition 1 of "orders" has no leader.
    fn lose_a_leader(fake: &mut crate::fake::Fake) {
        let mut image = fake.image.lock();
        for topic in Arc::make_mut(&mut image).topics.values_mut() {
            Arc::make_mut(topic).partitions[1].leader = None;
        }
        assert!(image.nodes.contains_key(&NodeId(1)));
    }

    fn codes(response: &Response) -> Vec<(i32, i16)> {
        let partitions = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        partitions.map(|partition| (partition.partition_id, partition.error_code)).collect()
    }

    #[tokio::test]
    async fn nobody_is_elected_while_there_is_no_choice() {
        let door = deciding_with(lose_a_leader);
        let orders = TopicPartitions { topic: "orders".into(), partitions: vec![0, 1, 7] };
        let request =
            |election_type| Request { election_type, topic_partitions: Some(vec![orders.clone()]), timeout_ms: 1 };
        assert_eq!(codes(&ask(&door, 0, &request(PREFERRED)).await), [(0, 84), (1, 80), (7, 3)]);
        assert_eq!(codes(&ask(&door, 2, &request(UNCLEAN)).await), [(0, 84), (1, 83), (7, 3)]);
        assert_eq!(ask(&door, 1, &request(7)).await.error_code, 42);
    }

    #[tokio::test]
    async fn of_all_partitions_those_are_told_that_need_a_leader() {
        let door = deciding_with(lose_a_leader);
        for (version, election_type, code) in [(0, PREFERRED, 80), (2, PREFERRED, 80), (2, UNCLEAN, 83)] {
            let request = Request { election_type, topic_partitions: None, timeout_ms: 1 };
            assert_eq!(codes(&ask(&door, version, &request).await), [(1, code)]);
        }
        let door = crate::fake::decides::deciding();
        let request = Request { election_type: PREFERRED, topic_partitions: None, timeout_ms: 1 };
        assert!(ask(&door, 2, &request).await.replica_election_results.is_empty());
    }
}
