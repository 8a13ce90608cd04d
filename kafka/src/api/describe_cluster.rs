//! DescribeCluster: the nodes and who passes changes on (KIP-700).

use rafka_broker::metadata::Image;
use rafka_broker::{ErrorCode, Failure};

use crate::api::metadata::{CLUSTER_OPERATIONS, controller};
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::describe_cluster::{DescribeClusterBroker, Request, Response};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, client: &Client, _: i16, request: Request) -> Response {
    let image = door.desk.image();
    let Some(cluster) = &image.cluster else {
        let (error_code, error_message) =
            error::refusal(&Failure::new(ErrorCode::NotReady, "this node knows no cluster yet"));
        return Response { error_code, error_message, ..Response::default() };
    };
    if request.endpoint_type != BROKERS {
        let (error_code, text) = match request.endpoint_type {
            CONTROLLERS => (error::MISMATCHED_ENDPOINT_TYPE, "this is a listener of brokers, not of controllers"),
            _ => (error::UNSUPPORTED_ENDPOINT_TYPE, "there are no endpoints of this type"),
        };
        return Response { error_code, error_message: Some(text.into()), ..Response::default() };
    }
    Response {
        cluster_id: cluster.id.to_string().into(),
        controller_id: controller(door, &door.endpoints(client, &image)),
        brokers: brokers(door, client, &image, request.include_fenced_brokers),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        ..Response::default()
    }
}

fn brokers<D: FrontDesk>(door: &Door<D>, client: &Client, image: &Image, fenced: bool) -> Vec<DescribeClusterBroker> {
    let me = door.desk.node();
    let shown = image.nodes.values().filter(|node| fenced || !node.fenced || me == Some(node.id));
    let broker = |node| {
        let endpoint = door.config.advertise.endpoint(client, me, node)?;
        Some(DescribeClusterBroker {
            broker_id: endpoint.node,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
            is_fenced: fenced && node.fenced,
        })
    };
    shown.filter_map(broker).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake::decides::{ask, deciding, deciding_with};
    use rafka_model::NodeId;

    #[tokio::test]
    async fn nodes_are_told_and_fenced_ones_when_asked_for() {
        let door = deciding_with(|fake| {
            let image = &mut *fake.image.lock();
            Arc::make_mut(image).nodes.get_mut(&NodeId(2)).expect("there").fenced = true;
        });
        let told = ask(&door, 0, &Request::default()).await;
        assert_eq!((told.error_code, told.controller_id, told.brokers.len()), (0, 1, 1));
        assert_eq!((&*told.brokers[0].host, told.brokers[0].port), ("127.0.0.1", 9092));
        assert_eq!(told.cluster_id.len(), 64);
        assert_eq!(told.cluster_authorized_operations, i32::MIN);
        let all =
            Request { include_fenced_brokers: true, include_cluster_authorized_operations: true, ..Request::default() };
        let told = ask(&door, 2, &all).await;
        assert_eq!(told.brokers.iter().map(|broker| broker.is_fenced).collect::<Vec<_>>(), [false, true]);
        assert_eq!(told.cluster_authorized_operations, CLUSTER_OPERATIONS);
    }

    #[tokio::test]
    async fn controllers_are_not_told_here() {
        for (endpoint_type, code) in [(CONTROLLERS, 114), (9, 115)] {
            let told = ask(&deciding(), 1, &Request { endpoint_type, ..Request::default() }).await;
            assert_eq!((told.error_code, told.brokers.len()), (code, 0));
        }
    }
}
