//! Free ports of loopback.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::errors::{CliError, Result};

/// Where any free port is looked for: below those that systems give to outgoing connections, one of which could have it
/// when the node is started again.
const ANYWHERE: Range<u16> = 10_000..32_000;
/// Places that are tried there.
const ATTEMPTS_MAX: u64 = 64;

/// The ports of one node; 0 is any free one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ports {
    pub(super) kafka: u16,
    pub(super) mesh: u16,
    pub(super) ops: u16,
}

/// Ports for `nodes` nodes from those of `base` upwards; what is busy is skipped, and named in the notes.
pub(super) fn choose(nodes: u32, base: Ports) -> Result<(Vec<Ports>, Vec<String>)> {
    choose_with(nodes, base, |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

fn choose_with(nodes: u32, base: Ports, is_free: impl Fn(u16) -> bool) -> Result<(Vec<Ports>, Vec<String>)> {
    // Without a first port of the mesh all are any.
    let base = if base.mesh == 0 { Ports { kafka: 0, mesh: 0, ops: 0 } } else { base };
    let (mut taken, mut notes) = (Vec::new(), Vec::new());
    let mut choose = |node: u32, base: u16, what: &str| -> Result<u16> {
        if base == 0 {
            let any = anywhere().find(|port| !taken.contains(port) && is_free(*port)).unwrap_or(0);
            taken.push(any);
            return Ok(any);
        }
        let wanted = u16::try_from(u32::from(base) + node - 1).unwrap_or(u16::MAX);
        let found = (wanted..=u16::MAX).find(|port| !taken.contains(port) && is_free(*port));
        let port = found.ok_or_else(|| CliError::failed(format!("no free port from {wanted} on")))?;
        if port != wanted {
            notes.push(format!("Port {wanted} is busy: {what} of node {node} uses {port}."));
        }
        taken.push(port);
        Ok(port)
    };
    let mut ports = Vec::new();
    for node in 1..=nodes {
        ports.push(Ports {
            kafka: choose(node, base.kafka, "Kafka")?,
            mesh: choose(node, base.mesh, "mesh")?,
            ops: choose(node, base.ops, "ops")?,
        });
    }
    Ok((ports, notes))
}

/// Ports at random.
fn anywhere() -> impl Iterator<Item = u16> {
    let random = RandomState::new();
    (0..ATTEMPTS_MAX).map(move |i| ANYWHERE.start + (random.hash_one(i) % ANYWHERE.len() as u64) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Ports = Ports { kafka: 9092, mesh: 7300, ops: 9644 };

    #[test]
    fn busy_ports_are_skipped_and_said() {
        let (ports, notes) = choose_with(3, BASE, |port| port != 7301).expect("chosen");
        assert_eq!(ports.iter().map(|ports| ports.mesh).collect::<Vec<_>>(), [7300, 7302, 7303]);
        assert_eq!(ports.iter().map(|ports| ports.ops).collect::<Vec<_>>(), [9644, 9645, 9646]);
        assert_eq!(ports.iter().map(|ports| ports.kafka).collect::<Vec<_>>(), [9092, 9093, 9094]);
        assert_eq!(notes[0], "Port 7301 is busy: mesh of node 2 uses 7302.");
    }

    #[test]
    fn zero_is_any_and_no_port_is_an_error() {
        let any = Ports { kafka: 0, mesh: 0, ops: 0 };
        assert_eq!(choose_with(2, Ports { mesh: 0, ..BASE }, |_| false).expect("chosen").0, [any; 2]);
        for ports in choose_with(9, any, |_| true).expect("chosen").0 {
            assert!([ports.kafka, ports.mesh, ports.ops].iter().all(|port| ANYWHERE.contains(port)), "{ports:?}");
        }
        assert!(choose_with(1, BASE, |_| false).is_err());
        assert!(choose_with(3, Ports { mesh: 65_535, ..any }, |_| true).is_err());
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_busy() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let busy = listener.local_addr().expect("bound").port();
        let (ports, notes) = choose(1, Ports { kafka: 0, mesh: busy, ops: 0 }).expect("chosen");
        assert_eq!((ports[0].mesh == busy, notes.len()), (false, 1));
    }
}
