//! Coordinators of groups in real nodes, asked over the mesh.

use std::collections::BTreeSet;

use rafka_broker::group::request::{Commit, OffsetToCommit, OffsetsAsked};
use rafka_broker::group::{GroupReply, GroupRequest};
use rafka_broker::{ErrorCode, Failure};
use rafka_client::{NodeId, PartitionId, ProducerConfig, Record};
use rafka_protocols::Protocol;
use rafka_protocols::group::{self, Reply, Request};

use crate::peer::Peer;
use crate::support::{Node, cluster, create, eventually};

async fn connect(node: &Node) -> Peer {
    let cluster = node.cluster_id().parse().expect("a cluster id");
    let name = Protocol::Resolve.name(&cluster);
    Peer::connect(node, &cluster, name).await
}

async fn ask(peer: &mut Peer, request: Request) -> Result<Reply, Failure> {
    let frame = peer.call(Protocol::Group, group::encode_request(&request)).await.expect("an answer");
    group::decode_reply(&frame).expect("a reply")
}

/// As [`ask`], again for as long as the coordinator is not ready.
async fn asked(peer: &mut Peer, request: GroupRequest) -> GroupReply {
    let request = Request::Group(request);
    loop {
        match ask(peer, request.clone()).await {
            Ok(Reply::Group(reply)) => return reply,
            Ok(other) => panic!("{other:?}"),
            Err(failure) => assert_eq!(failure.code, ErrorCode::CoordinatorLoadInProgress, "{failure}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn commit(group: &str, offsets: &[(u32, i64)]) -> GroupRequest {
    let one = |&(partition, offset): &(u32, i64)| OffsetToCommit {
        topic: "orders".to_owned(),
        partition: PartitionId(partition),
        offset,
        leader_epoch: -1,
        ..OffsetToCommit::default()
    };
    let offsets = offsets.iter().map(one).collect();
    GroupRequest::Commit(Commit { group: group.to_owned(), generation: -1, offsets, ..Commit::default() })
}

async fn stored(peer: &mut Peer, group: &str) -> Vec<(u32, i64)> {
    let asked_for = OffsetsAsked { group: group.to_owned(), member_epoch: -1, ..OffsetsAsked::default() };
    let GroupReply::Offsets(found) = asked(peer, GroupRequest::Offsets(asked_for)).await else { panic!("no offsets") };
    found.into_iter().map(|found| (found.partition.0, found.offset)).collect()
}

async fn list(peer: &mut Peer) -> BTreeSet<String> {
    loop {
        match ask(peer, Request::List).await {
            Ok(Reply::List(listed)) => return listed.into_iter().map(|listed| listed.group).collect(),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => assert_eq!(failure.code, ErrorCode::CoordinatorLoadInProgress, "{failure}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_survive_a_killed_process() {
    let node = Node::start(&[]).await;
    let client = node.client().await;
    create(&client, "orders", 3, &[]).await;
    let mut peer = connect(&node).await;
    let missing = Err(ErrorCode::UnknownTopicOrPartition);
    let stored_some = asked(&mut peer, commit("one", &[(0, 7), (9, 1), (1, 8)])).await;
    assert_eq!(stored_some, GroupReply::Commit(vec![Ok(()), missing, Ok(())]), "there is no partition 9");
    for offset in 1..=50 {
        let reply = asked(&mut peer, commit("two", &[(2, offset)])).await;
        assert_eq!(reply, GroupReply::Commit(vec![Ok(())]));
    }
    let node = node.kill().start(&[]).await;
    let mut peer = connect(&node).await;
    assert_eq!(stored(&mut peer, "one").await, [(0, 7), (1, 8)]);
    assert_eq!(stored(&mut peer, "two").await, [(2, 50)]);
    assert_eq!(stored(&mut peer, "three").await, []);
    assert_eq!(list(&mut peer).await, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    // Behind the offset of group "two" lies nothing yet, then one record.
    let client = node.client().await;
    let producer = client.producer(ProducerConfig::default());
    let record = Record::new("orders".parse().expect("a name"), "value").partition(PartitionId(1));
    producer.send(record).await.expect("delivered");
    let text = node.ops("/metrics").await;
    for line in [
        r#"kafka_consumergroup_current_offset{consumergroup="two",topic="orders",partition="2"} 50"#,
        r#"kafka_consumergroup_lag{consumergroup="two",topic="orders",partition="2"} 0"#,
        r#"rafka_groups{state="Empty"} 2"#,
        "rafka_group_coordinators 50",
        "rafka_group_offsets 3",
        "rafka_metric_group_offsets_omitted 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    // Nobody but nodes writes where offsets are kept.
    let record = Record::new("__consumer_offsets".parse().expect("a name"), "value").key("key");
    let refused = producer.send(record).await.expect_err("internal");
    assert!(refused.to_string().contains("internal"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_says_who_coordinates_and_only_that_one_answers() {
    let nodes = cluster(3).await;
    let client = nodes[0].client().await;
    create(&client, "orders", 3, &[]).await;
    let mut peers = Vec::new();
    for node in &nodes {
        peers.push(connect(node).await);
    }
    // Twelve groups, so that every node coordinates some.
    let groups: Vec<_> = (0..12).map(|number| format!("group {number}")).collect();
    let mut coordinators = BTreeSet::new();
    for group in &groups {
        let Ok(Reply::Coordinator(found)) = ask(&mut peers[0], Request::Coordinator { group: group.clone() }).await
        else {
            panic!("nobody coordinates {group}");
        };
        coordinators.insert(found.node);
        for (node, peer) in nodes.iter().zip(&mut peers) {
            // Not every node has heard of the topic when the first has.
            let request = Request::Group(commit(group, &[(0, 5)]));
            eventually("an answer", async || match ask(peer, request.clone()).await {
                Ok(Reply::Group(reply)) => {
                    assert_eq!(node.id(), found.node, "it coordinates the group");
                    assert_eq!(reply, GroupReply::Commit(vec![Ok(())]));
                    Some(())
                }
                Ok(other) => panic!("{other:?}"),
                Err(failure) if failure.code == ErrorCode::NotCoordinator => {
                    assert_ne!(node.id(), found.node);
                    let hint = failure.leader.expect("a hint");
                    let right = nodes.iter().find(|node| node.id() == found.node).expect("a node");
                    assert_eq!((hint.node, hint.peer_id.as_deref()), (Some(found.node), Some(right.peer_id())));
                    Some(())
                }
                Err(failure) => {
                    assert!(failure.code.is_retriable(), "{failure}");
                    None
                }
            })
            .await;
        }
    }
    assert_eq!(coordinators, nodes.iter().map(Node::id).collect::<BTreeSet<NodeId>>());
    let mut all = Vec::new();
    for peer in &mut peers {
        all.extend(list(peer).await);
    }
    all.sort();
    let mut expected = groups.clone();
    expected.sort();
    assert_eq!(all, expected, "each group is at one node");
}
