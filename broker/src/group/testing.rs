//! A coordinator with a log and a clock, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_model::{LeaderEpoch, Monotonic, NodeId, PartitionEpoch, PartitionId, Timestamp, TopicId, TopicName};

use super::request::{
    Caller, Commit, CommittedOffset, GroupDescription, Heartbeat, Join, JoinReply, Joined, Leave, Leaving, Left,
    OffsetToCommit, OffsetsAsked, Protocol, Sync, SyncReply,
};
use super::{Config, Context, Coordinator, GroupRecord, GroupReply, GroupRequest, Output, Token};
use crate::metadata::{Image, PartitionState, Topic};
use crate::{ErrorCode, Failure};

pub(super) type Reply = Result<GroupReply, Failure>;

/// A coordinator whose records are committed at once.
pub(super) struct Desk {
    pub(super) config: Config,
    pub(super) coordinator: Coordinator,
    pub(super) image: Image,
    pub(super) now: u64,
    pub(super) log: Vec<GroupRecord>,
    pub(super) replies: BTreeMap<Token, Reply>,
    next: Token,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked(pub(super) Token);

impl Desk {
    pub(super) fn new(config: Config) -> Self {
        let (image, log, replies) = Default::default();
        let mut desk = Self { config, coordinator: Coordinator::new(config), image, now: 0, log, replies, next: 0 };
        desk.step(|coordinator, context| coordinator.loaded(context));
        desk
    }

    pub(super) fn step(&mut self, step: impl FnOnce(&mut Coordinator, &Context<'_>) -> Output) {
        self.next += 1;
        let context = Context {
            now: Monotonic(self.now * 1_000_000),
            time: Timestamp(self.now.cast_signed()),
            image: &self.image,
            unique: u128::from(self.next),
        };
        let output = step(&mut self.coordinator, &context);
        self.log.extend(output.records);
        for (token, reply) in output.replies {
            assert!(self.replies.insert(token, reply).is_none(), "request {token} was answered twice");
        }
    }

    pub(super) fn ask(&mut self, request: GroupRequest) -> Asked {
        let token = self.next + 1;
        self.step(|coordinator, context| coordinator.handle(context, token, request));
        Asked(token)
    }

    /// The answer to a request; `None` while there is none.
    pub(super) fn answer(&mut self, asked: Asked) -> Option<Reply> {
        self.replies.remove(&asked.0)
    }

    pub(super) fn now_asked(&mut self, request: GroupRequest) -> Reply {
        let asked = self.ask(request);
        self.answer(asked).expect("answered at once")
    }

    /// Lets time pass, ms, with each alarm in its time.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.coordinator.next_timeout().filter(|at| at.0 <= end * 1_000_000) {
            self.now = self.now.max(at.0.div_ceil(1_000_000));
            self.step(|coordinator, context| coordinator.tick(context));
        }
        self.now = end;
    }

    /// Another coordinator reads the log; what waited is lost.
    pub(super) fn restart(&mut self) {
        self.coordinator = Coordinator::new(self.config);
        for record in &self.log {
            self.coordinator.replay(&record.key, record.value.as_deref()).expect("our own record");
        }
        self.replies.clear();
        self.step(|coordinator, context| coordinator.loaded(context));
    }

    pub(super) fn set_topic(&mut self, name: &str, id: u8, partitions: u32) {
        set_topic(&mut self.image, name, id, partitions);
        self.step(|coordinator, context| coordinator.image_changed(context));
    }

    pub(super) fn drop_topic(&mut self, name: &str) {
        drop_topic(&mut self.image, name);
        self.step(|coordinator, context| coordinator.image_changed(context));
    }

    /// Everybody joins and syncs: member ids in the order of `names`, each assigned its name.
    pub(super) fn settle(&mut self, names: &[&str]) -> Vec<Joined> {
        let asked: Vec<_> = names.iter().map(|name| self.ask(join(name))).collect();
        self.pass(self.config.initial_rebalance_delay_ms);
        let joined: Vec<_> = asked.into_iter().map(|asked| self.joined(asked)).collect();
        self.sync_all(&joined, names);
        joined
    }

    pub(super) fn sync_all(&mut self, joined: &[Joined], assignments: &[&str]) {
        let all: Vec<_> =
            joined.iter().zip(assignments).map(|(one, part)| (one.member_id.clone(), bytes(part))).collect();
        let asked: Vec<_> = joined
            .iter()
            .map(|one| {
                let leads = one.leader == one.member_id;
                self.ask(sync(one, if leads { all.clone() } else { vec![] }))
            })
            .collect();
        for (asked, part) in asked.into_iter().zip(assignments) {
            assert_eq!(self.synced(asked), *part);
        }
    }

    pub(super) fn joined(&mut self, asked: Asked) -> Joined {
        match self.answer(asked) {
            Some(Ok(GroupReply::Join(JoinReply::Joined(joined)))) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    pub(super) fn synced(&mut self, asked: Asked) -> String {
        match self.answer(asked) {
            Some(Ok(GroupReply::Sync(SyncReply { assignment, .. }))) => {
                String::from_utf8(assignment.to_vec()).expect("text")
            }
            other => panic!("not synced: {other:?}"),
        }
    }

    pub(super) fn refused(&mut self, asked: Asked) -> ErrorCode {
        match self.answer(asked) {
            Some(Err(failure)) => failure.code,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(super) fn beat(&mut self, joined: &Joined) -> Result<(), ErrorCode> {
        self.now_asked(heartbeat(joined)).map(|_| ()).map_err(|failure| failure.code)
    }

    pub(super) fn commit(&mut self, commit: Commit) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        match self.now_asked(GroupRequest::Commit(commit)) {
            Ok(GroupReply::Commit(results)) => Ok(results),
            Err(failure) => Err(failure.code),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn offsets(&mut self, group: &str) -> Vec<CommittedOffset> {
        let asked = OffsetsAsked { group: group.to_owned(), member_epoch: -1, ..OffsetsAsked::default() };
        match self.now_asked(GroupRequest::Offsets(asked)) {
            Ok(GroupReply::Offsets(offsets)) => offsets,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn offset(&mut self, group: &str, topic: &str, partition: u32) -> i64 {
        let topics = Some(vec![(topic.to_owned(), vec![PartitionId(partition)])]);
        let asked = OffsetsAsked { group: group.to_owned(), member_epoch: -1, topics, ..OffsetsAsked::default() };
        match self.now_asked(GroupRequest::Offsets(asked)) {
            Ok(GroupReply::Offsets(offsets)) => offsets[0].offset,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn describe(&mut self, group: &str) -> Result<GroupDescription, ErrorCode> {
        match self.now_asked(GroupRequest::Describe { group: group.to_owned() }) {
            Ok(GroupReply::Describe(description)) => Ok(description),
            Err(failure) => Err(failure.code),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Result<Vec<Left>, ErrorCode> {
        let leaving = |(id, instance): &(&str, Option<&str>)| Leaving {
            member_id: (*id).to_owned(),
            instance_id: instance.map(str::to_owned),
            reason: None,
        };
        let members = members.iter().map(leaving).collect();
        match self.now_asked(GroupRequest::Leave(Leave { group: "g".to_owned(), members })) {
            Ok(GroupReply::Leave(left)) => Ok(left),
            Err(failure) => Err(failure.code),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn set_topic(image: &mut Image, name: &str, id: u8, partitions: u32) {
    drop_topic(image, name);
    let (id, name) = (TopicId([id; 16]), TopicName::new(name).expect("legal"));
    let state = PartitionState {
        replicas: vec![NodeId(1)],
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        isr: vec![NodeId(1)],
        elr: vec![],
        ..PartitionState::default()
    };
    let partitions = (0..partitions).map(|_| state.clone()).collect();
    let topic = Topic {
        id,
        name: name.clone(),
        configs: BTreeMap::new(),
        replication_factor: 1,
        partitions,
        changed: rafka_model::MetadataIndex(0),
    };
    image.topics.insert(id, Arc::new(topic));
    image.topic_ids.insert(name, id);
}

pub(super) fn drop_topic(image: &mut Image, name: &str) {
    if let Some(id) = image.topic_ids.remove(&TopicName::new(name).expect("legal")) {
        image.topics.remove(&id);
    }
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The subscription of a consumer, version 0.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.into()
}

/// A consumer that joins group `g` for topic `orders`; its client id is `client`.
pub(super) fn join_as(client: &str) -> Join {
    Join {
        group: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol { name: "range".to_owned(), metadata: subscription(&["orders"]) }],
        can_skip_assignment: true,
        caller: Caller { client_id: client.to_owned(), client_host: "/127.0.0.1".to_owned() },
        ..Join::default()
    }
}

pub(super) fn join(client: &str) -> GroupRequest {
    GroupRequest::Join(join_as(client))
}

pub(super) fn rejoin(client: &str, member: &str) -> GroupRequest {
    GroupRequest::Join(Join { member_id: member.to_owned(), ..join_as(client) })
}

/// A static member that joins; its session is a minute.
pub(super) fn join_static(instance: &str, member: &str) -> GroupRequest {
    GroupRequest::Join(Join {
        member_id: member.to_owned(),
        instance_id: Some(instance.to_owned()),
        session_timeout_ms: 60_000,
        ..join_as(instance)
    })
}

pub(super) fn sync(joined: &Joined, assignments: Vec<(String, Bytes)>) -> GroupRequest {
    GroupRequest::Sync(Sync {
        group: "g".to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        protocol_type: Some(joined.protocol_type.clone()),
        protocol: Some(joined.protocol.clone()),
        assignments,
        ..Sync::default()
    })
}

pub(super) fn heartbeat(joined: &Joined) -> GroupRequest {
    let (generation, member_id) = (joined.generation, joined.member_id.clone());
    GroupRequest::Heartbeat(Heartbeat { group: "g".to_owned(), generation, member_id, instance_id: None })
}

/// A commit of one offset by who is no member.
pub(super) fn commit(group: &str, topic: &str, partition: u32, offset: i64) -> Commit {
    let one = OffsetToCommit {
        topic: topic.to_owned(),
        partition: PartitionId(partition),
        offset,
        leader_epoch: -1,
        ..OffsetToCommit::default()
    };
    Commit { group: group.to_owned(), generation: -1, offsets: vec![one], ..Commit::default() }
}

pub(super) fn commit_by(joined: &Joined, topic: &str, partition: u32, offset: i64) -> Commit {
    let (generation, member_id) = (joined.generation, joined.member_id.clone());
    Commit { generation, member_id, ..commit("g", topic, partition, offset) }
}

/// Settings for short tests: no initial delay.
pub(super) fn quick() -> Config {
    Config { initial_rebalance_delay_ms: 0, ..Config::default() }
}

pub(super) fn minutes(minutes: u64) -> u64 {
    Duration::from_secs(minutes * 60).as_millis() as u64
}
