//! Rust SDK of Rafka: a light client of the mesh that publishes, subscribes and administrates.
//!
//! A [`Client`] needs one address of one node. It asks that node which cluster it is in, joins the mesh with a swarm
//! of its own (no listener, an identity that lives as long as the client), finds the leader of each partition in the
//! DHT, and talks to leaders directly. Nodes may come and go: whoever is left is asked, and the addresses given at
//! the start are not special afterwards.
//!
//! ```no_run
//! use futures::StreamExt;
//! use rafka_client::{Client, ClientConfig, ConsumerConfig, ProducerConfig, Record, Start, TopicName};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(ClientConfig::default()).await?;
//! let orders = TopicName::new("orders")?;
//!
//! let producer = client.producer(ProducerConfig::default());
//! let delivery = producer.send(Record::new(orders.clone(), "first").key("a")).await?;
//! println!("partition {}, offset {:?}", delivery.partition, delivery.offset);
//! producer.close().await?;
//!
//! let config = ConsumerConfig { start: Start::Earliest, exit_at_end: true, ..ConsumerConfig::topics([orders]) };
//! let mut consumer = client.consumer(config).await?;
//! while let Some(record) = consumer.next().await {
//!     println!("{:?}", record?.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Consumers of one group share its topics: [`ConsumerConfig::in_group`] makes a consumer a member, the group's
//! coordinator says which partitions it reads, and what it is done with is committed. Clients of Kafka may be in the same
//! group.
//!
//! Guarantees: records of one partition are delivered in the order in which they were sent. A batch whose outcome is
//! unknown (the connection broke before the answer) is sent again, until the delivery timeout; its leader knows it by its
//! sequence numbers and keeps it once. A record that failed may be there nevertheless: whoever sends it again as a new
//! one may have it twice.
//!
//! Everything here runs on tokio. Futures are safe to drop at any point; each says what that means for the request.

mod admin;
mod backoff;
mod client;
mod config;
mod consumer;
mod error;
mod group;
mod leaders;
mod mesh;
mod producer;
mod record;
mod routes;

pub use admin::{Admin, PerTopic};
pub use client::{Client, Mesh};
pub use config::{ClientConfig, ConsumerConfig, GroupConfig, OffsetReset, ProducerConfig, Start, Subscription};
pub use consumer::Consumer;
pub use error::{Cause, Error, ErrorKind};
pub use group::{GroupListing, PartitionLag};
pub use mesh::PeerInfo;
pub use producer::{Pending, Producer};
pub use record::{ConsumedRecord, Delivery, Record};

pub use libp2p::{Multiaddr, PeerId};
pub use rafka_broker::group::request::{
    Caller, ClassicDescription, ClassicMember, CommittedOffset, ConsumerDescription, ConsumerMember, GroupDescription,
    GroupKind, GroupState, Listed, TopicPartitions,
};
pub use rafka_broker::metadata::{Node, PartitionState};
pub use rafka_broker::request::{
    Acks, ClusterDescription, FoundOffset, NewTopic, OffsetSpec, SwarmDescription, SwarmPeer, TopicDescription,
};
pub use rafka_broker::{ErrorCode, Failure};
pub use rafka_dht::{Counts as ResolveCounts, Route, Source, TopicView};
pub use rafka_model::{ClusterId, Compression, Header, NodeId, Offset, PartitionId, Timestamp, TopicId, TopicName};
