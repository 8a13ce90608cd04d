//! Changes of topics.

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::config::Key;
use rafka_model::limits::{ENTRY_DELTAS_MAX, TOPIC_PARTITIONS_MAX, TOPICS_MAX};
use rafka_model::{
    LeaderEpoch, MetadataIndex, NodeId, PartitionEpoch, PartitionId, TopicConfig, TopicId, TopicName, TopicPartition,
};

use super::Controller;
use super::rules::Rule;
use crate::describe::{describe_topic, unknown_topic, unknown_topic_id};
use crate::group::OFFSETS_TOPIC;
use crate::metadata::{Delta, PartitionState, Role, Topic};
use crate::placement::place;
use crate::request::{Admin, AdminReply, ConfigChange, NewTopic, TopicDescription, TopicReply};
use crate::{ErrorCode, Failure};

const STORAGE_ENGINE: &str = "storage.engine";
const DURABILITY: &str = "durability";
const MIN_INSYNC: &str = "min.insync.replicas";
/// Replicas of a topic whose creator names no number, where there are so many brokers.
const REPLICATION_FACTOR_DEFAULT: u16 = 3;

type Outcome = Result<(TopicDescription, MetadataIndex), Failure>;

impl Controller {
    pub(super) fn admin(&mut self, request: Admin, seed: [u8; 32]) -> Result<AdminReply, Failure> {
        let one = |name: &str, result| vec![TopicReply { name: name.to_owned(), result }];
        let replies = match request {
            Admin::AllocateProducerIds => return self.allocate_producer_ids().map(AdminReply::ProducerIds),
            Admin::CreateTopics { topics, validate_only } => self.create_topics(topics, seed, validate_only),
            Admin::DeleteTopics { names, validate_only } => {
                names.into_iter().map(|name| TopicReply { result: self.delete(&name, validate_only), name }).collect()
            }
            Admin::DeleteTopicsById { ids } => ids.into_iter().map(|id| self.delete_by_id(id)).collect(),
            Admin::AlterConfigs { name, changes, replace, validate_only } => {
                one(&name, self.alter(&name, changes, replace, validate_only))
            }
            Admin::AddPartitions { name, total, assignments, validate_only } => {
                one(&name, self.grow(&name, total, assignments, validate_only))
            }
            Admin::DescribeTopics { .. } | Admin::DescribeCluster | Admin::DescribeSwarm | Admin::InitProducerId => {
                let text = "any node answers this by itself, not the controller";
                return Err(Failure::new(ErrorCode::InvalidRequest, text));
            }
        };
        Ok(AdminReply::Topics(replies))
    }

    fn create_topics(&mut self, topics: Vec<NewTopic>, seed: [u8; 32], validate_only: bool) -> Vec<TopicReply> {
        let (mut once, mut repeated) = (BTreeSet::new(), BTreeSet::new());
        for topic in &topics {
            if !once.insert(topic.name.clone()) {
                repeated.insert(topic.name.clone());
            }
        }
        let reply = |(i, new): (u64, NewTopic)| {
            let name = new.name.clone();
            let result = if repeated.contains(&name) {
                Err(Failure::new(ErrorCode::InvalidRequest, format!("topic {name:?} is named more than once")))
            } else {
                self.create(new, topic_id(&seed, i), validate_only)
            };
            TopicReply { name, result }
        };
        (0..).zip(topics).map(reply).collect()
    }

    fn create(&mut self, new: NewTopic, id: TopicId, validate_only: bool) -> Outcome {
        let name = self.free_name(&new.name)?;
        if !new.assignments.is_empty() {
            return self.create_assigned(name, new, id, validate_only);
        }
        let partitions = new.partitions.unwrap_or(self.config.num_partitions);
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
            return Err(wrong_count(&name, partitions));
        }
        let replication_factor = self.factor(&name, new.replication_factor)?;
        check_configs(&name, &new.configs)?;
        let partitions = self.place(id, 0..partitions, replication_factor)?;
        self.write_topic(name, id, new.configs, replication_factor, partitions, validate_only)
    }

    /// As [`Self::create`], where the creator says who gets the partitions.
    fn create_assigned(&mut self, name: TopicName, new: NewTopic, id: TopicId, validate_only: bool) -> Outcome {
        if new.partitions.is_some() || new.replication_factor.is_some() {
            let text =
                format!("topic {name} has assignments, so it cannot have a number of partitions or replicas too");
            return Err(Failure::new(ErrorCode::InvalidRequest, text));
        }
        let partitions = u32::try_from(new.assignments.len()).unwrap_or(u32::MAX);
        if partitions > TOPIC_PARTITIONS_MAX {
            return Err(wrong_count(&name, partitions));
        }
        check_configs(&name, &new.configs)?;
        let replication_factor = u16::try_from(new.assignments[0].len()).unwrap_or(u16::MAX);
        let most = self.config.replication_factor_max;
        if replication_factor > most {
            let text = match self.replicates() {
                true => {
                    format!("partitions of topic {name} cannot have {replication_factor} replicas, only 1 to {most}")
                }
                false => format!(
                    "partition of topic {name} is assigned to {replication_factor} nodes, it has 1 replica in this version"
                ),
            };
            return Err(Failure::new(ErrorCode::InvalidReplicaAssignment, text));
        }
        let partitions = self.assign(new.assignments, replication_factor)?;
        self.write_topic(name, id, new.configs, replication_factor, partitions, validate_only)
    }

    fn write_topic(
        &mut self,
        name: TopicName,
        id: TopicId,
        mut configs: BTreeMap<String, String>,
        replication_factor: u16,
        partitions: Vec<PartitionState>,
        validate_only: bool,
    ) -> Outcome {
        if replication_factor >= 3 {
            // With a minimum of 1 an acknowledged record may be in one place only.
            configs.entry(MIN_INSYNC.to_owned()).or_insert_with(|| "2".to_owned());
        }
        let changed = MetadataIndex(0);
        let topic = Topic { id, name, configs, replication_factor, partitions, changed };
        let description = describe_topic(&topic);
        self.write(vec![Delta::TopicCreated(topic)], description, validate_only)
    }

    /// How many replicas the partitions of a new topic get.
    fn factor(&self, name: &TopicName, wanted: Option<u16>) -> Result<u16, Failure> {
        let most = self.config.replication_factor_max;
        let brokers = u16::try_from(self.candidates().len()).unwrap_or(u16::MAX);
        let text = match wanted {
            None => return Ok(REPLICATION_FACTOR_DEFAULT.min(most).min(brokers).max(1)),
            Some(1) => return Ok(1),
            Some(0) => format!("topic {name} needs at least 1 replica"),
            Some(_) if !self.replicates() => "replication is not available in this version; use 1".to_owned(),
            Some(many) if many > most => format!("topic {name} cannot have {many} replicas, only 1 to {most}"),
            Some(many) if many > brokers => {
                format!("topic {name} cannot have {many} replicas: {brokers} brokers are in service")
            }
            Some(fits) => return Ok(fits),
        };
        Err(Failure::new(ErrorCode::InvalidReplicationFactor, text))
    }

    /// The name, if a new topic may have it.
    fn free_name(&self, name: &str) -> Result<TopicName, Failure> {
        let name = TopicName::new(name).map_err(|error| Failure::new(ErrorCode::InvalidTopic, error.to_string()))?;
        let image = self.overlay();
        if image.topic_ids.contains_key(&name) {
            return Err(Failure::new(ErrorCode::TopicAlreadyExists, format!("topic {name} exists already")));
        }
        let may_collide = name.as_str().contains(['.', '_']);
        if may_collide && let Some(other) = image.topic_ids.keys().find(|other| name.collides_with(other)) {
            let text = format!("topic {name} collides with {other}: '.' and '_' are the same in metric names");
            return Err(Failure::new(ErrorCode::InvalidTopic, text));
        }
        if image.topics.len() >= TOPICS_MAX {
            let text = format!("the cluster has {TOPICS_MAX} topics, which is the limit");
            return Err(Failure::new(ErrorCode::InvalidRequest, text));
        }
        Ok(name)
    }

    fn delete(&mut self, name: &str, validate_only: bool) -> Outcome {
        if name == OFFSETS_TOPIC {
            let text = format!("topic {name} holds what all groups have committed; delete groups instead");
            return Err(Failure::new(ErrorCode::PolicyViolation, text));
        }
        let topic = self.topic(name)?;
        let (id, description) = (topic.id, describe_topic(topic));
        self.write(vec![Delta::TopicDeleted { id }], description, validate_only)
    }

    fn delete_by_id(&mut self, id: TopicId) -> TopicReply {
        match self.overlay().topics.get(&id).map(|topic| topic.name.to_string()) {
            Some(name) => TopicReply { result: self.delete(&name, false), name },
            None => TopicReply { name: String::new(), result: Err(unknown_topic_id(id)) },
        }
    }

    fn alter(
        &mut self,
        name: &str,
        mut changes: BTreeMap<String, ConfigChange>,
        replace: bool,
        validate_only: bool,
    ) -> Outcome {
        let topic = self.topic(name)?;
        let (id, mut after) = (topic.id, topic.configs.clone());
        if replace {
            for key in after.keys() {
                changes.entry(key.clone()).or_insert(ConfigChange::Reset);
            }
        }
        let mut deltas = Vec::new();
        for (key, change) in changes {
            let row = Key::find(&key).map_err(|error| invalid_config(&error))?;
            let value = changed(row, after.get(&key), change)?;
            let (now, then) = (after.get(&key), value.as_ref());
            let effective = |value: Option<&String>| value.map_or(row.default, String::as_str).to_owned();
            if key == STORAGE_ENGINE && effective(now) != effective(then) {
                let text = format!("{STORAGE_ENGINE} is fixed when a topic is created; {name} has {}", effective(now));
                return Err(Failure::new(ErrorCode::InvalidConfig, text));
            }
            if now == then {
                continue;
            }
            let replicated = topic.partitions.iter().any(|state| state.replicas.len() > 1);
            if key == DURABILITY && effective(then) == "fsync" && effective(now) != "fsync" && replicated {
                let text = format!(
                    "replicas of {name} have records that were safe without being flushed; make a topic with {DURABILITY}=fsync instead"
                );
                return Err(Failure::new(ErrorCode::InvalidConfig, text));
            }
            match &value {
                Some(value) => after.insert(key.clone(), value.clone()),
                None => after.remove(&key),
            };
            deltas.push(Delta::TopicConfigChanged { id, key, value });
        }
        check_configs(&topic.name, &after)?;
        let minimum = Topic { configs: after.clone(), ..Topic::clone(topic) }.min_insync();
        let description = TopicDescription { configs: after, ..describe_topic(topic) };
        if !validate_only {
            self.lessen_minimum(id, minimum);
        }
        self.write(deltas, description, validate_only)
    }

    fn grow(&mut self, name: &str, total: u32, assignments: Vec<Vec<NodeId>>, validate_only: bool) -> Outcome {
        let invalid = |text| Failure::new(ErrorCode::InvalidPartitions, text);
        if name == OFFSETS_TOPIC {
            return Err(invalid(format!("topic {name} cannot grow: its groups would be looked for elsewhere")));
        }
        let topic = self.topic(name)?;
        let (id, now, factor) = (topic.id, topic.partitions.len(), topic.replication_factor);
        let mut description = describe_topic(topic);
        if total > TOPIC_PARTITIONS_MAX {
            return Err(wrong_count(&topic.name, total));
        }
        let added = (total as usize).saturating_sub(now);
        if added == 0 {
            return Err(invalid(format!("topic {name} has {now} partitions already; a topic can only grow")));
        }
        if added > ENTRY_DELTAS_MAX {
            return Err(invalid(format!("{added} partitions cannot be added at once, at most {ENTRY_DELTAS_MAX} can")));
        }
        let first = total - added as u32;
        let states = match assignments.len() {
            0 => self.place(id, first..total, factor)?,
            given if given == added => self.assign(assignments, factor)?,
            given => {
                let text = format!("{added} partitions are to be added, and {given} are assigned");
                return Err(Failure::new(ErrorCode::InvalidReplicaAssignment, text));
            }
        };
        let partitions = (first..).map(PartitionId).zip(states);
        let mut deltas = Vec::with_capacity(added);
        for (partition, state) in partitions {
            description.partitions.push((partition, state.clone()));
            deltas.push(Delta::PartitionChanged { partition: TopicPartition { topic: id, partition }, state });
        }
        self.write(deltas, description, validate_only)
    }

    fn topic(&self, name: &str) -> Result<&Topic, Failure> {
        let found = TopicName::new(name).ok().and_then(|name| self.overlay().topic(&name));
        found.ok_or_else(|| unknown_topic(name))
    }

    /// Writes `deltas` into one entry, unless the change is only to be checked.
    fn write(&mut self, deltas: Vec<Delta>, description: TopicDescription, validate_only: bool) -> Outcome {
        if !validate_only && !deltas.is_empty() {
            self.journal.write_together(deltas)?;
        }
        Ok((description, self.overlay().index))
    }

    /// New partitions, each led by its first replica.
    fn place(
        &self,
        id: TopicId,
        partitions: std::ops::Range<u32>,
        factor: u16,
    ) -> Result<Vec<PartitionState>, Failure> {
        let image = self.overlay();
        let candidates = self.candidates();
        if candidates.is_empty() {
            let text = format!(
                "no live broker can take partitions: of {} registered nodes all are fenced, gateways or of weight 0",
                image.nodes.len()
            );
            return Err(Failure::new(ErrorCode::LeaderNotAvailable, text));
        }
        if candidates.len() < usize::from(factor) {
            let text = format!("{factor} replicas are wanted, {} brokers are in service", candidates.len());
            return Err(Failure::new(ErrorCode::InvalidReplicationFactor, text));
        }
        let loads = &self.journal.standing().loads;
        let placed = place(id, partitions, usize::from(factor), &candidates, loads);
        Ok(placed.into_iter().map(fresh).collect())
    }

    /// New partitions where somebody wants them, each led by its first replica in service.
    fn assign(&self, assignments: Vec<Vec<NodeId>>, factor: u16) -> Result<Vec<PartitionState>, Failure> {
        assignments.into_iter().map(|replicas| self.assigned(replicas, factor)).collect()
    }

    fn assigned(&self, replicas: Vec<NodeId>, factor: u16) -> Result<PartitionState, Failure> {
        let refuse = |text| Err(Failure::new(ErrorCode::InvalidReplicaAssignment, text));
        if replicas.len() != usize::from(factor) {
            let given = replicas.len();
            return refuse(format!("a partition is assigned to {given} nodes, others have {factor}"));
        }
        for (i, id) in replicas.iter().enumerate() {
            let node = self.overlay().nodes.get(id);
            if replicas[..i].contains(id) {
                return refuse(format!("a partition is assigned to node {id} more than once"));
            }
            if node.is_none_or(|node| node.role != Role::Broker) {
                return refuse(format!("a partition is assigned to node {id}, which is no broker of this cluster"));
            }
        }
        let serves = |id: &NodeId| {
            let fenced = self.overlay().nodes.get(id).is_none_or(|node| node.fenced);
            !fenced || !self.rules.hold(Rule::FencedNodesGetNothing)
        };
        let isr: Vec<_> = replicas.iter().copied().filter(serves).collect();
        match isr.first() {
            Some(leader) => Ok(PartitionState { leader: Some(*leader), isr, ..fresh(replicas) }),
            None => refuse("a partition is assigned to nodes that are all out of service".to_owned()),
        }
    }
}

fn fresh(replicas: Vec<NodeId>) -> PartitionState {
    PartitionState {
        leader: replicas.first().copied(),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        isr: replicas.clone(),
        elr: Vec::new(),
        replicas,
        ..PartitionState::default()
    }
}

/// What a config is after `change`; `None` is the default.
fn changed(row: &Key, now: Option<&String>, change: ConfigChange) -> Result<Option<String>, Failure> {
    let (words, joins) = match change {
        ConfigChange::Set(value) => return Ok(Some(value)),
        ConfigChange::Reset => return Ok(None),
        ConfigChange::Append(words) => (words, true),
        ConfigChange::Subtract(words) => (words, false),
    };
    if !row.is_list() {
        let text = format!("{} is not a list; it can be set, not appended to or subtracted from", row.name);
        return Err(Failure::new(ErrorCode::InvalidConfig, text));
    }
    let split = |text: &str| -> Vec<String> {
        text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    };
    let mut list = split(now.map_or(row.default, String::as_str));
    for word in split(&words) {
        match list.iter().position(|other| *other == word) {
            None if joins => list.push(word),
            Some(at) if !joins => drop(list.remove(at)),
            _ => {}
        }
    }
    Ok(Some(list.join(",")))
}

fn wrong_count(name: &TopicName, partitions: u32) -> Failure {
    let text = format!("topic {name} cannot have {partitions} partitions, only 1 to {TOPIC_PARTITIONS_MAX}");
    Failure::new(ErrorCode::InvalidPartitions, text)
}

fn topic_id(seed: &[u8; 32], place: u64) -> TopicId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::keyed_hash(seed, &place.to_be_bytes()).as_bytes()[..16]);
    TopicId(id)
}

fn check_configs(name: &TopicName, configs: &BTreeMap<String, String>) -> Result<(), Failure> {
    let config = TopicConfig::resolve(configs).map_err(|error| invalid_config(&error))?;
    if name.as_str() == OFFSETS_TOPIC && (!config.cleanup.compact || config.cleanup.delete) {
        let text = format!("topic {name} must have cleanup.policy=compact: anything else loses committed offsets");
        return Err(Failure::new(ErrorCode::InvalidConfig, text));
    }
    Ok(())
}

fn invalid_config(error: &rafka_model::config::ConfigError) -> Failure {
    Failure::new(ErrorCode::InvalidConfig, error.to_string())
}
