use std::collections::BTreeSet;

use rafka_model::{PartitionId, Timestamp, TopicId};

use crate::ErrorCode;
use crate::group::records::consumer::{
    ClassicPart, Current, Epoch, MemberState, Owned, Resolved, Subscription, TargetEpoch,
};
use crate::group::records::{ConsumerKey, ConsumerValue};
use crate::group::request::{
    Caller, Commit, ConsumerDescription, ConsumerHeartbeat, ConsumerHeartbeatReply, ForgetOffsets, GroupDescription,
    GroupKind, GroupState, Heartbeat, Join, JoinReply, Joined, OffsetsAsked, Protocol, Sync, SyncReply,
    TopicPartitions,
};
use crate::group::rules::Rule;
use crate::group::testing::*;
use crate::group::{Config, GroupRecord, GroupReply, GroupRequest, MigrationPolicy};
use crate::testing::Random;

use super::protocol::{Named, read_assignment};

type Partition = (u8, u32);

/// A consumer of KIP-848 that gives back and takes as it is told, at once.
#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    instance: Option<String>,
    topics: Vec<String>,
    regex: Option<String>,
    assignor: Option<String>,
    epoch: i32,
    owned: BTreeSet<Partition>,
    /// When the next heartbeat is due, ms.
    due: u64,
}

fn client(id: &str, topics: &[&str]) -> Client {
    Client { id: id.to_owned(), topics: topics.iter().map(|topic| (*topic).to_owned()).collect(), ..Client::default() }
}

fn listed(owned: &BTreeSet<Partition>) -> Vec<TopicPartitions> {
    let mut listed = Vec::<TopicPartitions>::new();
    for (topic, partition) in owned {
        let topic = TopicId([*topic; 16]);
        match listed.last_mut().filter(|last| last.topic == topic) {
            Some(last) => last.partitions.push(PartitionId(*partition)),
            None => listed.push(TopicPartitions { topic, partitions: vec![PartitionId(*partition)] }),
        }
    }
    listed
}

fn flat(assignment: &[TopicPartitions]) -> BTreeSet<Partition> {
    assignment.iter().flat_map(|one| one.partitions.iter().map(|partition| (one.topic.0[0], partition.0))).collect()
}

impl Client {
    fn joining(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            group: "g".to_owned(),
            member_id: self.id.clone(),
            member_epoch: 0,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: 60_000,
            subscribed_topics: Some(self.topics.clone()),
            subscribed_regex: self.regex.clone(),
            server_assignor: self.assignor.clone(),
            owned: Some(vec![]),
            caller: Caller { client_id: "c".to_owned(), client_host: "/127.0.0.1".to_owned() },
            ..ConsumerHeartbeat::default()
        }
    }

    fn staying(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            group: "g".to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: -1,
            owned: Some(listed(&self.owned)),
            caller: self.joining().caller,
            ..ConsumerHeartbeat::default()
        }
    }

    fn take(&mut self, reply: &ConsumerHeartbeatReply) {
        self.epoch = reply.member_epoch;
        if let Some(assignment) = &reply.assignment {
            self.owned = flat(assignment);
        }
    }

    /// Joins, or shows itself.
    fn beat(&mut self, desk: &mut Desk) -> Result<ConsumerHeartbeatReply, ErrorCode> {
        let request = if self.epoch == 0 { self.joining() } else { self.staying() };
        let reply = ask(desk, request)?;
        self.take(&reply);
        self.due = desk.now + u64::try_from(reply.heartbeat_interval_ms).expect("positive");
        Ok(reply)
    }

    fn leave(&self, desk: &mut Desk, epoch: i32) -> Result<(), ErrorCode> {
        let request = ConsumerHeartbeat { member_epoch: epoch, owned: None, ..self.staying() };
        ask(desk, request).map(drop)
    }
}

fn ask(desk: &mut Desk, request: ConsumerHeartbeat) -> Result<ConsumerHeartbeatReply, ErrorCode> {
    match desk.now_asked(GroupRequest::ConsumerHeartbeat(request)) {
        Ok(GroupReply::ConsumerHeartbeat(reply)) => Ok(reply),
        Err(failure) => Err(failure.code),
        other => panic!("{other:?}"),
    }
}

fn desk() -> Desk {
    let mut desk = Desk::new(quick());
    desk.set_topic("orders", 1, 6);
    desk
}

fn describe(desk: &mut Desk) -> ConsumerDescription {
    match desk.describe("g") {
        Ok(GroupDescription::Consumer(description)) => description,
        other => panic!("{other:?}"),
    }
}

/// Everybody beats when due, until nobody moves; gives the time it took, ms.
fn settle(desk: &mut Desk, clients: &mut [&mut Client]) -> u64 {
    let begin = desk.now;
    for _ in 0..100_000 {
        let description = describe(desk);
        let there = clients.iter().all(|client| client.epoch == description.assignment_epoch);
        if description.state == GroupState::Stable && there {
            return desk.now - begin;
        }
        let due = clients.iter().map(|client| client.due).min().expect("somebody");
        desk.pass(due.saturating_sub(desk.now));
        let now = desk.now;
        for client in clients.iter_mut().filter(|client| client.due <= now) {
            client.beat(desk).expect("lives");
        }
        for (i, one) in clients.iter().enumerate() {
            let others = clients[i + 1..].iter();
            others.for_each(|other| assert!(one.owned.is_disjoint(&other.owned), "{one:?} and {other:?}"));
        }
    }
    panic!("never settles: {:?}", describe(desk));
}

#[test]
fn a_partition_moves_once_its_owner_has_given_it_back() {
    let mut desk = desk();
    let (mut a, mut b) = (client("a", &["orders"]), client("b", &["orders"]));
    let reply = a.beat(&mut desk).expect("joins");
    assert_eq!((reply.member_epoch, a.owned.len()), (1, 6), "alone it gets everything at once");
    assert_eq!(describe(&mut desk).state, GroupState::Stable);
    let reply = b.beat(&mut desk).expect("joins");
    assert_eq!((reply.member_epoch, reply.assignment), (1, Some(vec![])), "the next target waits its time");
    assert_eq!(describe(&mut desk).state, GroupState::Assigning);
    desk.pass(1_000);
    assert_eq!(describe(&mut desk).state, GroupState::Reconciling);
    let told = a.beat(&mut desk).expect("lives");
    assert_eq!((told.member_epoch, a.owned.len()), (1, 3), "it has to give back first");
    let waits = b.beat(&mut desk).expect("lives");
    assert_eq!((waits.member_epoch, waits.assignment), (2, None), "what it shall have is not free");
    assert_eq!(a.beat(&mut desk).expect("lives").member_epoch, 2);
    b.beat(&mut desk).expect("lives");
    assert_eq!((b.owned.len(), a.owned.is_disjoint(&b.owned)), (3, true));
    let description = describe(&mut desk);
    assert_eq!((description.state, description.group_epoch, description.assignment_epoch), (GroupState::Stable, 2, 2));
    assert_eq!(description.assignor, "uniform");
    let listed = desk.coordinator.list();
    assert_eq!((listed[0].kind, &*listed[0].protocol_type), (GroupKind::Consumer, "consumer"));
}

#[test]
fn two_hundred_members_that_join_at_once_settle_in_two_seconds() {
    let mut desk = Desk::new(Config::default());
    desk.set_topic("orders", 1, 400);
    let mut clients: Vec<_> = (0..200).map(|i| client(&format!("m{i}"), &["orders"])).collect();
    clients.iter_mut().for_each(|client| drop(client.beat(&mut desk).expect("joins")));
    let took = settle(&mut desk, &mut clients.iter_mut().collect::<Vec<_>>());
    assert!(took < 2_000, "{took} ms");
    assert!(clients.iter().all(|client| client.owned.len() == 2));
    desk.pass(3_000);
    let later = clients[0].beat(&mut desk).expect("lives");
    assert_eq!(later.heartbeat_interval_ms, 5_000, "a group that rests is left in peace");
    let gone = clients.pop().expect("there");
    gone.leave(&mut desk, -1).expect("a member");
    let took = settle(&mut desk, &mut clients.iter_mut().collect::<Vec<_>>());
    assert!(took < 7_000, "the others hear of it with their next heartbeat: {took} ms");
}

#[test]
fn a_member_of_another_epoch_is_fenced_save_for_a_lost_answer() {
    let mut desk = desk();
    let (mut a, mut b) = (client("a", &["orders"]), client("b", &["orders"]));
    assert_eq!(ask(&mut desk, ConsumerHeartbeat { member_epoch: 3, ..a.staying() }), Err(ErrorCode::UnknownMemberId));
    a.beat(&mut desk).expect("joins");
    a.beat(&mut desk).expect("lives");
    let again = ask(&mut desk, a.joining()).expect("the answer may be lost");
    assert_eq!((again.member_epoch, again.assignment.map(|one| flat(&one).len())), (1, Some(6)));
    b.beat(&mut desk).expect("joins");
    settle(&mut desk, &mut [&mut a, &mut b]);
    assert_eq!(a.epoch, 2);
    for epoch in [3, 100] {
        assert_eq!(
            ask(&mut desk, ConsumerHeartbeat { member_epoch: epoch, ..a.staying() }),
            Err(ErrorCode::FencedMemberEpoch)
        );
    }
    let old = ConsumerHeartbeat { member_epoch: 1, ..a.staying() };
    assert_eq!(ask(&mut desk, old.clone()).map(|reply| reply.member_epoch), Ok(2));
    let silent = ConsumerHeartbeat { owned: None, ..old.clone() };
    assert_eq!(ask(&mut desk, silent), Err(ErrorCode::FencedMemberEpoch), "it does not say what it has");
    let greedy =
        ConsumerHeartbeat { owned: Some(listed(&[(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5)].into())), ..old };
    assert_eq!(ask(&mut desk, greedy), Err(ErrorCode::FencedMemberEpoch), "it has what is not its");
    let full =
        ConsumerHeartbeat { rebalance_timeout_ms: 60_000, subscribed_topics: Some(a.topics.clone()), ..a.staying() };
    assert!(ask(&mut desk, full).expect("lives").assignment.is_some(), "a full request gets a full answer");
}

#[test]
fn silent_members_and_those_that_give_nothing_back_are_fenced() {
    let mut desk = desk();
    let (mut a, mut b, mut c) = (client("a", &["orders"]), client("b", &["orders"]), client("c", &["orders"]));
    a.beat(&mut desk).expect("joins");
    b.beat(&mut desk).expect("joins");
    settle(&mut desk, &mut [&mut a, &mut b]);
    c.beat(&mut desk).expect("joins");
    desk.pass(1_000);
    // It is told to give back and does not.
    let holds = a.staying();
    ask(&mut desk, holds.clone()).expect("lives");
    for _ in 0..3 {
        desk.pass(15_000);
        assert_eq!(ask(&mut desk, holds.clone()).map(|_| ()), Ok(()));
        b.beat(&mut desk).expect("lives");
        c.beat(&mut desk).expect("lives");
    }
    desk.pass(15_000);
    assert_eq!(ask(&mut desk, holds), Err(ErrorCode::UnknownMemberId), "its rebalance timeout is over");
    settle(&mut desk, &mut [&mut b, &mut c]);
    assert_eq!((b.owned.len(), c.owned.len()), (3, 3));
    desk.pass(40_000);
    b.beat(&mut desk).expect("lives");
    desk.pass(10_000);
    assert_eq!(c.beat(&mut desk).err(), Some(ErrorCode::UnknownMemberId), "it was silent for 45 s");
    settle(&mut desk, &mut [&mut b]);
    assert_eq!(b.owned.len(), 6);
}

#[test]
fn static_members_come_back_to_what_they_had() {
    let mut desk = desk();
    let named = |id: &str, instance: &str| Client { instance: Some(instance.to_owned()), ..client(id, &["orders"]) };
    let (mut a, mut b) = (named("a", "one"), named("b", "two"));
    a.beat(&mut desk).expect("joins");
    b.beat(&mut desk).expect("joins");
    settle(&mut desk, &mut [&mut a, &mut b]);
    let epoch = describe(&mut desk).group_epoch;
    let mut again = named("a2", "one");
    assert_eq!(again.beat(&mut desk).err(), Some(ErrorCode::UnreleasedInstanceId));
    a.leave(&mut desk, -2).expect("for a while");
    b.beat(&mut desk).expect("lives");
    assert_eq!(b.owned.len(), 3, "its place is kept");
    desk.restart();
    again.beat(&mut desk).expect("the name is free");
    assert_eq!((again.owned.clone(), again.epoch), (a.owned.clone(), epoch), "the same partitions and no rebalance");
    assert_eq!(describe(&mut desk).group_epoch, epoch);
    assert_eq!(a.beat(&mut desk).err(), Some(ErrorCode::FencedInstanceId));
    again.leave(&mut desk, -2).expect("for a while");
    desk.pass(44_000);
    b.beat(&mut desk).expect("lives");
    desk.pass(2_000);
    settle(&mut desk, &mut [&mut b]);
    assert_eq!(b.owned.len(), 6, "it stayed away too long");
    b.leave(&mut desk, -1).expect("for good");
    assert_eq!(describe(&mut desk).state, GroupState::Empty);
}

#[test]
fn expressions_stand_for_topics_that_come_and_go() {
    let mut desk = desk();
    desk.set_topic("__consumer_offsets", 9, 50);
    let mut a = Client { regex: Some("or.*|_.*".to_owned()), topics: vec![], ..client("a", &[]) };
    a.beat(&mut desk).expect("joins");
    assert_eq!(a.owned, (0..6).map(|partition| (1, partition)).collect(), "none of the internal topics");
    desk.set_topic("origins", 2, 2);
    desk.set_topic("xor", 3, 2);
    settle(&mut desk, &mut [&mut a]);
    assert_eq!(a.owned.len(), 8, "the whole name must match");
    desk.restart();
    let forget = ForgetOffsets { group: "g".to_owned(), partitions: vec![("origins".to_owned(), PartitionId(0))] };
    let forgotten = desk.now_asked(GroupRequest::ForgetOffsets(forget)).expect("the group is there");
    assert_eq!(forgotten, GroupReply::ForgetOffsets(vec![Err(ErrorCode::GroupSubscribedToTopic)]));
    desk.drop_topic("orders");
    desk.set_topic("origins", 2, 3);
    settle(&mut desk, &mut [&mut a]);
    assert_eq!(a.owned, [(2, 0), (2, 1), (2, 2)].into());
    for bad in ["(", "a)|(b", &"x".repeat(5_000), r"(\pL{1000}){1000}", r"\1", &"(".repeat(1_000)] {
        let request = ConsumerHeartbeat { subscribed_regex: Some(bad.to_owned()), ..a.staying() };
        assert_eq!(ask(&mut desk, request), Err(ErrorCode::InvalidRegularExpression), "{bad:.20}");
    }
    let mut many = (0..100).map(|i| Client { regex: Some(format!("x{i}")), ..client(&format!("m{i}"), &[]) });
    let refused = many.find_map(|mut one| one.beat(&mut desk).err());
    assert_eq!(refused, Some(ErrorCode::InvalidRegularExpression), "each costs time whenever topics come or go");
    desk.pass(50_000);
    a.epoch = 0;
    a.beat(&mut desk).expect("joins");
    settle(&mut desk, &mut [&mut a]);
    let none = ConsumerHeartbeat {
        subscribed_regex: Some(String::new()),
        subscribed_topics: Some(vec!["xor".into()]),
        ..a.staying()
    };
    let reply = ask(&mut desk, none).expect("legal");
    a.take(&reply);
    assert!(a.owned.is_empty(), "what it does not read any more it gives back at once");
    settle(&mut desk, &mut [&mut a]);
    assert_eq!(a.owned, [(3, 0), (3, 1)].into());
}

/// The newest record of each key, without tombstones.
fn compacted(log: &[GroupRecord]) -> Vec<GroupRecord> {
    let is_newest = |(i, one): &(usize, &GroupRecord)| log[i + 1..].iter().all(|other| other.key != one.key);
    let newest = log.iter().enumerate().filter(is_newest);
    newest.map(|(_, one)| one.clone()).filter(|one| one.value.is_some()).collect()
}

#[test]
fn a_restart_changes_nothing() {
    let mut desk = desk();
    desk.set_topic("others", 2, 5);
    let mut clients: Vec<_> = (0..4).map(|i| client(&format!("m{i}"), &["orders", "others"])).collect();
    clients[1].regex = Some("o.*".to_owned());
    clients[2].assignor = Some("range".to_owned());
    for i in 0..4 {
        clients[i].beat(&mut desk).expect("joins");
        for _ in 0..3 {
            // A new coordinator does not let a target wait.
            desk.restart();
            let before = desk.describe("g");
            let whole = desk.log.clone();
            desk.log = compacted(&whole);
            desk.restart();
            assert_eq!(desk.describe("g"), before, "compaction changes nothing either");
            desk.log = whole;
            desk.restart();
            assert_eq!(desk.describe("g"), before);
            desk.pass(1_100);
            clients[..=i].iter_mut().for_each(|client| drop(client.beat(&mut desk).expect("lives")));
            clients[0].topics.reverse();
            let again =
                ConsumerHeartbeat { subscribed_topics: Some(clients[0].topics[..1].to_vec()), ..clients[0].staying() };
            let reply = ask(&mut desk, again).expect("lives");
            clients[0].take(&reply);
        }
    }
    settle(&mut desk, &mut clients.iter_mut().collect::<Vec<_>>());
    assert_eq!(describe(&mut desk).assignor, "range");
    desk.log.retain(|record| record.key[1] != 8 || record.value.is_none());
    let before = describe(&mut desk).group_epoch;
    desk.restart();
    assert_eq!(describe(&mut desk).group_epoch, before, "members without a place begin anew, the group does not");
}

/// The log of a join is cut wherever it may be; true if the group settles then as if nothing had happened.
fn survives_cuts(broken: Option<Rule>) -> bool {
    let mut desk = desk();
    desk.coordinator.rules.broken = broken;
    let (mut a, mut b) = (client("a", &["orders"]), client("b", &["orders"]));
    a.beat(&mut desk).expect("joins");
    let begin = desk.log.len();
    desk.pass(2_000);
    b.clone().beat(&mut desk).expect("joins");
    let whole = std::mem::take(&mut desk.log);
    (begin..=whole.len()).all(|end| {
        desk.log = whole[..end].to_vec();
        desk.restart();
        (a.epoch, a.owned, b.epoch, b.owned) = (0, BTreeSet::new(), 0, BTreeSet::new());
        for _ in 0..20 {
            a.beat(&mut desk).expect("lives");
            b.beat(&mut desk).expect("lives");
            desk.pass(500);
        }
        (a.owned.len(), b.owned.len()) == (3, 3)
    })
}

#[test]
fn a_change_that_is_half_in_the_log_is_made_up_for() {
    assert!(survives_cuts(None));
    assert!(!survives_cuts(Some(Rule::EpochsAreStoredFirst)), "the rule is not needed");
}

fn commit_as(client: &Client, epoch: i32, partition: u32) -> Commit {
    Commit { generation: epoch, member_id: client.id.clone(), ..commit("g", "orders", partition, 7) }
}

#[test]
fn only_members_commit_in_their_epoch_or_for_what_they_have_had_since() {
    let mut desk = desk();
    let (mut a, mut b) = (client("a", &["orders"]), client("b", &["orders"]));
    a.beat(&mut desk).expect("joins");
    b.beat(&mut desk).expect("joins");
    settle(&mut desk, &mut [&mut a, &mut b]);
    let (mine, others) = (a.owned.first().expect("some").1, b.owned.first().expect("some").1);
    assert_eq!(desk.commit(commit_as(&a, 2, mine)), Ok(vec![Ok(())]));
    assert_eq!(desk.commit(commit_as(&a, 1, mine)), Ok(vec![Ok(())]), "it has had the partition since epoch 1");
    assert_eq!(desk.commit(commit_as(&a, 1, others)), Ok(vec![Err(ErrorCode::StaleMemberEpoch)]));
    assert_eq!(desk.commit(commit_as(&b, 1, others)), Ok(vec![Err(ErrorCode::StaleMemberEpoch)]));
    assert_eq!(desk.commit(commit_as(&a, 3, mine)), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(desk.commit(commit_as(&client("x", &[]), 2, mine)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(desk.commit(commit("g", "orders", 0, 1)), Err(ErrorCode::UnknownMemberId), "who is no member");
    let fetch = |desk: &mut Desk, member: &str, epoch| {
        let asked = OffsetsAsked {
            group: "g".into(),
            member_id: Some(member.into()),
            member_epoch: epoch,
            ..OffsetsAsked::default()
        };
        desk.now_asked(GroupRequest::Offsets(asked)).map(drop).map_err(|failure| failure.code)
    };
    assert_eq!(fetch(&mut desk, "a", 2), Ok(()));
    assert_eq!(fetch(&mut desk, "a", 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(fetch(&mut desk, "x", 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(desk.offset("g", "orders", mine), 7, "administrators need not be members");
    let delete = GroupRequest::Delete { group: "g".to_owned() };
    assert_eq!(desk.now_asked(delete.clone()).map_err(|failure| failure.code), Err(ErrorCode::NonEmptyGroup));
    a.leave(&mut desk, -1).expect("a member");
    b.leave(&mut desk, -1).expect("a member");
    assert_eq!(desk.commit(commit("g", "orders", 0, 9)), Ok(vec![Ok(())]), "nobody is there");
    assert_eq!(desk.now_asked(delete), Ok(GroupReply::Delete));
    desk.restart();
    assert!(desk.coordinator.list().is_empty());
}

#[test]
fn senseless_heartbeats_are_refused_and_leave_nothing_behind() {
    let mut desk = desk();
    let a = client("a", &["orders"]);
    let join = a.joining();
    let bad = [
        ConsumerHeartbeat { member_epoch: -3, ..join.clone() },
        ConsumerHeartbeat { member_id: String::new(), member_epoch: 1, ..join.clone() },
        ConsumerHeartbeat { instance_id: Some(String::new()), ..join.clone() },
        ConsumerHeartbeat { rack_id: Some(String::new()), ..join.clone() },
        ConsumerHeartbeat { member_epoch: -2, ..join.clone() },
        ConsumerHeartbeat { rebalance_timeout_ms: -1, ..join.clone() },
        ConsumerHeartbeat { owned: None, ..join.clone() },
        ConsumerHeartbeat { owned: Some(listed(&[(1, 1)].into())), ..join.clone() },
        ConsumerHeartbeat { subscribed_topics: None, ..join.clone() },
        ConsumerHeartbeat { subscribed_topics: Some(vec!["x".repeat(5_000)]), ..join.clone() },
        ConsumerHeartbeat { subscribed_topics: Some(vec!["x".repeat(200); 10_000]), ..join.clone() },
        ConsumerHeartbeat { member_id: "x".repeat(5_000), ..join.clone() },
    ];
    for request in bad {
        assert_eq!(ask(&mut desk, request), Err(ErrorCode::InvalidRequest));
    }
    let odd = ConsumerHeartbeat { server_assignor: Some("mine".to_owned()), ..join.clone() };
    assert_eq!(ask(&mut desk, odd), Err(ErrorCode::UnsupportedAssignor));
    assert!(desk.coordinator.list().is_empty() && desk.log.is_empty());
    let nameless = ConsumerHeartbeat { member_id: String::new(), ..join };
    let reply = ask(&mut desk, nameless).expect("version 0 lets the coordinator choose");
    assert_eq!(reply.member_id.len(), 32);
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut desk = Desk::new(Config { consumer_max_size: 1, ..quick() });
    desk.set_topic("orders", 1, 6);
    let mut a = client("a", &["orders"]);
    a.beat(&mut desk).expect("joins");
    assert_eq!(client("b", &["orders"]).beat(&mut desk).err(), Some(ErrorCode::GroupMaxSizeReached));
    a.beat(&mut desk).expect("lives");
    assert_eq!(desk.coordinator.stats().members, 1);
}

/// A classic consumer.
#[derive(Clone, Debug, Default)]
struct Classic {
    joined: Joined,
    owned: BTreeSet<Partition>,
    instance: Option<String>,
    cooperative: bool,
}

impl Classic {
    fn request(&self) -> Join {
        let owned = if self.cooperative { self.owned.clone() } else { BTreeSet::new() };
        let mut metadata = vec![0, 1, 0, 0, 0, 1, 0, 6];
        metadata.extend(b"orders");
        // Sticky assignors keep a generation there.
        metadata.extend([0, 0, 0, 4, 0, 0, 0, 7]);
        metadata.extend(1i32.to_be_bytes());
        metadata.extend([0, 6]);
        metadata.extend(b"orders");
        metadata.extend((owned.len() as i32).to_be_bytes());
        owned.iter().for_each(|(_, partition)| metadata.extend(partition.to_be_bytes()));
        let protocols = vec![Protocol { name: "range".to_owned(), metadata: metadata.into() }];
        let (member_id, instance_id) = (self.joined.member_id.clone(), self.instance.clone());
        Join { protocols, member_id, instance_id, requires_member_id: true, ..join_as("classic") }
    }

    /// Joins and syncs at a group of KIP-848.
    fn join(&mut self, desk: &mut Desk) -> Result<(), ErrorCode> {
        loop {
            match desk.now_asked(GroupRequest::Join(self.request())) {
                Ok(GroupReply::Join(JoinReply::Joined(joined))) => self.joined = joined,
                Ok(GroupReply::Join(JoinReply::TakeMemberId(id))) => {
                    self.joined.member_id = id;
                    continue;
                }
                Err(failure) => return Err(failure.code),
                other => panic!("{other:?}"),
            }
            return self.sync(desk);
        }
    }

    fn sync(&mut self, desk: &mut Desk) -> Result<(), ErrorCode> {
        match desk.now_asked(sync(&self.joined, vec![])) {
            Ok(GroupReply::Sync(SyncReply { assignment, .. })) => {
                self.owned = by_name(&read_assignment(&assignment).expect("ours").partitions);
                Ok(())
            }
            Err(failure) => Err(failure.code),
            other => panic!("{other:?}"),
        }
    }

    /// Beats, and joins again if it is told so.
    fn beat(&mut self, desk: &mut Desk) -> Result<(), ErrorCode> {
        let (generation, member_id) = (self.joined.generation, self.joined.member_id.clone());
        let beat = Heartbeat { group: "g".to_owned(), generation, member_id, instance_id: self.instance.clone() };
        match desk.now_asked(GroupRequest::Heartbeat(beat)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.code == ErrorCode::RebalanceInProgress => match self.join(desk) {
                Err(ErrorCode::RebalanceInProgress) => Ok(()),
                other => other,
            },
            Err(failure) => Err(failure.code),
        }
    }
}

fn by_name(named: &Named) -> BTreeSet<Partition> {
    named.values().flatten().map(|partition| (1, partition.0)).collect()
}

/// Two classic members of a stable group, three partitions each.
fn classic_group(desk: &mut Desk, cooperative: bool) -> [Classic; 2] {
    let both: Vec<_> = ["x", "y"]
        .iter()
        .map(|name| {
            let mut request = Classic { cooperative, ..Classic::default() }.request();
            (request.requires_member_id, request.caller.client_id) = (false, (*name).to_owned());
            desk.ask(GroupRequest::Join(request))
        })
        .collect();
    desk.pass(desk.config.initial_rebalance_delay_ms);
    let joined: Vec<_> = both.into_iter().map(|asked| desk.joined(asked)).collect();
    let part = |partitions: std::ops::Range<u32>| {
        let named = Named::from([("orders".to_owned(), partitions.map(PartitionId).collect())]);
        super::protocol::write_assignment(1, &named)
    };
    let parts = vec![(joined[0].member_id.clone(), part(0..3)), (joined[1].member_id.clone(), part(3..6))];
    let asked: Vec<_> = joined.iter().map(|one| desk.ask(sync(one, parts.clone()))).collect();
    asked.into_iter().for_each(|asked| drop(desk.answer(asked).expect("answered").expect("a member")));
    let [first, second] = [&joined[0], &joined[1]].map(Clone::clone);
    let owned = |partitions: std::ops::Range<u32>| partitions.map(|partition| (1, partition)).collect();
    [
        Classic { joined: first, owned: owned(0..3), cooperative, ..Classic::default() },
        Classic { joined: second, owned: owned(3..6), cooperative, ..Classic::default() },
    ]
}

#[test]
fn a_classic_group_is_upgraded_by_a_member_that_joins_and_downgraded_when_it_leaves() {
    for cooperative in [true, false] {
        let mut desk = Desk::new(Config { initial_rebalance_delay_ms: 3_000, ..Config::default() });
        desk.set_topic("orders", 1, 6);
        let [mut x, mut y] = classic_group(&mut desk, cooperative);
        desk.commit(commit_by(&x.joined, "orders", 0, 5)).expect("a member");
        let mut new = client("new", &["orders"]);
        assert_eq!(new.beat(&mut desk).map(|reply| reply.member_epoch), Ok(2));
        assert_eq!(desk.coordinator.list()[0].kind, GroupKind::Consumer);
        assert_eq!(desk.commit(commit_by(&x.joined, "orders", 1, 5)), Ok(vec![Ok(())]), "it goes on reading");
        for round in 0..12 {
            desk.pass(500);
            for classic in [&mut x, &mut y] {
                classic.beat(&mut desk).expect("a member");
            }
            new.beat(&mut desk).expect("lives");
            if round == 3 {
                desk.restart();
            }
            for (one, other) in [(&x.owned, &y.owned), (&x.owned, &new.owned), (&y.owned, &new.owned)] {
                assert!(one.is_disjoint(other), "round {round}: {x:?} {y:?} {new:?}");
            }
        }
        assert_eq!([x.owned.len(), y.owned.len(), new.owned.len()], [2, 2, 2], "{:?}", describe(&mut desk));
        assert_eq!(describe(&mut desk).members.iter().filter(|member| member.is_classic).count(), 2);
        let commits = desk.commit(commit_by(&x.joined, "orders", x.owned.first().expect("some").1, 6));
        assert_eq!(commits, Ok(vec![Ok(())]));
        new.leave(&mut desk, -1).expect("a member");
        assert_eq!(desk.coordinator.list()[0].kind, GroupKind::Classic);
        for _ in 0..2 {
            assert_eq!(desk.offset("g", "orders", 0), if x.owned.contains(&(1, 0)) { 6 } else { 5 });
            let Ok(GroupDescription::Classic(classic)) = desk.describe("g") else { panic!("not classic") };
            assert_eq!((classic.members.len(), &*classic.protocol_type), (2, "consumer"));
            desk.restart();
        }
        let again = [&x, &y].map(|one| desk.ask(GroupRequest::Join(one.request())));
        desk.pass(3_000);
        let [x, y] = again.map(|asked| desk.joined(asked));
        assert!(x.generation > 2 && x.generation == y.generation);
        assert_eq!([x.members.len(), y.members.len()].iter().sum::<usize>(), 2, "one of them leads");
    }
}

#[test]
fn classic_members_join_a_group_of_the_new_kind() {
    let mut desk = desk();
    let mut new = client("new", &["orders"]);
    new.beat(&mut desk).expect("joins");
    let mut old = Classic { cooperative: true, ..Classic::default() };
    old.join(&mut desk).expect("joins");
    assert_eq!(old.owned.len(), 0);
    for _ in 0..6 {
        desk.pass(500);
        old.beat(&mut desk).expect("a member");
        new.beat(&mut desk).expect("lives");
        assert!(old.owned.is_disjoint(&new.owned));
    }
    assert_eq!((old.owned.len(), new.owned.len()), (3, 3));
    let odd = Join { protocol_type: "connect".to_owned(), ..Classic::default().request() };
    assert_eq!(
        desk.now_asked(GroupRequest::Join(odd)).map_err(|failure| failure.code),
        Err(ErrorCode::InconsistentGroupProtocol)
    );
    let stranger = Sync { member_id: "new".to_owned(), generation: 2, group: "g".to_owned(), ..Sync::default() };
    assert_eq!(
        desk.now_asked(GroupRequest::Sync(stranger)).map_err(|failure| failure.code),
        Err(ErrorCode::UnknownMemberId)
    );
    desk.leave(&[(&old.joined.member_id, None), ("nobody", None)]).expect("done");
    settle(&mut desk, &mut [&mut new]);
    assert_eq!(new.owned.len(), 6);
}

#[test]
fn groups_keep_their_kind_where_migration_is_off_or_cannot_be() {
    let policy = Config { consumer_migration_policy: MigrationPolicy::Disabled, ..quick() };
    let mut desk = Desk::new(policy);
    desk.set_topic("orders", 1, 6);
    let [x, _] = classic_group(&mut desk, true);
    let mut new = client("new", &["orders"]);
    assert_eq!(new.beat(&mut desk).err(), Some(ErrorCode::GroupIdNotFound));
    assert_eq!(desk.beat(&x.joined), Ok(()), "nobody noticed");
    let mut desk = Desk::new(quick());
    desk.set_topic("orders", 1, 6);
    let [own, _] = classic_group(&mut desk, false);
    let mut shares = super::protocol::write_assignment(1, &Named::new()).to_vec();
    shares.truncate(shares.len() - 4);
    shares.extend([0, 0, 0, 1, 9]);
    desk.ask(GroupRequest::Join(own.request()));
    desk.pass(120_000);
    let again =
        desk.ask(GroupRequest::Join(Join { member_id: String::new(), requires_member_id: false, ..own.request() }));
    desk.pass(0);
    let again = desk.joined(again);
    let synced = desk.ask(sync(&again, vec![(again.member_id.clone(), shares.into())]));
    desk.answer(synced).expect("answered").expect("a member");
    assert_eq!(new.beat(&mut desk).err(), Some(ErrorCode::GroupIdNotFound), "their assignor says more than partitions");
    let mut desk = Desk::new(quick());
    let asked = desk.ask(GroupRequest::Join(Join { protocol_type: "connect".to_owned(), ..join_as("c") }));
    desk.pass(0);
    let joined = desk.joined(asked);
    desk.sync_all(std::slice::from_ref(&joined), &["a"]);
    assert_eq!(new.beat(&mut desk).err(), Some(ErrorCode::GroupIdNotFound), "these are no consumers");
    assert_eq!(desk.beat(&joined), Ok(()));
    desk.leave(&[(&joined.member_id, None)]).expect("a member");
    new.beat(&mut desk).expect("a group without members may become of either kind");
    desk.restart();
    assert_eq!(desk.coordinator.list()[0].kind, GroupKind::Consumer);
    new.leave(&mut desk, -1).expect("a member");
    let asked = desk.ask(GroupRequest::Join(join_as("c")));
    desk.pass(0);
    desk.joined(asked);
    assert_eq!(desk.coordinator.list()[0].kind, GroupKind::Classic);
}

/// A record of some kind about one of few things, with some value or none.
fn any_record(random: &mut Random) -> GroupRecord {
    let members = ["a", "b", "c"];
    let member = members[random.below(3) as usize];
    let name = |random: &mut Random| ["orders", "others", "none"][random.below(3) as usize].to_owned();
    let partitions = |random: &mut Random| -> Owned {
        let topics = (0..random.below(3)).map(|_| {
            let has = (0..random.below(4)).map(|_| (PartitionId(random.below(8) as u32), random.below(9) as i32));
            let has = has.collect();
            (TopicId([random.below(3) as u8; 16]), has)
        });
        topics.collect()
    };
    let number = |random: &mut Random| random.below(12) as i32 - 2;
    let (key, value) = match random.below(6) {
        0 => (ConsumerKey::Group, ConsumerValue::Group(Epoch { epoch: number(random), metadata_hash: 1 })),
        1 => {
            let made = Timestamp(random.below(9).cast_signed());
            (ConsumerKey::TargetEpoch, ConsumerValue::TargetEpoch(TargetEpoch { epoch: number(random), made }))
        }
        2 => {
            let instance_id = random.one_in(2).then(|| name(random));
            let classic =
                random.one_in(3).then(|| ClassicPart { session_timeout_ms: number(random), protocols: vec![] });
            let topics = (0..random.below(3)).map(|_| name(random)).collect();
            let regex = random.one_in(3).then(|| ["o.*", "("][random.below(2) as usize].to_owned());
            let member_of = Subscription { instance_id, topics, regex, classic, ..Subscription::default() };
            (ConsumerKey::Member(member), ConsumerValue::Member(member_of))
        }
        3 => {
            let target = partitions(random).into_iter().map(|(topic, has)| (topic, has.into_keys().collect()));
            (ConsumerKey::Target(member), ConsumerValue::Target(target.collect()))
        }
        4 => {
            let states = [MemberState::Stable, MemberState::Unrevoked, MemberState::Unreleased, MemberState::Unknown];
            let current = Current {
                epoch: number(random),
                previous_epoch: number(random),
                state: states[random.below(4) as usize],
                assigned: partitions(random),
                revoking: partitions(random),
            };
            (ConsumerKey::Current(member), ConsumerValue::Current(current))
        }
        _ => (ConsumerKey::Regex("o.*"), ConsumerValue::Regex(Resolved::default())),
    };
    key.record("g", Some(&value).filter(|_| !random.one_in(4)))
}

#[test]
fn no_order_of_records_makes_the_coordinator_panic_or_lose_count() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut desk = desk();
        desk.log = (0..random.below(40)).map(|_| any_record(&mut random)).collect();
        desk.restart();
        let mut new = client("new", &["orders", "others"]);
        let _ = new.beat(&mut desk);
        for _ in 0..20 {
            match random.below(5) {
                0 => drop(desk.now_asked(GroupRequest::Join(Classic::default().request()))),
                1 => desk.set_topic("others", 2, 1 + random.below(6) as u32),
                2 => desk.pass(random.below(20_000)),
                3 => drop(ask(&mut desk, ConsumerHeartbeat { member_id: "a".to_owned(), ..new.joining() })),
                _ => drop(new.beat(&mut desk)),
            }
        }
        // Everybody falls silent; nothing is left of them, whatever there was.
        desk.pass(200_000);
        let stats = desk.coordinator.stats();
        assert_eq!(stats.members, 0, "seed {seed}: {:?}", desk.describe("g"));
        let mut last = client("last", &["orders"]);
        last.beat(&mut desk).expect("joins");
        settle(&mut desk, &mut [&mut last]);
        assert_eq!(last.owned.len(), 6, "seed {seed}");
    }
}
