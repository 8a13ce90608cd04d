//! rskafka.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::DateTime;
use rafka_compat::{Answer, Driver, Failure, Record, Request, WAIT, serve, unsupported};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use serde_json::{Value, json};

/// The longest batch that is fetched, bytes.
const FETCH_BYTES_MAX: i32 = 20_000_000;

struct RsKafka(Client);

#[tokio::main]
async fn main() {
    serve::<RsKafka>().await;
}

impl Driver for RsKafka {
    fn version() -> String {
        "0.6.0".to_owned()
    }

    // It waits for them to be made by others.
    const CANNOT: &'static [&'static str] = &["new topics"];

    async fn open(bootstrap: &str) -> Result<Self, Failure> {
        let brokers = bootstrap.split(',').map(str::to_owned).collect();
        Ok(Self(ClientBuilder::new(brokers).max_message_size(100_000_000).build().await?))
    }

    async fn answer(&self, request: &Request) -> Answer {
        let wait = WAIT.as_millis() as i32;
        match request.op.as_str() {
            "create" if request.configs.is_empty() => {
                let controller = self.0.controller_client()?;
                controller.create_topic(&request.topic, request.number(), 1, wait).await?;
            }
            "create_many" => {
                let controller = self.0.controller_client()?;
                for topic in &request.topics {
                    controller.create_topic(topic, 1, 1, wait).await?;
                }
            }
            "delete" => self.0.controller_client()?.delete_topic(&request.topic, wait).await?,
            "topics" => {
                let topics = self.0.list_topics().await?.into_iter().map(|topic| topic.name).collect::<Vec<_>>();
                return Ok(json!({ "topics": topics }));
            }
            "partitions" => {
                let topics = self.0.list_topics().await?;
                let count = topics.iter().find(|topic| topic.name == request.topic).map(|topic| topic.partitions.len());
                return Ok(json!({ "count": count.unwrap_or_default() }));
            }
            "delete_records" => {
                let partition = self.partition(request, request.partition).await?;
                partition.delete_records(request.offset.unwrap_or_default(), wait).await?;
            }
            "offsets" => {
                let partition = self.partition(request, request.partition).await?;
                let earliest = partition.get_offset(OffsetAt::Earliest).await?;
                let latest = partition.get_offset(OffsetAt::Latest).await?;
                return Ok(json!({ "earliest": earliest, "latest": latest }));
            }
            "offset_at" => {
                let partition = self.partition(request, request.partition).await?;
                let time = DateTime::from_timestamp_millis(request.time).ok_or("time")?;
                return Ok(json!({ "offset": partition.get_offset(OffsetAt::Timestamp(time)).await? }));
            }
            // It always asks for all acknowledgements, and has no producer ids.
            "produce" if request.acks == "all" && !request.idempotent => return self.produce(request).await,
            "read" => return self.read(request).await,
            _ => return unsupported(request),
        }
        Ok(Value::Null)
    }
}

impl RsKafka {
    async fn partition(&self, request: &Request, partition: i32) -> Result<PartitionClient, Failure> {
        Ok(self.0.partition_client(&request.topic, partition, UnknownTopicHandling::Retry).await?)
    }

    async fn produce(&self, request: &Request) -> Answer {
        let compression = match request.codec.as_str() {
            "gzip" => Compression::Gzip,
            "lz4" => Compression::Lz4,
            "snappy" => Compression::Snappy,
            "zstd" => Compression::Zstd,
            _ => Compression::NoCompression,
        };
        let mut parts: BTreeMap<i32, Vec<rskafka::record::Record>> = BTreeMap::new();
        for record in &request.records {
            let bytes = |text: &String| text.clone().into_bytes();
            parts.entry(record.partition).or_default().push(rskafka::record::Record {
                key: record.key.as_ref().map(bytes),
                value: record.value.as_ref().map(bytes),
                headers: record
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.iter().flat_map(bytes).collect()))
                    .collect(),
                timestamp: DateTime::from_timestamp_millis(record.timestamp).ok_or("time")?,
            });
        }
        for (partition, records) in parts {
            self.partition(request, partition).await?.produce(records, compression).await?;
        }
        Ok(Value::Null)
    }

    async fn read(&self, request: &Request) -> Answer {
        let (mut records, end) = (Vec::new(), Instant::now() + Duration::from_millis(request.wait_ms));
        for partition in request.list() {
            let client = self.partition(request, partition).await?;
            let mut at = match request.offset {
                Some(offset) => offset,
                None => client.get_offset(OffsetAt::Earliest).await?,
            };
            while records.len() < request.count && Instant::now() < end {
                let (found, high_watermark) = client.fetch_records(at, 1..FETCH_BYTES_MAX, 100).await?;
                at = found.last().map_or(at, |last| last.offset + 1);
                records.extend(found.into_iter().map(|found| plain(partition, found)));
                if at >= high_watermark {
                    break;
                }
            }
        }
        Ok(json!({ "records": records }))
    }
}

fn plain(partition: i32, found: rskafka::record::RecordAndOffset) -> Record {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let record = found.record;
    Record {
        partition,
        offset: found.offset,
        key: record.key.map(text),
        value: record.value.map(text),
        headers: record.headers.into_iter().map(|(name, value)| (name, Some(text(value)))).collect(),
        timestamp: record.timestamp.timestamp_millis(),
    }
}
