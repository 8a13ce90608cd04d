use std::collections::BTreeMap;

use super::*;
use crate::metadata::{Delta, PartitionState, Role, Topic};
use crate::request::{Admin, AdminReply, ConfigChange, NewTopic, TopicDescription, TopicReply};
use rafka_model::limits::{ENTRY_DELTAS_MAX, SESSION_MS, TOPIC_PARTITIONS_MAX};
use rafka_model::{BootId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionId, TopicId, TopicName};

fn at(ms: u64) -> Monotonic {
    Monotonic::default().plus(Duration::from_millis(ms))
}

fn registration(who: u8) -> Registration {
    Registration {
        peer_id: format!("peer-{who}"),
        directory: DirectoryId([who; 16]),
        boot: BootId([1; 16]),
        incarnation: [who; 16],
        addresses: vec!["/ip4/127.0.0.1/tcp/7300".to_owned()],
        lanes: Vec::new(),
        kafka: BTreeMap::new(),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: "0.1.0".to_owned(),
        features_max: 1,
        unclean: false,
    }
}

fn found() -> Command {
    Command::Found { public_key: [9; 32], join_token_hash: None, feature_level: 1, founder: registration(1) }
}

fn registered(decision: &Decision) -> Registered {
    match &decision.answer {
        Answer::Registered(registered) => *registered,
        other => panic!("not registered: {other:?}"),
    }
}

fn refused(decision: Decision) -> ErrorCode {
    match decision.answer {
        Answer::Refused(failure) => failure.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn topics(decision: Decision) -> Vec<Result<TopicDescription, Failure>> {
    match decision.answer {
        Answer::Admin(AdminReply::Topics(replies)) => {
            replies.into_iter().map(|TopicReply { result, .. }| result.map(|(topic, _)| topic)).collect()
        }
        other => panic!("not an answer about topics: {other:?}"),
    }
}

fn code(result: &Result<TopicDescription, Failure>) -> Option<ErrorCode> {
    result.as_ref().err().map(|failure| failure.code)
}

fn new_topic(name: &str, partitions: u32) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions: Some(partitions), ..NewTopic::default() }
}

/// A controller beside the image that its entries were applied to.
struct Cluster {
    controller: Controller,
    applied: Image,
    seed: u8,
}

impl Cluster {
    /// Nodes 1 to `nodes`, all in service.
    fn new(nodes: u8) -> Self {
        Self::with(nodes, Config::default())
    }

    fn with(nodes: u8, config: Config) -> Self {
        let controller = Controller::new(Image::default(), config, at(0));
        let mut cluster = Self { controller, applied: Image::default(), seed: 0 };
        cluster.evaluate(found(), 0);
        for who in 2..=nodes {
            cluster.evaluate(Command::Register(registration(who)), 0);
        }
        cluster.commit();
        cluster.heartbeats(0);
        cluster
    }

    fn evaluate(&mut self, command: Command, ms: u64) -> Decision {
        self.controller.evaluate(command, at(ms))
    }

    fn admin(&mut self, request: Admin) -> Vec<Result<TopicDescription, Failure>> {
        self.seed += 1;
        let command = Command::Admin { request, seed: [self.seed; 32] };
        let decision = self.evaluate(command, 0);
        self.commit();
        topics(decision)
    }

    fn create(&mut self, topic: NewTopic) -> Result<TopicDescription, Failure> {
        self.admin(Admin::CreateTopics { topics: vec![topic], validate_only: false }).remove(0)
    }

    /// Every registered node says that it lives.
    fn heartbeats(&mut self, ms: u64) {
        for node in self.applied.nodes.clone().into_values() {
            self.heartbeat(node.id.0, ms).expect("its epoch is current");
        }
    }

    fn heartbeat(&mut self, node: u64, ms: u64) -> Result<Heartbeat, Failure> {
        let (index, epoch) = (self.applied.index, self.applied.nodes[&NodeId(node)].epoch);
        let answer = self.controller.heartbeat(NodeId(node), epoch, index, at(ms));
        self.commit();
        answer
    }

    fn tick(&mut self, ms: u64) {
        self.controller.tick(at(ms));
        self.commit();
    }

    /// Applies what was decided; how many entries there were.
    fn commit(&mut self) -> usize {
        let entries = self.controller.take_entries();
        for entry in &entries {
            self.applied.apply(entry).expect("applies");
            assert_eq!(self.applied.check_invariants(), Ok(()));
        }
        assert_eq!(&self.applied, self.controller.overlay());
        entries.len()
    }

    fn leaders(&self, topic: &str) -> Vec<(Option<u64>, i32)> {
        let topic = self.applied.topic(&TopicName::new(topic).expect("legal")).expect("exists");
        topic.partitions.iter().map(|state| (state.leader.map(|id| id.0), state.leader_epoch.0)).collect()
    }
}

#[test]
fn a_founder_is_node_one_and_the_voter() {
    let mut cluster = Cluster::new(1);
    assert_eq!(cluster.applied.voters, [NodeId(1)]);
    assert_eq!(cluster.applied.nodes[&NodeId(1)].epoch, BrokerEpoch(1));
    let decision = cluster.evaluate(found(), 0);
    assert_eq!(refused(decision), ErrorCode::InvalidRequest);
    let mut empty = Controller::new(Image::default(), Config::default(), at(0));
    assert_eq!(refused(empty.evaluate(Command::Register(registration(2)), at(0))), ErrorCode::NotReady);
    assert_eq!(empty.take_entries(), []);
}

#[test]
fn nodes_that_register_at_once_get_ids_of_their_own() {
    let mut cluster = Cluster::new(1);
    let decisions: Vec<_> = (2..6).map(|who| cluster.evaluate(Command::Register(registration(who)), 0)).collect();
    for (id, decision) in (2..).zip(&decisions) {
        let Registered { node, epoch } = registered(decision);
        assert_eq!((node.0, epoch.0), (id, decision.index.0), "ids are counted, the epoch is the index of the entry");
    }
    assert_eq!(cluster.commit(), 4);
    assert_eq!(cluster.applied.nodes.len(), 5);
    assert_eq!(decisions.last().expect("four").index, cluster.applied.index);
}

#[test]
fn a_node_serves_once_it_has_seen_its_registration() {
    let mut cluster = Cluster::new(1);
    let Registered { node, epoch } = registered(&cluster.evaluate(Command::Register(registration(2)), 0));
    let early = cluster.controller.heartbeat(node, epoch, MetadataIndex(epoch.0 - 1), at(1)).expect("known");
    assert!(early.fenced);
    let seen = cluster.controller.heartbeat(node, epoch, MetadataIndex(epoch.0), at(2)).expect("known");
    assert_eq!((seen.fenced, seen.index), (false, cluster.controller.overlay().index));
    cluster.commit();
    assert!(!cluster.applied.nodes[&node].fenced);
    assert_eq!(cluster.heartbeat(node.0, 3).map(|answer| answer.index), Ok(cluster.applied.index));
    assert_eq!(cluster.commit(), 0, "a heartbeat of a serving node writes nothing");
}

#[test]
fn silence_fences_and_a_heartbeat_brings_the_same_leader_back_in_a_new_epoch() {
    let mut cluster = Cluster::new(2);
    cluster.create(new_topic("orders", 6)).expect("created");
    let before = cluster.leaders("orders");
    cluster.heartbeat(1, SESSION_MS - 1).expect("lives");
    assert_eq!(cluster.controller.next_deadline(), Some(at(SESSION_MS)));
    cluster.tick(SESSION_MS);
    assert!(cluster.applied.nodes[&NodeId(2)].fenced && !cluster.applied.nodes[&NodeId(1)].fenced);
    let expected = |back: bool| -> Vec<_> {
        let state = |&(leader, epoch)| match leader {
            Some(2) if back => (leader, epoch + 1),
            Some(2) => (None, epoch),
            other => (other, epoch),
        };
        before.iter().map(state).collect()
    };
    assert_eq!(cluster.leaders("orders"), expected(false));
    let topic = cluster.applied.topics.values().next().expect("one");
    let certain = |state: &PartitionState| [&state.isr[..], &state.elr].concat() == state.replicas;
    assert!(topic.partitions.iter().all(certain), "the only copy stays eligible");
    cluster.heartbeat(2, SESSION_MS + 1).expect("same registration");
    assert_eq!(cluster.leaders("orders"), expected(true));
}

#[test]
fn a_returning_node_keeps_its_id_and_its_old_process_is_fenced_off() {
    let mut cluster = Cluster::new(2);
    let old = cluster.applied.nodes[&NodeId(2)].epoch;
    cluster.tick(SESSION_MS);
    let back = Registration { incarnation: [77; 16], addresses: vec![], ..registration(2) };
    let Registered { node, epoch } = registered(&cluster.evaluate(Command::Register(back), SESSION_MS));
    assert!(node == NodeId(2) && epoch > old);
    cluster.commit();
    assert!(cluster.applied.nodes[&node].addresses.is_empty());
    let index = cluster.applied.index;
    let zombie = cluster.controller.heartbeat(node, old, index, at(SESSION_MS)).expect_err("stale");
    assert_eq!(zombie.code, ErrorCode::StaleBrokerEpoch);
    let stranger = cluster.controller.heartbeat(NodeId(50), old, index, at(SESSION_MS)).expect_err("unknown");
    assert_eq!(stranger.code, ErrorCode::StaleBrokerEpoch);
}

#[test]
fn a_second_process_with_a_live_identity_is_refused_and_a_repeated_registration_is_not() {
    let mut cluster = Cluster::new(2);
    cluster.heartbeat(2, 1_000).expect("lives");
    let second = Registration { incarnation: [77; 16], ..registration(2) };
    let other_boot = Registration { boot: BootId([2; 16]), ..registration(2) };
    for intruder in [second.clone(), other_boot] {
        let decision = cluster.evaluate(Command::Register(intruder), 1_000 + SESSION_MS / 4 - 1);
        assert_eq!(refused(decision), ErrorCode::DuplicateBrokerRegistration);
    }
    let again = cluster.evaluate(Command::Register(registration(2)), 2_000);
    assert_eq!(registered(&again), Registered { node: NodeId(2), epoch: cluster.applied.nodes[&NodeId(2)].epoch });
    assert_eq!(cluster.commit(), 0);
    let moved = Registration { addresses: vec!["/ip4/10.0.0.1/tcp/1".to_owned()], ..registration(2) };
    assert!(registered(&cluster.evaluate(Command::Register(moved), 2_000)).epoch > registered(&again).epoch);
    cluster.commit();
    let late = cluster.evaluate(Command::Register(second), 2_000 + SESSION_MS / 4);
    assert_eq!(registered(&late).node, NodeId(2), "the first one has been silent for three heartbeats");
}

#[test]
fn another_data_directory_is_taken_once_the_old_one_is_out_of_service_and_holds_nothing() {
    let mut cluster = Cluster::new(2);
    cluster.create(new_topic("orders", 4)).expect("created");
    let swapped = Registration { directory: DirectoryId([99; 16]), ..registration(2) };
    let early = cluster.evaluate(Command::Register(swapped.clone()), SESSION_MS);
    assert_eq!(refused(early), ErrorCode::DuplicateBrokerRegistration);
    cluster.heartbeat(1, SESSION_MS - 1).expect("lives");
    cluster.tick(SESSION_MS);
    let back = registered(&cluster.evaluate(Command::Register(swapped), SESSION_MS));
    assert_eq!(back.node, NodeId(2));
    cluster.commit();
    cluster.heartbeat(2, SESSION_MS + 1).expect("current");
    let topic = cluster.applied.topics.values().next().expect("one");
    let lost = topic.partitions.iter().find(|state| state.replicas == [NodeId(2)]).expect("of four");
    assert_eq!((lost.leader, &lost.isr[..], &lost.elr[..]), (None, &[][..], &[][..]));
    assert_eq!(lost.last_known_elr, [NodeId(2)]);
}

#[test]
fn a_node_that_leaves_is_fenced_at_once_and_may_come_back_at_once() {
    let mut cluster = Cluster::new(2);
    let epoch = cluster.applied.nodes[&NodeId(2)].epoch;
    let leave = |epoch| Command::Leave { node: NodeId(2), epoch };
    assert_eq!(refused(cluster.evaluate(leave(BrokerEpoch(1)), 1)), ErrorCode::StaleBrokerEpoch);
    assert!(matches!(cluster.evaluate(leave(epoch), 1).answer, Answer::Left));
    cluster.commit();
    assert!(cluster.applied.nodes[&NodeId(2)].fenced);
    let back = Registration { incarnation: [77; 16], ..registration(2) };
    assert!(registered(&cluster.evaluate(Command::Register(back), 2)).epoch > epoch);
}

#[test]
fn a_new_controller_gives_everyone_a_session_and_lets_the_founder_restart() {
    let mut cluster = Cluster::new(2);
    cluster.create(new_topic("orders", 4)).expect("created");
    let now = 1_000_000;
    cluster.controller = Controller::new(cluster.applied.clone(), Config::default(), at(now));
    cluster.tick(now + SESSION_MS - 1);
    assert!(cluster.applied.nodes.values().all(|node| !node.fenced));
    // The founder itself: its own controller forgot its session with its process.
    let back = Registration { incarnation: [77; 16], ..registration(1) };
    let Registered { node, .. } = registered(&cluster.evaluate(Command::Register(back), now + 1));
    cluster.commit();
    assert_eq!(node, NodeId(1));
    assert!(cluster.applied.nodes[&node].fenced, "until its first heartbeat");
    cluster.heartbeat(1, now + 2).expect("current");
    assert!(cluster.leaders("orders").iter().all(|(leader, epoch)| *epoch == i32::from(*leader == Some(1))));
}

#[test]
fn an_election_cut_short_is_finished_by_the_next_controller() {
    let mut image = crate::testing::image(2, 3);
    for topic in image.topics.values_mut() {
        std::sync::Arc::make_mut(topic).partitions.iter_mut().for_each(|state| state.leader = None);
    }
    let mut controller = Controller::new(image, Config::default(), at(0));
    assert_eq!(controller.overlay().unled().count(), 0);
    assert_eq!(controller.take_entries().len(), 1);
}

#[test]
fn fencing_more_partitions_than_an_entry_holds_takes_several_and_never_leaves_a_fenced_leader() {
    let mut cluster = Cluster::new(1);
    for name in ["a", "b"] {
        cluster.create(new_topic(name, 5000)).expect("created");
    }
    cluster.controller.tick(at(SESSION_MS));
    assert_eq!(cluster.commit(), 3, "10,001 deltas; each entry keeps the invariants");
    assert!(cluster.leaders("b").iter().all(|(leader, _)| leader.is_none()));
    cluster.controller.heartbeat(NodeId(1), BrokerEpoch(1), MetadataIndex(9), at(SESSION_MS)).expect("current");
    assert_eq!(cluster.commit(), 3);
    assert!(cluster.leaders("b").iter().all(|leader| *leader == (Some(1), 1)));
}

#[test]
fn topics_that_no_single_entry_holds_are_spread_over_several() {
    let mut cluster = Cluster::new(1);
    let topics = (0..14).map(|i| new_topic(&format!("t{i}"), TOPIC_PARTITIONS_MAX)).collect();
    let request = Admin::CreateTopics { topics, validate_only: false };
    let decision = cluster.evaluate(Command::Admin { request, seed: [1; 32] }, 0);
    let entries = cluster.controller.take_entries();
    assert!(entries.len() > 1);
    for entry in &entries {
        assert!(crate::metadata::encode_entry(entry).is_ok(), "each fits its limit");
        cluster.applied.apply(entry).expect("applies");
    }
    assert_eq!(decision.index, cluster.applied.index, "the answer waits for the last");
    assert_eq!(cluster.applied.topics.len(), 14);
}

#[test]
fn replicated_partitions_move_to_the_next_in_sync_replica() {
    let mut cluster = Cluster::new(3);
    let ids = [NodeId(3), NodeId(1), NodeId(2)];
    let state = PartitionState {
        replicas: ids.to_vec(),
        leader: Some(ids[0]),
        leader_epoch: LeaderEpoch(7),
        partition_epoch: PartitionEpoch(7),
        isr: vec![ids[0], ids[2]],
        elr: vec![],
        ..PartitionState::default()
    };
    let topic = Topic {
        id: TopicId([1; 16]),
        name: TopicName::new("r").expect("legal"),
        configs: BTreeMap::new(),
        replication_factor: 3,
        partitions: vec![state],
        changed: MetadataIndex(0),
    };
    let index = MetadataIndex(cluster.applied.index.0 + 1);
    cluster.applied.apply(&Entry { index, deltas: vec![Delta::TopicCreated(topic)] }).expect("applies");
    cluster.controller = Controller::new(cluster.applied.clone(), Config::default(), at(0));
    cluster.heartbeat(1, 3_000).expect("lives");
    cluster.heartbeat(2, 3_000).expect("lives");
    cluster.tick(SESSION_MS);
    let state = &cluster.applied.topics[&TopicId([1; 16])].partitions[0];
    assert_eq!((state.leader, &state.isr[..]), (Some(ids[2]), &ids[2..]), "node 1 is no in-sync replica");
    assert_eq!((state.leader_epoch, state.partition_epoch), (LeaderEpoch(8), PartitionEpoch(8)));
    cluster.tick(3_000 + SESSION_MS);
    let state = &cluster.applied.topics[&TopicId([1; 16])].partitions[0];
    assert_eq!((state.leader, &state.isr[..], &state.elr[..]), (None, &[][..], &ids[2..]));
}

#[test]
fn topics_are_checked_before_they_are_made() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create(NewTopic { partitions: None, ..new_topic("a.b", 0) }).expect("created");
    assert_eq!((topic.partitions.len(), topic.replication_factor), (1, 1));
    let with = |key: &str, value: &str| NewTopic {
        configs: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..new_topic("x", 1)
    };
    for (topic, expected) in [
        (new_topic("a.b", 1), ErrorCode::TopicAlreadyExists),
        (new_topic("a_b", 1), ErrorCode::InvalidTopic),
        (new_topic("a/b", 1), ErrorCode::InvalidTopic),
        (new_topic("x", 0), ErrorCode::InvalidPartitions),
        (new_topic("x", TOPIC_PARTITIONS_MAX + 1), ErrorCode::InvalidPartitions),
        (NewTopic { replication_factor: Some(0), ..new_topic("x", 1) }, ErrorCode::InvalidReplicationFactor),
        (NewTopic { replication_factor: Some(3), ..new_topic("x", 1) }, ErrorCode::InvalidReplicationFactor),
        (with("retention.sm", "1"), ErrorCode::InvalidConfig),
        (with("retention.ms", "soon"), ErrorCode::InvalidConfig),
    ] {
        let name = topic.name.clone();
        assert_eq!(code(&cluster.create(topic)), Some(expected), "{name}");
    }
    let refused = cluster.create(NewTopic { replication_factor: Some(2), ..new_topic("x", 1) }).expect_err("refused");
    assert_eq!(refused.message, "replication is not available in this version; use 1");
    assert_eq!(cluster.applied.topics.len(), 1);
    assert!(cluster.create(NewTopic { replication_factor: Some(1), ..with("retention.ms", "5") }).is_ok());
}

#[test]
fn each_topic_of_a_request_has_an_outcome_of_its_own() {
    let mut cluster = Cluster::new(3);
    let topics = ["a", "b", "a", "c/d", "e"].map(|name| new_topic(name, 2)).to_vec();
    let checked = cluster.admin(Admin::CreateTopics { topics: topics.clone(), validate_only: true });
    assert!(cluster.applied.topics.is_empty(), "validate only");
    let made = cluster.admin(Admin::CreateTopics { topics, validate_only: false });
    for outcome in [checked, made] {
        let codes: Vec<_> = outcome.iter().map(code).collect();
        let (twice, illegal) = (Some(ErrorCode::InvalidRequest), Some(ErrorCode::InvalidTopic));
        assert_eq!(codes, [twice, None, twice, illegal, None]);
    }
    let ids: std::collections::BTreeSet<_> = cluster.applied.topics.keys().collect();
    assert_eq!(ids.len(), 2);
    let names = ["b", "nope", "e"].map(str::to_owned).to_vec();
    for (validate_only, left) in [(true, 2), (false, 0)] {
        let gone = cluster.admin(Admin::DeleteTopics { names: names.clone(), validate_only });
        assert_eq!(gone.iter().map(code).collect::<Vec<_>>(), [None, Some(ErrorCode::UnknownTopicOrPartition), None]);
        assert_eq!(cluster.applied.topics.len(), left);
    }
}

#[test]
fn partitions_go_to_live_brokers_only() {
    let mut cluster = Cluster::new(3);
    for (who, change) in [(4, (Role::Gateway, 1000)), (5, (Role::Broker, 0)), (6, (Role::Broker, 1000))] {
        let (role, weight_milli) = change;
        cluster.evaluate(Command::Register(Registration { role, weight_milli, ..registration(who) }), 0);
    }
    cluster.commit();
    let index = cluster.applied.index;
    for node in cluster.applied.nodes.clone().into_values().filter(|node| node.peer_id != "peer-6") {
        cluster.controller.heartbeat(node.id, node.epoch, index, at(1)).expect("current");
    }
    cluster.commit();
    cluster.create(new_topic("orders", 30)).expect("created");
    let leaders: std::collections::BTreeSet<_> = cluster.leaders("orders").into_iter().map(|(id, _)| id).collect();
    assert_eq!(leaders, [1, 2, 3].map(Some).into());
    cluster.tick(SESSION_MS + 1);
    let nobody = cluster.create(new_topic("x", 1)).expect_err("all are fenced");
    assert_eq!(nobody.code, ErrorCode::LeaderNotAvailable);
    assert!(nobody.message.contains("of 6 registered nodes"), "{nobody}");
}

#[test]
fn configs_change_key_by_key_and_the_storage_engine_never() {
    let mut cluster = Cluster::new(1);
    cluster.create(new_topic("orders", 1)).expect("created");
    let mut alter = |changes: &[(&str, Option<&str>)], validate_only| {
        let own = |(key, value): &(&str, Option<&str>)| {
            ((*key).to_owned(), value.map_or(ConfigChange::Reset, |value| ConfigChange::Set(value.to_owned())))
        };
        let (name, changes) = ("orders".to_owned(), changes.iter().map(own).collect());
        let reply = cluster.admin(Admin::AlterConfigs { name, changes, replace: false, validate_only }).remove(0);
        let stored = cluster.applied.topics.values().next().expect("one").configs.clone();
        (reply.map(|topic| topic.configs).map_err(|failure| failure.code), stored)
    };
    let one = |value: &str| BTreeMap::from([("retention.ms".to_owned(), value.to_owned())]);
    assert_eq!(alter(&[("retention.ms", Some("5"))], true), (Ok(one("5")), BTreeMap::new()));
    assert_eq!(alter(&[("retention.ms", Some("5")), ("segment.ms", None)], false), (Ok(one("5")), one("5")));
    assert_eq!(alter(&[("retention.ms", Some("x"))], false), (Err(ErrorCode::InvalidConfig), one("5")));
    assert_eq!(alter(&[("nope", None)], false), (Err(ErrorCode::InvalidConfig), one("5")));
    assert_eq!(alter(&[("storage.engine", Some("memory"))], false), (Err(ErrorCode::InvalidConfig), one("5")));
    assert_eq!(alter(&[("storage.engine", None)], false), (Ok(one("5")), one("5")), "it is the default already");
    assert_eq!(alter(&[("retention.ms", None)], false), (Ok(BTreeMap::new()), BTreeMap::new()));
    let missing =
        Admin::AlterConfigs { name: "x".to_owned(), changes: BTreeMap::new(), replace: true, validate_only: false };
    assert_eq!(code(&cluster.admin(missing)[0]), Some(ErrorCode::UnknownTopicOrPartition));
}

#[test]
fn configs_are_replaced_and_lists_are_edited() {
    let mut cluster = Cluster::new(1);
    let throttled = "leader.replication.throttled.replicas";
    let configs = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    cluster.create(NewTopic { configs, ..new_topic("orders", 1) }).expect("created");
    let mut alter = |key: &str, change, replace| {
        let changes = BTreeMap::from([(key.to_owned(), change)]);
        let name = "orders".to_owned();
        let request = Admin::AlterConfigs { name, changes, replace, validate_only: false };
        cluster.admin(request).remove(0).map(|topic| topic.configs).map_err(|failure| failure.code)
    };
    let append = |words: &str| ConfigChange::Append(words.to_owned());
    let one = |key: &str, value: &str| Ok(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    assert_eq!(alter("segment.ms", ConfigChange::Set("7".to_owned()), true), one("segment.ms", "7"));
    assert_eq!(alter("segment.ms", ConfigChange::Reset, false), Ok(BTreeMap::new()));
    assert_eq!(alter(throttled, append("0:1,1:2"), false), one(throttled, "0:1,1:2"));
    assert_eq!(alter(throttled, append("1:2, 2:3"), false), one(throttled, "0:1,1:2,2:3"));
    assert_eq!(alter(throttled, ConfigChange::Subtract("1:2,9:9".to_owned()), false), one(throttled, "0:1,2:3"));
    assert_eq!(alter("segment.ms", append("1"), false), Err(ErrorCode::InvalidConfig));
}

#[test]
fn partitions_go_where_they_are_assigned() {
    let mut cluster = Cluster::new(3);
    let assigned = |assignments: &[&[u64]]| NewTopic {
        assignments: assignments.iter().map(|ids| ids.iter().copied().map(NodeId).collect()).collect(),
        partitions: None,
        ..new_topic("orders", 0)
    };
    let refused = Some(ErrorCode::InvalidReplicaAssignment);
    for wrong in [&[&[9][..]][..], &[&[]], &[&[1, 1]], &[&[1, 2]], &[&[1], &[1, 2]]] {
        assert_eq!(code(&cluster.create(assigned(wrong))), refused, "{wrong:?}");
    }
    let both = NewTopic { partitions: Some(1), ..assigned(&[&[1]]) };
    assert_eq!(code(&cluster.create(both)), Some(ErrorCode::InvalidRequest));
    cluster.create(assigned(&[&[3], &[1], &[3]])).expect("created");
    let mut grow = |total, ids: &[u64]| {
        let assignments = ids.iter().map(|id| vec![NodeId(*id)]).collect();
        cluster.admin(Admin::AddPartitions { name: "orders".to_owned(), total, assignments, validate_only: false })
    };
    assert_eq!(code(&grow(5, &[2])[0]), refused, "two are added");
    assert_eq!(code(&grow(5, &[2, 4])[0]), refused);
    assert_eq!(code(&grow(5, &[2, 2])[0]), None);
    let leaders: Vec<_> = cluster.leaders("orders").into_iter().map(|(id, _)| id).collect();
    assert_eq!(leaders, [3, 1, 3, 2, 2].map(Some));
}

#[test]
fn topics_are_deleted_by_id_and_not_their_successors() {
    let mut cluster = Cluster::new(1);
    let first = cluster.create(new_topic("orders", 1)).expect("created").id;
    let delete = |id| Admin::DeleteTopicsById { ids: vec![id] };
    assert_eq!(code(&cluster.admin(delete(first))[0]), None);
    let second = cluster.create(new_topic("orders", 1)).expect("created").id;
    assert_eq!(code(&cluster.admin(delete(first))[0]), Some(ErrorCode::UnknownTopicId));
    assert_eq!(cluster.applied.topics.keys().collect::<Vec<_>>(), [&second]);
}

#[test]
fn the_topic_of_committed_offsets_stays_as_it_is() {
    let mut cluster = Cluster::new(3);
    let new = |policy: &str| NewTopic {
        name: crate::group::OFFSETS_TOPIC.to_owned(),
        partitions: Some(5),
        configs: [("cleanup.policy".to_owned(), policy.to_owned())].into(),
        ..NewTopic::default()
    };
    let name = || crate::group::OFFSETS_TOPIC.to_owned();
    let create = |policy| Admin::CreateTopics { topics: vec![new(policy)], validate_only: false };
    let alter = |value: &str| Admin::AlterConfigs {
        name: name(),
        changes: [("cleanup.policy".to_owned(), ConfigChange::Set(value.to_owned()))].into(),
        replace: false,
        validate_only: false,
    };
    let grow = Admin::AddPartitions { name: name(), total: 6, assignments: Vec::new(), validate_only: false };
    let codes: Vec<_> = [
        create("delete"),
        create("compact"),
        alter("delete"),
        grow,
        Admin::DeleteTopics { names: vec![name()], validate_only: false },
    ]
    .into_iter()
    .map(|request| code(&cluster.admin(request)[0]))
    .collect();
    let (config, partitions, policy) =
        (ErrorCode::InvalidConfig, ErrorCode::InvalidPartitions, ErrorCode::PolicyViolation);
    assert_eq!(codes, [Some(config), None, Some(config), Some(partitions), Some(policy)]);
}

#[test]
fn topics_grow_and_never_shrink() {
    let mut cluster = Cluster::new(3);
    cluster.create(new_topic("orders", 3)).expect("created");
    let before = cluster.leaders("orders");
    let mut grow = |total, validate_only| {
        let name = "orders".to_owned();
        cluster.admin(Admin::AddPartitions { name, total, assignments: vec![], validate_only }).remove(0)
    };
    for total in [0, 2, 3, TOPIC_PARTITIONS_MAX + 1, 4 + ENTRY_DELTAS_MAX as u32] {
        assert_eq!(code(&grow(total, false)), Some(ErrorCode::InvalidPartitions), "{total}");
    }
    assert_eq!(grow(12, true).expect("would do").partitions.len(), 12);
    let grown = grow(12, false).expect("grown");
    assert_eq!(grown.partitions.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    let after = cluster.leaders("orders");
    assert_eq!(after[..3], before[..]);
    let described = crate::describe_topics(&cluster.applied, &[]).remove(0).expect("known");
    assert_eq!(described, grown);
    assert_eq!(grown.partitions[11].0, PartitionId(11));
}

#[test]
fn metadata_is_read_elsewhere() {
    let mut cluster = Cluster::new(1);
    let command = Command::Admin { request: Admin::DescribeCluster, seed: [0; 32] };
    assert_eq!(refused(cluster.evaluate(command, 0)), ErrorCode::InvalidRequest);
}

#[test]
fn claims_beyond_the_limits_are_refused() {
    let mut cluster = Cluster::new(1);
    let long = "x".repeat(1000);
    for wrong in [
        Registration { peer_id: String::new(), ..registration(2) },
        Registration { peer_id: long.clone(), ..registration(2) },
        Registration { rack: Some(long.clone()), ..registration(2) },
        Registration { version: long.clone(), ..registration(2) },
        Registration { addresses: vec![long.clone()], ..registration(2) },
        Registration { addresses: vec![String::new(); 17], ..registration(2) },
        Registration { ops: Some(long.clone()), ..registration(2) },
        Registration { kafka: BTreeMap::from([("external".to_owned(), long.clone())]), ..registration(2) },
    ] {
        assert_eq!(refused(cluster.evaluate(Command::Register(wrong), 0)), ErrorCode::InvalidRequest);
    }
    assert_eq!(cluster.commit(), 0);
}

mod moving;
mod operating;
mod replicating;
