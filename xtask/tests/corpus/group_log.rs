//! Logs of coordinators, as coordinators write them.

use bytes::Bytes;
use rafka_broker::group::request::{
    Caller, Commit, ConsumerHeartbeat, GroupReply, Join, JoinReply, Leave, Leaving, OffsetToCommit, Protocol, Sync,
};
use rafka_broker::group::{Config, Context, Coordinator, GroupRecord, GroupRequest, Output};
use rafka_broker::metadata::Image;
use rafka_model::{Monotonic, Timestamp, TopicId};

use crate::seeds::Seeds;
use crate::targets::NO_VALUE;

const GROUP: &str = "billing";

/// A coordinator, what it wrote and how often it was asked.
struct Log<'a> {
    machine: Coordinator,
    image: &'a Image,
    records: Vec<GroupRecord>,
    asked: u64,
}

impl<'a> Log<'a> {
    fn new(image: &'a Image) -> Self {
        let config = Config { initial_rebalance_delay_ms: 0, ..Config::default() };
        Self { machine: Coordinator::new(config), image, records: Vec::new(), asked: 0 }
    }

    /// Asks, lets time pass, and gives back what was answered by then.
    fn ask(&mut self, request: GroupRequest) -> GroupReply {
        self.asked += 1;
        let token = self.asked;
        let mut output = self.step(|machine, context| machine.handle(context, token, request));
        while output.replies.is_empty() {
            output = self.step(Coordinator::tick);
        }
        let (answered, reply) = output.replies.remove(0);
        assert_eq!(answered, token);
        reply.expect("taken")
    }

    fn step(&mut self, step: impl FnOnce(&mut Coordinator, &Context<'_>) -> Output) -> Output {
        let now = self.machine.next_timeout().unwrap_or(Monotonic(1));
        let time = Timestamp(1_700_000_000_000);
        let context = Context { now, time, image: self.image, unique: u128::from(self.asked) };
        let output = step(&mut self.machine, &context);
        self.records.extend(output.records.iter().cloned());
        output
    }

    fn commit(&mut self, member_id: &str, generation: i32, retention_ms: Option<u64>) {
        let topic_id = self.image.topics.values().next().map(|topic| topic.id);
        let offset = OffsetToCommit {
            topic: "orders".to_owned(),
            topic_id,
            offset: 42,
            leader_epoch: 3,
            metadata: "über".to_owned(),
            ..OffsetToCommit::default()
        };
        let (group, member_id) = (GROUP.to_owned(), member_id.to_owned());
        let offsets = vec![offset.clone(), OffsetToCommit { topic_id: None::<TopicId>, offset: 7, ..offset }];
        let commit = Commit { group, generation, member_id, retention_ms, offsets, ..Commit::default() };
        assert!(matches!(self.ask(GroupRequest::Commit(commit)), GroupReply::Commit(_)));
    }

    fn bytes(self) -> Vec<u8> {
        let length = |bytes: &Bytes| u16::try_from(bytes.len()).expect("small").to_be_bytes();
        let record = |GroupRecord { key, value }: &GroupRecord| match value {
            Some(value) => [&length(key)[..], key, &length(value), value].concat(),
            None => [&length(key)[..], key, &NO_VALUE.to_be_bytes()].concat(),
        };
        self.records.iter().flat_map(record).collect()
    }
}

fn caller() -> Caller {
    Caller { client_id: "app".to_owned(), client_host: "/10.0.0.1".to_owned() }
}

/// A member joins, is assigned, commits and leaves.
fn classic(image: &Image) -> Vec<u8> {
    let mut log = Log::new(image);
    let protocol = Protocol { name: "range".to_owned(), metadata: Bytes::from_static(b"metadata") };
    let join = Join {
        group: GROUP.to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        instance_id: Some("i-1".to_owned()),
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        caller: caller(),
        ..Join::default()
    };
    let GroupReply::Join(JoinReply::Joined(joined)) = log.ask(GroupRequest::Join(join)) else { panic!("not joined") };
    let sync = Sync {
        group: GROUP.to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"assignment"))],
        ..Sync::default()
    };
    log.ask(GroupRequest::Sync(sync));
    log.commit(&joined.member_id, joined.generation, None);
    let leaving = Leaving { member_id: joined.member_id, ..Leaving::default() };
    log.ask(GroupRequest::Leave(Leave { group: GROUP.to_owned(), members: vec![leaving] }));
    log.bytes()
}

/// Two members, one of them by a regular expression; the first leaves.
fn consumer(image: &Image) -> Vec<u8> {
    let mut log = Log::new(image);
    let beat = |member: &str, member_epoch| ConsumerHeartbeat {
        group: GROUP.to_owned(),
        member_id: member.to_owned(),
        member_epoch,
        rebalance_timeout_ms: 60_000,
        server_assignor: Some("uniform".to_owned()),
        owned: Some(Vec::new()),
        caller: caller(),
        ..ConsumerHeartbeat::default()
    };
    let (topics, regex) = (Some(vec!["orders".to_owned()]), Some("ord.*".to_owned()));
    let rack_id = Some("a".to_owned());
    log.ask(GroupRequest::ConsumerHeartbeat(ConsumerHeartbeat { subscribed_topics: topics, ..beat("m-1", 0) }));
    let second = ConsumerHeartbeat { subscribed_regex: regex, rack_id, ..beat("m-2", 0) };
    log.ask(GroupRequest::ConsumerHeartbeat(second));
    log.ask(GroupRequest::ConsumerHeartbeat(beat("m-1", -1)));
    log.bytes()
}

/// Of nobody in particular, kept for as long as its client said; then taken back.
fn offsets(image: &Image) -> Vec<u8> {
    let mut log = Log::new(image);
    log.commit("", -1, Some(3_600_000));
    log.commit("", -1, None);
    log.ask(GroupRequest::Delete { group: GROUP.to_owned() });
    log.bytes()
}

/// One log of each kind of group.
pub(crate) fn seeds(image: &Image) -> Seeds {
    vec![
        ("group_log", "classic", classic(image)),
        ("group_log", "consumer", consumer(image)),
        ("group_log", "offsets", offsets(image)),
    ]
}
