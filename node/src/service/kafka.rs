//! The front desk of the Kafka door.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_broker::Failure;
use rafka_broker::group::request::{Coordinator, Listed};
use rafka_broker::group::{GroupReply, GroupRequest};
use rafka_broker::metadata::Image;
use rafka_broker::request::{
    ActiveProducer, Admin, AdminReply, DeleteRecords, EpochEnd, EpochEnds, Fetch, Fetched, FoundOffset, ListOffsets,
    LogDir, PartitionReply, Produce,
};
use rafka_kafka::desk::{FrontDesk, Setting, SettingKind, Settling};
use rafka_model::{BrokerEpoch, MetadataIndex, NodeId, Offset, ProducerId, TopicPartition};

use super::{Service, admin};
use crate::config::{Kind, Origin, Shown, Value, keys};
use crate::mesh::Standing;

/// This node, as its Kafka door sees it.
#[derive(Clone)]
pub(crate) struct Desk {
    /// Shared with the mesh door.
    pub(crate) service: Arc<Service>,
    /// The configuration.
    pub(crate) shown: Arc<[Shown]>,
}

/// Kafka's names of our settings.
const KAFKA_NAMES: &[(&str, &str)] = &[
    ("cluster.heartbeat_ms", "broker.heartbeat.interval.ms"),
    ("cluster.session_ms", "broker.session.timeout.ms"),
    ("groups.consumer_assignment_interval_ms", "group.consumer.assignment.interval.ms"),
    ("groups.consumer_heartbeat_interval_ms", "group.consumer.heartbeat.interval.ms"),
    ("groups.consumer_max_size", "group.consumer.max.size"),
    ("groups.consumer_migration_policy", "group.consumer.migration.policy"),
    ("groups.consumer_session_timeout_ms", "group.consumer.session.timeout.ms"),
    ("groups.initial_rebalance_delay_ms", "group.initial.rebalance.delay.ms"),
    ("groups.max_session_timeout_ms", "group.max.session.timeout.ms"),
    ("groups.max_size", "group.max.size"),
    ("groups.min_session_timeout_ms", "group.min.session.timeout.ms"),
    ("groups.offset_metadata_max_bytes", "offset.metadata.max.bytes"),
    ("groups.offsets_commit_timeout_ms", "offsets.commit.timeout.ms"),
    ("groups.offsets_retention_check_interval_ms", "offsets.retention.check.interval.ms"),
    ("groups.offsets_retention_minutes", "offsets.retention.minutes"),
    ("groups.offsets_topic_num_partitions", "offsets.topic.num.partitions"),
    ("groups.offsets_topic_replication_factor", "offsets.topic.replication.factor"),
    ("groups.offsets_topic_segment_bytes", "offsets.topic.segment.bytes"),
    ("kafka.advertise", "advertised.listeners"),
    ("kafka.auto_create_topics", "auto.create.topics.enable"),
    ("kafka.connections_max", "max.connections"),
    ("kafka.connections_per_address_max", "max.connections.per.ip"),
    ("kafka.idle_ms", "connections.max.idle.ms"),
    ("kafka.listen", "listeners"),
    ("kafka.request_bytes_max", "socket.request.max.bytes"),
    ("kafka.requests_bytes_max", "queued.max.request.bytes"),
    ("log.flush_ms", "log.flush.scheduler.interval.ms"),
    ("log.open_threads", "num.recovery.threads.per.data.dir"),
    ("log.retention_check_ms", "log.retention.check.interval.ms"),
    ("node.data_dir", "log.dirs"),
    ("node.rack", "broker.rack"),
    ("topic.compression_type", "compression.type"),
    ("topic.max_message_bytes", "message.max.bytes"),
    ("topic.min_insync_replicas", "min.insync.replicas"),
    ("topic.num_partitions", "num.partitions"),
];

impl FrontDesk for Desk {
    fn image(&self) -> Arc<Image> {
        self.service.cluster.images.current()
    }

    fn node(&self) -> Option<NodeId> {
        self.service.cluster.standing().node
    }

    fn node_epoch(&self) -> Option<BrokerEpoch> {
        self.service.cluster.standing().epoch
    }

    fn controller(&self) -> Option<NodeId> {
        self.service.cluster.controller_heard()
    }

    async fn reached(&self, index: MetadataIndex) {
        self.service.cluster.images.wait_for(index).await;
        self.service.partitions.reconciled(index).await;
    }

    async fn produce(&self, request: Produce) -> Settling {
        let unsettled = self.service.partitions.append(request).await;
        match unsettled.is_settled() {
            true => Settling::Settled(unsettled.settle().await),
            false => Settling::Waiting(Box::pin(unsettled.settle())),
        }
    }

    async fn fetch(&self, request: Fetch) -> Vec<PartitionReply<Fetched>> {
        self.service.partitions.fetch(request).await
    }

    async fn list_offsets(&self, request: ListOffsets) -> Vec<PartitionReply<FoundOffset>> {
        self.service.partitions.list_offsets(request).await
    }

    async fn delete_records(&self, request: DeleteRecords) -> Vec<PartitionReply<Offset>> {
        self.service.partitions.delete_records(request).await
    }

    async fn epoch_ends(&self, request: EpochEnds) -> Vec<PartitionReply<Option<EpochEnd>>> {
        self.service.partitions.epoch_ends(request)
    }

    async fn admin(&self, request: Admin) -> Result<AdminReply, Failure> {
        admin::answer(&self.service, Standing::Client, request).await
    }

    async fn next_producer_id(&self) -> Result<ProducerId, Failure> {
        self.service.cluster.next_producer_id().await
    }

    async fn group(&self, request: GroupRequest) -> Result<GroupReply, Failure> {
        self.service.groups.ask(request).await
    }

    async fn list_groups(&self) -> Result<Vec<Listed>, Failure> {
        self.service.groups.list().await
    }

    async fn coordinator(&self, group: &str) -> Result<Coordinator, Failure> {
        self.service.groups.coordinator(group).await
    }

    async fn producers(&self, partition: TopicPartition) -> Result<Vec<ActiveProducer>, Failure> {
        self.service.partitions.active_producers(partition)
    }

    async fn log_dirs(&self) -> Vec<LogDir> {
        self.service.log_dirs()
    }

    fn settings(&self) -> Vec<Setting> {
        self.shown.iter().filter_map(setting).collect()
    }

    fn topic_defaults(&self) -> BTreeMap<String, String> {
        self.service.topic_defaults.configs.clone()
    }
}

fn setting(shown: &Shown) -> Option<Setting> {
    let key = keys().find(|key| key.path() == shown.key)?;
    let value = shown.value.as_ref().map(|value| match value {
        Value::One(text) => text.clone(),
        Value::Many(texts) => texts.join(","),
    });
    Some(Setting {
        name: kafka_name(&shown.key),
        value: value.filter(|_| !key.is_secret()),
        is_default: shown.origin == Origin::Default,
        is_secret: key.is_secret(),
        kind: match key.kind {
            Kind::Integer { .. } => SettingKind::Integer,
            Kind::Boolean => SettingKind::Boolean,
            Kind::List(_) => SettingKind::List,
            _ => SettingKind::Text,
        },
        doc: key.doc.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned(),
    })
}

/// `log.retention.ms` of `topic.retention_ms`; our own name where Kafka has none.
fn kafka_name(path: &str) -> String {
    if let Some((_, name)) = KAFKA_NAMES.iter().find(|(own, _)| *own == path) {
        return (*name).to_owned();
    }
    match path.strip_prefix("topic.") {
        Some("durability" | "storage_engine") | None => path.to_owned(),
        Some(name) => format!("log.{}", name.replace('_', ".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn settings_have_kafkas_names_where_it_has_them() {
        let settings: Vec<_> = Config::default().shown.iter().filter_map(setting).collect();
        let named =
            |name: &str| settings.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(named("num.partitions").value.as_deref(), Some("4"));
        assert_eq!(named("log.retention.ms").kind, SettingKind::Integer);
        assert_eq!(named("auto.create.topics.enable").value.as_deref(), Some("true"));
        let token = named("cluster.join_token");
        assert!(token.is_secret && token.value.is_none() && token.is_default);
    }

    #[test]
    fn every_name_of_the_table_is_of_a_key() {
        for (own, _) in KAFKA_NAMES {
            assert!(keys().any(|key| key.path() == *own), "{own}");
        }
    }
}
