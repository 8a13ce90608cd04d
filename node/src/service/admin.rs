//! Admin: reads from this node's image, changes at the controller.

use rafka_broker::request::{Admin, AdminReply};
use rafka_broker::{ErrorCode, Failure, describe_cluster, describe_topics};
use rafka_protocols::{Frame, admin};

use super::{Served, Service, malformed, outcome};
use crate::cluster::is_change;
use crate::mesh::Standing;

pub(super) async fn serve(service: &Service, standing: Standing, frame: &Frame) -> Served {
    let answer = match admin::decode_request(frame).map_err(malformed) {
        Ok(request) => answer(service, standing, request).await,
        Err(failure) => Err(failure),
    };
    (admin::encode_reply(&answer), outcome(&answer))
}

impl Service {
    /// Fills in the topic configs of this node's configuration where the creator set none. Harmless twice: what a
    /// topic sets wins.
    fn with_defaults(&self, change: Admin) -> Admin {
        match change {
            Admin::CreateTopics { mut topics, validate_only } => {
                for topic in &mut topics {
                    topic.configs = self.topic_defaults.over(std::mem::take(&mut topic.configs));
                }
                Admin::CreateTopics { topics, validate_only }
            }
            other => other,
        }
    }
}

async fn answer(service: &Service, standing: Standing, request: Admin) -> Result<AdminReply, Failure> {
    let cluster = &service.cluster;
    let image = cluster.images.current();
    match request {
        Admin::DescribeTopics { names } => Ok(AdminReply::Described(describe_topics(&image, &names))),
        Admin::DescribeCluster => {
            let Some(me) = cluster.standing().node else {
                return Err(Failure::new(ErrorCode::NotReady, "this node has not joined yet"));
            };
            let mut description = describe_cluster(&image, cluster.controller_heard(), me)?;
            description.unreachable = cluster.unreachable(&image).await;
            Ok(AdminReply::Cluster(Box::new(description)))
        }
        // A member asks because its image names this node: pass nothing on, or two nodes could pass it round for ever.
        change if is_change(&change) && standing == Standing::Member => match &cluster.controller {
            Some(controller) => controller.admin(service.with_defaults(change)).await,
            None => Err(Failure::new(ErrorCode::NotController, "this node is not the controller")),
        },
        change => cluster.change(service.with_defaults(change)).await,
    }
}
