//! Makes a topic, finds its leaders in the DHT, shows the cluster: `cargo run --example admin -- orders [ADDRESS]`.

use std::collections::BTreeMap;

use rafka_client::{Client, ClientConfig, NewTopic, OffsetSpec, PartitionId, TopicName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = TopicName::new(&arguments.next().ok_or("which topic?")?)?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7300".to_owned());

    let client = Client::connect(ClientConfig { bootstrap: vec![address], ..ClientConfig::default() }).await?;
    let admin = client.admin();
    let new = NewTopic {
        name: topic.to_string(),
        partitions: Some(3),
        configs: BTreeMap::from([("retention.ms".to_owned(), "86400000".to_owned())]),
        ..NewTopic::default()
    };
    match admin.create_topic(new, false).await {
        Ok(made) => println!("{} has {} partitions", made.name, made.partitions.len()),
        Err(error) => println!("{error}"),
    }

    for partition in (0..3).map(PartitionId) {
        let route = client.mesh().route(&topic, partition).await?;
        println!("{topic}/{partition}: node {} by {} over {} hops", route.leader, route.source, route.hops);
    }
    let ends = (0..3).map(|partition| (PartitionId(partition), OffsetSpec::Latest)).collect();
    for (partition, end) in admin.list_offsets(&topic, ends).await {
        println!("{topic}/{partition} ends at {:?}", end?.offset);
    }

    let cluster = admin.cluster().await?;
    println!("cluster {}: {} nodes, controller {:?}", cluster.cluster_id, cluster.nodes.len(), cluster.controller);
    for node in cluster.nodes {
        println!("node {} {} {}", node.id, node.peer_id, if node.fenced { "fenced" } else { "ready" });
    }
    Ok(())
}
