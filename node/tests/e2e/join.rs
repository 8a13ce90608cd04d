//! Founding, joining, coming back.

use std::net::TcpListener;
use std::time::Instant;

use rafka_client::{ClientConfig, ConsumerConfig, ErrorKind, ProducerConfig, Record, Start};

use crate::support::{DEADLINE, Home, Node, cluster, create, eventually, free_ports, led_by};

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_an_address_leads_to_the_cluster() {
    let founder = Node::start(&[]).await;
    let (mesh, bare, port) = (founder.mesh(), founder.multiaddr(), founder.port());
    let (host_port, named) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let (dns, prefixed) = (format!("/dns4/localhost/tcp/{port}"), format!("dns:localhost:{port}"));
    let [dead] = free_ports();
    let dead = format!("127.0.0.1:{dead}");
    let forms: [&[&str]; 7] = [&[mesh], &[bare], &[&host_port], &[&named], &[&dns], &[&prefixed], &[&dead, mesh]];
    let joining = forms.map(|form| {
        let flags: Vec<&str> = form.iter().flat_map(|address| ["--bootstrap", address]).collect();
        Home::new().spawn(&flags)
    });
    for (form, node) in forms.iter().zip(joining) {
        assert_eq!(node.ready().await.cluster_id(), founder.cluster_id(), "by {form:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_peers_that_are_not_up_yet() {
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = door.local_addr().expect("bound").to_string();
    let joiner = Home::new().spawn(&["--bootstrap", &address]);
    // It has looked for its peer, and found somebody who hangs up.
    drop(tokio::task::spawn_blocking(move || door.accept()).await.expect("ran").expect("dialled"));
    let founder = Home::new().start(&["--listen", &address]).await;
    assert_eq!(joiner.ready().await.cluster_id(), founder.cluster_id());
}

/// Issue: five nodes that join at once through one address; within 2 s each holds the other four, authenticated, in its
/// routing table.
#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_that_join_at_once_know_each_other() {
    let nodes = cluster(5).await;
    let ready = Instant::now();
    let client = nodes[0].client().await;
    for node in &nodes {
        eventually("four members in the routing table", async || {
            let swarm = client.mesh().swarm(node.peer()).await.expect("every node tells of its swarm");
            let known = swarm.peers.iter().filter(|other| other.member && other.in_routing_table).count();
            (known == 4).then_some(())
        })
        .await;
    }
    let took = ready.elapsed();
    assert!(took.as_secs() < 2, "the last knew all others {took:?} after it was ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_nodes_that_expect_each_other_found_one_cluster() {
    let ports = free_ports::<3>().map(|port| format!("127.0.0.1:{port}"));
    let [a, b, c] = &ports;
    let common = ["--bootstrap-expect", "3", "--bootstrap", a, "--bootstrap", b, "--bootstrap", c, "--listen"];
    let starting = ports.each_ref().map(|own| Home::new().spawn(&[&common[..], &[own.as_str()]].concat()));
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.ready().await);
    }
    let mut ids: Vec<_> = nodes.iter().map(|node| node.id().0).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has an id of its own");
    assert!(nodes.iter().all(|node| node.cluster_id() == nodes[0].cluster_id()), "one cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_and_membership_survive_a_restart() {
    let mut nodes = cluster(2).await;
    let joiner = nodes.pop().expect("two");
    let founder = nodes.pop().expect("two");
    let who = |node: &Node| (node.peer_id().to_owned(), node.id(), node.cluster_id().to_owned());
    let (founder_was, joiner_was) = (who(&founder), who(&joiner));
    let port = founder.host_port();
    // One is killed and one stopped; the joiner is not even told where to look.
    let (founder, joiner) = (founder.kill(), joiner.stop());
    let (founder, joiner) = (founder.spawn(&["--listen", &port]), joiner.spawn(&[]));
    let (founder, joiner) = (founder.ready().await, joiner.ready().await);
    assert_eq!((who(&founder), who(&joiner)), (founder_was, joiner_was));
}

/// Issue: a node restarted with another address is found again; here the founder, which decides for all, and another.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_move_are_found_again_by_those_who_use_them() {
    let mut nodes = cluster(3).await;
    let client = nodes[2].client().await;
    let topic = create(&client, "moving", 6, &[]).await;
    let producer = client.producer(ProducerConfig::default());
    let config = ConsumerConfig { start: Start::Earliest, ..ConsumerConfig::topics([topic.clone()]) };
    let mut consumer = client.consumer(config).await.expect("subscribed");
    for mover in [1, 0] {
        let (was, node) = (nodes[mover].port(), nodes[mover].id());
        let partition = led_by(&client, &topic, node).await[0];
        let [port] = free_ports();
        let moved = nodes.remove(mover).kill().start(&["--listen", &format!("127.0.0.1:{port}")]).await;
        assert!(moved.id() == node && moved.port() != was);
        nodes.insert(mover, moved);
        let sent = producer.send(Record::new(topic.clone(), format!("to {node}")).partition(partition));
        sent.await.expect("delivered to the new address");
        let read = tokio::time::timeout(DEADLINE, futures::StreamExt::next(&mut consumer)).await.expect("in time");
        let read = read.expect("goes on").expect("read from the new address");
        assert_eq!(read.value.as_deref(), Some(format!("to {node}").as_bytes()));
    }
    // Changes need the controller, which has moved.
    create(&nodes[2].client().await, "afterwards", 1, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_than_the_named_one_is_not_joined() {
    let founder = Node::start(&[]).await;
    let other = "ab".repeat(32);
    let lost = Home::new().spawn(&["--bootstrap", founder.mesh(), "--cluster-id", &other]);
    lost.said("is in another cluster than --cluster-id names").await;
    let pinned = Home::new().start(&["--bootstrap", founder.mesh(), "--cluster-id", founder.cluster_id()]).await;
    assert_eq!(pinned.cluster_id(), founder.cluster_id());
    let cluster = pinned.cluster_id().to_owned();
    let home = pinned.stop();
    home.is_refused(&["--cluster-id", &other], 1, &["belongs to cluster", &cluster, &other]);
    Home::new().is_refused(&["--cluster-id", &other], 1, &["cannot found cluster", "--bootstrap"]);
    let named = ClientConfig { cluster_id: other.parse().ok(), connect_timeout_ms: 500, ..ClientConfig::default() };
    let named = ClientConfig { bootstrap: vec![founder.mesh().to_owned()], ..named };
    rafka_client::Client::connect(named).await.map(drop).expect_err("another cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_lets_in_who_knows_it_and_nobody_else() {
    let home = Home::new();
    let (right, wrong) = (home.file("right", "a secret\n"), home.file("wrong", "no secret\n"));
    let founder = home.start(&["--join-token-file", &right]).await;
    let bootstrap = ["--bootstrap", founder.mesh()];
    let with = |token: &str| [&bootstrap[..], &["--join-token-file", token]].concat().join(" ");
    let (good, bad) = (with(&right), with(&wrong));
    let (good, bad) = (good.split(' ').collect::<Vec<_>>(), bad.split(' ').collect::<Vec<_>>());
    Home::new().is_refused(&bad, 1, &["the join token is not this cluster's", "--join-token-file"]);
    Home::new().is_refused(&bootstrap, 1, &["this cluster wants a join token", "--join-token-file"]);
    let member = Home::new().start(&good).await;
    assert_eq!(member.cluster_id(), founder.cluster_id());
    for node in [&founder, &member] {
        let client = |token: Option<&str>| ClientConfig {
            bootstrap: vec![node.mesh().to_owned()],
            token: token.map(str::to_owned),
            ..ClientConfig::default()
        };
        for token in [None, Some("no secret")] {
            let error = rafka_client::Client::connect(client(token)).await.map(drop).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        }
        let client = rafka_client::Client::connect(client(Some("a secret"))).await.expect("let in");
        assert_eq!(client.admin().cluster().await.expect("answered").nodes.len(), 2);
    }
}
