//! DescribeQuorum: who decides on metadata, and how far they are (KIP-595, KIP-836).

use rafka_broker::metadata::Image;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::NodeId;

use crate::advertise::number;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::describe_quorum::{
    Listener, Node, PartitionData, PartitionResult, ReplicaState, Request, Response, TopicResult,
};
use crate::wire::Uuid;

/// Kafka's name for the metadata log, which has one partition.
const METADATA_LOG: &str = "__cluster_metadata";
/// First version that tells where the voters are.
const DETAILS_FROM: i16 = 2;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, client: &Client, version: i16, request: Request) -> Response {
    let image = door.desk.image();
    if image.cluster.is_none() {
        let (error_code, error_message) =
            error::refusal(&Failure::new(ErrorCode::NotReady, "this node knows no cluster yet"));
        return Response { error_code, error_message, ..Response::default() };
    }
    if request.topics.len() > 1 || request.topics.iter().any(|topic| topic.partitions.len() > 1) {
        let error_code = error::number(ErrorCode::InvalidRequest);
        return Response { error_code, ..Response::default() };
    }
    let details = version >= DETAILS_FROM;
    let topics = request.topics.into_iter().map(|topic| TopicResult {
        partitions: topic
            .partitions
            .iter()
            .map(|asked| partition(door, &image, &topic.topic_name, asked, details))
            .collect(),
        topic_name: topic.topic_name,
    });
    let nodes = if details { nodes(door, client, &image) } else { Vec::new() };
    Response { topics: topics.collect(), nodes, ..Response::default() }
}

fn partition<D: FrontDesk>(
    door: &Door<D>,
    image: &Image,
    topic: &str,
    asked: &PartitionData,
    details: bool,
) -> PartitionResult {
    if topic != METADATA_LOG || asked.partition_index != 0 {
        return PartitionResult {
            partition_index: asked.partition_index,
            error_code: error::number(ErrorCode::UnknownTopicOrPartition),
            error_message: Some("only the metadata log has a quorum: __cluster_metadata, partition 0".into()),
            leader_id: -1,
            leader_epoch: -1,
            high_watermark: -1,
            ..PartitionResult::default()
        };
    }
    let (controller, me) = (door.desk.controller(), door.desk.node());
    // Entries are counted from 1, so the index of the last is the offset behind it. What others have is not known here.
    let end = i64::try_from(image.index.0).unwrap_or(i64::MAX);
    let known = |id: NodeId| image.nodes.get(&id).filter(|_| details);
    let directory = |id: NodeId| known(id).map_or(Uuid::ZERO, |node| Uuid(node.directory.0));
    let replica = |id: NodeId| ReplicaState {
        replica_id: number(id),
        replica_directory_id: directory(id),
        log_end_offset: if controller == Some(id) || me == Some(id) { end } else { -1 },
        ..ReplicaState::default()
    };
    PartitionResult {
        leader_id: controller.map_or(-1, number),
        high_watermark: end,
        current_voters: image.voters.iter().copied().map(replica).collect(),
        observers: me.into_iter().filter(|me| !image.voters.contains(me)).map(replica).collect(),
        ..PartitionResult::default()
    }
}

fn nodes<D: FrontDesk>(door: &Door<D>, client: &Client, image: &Image) -> Vec<Node> {
    let node = |id: &NodeId| {
        let node = image.nodes.get(id)?;
        let endpoint = door.config.advertise.endpoint(client, door.desk.node(), node);
        let listener = |endpoint: crate::advertise::Endpoint| Listener {
            // Kafka's own client takes nothing else.
            name: client.listener.to_uppercase().into(),
            host: endpoint.host,
            port: u16::try_from(endpoint.port).unwrap_or(0),
        };
        Some(Node { node_id: number(*id), listeners: endpoint.into_iter().map(listener).collect() })
    };
    image.voters.iter().filter_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding};
    use crate::messages::describe_quorum::TopicData;

    fn request(topic: &'static str, partition_index: i32) -> Request {
        let partitions = vec![PartitionData { partition_index }];
        Request { topics: vec![TopicData { topic_name: topic.into(), partitions }] }
    }

    #[tokio::test]
    async fn the_metadata_log_has_a_quorum_and_nothing_else_has() {
        for version in [0, 2] {
            let told = ask(&deciding(), version, &request(METADATA_LOG, 0)).await;
            let log = &told.topics[0].partitions[0];
            assert_eq!((log.error_code, log.leader_id, log.high_watermark), (0, 1, 7));
            let voters: Vec<_> =
                log.current_voters.iter().map(|voter| (voter.replica_id, voter.log_end_offset)).collect();
            assert_eq!((voters, log.observers.len()), (vec![(1, 7)], 0));
            assert_eq!(told.nodes.len(), usize::from(version >= 2));
            for other in [request(METADATA_LOG, 1), request("orders", 0)] {
                let told = ask(&deciding(), version, &other).await;
                assert_eq!(told.topics[0].partitions[0].error_code, 3);
            }
        }
        let told = ask(&deciding(), 2, &request(METADATA_LOG, 0)).await;
        let listener = &told.nodes[0].listeners[0];
        assert_eq!((told.nodes[0].node_id, &*listener.name, listener.port), (1, "DEFAULT", 9092));
        let mut twice = request(METADATA_LOG, 0);
        twice.topics[0].partitions.push(PartitionData::default());
        assert_eq!(ask(&deciding(), 2, &twice).await.error_code, 42);
    }
}
