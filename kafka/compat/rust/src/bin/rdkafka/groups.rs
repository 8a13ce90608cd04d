//! Members of groups, each with a thread that polls; what administrators do with groups.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rafka_compat::{Answer, Failure, Request, WAIT, unsupported};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

use crate::RdKafka;

pub(crate) type Members = HashMap<String, Member>;

pub(crate) struct Member {
    consumer: Arc<BaseConsumer<Seen>>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Seen(Mutex<State>);

#[derive(Default)]
struct State {
    records: Vec<(String, i32, i64)>,
    positions: HashMap<(String, i32), i64>,
    revoked: usize,
    rebalances: usize,
}

impl Seen {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Seen {}

impl ConsumerContext for Seen {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(_) => self.state().rebalances += 1,
            Rebalance::Revoke(partitions) => self.state().revoked += partitions.count(),
            Rebalance::Error(_) => {}
        }
    }
}

impl Member {
    fn new(bootstrap: &str, request: &Request) -> Result<Self, Failure> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", &request.group).set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "100");
        config.set("group.protocol", &request.protocol).set("topic.metadata.refresh.interval.ms", "1000");
        if request.protocol == "classic" {
            config.set("partition.assignment.strategy", &request.assignor).set("heartbeat.interval.ms", "500");
            config.set("session.timeout.ms", request.session_ms.to_string());
        }
        if let Some(instance) = &request.instance {
            config.set("group.instance.id", instance);
        }
        let consumer: Arc<BaseConsumer<Seen>> = Arc::new(config.create_with_context(Seen::default())?);
        let pattern = format!("^{}.*", request.topic);
        consumer.subscribe(&[if request.pattern { &pattern } else { &request.topic }])?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (consumer, ended) = (Arc::clone(&consumer), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    // What goes wrong on the way is tried again by the client.
                    let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
                    let at = (message.topic().to_owned(), message.partition());
                    let mut state = consumer.context().state();
                    state.records.push((at.0.clone(), at.1, message.offset()));
                    state.positions.insert(at, message.offset() + 1);
                }
            }
        });
        Ok(Self { consumer, ended, thread })
    }

    fn seen(&self) -> Answer {
        let assigned: Vec<i32> = self.consumer.assignment()?.elements().iter().map(|at| at.partition()).collect();
        let mut state = self.consumer.context().state();
        let records = std::mem::take(&mut state.records);
        Ok(json!({
            "assigned": assigned, "records": records, "revoked": state.revoked, "rebalances": state.rebalances,
        }))
    }

    fn commit(&self, request: &Request) -> Answer {
        let mut list = TopicPartitionList::new();
        for at in self.consumer.assignment()?.elements_for_topic(&request.topic) {
            let position = self.consumer.context().state().positions.get(&(request.topic.clone(), at.partition())).copied();
            if let Some(offset) = position {
                let mut element = list.add_partition(&request.topic, at.partition());
                element.set_offset(Offset::Offset(offset))?;
                element.set_metadata(&request.metadata);
            }
        }
        self.consumer.commit(&list, CommitMode::Sync)?;
        Ok(Value::Null)
    }
}

impl RdKafka {
    pub(crate) async fn group_answer(&self, request: &Request) -> Answer {
        match request.op.as_str() {
            "groups" | "group" => self.list(request),
            "committed" => self.committed(request),
            "reset" => {
                let mut list = TopicPartitionList::new();
                let offset = Offset::Offset(request.offset.unwrap_or_default());
                list.add_partition_offset(&request.topic, request.partition, offset)?;
                self.simple(&request.group)?.commit(&list, CommitMode::Sync)?;
                Ok(Value::Null)
            }
            "delete_group" => {
                let found = self.admin.delete_groups(&[&request.group], &crate::options()).await?;
                found.into_iter().try_for_each(|result| result.map(|_| ()).map_err(|(_, code)| code))?;
                Ok(Value::Null)
            }
            _ => self.member_answer(request),
        }
    }

    fn member_answer(&self, request: &Request) -> Answer {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if request.op == "join" {
            members.insert(request.member.clone(), Member::new(&self.bootstrap, request)?);
            return Ok(Value::Null);
        }
        let Some(member) = members.get(&request.member) else { return unsupported(request) };
        match request.op.as_str() {
            "seen" => member.seen(),
            "commit" => member.commit(request),
            "seek" => {
                let offset = Offset::Offset(request.offset.unwrap_or_default());
                member.consumer.seek(&request.topic, request.partition, offset, WAIT)?;
                Ok(Value::Null)
            }
            "leave" => {
                let Some(member) = members.remove(&request.member) else { return unsupported(request) };
                member.ended.store(true, Ordering::Relaxed);
                member.thread.join().map_err(|_| "the thread has panicked")?;
                // Dropped by the last one, it leaves.
                drop(member.consumer);
                Ok(Value::Null)
            }
            _ => unsupported(request),
        }
    }

    /// A consumer that is no member.
    fn simple(&self, group: &str) -> Result<BaseConsumer, Failure> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("group.id", group).set("enable.auto.commit", "false");
        Ok(config.create()?)
    }

    fn list(&self, request: &Request) -> Answer {
        let wanted = (request.op == "group").then_some(request.group.as_str());
        let found = self.simple("unused")?.fetch_group_list(wanted, WAIT)?;
        match wanted {
            None => Ok(json!({ "groups": found.groups().iter().map(|group| group.name()).collect::<Vec<_>>() })),
            Some(_) => {
                let group = found.groups().first().ok_or("no such group")?;
                Ok(json!({ "state": group.state(), "members": group.members().len() }))
            }
        }
    }

    fn committed(&self, request: &Request) -> Answer {
        let consumer = self.simple(&request.group)?;
        let metadata = consumer.fetch_metadata(Some(&request.topic), WAIT)?;
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition(&request.topic, partition.id());
        }
        let mut offsets = Map::new();
        for at in consumer.committed_offsets(list, WAIT)?.elements() {
            if let Offset::Offset(offset) = at.offset() {
                offsets.insert(at.partition().to_string(), json!([offset, at.metadata()]));
            }
        }
        Ok(json!({ "offsets": offsets }))
    }
}
