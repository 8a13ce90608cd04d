//! Finding a first peer: bootstrap addresses become multiaddrs, anew at each attempt.
//!
//! Host names go through the operating system's resolver, which also knows `/etc/hosts`; all their addresses are
//! taken, because a headless service has one name for every pod. SRV records are asked for directly.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use rafka_model::limits::{BOOTSTRAP_RESOLVE_MS_MAX, BOOTSTRAP_RESOLVED_MAX};
use rafka_protocols::address::{BootstrapAddress, Multiaddr, tcp};

/// Why a bootstrap address led nowhere, this time. It is worth another try later.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("cannot resolve {address}: {reason}")]
pub struct ResolveError {
    /// The address as it is configured.
    pub address: String,
    /// Why.
    pub reason: String,
}

/// What a round of resolving gave: addresses to dial, without repetition, and what failed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resolved {
    /// To dial; with `/p2p` where the configuration named the peer.
    pub addresses: Vec<Multiaddr>,
    /// Addresses that led nowhere.
    pub failed: Vec<ResolveError>,
}

/// Resolves all of `addresses` at the same time. Never fails as a whole: one dead name must not hide the others.
pub async fn resolve_all(addresses: &[BootstrapAddress]) -> Resolved {
    let mut resolved = Resolved::default();
    for result in join_all(addresses.iter().map(resolve)).await {
        match result {
            Ok(found) => {
                for address in found {
                    if !resolved.addresses.contains(&address) && resolved.addresses.len() < BOOTSTRAP_RESOLVED_MAX {
                        resolved.addresses.push(address);
                    }
                }
            }
            Err(error) => resolved.failed.push(error),
        }
    }
    resolved
}

/// Resolves one address.
///
/// # Errors
/// [`ResolveError`] if the name has no address now, or not within [`BOOTSTRAP_RESOLVE_MS_MAX`].
pub async fn resolve(address: &BootstrapAddress) -> Result<Vec<Multiaddr>, ResolveError> {
    resolve_with(address, || {
        // Built anew: /etc/resolv.conf may have changed since the last attempt.
        TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(|error| error.to_string())
    })
    .await
}

async fn resolve_with(
    address: &BootstrapAddress,
    resolver: impl FnOnce() -> Result<TokioResolver, String>,
) -> Result<Vec<Multiaddr>, ResolveError> {
    let lookup = async {
        match address {
            BootstrapAddress::Direct(address) => Ok(vec![address.clone()]),
            BootstrapAddress::Name { name, port, .. } => Ok(address.dialable(&host(name, *port).await?)),
            BootstrapAddress::Service { name } => service(name, &resolver()?).await,
        }
    };
    let limit = Duration::from_millis(BOOTSTRAP_RESOLVE_MS_MAX);
    let found = match tokio::time::timeout(limit, lookup).await {
        Ok(Ok(found)) if found.is_empty() => Err("it has no address of the wanted kind".to_owned()),
        Ok(found) => found,
        Err(_) => Err(format!("no answer within {BOOTSTRAP_RESOLVE_MS_MAX} ms")),
    };
    found.map_err(|reason| ResolveError { address: address.to_string(), reason })
}

async fn host(name: &str, port: u16) -> Result<Vec<IpAddr>, String> {
    let found = tokio::net::lookup_host((name, port)).await.map_err(|error| error.to_string())?;
    Ok(found.map(|socket| socket.ip()).take(BOOTSTRAP_RESOLVED_MAX).collect())
}

/// The hosts and ports of the SRV records, best priority first.
async fn service(name: &str, resolver: &TokioResolver) -> Result<Vec<Multiaddr>, String> {
    let lookup = resolver.srv_lookup(name).await.map_err(|error| error.to_string())?;
    let mut targets: Vec<(u16, String, u16)> = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((srv.priority, srv.target.to_utf8(), srv.port)),
            _ => None,
        })
        .take(BOOTSTRAP_RESOLVED_MAX)
        .collect();
    targets.sort();
    let hosts = targets.iter().map(|(_, target, port)| async move {
        let ips = host(target.trim_end_matches('.'), *port).await?;
        Ok::<_, String>(ips.into_iter().map(|ip| tcp(ip, *port)).collect::<Vec<_>>())
    });
    let (mut found, mut failure) = (Vec::new(), None);
    for result in join_all(hosts).await {
        match result {
            Ok(addresses) => found.extend(addresses),
            Err(reason) => failure = Some(reason),
        }
    }
    match (found.is_empty(), failure) {
        (true, Some(reason)) => Err(reason),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;

    use super::*;

    fn address(text: &str) -> BootstrapAddress {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn texts(addresses: &[Multiaddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    /// A name server for one question: answers every query with SRV records that point to `localhost`.
    async fn name_server(ports: [u16; 2]) -> TokioResolver {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let port = socket.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let mut query = [0u8; 512];
            while let Ok((_, from)) = socket.recv_from(&mut query).await {
                let question_end = 12 + query[12..].iter().position(|b| *b == 0).expect("a name") + 5;
                let mut reply = query[..question_end].to_vec();
                reply[2..12].copy_from_slice(&[0x85, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
                for (priority, port) in [(2u16, ports[1]), (1, ports[0])] {
                    reply.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 0, 0, 17]);
                    reply.extend([priority, 0, port].iter().flat_map(|n| n.to_be_bytes()));
                    reply.extend(b"\x09localhost\x00");
                }
                let _ = socket.send_to(&reply, from).await;
            }
        });
        let mut connection = ConnectionConfig::udp();
        connection.port = port;
        let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
        server.connections = vec![connection];
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().expect("builds")
    }

    #[tokio::test]
    async fn addresses_are_taken_as_they_are_and_names_become_all_their_addresses() {
        let resolved =
            resolve_all(&[address("127.0.0.1:7301"), address("/dns4/localhost/tcp/7302"), address("127.0.0.1:7301")])
                .await;
        assert_eq!(texts(&resolved.addresses), ["/ip4/127.0.0.1/tcp/7301", "/ip4/127.0.0.1/tcp/7302"]);
        assert!(resolved.failed.is_empty());
    }

    #[tokio::test]
    async fn one_dead_name_does_not_hide_the_others() {
        let resolved = resolve_all(&[address("no-such-host.invalid:7300"), address("127.0.0.1:7301")]).await;
        assert_eq!(texts(&resolved.addresses), ["/ip4/127.0.0.1/tcp/7301"]);
        let error = resolved.failed[0].to_string();
        assert!(error.starts_with("cannot resolve dns:no-such-host.invalid:7300: "), "{error}");
    }

    #[tokio::test]
    async fn srv_records_give_hosts_and_ports_by_priority() {
        let resolver = name_server([7301, 7302]).await;
        let found = resolve_with(&address("srv:_mesh._tcp.rafka.test."), || Ok(resolver)).await.expect("resolves");
        let four: Vec<String> = texts(&found).into_iter().filter(|text| text.starts_with("/ip4")).collect();
        assert_eq!(four, ["/ip4/127.0.0.1/tcp/7301", "/ip4/127.0.0.1/tcp/7302"]);
        let broken = resolve_with(&address("srv:rafka.test."), || Err("no resolv.conf".to_owned())).await;
        assert_eq!(broken.expect_err("refused").to_string(), "cannot resolve srv:rafka.test.: no resolv.conf");
    }
}
