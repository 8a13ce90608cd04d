//! Elections by operators, leaders that return, replication factors, feature levels.

use super::replicating::{TOPIC, ids, replicated};
use super::*;
use rafka_model::limits::LEADER_BALANCE_MS;

fn elect(cluster: &mut Cluster, how: Election) -> Option<ErrorCode> {
    let partitions = vec![cluster.at()];
    match cluster.run(Command::Elect { partitions, how }, 1) {
        Answer::Elected(mut outcomes) => outcomes.remove(0).1.err().map(|failure| failure.code),
        other => panic!("{other:?}"),
    }
}

fn leave(cluster: &mut Cluster, node: u64) {
    let (node, epoch) = (NodeId(node), cluster.applied.nodes[&NodeId(node)].epoch);
    cluster.run(Command::Leave { node, epoch }, 1);
}

#[test]
fn an_operator_elects_the_preferred_leader_or_any() {
    let mut cluster = replicated(3, &[]);
    assert_eq!(elect(&mut cluster, Election::Preferred), Some(ErrorCode::ElectionNotNeeded));
    assert_eq!(elect(&mut cluster, Election::Unclean), Some(ErrorCode::ElectionNotNeeded));
    leave(&mut cluster, 1);
    assert_eq!(cluster.state().leader, Some(NodeId(2)));
    assert_eq!(elect(&mut cluster, Election::Preferred), Some(ErrorCode::PreferredLeaderNotAvailable));
    cluster.heartbeat(1, 1).expect("same registration");
    assert_eq!(elect(&mut cluster, Election::Preferred), Some(ErrorCode::PreferredLeaderNotAvailable), "out of sync");
    cluster.alter(&[1, 2, 3]);
    assert_eq!(elect(&mut cluster, Election::Preferred), None);
    assert_eq!(cluster.state().leader, Some(NodeId(1)));
    cluster.alter(&[1, 2]);
    for node in [1, 2, 3] {
        leave(&mut cluster, node);
    }
    assert_eq!(elect(&mut cluster, Election::Unclean), Some(ErrorCode::EligibleLeadersNotAvailable));
    cluster.heartbeat(3, 2).expect("same registration");
    assert_eq!(cluster.state().leader, None, "nobody asked for it yet");
    assert_eq!(elect(&mut cluster, Election::Unclean), None);
    assert_eq!((cluster.state().leader, cluster.state().isr), (Some(NodeId(3)), ids(&[3])));
    assert_eq!(cluster.controller.take_events().len(), 1);
}

#[test]
fn leaderships_return_after_a_while() {
    let mut cluster = replicated(3, &[]);
    leave(&mut cluster, 1);
    cluster.heartbeat(1, 1).expect("same registration");
    cluster.alter(&[1, 2, 3]);
    for ms in (2_000..=LEADER_BALANCE_MS).step_by(2_000) {
        assert_eq!(cluster.state().leader, Some(NodeId(2)), "{ms}");
        for node in 1..=3 {
            cluster.heartbeat(node, ms).expect("lives");
        }
        cluster.tick(ms);
    }
    assert_eq!(cluster.controller.next_deadline(), Some(at(LEADER_BALANCE_MS + 1)));
    cluster.tick(LEADER_BALANCE_MS + 1);
    assert_eq!(cluster.state().leader, Some(NodeId(1)));
}

#[test]
fn a_topic_has_three_replicas_and_a_minimum_of_two_where_it_can() {
    let config = Config { replication_factor_max: 4, ..Config::default() };
    let made = |nodes: u8, wanted: Option<u16>| {
        let mut cluster = Cluster::with(nodes, config);
        let made = cluster.create(NewTopic { replication_factor: wanted, ..new_topic(TOPIC, 4) });
        made.map(|topic| (topic.replication_factor, topic.configs.get("min.insync.replicas").cloned()))
            .map_err(|failure| failure.code)
    };
    let two = Some("2".to_owned());
    assert_eq!([1, 2].map(|nodes| made(nodes, None)), [Ok((1, None)), Ok((2, None))]);
    assert_eq!([3, 5].map(|nodes| made(nodes, None)), [Ok((3, two.clone())), Ok((3, two.clone()))]);
    assert_eq!(made(5, Some(4)), Ok((4, two)));
    assert_eq!([3, 5].map(|nodes| made(nodes, Some(5))), [const { Err(ErrorCode::InvalidReplicationFactor) }; 2]);
    assert_eq!(made(2, Some(3)), Err(ErrorCode::InvalidReplicationFactor), "two brokers are in service");
}

#[test]
fn the_feature_level_grows_to_what_all_in_service_know() {
    let mut cluster = Cluster::new(2);
    let level = |cluster: &Cluster| cluster.applied.cluster.as_ref().expect("founded").feature_level;
    let newer = |who: u8| Registration { features_max: 2, incarnation: [50 + who; 16], ..registration(who) };
    let refused_with = |answer| match answer {
        Answer::Refused(failure) => failure.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused_with(cluster.run(Command::Upgrade { level: 2 }, 1)), ErrorCode::UnsupportedVersion);
    leave(&mut cluster, 1);
    cluster.run(Command::Register(newer(1)), 2);
    cluster.heartbeat(1, 2).expect("current");
    assert_eq!(refused_with(cluster.run(Command::Upgrade { level: 2 }, 2)), ErrorCode::UnsupportedVersion, "node 2");
    leave(&mut cluster, 2);
    assert!(matches!(cluster.run(Command::Upgrade { level: 2 }, 2), Answer::Done));
    assert_eq!(level(&cluster), 2);
    assert_eq!(refused_with(cluster.run(Command::Upgrade { level: 1 }, 2)), ErrorCode::InvalidRequest);
    let index = cluster.applied.index;
    let back = cluster.controller.heartbeat(NodeId(2), cluster.applied.nodes[&NodeId(2)].epoch, index, at(3));
    assert_eq!(back.expect_err("too old").code, ErrorCode::UnsupportedVersion);
    let old = Registration { incarnation: [60; 16], ..registration(2) };
    assert_eq!(refused_with(cluster.run(Command::Register(old), 3)), ErrorCode::UnsupportedVersion);
    assert!(matches!(cluster.run(Command::Register(newer(2)), 3), Answer::Registered(_)));
}

#[test]
fn an_image_of_an_earlier_version_is_mended() {
    let mut image = crate::testing::image(2, 4);
    // A single replica stayed in sync when its node was fenced.
    image.nodes.get_mut(&NodeId(2)).expect("known").fenced = true;
    for topic in image.topics.values_mut() {
        let partitions = &mut std::sync::Arc::make_mut(topic).partitions;
        partitions.iter_mut().filter(|state| state.leader == Some(NodeId(2))).for_each(|state| state.leader = None);
    }
    assert_eq!(image.check_invariants(), Ok(()));
    let index = image.index;
    let mut controller = Controller::new(image, Config::default(), at(0));
    let away = |controller: &Controller| {
        let states: Vec<_> = controller.overlay().topics.values().flat_map(|topic| topic.partitions.clone()).collect();
        states.into_iter().filter(|state| state.replicas == ids(&[2])).collect::<Vec<_>>()
    };
    assert!(away(&controller).iter().all(|state| state.isr.is_empty() && state.elr == ids(&[2])));
    controller.heartbeat(NodeId(2), BrokerEpoch(2), index, at(1)).expect("current");
    assert!(away(&controller).iter().all(|state| state.leader == Some(NodeId(2)) && state.elr.is_empty()));
}
