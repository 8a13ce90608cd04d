//! Prints a topic from its first record to its end: `cargo run --example consume -- orders [ADDRESS]`.

use futures::StreamExt;
use rafka_client::{Client, ClientConfig, ConsumerConfig, Start, TopicName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = TopicName::new(&arguments.next().ok_or("which topic?")?)?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7300".to_owned());

    let client = Client::connect(ClientConfig { bootstrap: vec![address], ..ClientConfig::default() }).await?;
    let config = ConsumerConfig { start: Start::Earliest, exit_at_end: true, ..ConsumerConfig::topics([topic]) };
    let mut consumer = client.consumer(config).await?;
    while let Some(record) = consumer.next().await {
        let record = record?;
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        println!("partition {}, offset {}: {value}", record.partition, record.offset);
    }
    Ok(())
}
