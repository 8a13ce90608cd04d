//! Admin: reads from this node's image, changes at the controller.

use std::sync::Arc;
use std::time::Duration;

use rafka_broker::metadata::Image;
use rafka_broker::request::{Admin, AdminReply, LogDir, SwarmDescription, SwarmPeer};
use rafka_broker::{ErrorCode, Failure, describe_cluster, describe_topics};
use rafka_model::MetadataIndex;
use rafka_model::limits::METADATA_SINCE_MS_MAX;
use rafka_protocols::{Frame, admin};

use super::{Served, Service, malformed, outcome};
use crate::cluster::is_change;
use crate::mesh::{PeerInfo, Snapshot, Standing};

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

    /// Where this node's logs are, and how large.
    pub(super) fn log_dirs(&self) -> Vec<LogDir> {
        let stats = self.partitions.stats();
        let space = self.data.space().ok();
        let offline = stats.partitions.iter().find_map(|partition| partition.offline.clone());
        vec![LogDir {
            path: self.data.root().display().to_string(),
            failure: offline.map(|why| Failure::new(ErrorCode::StorageError, why)),
            total_bytes: space.map_or(0, |space| space.total_bytes),
            usable_bytes: space.map_or(0, |space| space.free_bytes),
            partitions: stats.partitions.iter().map(|found| (found.partition, found.bytes)).collect(),
        }]
    }
}

/// Answers a request of whoever has this `standing`.
pub(super) async fn answer(service: &Service, standing: Standing, request: Admin) -> Result<AdminReply, Failure> {
    let cluster = &service.cluster;
    let image = cluster.images.current();
    match request {
        Admin::DescribeTopics { names, since } => {
            let image = image_since(service, since).await?;
            Ok(AdminReply::Described(describe_topics(&image, &names)))
        }
        Admin::DescribeCluster => {
            let Some(me) = cluster.standing().node else {
                return Err(Failure::new(ErrorCode::NotReady, "this node has not joined yet"));
            };
            let mut description = describe_cluster(&image, cluster.controller_heard(), me)?;
            description.unreachable = cluster.unreachable(&image).await;
            Ok(AdminReply::Cluster(Box::new(description)))
        }
        Admin::DescribeSwarm => match cluster.mesh.snapshot().await {
            Some(swarm) => Ok(AdminReply::Swarm(Box::new(describe_swarm(service, swarm)))),
            None => Err(Failure::new(ErrorCode::NotReady, "this node is stopping")),
        },
        Admin::DescribeLogDirs => Ok(AdminReply::LogDirs(service.log_dirs())),
        Admin::InitProducerId => cluster.next_producer_id().await.map(AdminReply::Producer),
        Admin::AllocateProducerIds if standing != Standing::Member => {
            let text = "blocks of producer ids are for nodes of the cluster; ask for one producer id instead";
            Err(Failure::new(ErrorCode::ClusterAuthorizationFailed, text))
        }
        // A member asks because its image names this node: pass nothing on, or two nodes could pass it round for ever.
        change if is_change(&change) && standing == Standing::Member => match &cluster.controller {
            Some(controller) => controller.admin(service.with_defaults(change)).await,
            None => Err(Failure::new(ErrorCode::NotController, "this node is not the controller")),
        },
        change => cluster.change(service.with_defaults(change)).await,
    }
}

/// The metadata as of `since` or later, which is not long in coming if there is such an index.
async fn image_since(service: &Service, since: MetadataIndex) -> Result<Arc<Image>, Failure> {
    let images = &service.cluster.images;
    let within = Duration::from_millis(METADATA_SINCE_MS_MAX);
    tokio::time::timeout(within, images.wait_for(since)).await.map_err(|_| {
        let text = format!("this node knows the metadata up to {}, not {since}", images.current().index);
        Failure::new(ErrorCode::NotReady, text)
    })
}

fn describe_swarm(service: &Service, swarm: Snapshot) -> SwarmDescription {
    let cluster = &service.cluster;
    let image = cluster.images.current();
    let peer = |info: PeerInfo| {
        let peer_id = info.peer.to_string();
        SwarmPeer {
            node: image.node_by_peer(&peer_id).map(|node| node.id),
            peer_id,
            address: info.address.map(|address| address.to_string()),
            connections: info.connections,
            round_trip_us: info.round_trip.and_then(|time| u64::try_from(time.as_micros()).ok()),
            agent: info.agent,
            member: info.member,
            in_routing_table: info.in_routing_table,
            in_gossip_mesh: info.in_gossip_mesh,
        }
    };
    SwarmDescription {
        node: cluster.standing().node,
        peer_id: cluster.mesh.local().to_string(),
        listening: swarm.listening.iter().map(ToString::to_string).collect(),
        routing_table: u32::try_from(swarm.routing_table).unwrap_or(u32::MAX),
        peers: swarm.peers.into_iter().map(peer).collect(),
    }
}
