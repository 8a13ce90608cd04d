//! The table of the APIs that are served: a row is an API and the module that answers it.
//!
//! From it follow dispatch, what ApiVersions advertises, the labels of metrics and the compatibility page.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;

use crate::ApiKey;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::header::{RequestHeader, response_frame};
use crate::messages::{Call, Message};
use crate::wire::{DecodeError, EncodeError, Reader};

/// A request that is to be answered.
pub(crate) struct Incoming<D> {
    pub(crate) door: Arc<Door<D>>,
    pub(crate) client: Client,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

/// Work on a request. Once it is done the next request of the connection may begin.
pub(crate) type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What a request has come to.
pub(crate) enum Outcome {
    /// Its reply is there.
    Done(Reply),
    /// It took effect, in order; its reply comes later.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

/// What goes back to the client.
pub(crate) enum Reply {
    /// A frame.
    Frame(Vec<Bytes>),
    /// Nothing: the client does not wait for an answer.
    Silence,
    /// The connection ends: the one way to tell a client that does not wait for an answer, or cannot be given one.
    Close(&'static str),
}

macro_rules! apis {
    ($($key:ident => $module:ident,)*) => {
        pub(crate) mod produce;
        $(pub(crate) mod $module;)*

        /// Every API that is served, by number.
        pub const SERVED: &[ApiKey] = &[ApiKey::Produce, $(ApiKey::$key),*];

        /// Reads the request and begins to work on it; `None` if the API is not served.
        ///
        /// # Errors
        /// The request is malformed, or its version is not known.
        pub(crate) fn begin<D: FrontDesk>(
            key: ApiKey,
            call: Incoming<D>,
            body: &mut Reader,
        ) -> Result<Option<Work>, DecodeError> {
            Ok(Some(match key {
                ApiKey::Produce => produce::begin(read(&call, body)?, call),
                ApiKey::OffsetCommit if call.door.desk.keeps_order_of_groups() => {
                    offset_commit::begin(read(&call, body)?, call)
                }
                ApiKey::ListOffsets if call.door.desk.asks_others() => list_offsets::begin(read(&call, body)?, call),
                $(ApiKey::$key => {
                    let request = read::<crate::messages::$module::Request>(&call, body)?;
                    Box::pin(async move {
                        let response = $module::serve(&call.door, &call.client, call.version, request).await;
                        Outcome::Done(call.reply(key, &response))
                    })
                })*
                #[allow(unreachable_patterns, reason = "all tables of the schema may be served one day")]
                _ => return Ok(None),
            }))
        }
    };
}

// A module has `async fn serve<D: FrontDesk>(door, client, version, request) -> response`. Produce, OffsetCommit and, at
// a gateway, ListOffsets are done in two steps, so that waiting for replicas, disks and other nodes does not hold up what
// comes behind them.
apis! {
    Fetch => fetch,
    ListOffsets => list_offsets,
    Metadata => metadata,
    OffsetCommit => offset_commit,
    OffsetFetch => offset_fetch,
    FindCoordinator => find_coordinator,
    JoinGroup => join_group,
    Heartbeat => heartbeat,
    LeaveGroup => leave_group,
    SyncGroup => sync_group,
    DescribeGroups => describe_groups,
    ListGroups => list_groups,
    ApiVersions => api_versions,
    CreateTopics => create_topics,
    DeleteTopics => delete_topics,
    DeleteRecords => delete_records,
    InitProducerId => init_producer_id,
    OffsetForLeaderEpoch => offset_for_leader_epoch,
    DescribeAcls => describe_acls,
    CreateAcls => create_acls,
    DeleteAcls => delete_acls,
    DescribeConfigs => describe_configs,
    AlterConfigs => alter_configs,
    DescribeLogDirs => describe_log_dirs,
    CreatePartitions => create_partitions,
    DeleteGroups => delete_groups,
    ElectLeaders => elect_leaders,
    IncrementalAlterConfigs => incremental_alter_configs,
    ListPartitionReassignments => list_partition_reassignments,
    OffsetDelete => offset_delete,
    DescribeClientQuotas => describe_client_quotas,
    AlterClientQuotas => alter_client_quotas,
    DescribeUserScramCredentials => describe_user_scram_credentials,
    AlterUserScramCredentials => alter_user_scram_credentials,
    DescribeQuorum => describe_quorum,
    UpdateFeatures => update_features,
    DescribeCluster => describe_cluster,
    DescribeProducers => describe_producers,
    ConsumerGroupHeartbeat => consumer_group_heartbeat,
    ConsumerGroupDescribe => consumer_group_describe,
    ListConfigResources => list_config_resources,
    DescribeTopicPartitions => describe_topic_partitions,
}

/// Begins with a reply; unless it is there at once, the next request of the connection need not wait for it.
pub(crate) fn ahead(reply: impl Future<Output = Reply> + Send + 'static) -> Work {
    let mut reply: Pin<Box<dyn Future<Output = Reply> + Send>> = Box::pin(reply);
    Box::pin(async move {
        match poll_fn(|cx| Poll::Ready(reply.as_mut().poll(cx))).await {
            Poll::Ready(reply) => Outcome::Done(reply),
            Poll::Pending => Outcome::Later(reply),
        }
    })
}

/// Reads a request; its version is one that is served. Like Kafka, takes no offence at bytes behind it: librdkafka sends
/// three too many with Metadata from version 9 on (librdkafka#5049).
fn read<C: Call>(call: &Incoming<impl Sized>, body: &mut Reader) -> Result<C, DecodeError> {
    C::decode(call.version, body)
}

impl<D> Incoming<D> {
    /// The frame of a response; its errors are counted.
    pub(crate) fn reply<M: Message>(&self, key: ApiKey, response: &M) -> Reply {
        let metrics = &self.door.metrics;
        response.error_codes(&mut |code| {
            if code != 0 {
                metrics.failed(key, code);
            }
        });
        match response_frame(key, self.version, self.correlation_id, response) {
            Ok(frame) => Reply::Frame(frame),
            Err(error) => unanswerable(key, &error),
        }
    }
}

fn unanswerable(key: ApiKey, error: &EncodeError) -> Reply {
    tracing::error!(api = key.name(), %error, "a response cannot be written");
    Reply::Close("a response cannot be written")
}

/// The answer to a request of an API or version that is not served, where there is one (KIP-511: ApiVersions is
/// answered in its oldest layout, with the range that is served).
pub(crate) fn unsupported(header: &RequestHeader) -> Reply {
    if header.key != ApiKey::ApiVersions.number() {
        return Reply::Close("an API or version that is not served");
    }
    let response = api_versions::too_new();
    match response_frame(ApiKey::ApiVersions, 0, header.correlation_id, &response) {
        Ok(frame) => Reply::Frame(frame),
        Err(error) => unanswerable(ApiKey::ApiVersions, &error),
    }
}

/// Does a request wait for other clients, perhaps for minutes? It is given up with its connection: whether it was heard
/// or not, the coordinator counts on nobody who is silent.
pub(crate) fn waits_for_others(key: ApiKey) -> bool {
    matches!(key, ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// Is this version of the API served?
pub(crate) fn is_served(key: ApiKey, version: i16) -> bool {
    SERVED.contains(&key) && key.versions().contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_names_each_api_once() {
        assert!(SERVED.windows(2).all(|pair| pair[0].number() < pair[1].number()));
    }
}
