//! The front desk: what the door needs of the node behind it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rafka_broker::Failure;
use rafka_broker::group::request::{Coordinator, GroupReply, GroupRequest, Listed};
use rafka_broker::metadata::Image;
use rafka_broker::request::{
    ActiveProducer, Admin, AdminReply, DeleteRecords, EpochEnd, EpochEnds, Fetch, Fetched, FoundOffset, ListOffsets,
    LogDir, PartitionReply, Produce, Produced,
};
use rafka_model::{BrokerEpoch, MetadataIndex, NodeId, Offset, ProducerId, TopicPartition};

/// A node, as its Kafka door sees it. Every answer names things by topic id; names are looked up in [`Self::image`].
pub trait FrontDesk: Send + Sync + 'static {
    /// The metadata that this node has applied.
    fn image(&self) -> Arc<Image>;

    /// This node's id, once it has joined.
    fn node(&self) -> Option<NodeId>;

    /// Epoch of this node's registration.
    fn node_epoch(&self) -> Option<BrokerEpoch>;

    /// Leader of the metadata quorum, as far as this node knows.
    fn controller(&self) -> Option<NodeId>;

    /// Returns once this node has applied metadata up to `index` and opened what it says. Cancel safe.
    fn reached(&self, index: MetadataIndex) -> impl Future<Output = ()> + Send;

    /// Appends; the future ends once everything is in the log or refused, what it returns then waits for safety.
    fn produce(&self, request: Produce) -> impl Future<Output = Settling> + Send;

    /// Reads, waiting as the request says.
    fn fetch(&self, request: Fetch) -> impl Future<Output = Vec<PartitionReply<Fetched>>> + Send;

    /// Looks offsets up.
    fn list_offsets(&self, request: ListOffsets) -> impl Future<Output = Vec<PartitionReply<FoundOffset>>> + Send;

    /// Does it ask other nodes for that? Then the questions of one connection may be under way side by side.
    fn asks_others(&self) -> bool {
        false
    }

    /// Moves log starts.
    fn delete_records(&self, request: DeleteRecords) -> impl Future<Output = Vec<PartitionReply<Offset>>> + Send;

    /// Says where leader epochs end; `None` for an epoch that is newer than the log knows.
    fn epoch_ends(&self, request: EpochEnds) -> impl Future<Output = Vec<PartitionReply<Option<EpochEnd>>>> + Send;

    /// Reads metadata here, or has it changed by the controller.
    fn admin(&self, request: Admin) -> impl Future<Output = Result<AdminReply, Failure>> + Send;

    /// A producer id that nobody else has.
    fn next_producer_id(&self) -> impl Future<Output = Result<ProducerId, Failure>> + Send;

    /// Asks the coordinator of a group, which must be this node. May take minutes: a join waits for the group's other
    /// members. Dropping it gives up waiting, not what was asked.
    fn group(&self, request: GroupRequest) -> impl Future<Output = Result<GroupReply, Failure>> + Send;

    /// Do requests to a coordinator take effect in the order in which the futures of [`Self::group`] are first polled?
    /// Then the next of a connection need not wait for the answer to a commit.
    fn keeps_order_of_groups(&self) -> bool {
        true
    }

    /// The groups that this node coordinates.
    fn list_groups(&self) -> impl Future<Output = Result<Vec<Listed>, Failure>> + Send;

    /// Who coordinates a group; makes the topic of the coordinators if there is none.
    fn coordinator(&self, group: &str) -> impl Future<Output = Result<Coordinator, Failure>> + Send;

    /// As [`Self::epoch_ends`], beside a fetch from behind the epoch asked for: what the fetch itself would find out may
    /// be left to it.
    fn fetch_epoch_ends(
        &self,
        request: EpochEnds,
    ) -> impl Future<Output = Vec<PartitionReply<Option<EpochEnd>>>> + Send {
        self.epoch_ends(request)
    }

    /// Who produces to a partition that this node leads.
    ///
    /// # Errors
    /// As a fetch of it.
    fn producers(&self, partition: TopicPartition)
    -> impl Future<Output = Result<Vec<ActiveProducer>, Failure>> + Send;

    /// The log directories of whatever this node presents: its own, or those of other nodes too.
    fn log_dirs(&self) -> impl Future<Output = Vec<LogDir>> + Send;

    /// This node's configuration, under Kafka's names where Kafka has the setting.
    fn settings(&self) -> Vec<Setting>;

    /// Topic configs that new topics take over from this node's configuration.
    fn topic_defaults(&self) -> BTreeMap<String, String>;
}

/// A produce that is in the log, or refused.
pub enum Settling {
    /// Nothing to wait for.
    Settled(Vec<PartitionReply<Produced>>),
    /// Ends once the records are as safe as the request asks. Dropping it gives up waiting, not the records.
    Waiting(Pin<Box<dyn Future<Output = Vec<PartitionReply<Produced>>> + Send>>),
}

/// A setting of the node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Setting {
    /// Kafka's name if there is one, else `section.key`.
    pub name: String,
    /// Its value as text; `None` if it has none or must not be shown.
    pub value: Option<String>,
    /// True if nobody set it.
    pub is_default: bool,
    /// Must not be shown.
    pub is_secret: bool,
    /// What its values are.
    pub kind: SettingKind,
    /// What it does.
    pub doc: String,
}

/// What the values of a [`Setting`] are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SettingKind {
    /// Text.
    #[default]
    Text,
    /// An integer.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Values separated by commas.
    List,
}
