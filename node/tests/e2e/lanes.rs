//! The lanes of real nodes: found through the registry, used by busy clients, and no obstacle where they are cut.

use rafka_client::{ClientConfig, ProducerConfig, Record};

use crate::support::{Home, Node, cluster, create, read_all};

const RECORDS: usize = 3_000;

/// Sends records with `records` in flight; their number once they are all delivered.
async fn publish(client: &rafka_client::Client, topic: &rafka_client::TopicName, records: usize) -> usize {
    let producer = std::sync::Arc::new(client.producer(ProducerConfig::default()));
    let mut sending = tokio::task::JoinSet::new();
    for i in 0..records {
        let (producer, record) =
            (producer.clone(), Record::new(topic.clone(), format!("{i} {}", "x".repeat(500))).key(format!("{i}")));
        sending.spawn(async move { producer.send(record).await.expect("delivered") });
    }
    sending.join_all().await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_client_opens_lanes_to_the_leaders_and_every_record_arrives() {
    let nodes = cluster(2).await;
    let client = nodes[0].client().await;
    let topic = create(&client, "busy", 16, &[]).await;
    // What goes out while lanes are being opened goes by request-response.
    let mut sent = 0;
    for _ in 0..5 {
        sent += publish(&client, &topic, RECORDS).await;
    }
    assert_eq!(read_all(&client, &topic).await.len(), sent);
    for node in &nodes {
        assert!(node.metric("rafka_lane_accepted_total").await > 0, "{}", node.ops("/metrics").await);
        assert!(node.metric("rafka_lane_received_frames_total").await > 0);
        assert_eq!(node.metric("rafka_lane_violated_total").await, 0);
        assert_eq!(node.metric("rafka_lane_broken_total").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_for_members_and_for_clients_that_were_let_in() {
    let home = Home::new();
    let token = home.file("token", "secret");
    let node = home.start(&["--join-token-file", &token]).await;
    let config = ClientConfig { token: Some("secret".to_owned()), ..ClientConfig::default() };
    let client = node.client_with(config).await;
    let topic = create(&client, "guarded", 4, &[]).await;
    let mut sent = 0;
    for _ in 0..5 {
        sent += publish(&client, &topic, RECORDS).await;
    }
    assert_eq!(read_all(&client, &topic).await.len(), sent);
    assert!(node.metric("rafka_lane_accepted_total").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cannot_reach_the_lanes_does_without() {
    let home = Home::new();
    let config = home.file("rafka.yaml", "mesh:\n  lanes_advertise: [\"127.0.0.1:1\"]\n");
    let node = home.start(&["--config", &config]).await;
    let client = node.client().await;
    let topic = create(&client, "walled", 4, &[]).await;
    let sent = publish(&client, &topic, RECORDS).await + publish(&client, &topic, RECORDS).await;
    assert_eq!(read_all(&client, &topic).await.len(), sent);
    assert_eq!(node.metric("rafka_lane_accepted_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_comes_back_is_found_with_its_new_lanes() {
    let node = Node::start(&[]).await;
    let (port, client) = (node.host_port(), node.client().await);
    let topic = create(&client, "again", 4, &[]).await;
    let mut sent = 0;
    for _ in 0..3 {
        sent += publish(&client, &topic, RECORDS).await;
    }
    let node = node.stop().start(&["--listen", &port]).await;
    for _ in 0..3 {
        sent += publish(&client, &topic, RECORDS).await;
    }
    assert_eq!(read_all(&client, &topic).await.len(), sent);
    assert!(node.metric("rafka_lane_violated_total").await == 0);
}
