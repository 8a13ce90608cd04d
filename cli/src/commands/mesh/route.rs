//! `rafka mesh route`

use std::str::FromStr;

use clap::Args;
use clap_complete::ArgValueCompleter;
use rafka_client::{PartitionId, Route, TopicName};
use serde::Serialize;

use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::{Out, fields, list, short_peer};

/// Find the leader of a partition, and show how it was found.
#[derive(Args, Debug)]
pub(super) struct RouteArgs {
    /// The partition, such as orders/3.
    #[arg(value_name = "TOPIC/PARTITION", add = ArgValueCompleter::new(crate::complete::topics))]
    partition: Place,
}

/// `TOPIC/PARTITION`.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    topic: TopicName,
    partition: PartitionId,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("{text:?} is no partition; write TOPIC/NUMBER, such as orders/3");
        let (topic, partition) = text.rsplit_once('/').ok_or_else(wrong)?;
        let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
        Ok(Self { topic, partition: partition.parse().map(PartitionId).map_err(|_| wrong())? })
    }
}

/// How a leader was found.
#[derive(Debug, Serialize)]
struct Found {
    topic: String,
    partition: u32,
    leader: u64,
    leader_epoch: i32,
    /// Of the record that named the leader.
    version: String,
    /// `hosted`, `cache`, `dht` or `quorum`.
    source: &'static str,
    hops: u32,
    /// Peer ids of the nodes that were asked.
    asked: Vec<String>,
    peer_id: String,
    addresses: Vec<String>,
}

impl From<Route> for Found {
    fn from(route: Route) -> Self {
        Self {
            topic: route.name.to_string(),
            partition: route.partition.0,
            leader: route.leader.0,
            leader_epoch: route.leader_epoch.0,
            version: route.version.to_string(),
            source: route.source.name(),
            hops: route.hops,
            asked: route.asked.iter().map(ToString::to_string).collect(),
            peer_id: route.peer.to_string(),
            addresses: route.addresses.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Found {
    fn words(&self) -> String {
        let asked = match self.asked.len() {
            0 => "nobody".to_owned(),
            number => format!("{number}: {}", list(self.asked.iter().map(|peer| short_peer(peer)))),
        };
        fields([
            ("Partition", format!("{}/{}", self.topic, self.partition)),
            ("Leader", format!("node {} ({})", self.leader, short_peer(&self.peer_id))),
            ("Addresses", list(&self.addresses)),
            ("Leader epoch", self.leader_epoch.to_string()),
            ("Record version", self.version.clone()),
            ("Source", self.source.to_owned()),
            ("Hops", self.hops.to_string()),
            ("Holders asked", asked),
        ])
    }
}

impl RouteArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let client = cluster.connect().await?;
        let Place { topic, partition } = self.partition;
        let found = Found::from(client.mesh().route(&topic, partition).await?);
        out.one(&found, || found.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::json_line;

    #[test]
    fn a_partition_is_a_topic_and_a_number() {
        let place: Place = "orders.v1/3".parse().expect("a partition");
        assert_eq!((place.topic.as_str(), place.partition), ("orders.v1", PartitionId(3)));
        for wrong in ["orders", "orders/", "orders/x", "/3", "a/b/3", "orders/-1"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_json_begins_with_the_shape_of_the_contract() {
        let found = Found {
            topic: "orders".to_owned(),
            partition: 3,
            leader: 2,
            leader_epoch: 1,
            version: "17".to_owned(),
            source: "dht",
            hops: 1,
            asked: vec!["12D3KooWabcqPw".to_owned()],
            peer_id: "12D3KooWxyzfYt".to_owned(),
            addresses: vec!["/ip4/127.0.0.1/tcp/7301".to_owned()],
        };
        let expected = "{\"topic\":\"orders\",\"partition\":3,\"leader\":2,\"leader_epoch\":1,\"version\":\"17\",\
                        \"source\":\"dht\",\"hops\":1,\"asked\":[\"12D3KooWabcqPw\"],";
        assert!(json_line(&found).starts_with(expected), "{}", json_line(&found));
        assert!(found.words().contains("Holders asked:  1: 12D3…qPw\n"), "{}", found.words());
    }
}
