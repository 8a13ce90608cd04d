//! How a gateway reaches the nodes that lead: itself at once, others through the mesh.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::group::request::{GroupReply, GroupRequest, Listed};
use rafka_broker::metadata::Image;
use rafka_broker::request::{
    ActiveProducer, Admin, AdminReply, DeleteRecords, EpochEnd, EpochEnds, Fetch, Fetched, FoundOffset, ListOffsets,
    LogDir, PartitionReply, Produce, Produced,
};
use rafka_broker::{ErrorCode, Failure};
use rafka_kafka::desk::{FrontDesk, Settling};
use rafka_model::{NodeId, Offset, TopicPartition};
use rafka_protocols::rpc::CallError;
use rafka_protocols::{Answer, DecodeError, Frame, Protocol, admin, fetch, group, produce};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::service::kafka::Desk;

/// What a leader or coordinator is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Produce(Produce),
    Fetch(Fetch),
    ListOffsets(ListOffsets),
    DeleteRecords(DeleteRecords),
    EpochEnds(EpochEnds),
    Producers(TopicPartition),
    Group(Box<GroupRequest>),
    ListGroups,
    LogDirs,
}

/// The answer to the [`Ask`] of the same kind.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Produced(Vec<PartitionReply<Produced>>),
    Fetched(Vec<PartitionReply<Fetched>>),
    Offsets(Vec<PartitionReply<FoundOffset>>),
    Deleted(Vec<PartitionReply<Offset>>),
    Ends(Vec<PartitionReply<Option<EpochEnd>>>),
    Producers(Vec<ActiveProducer>),
    Group(GroupReply),
    Groups(Vec<Listed>),
    LogDirs(Vec<LogDir>),
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) failure: Failure,
    /// The node may have done what it was asked.
    pub(crate) outcome_unknown: bool,
}

impl Trouble {
    /// Whether it was done is known: it was not.
    pub(crate) fn refused(failure: Failure) -> Self {
        let outcome_unknown = failure.code == ErrorCode::OutcomeUnknown;
        Self { failure, outcome_unknown }
    }
}

/// The nodes of the cluster, as a gateway needs them.
pub(crate) trait Reach: Send + Sync + 'static {
    /// The metadata that this node has applied.
    fn image(&self) -> Arc<Image>;

    /// Every image from now on.
    fn images(&self) -> watch::Receiver<Arc<Image>>;

    /// This node.
    fn me(&self) -> Option<NodeId>;

    /// Asks a node, which never passes it on; at most `within`. Dropping the future gives up waiting.
    fn ask(&self, to: NodeId, ask: Ask, within: Duration) -> impl Future<Output = Result<Told, Trouble>> + Send;
}

/// The real ones.
pub(crate) struct MeshReach {
    /// This node.
    pub(crate) desk: Desk,
}

impl Reach for MeshReach {
    fn image(&self) -> Arc<Image> {
        self.cluster().images.current()
    }

    fn images(&self) -> watch::Receiver<Arc<Image>> {
        self.cluster().images.subscribe()
    }

    fn me(&self) -> Option<NodeId> {
        self.cluster().standing().node
    }

    async fn ask(&self, to: NodeId, ask: Ask, within: Duration) -> Result<Told, Trouble> {
        if self.me() == Some(to) {
            let answer = tokio::time::timeout(within, self.here(ask)).await;
            return answer.unwrap_or_else(|_| Err(unknown("this node did not answer in time")));
        }
        let image = self.image();
        let Some(node) = Cluster::reachable(&image, to) else {
            let text = format!("node {to} is not known here");
            return Err(Trouble::refused(Failure::new(ErrorCode::LeaderNotAvailable, text)));
        };
        drop(image);
        let (protocol, frame) = encode(ask);
        let answer = self.cluster().exchange(&node, protocol, frame, within).await;
        let frame = answer.map_err(|error| trouble(to, &error))?;
        match decode(protocol, &frame) {
            Ok(Ok(told)) => Ok(told),
            Ok(Err(failure)) => Err(Trouble::refused(failure)),
            Err(error) => Err(unknown(&format!("the answer of node {to} cannot be read: {error}"))),
        }
    }
}

impl MeshReach {
    fn cluster(&self) -> &Cluster {
        &self.desk.service.cluster
    }

    async fn here(&self, ask: Ask) -> Result<Told, Trouble> {
        let desk = &self.desk;
        Ok(match ask {
            Ask::Produce(request) => Told::Produced(match desk.produce(request).await {
                Settling::Settled(replies) => replies,
                Settling::Waiting(replies) => replies.await,
            }),
            Ask::Fetch(request) => Told::Fetched(desk.fetch(request).await),
            Ask::ListOffsets(request) => Told::Offsets(desk.list_offsets(request).await),
            Ask::DeleteRecords(request) => Told::Deleted(desk.delete_records(request).await),
            Ask::EpochEnds(request) => Told::Ends(desk.epoch_ends(request).await),
            Ask::Producers(at) => Told::Producers(desk.producers(at).await.map_err(Trouble::refused)?),
            Ask::Group(request) => Told::Group(desk.group(*request).await.map_err(Trouble::refused)?),
            Ask::LogDirs => Told::LogDirs(desk.log_dirs().await),
            Ask::ListGroups => Told::Groups(desk.list_groups().await.map_err(Trouble::refused)?),
        })
    }
}

fn encode(ask: Ask) -> (Protocol, Frame) {
    let fetch = |request| (Protocol::Fetch, fetch::encode_request(&request));
    match ask {
        Ask::Produce(request) => (Protocol::Produce, produce::encode_request(&request)),
        Ask::Fetch(request) => fetch(fetch::Request::Fetch(request)),
        Ask::ListOffsets(request) => fetch(fetch::Request::ListOffsets(request)),
        Ask::DeleteRecords(request) => fetch(fetch::Request::DeleteRecords(request)),
        Ask::EpochEnds(request) => fetch(fetch::Request::EpochEnds(request)),
        Ask::Producers(at) => fetch(fetch::Request::Producers(at)),
        Ask::Group(request) => (Protocol::Group, group::encode_request(&group::Request::Group(*request))),
        Ask::LogDirs => (Protocol::Admin, admin::encode_request(&Admin::DescribeLogDirs)),
        Ask::ListGroups => (Protocol::Group, group::encode_request(&group::Request::List)),
    }
}

fn decode(protocol: Protocol, frame: &Frame) -> Result<Answer<Told>, DecodeError> {
    Ok(match protocol {
        Protocol::Produce => produce::decode_reply(frame)?.map(Told::Produced),
        Protocol::Admin => match admin::decode_reply(frame)? {
            Ok(AdminReply::LogDirs(dirs)) => Ok(Told::LogDirs(dirs)),
            Ok(_) => return Err(DecodeError::Missing("answer about log directories")),
            Err(failure) => Err(failure),
        },
        Protocol::Group => match group::decode_reply(frame)? {
            Ok(group::Reply::Group(reply)) => Ok(Told::Group(reply)),
            Ok(group::Reply::List(groups)) => Ok(Told::Groups(groups)),
            Ok(group::Reply::Coordinator(_)) => return Err(DecodeError::Missing("answer about groups")),
            Err(failure) => Err(failure),
        },
        _ => fetch::decode_reply(frame)?.map(|reply| match reply {
            fetch::Reply::Fetched(parts) => Told::Fetched(parts),
            fetch::Reply::Offsets(parts) => Told::Offsets(parts),
            fetch::Reply::Deleted(parts) => Told::Deleted(parts),
            fetch::Reply::Ends(parts) => Told::Ends(parts),
            fetch::Reply::Producers(producers) => Told::Producers(producers),
        }),
    })
}

fn unknown(message: &str) -> Trouble {
    Trouble { failure: Failure::new(ErrorCode::OutcomeUnknown, message), outcome_unknown: true }
}

fn trouble(node: NodeId, error: &CallError) -> Trouble {
    let code = match error {
        error if error.is_outcome_unknown() => ErrorCode::OutcomeUnknown,
        CallError::Busy => ErrorCode::Busy,
        CallError::TooLarge(_) => ErrorCode::MessageTooLarge,
        _ => ErrorCode::LeaderNotAvailable,
    };
    let failure = Failure::new(code, format!("node {node} cannot be asked through the mesh: {error}"));
    Trouble { failure, outcome_unknown: error.is_outcome_unknown() }
}

/// As a read has it: whatever became of it, it can be asked again, elsewhere perhaps. Consumers know no other word for it.
pub(crate) fn read_trouble(trouble: Trouble) -> Trouble {
    let Trouble { mut failure, .. } = trouble;
    if matches!(failure.code, ErrorCode::OutcomeUnknown | ErrorCode::Busy) {
        failure.code = ErrorCode::LeaderNotAvailable;
    }
    Trouble { failure, outcome_unknown: false }
}

/// Would another leader, or the same one a little later, answer otherwise? Then nothing was done.
pub(crate) fn leads_elsewhere(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::UnknownTopicId
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotReady
            | ErrorCode::Busy
    )
}
