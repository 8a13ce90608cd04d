//! Listeners of the Kafka door: addresses `[NAME=]HOST:PORT`, and how each routes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::str::FromStr;

use rafka_broker::metadata::Role;
use rafka_kafka::advertise::{Advertised, DEFAULT_LISTENER};
use rafka_model::limits::LABEL_BYTES_MAX;
use rafka_protocols::address::listen_socket;

use super::sections::Kafka;

/// A listener of the Kafka door.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KafkaListen {
    /// The door stays shut.
    Off,
    /// It is open here.
    At {
        /// Names the listener; clients are told addresses of the one that they came by.
        name: String,
        /// Port 0 takes any free one.
        socket: SocketAddr,
    },
}

/// What clients of a listener are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KafkaAdvertise {
    /// Which listener.
    pub name: String,
    /// The address.
    pub address: Advertised,
}

/// How requests at a listener find the leaders of partitions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Routing {
    /// Clients are told who leads and go there.
    #[default]
    Direct,
    /// Clients are told that this node leads everything; what it does not lead it relays.
    Mesh,
}

/// The routing of a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KafkaRouting {
    /// Which listener.
    pub name: String,
    /// How it routes.
    pub routing: Routing,
}

impl FromStr for KafkaRouting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, word) = named(text)?;
        let routing = match word {
            "direct" => Routing::Direct,
            "mesh" => Routing::Mesh,
            _ => return Err(format!("{word:?} is neither direct nor mesh")),
        };
        Ok(Self { name, routing })
    }
}

impl FromStr for KafkaListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Off);
        }
        let (name, address) = named(text)?;
        let socket = listen_socket(address)
            .ok_or_else(|| format!("{address:?} is not IP:PORT, localhost:PORT, :PORT or none"))?;
        Ok(Self::At { name, socket })
    }
}

impl FromStr for KafkaAdvertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = named(text)?;
        let wrong = || format!("{address:?} is not HOST:PORT");
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c == '/' || c == '=') {
            return Err(wrong());
        }
        if host == "0.0.0.0" || host == "::" {
            return Err(format!("{host} is no address that a client could dial"));
        }
        Ok(Self { name, address: Advertised { host: host.to_owned(), port } })
    }
}

fn named(text: &str) -> Result<(String, &str), String> {
    let Some((name, address)) = text.split_once('=') else { return Ok((DEFAULT_LISTENER.to_owned(), text)) };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > LABEL_BYTES_MAX || !name.chars().all(legal) {
        return Err(format!("{name:?} is no name of a listener: letters, digits, '_', '-' and '.'"));
    }
    Ok((name.to_owned(), address))
}

impl Kafka {
    /// Where to listen: name and address.
    #[must_use]
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let listener = |listen: &KafkaListen| -> Option<(String, SocketAddr)> {
            match listen {
                KafkaListen::Off => None,
                KafkaListen::At { name, socket } => Some((name.clone(), *socket)),
            }
        };
        self.listen.iter().filter_map(listener).collect()
    }

    /// How the listener of this name routes, on a node that plays this part.
    #[must_use]
    pub fn routing_of(&self, name: &str, role: Role) -> Routing {
        let said = self.routing.iter().find(|routing| routing.name == name).map(|routing| routing.routing);
        said.unwrap_or(match role {
            Role::Broker => Routing::Direct,
            Role::Gateway => Routing::Mesh,
        })
    }

    /// What contradicts itself: key, message, hint.
    pub(super) fn contradiction(&self, role: Role) -> Option<(&'static str, String, &'static str)> {
        let listeners = self.listeners();
        if listeners.len() < self.listen.len() && self.listen.len() > 1 {
            let message = "none stands beside addresses".to_owned();
            return Some(("kafka.listen", message, "write none alone, or leave it out"));
        }
        let mut names = BTreeSet::new();
        if let Some((name, _)) = listeners.iter().find(|(name, _)| !names.insert(name.as_str())) {
            let message = format!("two listeners are called {name:?}");
            return Some(("kafka.listen", message, "give each its own name: external=HOST:PORT"));
        }
        let stray = self.advertise.iter().find(|advertise| !names.contains(advertise.name.as_str()));
        if let Some(KafkaAdvertise { name, .. }) = stray.filter(|_| !listeners.is_empty()) {
            let message = format!("no listener is called {name:?}");
            return Some(("kafka.advertise", message, "name it as in kafka.listen"));
        }
        self.routing_contradiction(&names, role)
    }

    fn routing_contradiction(
        &self,
        names: &BTreeSet<&str>,
        role: Role,
    ) -> Option<(&'static str, String, &'static str)> {
        let mut routed = BTreeSet::new();
        for KafkaRouting { name, routing } in &self.routing {
            if !names.is_empty() && !names.contains(name.as_str()) {
                let message = format!("no listener is called {name:?}");
                return Some(("kafka.routing", message, "name it as in kafka.listen: NAME=mesh"));
            }
            if !routed.insert(name) {
                let message = format!("listener {name:?} is routed twice");
                return Some(("kafka.routing", message, "say direct or mesh once for each listener"));
            }
            if role == Role::Gateway && *routing == Routing::Direct {
                let message = format!("listener {name:?} is direct, but a gateway leads nothing");
                return Some(("kafka.routing", message, "leave it out: every listener of a gateway is mesh"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_have_names() {
        let listen = |text: &str| text.parse::<KafkaListen>();
        let socket = "127.0.0.1:9092".parse().expect("an address");
        assert_eq!(listen("localhost:9092"), Ok(KafkaListen::At { name: DEFAULT_LISTENER.to_owned(), socket }));
        assert_eq!(listen("in=127.0.0.1:9092"), Ok(KafkaListen::At { name: "in".to_owned(), socket }));
        assert_eq!(listen("none"), Ok(KafkaListen::Off));
        for wrong in ["", "9092", "=127.0.0.1:1", "a b=127.0.0.1:1", "kafka.example:9092"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn listeners_route_as_they_are_told() {
        let routing = |text: &str| text.parse::<KafkaRouting>().map(|routing| (routing.name, routing.routing));
        assert_eq!(routing("mesh"), Ok((DEFAULT_LISTENER.to_owned(), Routing::Mesh)));
        assert_eq!(routing("in=direct"), Ok(("in".to_owned(), Routing::Direct)));
        for wrong in ["", "in", "in=", "in=leader", "=mesh"] {
            assert!(routing(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_can_be_dialled_is_advertised() {
        let advertise = |text: &str| text.parse::<KafkaAdvertise>().map(|a| (a.name, a.address.host, a.address.port));
        assert_eq!(advertise("out=[fe80::1]:1"), Ok(("out".to_owned(), "fe80::1".to_owned(), 1)));
        for wrong in ["host", ":9092", "host:0", "host:http", "0.0.0.0:9092", "a b:1", "tcp://host:1"] {
            assert!(advertise(wrong).is_err(), "{wrong}");
        }
    }
}
