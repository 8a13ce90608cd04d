//! Publishes each line of standard input to a topic: `cargo run --example produce -- orders [ADDRESS]`.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rafka_client::{Client, ClientConfig, ProducerConfig, Record, TopicName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = TopicName::new(&arguments.next().ok_or("which topic?")?)?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7300".to_owned());

    let client = Client::connect(ClientConfig { bootstrap: vec![address], ..ClientConfig::default() }).await?;
    let producer = client.producer(ProducerConfig::default());
    let mut pending = FuturesUnordered::new();
    for line in std::io::stdin().lines() {
        // Waits only while the buffer is full; the promise tells where the record went.
        pending.push(producer.enqueue(Record::new(topic.clone(), line?)).await?);
        while pending.len() > 10_000 {
            pending.next().await.transpose()?;
        }
    }
    producer.flush().await?;
    while let Some(delivery) = pending.next().await {
        let delivery = delivery?;
        println!("{}/{} at {:?}", delivery.topic, delivery.partition, delivery.offset);
    }
    producer.close().await?;
    Ok(())
}
