//! Bootstrap addresses to dialable ones: names are resolved anew at each attempt.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use libp2p::Multiaddr;
use rafka_protocols::address::{BootstrapAddress, tcp};

use crate::{Error, ErrorKind};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 32;

/// Parses every address before any is dialled, so that a slip of the finger is told at once.
pub(crate) fn parse(bootstrap: &[String]) -> Result<Vec<BootstrapAddress>, Error> {
    if bootstrap.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "no bootstrap address").hint("name at least one node: host:7300"));
    }
    let parse_one = |text: &String| {
        text.parse::<BootstrapAddress>().map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("bad bootstrap address {text:?}"))
                .because(error.to_string())
                .hint("write host:port, a multiaddr, dns:NAME[:PORT] or srv:NAME")
        })
    };
    bootstrap.iter().map(parse_one).collect()
}

/// What `address` stands for at the moment.
pub(crate) async fn resolve(address: &BootstrapAddress) -> Result<Vec<Multiaddr>, Error> {
    let failed = |name: &str, reason: String| {
        Error::new(ErrorKind::Unreachable, format!("name {name:?} cannot be resolved")).because(reason)
    };
    match address {
        BootstrapAddress::Direct(_) => Ok(address.dialable(&[])),
        // Every machine has it, whatever its resolver says.
        BootstrapAddress::Name { name, .. } if name == "localhost" => {
            Ok(address.dialable(&[[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()]))
        }
        BootstrapAddress::Name { name, .. } => {
            let resolver = system().map_err(|reason| failed(name, reason))?;
            let found = ips(&resolver, name).await.map_err(|reason| failed(name, reason))?;
            Ok(address.dialable(&found))
        }
        BootstrapAddress::Service { name } => {
            let resolver = system().map_err(|reason| failed(name, reason))?;
            let found = resolver.srv_lookup(name.as_str()).await.map_err(|error| failed(name, error.to_string()))?;
            let mut dialable = Vec::new();
            for record in found.answers().iter().take(ADDRESSES_MAX) {
                if let RData::SRV(service) = &record.data {
                    let ips = ips(&resolver, &service.target.to_utf8()).await.unwrap_or_default();
                    dialable.extend(ips.into_iter().map(|ip| tcp(ip, service.port)));
                }
            }
            dialable.truncate(ADDRESSES_MAX);
            Ok(dialable)
        }
    }
}

fn system() -> Result<TokioResolver, String> {
    let builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    builder.build().map_err(|error| error.to_string())
}

async fn ips(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, String> {
    let found = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
    Ok(found.iter().take(ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_told_before_anything_is_dialled() {
        let bootstrap = ["127.0.0.1:7300".to_owned(), "10.0.0.256:7300".to_owned()];
        let error = parse(&bootstrap).expect_err("refused");
        assert_eq!((error.kind(), error.what()), (ErrorKind::Invalid, "bad bootstrap address \"10.0.0.256:7300\""));
        assert!(parse(&[]).is_err());
    }

    #[tokio::test]
    async fn what_needs_no_resolver_asks_none() {
        let addresses = parse(&["127.0.0.1:1".to_owned(), "dns:localhost:2".to_owned()]).expect("legal");
        assert_eq!(resolve(&addresses[0]).await.expect("direct"), [tcp([127, 0, 0, 1].into(), 1)]);
        let local = resolve(&addresses[1]).await.expect("known");
        assert_eq!(local[0], tcp([127, 0, 0, 1].into(), 2));
    }
}
