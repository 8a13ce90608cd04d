//! Groups as administrators see them: lists, descriptions, lag; moving and forgetting offsets.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use libp2p::PeerId;
use rafka_broker::group::request::{
    Caller, Commit, CommittedOffset, ForgetOffsets, GroupDescription, GroupReply, GroupRequest, Listed, OffsetToCommit,
    OffsetsAsked,
};
use rafka_broker::request::OffsetSpec;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::config::nearest;
use rafka_model::{NodeId, Offset, PartitionId, TopicId, TopicName};
use rafka_protocols::{Answer, DecodeError, Frame, Protocol, group};

use super::assignment;
use super::coordinator::{ask, strange};
use crate::{Admin, Error, ErrorKind};

/// The groups of a cluster.
#[derive(Clone, Debug, Default)]
pub struct GroupListing {
    /// Groups by name.
    pub groups: Vec<Listed>,
    /// Nodes that did not answer: the groups that they coordinate are missing.
    pub missing: Vec<(NodeId, Error)>,
}

/// How far a group is in one partition.
#[derive(Clone, Debug)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The record to be read next; `None` if nothing is committed.
    pub committed: Option<Offset>,
    /// Offset of the first record, and the one behind the last committed one.
    pub log: Result<(Offset, Offset), Error>,
    /// The client's own words at the commit.
    pub metadata: String,
    /// Id of the member that reads the partition, and who that is.
    pub member: Option<(String, Caller)>,
}

impl PartitionLag {
    /// Records that the group has still to read; `None` if nothing is committed or the log cannot be asked.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        let (committed, (_, end)) = (self.committed?, self.log.as_ref().ok()?);
        Some((end.0 - committed.0).max(0))
    }
}

impl Admin {
    /// Every group of the cluster: what each node says of those that it coordinates.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] if nobody answers.
    pub async fn list_groups(&self) -> Result<GroupListing, Error> {
        let cluster = self.cluster().await?;
        let frame = group::encode_request(&group::Request::List);
        let (frame, client) = (&frame, self.client());
        let asked = cluster.nodes.iter().filter(|node| !node.fenced).map(|node| async move {
            let what = || format!("groups of node {}", node.id);
            let peer: PeerId = node.peer_id.parse().map_err(|_| (node.id, Error::new(ErrorKind::Failed, what())))?;
            let addresses: Vec<_> = node.addresses.iter().filter_map(|address| address.parse().ok()).collect();
            client.handle().learn(peer, &addresses);
            let answer = client.handle().exchange(peer, Protocol::Group, frame, client.deadline(), decode_list).await;
            answer.map_err(|trouble| (node.id, trouble.into_error(what())))
        });
        let mut listing = GroupListing::default();
        for answer in join_all(asked).await {
            match answer {
                Ok(groups) => listing.groups.extend(groups),
                Err(missing) => listing.missing.push(missing),
            }
        }
        // One that moves while the nodes are asked may be told twice.
        listing.groups.sort_by(|a, b| a.group.cmp(&b.group));
        listing.groups.dedup_by(|a, b| a.group == b.group);
        match listing.missing.pop() {
            Some((_, error)) if listing.groups.is_empty() && listing.missing.len() + 1 == live(&cluster.nodes) => {
                Err(error)
            }
            last => {
                listing.missing.extend(last);
                Ok(listing)
            }
        }
    }

    /// A group's state and members.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unreachable`] while the group has no coordinator.
    pub async fn describe_group(&self, name: &str) -> Result<GroupDescription, Error> {
        match self.ask_group(GroupRequest::Describe { group: name.to_owned() }).await? {
            GroupReply::Describe(description) => Ok(description),
            _ => Err(strange("description")),
        }
    }

    /// Every offset that the group has committed.
    ///
    /// # Errors
    /// As [`Self::describe_group`], except that a group that there is not has committed nothing.
    pub async fn committed_offsets(&self, name: &str) -> Result<Vec<CommittedOffset>, Error> {
        let asked = OffsetsAsked { group: name.to_owned(), member_epoch: -1, ..OffsetsAsked::default() };
        match self.ask_group(GroupRequest::Offsets(asked)).await? {
            GroupReply::Offsets(offsets) => Ok(offsets),
            _ => Err(strange("offsets")),
        }
    }

    /// How far the group is, in every partition that it has committed offsets of or that a member reads.
    ///
    /// # Errors
    /// As [`Self::describe_group`].
    pub async fn group_lag(&self, name: &str) -> Result<Vec<PartitionLag>, Error> {
        let description = self.describe_group(name).await?;
        let mut lags: BTreeMap<(String, PartitionId), PartitionLag> = BTreeMap::new();
        let unknown = || Err(Error::new(ErrorKind::Failed, "not asked"));
        for found in self.committed_offsets(name).await?.into_iter().filter(|found| found.error.is_none()) {
            let CommittedOffset { topic, partition, offset, metadata, .. } = found;
            let committed = (offset >= 0).then_some(Offset(offset));
            let lag = PartitionLag { topic, partition, committed, log: unknown(), metadata, member: None };
            lags.insert((lag.topic.clone(), partition), lag);
        }
        for (topic, partition, member) in self.owners(&description).await {
            let key = (topic.clone(), partition);
            let (committed, log, metadata) = (None, unknown(), String::new());
            let new = PartitionLag { topic, partition, committed, log, metadata, member: None };
            lags.entry(key).or_insert(new).member = Some(member);
        }
        let topics: BTreeSet<String> = lags.keys().map(|(topic, _)| topic.clone()).collect();
        let lags = &mut lags;
        for (topic, found) in join_all(topics.into_iter().map(|topic| self.ends(topic, lags))).await {
            for (partition, log) in found {
                if let Some(lag) = lags.get_mut(&(topic.clone(), partition)) {
                    lag.log = log;
                }
            }
        }
        Ok(std::mem::take(lags).into_values().collect())
    }

    /// Sets offsets of a group without members, as its consumers will find them. Each partition by itself.
    ///
    /// # Errors
    /// The whole request failed: [`ErrorKind::Conflict`] while the group has members, [`ErrorKind::Unreachable`].
    pub async fn alter_group_offsets(
        &self,
        name: &str,
        offsets: Vec<(TopicName, PartitionId, Offset)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let commit = |(topic, partition, offset): &(TopicName, PartitionId, Offset)| OffsetToCommit {
            topic: topic.to_string(),
            partition: *partition,
            offset: offset.0,
            leader_epoch: -1,
            ..OffsetToCommit::default()
        };
        let commit = Commit {
            group: name.to_owned(),
            generation: -1,
            offsets: offsets.iter().map(commit).collect(),
            ..Commit::default()
        };
        match self.ask_group(GroupRequest::Commit(commit)).await {
            Ok(GroupReply::Commit(results)) => {
                let what = |(topic, partition, _): &(TopicName, PartitionId, Offset)| format!("{topic}/{partition}");
                Ok(offsets.iter().zip(results).map(|(at, result)| each(what(at), result)).collect())
            }
            Ok(_) => Err(strange("commit")),
            Err(error) => Err(error),
        }
    }

    /// Forgets offsets of a group; each partition by itself.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unreachable`].
    pub async fn delete_group_offsets(
        &self,
        name: &str,
        partitions: Vec<(String, PartitionId)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let forget = ForgetOffsets { group: name.to_owned(), partitions: partitions.clone() };
        match self.ask_group(GroupRequest::ForgetOffsets(forget)).await? {
            GroupReply::ForgetOffsets(results) => {
                let at = |(topic, partition): &(String, PartitionId)| format!("{topic}/{partition}");
                Ok(partitions.iter().zip(results).map(|(named, result)| each(at(named), result)).collect())
            }
            _ => Err(strange("forgetting")),
        }
    }

    /// Removes a group without members, and its offsets.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] while it has members; [`ErrorKind::Unreachable`].
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        match self.ask_group(GroupRequest::Delete { group: name.to_owned() }).await? {
            GroupReply::Delete => Ok(()),
            _ => Err(strange("deletion")),
        }
    }

    async fn ask_group(&self, request: GroupRequest) -> Result<GroupReply, Error> {
        let client = self.client();
        let error = match ask(client, || request.clone(), client.deadline()).await {
            Err(error) => error,
            done => return done,
        };
        let name = request.group();
        match error.code() {
            Some(ErrorCode::GroupIdNotFound) => {
                let failure = Failure::new(ErrorCode::GroupIdNotFound, "");
                let error = Error::refused(format!("group {name:?} not found"), &failure, None);
                let Ok(listing) = self.list_groups().await else { return Err(error) };
                let others = listing.groups.iter().map(|listed| listed.group.as_str()).filter(|other| *other != name);
                Err(match nearest(name, others) {
                    Some(near) => error.hint(format!("did you mean {near:?}?")),
                    None => error,
                })
            }
            // That is how Kafka says that a commit without a member meets a group that has some.
            Some(ErrorCode::UnknownMemberId | ErrorCode::RebalanceInProgress) => {
                let failure = Failure::new(ErrorCode::NonEmptyGroup, "");
                Err(Error::refused(format!("group {name:?} has members"), &failure, None))
            }
            Some(ErrorCode::NonEmptyGroup) => {
                let failure = Failure::new(ErrorCode::NonEmptyGroup, "");
                Err(Error::refused(format!("group {name:?} has members"), &failure, None))
            }
            _ => Err(error),
        }
    }

    /// Who reads what.
    async fn owners(&self, description: &GroupDescription) -> Vec<(String, PartitionId, (String, Caller))> {
        let mut owners = Vec::new();
        match description {
            GroupDescription::Classic(group) => {
                for member in &group.members {
                    for (topic, partitions) in assignment::decode(&member.assignment).unwrap_or_default() {
                        let who = || (member.member_id.clone(), member.caller.clone());
                        owners.extend(partitions.into_iter().map(|partition| (topic.clone(), partition, who())));
                    }
                }
            }
            GroupDescription::Consumer(group) => {
                let ids: BTreeSet<TopicId> =
                    group.members.iter().flat_map(|member| member.assignment.iter().map(|topic| topic.topic)).collect();
                let names = join_all(ids.iter().map(|id| self.client().routes().name(*id))).await;
                // A topic that has gone has nothing to be read.
                let names: BTreeMap<TopicId, TopicName> =
                    ids.into_iter().zip(names).filter_map(|(id, name)| Some((id, name.ok()?))).collect();
                for member in &group.members {
                    for topic in &member.assignment {
                        let Some(name) = names.get(&topic.topic) else { continue };
                        let who = || (member.member_id.clone(), member.caller.clone());
                        owners.extend(topic.partitions.iter().map(|partition| (name.to_string(), *partition, who())));
                    }
                }
            }
        }
        owners
    }

    /// First and last offsets of the partitions of one topic.
    async fn ends(
        &self,
        topic: String,
        lags: &BTreeMap<(String, PartitionId), PartitionLag>,
    ) -> (String, Vec<(PartitionId, Result<(Offset, Offset), Error>)>) {
        let wanted: Vec<PartitionId> =
            lags.keys().filter(|(name, _)| *name == topic).map(|(_, partition)| *partition).collect();
        let name = match TopicName::new(&topic) {
            Ok(name) => name,
            Err(error) => {
                let error = Error::new(ErrorKind::Invalid, format!("topic {topic:?}")).because(error.to_string());
                return (topic, wanted.into_iter().map(|partition| (partition, Err(error.clone()))).collect());
            }
        };
        let specs = wanted.iter().flat_map(|p| [(*p, OffsetSpec::Earliest), (*p, OffsetSpec::Latest)]).collect();
        let found: Vec<_> = self.list_offsets(&name, specs).await;
        let offset = |(_, found): &(_, Result<rafka_broker::request::FoundOffset, Error>)| {
            found.clone().map(|found| found.offset.unwrap_or(Offset::ZERO))
        };
        let ends = found.chunks_exact(2).map(|pair| {
            let log = offset(&pair[0]).and_then(|start| Ok((start, offset(&pair[1])?)));
            (pair[0].0, log)
        });
        (topic, ends.collect())
    }
}

fn live(nodes: &[rafka_broker::metadata::Node]) -> usize {
    nodes.iter().filter(|node| !node.fenced).count()
}

fn each(what: String, result: Result<(), ErrorCode>) -> Result<(), Error> {
    result.map_err(|code| Error::refused(what, &Failure::new(code, ""), None))
}

fn decode_list(frame: &Frame) -> Result<Answer<Vec<Listed>>, DecodeError> {
    match group::decode_reply(frame)? {
        Ok(group::Reply::List(groups)) => Ok(Ok(groups)),
        Ok(_) => Err(DecodeError::Missing("reply of the kind asked for")),
        Err(failure) => Ok(Err(failure)),
    }
}
