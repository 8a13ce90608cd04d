//! rust-rdkafka.

mod groups;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rafka_compat::{Answer, Driver, Failure, Record, Request, WAIT, serve, until};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

struct RdKafka {
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
    members: Mutex<groups::Members>,
}

#[tokio::main]
async fn main() {
    serve::<RdKafka>().await;
}

impl Driver for RdKafka {
    fn version() -> String {
        format!("0.39.0, librdkafka {}", rdkafka::util::get_rdkafka_version().1)
    }

    const GROUPS: &'static [&'static str] = &[
        "classic",
        "consumer",
        "range",
        "cooperative-sticky",
        "static",
        "pattern",
        "seek",
        "groups",
        "delete_group",
        "committed",
        "reset",
    ];

    async fn open(bootstrap: &str) -> Result<Self, Failure> {
        let admin = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        Ok(Self { bootstrap: bootstrap.to_owned(), admin, members: Mutex::default() })
    }

    async fn answer(&self, request: &Request) -> Answer {
        match request.op.as_str() {
            "create" => self.create(request).await,
            "create_many" => self.create_many(request).await,
            "delete" => one(self.admin.delete_topics(&[&request.topic], &options()).await?),
            "topics" => self.topics(),
            "partitions" => {
                let found = self.consumer()?.fetch_metadata(Some(&request.topic), WAIT)?;
                Ok(json!({ "count": found.topics()[0].partitions().len() }))
            }
            "get_configs" => self.get_configs(request).await,
            "set_config" => {
                let change = AlterConfig::new(ResourceSpecifier::Topic(&request.topic));
                let change = change.set(&request.name, &request.value);
                let found = self.admin.alter_configs([&change], &options()).await?;
                found.into_iter().try_for_each(|result| result.map(|_| ()).map_err(|(_, code)| code))?;
                Ok(Value::Null)
            }
            "add_partitions" => {
                let wanted = NewPartitions::new(&request.topic, request.count);
                one(self.admin.create_partitions([&wanted], &options()).await?)
            }
            "delete_records" => {
                let mut list = TopicPartitionList::new();
                let offset = Offset::Offset(request.offset.unwrap_or_default());
                list.add_partition_offset(&request.topic, request.partition, offset)?;
                for element in self.admin.delete_records(&list, &options()).await?.elements() {
                    element.error()?;
                }
                Ok(Value::Null)
            }
            "offsets" => {
                let (earliest, latest) = self.consumer()?.fetch_watermarks(&request.topic, request.partition, WAIT)?;
                Ok(json!({ "earliest": earliest, "latest": latest }))
            }
            "offset_at" => {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(&request.topic, request.partition, Offset::Offset(request.time))?;
                let found = self.consumer()?.offsets_for_times(list, WAIT)?;
                Ok(json!({ "offset": found.elements()[0].offset().to_raw() }))
            }
            "produce" => self.produce(request).await,
            "produce_until" => self.produce_until(request).await,
            "read" => self.read(request),
            _ => self.group_answer(request).await,
        }
    }
}

impl RdKafka {
    fn consumer(&self) -> Result<BaseConsumer, Failure> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("group.id", "unused").set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "100");
        config.set("fetch.message.max.bytes", "20000000").set("receive.message.max.bytes", "200000000");
        Ok(config.create()?)
    }

    fn producer(&self, codec: &str, acks: &str, idempotent: bool) -> Result<FutureProducer, Failure> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("compression.type", codec).set("acks", acks);
        config.set("enable.idempotence", idempotent.to_string()).set("message.max.bytes", "20000000");
        config.set("linger.ms", "5").set("delivery.timeout.ms", WAIT.as_millis().to_string());
        Ok(config.create()?)
    }

    async fn create(&self, request: &Request) -> Answer {
        let topic = NewTopic::new(&request.topic, request.number(), TopicReplication::Fixed(1));
        let topic = request.configs.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        one(self.admin.create_topics([&topic], &options()).await?)
    }

    async fn create_many(&self, request: &Request) -> Answer {
        let topics: Vec<_> =
            request.topics.iter().map(|topic| NewTopic::new(topic, 1, TopicReplication::Fixed(1))).collect();
        one(self.admin.create_topics(&topics, &options()).await?)
    }

    fn topics(&self) -> Answer {
        let found = self.consumer()?.fetch_metadata(None, WAIT)?;
        Ok(json!({ "topics": found.topics().iter().map(|topic| topic.name()).collect::<Vec<_>>() }))
    }

    async fn get_configs(&self, request: &Request) -> Answer {
        let resource = ResourceSpecifier::Topic(&request.topic);
        let found = self.admin.describe_configs([&resource], &options()).await?;
        let found = found.into_iter().next().ok_or("no answer")??;
        let configs: serde_json::Map<_, _> =
            found.entries.into_iter().map(|entry| (entry.name, json!(entry.value))).collect();
        Ok(json!({ "configs": configs }))
    }

    async fn produce(&self, request: &Request) -> Answer {
        let producer = self.producer(&request.codec, &request.acks, request.idempotent)?;
        let sent = request.records.iter().map(|record| {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_ref() })
            });
            let mut future = FutureRecord::to(&request.topic).partition(record.partition);
            future = future.timestamp(record.timestamp).headers(headers);
            future.key = record.key.as_ref();
            future.payload = record.value.as_ref();
            producer.send_result(future).map_err(|(error, _)| error)
        });
        for delivery in sent.collect::<Result<Vec<_>, _>>()? {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        Ok(Value::Null)
    }

    async fn produce_until(&self, request: &Request) -> Answer {
        let producer = self.producer("none", "all", true)?;
        let mut deliveries = Vec::new();
        let sent = until(&request.file, async |n| {
            let value = n.to_string();
            let record = FutureRecord::to(&request.topic).partition(0).key("key").payload(&value);
            deliveries.push(producer.send_result(record).map_err(|(error, _)| error)?);
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        });
        let sent = sent.await?;
        producer.flush(WAIT)?;
        for delivery in deliveries {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        Ok(json!({ "sent": sent }))
    }

    fn read(&self, request: &Request) -> Answer {
        let (consumer, mut list) = (self.consumer()?, TopicPartitionList::new());
        let at = request.offset.map_or(Offset::Beginning, Offset::Offset);
        for partition in request.list() {
            list.add_partition_offset(&request.topic, partition, at)?;
        }
        consumer.assign(&list)?;
        let (mut records, end) = (Vec::new(), Instant::now() + Duration::from_millis(request.wait_ms));
        while records.len() < request.count && Instant::now() < end {
            let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
            let message = message?;
            let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
            records.push(Record {
                partition: message.partition(),
                offset: message.offset(),
                key: text(message.key()),
                value: text(message.payload()),
                headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
                timestamp: message.timestamp().to_millis().unwrap_or(-1),
            });
        }
        Ok(json!({ "records": records }))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// The first refusal, if any.
fn one(results: Vec<rdkafka::admin::TopicResult>) -> Answer {
    results
        .into_iter()
        .try_for_each(|result| result.map(|_| ()).map_err(|(topic, code)| format!("{topic}: {code}")))?;
    Ok(Value::Null)
}
