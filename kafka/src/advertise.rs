//! Which address a client is told for each node.
//!
//! A client is always told addresses of the listener that it came in by. For this node: the address that is advertised
//! there, else the one that the client itself used. For others: what they registered for the listener of this name; if
//! that is a port only, at the host of their mesh address. So nobody is stranded by a wrong `advertised.listeners`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use rafka_broker::metadata::{Image, Node};
use rafka_model::NodeId;

use crate::door::Client;
use crate::wire::Str;

/// Name of a listener that was given none.
pub const DEFAULT_LISTENER: &str = "default";

/// Where a client finds a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Which node.
    pub node: i32,
    /// Name or address.
    pub host: Str,
    /// Port.
    pub port: i32,
    /// Failure domain.
    pub rack: Option<Str>,
}

/// An address that a listener of this node tells its clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advertised {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What a node registers for a listener: the advertised address, else the one that it is bound to; bound to every
/// address, the port alone (`:9092`), which others complete with the host of the node's mesh address.
pub fn registered(bound: SocketAddr, advertised: Option<&Advertised>) -> String {
    match advertised {
        Some(Advertised { host, port }) if host.contains(':') => format!("[{host}]:{port}"),
        Some(Advertised { host, port }) => format!("{host}:{port}"),
        None if bound.ip().is_unspecified() => format!(":{}", bound.port()),
        None => bound.to_string(),
    }
}

/// The node with the number that clients know it by.
pub fn number(node: NodeId) -> i32 {
    i32::try_from(node.0).unwrap_or(i32::MAX)
}

/// What this node tells about itself and others.
#[derive(Clone, Debug, Default)]
pub struct Advertise {
    /// By listener name.
    pub own: BTreeMap<String, Advertised>,
}

impl Advertise {
    /// Where `client` finds `node`; `None` if it cannot, as far as we know. `me` is this node.
    pub fn endpoint(&self, client: &Client, me: Option<NodeId>, node: &Node) -> Option<Endpoint> {
        let (host, port) = match me == Some(node.id) {
            true => self.own_address(client),
            false => other_address(&client.listener, node)?,
        };
        let rack = node.rack.clone().map(Str::from);
        Some(Endpoint { node: number(node.id), host: host.into(), port: i32::from(port), rack })
    }

    /// Where `client` finds each node in service, this one with them.
    pub fn endpoints(&self, client: &Client, me: Option<NodeId>, image: &Image) -> Vec<Endpoint> {
        let serving = image.nodes.values().filter(|node| !node.fenced || me == Some(node.id));
        serving.filter_map(|node| self.endpoint(client, me, node)).collect()
    }

    fn own_address(&self, client: &Client) -> (String, u16) {
        match self.own.get(&*client.listener) {
            Some(advertised) => (advertised.host.clone(), advertised.port),
            None => (client.local.ip().to_canonical().to_string(), client.local.port()),
        }
    }
}

fn other_address(listener: &str, node: &Node) -> Option<(String, u16)> {
    // A node whose only listener has another name than ours is better found there than not at all.
    let told = node.kafka.get(listener).or_else(|| node.kafka.values().next().filter(|_| node.kafka.len() == 1))?;
    let (host, port) = told.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host {
        "" => Some((mesh_host(&node.addresses)?, port)),
        host => Some((host.to_owned(), port)),
    }
}

/// The host of the first mesh address: `/ip4/10.0.0.1/tcp/7300`, `/dns4/name/tcp/7300`. Loopback only without another.
fn mesh_host(addresses: &[String]) -> Option<String> {
    let hosts = addresses.iter().filter_map(|address| {
        let mut parts = address.split('/').skip(1);
        match (parts.next()?, parts.next()?) {
            ("ip4" | "ip6" | "dns" | "dns4" | "dns6", host) => Some(host),
            _ => None,
        }
    });
    let is_near = |host: &&str| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let (near, far): (Vec<_>, Vec<_>) = hosts.partition(is_near);
    far.into_iter().chain(near).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{client, node};

    fn told(endpoint: Option<Endpoint>) -> String {
        endpoint.map_or_else(|| "nowhere".to_owned(), |endpoint| format!("{}:{}", endpoint.host, endpoint.port))
    }

    #[test]
    fn without_configuration_a_client_is_told_what_it_used_and_the_hosts_of_the_mesh() {
        let advertise = Advertise::default();
        let client = client("10.1.2.3:9092");
        let mut other = node(2, ":9094");
        other.addresses = vec!["/ip4/127.0.0.1/tcp/7300".to_owned(), "/dns4/two.example/tcp/7300".to_owned()];
        assert_eq!(told(advertise.endpoint(&client, Some(NodeId(1)), &node(1, ":1"))), "10.1.2.3:9092");
        assert_eq!(told(advertise.endpoint(&client, Some(NodeId(1)), &other)), "two.example:9094");
        other.addresses = vec!["/ip6/::1/tcp/7300".to_owned()];
        assert_eq!(told(advertise.endpoint(&client, Some(NodeId(1)), &other)), "::1:9094");
    }

    #[test]
    fn what_is_advertised_wins() {
        let advertised = Advertised { host: "kafka.example".to_owned(), port: 19092 };
        let advertise = Advertise { own: BTreeMap::from([(DEFAULT_LISTENER.to_owned(), advertised)]) };
        let client = client("[::ffff:10.1.2.3]:9092");
        assert_eq!(told(advertise.endpoint(&client, Some(NodeId(1)), &node(1, ":1"))), "kafka.example:19092");
        assert_eq!(told(advertise.endpoint(&client, Some(NodeId(1)), &node(2, "[fe80::1]:5"))), "fe80::1:5");
        assert_eq!(told(Advertise::default().endpoint(&client, Some(NodeId(1)), &node(1, ":1"))), "10.1.2.3:9092");
    }

    #[test]
    fn each_listener_has_its_own_addresses() {
        let mut other = node(2, "127.0.0.1:9094");
        other.kafka.insert("external".to_owned(), "far.example:443".to_owned());
        let inside = client("10.1.2.3:9092");
        let outside = Client { listener: "external".into(), ..inside.clone() };
        let nowhere = Client { listener: "third".into(), ..inside.clone() };
        let advertise = Advertise::default();
        assert_eq!(told(advertise.endpoint(&inside, Some(NodeId(1)), &other)), "127.0.0.1:9094");
        assert_eq!(told(advertise.endpoint(&outside, Some(NodeId(1)), &other)), "far.example:443");
        assert_eq!(told(advertise.endpoint(&nowhere, Some(NodeId(1)), &other)), "nowhere");
        other.kafka.remove("external");
        assert_eq!(told(advertise.endpoint(&nowhere, Some(NodeId(1)), &other)), "127.0.0.1:9094");
    }

    #[test]
    fn nodes_out_of_service_are_not_told() {
        let mut image = Image::default();
        for id in 1..=3 {
            let mut node = node(id, "10.0.0.1:9092");
            node.fenced = id != 3;
            image.nodes.insert(node.id, node);
        }
        let found = Advertise::default().endpoints(&client("127.0.0.1:9092"), Some(NodeId(1)), &image);
        assert_eq!(found.iter().map(|endpoint| endpoint.node).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn what_is_registered_is_an_address_or_a_port() {
        let bound = "0.0.0.0:9092".parse().expect("an address");
        assert_eq!(registered(bound, None), ":9092");
        assert_eq!(registered("[::1]:9092".parse().expect("an address"), None), "[::1]:9092");
        let advertised = Advertised { host: "fe80::1".to_owned(), port: 1 };
        assert_eq!(registered(bound, Some(&advertised)), "[fe80::1]:1");
    }
}
