//! Topics, their configs and offsets, and the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_broker::Failure;
use rafka_broker::request::{
    Admin as Request, AdminReply, ClusterDescription, ConfigChange, DeleteRecords, FoundOffset, ListOffsets, NewTopic,
    OffsetSpec, TopicDescription, TopicReply,
};
use rafka_dht::Route;
use rafka_model::{Offset, PartitionId, TopicName, TopicPartition};
use rafka_protocols::{DecodeError, Frame, Protocol, admin, fetch};

use crate::mesh::Intent;
use crate::{Client, Error, ErrorKind, leaders};

/// Reads and changes metadata. Any node answers reads and passes changes on to the controller.
///
/// A dropped future of a change leaves open whether it happened. `validate_only` checks and changes nothing.
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

/// What became of one of several topics.
pub type PerTopic = Vec<(String, Result<TopicDescription, Error>)>;

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Makes topics; each succeeds or fails by itself. Producers and consumers of this client find them at once.
    ///
    /// # Errors
    /// The whole request failed: [`ErrorKind::Unreachable`], [`ErrorKind::OutcomeUnknown`].
    pub async fn create_topics(&self, topics: Vec<NewTopic>, validate_only: bool) -> Result<PerTopic, Error> {
        let request = Request::CreateTopics { topics, validate_only };
        self.change(&request, validate_only, "cannot create").await
    }

    /// Makes one topic.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it exists; [`ErrorKind::Invalid`] for a name, number or config that is refused.
    pub async fn create_topic(&self, topic: NewTopic, validate_only: bool) -> Result<TopicDescription, Error> {
        only(self.create_topics(vec![topic], validate_only).await?)
    }

    /// Removes topics and their records; each by itself.
    ///
    /// # Errors
    /// As [`Self::create_topics`].
    pub async fn delete_topics(&self, names: Vec<String>, validate_only: bool) -> Result<PerTopic, Error> {
        let request = Request::DeleteTopics { names, validate_only };
        self.change(&request, validate_only, "cannot delete").await
    }

    /// Changes configs of a topic; `None` goes back to the default.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Invalid`], [`ErrorKind::Unreachable`], [`ErrorKind::OutcomeUnknown`].
    pub async fn alter_configs(
        &self,
        name: &str,
        changes: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Result<TopicDescription, Error> {
        let change = |value: Option<String>| value.map_or(ConfigChange::Reset, ConfigChange::Set);
        let changes = changes.into_iter().map(|(key, value)| (key, change(value))).collect();
        let request = Request::AlterConfigs { name: name.to_owned(), changes, replace: false, validate_only };
        only(self.change(&request, validate_only, "cannot alter").await?)
    }

    /// Grows a topic to `total` partitions. Keys move to other partitions by that; records stay where they are.
    ///
    /// # Errors
    /// As [`Self::alter_configs`].
    pub async fn add_partitions(&self, name: &str, total: u32, validate_only: bool) -> Result<TopicDescription, Error> {
        let (name, assignments) = (name.to_owned(), Vec::new());
        let request = Request::AddPartitions { name, total, assignments, validate_only };
        only(self.change(&request, validate_only, "cannot add partitions to").await?)
    }

    /// Every topic, with its partitions.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`].
    pub async fn topics(&self) -> Result<Vec<TopicDescription>, Error> {
        let described = self.describe(Vec::new()).await?;
        described.into_iter().map(|topic| topic.map_err(|failure| refused("all topics", &failure))).collect()
    }

    /// Topics with their partitions, in the order named.
    ///
    /// # Errors
    /// The whole request failed: [`ErrorKind::Unreachable`].
    pub async fn describe_topics(&self, names: &[String]) -> Result<PerTopic, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let described = self.describe(names.to_vec()).await?;
        let mut results = Vec::with_capacity(names.len());
        for (name, result) in names.iter().zip(described) {
            results.push((name.clone(), self.explain(name, result, "cannot describe").await));
        }
        Ok(results)
    }

    /// The cluster: nodes, controller, voters, counts.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`].
    pub async fn cluster(&self) -> Result<ClusterDescription, Error> {
        let what = "the cluster cannot be described";
        match self.ask(&Request::DescribeCluster, Intent::Read, what).await? {
            AdminReply::Cluster(cluster) => Ok(*cluster),
            _ => Err(strange(what)),
        }
    }

    /// Looks offsets up, each by itself, at the leaders of the partitions.
    pub async fn list_offsets(
        &self,
        topic: &TopicName,
        wanted: Vec<(PartitionId, OffsetSpec)>,
    ) -> Vec<(PartitionId, Result<FoundOffset, Error>)> {
        let request = |lines: &[(Arc<Route>, OffsetSpec)]| {
            let line = |(route, spec): &(Arc<Route>, OffsetSpec)| (at(route), Some(route.leader_epoch), *spec);
            fetch::Request::ListOffsets(ListOffsets { partitions: lines.iter().map(line).collect() })
        };
        let replies = |reply| match reply {
            fetch::Reply::Offsets(found) => Some(found),
            _ => None,
        };
        leaders::ask(&self.client, topic, wanted, request, replies).await
    }

    /// Drops the records below an offset (`None`: all that are committed), each partition by itself. Returns the new
    /// log starts.
    pub async fn delete_records(
        &self,
        topic: &TopicName,
        below: Vec<(PartitionId, Option<Offset>)>,
    ) -> Vec<(PartitionId, Result<Offset, Error>)> {
        let request = |lines: &[(Arc<Route>, Option<Offset>)]| {
            let line = |(route, below): &(Arc<Route>, Option<Offset>)| (at(route), *below);
            fetch::Request::DeleteRecords(DeleteRecords { partitions: lines.iter().map(line).collect() })
        };
        let replies = |reply| match reply {
            fetch::Reply::Deleted(starts) => Some(starts),
            _ => None,
        };
        leaders::ask(&self.client, topic, below, request, replies).await
    }

    async fn describe(&self, names: Vec<String>) -> Result<Vec<Result<TopicDescription, Failure>>, Error> {
        let what = "topics cannot be described";
        let since = self.client.routes().changed();
        match self.ask(&Request::DescribeTopics { names, since }, Intent::Read, what).await? {
            AdminReply::Described(topics) => Ok(topics),
            _ => Err(strange(what)),
        }
    }

    async fn change(&self, request: &Request, validate_only: bool, what: &str) -> Result<PerTopic, Error> {
        let intent = if validate_only { Intent::Read } else { Intent::Change };
        let AdminReply::Topics(replies) = self.ask(request, intent, &format!("{what} topics")).await? else {
            return Err(strange(what));
        };
        let mut results = Vec::with_capacity(replies.len());
        for TopicReply { name, result } in replies {
            if let (Ok((description, index)), false) = (&result, validate_only) {
                self.client.routes().expect(&description.name, *index);
            }
            let result = self.explain(&name, result.map(|(description, _)| description), what).await;
            results.push((name, result));
        }
        Ok(results)
    }

    async fn explain<T>(&self, name: &str, result: Result<T, Failure>, what: &str) -> Result<T, Error> {
        match result {
            Ok(value) => Ok(value),
            Err(failure) => match refused(name, &failure) {
                error if error.kind() == ErrorKind::NotFound => {
                    let error = Error::refused(format!("topic {name:?} not found"), &failure, None);
                    Err(Box::pin(self.client.with_suggestion(name, error)).await)
                }
                _ => Err(refused(&format!("{what} topic {name:?}"), &failure)),
            },
        }
    }

    async fn ask(&self, request: &Request, intent: Intent, what: &str) -> Result<AdminReply, Error> {
        let frame: Frame = admin::encode_request(request);
        let mesh = self.client.handle();
        let asked = mesh.ask_any(Protocol::Admin, &frame, self.client.deadline(), intent, admin::decode_reply).await;
        asked.map(|(reply, _)| reply).map_err(|trouble| {
            let error = trouble.into_error(what);
            match error.kind() {
                ErrorKind::OutcomeUnknown => error.hint("it may have happened: describe the topic before trying again"),
                _ => error,
            }
        })
    }
}

fn at(route: &Route) -> TopicPartition {
    TopicPartition { topic: route.topic, partition: route.partition }
}

fn refused(what: &str, failure: &Failure) -> Error {
    Error::refused(what, failure, None)
}

fn strange(what: &str) -> Error {
    Error::new(ErrorKind::Failed, what).because(DecodeError::Missing("answer of the kind asked for").to_string())
}

fn only(results: PerTopic) -> Result<TopicDescription, Error> {
    results.into_iter().next().map_or_else(|| Err(strange("the change")), |(_, result)| result)
}
