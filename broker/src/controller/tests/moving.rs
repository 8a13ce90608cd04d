//! Reassignments, drained and dead nodes, internal topics.

use super::replicating::{ids, replicated};
use super::*;
use rafka_model::limits::{DEAD_NODE_MS, REASSIGNMENTS_PER_NODE_MAX};

fn reassign(cluster: &mut Cluster, target: Option<&[u64]>) -> Option<ErrorCode> {
    let wanted = vec![(cluster.at(), target.map(ids))];
    match cluster.run(Command::Reassign(wanted), 1) {
        Answer::Reassigned(mut outcomes) => outcomes.remove(0).1.err().map(|failure| failure.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reassignment_ends_when_its_target_is_in_sync_and_not_before() {
    let mut cluster = replicated(5, &[]);
    let before = cluster.state();
    assert_eq!(reassign(&mut cluster, Some(&[4, 2, 5])), None);
    let moving = cluster.state();
    assert_eq!((&moving.replicas, &moving.target), (&ids(&[1, 2, 3, 4, 5]), &ids(&[4, 2, 5])));
    assert_eq!((&moving.adding, &moving.removing), (&ids(&[4, 5]), &ids(&[1, 3])));
    assert_eq!((moving.leader_epoch, &moving.isr), (before.leader_epoch, &before.isr), "the leader goes on");
    assert_eq!(cluster.alter(&[1, 2, 3, 4]).replicas.len(), 5, "node 5 is missing");
    let done = cluster.alter(&[1, 2, 3, 4, 5]);
    let (leader, isr) = (Some(NodeId(4)), ids(&[2, 4, 5]));
    assert_eq!((&done.replicas, done.leader, &done.isr), (&ids(&[4, 2, 5]), leader, &isr));
    assert!(!done.is_moving() && done.target.is_empty());
    assert!(done.leader_epoch > before.leader_epoch);
}

#[test]
fn a_reassignment_is_called_off_or_turned() {
    let mut cluster = replicated(5, &[]);
    let before = cluster.state();
    assert_eq!(reassign(&mut cluster, None), Some(ErrorCode::NoReassignmentInProgress));
    assert_eq!(reassign(&mut cluster, Some(&[1, 2, 4])), None);
    assert_eq!(reassign(&mut cluster, Some(&[1, 2, 5])), None);
    assert_eq!((cluster.state().adding, cluster.state().removing), (ids(&[5]), ids(&[3])));
    assert_eq!(reassign(&mut cluster, None), None);
    let after = cluster.state();
    assert_eq!((&after.replicas, &after.isr, after.is_moving()), (&before.replicas, &before.isr, false));
    assert!(after.leader_epoch > before.leader_epoch, "replicas have gone");
    assert_eq!(reassign(&mut cluster, Some(&[3, 2, 1])), None);
    let turned = cluster.state();
    assert_eq!(
        (turned.replicas, turned.leader, turned.leader_epoch),
        (ids(&[3, 2, 1]), after.leader, after.leader_epoch)
    );
}

#[test]
fn who_alone_has_all_records_is_not_called_off() {
    let mut cluster = replicated(4, &[("min.insync.replicas", "1")]);
    assert_eq!(reassign(&mut cluster, Some(&[4])), None);
    cluster.alter(&[1, 4]);
    assert_eq!(cluster.state().replicas, ids(&[4]), "the whole target is in sync");
    let mut cluster = replicated(5, &[("min.insync.replicas", "1")]);
    assert_eq!(reassign(&mut cluster, Some(&[4, 5])), None);
    cluster.alter(&[1, 4]);
    let (node, epoch) = (NodeId(1), cluster.applied.nodes[&NodeId(1)].epoch);
    cluster.run(Command::Leave { node, epoch }, 1);
    assert_eq!(reassign(&mut cluster, None), Some(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(cluster.alter(&[4, 5]).replicas, ids(&[4, 5]));
}

#[test]
fn who_alone_has_all_records_is_joined_by_others_at_once() {
    let mut cluster = replicated(6, &[("min.insync.replicas", "1")]);
    assert_eq!(reassign(&mut cluster, Some(&[4, 5])), None);
    cluster.alter(&[4, 1]);
    let (node, epoch) = (NodeId(1), cluster.applied.nodes[&NodeId(1)].epoch);
    cluster.run(Command::Leave { node, epoch }, 1);
    assert_eq!(cluster.state().isr, ids(&[4]));
    assert_eq!(reassign(&mut cluster, Some(&[5, 6])), Some(ErrorCode::InvalidReplicaAssignment), "node 4 goes");
    assert_eq!(reassign(&mut cluster, Some(&[4, 6])), None);
    let turned = cluster.state();
    assert_eq!((&turned.adding, &turned.target, turned.leader), (&ids(&[4, 6]), &ids(&[4, 6]), Some(NodeId(4))));
    assert!(!turned.replicas.contains(&NodeId(5)));
    assert_eq!(cluster.alter(&[4, 6]).replicas, ids(&[4, 6]));
}

#[test]
fn a_reassignment_ends_when_an_election_leaves_its_target_alone_in_sync() {
    let mut cluster = replicated(4, &[]);
    cluster.alter(&[1, 2]);
    let leave = |cluster: &mut Cluster, node: u64| {
        let (node, epoch) = (NodeId(node), cluster.applied.nodes[&NodeId(node)].epoch);
        cluster.run(Command::Leave { node, epoch }, 1);
    };
    leave(&mut cluster, 2);
    leave(&mut cluster, 1);
    cluster.heartbeat(2, 2).expect("it comes back");
    let state = cluster.state();
    assert_eq!((state.leader, &state.isr, &state.elr), (Some(NodeId(2)), &ids(&[2]), &ids(&[1])));
    assert_eq!(reassign(&mut cluster, Some(&[1])), None);
    assert!(cluster.state().is_moving(), "node 1 is not in sync");
    leave(&mut cluster, 2);
    assert_eq!(cluster.state().leader, None);
    cluster.heartbeat(1, 3).expect("it comes back");
    let done = cluster.state();
    assert_eq!((&done.replicas, done.leader, &done.isr), (&ids(&[1]), Some(NodeId(1)), &ids(&[1])));
    assert!(!done.is_moving() && done.target.is_empty() && done.elr.is_empty());
}

#[test]
fn a_reassignment_does_not_end_before_its_target_has_recovered() {
    let mut cluster = replicated(4, &[("unclean.recovery.strategy", "aggressive"), ("min.insync.replicas", "1")]);
    assert_eq!(reassign(&mut cluster, Some(&[4])), None);
    for node in 1..=3 {
        let (node, epoch) = (NodeId(node), cluster.applied.nodes[&NodeId(node)].epoch);
        cluster.run(Command::Leave { node, epoch }, 1);
        cluster.run(Command::ReplicaFailed { node, epoch, partitions: vec![cluster.at()] }, 1);
    }
    let state = cluster.state();
    assert_eq!((state.leader, state.recovering, state.is_moving()), (Some(NodeId(4)), true, true));
    assert_eq!(cluster.alter(&[4]).replicas, ids(&[4]));
}

#[test]
fn targets_are_brokers_in_service_that_differ() {
    let mut cluster = replicated(4, &[]);
    cluster.run(Command::Register(Registration { role: Role::Gateway, ..registration(5) }), 0);
    cluster.run(Command::Register(registration(6)), 0);
    for wrong in [&[][..], &[1, 1], &[1, 9], &[1, 5], &[1, 6], &[1, 2, 3, 4, 5, 6]] {
        assert_eq!(reassign(&mut cluster, Some(wrong)), Some(ErrorCode::InvalidReplicaAssignment), "{wrong:?}");
    }
    let mut today = Cluster::new(2);
    today.create(new_topic("orders", 1)).expect("created");
    assert_eq!(reassign(&mut today, Some(&[2])), Some(ErrorCode::InvalidReplicationFactor));
}

#[test]
fn few_partitions_move_to_one_node_at_once_and_the_others_follow() {
    let mut cluster = replicated(3, &[]);
    cluster.create(NewTopic { replication_factor: Some(1), ..new_topic("many", 12) }).expect("created");
    cluster.run(Command::Register(registration(4)), 0);
    cluster.heartbeats(1);
    let id = cluster.applied.topic(&TopicName::new("many").expect("legal")).expect("exists").id;
    let place = |partition| TopicPartition { topic: id, partition: PartitionId(partition) };
    cluster.run(Command::Reassign((0..12).map(|i| (place(i), Some(ids(&[4])))).collect()), 1);
    let moving = |cluster: &Cluster| {
        let states = cluster.applied.topics[&id].partitions.clone();
        (0..).map(place).zip(states).filter(|(_, state)| state.is_moving()).collect::<Vec<_>>()
    };
    let mut rounds = 0;
    while let Some((at, state)) = moving(&cluster).first().cloned() {
        assert!(moving(&cluster).len() <= REASSIGNMENTS_PER_NODE_MAX);
        let leader = state.leader.expect("led");
        let epoch = |id: NodeId| (id, cluster.applied.nodes[&id].epoch);
        let proposal = crate::replication::AlterPartition {
            at,
            leader,
            broker_epoch: epoch(leader).1,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: vec![epoch(leader), epoch(NodeId(4))],
            recovered: false,
        };
        cluster.run(Command::AlterPartition(proposal), 1);
        rounds += 1;
    }
    assert_eq!(rounds, 12);
    assert!(cluster.applied.topics[&id].partitions.iter().all(|state| state.replicas == ids(&[4])));
}

#[test]
fn a_drained_node_gives_its_leaderships_away_at_once_and_then_its_replicas() {
    let mut cluster = replicated(4, &[]);
    let node = NodeId(1);
    let drain = |on| Command::Drain { node, on };
    assert!(matches!(cluster.run(Command::Drain { node: NodeId(9), on: true }, 1), Answer::Refused(_)));
    let no = |answer| matches!(answer, Answer::Refused(failure) if failure.code == ErrorCode::PolicyViolation);
    assert!(matches!(cluster.run(drain(true), 1), Answer::Draining { replicas: 1 }));
    let state = cluster.state();
    assert_eq!((state.leader, &state.adding, &state.removing), (Some(NodeId(2)), &ids(&[4]), &ids(&[1])));
    assert!(state.isr.contains(&node), "it stays in sync until another is");
    assert_eq!(cluster.alter(&[1, 2, 3, 4]).replicas, ids(&[4, 2, 3]));
    assert_eq!(cluster.controller.take_events(), [Event::Drained(node)]);
    assert!(no(cluster.run(Command::Decommission { node }, 1)), "it votes");
    cluster.run(Command::VotersChanged { voters: ids(&[2]) }, 1);
    assert!(matches!(cluster.run(Command::Decommission { node }, 1), Answer::Decommissioned));
    assert!(!cluster.applied.nodes.contains_key(&node));
    let back = Registration { incarnation: [50; 16], ..registration(1) };
    let answer = cluster.run(Command::Register(back), 1);
    assert!(matches!(answer, Answer::Registered(Registered { node: NodeId(5), .. })), "ids are not given out again");
}

#[test]
fn a_drain_that_is_called_off_leaves_the_rest_where_it_is() {
    let mut cluster = replicated(3, &[]);
    let node = NodeId(3);
    cluster.run(Command::Drain { node, on: true }, 1);
    assert!(cluster.state().target.is_empty(), "there is nobody else");
    let no = |answer| matches!(answer, Answer::Refused(failure) if failure.code == ErrorCode::PolicyViolation);
    assert!(no(cluster.run(Command::Decommission { node }, 1)));
    cluster.evaluate(Command::Drain { node, on: false }, 1);
    assert!(no(cluster.run(Command::Decommission { node }, 1)), "it is not being drained");
    cluster.run(Command::Register(registration(4)), 1);
    cluster.heartbeats(2);
    assert!(cluster.state().target.is_empty());
    cluster.run(Command::Drain { node, on: true }, 2);
    assert_eq!(cluster.state().adding, ids(&[4]), "now there is");
    let survives = Registration { incarnation: [50; 16], ..registration(3) };
    cluster.run(Command::Register(survives), 2 + SESSION_MS);
    assert!(cluster.applied.nodes[&node].draining, "a restart does not end it");
}

#[test]
fn replicas_of_a_node_that_is_dead_for_long_move_and_come_back_stays_cheap() {
    let mut cluster = replicated(4, &[]);
    let epoch = cluster.applied.nodes[&NodeId(3)].epoch;
    cluster.run(Command::Leave { node: NodeId(3), epoch }, 1_000);
    let live = |cluster: &mut Cluster, ms| {
        for node in [1, 2, 4] {
            cluster.heartbeat(node, ms).expect("lives");
        }
    };
    let dies = 1_000 + DEAD_NODE_MS;
    live(&mut cluster, dies - 1_000);
    cluster.tick(dies - 1);
    assert!(!cluster.state().is_moving());
    assert_eq!(cluster.controller.next_deadline(), Some(at(dies)));
    cluster.tick(dies);
    assert_eq!((cluster.state().adding, cluster.state().removing), (ids(&[4]), ids(&[3])));
    cluster.heartbeat(3, dies + 1).expect("it comes back");
    assert!(cluster.state().is_moving(), "what has begun goes on");
}

#[test]
fn internal_topics_grow_as_brokers_join_and_others_do_not() {
    let mut cluster = Cluster::with(1, Config { replication_factor_max: 5, ..Config::default() });
    let offsets = NewTopic {
        configs: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
        ..new_topic(crate::group::OFFSETS_TOPIC, 2)
    };
    cluster.create(offsets).expect("created");
    cluster.create(new_topic("orders", 1)).expect("created");
    for who in 2..=4 {
        cluster.run(Command::Register(registration(who)), 0);
        cluster.heartbeats(1);
    }
    let topic = |name: &str| cluster.applied.topic(&TopicName::new(name).expect("legal")).expect("exists");
    assert!(topic(crate::group::OFFSETS_TOPIC).partitions.iter().all(|state| state.goal().len() == 3));
    assert_eq!(topic(crate::group::OFFSETS_TOPIC).replication_factor, 3);
    assert_eq!((topic("orders").partitions[0].goal().len(), topic("orders").replication_factor), (1, 1));
}
