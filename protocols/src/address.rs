//! Addresses as people write them, for listening and for finding a first peer.
//!
//! Pure: names are kept as names here, because they are resolved anew at each attempt (a pod that
//! comes back has another address under the same name). Only TCP is spoken today, so every other
//! transport is refused here instead of failing at the first dial.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use libp2p::PeerId;
use libp2p::multiaddr::Protocol;
use rafka_model::limits::ADDRESS_BYTES_MAX;

pub use libp2p::Multiaddr;

/// Port of the mesh when none is named.
pub const MESH_PORT: u16 = 7300;
const HOST_NAME_BYTES_MAX: usize = 253;

/// Where a first peer may be found: `/ip4/…/tcp/…[/p2p/…]`, `/dns4/…`, `host:port`, `dns:NAME[:PORT]` or `srv:NAME`.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum BootstrapAddress {
    /// Can be dialled as it is.
    Direct(Multiaddr),
    /// Every address of a name, each with this port.
    Name {
        /// Host name.
        name: String,
        /// Which addresses of the name count.
        family: Family,
        /// TCP port.
        port: u16,
        /// The peer expected there, if the text named one.
        peer: Option<PeerId>,
    },
    /// Every host and port that the SRV records of a name list.
    Service {
        /// Name of the SRV records.
        name: String,
    },
}

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Family {
    /// Both.
    Any,
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// Where the mesh listens: `/ip4/…/tcp/…` or `HOST:PORT`, without `/p2p`. Port 0 takes any free one.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct ListenAddress(Multiaddr);

/// An address that other nodes are told to dial: `/ip4/…/tcp/…`, `/dns4/…/tcp/…` or `HOST:PORT`, without `/p2p`.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct AdvertisedAddress(Multiaddr);

/// Why a text is not an address. Displayed lower case, with what would be legal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// The empty text.
    #[error("address is empty")]
    Empty,
    /// Over the limit.
    #[error("address has {bytes} bytes, limit is {ADDRESS_BYTES_MAX}")]
    TooLong {
        /// Length of what was given.
        bytes: usize,
    },
    /// Begins with `/` but is no multiaddr.
    #[error("{text:?} is not a multiaddr: {reason}")]
    Multiaddr {
        /// What was given.
        text: String,
        /// What the parser said.
        reason: String,
    },
    /// A multiaddr over a transport that is not spoken, or with parts that make no sense here.
    #[error("{text:?} cannot be used here: expected {expected}")]
    Unsupported {
        /// What was given.
        text: String,
        /// What would be legal.
        expected: &'static str,
    },
    /// Neither an IP address nor a host name.
    #[error("{host:?} is neither an IP address nor a host name")]
    Host {
        /// What was given.
        host: String,
    },
    /// A host without a port.
    #[error("{text:?} has no port; write {text}:{MESH_PORT}")]
    NoPort {
        /// What was given.
        text: String,
    },
    /// A port outside 1 to 65535.
    #[error("{port:?} is not a port from 1 to 65535")]
    Port {
        /// What was given.
        port: String,
    },
}

const DIALABLE: &str = "/ip4/…/tcp/PORT, /ip6/…/tcp/PORT or /dns4/NAME/tcp/PORT, perhaps with /p2p/PEER";
const LISTENABLE: &str = "/ip4/…/tcp/PORT or /ip6/…/tcp/PORT, without /p2p";
const ADVERTISABLE: &str = "/ip4/…/tcp/PORT, /dns4/NAME/tcp/PORT or HOST:PORT that others can reach, without /p2p";

impl BootstrapAddress {
    /// The multiaddrs to dial, once the name has resolved to `found`. A [`Direct`](Self::Direct) address ignores them.
    #[must_use]
    pub fn dialable(&self, found: &[IpAddr]) -> Vec<Multiaddr> {
        match self {
            Self::Direct(address) => vec![address.clone()],
            Self::Name { family, port, peer, .. } => found
                .iter()
                .filter(|ip| match family {
                    Family::Any => true,
                    Family::V4 => ip.is_ipv4(),
                    Family::V6 => ip.is_ipv6(),
                })
                .map(|ip| with_peer(tcp(*ip, *port), *peer))
                .collect(),
            Self::Service { .. } => Vec::new(),
        }
    }
}

impl FromStr for BootstrapAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = bounded(text)?;
        if text.starts_with('/') {
            return from_multiaddr(text);
        }
        if let Some(name) = text.strip_prefix("srv:") {
            return Ok(Self::Service { name: host_name(name)? });
        }
        let (host, port) = match text.strip_prefix("dns:") {
            Some(rest) => match rest.rsplit_once(':') {
                Some((name, digits)) => (name, port(digits)?),
                None => (rest, MESH_PORT),
            },
            None => match text.parse::<SocketAddr>() {
                Ok(socket) if socket.port() == 0 => return Err(AddressError::Port { port: "0".to_owned() }),
                Ok(socket) => return Ok(Self::Direct(tcp(socket.ip(), socket.port()))),
                Err(_) => host_and_port(text)?,
            },
        };
        Ok(Self::Name { name: host_name(host)?, family: Family::Any, port, peer: None })
    }
}

impl fmt::Display for BootstrapAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => address.fmt(f),
            Self::Name { name, family: Family::Any, port, peer: None } => write!(f, "dns:{name}:{port}"),
            Self::Name { name, family, port, peer } => with_peer(dns(name, *family, *port), *peer).fmt(f),
            Self::Service { name } => write!(f, "srv:{name}"),
        }
    }
}

impl ListenAddress {
    /// What the swarm listens on.
    #[must_use]
    pub fn multiaddr(&self) -> &Multiaddr {
        &self.0
    }

    /// True if only this machine can reach it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = bounded(text)?;
        let unsupported = || AddressError::Unsupported { text: shown(text), expected: LISTENABLE };
        if text.starts_with('/') {
            let address = parse_multiaddr(text)?;
            let parts: Vec<Protocol<'_>> = address.iter().collect();
            return match parts[..] {
                [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)] => Ok(Self(address)),
                _ => Err(unsupported()),
            };
        }
        Ok(Self(match listen_socket(text) {
            Some(socket) => tcp(socket.ip(), socket.port()),
            None => {
                host_and_port(text)?;
                return Err(unsupported());
            }
        }))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AdvertisedAddress {
    /// What is registered.
    #[must_use]
    pub fn multiaddr(&self) -> &Multiaddr {
        &self.0
    }
}

impl FromStr for AdvertisedAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let unsupported = || AddressError::Unsupported { text: shown(text), expected: ADVERTISABLE };
        let address = match text.parse::<BootstrapAddress>()? {
            BootstrapAddress::Name { name, family, port, peer: None } => dns(&name, family, port),
            BootstrapAddress::Direct(address) => address,
            _ => return Err(unsupported()),
        };
        let nowhere = |part: &Protocol<'_>| match part {
            Protocol::Ip4(ip) => ip.is_unspecified(),
            Protocol::Ip6(ip) => ip.is_unspecified(),
            Protocol::P2p(_) | Protocol::Tcp(0) => true,
            _ => false,
        };
        if address.iter().any(|part| nowhere(&part)) { Err(unsupported()) } else { Ok(Self(address)) }
    }
}

impl fmt::Display for AdvertisedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `IP:PORT`, `localhost:PORT`, or `*:PORT` and `:PORT` for every interface.
#[must_use]
pub fn listen_socket(text: &str) -> Option<SocketAddr> {
    if let Ok(socket) = text.parse() {
        return Some(socket);
    }
    let (host, port) = text.rsplit_once(':')?;
    let ip: IpAddr = match host {
        "localhost" => [127, 0, 0, 1].into(),
        "" | "*" => [0, 0, 0, 0].into(),
        _ => return None,
    };
    Some((ip, port.parse().ok()?).into())
}

/// True if only this machine can reach `address`: a loopback IP, or memory.
#[must_use]
pub fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().next().is_some_and(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        Protocol::Memory(_) => true,
        _ => false,
    })
}

/// The multiaddr `/ip4|ip6/IP/tcp/PORT`.
#[must_use]
pub fn tcp(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(port))
}

fn dns(name: &str, family: Family, port: u16) -> Multiaddr {
    let part = match family {
        Family::Any => Protocol::Dns(name.into()),
        Family::V4 => Protocol::Dns4(name.into()),
        Family::V6 => Protocol::Dns6(name.into()),
    };
    Multiaddr::from(part).with(Protocol::Tcp(port))
}

fn with_peer(address: Multiaddr, peer: Option<PeerId>) -> Multiaddr {
    match peer {
        Some(peer) => address.with(Protocol::P2p(peer)),
        None => address,
    }
}

fn from_multiaddr(text: &str) -> Result<BootstrapAddress, AddressError> {
    let address = parse_multiaddr(text)?;
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let (host, peer) = match &parts[..] {
        [host, Protocol::Tcp(port)] if *port != 0 => ((host, *port), None),
        [host, Protocol::Tcp(port), Protocol::P2p(peer)] if *port != 0 => ((host, *port), Some(*peer)),
        [Protocol::Memory(_)] | [Protocol::Memory(_), Protocol::P2p(_)] => {
            return Ok(BootstrapAddress::Direct(address));
        }
        _ => return Err(AddressError::Unsupported { text: shown(text), expected: DIALABLE }),
    };
    let (name, family) = match host.0 {
        Protocol::Ip4(_) | Protocol::Ip6(_) => return Ok(BootstrapAddress::Direct(address)),
        Protocol::Dns(name) => (name, Family::Any),
        Protocol::Dns4(name) => (name, Family::V4),
        Protocol::Dns6(name) => (name, Family::V6),
        _ => return Err(AddressError::Unsupported { text: shown(text), expected: DIALABLE }),
    };
    Ok(BootstrapAddress::Name { name: host_name(name)?, family, port: host.1, peer })
}

fn parse_multiaddr(text: &str) -> Result<Multiaddr, AddressError> {
    text.parse::<Multiaddr>().map_err(|error| AddressError::Multiaddr { text: shown(text), reason: error.to_string() })
}

fn bounded(text: &str) -> Result<&str, AddressError> {
    match text.trim() {
        "" => Err(AddressError::Empty),
        text if text.len() > ADDRESS_BYTES_MAX => Err(AddressError::TooLong { bytes: text.len() }),
        text => Ok(text),
    }
}

fn host_and_port(text: &str) -> Result<(&str, u16), AddressError> {
    let (host, digits) = text.rsplit_once(':').ok_or_else(|| match host_name(text) {
        Ok(_) => AddressError::NoPort { text: shown(text) },
        Err(_) if text.parse::<IpAddr>().is_ok() => AddressError::NoPort { text: shown(text) },
        Err(error) => error,
    })?;
    Ok((host, port(digits)?))
}

fn port(digits: &str) -> Result<u16, AddressError> {
    digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| AddressError::Port { port: shown(digits) })
}

/// A host name by its letters. One of digits and dots alone is a mistyped IP address.
fn host_name(name: &str) -> Result<String, AddressError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let relative = name.strip_suffix('.').unwrap_or(name);
    let legal = name.len() <= HOST_NAME_BYTES_MAX
        && relative.split('.').all(label)
        && relative.bytes().any(|b| b.is_ascii_alphabetic());
    if legal { Ok(name.to_owned()) } else { Err(AddressError::Host { host: shown(name) }) }
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    fn parsed(text: &str) -> BootstrapAddress {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        text.parse::<BootstrapAddress>().expect_err(text).to_string()
    }

    fn name(name: &str, port: u16) -> BootstrapAddress {
        BootstrapAddress::Name { name: name.to_owned(), family: Family::Any, port, peer: None }
    }

    #[test]
    fn every_form_of_a_bootstrap_address_is_understood() {
        assert_eq!(parsed("127.0.0.1:7301").to_string(), "/ip4/127.0.0.1/tcp/7301");
        assert_eq!(parsed("[::1]:7301").to_string(), "/ip6/::1/tcp/7301");
        assert_eq!(parsed(" /ip4/10.0.0.1/tcp/7300 ").to_string(), "/ip4/10.0.0.1/tcp/7300");
        let with_peer = format!("/ip4/10.0.0.1/tcp/7300/p2p/{PEER}");
        assert_eq!(parsed(&with_peer).to_string(), with_peer);
        assert_eq!(parsed("node-1.example:7300"), name("node-1.example", 7300));
        assert_eq!(parsed("dns:rafka-headless.ns.svc"), name("rafka-headless.ns.svc", 7300));
        assert_eq!(parsed("dns:rafka:7311"), name("rafka", 7311));
        assert_eq!(parsed("srv:_mesh._tcp.rafka"), BootstrapAddress::Service { name: "_mesh._tcp.rafka".to_owned() });
    }

    #[test]
    fn a_name_becomes_all_its_addresses_and_keeps_family_and_peer() {
        let found = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([0u16; 8])];
        assert_eq!(parsed("rafka:7300").dialable(&found).len(), 2);
        let four = parsed(&format!("/dns4/rafka/tcp/7300/p2p/{PEER}"));
        assert_eq!(four.to_string(), format!("/dns4/rafka/tcp/7300/p2p/{PEER}"));
        let dialable: Vec<String> = four.dialable(&found).iter().map(ToString::to_string).collect();
        assert_eq!(dialable, [format!("/ip4/10.0.0.1/tcp/7300/p2p/{PEER}")]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(refused(""), "address is empty");
        assert_eq!(refused("rafka"), "\"rafka\" has no port; write rafka:7300");
        assert_eq!(refused("10.0.0.1"), "\"10.0.0.1\" has no port; write 10.0.0.1:7300");
        assert_eq!(refused("10.0.0.256:1"), "\"10.0.0.256\" is neither an IP address nor a host name");
        assert_eq!(refused("rafka:0"), "\"0\" is not a port from 1 to 65535");
        assert_eq!(refused("127.0.0.1:0"), "\"0\" is not a port from 1 to 65535");
        assert_eq!(refused("a b:1"), "\"a b\" is neither an IP address nor a host name");
        assert!(refused("/ip4/1.2.3.4/udp/1/quic-v1").contains("expected /ip4/"));
        assert!(refused("/ip4/1.2.3.4").contains("expected /ip4/"));
        assert!(refused("/nonsense/1").contains("is not a multiaddr"));
        assert!(refused(&"x".repeat(600)).contains("limit is 512"));
    }

    #[test]
    fn listening_takes_sockets_and_multiaddrs_but_no_names() {
        let listen = |text: &str| text.parse::<ListenAddress>();
        assert_eq!(listen("localhost:0").expect("legal").to_string(), "/ip4/127.0.0.1/tcp/0");
        assert_eq!(listen(":7300").expect("legal").to_string(), "/ip4/0.0.0.0/tcp/7300");
        assert_eq!(listen("/ip6/::/tcp/7300").expect("legal").to_string(), "/ip6/::/tcp/7300");
        assert!(listen("127.0.0.1:7300").expect("legal").is_loopback());
        assert!(!listen("0.0.0.0:7300").expect("legal").is_loopback());
        assert!(listen("rafka:7300").is_err());
        assert!(listen(&format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}")).is_err());
    }

    #[test]
    fn only_addresses_that_others_can_reach_are_advertised() {
        let advertise = |text: &str| text.parse::<AdvertisedAddress>();
        assert_eq!(advertise("node-1:7300").expect("legal").to_string(), "/dns/node-1/tcp/7300");
        assert_eq!(advertise("10.0.0.1:7300").expect("legal").to_string(), "/ip4/10.0.0.1/tcp/7300");
        assert!(advertise("0.0.0.0:7300").is_err());
        assert!(advertise("srv:rafka").is_err());
        assert!(advertise(&format!("/ip4/10.0.0.1/tcp/1/p2p/{PEER}")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_parses_again(text in "\\PC{0,60}|(dns|srv)?:?[a-z0-9.-]{1,12}:[0-9]{1,6}") {
            let _ = text.parse::<ListenAddress>();
            let _ = text.parse::<AdvertisedAddress>();
            if let Ok(address) = text.parse::<BootstrapAddress>() {
                prop_assert_eq!(address.to_string().parse::<BootstrapAddress>(), Ok(address));
            }
        }
    }
}
